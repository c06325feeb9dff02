"""A `class:` mapping of a recipe or a model folder: the class, its checked arguments, the object."""

import inspect
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

OWN_SHELVES = ("sepkit.models", "sepkit.transforms")  # all that a model folder from a stranger may name


@dataclass(frozen=True)
class Problem:
    """Say what is wrong at one place of nested plain data.

    Attributes:
        path: keys and list positions down to the place; its end may be a key that is missing.
        message: what is wanted, what came, what to do.
        at_key: the key itself is wrong, not its value.
    """

    path: tuple[str | int, ...]
    message: str
    at_key: bool = False

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message

    def below(self, *outer: str | int) -> "Problem":
        """Return the same problem seen from further outside."""
        return replace(self, path=(*outer, *self.path))


class InstantiationError(ValueError):
    """A `class:` mapping that cannot be built; `problems` lists every reason."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as `losses.0.weight`."""
    return ".".join(map(str, path))


def did_you_mean(given: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean '...'?" with the nearest known name, or "" where none is near.

    Args:
        given: what the user wrote; upper and lower case count as equal.
        known: the right names.
        cutoff: likeness that is wanted, 0 to 1.
    """
    by_folded = {name.casefold(): name for name in known}
    nearest = get_close_matches(str(given).casefold(), by_folded, 1, cutoff)
    return f"; did you mean '{by_folded[nearest[0]]}'?" if nearest else ""


def show(value: object) -> str:
    """Return a value as one would write it in a recipe, shortened to 60 characters."""
    text = {None: "null", True: "true", False: "false"}[value] if _is_constant(value) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def is_spec(value: object) -> bool:
    """Tell whether a value is a mapping with `class`."""
    return isinstance(value, Mapping) and "class" in value


def resolve_class(name: str, shelf: str, *, trusted: bool = True) -> type:
    """Find the class that `class:` names.

    Args:
        name: a bare name, looked up on the shelf, or a dotted path, which is imported.
        shelf: name of the module whose classes bare names mean, such as "sepkit.models".
        trusted: False where the name comes from a stranger: nothing outside `sepkit.models` and
            `sepkit.transforms` is imported or returned.

    Raises:
        InstantiationError: nothing of that name, not a class, or not to be trusted.
    """
    if not isinstance(name, str) or not name:
        raise _class_error(f"must name a class, got {show(name)}")
    module = name.rpartition(".")[0] or shelf
    if not trusted and not _is_own(module):
        raise _distrust(name)
    found = _import_class(name) if "." in name else _take_from_shelf(name, shelf)
    if not trusted and not _is_own(found.__module__):
        raise _distrust(name)
    return found


def arguments_of(cls: type) -> dict[str, inspect.Parameter] | None:
    """Return the constructor's named parameters, or None where Python cannot tell them."""
    if _has_torch_constructor(cls):
        return {}
    try:
        return dict(inspect.signature(cls, eval_str=True).parameters)
    except (NameError, TypeError, AttributeError, SyntaxError):  # annotations that only a type checker reads
        return dict(inspect.signature(cls).parameters)
    except ValueError:  # built in C
        return None


def check_arguments(
    cls: type, arguments: Mapping[str, Any], provided: Iterable[str] = (), beside: Iterable[str] = ()
) -> list[Problem]:
    """Compare arguments with the constructor's signature, before anything is built.

    Args:
        cls: the class that they are meant for.
        arguments: by name; plain data, nested `class:` mappings, or objects (whose type is not checked).
        provided: names that the caller will add where the signature has them.
        beside: keys that stand among the arguments and are read by the caller.

    Returns:
        One problem for each unknown name, missing argument and value of a wrong type.
    """
    provided, beside = tuple(provided), tuple(beside)
    arguments = {name: value for name, value in arguments.items() if name not in (*beside, "class")}
    parameters = arguments_of(cls)
    if parameters is None:
        return []
    kinds = [parameter.kind for parameter in parameters.values()]
    named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    problems = []
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        problems += [_unknown(cls, name, (*named, *beside)) for name in arguments if name not in named]
    problems += [
        Problem((name,), f"must be given: {cls.__name__} has no default for it")
        for name, parameter in named.items()
        if parameter.default is parameter.empty and name not in (*arguments, *provided)
    ]
    problems += [
        _wrong_type(name, named[name].annotation, value)
        for name, value in arguments.items()
        if name in named and not _accepts(named[name].annotation, value)
    ]
    return problems


def check(
    spec: Mapping[str, Any],
    shelf: str,
    provided: Iterable[str] = (),
    *,
    beside: Iterable[str] = (),
    trusted: bool = True,
) -> list[Problem]:
    """Find everything that would keep `instantiate` from building a `class:` mapping and those nested in it.

    Args:
        spec: `{class: name, argument: value, ...}`; an argument may be such a mapping again, or a list of them.
        shelf: module for bare names, nested ones included.
        provided: names that `instantiate` will be given.
        beside: keys of the outermost mapping that are read by the caller.
        trusted: see `resolve_class`.

    Returns:
        The problems, with paths from the spec on; none: it can be built.
    """
    if not is_spec(spec):
        return [Problem((), f"must be a mapping with `class:`, got {show(spec)}")]
    provided, problems = tuple(provided), []
    try:
        cls = resolve_class(spec["class"], shelf, trusted=trusted)
        problems += check_arguments(cls, spec, provided, beside)
    except InstantiationError as error:
        problems += error.problems
    for name, value in spec.items():
        for place, inner in _nested(name, value):
            problems += [p.below(*place) for p in check(inner, shelf, provided, trusted=trusted)]
    return problems


def instantiate(
    spec: Mapping[str, Any],
    shelf: str,
    provided: Mapping[str, Any] = MappingProxyType({}),
    *,
    trusted: bool = True,
) -> Any:
    """Build the object that a `class:` mapping describes, the innermost mapping first.

    Args:
        spec: `{class: name, argument: value, ...}`; an argument may be such a mapping again, or a list of them.
        shelf: module for bare names, nested ones included.
        provided: facts by name; each constructor gets those that its signature names and its mapping lacks.
        trusted: see `resolve_class`.

    Raises:
        InstantiationError: with every problem, before anything was built.
    """
    problems = check(spec, shelf, provided, trusted=trusted)
    if problems:
        raise InstantiationError(problems)
    return _construct(spec, shelf, provided, trusted)


def _construct(spec: Mapping[str, Any], shelf: str, provided: Mapping[str, Any], trusted: bool) -> Any:
    def value_of(value: Any) -> Any:
        if is_spec(value):
            return _construct(value, shelf, provided, trusted)
        return [value_of(item) for item in value] if isinstance(value, list | tuple) else value

    cls = resolve_class(spec["class"], shelf, trusted=trusted)
    arguments = {name: value_of(value) for name, value in spec.items() if name != "class"}
    wanted = set(arguments_of(cls) or ()) - set(arguments)
    return cls(**arguments, **{name: value for name, value in provided.items() if name in wanted})


def _nested(name: str, value: object) -> list[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    """List the `class:` mappings that an argument holds, with their places."""
    if is_spec(value):
        return [((name,), value)]
    items = enumerate(value) if isinstance(value, list | tuple) else ()
    return [((name, position), item) for position, item in items if is_spec(item)]


def _class_error(message: str) -> InstantiationError:
    return InstantiationError([Problem(("class",), message)])


def _distrust(name: str) -> InstantiationError:
    return _class_error(
        f"'{name}' is not one of sepkit's own networks and transforms, and loading it can run any code; "
        "pass --trust (trust=True) if you trust where it comes from"
    )


def _is_own(module: str) -> bool:
    return any(_is_within(module, shelf) for shelf in OWN_SHELVES)


def _is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _take_from_shelf(name: str, shelf: str) -> type:
    try:
        module = import_module(shelf)
    except ModuleNotFoundError as error:
        if error.name != shelf:
            raise
        raise _class_error(f"'{name}' must be a dotted path such as 'mymodule.{name}'") from None
    if _is_offered(module, name):
        return getattr(module, name)
    known = _offered(module)
    elsewhere = f"one from elsewhere is named with its module, as in 'mymodule.{name}'"
    near = did_you_mean(name, known) or f" (there are: {', '.join(known) or 'none'}; {elsewhere})"
    raise _class_error(f"there is no class '{name}' in {shelf}{near}")


def _import_class(path: str) -> type:
    module_name, _, name = path.rpartition(".")
    try:
        module = import_module(module_name)
    except Exception as error:  # whatever a user's module does when it is imported
        if isinstance(error, ModuleNotFoundError) and error.name and _is_within(module_name, error.name):
            remedy = "install it or put it beside the recipe"
            raise _class_error(f"there is no module '{error.name}' to take '{path}' from; {remedy}") from None
        reason = f"importing '{module_name}' failed with {type(error).__name__}: {error}"
        raise _class_error(reason) from error
    found = getattr(module, name, None)
    if isinstance(found, type):
        return found
    if found is not None:
        raise _class_error(f"'{path}' is not a class but a {type(found).__name__}; name a class")
    raise _class_error(f"there is no class '{name}' in {module_name}" + did_you_mean(name, _offered(module)))


def _offered(module: ModuleType) -> list[str]:
    """List the classes of a shelf: those in `__all__`, and those that are defined within it."""
    names = {*getattr(module, "__all__", ()), *dir(module)}
    return sorted(name for name in names if _is_offered(module, name))


def _is_offered(module: ModuleType, name: str) -> bool:
    found = getattr(module, name, None)
    if not isinstance(found, type) or name.startswith("_"):
        return False
    return name in getattr(module, "__all__", ()) or _is_within(found.__module__, module.__name__)


def _has_torch_constructor(cls: type) -> bool:
    """Tell whether a module has only torch's constructor, which refuses the `**kwargs` that it declares."""
    torch = sys.modules.get("torch")
    return torch is not None and cls.__init__ is torch.nn.Module.__init__


def _unknown(cls: type, name: str, known: Sequence[str]) -> Problem:
    near = did_you_mean(name, known) or f" (it has: {', '.join(known) or 'none'})"
    return Problem((name,), f"{cls.__name__} has no such argument{near}", at_key=True)


def _wrong_type(name: str, annotation: Any, value: object) -> Problem:
    near = did_you_mean(value, _choices(annotation)) if isinstance(value, str) else ""
    return Problem((name,), f"must be {_describe(annotation)}, got {show(value)}{near}")


def _is_constant(value: object) -> bool:
    return value is None or isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # not NaN


_SCALARS = {  # annotation: what it is called, which values it takes
    NoneType: ("null", lambda value: value is None),
    None: ("null", lambda value: value is None),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("an int", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a float", _is_number),
    str: ("a string", lambda value: isinstance(value, str)),
    Path: ("a path", lambda value: isinstance(value, str | Path)),
    os.PathLike: ("a path", lambda value: isinstance(value, str | Path)),
}
_ANYTHING = (Any, object, inspect.Parameter.empty)
_LISTS = (list, tuple, Sequence, Iterable)
_MAPPINGS = (dict, Mapping)
_OBJECT = "a mapping with `class:`"


def _accepts(annotation: Any, value: object) -> bool:
    """Tell whether plain data, or a nested `class:` mapping, can stand for an annotation."""
    origin, inner = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if origin is Annotated:
        return _accepts(inner[0], value)
    if origin in (Union, UnionType):
        return any(_accepts(choice, value) for choice in inner)
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in inner)
    if (not isinstance(kind, type) and kind is not None) or kind in _ANYTHING:
        return True
    if kind in _SCALARS:
        return _SCALARS[kind][1](value)
    if kind in _LISTS:
        return isinstance(value, list | tuple) and _accepts_items(kind, inner, value)
    if kind in _MAPPINGS:
        return isinstance(value, Mapping)
    return is_spec(value) or not _is_plain(value)


def _accepts_items(kind: type, inner: tuple, values: Sequence) -> bool:
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        return len(inner) == len(values) and all(map(_accepts, inner, values))
    return not inner or all(_accepts(inner[0], value) for value in values)


def _is_plain(value: object) -> bool:
    return _is_constant(value) or isinstance(value, int | float | str | list | tuple | Mapping)


def _describe(annotation: Any) -> str:
    """Name the values that `_accepts` takes."""
    origin, inner = get_origin(annotation), get_args(annotation)
    kind = origin or annotation
    if origin is Annotated:
        return _describe(inner[0])
    if origin in (Union, UnionType):
        names = list(dict.fromkeys(_describe(choice) for choice in inner))
        plain = [name for name in names if name not in (_OBJECT, "null")]
        return " or ".join([name for name in names if name != _OBJECT] if plain else names)
    if origin is Literal:
        return " or ".join(show(choice) for choice in inner)
    if kind in _SCALARS:
        return _SCALARS[kind][0]
    if kind in _LISTS:
        return _describe_items(kind, inner)
    return "a mapping" if kind in _MAPPINGS else _OBJECT


def _describe_items(kind: type, inner: tuple) -> str:
    if not inner:
        return "a list"
    if kind is tuple and inner[-1] is not Ellipsis:
        return f"a list of {len(inner)}: " + ", ".join(map(_describe, inner))
    return f"a list, each {_describe(inner[0])}"


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    return [choice for inner in get_args(annotation) for choice in _choices(inner)]
