"""What lies beside what an adapter found: second files of a stem, audio where none is read, links to nothing."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from sepkit.datasets.findings import Severity
from sepkit.datasets.layouts.listing import SPLIT_FOLDERS, Found, audio_entries, leads_nowhere, scan

_DEPTH = 5  # of folders that are looked through


def tell_doubles(found: Found, summed: bool) -> None:
    """Add an error for each file that is another one for a stem of a track.

    Args:
        found: by an adapter.
        summed: whether a stem, the mixture apart, is the sum of its files; then those that differ in suffix alone.
    """
    seen: set[tuple[str, ...]] = set()
    for row in found.rows:
        key = (row.split, row.track, row.stem)
        if row.sound[1] or (summed and row.stem != "mixture"):
            key = (*key, os.path.splitext(row.path)[0])
        if key in seen:
            found.pass_over(row.path, f"there is another file for the stem {row.stem!r}", "keep one", Severity.ERROR)
        seen.add(key)


def tell_unread(found: Found, root: Path, splits: Collection[str]) -> None:
    """Add a warning for each folder with audio of which none is read, and for each link to what is not there.

    Args:
        found: by an adapter; what its findings name is told already.
        root: of the set.
        splits: which were looked for.
    """
    told = {str(finding.file) for finding in found.findings}
    known = told | {os.path.dirname(name) for name in told} | {os.path.dirname(row.path) for row in found.rows}
    others = {name for split, names in SPLIT_FOLDERS.items() if split not in splits for name in names}
    for folder, entries in _walk(str(root), told, others, _DEPTH):
        if folder not in known and audio_entries(entries):
            remedy = "lay it out as the others, or remove it"
            found.pass_over(Path(folder), "holds audio that is not read", remedy, Severity.WARNING)
        for entry in entries:
            if leads_nowhere(entry) and entry.path not in told:
                remedy = "bring that back, or remove the link"
                found.pass_over(Path(entry.path), "is a link to what is not there", remedy, Severity.WARNING)


def _walk(folder: str, told: Collection[str], others: Collection[str], depth: int) -> Iterator[tuple[str, list]]:
    """Yield folders with their entries, without those that are told and those of other splits."""
    entries = scan(folder)
    yield folder, entries
    for entry in entries if depth else ():
        if entry.is_dir() and entry.path not in told and entry.name.casefold() not in others:
            yield from _walk(entry.path, told, others, depth - 1)
