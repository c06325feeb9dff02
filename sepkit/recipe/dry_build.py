"""Build the classes of a recipe without their cost, so that what only a constructor refuses has a line too."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sepkit.instantiate import arguments_of, instantiate, is_config, resolve_class
from sepkit.problems import Problem

_OWN = ("sepkit", "torch")  # whose constructors are known to read no files, and to take no time but for random numbers
_NOT_OF_ARGUMENTS = (OSError, ImportError, MemoryError)  # the recipe may be in order
_DRAWING = {Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_}
_TORCHS_WORDS = {"learning": "lr", "beta": "betas", "epsilon": "eps"}  # for arguments: "Invalid learning rate: -1"


def try_to_build(
    config: Mapping[str, Any], module: str, derived: Mapping[str, Any], foreign: bool = False
) -> tuple[object | None, list[Problem]]:
    """Build a checked `class:` mapping in little time, with weights that were not drawn; global random states stay.

    Args:
        config: in which `sepkit.instantiate.check` finds no problem.
        module: whose classes bare names mean.
        derived: values by name, for the constructors that name them.
        foreign: build classes from elsewhere, too.

    Returns:
        The object, and no problem; or None and the problem. Neither where it names a class from elsewhere, which may
        do anything when it is built, unless `foreign`.
    """
    if not (foreign or is_own(config, module)):
        return None, []
    try:
        with warnings.catch_warnings(), torch.random.fork_rng([]), Undrawn():
            warnings.simplefilter("ignore")  # they come when it is built to be used
            return instantiate(config, module, derived), []
    except Exception as error:  # whatever a constructor makes of values that it does not check
        return None, [_locate(error, config, module)]


class Undrawn(TorchFunctionMode):
    """Leave out the drawing of weights, by which large networks take seconds to build."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if function in _DRAWING or getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **options)


def is_own(config: Mapping[str, Any], module: str) -> bool:
    """Return whether all classes of a mapping, nested ones included, are this package's or torch's."""
    if resolve_class(config["class"], module).__module__.partition(".")[0] not in _OWN:
        return False
    inner = [item for value in config.values() for item in (value if isinstance(value, list) else [value])]
    return all(is_own(item, module) for item in inner if is_config(item))


def _locate(error: Exception, config: Mapping[str, Any], module: str) -> Problem:
    """Place a constructor's error at the argument with whose name it begins, or at one of the mapping that it names."""
    cls = resolve_class(config["class"], module)
    if not isinstance(error, ValueError):
        reason = (str(error).splitlines() or [""])[0]
        where = "on this machine" if isinstance(error, _NOT_OF_ARGUMENTS) else "with these arguments"
        return Problem((), f"{cls.__name__} cannot be built {where} ({type(error).__name__}: {reason})")
    message = str(error)
    words = [_TORCHS_WORDS.get(word, word) for word in re.findall(r"\w+", message.removeprefix("Invalid "))]
    arguments = arguments_of(cls) or {}
    if not words or words[0] not in arguments:
        return Problem((), message)
    name = next((word for word in words if word in config), words[0])
    return Problem((name,), re.sub(rf"^{name} (?=must )", "", message))
