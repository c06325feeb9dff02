"""YAML text -> plain data that remembers the line and column of each of its parts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sepkit.plain import DEEPEST, MOST, TOO_DEEP, TOO_MANY, BoundedLoader, check_bounds, read_text
from sepkit.problems import Problem, dotted, show

Place = tuple[int, int]  # line and column, from 1
Keys = tuple[str | int, ...]


class RecipeError(ValueError):
    """A recipe with mistakes; `problems` has a line for each."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class _Loader(BoundedLoader):
    """Read YAML 1.2's plain values: 1e-3 is a number, `on` and dates are words."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError):
            what = f"{show(node.value)} is no {node.tag.rpartition(':')[2]}"
            raise _at(node, f"{what}, or too long for one") from None


_Loader.yaml_implicit_resolvers = {}
_WORDS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)
for _word, _pattern, _first in _WORDS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_word}", re.compile(f"^(?:{_pattern})$"), _first)
_PLAIN_TAGS = {f"tag:yaml.org,2002:{word}" for word in ("map", "seq", "str", *(word for word, *_ in _WORDS))}


class Dumper(yaml.SafeDumper):
    """Write YAML that this module, and a YAML 1.1 reader, read back as it was."""


for _word, _pattern, _first in _WORDS:
    Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_word}", re.compile(f"^(?:{_pattern})$"), _first)


def write_yaml(values: Mapping[str, Any]) -> str:
    """Write plain data as YAML, always in the same way, so that text written by hand differs from it."""
    return yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


@dataclass
class Document:
    """Plain data, where each part comes from, and what is wrong with it.

    Attributes:
        values: the outermost mapping.
        label: the file as the user named it; empty for a mapping.
        places: keys -> (place of the key, place of the value).
        overridden: keys -> how the override was written.
        problems: found so far.
    """

    values: dict[str, Any]
    label: str = ""
    places: dict[Keys, tuple[Place, Place]] = field(default_factory=dict)
    overridden: dict[Keys, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Document":
        """Copy a mapping; tuples become lists and paths strings, what is not plain data becomes a problem.

        Raises:
            RecipeError: it is nested too deep, or holds itself or too much.
        """
        try:
            check_bounds(mapping)
        except (ValueError, RecursionError) as error:
            raise RecipeError([f"a recipe cannot be this large: {error}"]) from None
        problems: list[Problem] = []
        return cls(_plain(mapping, (), problems), problems=problems)

    @classmethod
    def from_file(cls, path: Path) -> "Document":
        """Read a YAML file.

        Raises:
            RecipeError: it cannot be read, is not valid YAML, or is not a mapping.
        """
        text, label = _read(path), str(path)
        try:
            values, places, problems = _parse(text)
        except yaml.YAMLError as error:
            raise RecipeError([_explain(error, text, label)]) from None
        if values is None:
            raise RecipeError([f"{label}:1:1: the file is empty; a recipe has separator, data and losses"])
        if not isinstance(values, dict):
            line, column = places[()][1]
            raise RecipeError([f"{label}:{line}:{column}: must be a mapping, got {show(values)}"])
        return cls(values, label, places, problems=problems)

    def override(self, text: str) -> None:
        """Apply `key.sub=value`; what cannot be applied becomes a problem."""
        key, equals, value = text.partition("=")
        path, label = tuple(key.strip().split(".")), f"override {text}"
        if not equals or not all(path) or len(path) > DEEPEST:
            wrong = TOO_DEEP if len(path) > DEEPEST else "an override is written key.sub=value"
            self._refuse(path[:DEEPEST], label, wrong)
            return
        try:
            parsed, _, problems = _parse(value)
        except yaml.YAMLError as error:
            self._refuse(path, label, f"the value is not valid YAML: {getattr(error, 'problem', error)}")
            return
        path = self.put(path, parsed, label)
        self.problems += [problem.below(*path) for problem in problems]

    def put(self, path: Keys, value: Any, label: str) -> Keys:
        """Set one value, making the mappings on the way; return its path with numbers for list positions."""
        container, done = self.values, []
        for depth, key in enumerate(path):
            if isinstance(container, list):
                if not str(key).isdecimal() or int(key) >= len(container):
                    where = f"{dotted(done)} has {len(container)} entries, counted from 0; there is no '{key}'"
                    return self._refuse(path, label, where)
                key = int(key)
            elif not isinstance(container, dict):
                return self._refuse(path, label, f"{dotted(done)} is {show(container)}, which has no keys")
            done.append(key)
            if depth == len(path) - 1:
                container[key] = value
            elif isinstance(container, dict) and container.get(key) is None:
                container[key] = {}
            container = container[key]
        self.overridden[tuple(done)] = label
        return tuple(done)

    def describe(self, problems: Sequence[Problem]) -> list[str]:
        """Write each problem with where it stands, in the order of the file, the overrides last."""
        lines = sorted((*self._locate(problem), str(problem)) for problem in problems)
        return [f"{prefix}{message}" for _, prefix, message in lines]

    def _refuse(self, path: Keys, label: str, message: str) -> Keys:
        self.overridden[path] = label
        self.problems.append(Problem(path, message))
        return path

    def _locate(self, problem: Problem) -> tuple[tuple, str]:
        """Return what to sort a problem by, and its prefix."""
        path = problem.path
        by_override = [keys for keys in self.overridden if path[: len(keys)] == keys]
        if not by_override and path not in self.places:
            by_override = [keys for keys in self.overridden if keys[: len(path)] == path]
        if by_override:
            return (1, 0, 0), f"{self.overridden[max(by_override, key=len)]}: "
        if not self.label:
            return (0, 0, 0), ""
        located = path
        while located not in self.places:
            located = located[:-1]
        line, column = self.places[located][not problem.at_key and located == path]
        return (0, line, column), f"{self.label}:{line}:{column}: "


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise RecipeError([f"{path}: there is no such file; name a recipe's YAML file"]) from None
    except OSError as error:
        raise RecipeError([f"{path}: the recipe cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise RecipeError([f"{path}: a recipe is UTF-8 text, but byte {error.start} is not"]) from None
    except ValueError as error:
        raise RecipeError([f"{path}: this is no recipe, {error}"]) from None


def _parse(text: str) -> tuple[Any, dict[Keys, tuple[Place, Place]], list[Problem]]:
    """Turn YAML into plain data, the places of its parts, and the keys that stand twice."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}, []
        places, problems = {(): (_place(node), _place(node))}, []
        _survey(node, (), places, problems)
        return loader.construct_document(node), places, problems
    except (ValueError, OverflowError) as error:  # a character that there is not
        raise yaml.MarkedYAMLError(problem=str(error), problem_mark=loader.get_mark()) from None
    finally:
        loader.dispose()


