"""What the tensors and the config of a model say, compared."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from sepkit.problems import show

_TENSORS = "the tensors have it"


class MissingError(ValueError):
    """A config does not state what the tensors cannot tell."""

    def __init__(self, key: str) -> None:
        super().__init__(f"config must state {key}, which the tensors cannot tell")
        self.key = key


def stated(config: Mapping[str, Any], key: str) -> Any:
    """Return what a config states at a dotted key, None where it states nothing."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def required(config: Mapping[str, Any], key: str) -> Any:
    """Return what a config states at a dotted key, and the tensors cannot tell.

    Raises:
        MissingError: it states nothing.
    """
    value = stated(config, key)
    if value is None:
        raise MissingError(key)
    return value


def chunk_samples(config: Mapping[str, Any], hop_length: int | None = None) -> int:
    """Return the samples that a model of the community separates at a time.

    Args:
        config: `inference.chunk_size` or `audio.chunk_size`, else `dim_t` of either, frames.
        hop_length: samples from a frame to the next; None: such frames are not known.

    Raises:
        ValueError: it states none.
    """
    keys = ("inference.chunk_size", "audio.chunk_size", "inference.dim_t", "audio.dim_t")
    key = next((key for key in keys if stated(config, key) is not None), "audio.chunk_size")
    if hop_length is None and key.endswith("dim_t"):
        key = "audio.chunk_size"
    length, is_frames = required(config, key), key.endswith("dim_t")
    if type(length) is not int or length < 1 + is_frames:
        unit = "frames, at least 2" if is_frames else "samples, at least 1"
        raise ValueError(f"{key} must be a whole number of {unit}, got {length!r}")
    return hop_length * (length - 1) if is_frames else length


def window_size(config: Mapping[str, Any], key: str, hop_key: str, n_fft: int) -> int:
    """Return the samples of a window that a config states at a dotted key.

    Raises:
        ValueError: they are fewer than those of the hop, at `hop_key`, or more than `n_fft`.
    """
    size, hop_length = required(config, key), required(config, hop_key)
    if not hop_length <= size <= n_fft:
        raise ValueError(f"{key} must be from {hop_key}, {hop_length}, to {n_fft} samples, got {size}")
    return size


def agreed(config: Mapping[str, Any], key: str, found: Any, reason: str = _TENSORS) -> Any:
    """Return what the tensors, or another `reason`, say, once the config says the same at a dotted key or nothing.

    Raises:
        ValueError: it says something else.
    """
    value = stated(config, key)
    plain = list(value) if isinstance(value, list | tuple) else value
    if plain is not None and plain != found:
        remedy = ""
        if reason == _TENSORS:
            right = json.dumps(found, separators=(",", ":"))
            remedy = f": give the config that came with these weights, or correct it by --set {key}={right}"
        raise ValueError(f"{key} must be {found}, as {reason}, got {plain} in the config{remedy}")
    return found


def agreed_divisor(config: Mapping[str, Any], key: str, whole: int, part: int) -> int:
    """Return what `whole` was divided by, rounded down, to give `part` in the tensors; see `agreed`."""
    value = stated(config, key)
    if isinstance(value, int) and value >= 1 and whole // value == part:
        return value
    return agreed(config, key, whole // max(part, 1))


def normalization(config: Mapping[str, Any]) -> str | None:
    """Return what the argument `normalize` of a Separator must be, by the section `inference` or `data` of a config.

    Raises:
        ValueError: it says neither true nor false.
    """
    found = {key: stated(config, key) or False for key in ("inference.normalize", "data.normalize")}
    for key, value in found.items():
        if not isinstance(value, bool):
            raise ValueError(f"{key} must be true or false, got {value!r}")
    return "recording" if any(found.values()) else None


def shape_of(tensors: Mapping[str, Tensor], name: str, n_dims: int | None = None) -> tuple[int, ...]:
    """Return the shape of a tensor, of `n_dims` dimensions where they are given.

    Raises:
        ValueError: there is none of that name, it is empty, or it has other dimensions.
    """
    if name not in tensors:
        raise ValueError(f"tensors must hold {name}, which is missing")
    shape = tuple(tensors[name].shape)
    if 0 in shape or n_dims not in (None, len(shape)):
        wanted = "values" if n_dims is None else f"{n_dims} dimensions with values"
        raise ValueError(f"{name} must have {wanted}, got {shape}")
    return shape


def count(tensors: Iterable[str], prefix: str) -> int:
    """Count the modules of a list by the names of their tensors, `prefix` and a number from 0 on."""
    return len({name[len(prefix) :].partition(".")[0] for name in tensors if name.startswith(prefix)})


def listed_names(config: Mapping[str, Any], key: str) -> list[str]:
    """Return the names that a config lists at a dotted key, and the tensors cannot tell.

    Raises:
        ValueError: it lists none, or other than names.
    """
    names = required(config, key)
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} must be a list of names, [vocals] for one, got {show(names)}")
    return list(names)


def source_names(config: Mapping[str, Any], n_sources: int) -> list[str]:
    """Name the sources of a model by the section `training` of its config.

    Raises:
        ValueError: it names none, or not as many as the tensors have.
    """
    target = stated(config, "training.target_instrument")
    if target and type(target) not in (str, int):
        raise ValueError(f"training.target_instrument must be a name, or null for all instruments, got {show(target)}")
    names = [str(target)] if target else listed_names(config, "training.instruments")
    if len(names) != n_sources:
        remedy = "training.target_instrument=NAME" if n_sources == 1 else "training.instruments=[NAME,..]"
        if target:
            remedy += " training.target_instrument=null"
        raise ValueError(
            f"training must name {n_sources} sources, as the tensors have it, got {', '.join(names)}: correct it by "
            f"--set {remedy}"
        )
    return names
