"""Song folders: `{train,valid,test}/<song>/<stem>.wav`, or the songs alone; or a `.stem.mp4` each, as in MUSDB18."""

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from sepkit import audio
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.layouts.listing import SPLIT_FOLDERS, Found, audio_below, audio_entries, audio_in, scan, visible
from sepkit.datasets.manifest import SPLITS, Row
from sepkit.datasets.musdb.stem_files import STREAMS, is_stem_file, song_name
from sepkit.datasets.roles import missing_part, sort_stems

TITLE = "song folders"
_PARTS = {
    "vocals", "drums", "bass", "other", "guitar", "piano", "keys", "speech", "music", "sfx", "effects", "noise",
    "s1", "s2", "s3", "s4",
}  # fmt: skip


def recognize(root: Path) -> bool:
    """Return whether a root may have this layout: it is taken for what no other layout fits."""
    return root.is_dir()


def find(root: Path, splits: Collection[str] = SPLITS, targets: Sequence[str] = (), required: bool = False) -> Found:
    """Find its rows.

    Args:
        root: the folder.
        splits: that are wanted.
        targets: stems that are wanted: by them a folder of songs is told from a song.
        required: refuse splits that cannot be had.

    Raises:
        DatasetError: a folder is called almost as a split, or holds no songs, or a required split is not there.
    """
    present = [name for name in SPLITS if (root / name).is_dir()]
    misnamed = [
        f"the folder {folder.name}/ is not read; name it {name}/ ({_expected(root, name, *targets[:1])})"
        for folder, name in _misnamed(root, present)
    ]
    if misnamed:
        raise DatasetError(root, misnamed)
    found = Found()
    for split in _sources_of(root, splits, present, required):
        folder = root / split if present else root
        for place in _sort_places(found, root, _songs_in(found, root, folder), targets):
            add_song(found, place, split)
    return found


def _sources_of(root: Path, splits: Collection[str], present: Sequence[str], required: bool) -> list[str]:
    """List the splits to read: train for valid, too, where that is to be taken from it."""
    for split in splits if required else ():
        in_train = split != "test" and (not present or "train" in present)
        if split not in present and not in_train:
            wanted, there = "test" if split == "test" else "train", ", ".join(present)
            raise DatasetError(
                root, [f"there is no folder {wanted}/ (found: {there or 'songs, which count as train'})"]
            )
    from_train = {"valid"} & set(splits) - set(present) and {"train"}
    return [name for name in present or ["train"] if name in {*splits, *from_train}]


def _misnamed(root: Path, present: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Find folders that are called almost as a split that is not there, and how that is called."""
    for folder in visible(root):
        for name, others in SPLIT_FOLDERS.items():
            called = name not in present and folder.name.casefold() in others and folder.is_dir()
            if called and (present or not audio_in(folder)):
                yield folder, name


def _expected(root: Path, split: str = "train", stem: str = "vocals") -> str:
    return f"wanted is {root / split}/<song>/{stem}.wav"


def _songs_in(found: Found, root: Path, folder: Path) -> list[Path]:
    entries = scan(folder)
    places = [folder / entry.name for entry in entries if entry.is_dir() or is_stem_file(folder / entry.name)]
    loose = [folder / entry.name for entry in entries if audio.is_audio_name(entry.name)]
    loose = [path for path in loose if path not in places]
    if not places and loose:
        raise DatasetError(
            root, [f"{folder} holds audio and no folders of songs: put each song's stems into one; {_expected(root)}"]
        )
    if not places:
        raise DatasetError(root, [f"{folder} holds no songs; a song is a folder of stems, or a .stem.mp4"])
    if loose:
        message = f"{_first(loose)} not read: it lies in no folder of a song"
        found.findings.append(Finding(Severity.WARNING, "layout", message, loose[0]))
    return places


def _first(paths: Sequence[Path]) -> str:
    """Name the first of some, and count the others."""
    return f"{paths[0]} is" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more are"


def _sort_places(found: Found, root: Path, places: Sequence[Path], targets: Sequence[str]) -> list[Path]:
    """Split songs from what was taken for one by mistake, and describe that, each kind in a sentence."""
    songs, deep, of_stems, expected = [], [], [], _expected(root, "train", *targets[:1])
    for place in places:
        held = None if is_stem_file(place) else {os.path.splitext(each.name)[0] for each in audio_entries(scan(place))}
        if held is None or (held & set(targets)):
            songs.append(place)
        elif not (held and not targets) and next(audio_below(place), None):
            deep.append(place)
        elif not held:
            what = "holds no audio and counts as a song"
            found.pass_over(place, what, "remove it", Severity.ERROR)
        elif _is_stem_folder(place, held, targets):
            of_stems.append(place)
        else:
            songs.append(place)
    if deep:
        inner = next(audio_below(deep[0]))
        is_root = any((deep[0] / split).is_dir() for split in SPLITS)
        remedy = f"give {deep[0]} as the root" if is_root else expected
        message = f"{_first(deep)} taken for a song, and its stems lie deeper, as {inner}"
        found.findings.append(Finding(Severity.ERROR, "layout", message, deep[0], remedy=remedy))
    if of_stems:
        message = f"{_first(of_stems)} taken for a song, by the name of a stem: a folder is wanted for each song, not "
        remedy = f"{expected}; set data.layout: stem_folders where files of different folders do not belong together"
        found.findings.append(Finding(Severity.ERROR, "layout", f"{message}for each stem", of_stems[0], remedy=remedy))
    return songs


def _is_stem_folder(folder: Path, held: set[str], targets: Sequence[str]) -> bool:
    """Return whether a folder holds one stem of many songs: it is named as a stem, and has none of the targets."""
    name = folder.name.casefold()
    called = name in _PARTS or folder.name in targets or not sort_stems([name]).parts or missing_part(name)
    return bool(called) and not held & {*targets, *_PARTS}


def add_song(found: Found, place: Path, split: str) -> None:
    """Add the stems of a song, one file each.

    Args:
        found: to which they are added.
        place: folder of the song, or its `.stem.mp4`.
        split: of the song.
    """
    name = song_name(place)
    if is_stem_file(place):
        found.rows += [Row(place, stem, name, split) for stem in sorted(STREAMS)]
        return
    entries = scan(place)
    found.rows += [
        Row(place / entry.name, os.path.splitext(entry.name)[0], name, split) for entry in audio_entries(entries)
    ]
    for entry in entries:
        if entry.is_dir() and (inner := audio_in(place / entry.name)):
            message = f"{_first(inner)} not read: a stem lies in the folder of its song itself"
            found.findings.append(Finding(Severity.WARNING, "layout", message, inner[0], remedy=f"move it to {place}"))
