"""Weights that stay in their file, and are read whenever the part of a network that they are of is run."""

import os
import weakref
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.plain import parse_json

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LEAST = 1 << 26  # values that stay in a file, of fewer it is not worth a read for each chunk
_REMEDY = "load the model without on_demand"


class WeightsFile:
    """A file of safetensors, out of which tensors are read one by one.

    It is read, not mapped into memory: where it is cut short meanwhile, that is an error in a sentence.

    Args:
        path: the file, whose header has been checked; it stays open.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        size = int.from_bytes(self._file.read(8), "little")
        self._places = parse_json(self._file.read(size).decode())
        self._start, self._state = 8 + size, self._observe()

    def _observe(self) -> tuple[int, int]:
        state = os.fstat(self._file.fileno())
        return state.st_size, state.st_mtime_ns

    def __contains__(self, name: str) -> bool:
        return self._places.get(name, {}).get("dtype") in _TYPES

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._places[name]["shape"])

    def read(self, name: str) -> Tensor:
        """Read a tensor.

        Raises:
            ValueError: the file is not what it was when it was opened, or cannot be read.
        """
        place = self._places[name]
        tensor = torch.empty(place["shape"], dtype=_TYPES[place["dtype"]])
        content = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
        try:
            self._file.seek(self._start + place["data_offsets"][0])
            while content and (n_bytes := self._file.readinto(content)):
                content = content[n_bytes:]
            changed = bool(content) or self._observe() != self._state
        except OSError as error:
            raise ValueError(f"{self._path} cannot be read any more: {error.strerror or error}") from error
        if changed:
            raise ValueError(f"{self._path} was changed while it was used: separate again")
        return tensor


def choose_lent(network: nn.Module, file: WeightsFile) -> list[str]:
    """List the weights that stay in a file: those of parts that lend theirs, if these are many.

    Args:
        network: in which the class of a part says by `lends_weights` that nothing but a call of it uses its weights.
        file: with the weights.
    """
    sizes = {
        prefix + key: weight.numel()
        for prefix, part in _lending_parts(network)
        for key, weight in part.named_parameters()
        if prefix + key in file and weight.is_floating_point()
    }
    return list(sizes) if sum(sizes.values()) >= _LEAST else []


def _lending_parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, part in network.named_modules():
        lending = [inner for inner in part.modules() if getattr(inner, "lends_weights", False)]
        if lending == [part]:  # else the parts in it lend theirs, at fewer weights at a time
            yield f"{name}.", part


def stand_in(file: WeightsFile, name: str, like: Tensor) -> Tensor:
    """Make what stands for a weight while it is in its file: of its shape, in no memory, and not a number.

    Args:
        file: with the weight.
        name: of the weight.
        like: of the type that it has in the network, and on its device, if it is on any.
    """
    device = torch.device("cpu") if like.is_meta else like.device
    return torch.full((), float("nan"), dtype=like.dtype, device=device).expand(file.shape(name))


def lend(network: nn.Module, file: WeightsFile, names: Collection[str]) -> None:
    """Read weights before each call of their part, and leave them to the file after it.

    Args:
        network: whose weights of these names are what `stand_in` gives.
        file: with the weights.
        names: as `choose_lent` lists them.
    """
    for prefix, part in _lending_parts(network):
        lent = {key: prefix + key for key, _ in part.named_parameters() if prefix + key in names}
        if lent:
            _lend_part(part, file, lent)


def _lend_part(part: nn.Module, file: WeightsFile, lent: Mapping[str, str]) -> None:
    """Add the reading of weights, by their names in the part and in the file, to calls of a part and of its copies."""

    def fetch(part: nn.Module, *_: Any) -> None:
        if torch.is_grad_enabled():
            raise ValueError(f"weights that stay in their file serve no gradients: {_REMEDY}, or call it in no_grad()")
        for key, name in lent.items():
            weight = part.get_parameter(key)
            weight.data = file.read(name).to(weight.device, weight.dtype)

    def leave(part: nn.Module, *_: Any) -> None:
        for key, name in lent.items():
            weight = part.get_parameter(key)
            weight.data = stand_in(file, name, weight)

    def refuse(*_: Any) -> None:
        raise ValueError(f"weights that stay in their file are not in the state: {_REMEDY}")

    part.register_forward_pre_hook(fetch)
    part.register_forward_hook(leave, always_call=True)
    part.register_state_dict_pre_hook(refuse)
