"""Bands of recurrent networks: those of BandSplitRNN's paper, and bandit's on a musical scale."""

import math

import numpy as np

from sepkit.models._band_layouts import BandLayout

# Hz: up to where, in steps of what.
_STEPS = ((1000, 100), (4000, 250), (8000, 500), (16000, 1000), (20000, 2000))


def stepped_bands(n_bins: int, sample_rate: int) -> BandLayout:
    """Place bands side by side, in steps that widen from 100 Hz to 2 kHz, and one above 20 kHz.

    Args:
        n_bins: F, evenly spaced from 0 Hz to the Nyquist frequency.
        sample_rate: Hz.

    Source:
        Y. Luo, J. Yu, Music Source Separation with Band-split RNN, 2023, section III.C, the bands for vocals, in whole
        bins as bandit rounds them: 43 at 44.1 kHz and 2048 samples, of which the last of some steps are narrow.
    """
    bins_per_hertz, start, bands = 2 * (n_bins - 1) / sample_rate, 0, []
    for edge, step in _STEPS:
        end, width = min(round(edge * bins_per_hertz), n_bins), max(1, round(step * bins_per_hertz))
        while start < end:
            bands.append(tuple(range(start, min(start + width, end))))
            start = bands[-1][-1] + 1
    return BandLayout((*bands, tuple(range(start, n_bins))) if start < n_bins else tuple(bands), n_bins)


def overlapping_musical_bands(n_bands: int, n_bins: int, sample_rate: int) -> BandLayout:
    """Place bands evenly in pitch, each as wide to both sides of its centre as there are octaves for each.

    Args:
        n_bands: K.
        n_bins: F, evenly spaced from 0 Hz to the Nyquist frequency.
        sample_rate: Hz.

    Raises:
        ValueError: there are so few bands that a bin lies in none.

    Source:
        K. Watcharasupat et al., A Generalized Bandsplit Neural Network for Cinematic Audio Source Separation, 2023,
        with the bounds of bandit's code.
    """
    if n_bands < 1:
        raise ValueError(f"bands must be at least 1, got {n_bands}")
    spacing = sample_rate / (2 * (n_bins - 1))  # Hz
    reach = 2 ** (math.log2(n_bins - 1) / n_bands)
    pitches = np.linspace(max(0.0, _to_midi(spacing)), _to_midi(sample_rate / 2), n_bands)
    centres = 440 * 2 ** ((pitches - 69) / 12) / spacing  # bins
    starts = [0, *np.floor(centres[1:] / reach).astype(int).tolist()]
    ends = [*np.minimum(np.ceil(centres[:-1] * reach).astype(int) + 1, n_bins).tolist(), n_bins]
    bands = tuple(tuple(range(start, end)) for start, end in zip(starts, ends, strict=True))
    if len({one for band in bands for one in band}) < n_bins:
        raise ValueError(f"bands must be so many that none of {n_bins} bins is left out, got {n_bands}")
    return BandLayout(bands, n_bins)


def _to_midi(frequency: float) -> float:
    return 12 * math.log2(frequency / 440) + 69
