"""Checks of what a loss is built with and compares: one sentence each."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sepkit.arguments import is_integer, is_number
from sepkit.losses._numeric import REDUCTIONS

# A last dimension as short as this beside one as long as that is of channels: time has been put before it.
_MOST_CHANNELS, _LEAST_SAMPLES = 16, 256


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Refuse a value that is none of the choices."""
    if value not in choices or isinstance(value, bool):  # True equals 1
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_reduction(reduction: str) -> None:
    """Refuse a reduction other than mean, sum and none."""
    check_choice("reduction", reduction, REDUCTIONS)


def check_range(name: str, value: float, low: float = 0.0, high: float = math.inf, *, above: bool = False) -> None:
    """Refuse a number outside [low, high], or outside (low, high] with `above`, and one that is not finite."""
    if not is_number(value) or math.isinf(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    if not low <= value <= high or (above and value == low):
        wanted = f"above {low:g}" if above else f"at least {low:g}"
        wanted += "" if high == math.inf else f" and at most {high:g}"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_above_0(**numbers: float) -> None:
    """Refuse numbers, by name, of 0 and below."""
    for name, value in numbers.items():
        check_range(name, value, above=True)


def check_at_least_0(**numbers: float) -> None:
    """Refuse numbers, by name, below 0."""
    for name, value in numbers.items():
        check_range(name, value)


def check_sizes(low: int = 1, **sizes: int) -> None:
    """Refuse anything but whole numbers, by name, from `low` on."""
    for name, value in sizes.items():
        if not is_integer(value) or value < low:
            raise ValueError(f"{name} must be a whole number, at least {low}, got {value!r}")


def check_transform(**sizes: int) -> None:
    """Refuse sizes of a transform, of its hop and of its window, by the names they have where they come from."""
    (n_fft_name, n_fft), (hop_name, hop_length), (win_name, win_length) = sizes.items()
    check_sizes(2, **{n_fft_name: n_fft})
    check_sizes(**{hop_name: hop_length, win_name: win_length})
    if win_length > n_fft:
        raise ValueError(f"{win_name} must be at most {n_fft_name}, {n_fft}, got {win_length}")


def check_resolutions(**sizes: Iterable[int]) -> list[tuple[int, ...]]:
    """Refuse anything but lists of sizes, of one length; return the sizes of each resolution."""
    names = list(sizes)
    wanted = f"{', '.join(names[:-1])} and {names[-1]} must be lists of one length" if names[1:] else names[0]
    lists = [list(value) if _is_list(value) else None for value in sizes.values()]
    if None in lists or len({len(values) for values in lists}) > 1 or not lists[0]:
        wanted = wanted if names[1:] else f"{wanted} must name at least one size"
        raise ValueError(f"{wanted}, got {', '.join(repr(value) for value in sizes.values())}")
    for name, values in zip(names, lists, strict=True):
        for value in values:
            check_sizes(**{f"each of {name}": value})
    return list(zip(*lists, strict=True))


def _is_list(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, Tensor))


def check_device(device: torch.device | str | None) -> None:
    """Refuse what names no device of torch."""
    try:
        torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be one of torch, such as cpu or cuda:0, or None, got {device!r}") from error


def check_tensors(**tensors: Tensor) -> None:
    """Refuse anything but dense tensors on one device."""
    first, device = "", None
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise ValueError(f"{name} must be a tensor, got {kind}; convert it by torch.as_tensor")
        if tensor.layout != torch.strided or tensor.is_nested:
            kind = "a nested one" if tensor.is_nested else f"one of layout {tensor.layout}"
            raise ValueError(f"{name} must be a dense tensor, got {kind}; make it one")
        if device is not None and tensor.device != device:
            raise ValueError(f"{name} must be on the device of {first}, {device}, got {tensor.device}")
        first, device = first or name, tensor.device


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
    """Refuse tensors of unequal shape or device, of fewer than `n_dims` dimensions, or without elements.

    Args:
        n_dims: the least number of dimensions.
        letters: the shape that is wanted, as in `(B, ..., T)`, for the message.
        tensors: by name; the first one sets the shape.
    """
    check_tensors(**tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    first, shape = next(iter(shapes.items()))
    if len(shape) < n_dims or 0 in shape:
        raise ValueError(f"{first} must be {letters} with at least one element, got {shape}")
    for name, other in shapes.items():
        if other != shape:
            raise ValueError(f"{name} must have the shape of {first}, {shape}, got {other}")


def check_waveforms(estimate: Tensor, target: Tensor, n_dims: int = 1) -> None:
    """Refuse anything but two real waveforms (..., T) of equal shape on one device."""
    letters = "(B, ..., T)" if n_dims > 1 else "(..., T)"
    check_same_shape(n_dims, letters, estimate=estimate, target=target)
    check_real(estimate=estimate, target=target)
    if estimate.dim() > 1 and estimate.shape[-1] <= _MOST_CHANNELS and estimate.shape[-2] >= _LEAST_SAMPLES:
        raise ValueError(f"estimate must be {letters} with time last, got {tuple(estimate.shape)}; transpose it")


def check_flags(**flags: object) -> None:
    """Refuse anything, by name, but True and False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, got {value!r}")


def take(arguments: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Take those of a constructor's arguments that another constructor takes, too."""
    return {name: arguments[name] for name in names}


def choose_reduction(reduce_mean: bool, reduction: str) -> str:
    """Choose between auralflow's `reduce_mean`, of which False means a sum, and `reduction`; refuse both at once."""
    check_flags(reduce_mean=reduce_mean)
    check_reduction(reduction)
    if not reduce_mean and reduction != "mean":
        raise ValueError(f'reduction must be left at "mean" with reduce_mean=False, got {reduction!r}; set one of them')
    return reduction if reduce_mean else "sum"
