"""Which weights of a network stay as they are while the others are trained."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from sepkit.models.lora import LoRA, list_prefixes, plain_name
from sepkit.problems import Problem, did_you_mean


def find_frozen(network: nn.Module, patterns: Sequence[str]) -> set[str]:
    """Return the names of the parameters of a network that one of the patterns names.

    Args:
        network: any; the parameters of a LoRA's updates go by the names of the weights that they change.
        patterns: such as "core.encode.*"; `*` stands for any characters, dots included.
    """
    return {own for own, name in _names(network).items() if any(fnmatchcase(name, pattern) for pattern in patterns)}


def list_freezing_problems(network: nn.Module, patterns: Sequence[str]) -> list[Problem]:
    """List the patterns that match no parameter, and say so where none is left to train."""
    names = list(dict.fromkeys(_names(network).values()))
    problems = []
    for position, pattern in enumerate(patterns):
        if not any(fnmatchcase(name, pattern) for name in names):
            nearest = did_you_mean(pattern, [*names, *list_prefixes(names)])
            nearest = nearest or f" (there are: {', '.join(list_prefixes(names)[:4] or names[:4])}, and others)"
            problems.append(Problem((position,), f"no parameter of the network is called '{pattern}'{nearest}"))
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    if patterns and not trained - find_frozen(network, patterns):
        problems.append(Problem((), "nothing would be left to train: leave a pattern out"))
    return [problem.below("training", "freeze") for problem in problems]


def _names(network: nn.Module) -> dict[str, str]:
    """Return the names by which users know the parameters, by those that they have."""
    is_around = isinstance(network, LoRA)
    return {name: plain_name(name) if is_around else name for name, _ in network.named_parameters()}
