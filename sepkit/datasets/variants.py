"""Variants of songs in another pitch and tempo: made once into the cache, songs of their own then."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sepkit import audio
from sepkit.arguments import check_range
from sepkit.cache import cache_directory, writing_to_cache
from sepkit.datasets.keys import transpose_key
from sepkit.datasets.measuring import in_batches
from sepkit.datasets.songs import Song
from sepkit.datasets.stems import Stem, StemFile
from sepkit.datasets.stored_file import needs_float
from sepkit.datasets.stretching import Stretcher
from sepkit.disk import OutputError, format_size, free_space
from sepkit.files import atomic_folder

VERSION = 1  # of what is made; another one is made anew
_BLOCK = 1 << 17  # samples read at a time
_HEADROOM = 2.0  # of 16-bit files above full scale, since waves between samples are higher than these


@dataclass(frozen=True)
class Variant:
    """How a variant of a song differs from it.

    Attributes:
        pitch: semitones up, [-6, 6].
        tempo: factor, [0.75, 1.5].
    """

    pitch: float = 0.0
    tempo: float = 1.0

    def __post_init__(self) -> None:
        check_range("pitch", self.pitch, -6, 6)
        check_range("tempo", self.tempo, 0.75, 1.5)
        if self.pitch == 0 and self.tempo == 1:
            raise ValueError("a variant must have another pitch or tempo, got pitch 0 and tempo 1; leave it out")

    @property
    def name(self) -> str:
        """Name what is other."""
        pitch = f"pitch {self.pitch:+g}" if self.pitch else ""
        tempo = f"tempo x {self.tempo:g}" if self.tempo != 1 else ""
        return ", ".join(filter(None, [pitch, tempo]))

    def count(self, n_samples: int) -> int:
        """Count the samples that are left of a song's."""
        return round(n_samples / self.tempo)

    def transpose(self, key: str | None) -> str | None:
        """Return the key of the variant; None where the song's is unknown, or the pitch between two keys."""
        return transpose_key(key, round(self.pitch)) if key and self.pitch == round(self.pitch) else None


def make_variants(
    songs: Sequence[Song], variants: Sequence[Variant], workers: int | None = None, progress: bool = True
) -> list[Song]:
    """Make the variants of songs, which stay in the cache: 16-bit WAV, 32-bit float where a song has more.

    The stems of a song are stretched together, so that they remain stems of its mixture. Processes may call at once;
    a variant appears when it is complete.

    Args:
        songs: any.
        variants: of each song; none twice.
        workers: threads; None: the cores.
        progress: show a bar.

    Returns:
        All variants of the first song, of the second ..., with their tempo and key where those of the song are known.

    Raises:
        ValueError: a variant is asked for twice.
        AudioError: a file of a song cannot be read.
        OutputError: they do not fit on the disk.
    """
    if len(set(variants)) < len(variants):
        raise ValueError(f"variants must differ, got {', '.join(variant.name for variant in variants)}; leave one out")
    wanted = [(song, variant, _folder(song, variant)) for song in songs for variant in variants]
    missing = [one for one in wanted if not _is_complete(one[2], one[0])]
    if missing:
        _check_room(missing)
    for _ in in_batches(_make, missing, workers, "stretching songs", "song", progress):
        pass
    return [_open(*one) for one in wanted]


def _recorded(song: Song) -> list[Stem]:
    """List all that is recorded of a song, in one order."""
    return [*song.stems.values(), *([song.mixture] if song.mixture else [])]


def _folder(song: Song, variant: Variant) -> Path:
    """Name the folder of a variant: other files, versions of them, parts or gains give another one."""
    files = [
        [
            stem.sample_rate,
            stem.n_channels,
            file.info.path,
            file.info.version,
            file.start,
            file.stop,
            file.gain,
            file.allow_damaged,
        ]
        for stem in _recorded(song)
        for file in stem.files
    ]
    sizes = [len(stem.files) for stem in _recorded(song)]
    key = json.dumps([VERSION, variant.pitch, variant.tempo, song.n_samples, sizes, files], default=repr)
    return cache_directory() / "variants" / hashlib.sha256(os.fsencode(key)).hexdigest()[:24]


