"""Published models by name: where their weights lie, and what their sources state about them."""

import csv
import shutil
import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from sepkit import disk
from sepkit.problems import did_you_mean, show

NOT_STATED = "not stated"
BAGS = ("htdemucs_ft", "mdx", "mdx_extra", "umxl", "umxhq")  # rows `<bag>/<member>` that make one model
_INDENT = " " * 4


@dataclass(frozen=True)
class RegisteredModel:
    """What the sources of a published model state about it; nothing was tested, "" or None is not stated.

    Attributes:
        name: unique; `<bag>/<member>` for a member of a bag.
        architecture: of the network; in brackets what is special.
        stems: that it estimates.
        file: name of the weights; "" for a bag.
        weights_url: their address.
        config_file: name of the config.
        config_url: its address.
        sha256: of the weights, hexadecimal.
        size: of the weights, bytes.
        licence: of the weights.
        score: numbers, as stated; those of different metrics or data sets cannot be compared.
        score_metric: what was measured.
        score_dataset: on what.
        score_from: who states it.
        listed_in: registries that list it.
        notes: what else is known.
        members: of a bag, whose estimates are averaged or put together.
    """

    name: str
    architecture: str
    stems: tuple[str, ...]
    file: str
    weights_url: str
    config_file: str
    config_url: str
    sha256: str
    size: int | None
    licence: str
    score: str
    score_metric: str
    score_dataset: str
    score_from: str
    listed_in: tuple[str, ...]
    notes: str
    members: tuple["RegisteredModel", ...] = ()

    @property
    def files(self) -> tuple["RegisteredModel", ...]:
        """Return the rows whose weights make the model: its members, or itself."""
        return self.members or (self,)

    @property
    def group(self) -> str:
        """Return the name whose files lie together: that of a member's bag, or its own."""
        return self.name.partition("/")[0] if self.is_member else self.name

    @property
    def is_member(self) -> bool:
        """Return whether it is a member of a bag."""
        return self.name.partition("/")[0] in BAGS and not self.members

    @property
    def sha256_start(self) -> str:
        """Return what is known of the weights' sha256: all of it, the 8 digits in the file's name, or ""."""
        return self.sha256 or (self.file.rpartition(".")[0][-8:] if _is_named_by_hash(self.listed_in) else "")

    @property
    def score_text(self) -> str:
        """Return the score with what was measured on what, in words; "" where none is stated."""
        if not self.score:
            return ""
        metric, dataset = (
            f"{name} {NOT_STATED}" if value in ("", NOT_STATED) else value
            for name, value in (("metric", self.score_metric), ("data set", self.score_dataset))
        )
        return f"{self.score} [{metric}, {dataset}]"


def list_models(
    stem: str | None = None, architecture: str | None = None, licence: str | None = None
) -> list[RegisteredModel]:
    """List published models, each bag before its members; upper and lower case count as equal.

    Args:
        stem: which they estimate; None: any.
        architecture: with what is in brackets, or without, for all of a kind; None: any.
        licence: of the weights; None: any.

    Raises:
        ValueError: no model has this stem, architecture or licence.
    """
    models = list(_models().values())
    wanted = {"stem": stem, "architecture": architecture, "licence": licence}
    for kind, value in wanted.items():
        if value is not None:
            _check_known(kind, value, models)
    return [
        model
        for model in models
        if all(value is None or value.casefold() in _folded(kind, model) for kind, value in wanted.items())
    ]


def find_model_entry(name: str) -> RegisteredModel:
    """Find a published model by its name.

    Raises:
        ValueError: there is none of this name.
    """
    models = _models()
    if not isinstance(name, str) or name not in models:
        nearest = suggest_name(name) or "; `sepkit-model list` shows them all"
        raise ValueError(f"name must be a published model's, got {show(name)}{nearest}")
    return models[name]


def describe_entry(model: RegisteredModel) -> list[str]:
    """Describe a published model as its sources do: lines of a name and a text, licence and addresses among them."""
    what = f"{model.architecture}: {', '.join(model.stems)}"
    licence = f"{NOT_STATED} for the weights, which is no permission" if model.licence == NOT_STATED else model.licence
    addresses = [row.weights_url for row in model.files] + [model.config_url] * bool(model.config_url)
    return [
        f"{name:<10} {text}"
        for name, text in [
            ("name", model.name),
            ("network", what),
            ("size", format_size(model.size)),
            ("licence", licence),
            ("score", model.score_text + (f", by {model.score_from}" if model.score_from else "") or NOT_STATED),
            *(("address", address) for address in addresses),
            ("listed in", ", ".join(model.listed_in)),
            *(("note", f"{row.name}: {row.notes}" if model.members else row.notes) for row in model.files if row.notes),
        ]
        if text
    ]


def suggest_name(name: object) -> str:
    """Return "; did you mean '...'?" with the nearest names of published models, or "" where none is near.

    Args:
        name: what was written, which may be a part of a name.
    """
    models, part = _models(), str(name).casefold()
    whole = [model for model in models if model.rpartition("/")[2].casefold() == part]
    holding = whole or [model for model in models if len(part) > 2 and part in model.casefold()]
    if not holding:
        return did_you_mean(name, models, cutoff=0.75)  # runs/vocals is none of umxl/vocals
    more = f" or one of {len(holding) - 3} more" if holding[3:] else ""
    return f"; did you mean {', '.join(map(repr, holding[:3]))}{more}?"


