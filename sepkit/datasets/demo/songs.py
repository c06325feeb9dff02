"""Make the built-in songs, and write them into the user's cache."""

import hashlib
import os
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from sepkit.cache import cache_directory, writing_to_cache
from sepkit.datasets.demo.bass import render_bass
from sepkit.datasets.demo.drums import render_drums
from sepkit.datasets.demo.other import render_other
from sepkit.datasets.demo.song import STEMS, draw_song
from sepkit.datasets.demo.vocals import render_vocals
from sepkit.files import atomic_folder
from sepkit.terminal import bar_option

_RENDER = {"vocals": render_vocals, "drums": render_drums, "bass": render_bass, "other": render_other}
_FIRST_SEEDS = {"train": 0, "valid": 1_000_000, "test": 2_000_000}
_PEAK = 0.98


def make_song(seed: int, duration: float = 12.0, sample_rate: int = 44100) -> dict[str, np.ndarray]:
    """Make one song.

    The same seed gives the same bits on every run and whatever else was made before; across versions
    of numpy or scipy and across platforms the last bits may differ.

    Args:
        seed: >= 0.
        duration: s, 1 to 600.
        sample_rate: Hz, 16000 to 96000.

    Returns:
        Under "vocals", "drums", "bass" and "other" a float32 (2, T) each, whose sum stays within +-0.98.
        A stem may be silent.

    Raises:
        ValueError: an argument is out of range.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if not 1.0 <= duration <= 600.0:
        raise ValueError(f"duration must be between 1 and 600 s, got {duration}")
    if not 16000 <= sample_rate <= 96000:
        raise ValueError(f"sample_rate must be between 16000 and 96000 Hz, got {sample_rate}")
    score, *parts = (np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(seed).spawn(5))
    song = draw_song(score, duration, sample_rate)
    stems = {stem: _RENDER[stem](rng, song) for stem, rng in zip(STEMS, parts, strict=True)}
    peak = max(np.abs(sum(stems.values())).max(), *(np.abs(stem).max() for stem in stems.values()))
    gain = np.float32(min(1.0, _PEAK / (peak + 1e-9)))
    return {stem: gain * waveform for stem, waveform in stems.items()}


def demo_root(
    n_train: int = 152, n_valid: int = 6, n_test: int = 8, duration: float = 12.0, *, progress: bool = True
) -> Path:
    """Write the built-in songs on first use, and return their root.

    They lie in `$SEPKIT_CACHE`, else in the user's cache directory, in a folder whose name depends on the
    arguments and on the generator's source: `train|valid|test/<song>/<stem>.wav`, 16-bit stereo at
    44.1 kHz, of test songs also the mixture; 1.4 GB in all. Several processes may call at once; a folder
    appears only when it is complete. The environment variable SEPKIT_DEMO_SCALE, a fraction, scales the
    number of songs (never below 2 train, 1 valid, 2 test) where time is short.

    Args:
        n_train: songs to train on, >= 1.
        n_valid: songs to validate on, >= 1.
        n_test: songs to test on, >= 1.
        duration: s per song, 1 to 600.
        progress: show a progress bar on stderr while songs are made.

    Returns:
        The root folder.

    Raises:
        ValueError: an argument or SEPKIT_DEMO_SCALE is out of range.
    """
    counts = _counts({"train": n_train, "valid": n_valid, "test": n_test})
    name = f"demo-{'-'.join(map(str, counts.values()))}-{duration:g}s-{_fingerprint()}"
    root = cache_directory() / name
    if not root.is_dir():
        with writing_to_cache(), atomic_folder(root) as work:
            _write(work, counts, duration, progress)
    return root


def demo_song() -> Path:
    """Return the mixture of a built-in song that nothing is trained on; all songs are written on first use."""
    return next(iter(sorted((demo_root() / "test").iterdir()))) / "mixture.wav"


def _counts(wanted: dict[str, int]) -> dict[str, int]:
    for split, count in wanted.items():
        if count < 1:
            raise ValueError(f"n_{split} must be at least 1, got {count}")
    text = os.environ.get("SEPKIT_DEMO_SCALE", "1")
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0.0 < scale <= 1.0:
        raise ValueError(f"SEPKIT_DEMO_SCALE must be a fraction above 0 and up to 1, got {text!r}")
    least = {"train": 2, "valid": 1, "test": 2}
    return {split: min(count, max(least[split], round(scale * count))) for split, count in wanted.items()}


def _fingerprint() -> str:
    """Hash the generator's source, so that a changed generator never meets old songs."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def _write(root: Path, counts: dict[str, int], duration: float, progress: bool) -> None:
    songs = [(split, k) for split, count in counts.items() for k in range(count)]
    for split, k in tqdm(songs, desc="making the built-in songs", unit="song", disable=bar_option(progress)):
        folder = root / split / f"{split}_{k:03d}"
        folder.mkdir(parents=True)
        stems = make_song(_FIRST_SEEDS[split] + k, duration)
        written = {stem: np.rint(waveform.T * 32768).astype(np.int16) for stem, waveform in stems.items()}
        if split == "test":
            written["mixture"] = sum(written.values())  # exact: all peaks stay within +-0.98
        for stem, samples in written.items():
            soundfile.write(folder / f"{stem}.wav", samples, 44100, subtype="PCM_16")