def _paths(folder: Path, song: Song) -> list[Path]:
    return [folder / f"{number}.wav" for number in range(len(_recorded(song)))]


def _is_complete(folder: Path, song: Song) -> bool:
    return all(path.is_file() for path in _paths(folder, song))


def _check_room(missing: Sequence[tuple[Song, Variant, Path]]) -> None:
    """Refuse to begin what does not fit.

    Raises:
        OutputError: it does not.
    """
    sizes = (
        variant.count(song.n_samples) * stem.n_channels * (4 if _is_float(stem) else 2)
        for song, variant, _ in missing
        for stem in _recorded(song)
    )
    needed, free = sum(sizes), free_space(cache_directory())
    if free is not None and needed > free:
        raise OutputError(
            f"{len(missing)} variants of songs take {format_size(needed)}, and {format_size(free)} are free in "
            f"{cache_directory()}; ask for fewer, make room, or set SEPKIT_CACHE to another folder"
        )


def _is_float(stem: Stem) -> bool:
    return any(needs_float(file.info) for file in stem.files)


def _make(one: tuple[Song, Variant, Path]) -> None:
    song, variant, folder = one
    with writing_to_cache():
        if folder.is_dir():  # and was complete when it appeared
            if _is_complete(folder, song):  # by another process, meanwhile
                return
            shutil.rmtree(folder)  # of which something was removed
        with atomic_folder(folder) as work:
            _write(song, variant, work)


def _write(song: Song, variant: Variant, work: Path) -> None:
    """Write the stems of a variant, each as long as the others."""
    stems, left = _recorded(song), variant.count(song.n_samples)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                audio.AudioWriter(path, stem.sample_rate, stem.n_channels, "FLOAT" if _is_float(stem) else "PCM_16")
            )
            for path, stem in zip(_paths(work, song), stems, strict=True)
        ]
        factors = [1.0 if _is_float(stem) else 1 / _HEADROOM for stem in stems]
        for block in _stretch(song, stems, variant):
            block = block[:, :left]
            left -= block.shape[-1]
            for writer, factor, waveform in zip(writers, factors, block.split(song.n_channels), strict=True):
                writer.write(waveform * factor)
        for writer in writers if left else ():
            writer.write(torch.zeros(song.n_channels, left))


def _stretch(song: Song, stems: Sequence[Stem], variant: Variant) -> Iterator[Tensor]:
    """Yield the stretched stems (K * C, t), block by block."""
    stretcher = Stretcher(stems[0].sample_rate, len(stems) * song.n_channels, variant.pitch, variant.tempo)
    size = -(-_BLOCK // song.position_step) * song.position_step
    for start in range(0, song.n_samples, size):
        n_samples = min(size, song.n_samples - start)
        yield from stretcher.push(torch.cat([stem.read(start, n_samples) for stem in stems]))
    yield from stretcher.flush()


def _open(song: Song, variant: Variant, folder: Path) -> Song:
    """Make a song of the files of a variant."""
    stems = [
        Stem(
            (StemFile(audio.probe(path), gain=1.0 if _is_float(stem) else _HEADROOM),),
            stem.sample_rate,
            stem.n_channels,
        )
        for path, stem in zip(_paths(folder, song), _recorded(song), strict=True)
    ]
    named = dict(zip(song.stems, stems, strict=False))
    return replace(
        song,
        name=f"{song.name} ({variant.name})",
        stems=named,
        mixture=stems[-1] if song.mixture else None,
        tempo=None if song.tempo is None else song.tempo * variant.tempo,
        key=variant.transpose(song.key),
    )
