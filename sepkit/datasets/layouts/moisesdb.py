"""MoisesDB: `<provider>/<track>/data.json`, and a folder a stem with its takes, whose sum the stem is."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sepkit.datasets.findings import Severity
from sepkit.datasets.layouts.listing import Found, audio_in, folders_in, is_text, read_description, unique_names
from sepkit.datasets.manifest import Row

TITLE = "MoisesDB"
_FILE = "data.json"


def _tracks(root: Path) -> list[Path]:
    """List the folders with a `data.json`, one or two folders down."""
    return [
        place for outer in folders_in(root) for place in ([outer] if (outer / _FILE).is_file() else _described(outer))
    ]


def _described(folder: Path) -> list[Path]:
    return [place for place in folders_in(folder) if (place / _FILE).is_file()]


def recognize(root: Path) -> bool:
    """Return whether a root has this layout: a description names stems and their takes."""
    return any(_lists_stems(read_description(place / _FILE)[0]) for place in _tracks(root))


def _lists_stems(description: Any) -> bool:
    return isinstance(description, dict) and isinstance(description.get("stems"), list)


def find(root: Path, splits: Collection[str]) -> Found:
    """Find its rows: all tracks are train, because the set has no splits."""
    found = Found()
    if "train" not in splits:
        return found
    read: list[tuple[Path, dict[str, Any]]] = []
    for place in _tracks(root):
        description, why = read_description(place / _FILE)
        if _lists_stems(description):
            read.append((place, description))
        else:
            reason = why or "it lists no stems"
            found.pass_over(
                place / _FILE, f"cannot be used: {reason}", "get the track again, or remove it", Severity.ERROR
            )
    names = unique_names([_title(place, description) for place, description in read], [place.name for place, _ in read])
    for name, (place, description) in zip(names, read, strict=True):
        for stem in description["stems"]:
            _add_stem(found, place, name, stem)
    return found


def _title(place: Path, description: dict[str, Any]) -> str:
    parts = [description.get("artist"), description.get("song")]
    return " - ".join(part.strip() for part in parts if is_text(part)) or place.name


def _add_stem(found: Found, place: Path, track: str, stem: Any) -> None:
    """Add the takes of a stem, as the description lists them; what lies beside them is told."""
    if not isinstance(stem, dict) or not is_text(stem.get("stemName")) or not isinstance(stem.get("tracks"), list):
        remedy = "get the track again, or remove it"
        found.pass_over(place / _FILE, "describes a stem without stemName and tracks", remedy, Severity.ERROR)
        return
    folder = place / stem["stemName"]
    listed = []
    for take in stem["tracks"]:
        known = isinstance(take, dict) and is_text(take.get("id"))
        path = folder / f"{take['id']}.{str(take.get('extension', 'wav')).lstrip('.')}" if known else None
        if path is None or not os.path.isfile(path):
            what = path or place / _FILE
            found.pass_over(what, "is listed and is not there", "get the track again, or remove it", Severity.ERROR)
        elif path not in listed:
            listed.append(path)
    found.rows += [Row(path, stem["stemName"], track, "train") for path in listed]
    for path in audio_in(folder) if folder.is_dir() else ():
        if path not in listed:
            found.pass_over(path, f"is not read: {_FILE} does not list it")
