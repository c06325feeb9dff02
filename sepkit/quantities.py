"""Quantities of a Separation, and which of them a network or a loss takes: those that its `forward` names."""

import inspect
from collections.abc import Mapping, Sequence

from torch import nn

# Name -> "item", (B, ...), or "source", (B, S, ...).
QUANTITIES = {
    "mixture": "item",
    "mixture_spectrogram": "item",
    "mixture_magnitude": "item",
    "mask": "source",
    "estimate": "source",
    "estimate_spectrogram": "source",
    "estimate_magnitude": "source",
    "target": "source",
    "target_spectrogram": "source",
    "target_magnitude": "source",
    "interference_magnitude": "source",
}
NETWORK_INPUTS = ("mixture", "mixture_spectrogram", "mixture_magnitude")


def match_inputs(
    module: nn.Module, inputs: Mapping[str, str], known: Sequence[str], remedy: str = "name the quantity in `inputs`"
) -> dict[str, str]:
    """Match each argument of a network or a loss with the quantity that `inputs` names, or else with its namesake.

    Args:
        module: its `forward` is read.
        inputs: argument -> quantity.
        known: names of the quantities there are.
        remedy: what to do about an argument without a quantity.

    Raises:
        ValueError: an argument without default has no quantity, or `inputs` names what there is not.
    """
    name_of_module, parameters = type(module).__name__, inspect.signature(module.forward).parameters
    unknown = sorted(set(inputs) - set(parameters))
    if unknown:
        raise ValueError(f"inputs of {name_of_module} may name {', '.join(parameters)}, got {', '.join(unknown)}")
    matched = {}
    for name, parameter in parameters.items():
        quantity = inputs.get(name, name)
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if quantity in known:
            matched[name] = quantity
        elif name in inputs or parameter.default is parameter.empty:
            raise ValueError(f"{name_of_module} takes {quantity!r}, which is none of {', '.join(known)}: {remedy}")
    if not matched:
        raise ValueError(f"{name_of_module} takes no quantity: name its arguments in forward")
    return matched