def _survey(
    node: yaml.Node, path: Keys, places: dict, problems: list[Problem], outer: tuple[yaml.Node, ...] = ()
) -> None:
    """Record the places of all parts below a node."""
    if node.tag not in _PLAIN_TAGS:
        raise _at(node, f"the tag {node.tag!r} is not allowed, a recipe holds plain values")
    if node in outer:
        raise _at(node, "an alias may not stand inside what it repeats")
    if len(path) > DEEPEST or len(places) > MOST:
        inside = (*outer, node)[:2][-1]  # the value of a key of the recipe: what an alias repeats stands elsewhere
        raise _at(inside, TOO_DEEP if len(path) > DEEPEST else TOO_MANY)
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            inner = (*path, position)
            places[inner] = (_place(item), _place(item))
            _survey(item, inner, places, problems, (*outer, node))
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:str" or not isinstance(key, yaml.ScalarNode):
                raise _at(key, "keys must be words")
            inner = (*path, key.value)
            if key.value in seen:
                twice = f"the key '{key.value}' stands twice (first on line {seen[key.value]})"
                problems.append(Problem(inner, twice, at_key=True))
            seen.setdefault(key.value, _place(key)[0])
            places[inner] = (_place(key), _place(value))
            _survey(value, inner, places, problems, (*outer, node))


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _at(node: yaml.Node, message: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)


def _explain(error: yaml.YAMLError, text: str, label: str) -> str:
    """Describe in one line what is wrong with YAML text, and where."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.reader.ReaderError):  # whose own sentence takes three lines
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        return f"{label}:{line}:{column}: not valid YAML: the character {error.character:#04x} is not allowed"
    if mark is None:
        return f"{label}: not valid YAML: {' '.join(str(error).split())}"
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    tab = "\t" in line[: mark.column + 1] and not line[: mark.column].strip()
    reason = "lines are indented with spaces, not with tabs" if tab else error.problem
    return f"{label}:{mark.line + 1}:{mark.column + 1}: not valid YAML: {reason}"


def _plain(value: Any, path: Keys, problems: list[Problem]) -> Any:
    """Copy nested data, tuples as lists and paths as strings; what could not be written as YAML becomes a problem."""
    if isinstance(value, Mapping):
        return {key: _plain(inner, (*path, key), problems) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, (*path, position), problems) for position, inner in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if value is not None and type(value) not in (bool, int, float, str):
        message = f"must be plain data (null, bool, int, float, str), got a {type(value).__name__}"
        problems.append(Problem(path, message))
    return value
