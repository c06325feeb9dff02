"""A `class:` mapping of a recipe or a model folder: the class, its checked arguments, the object."""

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import cycle
from pathlib import Path
from types import MappingProxyType, ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sepkit.problems import Problem, did_you_mean, show

# all that a model folder from a stranger may name
OWN_MODULES = ("sepkit.models", "sepkit.transforms", "sepkit.masks", "sepkit.bag")


class InstantiationError(ValueError):
    """Plain data that nothing can be built from; `problems` lists every reason."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


def is_config(value: object) -> bool:
    """Return whether a value is a mapping with `class`."""
    return isinstance(value, Mapping) and "class" in value


def resolve_class(name: str, module: str, *, trusted: bool = True) -> type:
    """Find the class that `class:` names.

    Args:
        name: a bare name, one of the module's classes, or a dotted path, which is imported.
        module: whose classes bare names mean, such as "sepkit.models".
        trusted: False where the name comes from a stranger: nothing outside `sepkit.models`,
            `sepkit.transforms`, `sepkit.masks` and `sepkit.bag` is imported or returned.

    Raises:
        InstantiationError: nothing of that name, not a class, or not to be trusted.
    """
    if not isinstance(name, str) or not name:
        raise _class_error(f"must name a class, got {show(name)}")
    home = name.rpartition(".")[0] or module
    if trusted or _is_own(home):
        cls = _import_class(name) if "." in name else _offered_class(name, module)
        if trusted or _is_own(cls.__module__):
            return cls
    raise _class_error(
        f"'{name}' is not one of sepkit's own networks, transforms and filters, and loading it can run any code; "
        "pass --trust (trust=True) if you trust where it comes from"
    )


def arguments_of(cls: type) -> dict[str, inspect.Parameter] | None:
    """Return the constructor's named parameters, or None where Python does not know them."""
    torch = sys.modules.get("torch")
    if torch is not None and cls.__init__ is torch.nn.Module.__init__:  # declares `**kwargs`, and refuses them
        return {}
    try:
        return dict(inspect.signature(cls, eval_str=True).parameters)
    except (NameError, TypeError, AttributeError, SyntaxError):  # annotations that only a type checker reads
        return dict(inspect.signature(cls).parameters)
    except ValueError:  # built in C
        return None


def check_arguments(
    cls: type, arguments: Mapping[str, Any], derived: Iterable[str] = (), extra_keys: Iterable[str] = ()
) -> list[Problem]:
    """Compare arguments with the constructor's signature, before anything is built.

    Args:
        cls: the class that they are meant for.
        arguments: by name; plain data, nested `class:` mappings, or objects (whose type is not checked).
        derived: names that the caller will add where the signature has them.
        extra_keys: keys that the caller reads itself; they are no arguments.

    Returns:
        One problem for each unknown name, missing argument and value of a wrong type.
    """
    derived, extra_keys = tuple(derived), tuple(extra_keys)
    arguments = {name: value for name, value in arguments.items() if name not in (*extra_keys, "class")}
    parameters = arguments_of(cls)
    if parameters is None:
        return []
    kinds = [parameter.kind for parameter in parameters.values()]
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    problems = []
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        right = (*named, *extra_keys)
        for name in [name for name in arguments if name not in named]:
            suggestion = did_you_mean(name, right) or f" (it has: {', '.join(right) or 'none'})"
            problems.append(Problem((name,), f"{cls.__name__} has no such argument{suggestion}", at_key=True))
    problems += [
        Problem((name,), f"must be given: {cls.__name__} has no default for it")
        for name, parameter in named.items()
        if parameter.default is parameter.empty and name not in (*arguments, *derived)
    ]
    for name in [name for name in arguments if name in named]:
        wanted, value = _kind_of(named[name].annotation), arguments[name]
        if not wanted.accepts(value):
            suggestion = did_you_mean(value, wanted.choices) if isinstance(value, str) else ""
            problems.append(Problem((name,), f"must be {wanted.name}, got {show(value)}{suggestion}"))
    return problems


