"""Open songs by name: fetched from their addresses, checked, laid out as a root with their licences."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from sepkit.datasets.manifest import SPLITS, Manifest, Row
from sepkit.datasets.manifest_files import write_manifest
from sepkit.disk import SPARE, OutputError, format_size, free_space, writing
from sepkit.downloads import download
from sepkit.files import atomic_file, safe_name
from sepkit.locks import locked
from sepkit.problems import did_you_mean, show
from sepkit.terminal import bar_option

MANIFEST, LICENCES = "manifest.csv", "LICENCES"
_REMEDY = "make room, or choose another place with --output; the same command goes on where it stopped"
_HEAD = "Songs of the set {}, as sepkit-data get laid them out"


@dataclass(frozen=True)
class OpenFile:
    """A file of an open song.

    Attributes:
        song: its name.
        stem: what the file holds, as its author calls it.
        role: the stem that it is a part of; all files of a role are summed.
        seconds: of sound.
        size: bytes.
        sha256: hexadecimal.
        licence: under which it is given.
        attribution: whom to name.
        split: "train", "valid" or "test".
        url: its address.
    """

    song: str
    stem: str
    role: str
    seconds: float
    size: int
    sha256: str
    licence: str
    attribution: str
    split: str
    url: str

    @property
    def place(self) -> PurePosixPath:
        """Return where it lies in a root."""
        suffix = PurePosixPath(unquote(urlsplit(self.url).path)).suffix
        return PurePosixPath(self.split, safe_name(self.song), safe_name(self.role), safe_name(self.stem, suffix))


@dataclass(frozen=True)
class SongSet:
    """Open songs that are fetched under one name.

    Attributes:
        name: of the set.
        files: all of them.
    """

    name: str
    files: tuple[OpenFile, ...]

    def songs(self, split: str | None = None) -> list[str]:
        """Name the songs of a split; None: of all."""
        return list(dict.fromkeys(file.song for file in self.files if split in (None, file.split)))

    @property
    def splits(self) -> list[str]:
        """Name the splits that it has songs for."""
        return [split for split in SPLITS if self.songs(split)]


def list_sets() -> list[SongSet]:
    """List the sets of open songs that can be fetched."""
    return list(_sets().values())


def find_set(name: str) -> SongSet:
    """Find a set of open songs by its name.

    Raises:
        ValueError: there is none of this name.
    """
    sets = _sets()
    if name not in sets:
        remedy = did_you_mean(name, sets) or f"; choose of {', '.join(sets)}"
        raise ValueError(f"name must be that of a set of open songs, got {show(name)}{remedy}")
    return sets[name]


def read_sets(text: str) -> dict[str, SongSet]:
    """Read a table of open songs.

    Args:
        text: CSV with the columns set, bytes and those of `OpenFile`.
    """
    grouped: dict[str, list[OpenFile]] = {}
    for row in csv.DictReader(io.StringIO(text, newline="")):
        copied = ("song", "stem", "role", "sha256", "licence", "attribution", "split", "url")
        file = OpenFile(**{name: row[name] for name in copied}, seconds=float(row["seconds"]), size=int(row["bytes"]))
        grouped.setdefault(row["set"], []).append(file)
    return {name: SongSet(name, tuple(listed)) for name, listed in grouped.items()}


@cache
def _sets() -> dict[str, SongSet]:
    return read_sets((files("sepkit") / "songs.csv").read_text(encoding="utf-8"))


def format_sets(sets: Iterable[SongSet]) -> str:
    """Format sets as a table."""
    rows = [("name", "songs", "minutes", "size", "stems", "licence", "by")]
    rows += [
        (
            each.name,
            ", ".join(f"{len(each.songs(split))} {split}" for split in each.splits),
            f"{sum(_durations(each.files).values()) / 60:.0f}",
            _total_size(each.files),
            ", ".join(sorted({file.role for file in each.files})),
            ", ".join(dict.fromkeys(file.licence for file in each.files)),
            "; ".join(dict.fromkeys(file.attribution for file in each.files)),
        )
        for each in sets
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _durations(listed: Iterable[OpenFile]) -> dict[str, float]:
    """Measure songs, in seconds: as long as their longest file."""
    durations: dict[str, float] = {}
    for file in listed:
        durations[file.song] = max(file.seconds, durations.get(file.song, 0.0))
    return durations


def _total_size(listed: Iterable[OpenFile]) -> str:
    return format_size(sum(file.size for file in listed))


def fetch_songs(
    song_set: SongSet,
    root: str | Path | None = None,
    split: str | None = None,
    log: Callable[[str], Any] = print,
    progress: bool = True,
) -> Path:
    """Load a set of open songs into a root: its files, a manifest, and what their licences are.

    What is there and right is not loaded again. The manifest comes last, and lists the songs that are there whole.

    Args:
        song_set: which.
        root: the folder; None: `songs/<name>`.
        split: only songs of "train", "valid" or "test"; None: all.
        log: called with each line meant for the user.
        progress: show a bar, on a terminal.

    Returns:
        The root.

    Raises:
        ValueError: the set has no such songs, or the folder holds something else, or is in use.
        sepkit.downloads.DownloadError: a file cannot be had, or is another one.
        sepkit.disk.OutputError: the disk has no room, or refused.
    """
    root = Path("songs") / song_set.name if root is None else Path(root)
    wanted = [file for file in song_set.files if split in (None, file.split)]
    if not wanted:
        have = ", ".join(song_set.splits)
        raise ValueError(f"split must be one for which {song_set.name} has songs, got {split}; choose of {have}")
    with writing(root, _REMEDY):
        root.mkdir(parents=True, exist_ok=True)
        with locked(root, "wait until it is done"):
            _check_root(root, song_set)
            log(f"{song_set.name}: {len(_durations(wanted))} songs, {len(wanted)} files, {_total_size(wanted)}")
            for licence, attribution in dict.fromkeys((file.licence, file.attribution) for file in wanted):
                log(f"licence    {licence}: {attribution}")
            _load(root, wanted, log, progress)
            _write_lists(root, song_set)
    return root


def _check_root(root: Path, song_set: SongSet) -> None:
    """Refuse a folder that is another root."""
    head, licences = _HEAD.format(song_set.name), root / LICENCES
    try:
        own = licences.read_text(encoding="utf-8").startswith(head)
    except (OSError, UnicodeDecodeError):
        own = False
    for name in (MANIFEST, LICENCES):
        if (root / name).exists() and not own:
            raise ValueError(f"{root} holds other songs, its {name} is not {song_set.name}'s: choose another --output")


def _load(root: Path, wanted: Sequence[OpenFile], log: Callable[[str], Any], progress: bool) -> None:
    """Load the files that are not there."""
    lacking = sum(file.size for file in wanted if not _is_there(root, file))
    free = free_space(root)
    if free is not None and lacking + SPARE > free:
        raise OutputError(
            f"{root} has no room for these songs: {format_size(lacking)} lack and {format_size(free)} are free, "
            f"of which {format_size(SPARE)} are left; {_REMEDY}"
        )
    shown = {"unit": "B", "unit_scale": True, "total": sum(file.size for file in wanted), "leave": False}
    with tqdm(**shown, disable=bar_option(progress)) as bar:
        for file in wanted:
            bar.set_description(f"{file.song}, {file.stem}")
            download(file.url, root / file.place, file.sha256, file.size, log=log, progress=False)
            bar.update(file.size)


def _is_there(root: Path, file: OpenFile) -> bool:
    path = root / file.place
    return path.is_file() and path.stat().st_size == file.size


def _write_lists(root: Path, song_set: SongSet) -> None:
    """Write licences and manifest of the songs that are there whole."""
    lacking = {(file.split, file.song) for file in song_set.files if not _is_there(root, file)}
    there = [file for file in song_set.files if (file.split, file.song) not in lacking]
    with atomic_file(root / LICENCES) as part:
        part.write_text(_describe_licences(song_set.name, there), encoding="utf-8")
    rows = [Row(root.absolute() / file.place, file.role, file.song, file.split, licence=file.licence) for file in there]
    write_manifest(Manifest(root, "manifest", tuple(rows)), root / MANIFEST)


def _describe_licences(name: str, listed: Sequence[OpenFile]) -> str:
    """Write whom each song is by, under which licence, and from where each file was."""
    lines = [f"{_HEAD.format(name)}.", "The licence of a song is that of each of its files."]
    for song in dict.fromkeys(file.song for file in listed):
        own = [file for file in listed if file.song == song]
        lines += ["", f"{song} ({', '.join(dict.fromkeys(file.split for file in own))})"]
        for licence, attribution in dict.fromkeys((file.licence, file.attribution) for file in own):
            lines += [f"  licence: {licence}", f"  attribution: {attribution}"]
        lines += [f"  {file.place}\n    from {file.url}\n    sha256 {file.sha256}" for file in own]
    return "\n".join(lines) + "\n"
