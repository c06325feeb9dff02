"""Plain data in text that comes from elsewhere, JSON or YAML, within bounds: no file exhausts stack or memory."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEEPEST = 50  # lists and mappings in each other
MOST = 20_000  # values, each as often as aliases repeat it
LARGEST = 1 << 20  # bytes of a recipe or a model card
TOO_DEEP = f"lists and mappings are nested more than {DEEPEST} deep"
TOO_MANY = f"there are more than {MOST} values, those that aliases repeat counted each time"
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')


class BoundedLoader(yaml.SafeLoader):
    """Read YAML that is nested no more than `DEEPEST` deep."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Build the node of a list, a mapping or a value.

        Args:
            parent: that holds it.
            index: where in the parent.

        Raises:
            yaml.MarkedYAMLError: it is nested too deep.
        """
        self.depth += 1
        if self.depth > DEEPEST + 1:  # the innermost are values
            raise yaml.MarkedYAMLError(problem=TOO_DEEP, problem_mark=self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Loader(BoundedLoader):
    """Read YAML without merging mappings, which would multiply before anything is counted."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        pass


class _TupleLoader(_Loader):
    """Read tuples of Python as lists, too: the community's configs have them."""

    def construct_tuple(self, node: yaml.Node) -> list:
        """Return the values of a node as a list.

        Args:
            node: a sequence.

        Raises:
            yaml.YAMLError: it is none.
        """
        return self.construct_sequence(node, deep=True)


_TupleLoader.add_constructor("tag:yaml.org,2002:python/tuple", _TupleLoader.construct_tuple)


def read_text(path: Path) -> str:
    """Read a short text in UTF-8.

    Raises:
        ValueError: it is longer than `LARGEST`, or not UTF-8.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST >> 20} MB")
    return raw.decode("utf-8-sig")


def parse_json(text: str) -> Any:
    """Read JSON.

    Raises:
        ValueError: it is not strict JSON, or nested too deep.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
        check_bounds(content, most=None)
    except RecursionError:
        raise ValueError(f"{TOO_DEEP}, on line {_line_too_deep(text)}") from None
    return content


def parse_yaml(text: str, tuples: bool = False) -> Any:
    """Read YAML 1.1 of plain values.

    Args:
        text: YAML.
        tuples: read what has the tag `!!python/tuple` as lists; no other tag is taken.

    Raises:
        ValueError: it is not YAML, nested too deep, or too much.
    """
    try:
        content = yaml.load(text, _TupleLoader if tuples else _Loader)
        check_bounds(content)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except (yaml.YAMLError, LookupError, TypeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    return content


def check_bounds(value: Any, most: int | None = MOST) -> None:
    """Refuse nested data that cannot be walked through.

    Args:
        value: lists, tuples and mappings, which may hold themselves.
        most: values that there may be; None: any number.

    Raises:
        ValueError: there are more values.
        RecursionError: it is nested more than `DEEPEST` deep.
    """
    level, n_values = [value], 0
    for _ in range(DEEPEST + 1):
        level = [inner for inner in level if isinstance(inner, Mapping | list | tuple)]
        if not level:
            return
        n_values += sum(map(len, level))
        if most is not None and n_values > most:
            raise ValueError(TOO_MANY)
        level = [inner for each in level for inner in (each.values() if isinstance(each, Mapping) else each)]
    raise RecursionError(TOO_DEEP)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _line_too_deep(text: str) -> int:
    """Find the line on which brackets become too many."""
    depth = 0
    for bracket in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket[0], 0)
        if depth > DEEPEST:
            return text.count("\n", 0, bracket.start()) + 1
    return text.count("\n") + 1
