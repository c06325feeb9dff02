"""What the store of decoded files holds: what is slow to read, as far as there is room."""

import os
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sepkit.cache import cache_directory
from sepkit.datasets.songs import Song
from sepkit.datasets.stems import Stem, StemFile
from sepkit.datasets.store import DecodedStore, Entry
from sepkit.datasets.stored_file import Key, count_bytes, make_key
from sepkit.disk import OutputError, format_size, free_space

LIMIT = "SEPKIT_STORE_LIMIT"  # environment variable, GB
DEFAULT_LIMIT = 50.0  # GB
_GB = 1e9  # bytes
_RESERVE = 1e9  # bytes of the disk that are left free, or half of what is free without the entries where that is less
_ABANDONED = 3600.0  # s after which what is half written belongs to a process that died
_NEEDED = "are coded with loss, or converted to another rate, so that they are decoded once into the store"
_OFF = "or set data.store: off, by which they are decoded each time, to samples that are rounded otherwise"
_WAV = ("WAV", "WAVEX", "RF64")


def store_folder() -> Path:
    """Return the folder of the store."""
    return cache_directory() / "store"


def choose_limit(limit: float | None = None) -> float:
    """Return what the store may take, bytes: as it is given in GB, else $SEPKIT_STORE_LIMIT, else 50 GB.

    Raises:
        ValueError: the variable is no number above 0.
    """
    if limit is None:
        given = os.environ.get(LIMIT, "")
        try:
            limit = float(given or DEFAULT_LIMIT)
        except ValueError:
            limit = -1.0
        if not 0 < limit < float("inf"):
            raise ValueError(f"{LIMIT} must be a number of GB above 0, got {given!r}; set it, or data.store_limit")
    return limit * _GB


def plan_store(songs: Iterable[Song], limit: float | None = None) -> DecodedStore | None:
    """Decide which files of songs are stored: what is not 16-bit WAV at the wanted rate, as far as there is room.

    Entries of other songs that take room are removed, those first that were not used for longest.

    Args:
        songs: which are read.
        limit: GB that the store may take; None: `choose_limit` has it.

    Returns:
        The store; None where nothing is to be stored, or there is no place for it.

    Raises:
        OutputError: a lossy or resampled file, of which other samples would be read otherwise, has no room.
        ValueError: $SEPKIT_STORE_LIMIT is no number above 0.
    """
    stems = (stem for song in songs for stem in (*song.stems.values(), *([song.mixture] if song.mixture else [])))
    return plan_stems(stems, limit)


def plan_stems(stems: Iterable[Stem], limit: float | None = None) -> DecodedStore | None:
    """Decide which files of stems are stored, as `plan_store` does.

    Args:
        stems: which are read.
        limit: GB that the store may take; None: `choose_limit` has it.
    """
    wanted = {
        make_key(file, stem.sample_rate): Entry(file, stem.sample_rate)
        for stem in stems
        for file in stem.files
        if not _is_plain(file, stem.sample_rate)
    }
    folder = _find_folder(wanted) if wanted else None
    if folder is None:
        return None
    store = DecodedStore(wanted, folder)
    there = _list_entries(store.folder)
    own = {store.path(key): key for key in wanted}
    used = sum(size for path, (size, _) in there.items() if path in own)
    allowed, free = choose_limit(limit), free_space(store.folder)
    left = 0.0 if free is None else min(_RESERVE, (used + free) / 2, free)  # the same, however much is stored
    room = allowed if free is None else min(allowed, used + free - left)
    store.entries = _choose(wanted, room)
    store.n_left_out = len(wanted) - len(store.entries)
    if store.n_left_out:
        cause = f"data.store_limit is {allowed / _GB:g} GB"
        if free is not None and room < allowed:
            cause = f"{format_size(free)} are free, of which {format_size(left)} are left free,"
        _tell_left_out(wanted, store, f"{cause} in {store.folder}")
    _make_room(store, there, allowed)
    return store


def _find_folder(wanted: Mapping[Key, Entry]) -> Path | None:
    """Return the folder of the store; None, with a warning, where a user without a home has none and can do without.

    Raises:
        OutputError: a file needs the store.
    """
    try:
        return store_folder()
    except OutputError as error:
        needed = sum(entry.is_needed for entry in wanted.values())
        if needed:
            raise OutputError(f"{needed} files {_NEEDED}, and {error}; {_OFF}") from None
        warnings.warn(f"{len(wanted)} files are decoded each time that they are read: {error}", stacklevel=4)
        return None


def _tell_left_out(wanted: Mapping[Key, Entry], store: DecodedStore, cause: str) -> None:
    """Warn of files for which there is no room, and refuse to do without where the samples would be others.

    Raises:
        OutputError: a file needs the store.
    """
    size = format_size(sum(count_bytes(*entry) for entry in wanted.values()))
    needed = [entry.file.info.path for key, entry in wanted.items() if entry.is_needed and key not in store.entries]
    remedy = "make room, set data.store_limit, or set SEPKIT_CACHE to another folder"
    if needed:
        raise OutputError(
            f"{len(needed)} files {_NEEDED}, and have no room there, the first is {needed[0]}: stored, all take "
            f"{size}, and {cause}; {remedy}; {_OFF}"
        )
    warnings.warn(
        f"{store.n_left_out} of {len(wanted)} files are decoded each time that they are read: "
        f"stored, all take {size}, and {cause}; {remedy}",
        stacklevel=4,
    )


def _is_plain(file: StemFile, sample_rate: int) -> bool:
    """Return whether a file is read in place, as far as that shows without opening it; what is packed stays there."""
    info = file.info
    is_wav = info.subtype == "PCM_16" and info.format in _WAV and info.reader == "soundfile" and not info.complaint
    return file.is_packed or (is_wav and info.sample_rate == sample_rate)


def _choose(wanted: Mapping[Key, Entry], room: float) -> dict[Key, Entry]:
    """Choose what fits, in its order, so that the same songs and room give the same; first what needs the store."""
    chosen = {}
    for key, entry in sorted(wanted.items(), key=lambda item: not item[1].is_needed):
        size = count_bytes(*entry)
        if size <= room:
            chosen[key] = entry
            room -= size
    return chosen


def _list_entries(folder: Path) -> dict[Path, tuple[int, float]]:
    """List size and time of last use of all entries, and remove what processes that died left."""
    found = {}
    for path in folder.glob("*/*"):
        with suppress(OSError):
            status = path.stat()
            if path.suffix == ".pcm":
                found[path] = status.st_size, status.st_mtime
            elif time.time() - status.st_mtime > _ABANDONED:
                path.unlink()
    return found


def _make_room(store: DecodedStore, there: Mapping[Path, tuple[int, float]], allowed: float) -> None:
    """Mark what is used, and remove what is not, the oldest first, until all fits the limit."""
    own = {store.path(key) for key in store.entries}
    for path in own & there.keys():
        with suppress(OSError):
            os.utime(path)
    others = sorted((path for path in there if path not in own), key=lambda path: there[path][1])
    total = sum(count_bytes(*entry) for entry in store.entries.values()) + sum(there[path][0] for path in others)
    for path in others:
        if total <= allowed:
            return
        with suppress(OSError):
            path.unlink()
            total -= there[path][0]
