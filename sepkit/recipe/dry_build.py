"""Build what a recipe names for a trial, so that what only a constructor refuses is answered at its place too."""

import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sepkit.instantiate import Problem, arguments_of, instantiate, is_spec, resolve_class

_OWN = ("sepkit", "torch")  # whose constructors are known to read no files, and to take no time but for random numbers
_NOT_OF_ARGUMENTS = (OSError, ImportError, MemoryError)  # the recipe may be in order
_DRAWING = {Tensor.uniform_, Tensor.normal_, Tensor.random_, Tensor.bernoulli_}
_TORCHS_WORDS = {"learning": "lr", "beta": "betas", "epsilon": "eps"}  # for arguments: "Invalid learning rate: -1"


def try_to_build(
    spec: Mapping[str, Any], shelf: str, provided: Mapping[str, Any]
) -> tuple[object | None, list[Problem]]:
    """Build a checked `class:` mapping in little time, with weights of no meaning; global random states stay.

    Args:
        spec: in which `sepkit.instantiate.check` finds no problem.
        shelf: module for bare names.
        provided: facts by name.

    Returns:
        The object, and no problem; or None and the problem. Neither where it names a class from elsewhere, which may
        do anything when it is built.
    """
    if not _is_own(spec, shelf):
        return None, []
    try:
        with warnings.catch_warnings(), torch.random.fork_rng([]), _Undrawn():
            warnings.simplefilter("ignore")  # they come when it is built to be used
            return instantiate(spec, shelf, provided), []
    except Exception as error:  # whatever a constructor makes of values that it does not check
        return None, [_locate(error, spec, shelf)]


class _Undrawn(TorchFunctionMode):
    """Leave out the drawing of weights, by which large networks take seconds to build."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        options = options or {}
        if function in _DRAWING or getattr(function, "__module__", None) == "torch.nn.init":
            return arguments[0] if arguments else options["tensor"]
        return function(*arguments, **options)


def _is_own(spec: Mapping[str, Any], shelf: str) -> bool:
    """Tell whether all classes of a mapping, nested ones included, are this package's or torch's."""
    if resolve_class(spec["class"], shelf).__module__.partition(".")[0] not in _OWN:
        return False
    inner = [item for value in spec.values() for item in (value if isinstance(value, list) else [value])]
    return all(_is_own(item, shelf) for item in inner if is_spec(item))


def _locate(error: Exception, spec: Mapping[str, Any], shelf: str) -> Problem:
    """Say what a constructor said, at the argument with whose name it begins, or another one given that it names."""
    cls = resolve_class(spec["class"], shelf)
    if not isinstance(error, ValueError):
        reason = (str(error).splitlines() or [""])[0]
        where = "on this machine" if isinstance(error, _NOT_OF_ARGUMENTS) else "with these arguments"
        return Problem((), f"{cls.__name__} cannot be built {where} ({type(error).__name__}: {reason})")
    message = str(error)
    words = [_TORCHS_WORDS.get(word, word) for word in re.findall(r"\w+", message.removeprefix("Invalid "))]
    known = arguments_of(cls) or {}
    if not words or words[0] not in known:
        return Problem((), message)
    name = next((word for word in words if word in spec), words[0])
    return Problem((name,), re.sub(rf"^{name} (?=must )", "", message))
