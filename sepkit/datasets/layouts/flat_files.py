"""Flat files: stems of all songs in one folder, `<song>_(<stem>).wav`, `<song>_<stem>.wav`, `<song> - <stem>.wav`."""

import re
from collections.abc import Collection
from pathlib import Path

from sepkit.datasets.findings import Severity
from sepkit.datasets.layouts.listing import Found, audio_in, folders_in, split_folders
from sepkit.datasets.manifest import Row
from sepkit.datasets.roles import is_mixture, is_sum, untag

TITLE = "flat files"
_WORD = re.compile(r"[^\W_]+")
_STEMS = {
    "bass", "bgvox", "choir", "drum", "drums", "effects", "guitar", "guitars", "keys", "music", "other", "others",
    "percussion", "piano", "sfx", "speech", "strings", "synth", "vocal", "vocals", "voice", "vox", "backing_vocals",
    "lead_vocals", "wind",
}  # fmt: skip
_LONGEST = 3  # words of a stem


def split_name(name: str) -> tuple[str, str] | None:
    """Split the name of a file into song and stem; None: it does not end in what is known as a stem."""
    tagged = untag(name)
    if tagged:
        return tagged
    words = list(_WORD.finditer(name))
    for first in words[-_LONGEST:]:
        stem = "_".join(word[0].casefold() for word in words if word.start() >= first.start())
        track = name[: first.start()].rstrip(" -_.([{")
        if track and (stem in _STEMS or is_sum(stem)):
            return track, "mixture" if is_mixture(stem) else stem
    return None


def recognize(root: Path) -> bool:
    """Return whether a root has this layout: files alone, that all end in a stem, and two of them of one song."""
    for folder in split_folders(root).values() or (root,):
        if next(folders_in(folder), None):
            return False
        names = [split_name(path.stem) for path in audio_in(folder)]
        if not names or None in names:
            return False
        return len({track for track, _ in names}) < len(names)
    return False


def find(root: Path, splits: Collection[str]) -> Found:
    """Find its rows; without folders of splits all tracks are train."""
    found = Found()
    for split, folder in (split_folders(root) or {"train": root}).items():
        for path in audio_in(folder) if split in splits else ():
            named = split_name(path.stem)
            if named is None:
                remedy = "name it <song>_<stem>, with a stem such as vocals"
                found.pass_over(path, "is not read: it does not end in a stem", remedy, Severity.WARNING)
            else:
                found.rows.append(Row(path, named[1], named[0], split))
    return found
