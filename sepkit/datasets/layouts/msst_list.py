"""Lists of Music-Source-Separation-Training: CSV of `instrum,path`, one a split; each row is a track with one stem."""

import csv
import io
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from sepkit import audio
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.layouts.listing import SPLIT_FOLDERS, Found, scan
from sepkit.datasets.manifest import Row

TITLE = "list of stems (instrum,path)"
_COLUMNS = {"instrum", "path"}
_SPLITS = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}


def _lists(root: Path) -> dict[Path, str]:
    """Return the lists of a root and their splits: the root itself, a file, or `train.csv` and the like in it."""
    if root.is_file():
        return {root: _SPLITS.get(root.stem.casefold(), "train")}
    found = [root / entry.name for entry in scan(root) if entry.name.lower().endswith(".csv")]
    return {path: _SPLITS[path.stem.casefold()] for path in found if path.stem.casefold() in _SPLITS}


def _read(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV with the number of their line."""
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
        body = text.lstrip()
        n_before = text[: len(text) - len(body)].count("\n")
        reader = csv.DictReader(io.StringIO(body, newline=""), skipinitialspace=True)
        for row in reader:
            yield n_before + reader.line_num, {_column(name): value for name, value in row.items()}
    except (OSError, csv.Error) as error:
        raise audio.AudioError(f"Cannot read {path}: {error}; save it as CSV.") from error


def _column(name: str | None) -> str:
    return str(name).strip().casefold()


def recognize(root: Path) -> bool:
    """Return whether a root has this layout: its lists begin with `instrum,path`."""
    if root.is_file() and root.suffix.lower() != ".csv":
        return False
    for path in _lists(root):
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = next((line for line in iter(lambda: file.readline(1000), "") if line.strip()), "")
        header = {_column(name.strip().strip('"')) for name in first.split(",")}
        if header >= _COLUMNS:
            return True
    return False


def find(root: Path, splits: Collection[str]) -> Found:
    """Find its rows; relative paths are relative to the folder of the list."""
    found = Found()
    for path, split in _lists(root).items():
        lines: dict[tuple[str, Path], int] = {}
        for number, row in _read(path) if split in splits else ():
            stem, name = (row.get("instrum") or "").strip(), row.get("path") or ""
            place = Path(path.absolute().parent / name)
            fault = "instrum and path must both be there" if not (stem and name) else ""
            if not fault and not os.path.isfile(place):
                fault = f"{name} is not there; relative paths are relative to the list's folder"
            first = lines.setdefault((stem, place), number)
            if not fault and first != number:
                fault = f"{name} is on line {first}, too"
            if fault:
                remedy = "correct it, or remove the line"
                found.findings.append(
                    Finding(Severity.ERROR, "manifest", f"line {number}: {fault}", path, remedy=remedy)
                )
            else:
                found.rows.append(Row(place, stem, f"{stem}/{name}", split))
    return found
