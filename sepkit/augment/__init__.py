"""What is done to the stems of an example before they are summed.

An augmentation has two methods. `sample_parameters(generator, n_stems)` decides, from a numpy generator alone, an array
whose first dimension is the stems; `__call__(stems, parameters)` applies it to stems (..., K, C, T), on any device. One
that only scales stems and reverses their channels has `fold(parameters)` beside, which tells both to a loader.
"""

from sepkit.augment.basic import Gain, Sign, SwapChannels
from sepkit.augment.filters import Filter
from sepkit.augment.speed import Speed

__all__ = ["Filter", "Gain", "Sign", "Speed", "SwapChannels"]
