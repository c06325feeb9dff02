"""The checks at the door of every loss: one sentence each."""

import math
from numbers import Real

from torch import Tensor

from sepkit.losses._numeric import REDUCTIONS


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_reduction(reduction: str) -> None:
    """Refuse a reduction other than mean, sum and none."""
    check_choice("reduction", reduction, REDUCTIONS)


def check_range(name: str, value: float, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> None:
    """Refuse a number outside [low, high], or outside (low, high] with `above`."""
    inside = isinstance(value, Real) and low <= value <= high and not (above and value == low)
    if not inside:
        wanted = f"above {low:g}" if above else f"at least {low:g}"
        wanted += "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_real(**tensors: Tensor) -> None:
    """Refuse tensors that are not of a real floating point type."""
    for name, tensor in tensors.items():
        if tensor.is_complex():
            raise ValueError(f"{name} must be real, got {tensor.dtype}; take its magnitude")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {tensor.dtype}; convert it")


def check_complex(**tensors: Tensor) -> None:
    """Refuse tensors that are not complex."""
    for name, tensor in tensors.items():
        if not tensor.is_complex():
            raise ValueError(f"{name} must be a complex spectrogram (B, C, F, N), got {tensor.dtype}")


def check_same_shape(n_dims: int, letters: str, **tensors: Tensor) -> None:
    """Refuse tensors of unequal shape, of fewer than `n_dims` dimensions, or without elements.

    Args:
        n_dims: the least number of dimensions.
        letters: the shape that is wanted, as in `(B, ..., T)`, for the message.
        tensors: by name; the first one sets the shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first, shape = next(iter(shapes.items()))
    if len(shape) < n_dims or 0 in shape:
        raise ValueError(f"{first} must be {letters} with at least one element, got {shape}")
    for name, other in shapes.items():
        if other != shape:
            raise ValueError(f"{name} must have the shape of {first}, {shape}, got {other}")


def check_waveforms(estimate: Tensor, target: Tensor, n_dims: int = 1) -> None:
    """Refuse anything but two real waveforms (..., T) of equal shape on one device."""
    check_same_shape(n_dims, "(B, ..., T)" if n_dims > 1 else "(..., T)", estimate=estimate, target=target)
    check_real(estimate=estimate, target=target)
    if estimate.device != target.device:
        raise ValueError(f"target must be on the device of estimate, {estimate.device}, got {target.device}")


def check_flag(name: str, value: object) -> None:
    """Refuse anything but True and False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def choose_reduction(reduce_mean: bool, reduction: str) -> str:
    """Choose between auralflow's `reduce_mean`, of which False means a sum, and `reduction`; refuse both at once."""
    check_flag("reduce_mean", reduce_mean)
    check_reduction(reduction)
    if not reduce_mean and reduction != "mean":
        raise ValueError(f'reduction must be left at "mean" with reduce_mean=False, got {reduction!r}; set one of them')
    return reduction if reduce_mean else "sum"
