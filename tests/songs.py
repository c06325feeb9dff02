"""Small roots of songs for tests: sines and noise, 8 kHz unless said."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000


def noise(seed: int, n_samples: int = RATE, n_channels: int = 2) -> np.ndarray:
    """Make 16-bit exact noise (T, C)."""
    samples = np.random.default_rng(seed).integers(-8000, 8000, (n_samples, n_channels))
    return samples / 32768


def write_song(
    folder: Path, stems: Mapping[str, np.ndarray], rate: int = RATE, suffix: str = ".wav", subtype: str = "PCM_16"
) -> Path:
    """Write the stems (T, C) of a song."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, waveform in stems.items():
        soundfile.write(folder / f"{name}{suffix}", waveform, rate, subtype=subtype)
    return folder


def write_root(root: Path, songs: Sequence[str], names: Sequence[str] = ("vocals", "drums"), **options) -> Path:
    """Write songs of noise: `songs` are paths below the root."""
    for i, song in enumerate(songs):
        write_song(root / song, {name: noise(100 * i + k) for k, name in enumerate(names)}, **options)
    return root
