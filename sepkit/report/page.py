"""The frame of a report: one HTML file that needs nothing but itself."""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import NamedTuple

from sepkit import __version__
from sepkit.files import atomic_file, readable
from sepkit.report.style import SCRIPT, STYLE

Cell = str | float | tuple[float, float, float]
_EXACT = 100  # dB, above which a score says no more than that rounding is left
_UNITS = "s|min|h|dB|MB|GB|Hz|M|cores|minutes"
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Tile(NamedTuple):
    """One of the figures that a reader looks for first; what is added stands small below the value."""

    label: str
    value: str
    note: str = ""


class Section(NamedTuple):
    """A part of a report: its heading, and its content in HTML."""

    title: str
    content: str


def text(value: object) -> str:
    """Write anything so that HTML shows it as it is."""
    return escape(str(value))


def paragraph(sentence: str, kind: str = "") -> str:
    """Write a paragraph.

    Args:
        sentence: plain text, of any number of lines.
        kind: class in the style sheet.
    """
    return f"<p{_of_class(kind)}>{_with_units(' '.join(sentence.split()))}</p>"


def _with_units(value: object) -> str:
    """Write anything as HTML whose lines break neither between a number and its unit nor, if need be, inside a word.

    Rather than there they break before the argument of a call, and before the next part of a path.
    """
    joined = re.sub(rf"(?<=\d) (?=(?:{_UNITS})\b|%)", "\u00a0", str(value))
    return re.sub(r"(?<=\w[(/])(?=\w)", "<wbr>", text(joined))


def facts(pairs: Mapping[str, object]) -> str:
    """List names and values side by side; None and empty ones are left out."""
    known = {name: value for name, value in pairs.items() if value not in (None, "")}
    pairs = ((_with_units(name), _with_units(value)) for name, value in known.items())
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def folded(summary: str, content: str, opened: bool = False) -> str:
    """Put content behind a line that opens it.

    Args:
        summary: the line, plain text.
        content: HTML.
        opened: show the content at first.
    """
    return f"<details{' open' if opened else ''}><summary>{text(summary)}</summary>{content}</details>"


def grid(parts: Iterable[str], kind: str = "") -> str:
    """Put HTML side by side as far as there is room."""
    return f'<div class="{f"grid {kind}".strip()}">{"".join(parts)}</div>'


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], signed: bool = False, n_marked: int = 0
) -> str:
    """Lay out a table that scrolls sideways in a box of its own.

    Args:
        caption: plain text.
        columns: heads.
        rows: the first cell of each names the row; numbers may come with both ends of an interval.
        signed: write a plus before positive numbers.
        n_marked: rows, the first ones, that stand out.
    """
    rows = list(rows)
    kinds = ["" if isinstance(cell, str) else "number" for cell in rows[0]] if rows else [""] * len(columns)
    head = "".join(
        f'<th scope="col"{_of_class(kind)}>{text(column)}</th>' for column, kind in zip(columns, kinds, strict=True)
    )
    body = "".join(
        f"<tr{_of_class('own' if place < n_marked else '')}>{''.join(_cells(row, signed))}</tr>"
        for place, row in enumerate(rows)
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[Cell], signed: bool) -> Iterable[str]:
    first, *others = row
    yield f'<th scope="row">{text(first)}</th>'
    for cell in others:
        if isinstance(cell, str):
            yield f"<td>{text(cell)}</td>"
        else:
            yield f'<td class="number">{_number_with_interval(cell, signed)}</td>'


def _number_with_interval(cell: float | tuple[float, float, float], signed: bool) -> str:
    if not isinstance(cell, tuple):
        return number(cell, signed)
    value, low, high = cell
    if math.isnan(low):
        return number(value, signed)
    interval = f"{number(low, signed)} … {number(high, signed)}"
    return f'{number(value, signed)}<span class="interval">{interval}</span>'


def number(value: float, signed: bool = False) -> str:
    """Write a score with two decimals; what does not exist is a dash."""
    if math.isnan(value):
        return "–"
    if abs(value) > _EXACT:
        return f"> {_EXACT}" if value > 0 else f"< −{_EXACT}"
    return f"{round(value, 2) + 0.0:{'+' if signed else ''}.2f}".replace("-", "−")  # + 0.0: no minus before a zero


def duration(seconds: float) -> str:
    """Write a time as a reader would say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(n_bytes: float) -> str:
    """Write a number of bytes."""
    return f"{n_bytes / 2**30:.1f} GB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.1f} MB"


def render(kind: str, title: str, lead: str, tiles: Sequence[Tile], sections: Iterable[Section]) -> str:
    """Make the page.

    Args:
        kind: of report.
        title: plain text.
        lead: a sentence below it.
        tiles: the figures to begin with.
        sections: those without content are left out.
    """
    shown = [section for section in sections if section.content]
    links = "".join(f'<a href="#{_anchor(section)}">{text(section.title)}</a>' for section in shown)
    body = "".join(
        f'<section id="{_anchor(section)}"><h2>{text(section.title)}</h2>{section.content}</section>'
        for section in shown
    )
    written = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{text(title)}: {text(kind.lower())}</title><style>{STYLE}</style></head>\n<body>"
        f"<header>{paragraph(kind, 'kind')}<h1>{text(title)}</h1>{paragraph(lead, 'lead')}{_tiles(tiles)}</header>"
        f'<nav aria-label="Sections">{links}</nav>\n<main>{body}</main>\n'
        f"<footer><p>sepkit {text(__version__)}, {written}</p></footer><script>{SCRIPT}</script></body></html>\n"
    )


def _tiles(tiles: Sequence[Tile]) -> str:
    shown = "".join(
        f"<div><dt>{text(tile.label)}</dt><dd>{_with_units(tile.value)}<small>{_with_units(tile.note)}</small></dd></div>"
        for tile in tiles
    )
    return f'<dl class="tiles">{shown}</dl>' if shown else ""


def _anchor(section: Section) -> str:
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in section.title.lower()).split())


def _of_class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def write_page(path: str | os.PathLike, page: str) -> Path:
    """Write a page; a reader finds the old one or the new one, never half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable=False) as temporary:
        temporary.write_text(readable(page), encoding="utf-8")
    return path
