"""Quantities of a Separation, and which of them a network or a loss takes: those that its `forward` names."""

import inspect
from collections.abc import Collection, Mapping

from sepkit.problems import Problem, did_you_mean, show

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


def named_quantities(outputs: Mapping[str, str]) -> dict[str, str]:
    """Return the quantities of separations by a network with these outputs, "source" each or "item"."""
    return {**{name: kind for name, kind in QUANTITIES.items() if name != "mask"}, **outputs}


def match_inputs(cls: type, inputs: Mapping[str, str], quantities: Collection[str]) -> dict[str, str]:
    """Match each argument of a class's `forward` with the quantity that `inputs` names, or else with its namesake.

    Args:
        cls: a network or a loss.
        inputs: argument -> quantity.
        quantities: names of those there are; an argument without one is left out.
    """
    matched = {name: inputs.get(name, name) for name in _forward_arguments(cls)}
    return {name: quantity for name, quantity in matched.items() if quantity in quantities}


def list_input_problems(
    cls: type,
    inputs: Mapping[str, str],
    quantities: Collection[str] | None,
    remedy: str = "name the quantity in `inputs`",
) -> list[Problem]:
    """List the arguments of a class's `forward` that have no quantity, and what `inputs` names that there is not.

    Args:
        cls: a network or a loss.
        inputs: argument -> quantity.
        quantities: names of those there are; None: unknown.
        remedy: what to do about an argument without a quantity.

    Returns:
        Problems at ("inputs", argument) and at ("class",).
    """
    arguments, name_of_class, problems = _forward_arguments(cls), cls.__name__, []
    if not arguments:
        return [Problem(("class",), f"{name_of_class} has no forward that names what it takes")]
    for name, quantity in inputs.items():
        if name not in arguments:
            message = f"{name_of_class}'s forward has no such argument (it has: {', '.join(arguments)})"
            problems.append(Problem(("inputs", name), message + did_you_mean(name, arguments), at_key=True))
        elif quantities is not None and quantity not in [*quantities]:
            message = f"must be one of {', '.join(quantities)}, got {show(quantity)}"
            problems.append(Problem(("inputs", name), message + did_you_mean(quantity, quantities)))
    if quantities is None:
        return problems
    required = [name for name, parameter in arguments.items() if parameter.default is parameter.empty]
    missing = [f"'{name}'" for name in required if name not in inputs and name not in quantities]
    if not missing and not problems and not match_inputs(cls, inputs, quantities):
        missing = [f"'{name}'" for name in arguments]
    if missing:
        are = "which is" if len(missing) == 1 else "which are"
        message = f"{name_of_class} takes {' and '.join(missing)}, {are} none of {', '.join(quantities)}: {remedy}"
        problems.append(Problem(("class",), message))
    return problems


def _forward_arguments(cls: type) -> dict[str, inspect.Parameter]:
    """Return the arguments by name that `forward` takes; none where there is no forward."""
    forward = getattr(cls, "forward", None)
    parameters = list(inspect.signature(forward).parameters.items())[1:] if forward else []
    return {name: p for name, p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
