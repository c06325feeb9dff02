"""The frame of a report: one HTML file that needs nothing but itself."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sepkit import __version__
from sepkit.arguments import check_path
from sepkit.files import atomic_file, readable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

FILE = "report.html"
Cell = str | float | tuple[float, float, float]  # of a table: words, a number, or one with its interval
_EXACT = 100  # dB, beyond which a score is rounding error
_UNITS = "s|min|h|dB|MB|GB|Hz|M|cores|minutes"


class Tile(NamedTuple):
    """One of the main figures of a report; the note stands small below the value."""

    label: str
    value: str
    note: str = ""


class Table(NamedTuple):
    """A table.

    Attributes:
        caption: above it.
        columns: heads.
        rows: the first cell of each names the row.
        n_marked: rows, the first ones, that stand out.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    n_marked: int = 0


class Section(NamedTuple):
    """A part of a report: its heading, and its content in HTML."""

    title: str
    content: str


def build_section(title: str, template: str, **values: object) -> Section:
    """Build a section from a template.

    Args:
        title: heading.
        template: name of a file in `templates/`, without its ending.
        **values: what the template names.
    """
    return Section(title, _templates().get_template(f"{template}.html.j2").render(values))


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": number, "units": _join_units}
    environment.tests["known"] = lambda value: value not in (None, "")
    return environment


def _join_units(value: object) -> "Markup":
    """Keep lines from breaking between a number and its unit.

    Long words break before the argument of a call and before the next part of a path.
    """
    from markupsafe import Markup, escape

    joined = re.sub(rf"(?<=\d) (?=(?:{_UNITS})\b|%)", "\u00a0", str(value))
    return Markup(re.sub(r"(?<=\w[(/])(?=\w)", "<wbr>", str(escape(joined))))


def number(value: float, signed: bool = False) -> str:
    """Format a score with two decimals; a missing one is a dash."""
    if math.isnan(value):
        return "–"
    if abs(value) > _EXACT:
        return f"> {_EXACT}" if value > 0 else f"< −{_EXACT}"
    return f"{round(value, 2) + 0.0:{'+' if signed else ''}.2f}".replace("-", "−")  # + 0.0: no minus before a zero


def duration(seconds: float) -> str:
    """Format a time in hours, minutes and seconds."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def check_page(output: str | os.PathLike) -> None:
    """Check that a page can have a path, before what is shown on it is made.

    Raises:
        ValueError: it is empty, or a folder.
    """
    check_path(output, "output")
    if Path(output).is_dir():
        raise ValueError(f"output must be a file for the page, got the folder {str(output) or '.'}: add its name")


def write_page(
    path: str | os.PathLike, kind: str, title: str, lead: str, tiles: Sequence[Tile], sections: Iterable[Section]
) -> Path:
    """Write a page; a reader finds the old one or the new one, never half of it.

    Args:
        path: the file.
        kind: of report.
        title: heading.
        lead: a sentence below it.
        tiles: the main figures.
        sections: those without content are left out.
    """
    page = _templates().get_template("report.html.j2")
    written = page.render(
        kind=kind,
        title=title,
        lead=lead,
        tiles=tiles,
        sections=[section for section in sections if section.content],
        version=__version__,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable=False) as temporary:
        temporary.write_text(readable(written), encoding="utf-8")
    return path