def is_registered(name: object) -> bool:
    """Return whether a published model has this name."""
    return name in _models()


def format_models(models: Sequence[RegisteredModel], brought: Collection[str] = (), width: int | None = None) -> str:
    """Format models as a table.

    Args:
        models: a row each.
        brought: names of those that were fetched, which get a "*".
        width: columns of the terminal, in which stems and score stand below the rest; None: a line a model, however
            long, for programs that read lines.
    """
    head = ("  name", "architecture", "size", "licence", "stems", "score [metric, data set]")
    rows = [
        (
            f"{'*' if model.name in brought else ' '} {model.name}",
            model.architecture,
            format_size(model.size),
            model.licence,
            ", ".join(model.stems),
            model.score_text or f"score {NOT_STATED}",
        )
        for model in models
    ]
    if width is None:
        return "\n".join(_align([head, *rows]))
    column, indents = max(width, 72) - 52, {"initial_indent": _INDENT, "subsequent_indent": _INDENT}
    lines = [_fold(head[:4], column), f"{_INDENT}stems", f"{_INDENT}score [metric, data set]", ""]
    for *first, stems, score in rows:
        lines += [_fold(first, column), *(textwrap.fill(text, width, **indents) for text in (stems, score))]
    return "\n".join(lines)


def terminal_width() -> int:
    """Return the columns of the terminal, no more than can be read."""
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


def format_size(size: int | None) -> str:
    """Format a number of bytes; None is not stated."""
    if size is None:
        return NOT_STATED
    return disk.format_size(size)


def _fold(cells: Sequence[str], column: int) -> str:
    """Write a row of the table, what is right of a name longer than its column on the next line."""
    name, architecture, size, licence = cells
    right = f"{architecture:20} {size:>10}  {licence}"
    return f"{name:{column}} {right}" if len(name) <= column else f"{name}\n{'':{column}} {right}"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip() for row in rows]


def _check_known(kind: str, value: str, models: Iterable[RegisteredModel]) -> None:
    known = {choice.casefold(): choice for model in models for choice in _choices(kind, model)}
    if not isinstance(value, str) or value.casefold() not in known:
        nearest = did_you_mean(value, known.values()) or f": choose of {', '.join(sorted(known.values()))}"
        raise ValueError(f"{kind} must be one that a published model has, got {show(value)}{nearest}")


def _choices(kind: str, model: RegisteredModel) -> tuple[str, ...]:
    architectures = (model.architecture, model.architecture.partition(" (")[0])
    return {"stem": model.stems, "architecture": architectures, "licence": (model.licence,)}[kind]


def _folded(kind: str, model: RegisteredModel) -> set[str]:
    return {choice.casefold() for choice in _choices(kind, model)}


def _is_named_by_hash(listed_in: Collection[str]) -> bool:
    """Return whether the files of these registries end in the first 8 digits of their sha256."""
    return bool({"demucs", "openunmix"} & {*listed_in})


@cache
def _models() -> dict[str, RegisteredModel]:
    with (files("sepkit") / "registry.csv").open(encoding="utf-8", newline="") as file:
        rows = [_read_row(row) for row in csv.DictReader(file)]
    members = {bag: tuple(row for row in rows if row.name.startswith(f"{bag}/")) for bag in BAGS}
    models: dict[str, RegisteredModel] = {}
    for row in rows:
        bag = row.name.partition("/")[0]
        if bag in members and bag not in models:
            models[bag] = _join(bag, members[bag])
        models[row.name] = row
    return models


def _read_row(row: dict[str, str]) -> RegisteredModel:
    """Read a row; its columns `spec` and `sha256_from` are for those who keep the file."""
    copied = ("name", "architecture", "file", "weights_url", "config_file", "config_url", "sha256", "licence", "notes")
    copied += ("score", "score_metric", "score_dataset", "score_from")
    return RegisteredModel(
        **{key: row[key] for key in copied},
        stems=tuple(row["stems"].split("|")),
        size=int(row["size_bytes"]) if row["size_bytes"] else None,
        listed_in=tuple(row["listed_in"].split("|")),
    )


def _join(name: str, members: tuple[RegisteredModel, ...]) -> RegisteredModel:
    """Make the row of a bag; a part of the score is what a member's source states for it."""
    sizes = [member.size for member in members]
    architectures = dict.fromkeys(member.architecture for member in members)
    return replace(
        members[0],
        name=name,
        architecture="+".join(architectures),
        stems=tuple(dict.fromkeys(stem for member in members for stem in member.stems)),
        file="",
        weights_url="",
        sha256="",
        size=None if None in sizes else sum(sizes),
        score="; ".join(member.score for member in members if member.score),
        notes=f"bag of {len(members)}: {', '.join(member.name for member in members)}",
        members=members,
    )