def check(
    config: Mapping[str, Any],
    module: str,
    derived: Iterable[str] = (),
    *,
    extra_keys: Iterable[str] = (),
    trusted: bool = True,
) -> list[Problem]:
    """List everything that would keep `instantiate` from building a `class:` mapping and those nested in it.

    Args:
        config: see `instantiate`.
        module: whose classes bare names mean.
        derived: names that `instantiate` will be given.
        extra_keys: keys of the outermost mapping that the caller reads itself.
        trusted: see `resolve_class`.
    """
    if not is_config(config):
        return [Problem((), f"must be a mapping with `class:`, got {show(config)}")]
    derived, problems = tuple(derived), []
    try:
        cls = resolve_class(config["class"], module, trusted=trusted)
        problems += check_arguments(cls, config, derived, extra_keys)
    except InstantiationError as error:
        problems += error.problems
    if not trusted and "trusted" in config:
        problems.append(Problem(("trusted",), "must be left out: whoever loads the model decides it", at_key=True))
    for name, value in config.items():
        items = enumerate(value) if isinstance(value, list | tuple) else ()
        nested = {(name,): value, **{(name, position): item for position, item in items}}
        for path, inner in nested.items():
            if is_config(inner):
                problems += [problem.below(*path) for problem in check(inner, module, derived, trusted=trusted)]
    return problems


def instantiate(
    config: Mapping[str, Any],
    module: str,
    derived: Mapping[str, Any] = MappingProxyType({}),
    *,
    trusted: bool = True,
) -> Any:
    """Build the object that a `class:` mapping describes, the innermost mapping first.

    Args:
        config: `{class: name, argument: value, ...}`; an argument may be such a mapping again, or a list of them.
        module: whose classes bare names mean, nested ones included.
        derived: values by name; each constructor gets those that its signature names and its mapping lacks.
        trusted: see `resolve_class`; a constructor whose signature names it gets it, too, to build what it describes.

    Raises:
        InstantiationError: with every problem, before anything was built.
    """
    problems = check(config, module, derived, trusted=trusted)
    if problems:
        raise InstantiationError(problems)
    return _construct(config, module, derived, trusted)


def _construct(config: Mapping[str, Any], module: str, derived: Mapping[str, Any], trusted: bool) -> Any:
    def build(value: Any) -> Any:
        if is_config(value):
            return _construct(value, module, derived, trusted)
        return [build(item) for item in value] if isinstance(value, list | tuple) else value

    cls = resolve_class(config["class"], module, trusted=trusted)
    arguments = {name: build(value) for name, value in config.items() if name != "class"}
    wanted = set(arguments_of(cls) or ()) - set(arguments)
    given = {**derived, "trusted": trusted}
    return cls(**arguments, **{name: value for name, value in given.items() if name in wanted})


def _class_error(message: str) -> InstantiationError:
    return InstantiationError([Problem(("class",), message)])


def _is_own(module: str) -> bool:
    return any(_is_within(module, own) for own in OWN_MODULES)


def _is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _offered_class(name: str, module: str) -> type:
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise _class_error(f"'{name}' must be a dotted path such as 'mymodule.{name}'") from None
    if _is_offered(imported, name):
        return getattr(imported, name)
    offered = _offered(imported)
    elsewhere = f"one from elsewhere is named with its module, as in 'mymodule.{name}'"
    suggestion = did_you_mean(name, offered) or f" (there are: {', '.join(offered) or 'none'}; {elsewhere})"
    raise _class_error(f"there is no class '{name}' in {module}{suggestion}")


def _import_class(path: str) -> type:
    module, _, name = path.rpartition(".")
    try:
        imported = import_module(module)
    except Exception as error:  # whatever a user's module does when it is imported
        if isinstance(error, ModuleNotFoundError) and error.name and _is_within(module, error.name):
            remedy = "install it or put it beside the recipe"
            raise _class_error(f"there is no module '{error.name}' to take '{path}' from; {remedy}") from None
        reason = f"importing '{module}' failed with {type(error).__name__}: {error}"
        raise _class_error(reason) from error
    cls = getattr(imported, name, None)
    if isinstance(cls, type):
        return cls
    if cls is not None:
        raise _class_error(f"'{path}' is not a class but a {type(cls).__name__}; name a class")
    raise _class_error(f"there is no class '{name}' in {module}" + did_you_mean(name, _offered(imported)))


