"""A state as plain JSON and tensors, which nothing is executed to read."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_MARK = "$"  # begins the only key of what JSON lacks
_VERSIONS = "_metadata"  # attribute of a module's state: the versions of its parts


def flatten(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """Split a state into what JSON holds, in which tensors are names, and the tensors by name.

    Args:
        state: tensors, numbers, strings, bytes, None, and mappings, lists, tuples and sets of these.

    Raises:
        ValueError: there is something else in it.
    """
    tensors: dict[str, Tensor] = {}
    return _encode(state, "", tensors), tensors


def restore(document: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Join what `flatten` split.

    Args:
        document: what JSON held.
        tensors: by name.

    Raises:
        ValueError: `flatten` does not make such a document.
        KeyError: a tensor is missing.
    """
    if isinstance(document, list):
        return [restore(value, tensors) for value in document]
    if not isinstance(document, dict):
        return document
    if not (len(document) == 1 and next(iter(document)).startswith(_MARK)):
        return {key: restore(value, tensors) for key, value in document.items()}
    ((kind, value),) = document.items()
    if kind not in _DECODERS:
        raise ValueError(f"a state holds no {kind}: it was written by a later sepkit")
    return _DECODERS[kind](value, tensors)


def _encode(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": str(float(value))}
    if isinstance(value, complex):
        return {"$complex": [float(value.real).hex(), float(value.imag).hex()]}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, Tensor):
        return _encode_tensor(value, place, tensors)
    if isinstance(value, Mapping):
        return _encode_mapping(value, place, tensors)
    if isinstance(value, list | tuple | set | frozenset):
        encoded = [_encode(inner, f"{place}/{i}", tensors) for i, inner in enumerate(value)]
        return encoded if isinstance(value, list) else {"$tuple" if isinstance(value, tuple) else "$set": encoded}
    raise ValueError(f"{place.strip('/')} is a {type(value).__name__}, which a state cannot hold")


def _encode_tensor(tensor: Tensor, place: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    is_plain = type(tensor) in (Tensor, nn.Parameter, nn.Buffer)
    if tensor.is_quantized or tensor.layout is not torch.strided or not is_plain:
        kind = f"tensor of {tensor.layout}" if is_plain else type(tensor).__name__
        raise ValueError(f"{place.strip('/')} is a {kind}, and only plain ones can be written")
    kind, tensor = "$tensor", tensor.detach().resolve_conj().resolve_neg()
    if tensor.is_complex():
        kind, tensor = "$complex_tensor", torch.view_as_real(tensor)
    name = place.strip("/")
    while name in tensors:  # keys may have strokes
        name += "'"
    tensors[name] = tensor
    return {kind: name}


def _encode_mapping(value: Mapping, place: str, tensors: dict[str, Tensor]) -> Any:
    items = [(key, _encode(inner, f"{place}/{key}", tensors)) for key, inner in value.items()]
    if (versions := getattr(value, _VERSIONS, None)) is not None:
        return {"$module": [[list(item) for item in items], _encode(dict(versions), f"{place}/versions", tensors)]}
    if all(isinstance(key, str) for key, _ in items) and not any(key.startswith(_MARK) for key, _ in items):
        return dict(items)
    return {"$mapping": [[_encode(key, place, tensors), inner] for key, inner in items]}


def _decode_module(value: Any, tensors: Mapping[str, Tensor]) -> OrderedDict:
    items, versions = value
    state = OrderedDict((key, restore(inner, tensors)) for key, inner in items)
    setattr(state, _VERSIONS, OrderedDict(restore(versions, tensors)))
    return state


_DECODERS = {
    "$tensor": lambda name, tensors: tensors[name],
    "$complex_tensor": lambda name, tensors: torch.view_as_complex(tensors[name]),
    "$float": lambda text, _: float(text),
    "$complex": lambda parts, _: complex(*map(float.fromhex, parts)),
    "$bytes": lambda text, _: bytes.fromhex(text),
    "$tuple": lambda values, tensors: tuple(restore(value, tensors) for value in values),
    "$set": lambda values, tensors: {restore(value, tensors) for value in values},
    "$mapping": lambda items, tensors: {restore(key, tensors): restore(value, tensors) for key, value in items},
    "$module": _decode_module,
}
