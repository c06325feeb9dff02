"""What is done to the stems of an example before they are summed.

An augmentation has two methods. `sample_parameters(generator, n_stems)` decides, from a numpy generator alone, an array
whose first dimension is the stems; `__call__(stems, parameters)` applies it to stems (..., K, C, T), on any device,
and returns as many samples of the same dtype. One that only scales stems and reverses their channels has
`fold(parameters)` beside, which tells both to a loader. What is done to a whole example is the same for all of its
stems, so that the mixture remains their sum; such steps stand last.
"""

from sepkit.augment.basic import Gain, Sign, SwapChannels
from sepkit.augment.codec import CodecBandwidth
from sepkit.augment.filters import Equalizer, Filter
from sepkit.augment.mastering import Limiter, SoftClip
from sepkit.augment.reverb import Reverb
from sepkit.augment.speed import Speed
from sepkit.augment.stereo import MidSideGain

__all__ = [
    "CodecBandwidth",
    "Equalizer",
    "Filter",
    "Gain",
    "Limiter",
    "MidSideGain",
    "Reverb",
    "Sign",
    "SoftClip",
    "Speed",
    "SwapChannels",
]