def _offered(module: ModuleType) -> list[str]:
    """List the public classes of a module: those in `__all__`, and those that are defined within it."""
    names = {*getattr(module, "__all__", ()), *dir(module)}
    return sorted(name for name in names if _is_offered(module, name))


def _is_offered(module: ModuleType, name: str) -> bool:
    cls = getattr(module, name, None)
    if not isinstance(cls, type) or name.startswith("_"):
        return False
    return name in getattr(module, "__all__", ()) or _is_within(cls.__module__, module.__name__)


@dataclass(frozen=True)
class _Kind:
    """The plain data, or nested `class:` mappings, that can stand for an annotation.

    Attributes:
        name: for messages: "must be an int".
        accepts: returns whether a value is of this kind.
        choices: the strings that there are to choose from; none: any.
    """

    name: str
    accepts: Callable[[object], bool]
    choices: tuple[str, ...] = ()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # not NaN


def _is_object(value: object) -> bool:
    return is_config(value) or not isinstance(value, int | float | str | list | tuple | Mapping | NoneType)


_NULL = _Kind("null", lambda value: value is None)
_PATH = _Kind("a path", lambda value: isinstance(value, str | Path))
_MAPPING = _Kind("a mapping", lambda value: isinstance(value, Mapping))
_OBJECT = _Kind("a mapping with `class:`", _is_object)
_ANYTHING = _Kind("anything", lambda _: True)
_KINDS = {
    **dict.fromkeys((NoneType, None), _NULL),
    **dict.fromkeys((Path, os.PathLike), _PATH),
    **dict.fromkeys((dict, Mapping), _MAPPING),
    **dict.fromkeys((Any, object, inspect.Parameter.empty), _ANYTHING),
    bool: _Kind("true or false", lambda value: isinstance(value, bool)),
    int: _Kind("an int", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: _Kind("a float", _is_number),
    str: _Kind("a string", lambda value: isinstance(value, str)),
}


def _kind_of(annotation: Any) -> _Kind:
    """Translate an annotation; one that only a type checker understands takes anything."""
    origin, inner = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if origin is Annotated:
        return _kind_of(inner[0])
    if origin is Literal:
        words = tuple(choice for choice in inner if isinstance(choice, str))
        choices = [(type(choice), choice) for choice in inner]
        return _Kind(" or ".join(map(show, inner)), lambda value: (type(value), value) in choices, words)
    if origin in (Union, UnionType):
        return _union([_kind_of(choice) for choice in inner])
    if kind in (list, tuple, Sequence, Iterable):
        return _list(
            [_kind_of(item) for item in inner if item is not Ellipsis], kind is tuple and Ellipsis not in inner
        )
    if not isinstance(kind, type) and kind is not None:
        return _ANYTHING
    return _KINDS.get(kind, _OBJECT)


def _union(kinds: list[_Kind]) -> _Kind:
    """Join kinds; that an object would do is mentioned only where no plain data does."""
    plain = any(kind not in (_OBJECT, _NULL) for kind in kinds)
    names = dict.fromkeys(kind.name for kind in kinds if not (plain and kind is _OBJECT))
    choices = tuple(choice for kind in kinds for choice in kind.choices)
    return _Kind(" or ".join(names), lambda value: any(kind.accepts(value) for kind in kinds), choices)


def _list(kinds: list[_Kind], fixed: bool) -> _Kind:
    """Make the kind of a list: one kind for each of its items where its length is fixed, else one for all."""
    if not kinds or (kinds == [_ANYTHING] and not fixed):
        return _Kind("a list", lambda values: isinstance(values, list | tuple))

    def accepts(values: object) -> bool:
        if not isinstance(values, list | tuple) or (fixed and len(values) != len(kinds)):
            return False
        return all(kind.accepts(value) for kind, value in zip(cycle(kinds), values, strict=False))

    names = ", ".join(kind.name for kind in kinds)
    return _Kind(f"a list of {len(kinds)}: {names}" if fixed else f"a list, each {names}", accepts)
