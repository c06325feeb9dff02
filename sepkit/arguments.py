"""Arguments of users, checked at the entry points: waveforms as tensors or numpy arrays, counts, numbers in a range."""

import math
import os
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

MOST_CHANNELS = 64  # a waveform with more is one whose axes are in another order
_FEW_CHANNELS = 16  # with no more, a waveform may have fewer samples than channels
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_NUMBERS = (*_FLOATS, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def as_tensor(values: Tensor | np.ndarray, name: str) -> Tensor:
    """Take a tensor as it is, and a numpy array as a tensor of its type, sharing its memory where that can be.

    Args:
        values: numbers; lists are refused, because they lie number by number in memory.
        name: of the argument.

    Raises:
        TypeError: it is neither.
        ValueError: it holds no numbers, as a tensor on the meta device does not.
    """
    if isinstance(values, np.ndarray):
        return _from_numpy(values, name)
    if not isinstance(values, Tensor):
        found = type(values).__name__
        raise TypeError(f"{name} must be a tensor or a numpy array, got {found}: convert it with numpy.asarray")
    if values.is_meta:
        raise ValueError(f"{name} must hold values, got a tensor on the meta device")
    check_is_tensor(values, name)
    return values


def _from_numpy(values: np.ndarray, name: str) -> Tensor:
    """Copy only what torch cannot share: read-only arrays, flipped ones, foreign byte order, long double."""
    if values.dtype.kind not in "biufc":
        raise ValueError(f"{name} must hold numbers, got an array of dtype {values.dtype}")
    wide = {"f": np.float64, "c": np.complex128}.get(values.dtype.kind)
    if wide and values.dtype.itemsize > np.dtype(wide).itemsize:
        values = values.astype(wide)
    shareable = values.flags.writeable and values.dtype.isnative and min(values.strides, default=0) >= 0
    return torch.from_numpy(values if shareable else values.astype(values.dtype.newbyteorder("="), order="C"))


def as_waveform(values: Tensor | np.ndarray, name: str, wanted: str = "(C, T)", integers: bool = False) -> Tensor:
    """Take a waveform in floating point, whose axes are in order.

    Args:
        values: at least one sample.
        name: of the argument.
        wanted: the letters of the shape, "(..., C, T)" with any number of dimensions before the named ones; where it
            names C, more than 64 channels, or more than 16 and more than samples, are refused as transposed.
        integers: take integers, too, as they are.

    Raises:
        TypeError: it is neither a tensor nor a numpy array.
        ValueError: it is complex or of integers, or its shape is another.
    """
    waveform = as_tensor(values, name)
    check_waveform(waveform, name, wanted, integers)
    return waveform


def check_waveform(waveform: Tensor, name: str, wanted: str = "(C, T)", integers: bool = False) -> None:
    """Refuse a tensor that is no waveform; see `as_waveform`. Nothing is read from its device."""
    check_is_tensor(waveform, name)
    if waveform.dtype not in (_NUMBERS if integers else _FLOATS):
        remedy = "take its inverse transform" if waveform.is_complex() else "scale it first"
        raise ValueError(f"{name} must be floating point in [-1, 1], got {waveform.dtype}: {remedy}")
    leading, n_named = "..." in wanted, sum(letter.isupper() for letter in wanted)
    shape = tuple(waveform.shape)
    if len(shape) < n_named or (len(shape) > n_named and not leading):
        raise ValueError(f"{name} must be {wanted}, got {shape}")
    if 0 in shape:
        raise ValueError(f"{name} must hold at least one sample, got {shape}")
    if "C" in wanted and is_turned(shape):
        turn = "transpose it" if len(shape) == 2 else "transpose its last two dimensions"
        raise ValueError(f"{name} must be {wanted}, got {shape}: {turn}")


def is_turned(shape: Sequence[int]) -> bool:
    """Return whether a shape (..., C, T) must be (..., T, C): of more than 64 channels, or more than 16 and samples."""
    return shape[-2] > MOST_CHANNELS or _FEW_CHANNELS < shape[-2] > shape[-1]


def check_is_tensor(values: object, name: str) -> None:
    """Refuse anything but a dense tensor.

    Raises:
        TypeError: it is something else.
        ValueError: it is sparse.
    """
    if not isinstance(values, Tensor):
        remedy = "torch.from_numpy" if isinstance(values, np.ndarray) else "torch.as_tensor"
        raise TypeError(f"{name} must be a tensor, got {type(values).__name__}: convert it with {remedy}")
    if values.layout != torch.strided or values.is_nested:
        found = "a nested one" if values.is_nested else f"one of layout {values.layout}"
        raise ValueError(f"{name} must be a dense tensor, got {found}")


def check_same_device(**tensors: Tensor) -> None:
    """Refuse tensors on different devices.

    Args:
        tensors: by name; the first one sets the device.

    Raises:
        ValueError: they are on different devices.
    """
    first, *others = tensors.items()
    for name, tensor in others:
        if tensor.device != first[1].device:
            found = f"{first[1].device} and {tensor.device}"
            raise ValueError(f"{first[0]} and {name} must be on one device, got {found}: move one with .to()")


def check_path(path: str | os.PathLike, name: str) -> None:
    """Refuse what names no file or folder.

    Raises:
        TypeError: it is neither text nor a Path.
        ValueError: it holds a zero byte.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path as text or Path, got {type(path).__name__}")
    if "\0" in os.fsdecode(path):
        raise ValueError(f"{name} must be a path, got {path!r} with a zero byte")


def is_integer(value: object) -> bool:
    """Return whether a value is an integer, Python's or numpy's; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a real number other than NaN, within the range of floats; True and False are none."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
    except OverflowError:
        return False


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, also as a float without fraction."""
    return is_number(value) and math.isfinite(value) and value == int(value)


def check_count(name: str, value: int, low: int = 1) -> int:
    """Take a whole number, also as a float without fraction.

    Args:
        name: of the argument.
        value: the number.
        low: the least that is allowed.

    Raises:
        ValueError: it is smaller, or no whole number.
    """
    if not is_whole(value) or value < low:
        raise ValueError(f"{name} must be {'' if is_whole(value) else 'a whole number '}>= {low}, got {value!r}")
    return int(value)


def check_range(name: str, value: float, low: float, high: float = math.inf, *, above: bool = False) -> None:
    """Refuse what is no number in [low, high], or in (low, high] with `above`; infinity counts as a number.

    Args:
        name: of the argument.
        value: the number.
        low: the least that is allowed.
        high: the largest.
        above: whether it must be larger than `low`.

    Raises:
        ValueError: it is outside, NaN or no number.
    """
    if not is_number(value) or not low <= value <= high or (above and value == low):
        if high < math.inf:
            wanted = f"lie in {'(' if above else '['}{low:g}, {high:g}]"
        else:
            wanted = f"be {'above' if above else 'at least'} {low:g}"
        raise ValueError(f"{name} must {wanted}, got {value!r}")
