"""What ten seconds of songs showed, remembered by their files."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sepkit.datasets.inspection import Copy, Inspection, Mixing
from sepkit.datasets.measuring import remember
from sepkit.datasets.remembered import Remembered, file_key
from sepkit.datasets.songs import Song

VERSION = 2  # of what is found


def song_key(song: Song, kind: str, targets: Collection[str] = ()) -> bytes:
    """Return the key of what is found in a song: it changes with each of its files, and with how they are put together.

    Args:
        song: which.
        kind: of what is found, with its version.
        targets: stems that are wanted.
    """
    stems = {**song.stems, **({"(mixture)": song.mixture} if song.mixture else {})}
    files = [
        (name, file_key(file.info, 0).hex(), file.start, file.stop, file.gain, file.allow_damaged)
        for name, stem in stems.items()
        for file in stem.files
    ]
    shape = [(stem.sample_rate, stem.n_channels) for stem in stems.values()]
    text = json.dumps([kind, files, shape, song.parts, song.aligned, song.padded, sorted(targets)])
    return hashlib.sha256(text.encode()).digest()


class Memory:
    """Remember plain data about songs from one start to the next, in the cache.

    Args:
        kind: of what is remembered, with what it depends on beside the song.
    """

    def __init__(self, kind: str):
        self._kind, self._store = f"{kind} {VERSION}", Remembered("inspected")

    def recall(self, songs: Sequence[Song]) -> list[Any]:
        """Return what is remembered of each song; None: nothing."""
        keys = [song_key(song, self._kind) for song in songs]
        known = self._store.read(keys)
        return [json.loads(known[key][0]) if key in known else None for key in keys]

    def keep(self, values: Iterable[tuple[Song, Any]]) -> None:
        """Write values of songs to the cache; where the cache cannot be written to, warn."""
        written = {song_key(song, self._kind): (json.dumps(value).encode(),) for song, value in values}
        if written:
            remember(self._store, written)


def plain_inspection(inspection: Inspection) -> list[Any]:
    """Convert an inspection to plain data."""
    rest: list[Mapping[str, Any]] = [inspection.doubles, inspection.nearly, inspection.uncovered]
    return [inspection.silent, inspection.mixing, inspection.copies, *map(dict, rest)]


def rebuild_inspection(plain: Sequence[Any]) -> Inspection:
    """Rebuild an inspection from plain data."""
    silent, mixing, copies, doubles, nearly, uncovered = plain
    return Inspection(
        tuple(silent),
        mixing and Mixing(*mixing),
        tuple(Copy(*copy) for copy in copies),
        {name: tuple(of) for name, of in doubles.items()},
        {name: tuple(of) for name, of in nearly.items()},
        uncovered,
    )
