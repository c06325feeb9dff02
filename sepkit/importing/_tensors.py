"""Tensors of others under this package's names, one for one."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.instantiate import instantiate
from sepkit.models.facts import derive_sizes

_DEFAULTS = {"sample_rate": 44100, "n_channels": 2, "segment": 3.0, "transform": {"class": "STFT"}}  # of a Separator
Part = tuple[str, list[str], Callable[[list[Tensor]], Tensor]]  # own name, the original ones, how they are combined


def build_network(settings: Mapping[str, Any]) -> nn.Module:
    """Build the network of a Separator with these settings, without memory for its weights."""
    given = {**_DEFAULTS, **settings}
    transform = instantiate(given["transform"], "sepkit.transforms")
    numbers = (given["n_channels"], given["sample_rate"], given["segment"])
    sizes = derive_sizes(transform, len(given["sources"]), *numbers)
    with torch.device("meta"):
        return instantiate(given["network"], "sepkit.models", sizes)


def check_names(tensors: Iterable[str], wanted: Collection[str]) -> None:
    """Refuse tensors that are not those of a network, by their original names.

    Raises:
        ValueError: some are missing, or too many.
    """
    names = dict.fromkeys(tensors)
    listed = [f"{name} is missing" for name in wanted if name not in names]
    listed += [f"{name} is too many" for name in names if name not in wanted]
    if listed:
        more = f", and {len(listed) - 5} more" if len(listed) > 5 else ""
        raise ValueError(f"tensors must be those of the network one for one: {', '.join(listed[:5])}{more}")


def rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """Replace regular expressions in a name, one after the other."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def convert_named(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], original: Callable[[str], str]
) -> dict[str, Tensor]:
    """Put tensors that are those of the network one for one under its names, in the precision of a Separator.

    Args:
        tensors: under their original names.
        settings: of the Separator.
        original: returns the original name of one of the network's own.

    Returns:
        The state of the Separator.

    Raises:
        ValueError: a tensor is missing, of another shape or one too many.
    """
    state = build_network(settings).state_dict()
    wanted = {original(name): (name, tuple(value.shape)) for name, value in state.items()}
    check_names(tensors, wanted)
    for name, (_, shape) in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} must be {shape}, as the other tensors have it, got {tuple(tensors[name].shape)}")
    return {f"network.{own}": tensors[name].to(state[own].dtype) for name, (own, _) in wanted.items()}


def convert_parts(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], parts: Sequence[Part]
) -> dict[str, Tensor]:
    """Make each tensor of the network of one or several original ones.

    Args:
        tensors: under their original names; `check_names` has seen them.
        settings: of the Separator.
        parts: of the network, all of them.

    Returns:
        The state of the Separator.

    Raises:
        ValueError: originals do not go together, or into the network.
    """
    shapes = {name: value.shape for name, value in build_network(settings).state_dict().items()}
    state = {}
    for own, originals, combine in parts:
        found = [tensors[name].float() for name in originals]
        try:
            combined = combine(found)
        except RuntimeError:  # their shapes do not go together
            combined = None
        if combined is None or combined.shape != shapes[own]:
            came = " and ".join(str(shape) for shape in dict.fromkeys(tuple(tensor.shape) for tensor in found))
            wanted = f"{own}, {tuple(shapes[own])}"
            raise ValueError(f"{originals[0]} must fit {wanted}, as the other tensors have it, got {came}")
        state[f"network.{own}"] = combined
    return state
