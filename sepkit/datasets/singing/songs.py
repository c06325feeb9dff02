"""Songs with these voices: the band of the built-in songs, other singers, and a manifest that knows tempo and key."""

import csv
import os
import re
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sepkit import audio
from sepkit.arguments import check_path, is_integer, is_number
from sepkit.datasets.demo.bass import render_bass
from sepkit.datasets.demo.drums import render_drums
from sepkit.datasets.demo.other import render_other
from sepkit.datasets.demo.song import STEMS, Song, draw_song
from sepkit.datasets.manifest import Manifest, Row
from sepkit.datasets.manifest_files import write_manifest
from sepkit.datasets.singing.vocals import render_vocals
from sepkit.disk import writing
from sepkit.files import atomic_folder

RATE = 44100  # Hz
_RENDER = {"vocals": render_vocals, "drums": render_drums, "bass": render_bass, "other": render_other}
_MOST = 1_000_000  # songs of a split
_FIRST = {"train": 0, "valid": _MOST, "test": 2 * _MOST}
_SEEDS = 17  # before a song's number, so that these songs and the built-in ones differ
_PEAK = 0.98
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_REMEDY = "make room, or choose another --output; songs that are complete stay, and the same command goes on"


def make_song(seed: int, duration: float = 12.0) -> tuple[Song, dict[str, np.ndarray]]:
    """Make one song with a wide choice of singers.

    The same seed gives the same bits on every run; across versions of numpy or scipy and across platforms the last
    bits may differ.

    Args:
        seed: >= 0.
        duration: s, 1 to 600.

    Returns:
        Its score, and under "vocals", "drums", "bass" and "other" a float32 (2, T) each at 44.1 kHz, whose sum stays
        within +-0.98. A stem may be silent.

    Raises:
        ValueError: an argument is out of range.
    """
    if not is_integer(seed) or seed < 0:
        raise ValueError(f"seed must be a whole number from 0, got {seed}")
    if not is_number(duration) or not 1.0 <= duration <= 600.0:
        raise ValueError(f"duration must be between 1 and 600 s, got {duration}")
    score, *parts = (np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence([_SEEDS, seed]).spawn(5))
    song = draw_song(score, duration, RATE)
    stems = {stem: _RENDER[stem](rng, song) for stem, rng in zip(STEMS, parts, strict=True)}
    peak = max(np.abs(sum(stems.values())).max(), *(np.abs(stem).max() for stem in stems.values()))
    gain = np.float32(min(1.0, _PEAK / (peak + 1e-9)))
    return song, {stem: gain * waveform for stem, waveform in stems.items()}


def name_key(song: Song) -> str:
    """Name the key of a score, Dorian as minor, Mixolydian as major."""
    return f"{_NAMES[song.root % 12]} {'minor' if song.mode[2] == 3 else 'major'}"


def write_songs(
    output: str | Path,
    n_train: int = 300,
    n_valid: int = 20,
    n_test: int = 0,
    duration: float = 12.0,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Write songs into a root: `train|valid|test/<song>/<stem>.wav`, 16-bit stereo, and a manifest with tempo and key.

    What broke off goes on with the same call; more songs of a split begin with those that are there.

    Args:
        output: the root.
        n_train: songs to train on, 0 to 1 000 000.
        n_valid: songs to validate on, likewise.
        n_test: songs to test on, likewise.
        duration: s per song, 1 to 600.
        workers: processes, >= 1.
        progress: show a bar, on a terminal.

    Returns:
        Path of the manifest.

    Raises:
        ValueError: an argument is out of range, there is no song to make, or songs of another duration, or the
            manifest of others, are there.
        sepkit.disk.OutputError: the root cannot be written.
    """
    check_path(output, "output")
    counts = {"train": n_train, "valid": n_valid, "test": n_test}
    for split, count in counts.items():
        if not is_integer(count) or not 0 <= count <= _MOST:
            raise ValueError(f"n_{split} must be a whole number, 0 to {_MOST}, got {count}")
    if not is_integer(workers) or workers < 1:
        raise ValueError(f"workers must be a whole number from 1, got {workers}")
    if not sum(counts.values()):
        raise ValueError("songs are wanted, got 0 of train, valid and test")
    if not is_number(duration) or not 1.0 <= duration <= 600.0:
        raise ValueError(f"duration must be between 1 and 600 s, got {duration}")
    output = Path(output)
    jobs = [(split, k) for split, count in counts.items() for k in range(count)]
    with writing(output, _REMEDY):
        output.mkdir(parents=True, exist_ok=True)
        _check_manifest(output / "manifest.csv")
        rows = [row for made in _make_all(output, jobs, duration, workers, progress) for row in made]
        write_manifest(Manifest(output, "manifest", tuple(rows)), output / "manifest.csv")
    return output / "manifest.csv"


def _check_manifest(file: Path) -> None:
    """Refuse to replace the manifest of other songs.

    Raises:
        ValueError: it is there.
    """
    if not file.exists():
        return
    try:
        with file.open(encoding="utf-8", errors="replace", newline="") as lines:  # of songs that may be gone
            tracks = {row.get("track") or "" for row in csv.DictReader(lines)}
    except csv.Error:  # of Python 3.10, where it is no text
        tracks = set()
    if not tracks or not all(re.fullmatch(r"(train|valid|test)_\d{4,}", track) for track in tracks):
        raise ValueError(f"{file} is not of songs made here, and would be replaced: choose another --output")


def _make_all(
    output: Path, jobs: Sequence[tuple[str, int]], duration: float, workers: int, progress: bool
) -> list[list[Row]]:
    """Make what is not there yet, and return the rows of each song."""
    settings = {"desc": "making songs", "unit": "song", "total": len(jobs), "disable": None if progress else True}
    if workers == 1:
        return list(tqdm(map(_make, repeat(output), jobs, repeat(duration)), **settings))
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        return list(tqdm(pool.map(_make, repeat(output), jobs, repeat(duration)), **settings))


def _make(output: Path, job: tuple[str, int], duration: float) -> list[Row]:
    """Make a song, unless it is there, and return its rows."""
    split, k = job
    folder = output / split / f"{split}_{k:04d}"
    seed = _FIRST[split] + k
    if folder.is_dir():
        _check_duration(folder, duration)
        score = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_SEEDS, seed]).spawn(5)[0]))
        song = draw_song(score, duration, RATE)
    else:
        song, stems = make_song(seed, duration)
        with atomic_folder(folder) as work:
            for stem, waveform in stems.items():
                audio.write(work / f"{stem}.wav", waveform, RATE, "PCM_16")
    facts = {"tempo": round(song.bpm, 2), "key": name_key(song), "licence": "CC0-1.0"}
    return [Row(Path(os.path.abspath(folder)) / f"{stem}.wav", stem, folder.name, split, **facts) for stem in STEMS]


def _check_duration(folder: Path, duration: float) -> None:
    """Refuse a song of another duration.

    Raises:
        ValueError: it has one.
    """
    info = audio.probe(folder / "vocals.wav")
    if info.n_samples != round(duration * RATE):
        there = info.n_samples / RATE
        raise ValueError(
            f"{folder} has {there:g} s, wanted are {duration:g}: choose another --output, or this duration"
        )
