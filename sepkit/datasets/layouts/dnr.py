"""DnR v2 and v3: `<split>/<n>/{mix,speech,music,sfx}.wav`, in v3 a root for each language."""

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from sepkit.datasets.layouts.listing import Found, audio_in, folders_in, split_folders
from sepkit.datasets.manifest import Row

TITLE = "DnR"
STEMS = ("speech", "music", "sfx")
_MIXTURES = ("mix", "mixture")


def _variants(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the folders that hold splits, and what precedes the names of their tracks: nothing, or the language."""
    if split_folders(root):
        yield "", root
    else:
        yield from ((f"{folder.name}/", folder) for folder in folders_in(root) if split_folders(folder))


def recognize(root: Path) -> bool:
    """Return whether a root has this layout: one of the first tracks holds speech, music and effects, and no other."""
    for _, variant in _variants(root):
        for folder in split_folders(variant).values():
            for place in islice(folders_in(folder), 3):
                names = {path.stem.casefold() for path in audio_in(place)}
                if names >= set(STEMS) and names <= {*STEMS, *_MIXTURES}:
                    return True
    return False


def find(root: Path, splits: Collection[str]) -> Found:
    """Find its rows."""
    found = Found()
    for prefix, variant in _variants(root):
        for split, folder in split_folders(variant).items():
            for place in folders_in(folder) if split in splits else ():
                for path in audio_in(place):
                    name = path.stem.casefold()
                    stem = "mixture" if name in _MIXTURES else name
                    found.rows.append(Row(path, stem, prefix + place.name, split))
                if not audio_in(place):
                    found.pass_over(place, "is not read: it holds no audio")
    return found
