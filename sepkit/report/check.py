"""The page of a check of songs: what is wrong, where, and what to do."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from sepkit.datasets.checking import SoundCheck
from sepkit.datasets.findings import Finding, Severity
from sepkit.files import in_a_line
from sepkit.plots import new_figure
from sepkit.report.media import drawing, picture
from sepkit.report.page import Section, Table, Tile, build_section, duration, write_page

_TITLES = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.NOTE: "Notes"}
_MOST = 2000  # rows of a table
_OPEN = 20  # rows, up to which a table is open
_BAR = 0.3  # inches of a bar


def report_check(path: str | os.PathLike, name: str, findings: Sequence[Finding], found: SoundCheck) -> Path:
    """Write the page of a check.

    Args:
        path: the file.
        name: of what was checked.
        findings: the worst first.
        found: what was read.

    Returns:
        The file.
    """
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in _TITLES}
    tiles = [
        Tile("songs", str(found.n_songs), duration(3600 * found.hours)),
        *(Tile(title.lower(), str(counts[severity])) for severity, title in _TITLES.items()),
    ]
    lead = "Every file was read from its beginning to its end."
    if not findings:
        lead += " Nothing was found."
    sections = [*(_list_findings(severity, findings, name) for severity in _TITLES), _describe_activity(found.activity)]
    return write_page(path, "Check of songs", name, lead, tiles, sections)


def _list_findings(severity: Severity, findings: Sequence[Finding], name: str) -> Section:
    """List the findings of a severity, a table for each kind."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == severity:
            kinds.setdefault(finding.kind, []).append(finding)
    if not kinds:
        return Section(_TITLES[severity], "")
    tables = {f"{kind} ({len(some)})": _table(kind, some, name) for kind, some in kinds.items()}
    notes = [f"Only the first {_MOST} of {kind} are listed." for kind, some in kinds.items() if len(some) > _MOST]
    return build_section(_TITLES[severity], "check", tables=tables, most_open=_OPEN, notes=notes)


def _table(kind: str, findings: Sequence[Finding], name: str) -> tuple[Table, str]:
    """List findings of a kind; what is to be done with all of them stands below."""
    some = findings[:_MOST]
    remedies = {finding.remedy for finding in some}
    columns = {
        "file": [in_a_line(shorten_path(finding.file, name)) for finding in some],
        "position": ["" if finding.position is None else f"{finding.position:.1f} s" for finding in some],
        "what": [in_a_line(finding.message) for finding in some],
        "what to do": [finding.remedy for finding in some],
    }
    columns = {head: cells for head, cells in columns.items() if any(cells)}
    note = f"What to do: {columns.pop('what to do')[0]}." if len(remedies) == 1 and any(remedies) else ""
    return Table(kind, list(columns), list(zip(*columns.values(), strict=True))), note


def shorten_path(file: Path | None, root: str) -> str:
    """Name a file from a root on, where it lies in that; of the built-in songs, from the folder of a split on.

    Args:
        file: which; None: all.
        root: the folder.
    """
    if file is None:
        return "all"
    try:
        return str(file.absolute().relative_to(Path(root).absolute()))
    except ValueError:
        return str(Path(*file.parts[-3:])) if root == "demo" else str(file)


def _describe_activity(activity: Mapping[tuple[str, str], tuple[float, float, int]]) -> Section:
    """Draw how many hours stems sound, and list them."""
    if not activity:
        return Section("Hours of activity", "")
    rows = [
        (stem, split, str(songs), total, sounding, f"{sounding / max(total, 1e-9):.0%}")
        for (split, stem), (sounding, total, songs) in activity.items()
    ]
    columns = ("stem", "split", "songs", "hours", "hours sounding", "share")
    table = Table("A stem sounds in 100 ms that are above -60 dB re full scale.", columns, rows)
    return build_section(
        "Hours of activity", "check", tables={"": (table, "")}, most_open=0, notes=[], svg=_draw(activity)
    )


def _draw(activity: Mapping[tuple[str, str], tuple[float, float, int]]) -> str:
    """Draw a bar for each stem of each split: all of it, and in it what sounds."""
    names = [f"{split} {stem}" for split, stem in activity]
    unit, factor = ("h", 1.0) if max(total for _, total, _ in activity.values()) >= 1 else ("min", 60.0)
    with drawing():
        figure = new_figure(7.2, 0.8 + _BAR * len(names))
        axes = figure.subplots()
        totals = [factor * total for _, total, _ in activity.values()]
        axes.barh(names, totals, height=0.7, color="tab:gray", alpha=0.3, label="all")
        sounding = [factor * hours for hours, _, _ in activity.values()]
        axes.barh(names, sounding, height=0.7, color="tab:blue", label="sounding")
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        return picture(figure, "hours in which stems sound, by split")
