"""Slakh2100: `<split>/TrackNNNNN/{mix.flac,metadata.yaml,stems/SNN.flac}`; stems are called by class of instrument."""

import re
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import Any

from sepkit.datasets.findings import Severity
from sepkit.datasets.layouts.listing import Found, audio_in, folders_in, is_text, read_description, split_folders
from sepkit.datasets.manifest import Row

TITLE = "Slakh"
_FILE = "metadata.yaml"


def recognize(root: Path) -> bool:
    """Return whether a root has this layout: the first tracks have `metadata.yaml` and `stems/`."""
    for folder in split_folders(root).values() or (root,):
        for place in islice(folders_in(folder), 3):
            if (place / _FILE).is_file() and (place / "stems").is_dir():
                return True
    return False


def find(root: Path, splits: Collection[str]) -> Found:
    """Find its rows; without folders of splits all tracks are train."""
    found, places = Found(), split_folders(root) or {"train": root}
    for split in (split for split in places if split in splits):
        for place in folders_in(places[split]):
            if (place / _FILE).is_file():
                _add_track(found, place, split)
            else:
                found.pass_over(place, f"is not read: it has no {_FILE}", "get the track again", Severity.WARNING)
    return found


def stem_name(instrument: str) -> str:
    """Return the name of a stem of a class of instruments: "Strings (continued)" is `strings_continued`."""
    return re.sub(r"\W+", "_", instrument.casefold()).strip("_")


def _add_track(found: Found, place: Path, split: str) -> None:
    description, why = read_description(place / _FILE)
    stems = description.get("stems") if isinstance(description, dict) else None
    if not isinstance(stems, dict):
        reason = why or "it lists no stems"
        found.pass_over(place / _FILE, f"cannot be used: {reason}", "get the track again, or remove it", Severity.ERROR)
        return
    files: dict[str, Path] = {}
    for path in audio_in(place / "stems") if (place / "stems").is_dir() else ():
        if files.setdefault(path.stem, path) != path:
            what = f"there is another file for the stem {path.stem!r}"
            found.pass_over(path, what, "keep one", Severity.ERROR)
    found.rows += [
        Row(path, "mixture", place.name, split) for path in audio_in(place) if path.stem in ("mix", "mixture")
    ]
    for key, stem in stems.items():
        path = files.pop(str(key), None)
        if path is None and not _is_rendered(stem):
            continue
        if path is None:
            what = place / "stems" / f"{key}.flac"
            found.pass_over(what, "is listed and is not there", "get the track again, or remove it", Severity.ERROR)
        elif not is_text(stem.get("inst_class") if isinstance(stem, dict) else None) or not stem_name(
            stem["inst_class"]
        ):
            remedy = "add its inst_class, or remove it"
            found.pass_over(path, f"is of no class of instruments by {_FILE}", remedy, Severity.ERROR)
        else:
            found.rows.append(Row(path, stem_name(stem["inst_class"]), place.name, split))
    for path in files.values():
        found.pass_over(path, f"is not read: {_FILE} does not list it")


def _is_rendered(stem: Any) -> bool:
    """Return whether a stem has a file: some of the MIDI's instruments were not rendered."""
    return not isinstance(stem, dict) or stem.get("audio_rendered") is not False
