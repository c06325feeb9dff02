"""The one check that all metrics begin with."""

import numpy as np
from torch import Tensor

from sepkit.arguments import as_tensor, check_same_device, check_waveform

Waveform = Tensor | np.ndarray


def take_waveforms(
    estimate: Waveform, target: Waveform, wanted: str = "(..., C, T)", integers: bool = False
) -> tuple[Tensor, Tensor]:
    """Take estimate and target of one shape on one device, with the wanted dimensions and at least one sample.

    Args:
        estimate: any shape.
        target: any shape.
        wanted: the letters of the shape; with dots any number of dimensions may precede the named ones.
        integers: take integers, too, as they are.

    Returns:
        Both as tensors.

    Raises:
        TypeError: one is neither a tensor nor a numpy array.
        ValueError: a shape, a type or a device is off.
    """
    estimate, target = as_tensor(estimate, "estimate"), as_tensor(target, "target")
    leading, n_named = "..." in wanted, sum(letter.isupper() for letter in wanted)
    if estimate.shape != target.shape or target.ndim < n_named or (target.ndim > n_named and not leading):
        raise ValueError(
            f"estimate and target must both be {wanted}, got {tuple(estimate.shape)} and {tuple(target.shape)}"
        )
    check_waveform(estimate, "estimate", wanted, integers)
    check_waveform(target, "target", wanted, integers)
    check_same_device(estimate=estimate, target=target)
    return estimate, target
