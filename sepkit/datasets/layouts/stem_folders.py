"""Stem folders: `<stem>/*.wav`, whose files do not belong together; each is a track with one stem, for remixing."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from sepkit.datasets.layouts.listing import SPLIT_FOLDERS, Found, audio_in, folders_in, split_folders
from sepkit.datasets.layouts.song_folders import add_song
from sepkit.datasets.manifest import Row
from sepkit.datasets.roles import sort_stems

TITLE = "stem folders"
_NAMES = {
    "accompaniment", "bass", "brass", "choir", "drums", "effects", "guitar", "guitars", "instrumental", "instruments",
    "keys", "lead", "music", "noise",
    "other", "others", "percussion", "piano", "sfx", "speech", "strings", "synth", "vocal", "vocals", "voice", "wind",
    "woodwind",
}  # fmt: skip
_BESIDE = ("metadata", "logs", "docs", "mixture", "mixtures", "mix")
_SPLITS = {name: split for split, names in SPLIT_FOLDERS.items() for name in names}


def _stem_folders(folder: Path) -> list[Path]:
    """List the folders of stems in a folder; none where anything but splits lies beside them."""
    places = []
    for place in folders_in(folder):
        if place.name.casefold() not in (*_BESIDE, *_SPLITS):
            if not _is_stem_folder(place):
                return []
            places.append(place)
    return places


def _is_stem_folder(folder: Path) -> bool:
    """Return whether a folder is called like a stem and holds audio that is not."""
    if folder.name.casefold() not in _NAMES:
        return False
    held = {path.stem.casefold() for path in audio_in(folder)}
    return bool(held) and not held & _NAMES


def recognize(root: Path) -> bool:
    """Return whether a root has this layout: folders called like stems, that have no name of a file in common.

    Where they have, the files may be stems of one song: the layout must be stated.
    """
    for _, folder in _folders(root):
        places = _stem_folders(folder)
        if len(places) > 1:
            names = [path.stem for place in places for path in audio_in(place)]
            return len(set(names)) == len(names)
    return False


def find(root: Path, splits: Collection[str]) -> Found:
    """Find its rows; the split is that of the folder around the stems, or stands in the file's name, else train."""
    found = Found()
    for split, folder in _folders(root):
        if split and _holds_songs(folder):
            for place in folders_in(folder) if split in splits else ():
                add_song(found, place, split)
            continue
        places = [place for place in folders_in(folder) if split or place.name.casefold() not in _SPLITS]
        parts = sort_stems(place.name for place in places).parts
        for place in places:
            if place.name.casefold() in _BESIDE or place.name not in parts:
                found.pass_over(place, "is not read: what it is called is no stem")
                continue
            files = audio_in(place)
            if not files and split in splits:
                found.pass_over(place, "is not read: it holds no audio")
            for path in files:
                named = split or _named_split(path.stem, place.name)
                if named in splits:
                    found.rows.append(Row(path, place.name, f"{place.name}/{path.name}", named))
    return found


def _holds_songs(folder: Path) -> bool:
    """Return whether the folders in a folder are songs, by the names of their files, as those to validate on may be."""
    return any(path.stem.casefold() in _NAMES for place in folders_in(folder) for path in audio_in(place))


def _folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the folders around those of stems, with their split; "": it stands in the names of the files.

    Those to train on may lie in the root itself, beside the folders of other splits.
    """
    splits = split_folders(root)
    yield from splits.items()
    if "train" not in splits:
        yield "", root


def _named_split(name: str, stem: str) -> str:
    """Return the split in a name such as `vocals_train_0001_Artist_Title`; train where there is none."""
    found = re.match(rf"{re.escape(stem)}_([a-z]+)_\d+", name, re.IGNORECASE)
    return _SPLITS.get(found[1].casefold(), "train") if found else "train"
