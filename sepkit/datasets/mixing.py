"""How a recorded mixture follows from its parts: the gain and the delay of each, and what is left over."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # whose parts are imported when they are used
import torch

from sepkit.datasets.comparison import SongComparison, loud_pieces
from sepkit.datasets.measurement import FRAMES_PER_SECOND
from sepkit.datasets.songs import Song

_PIECES, _SECONDS = 4, 12  # that are read again, and how long they are
_BETTER = 1.0  # dB that a delay must bring
_CERTAIN = 3.0  # times what is left, by which a gain must change a part: noise of a part lowers the gain that fits best
_SMALL = 1e-6  # of the power of a part, below which a frequency has none


@dataclass(frozen=True)
class Fit:
    """A mixture as the sum of its parts, each with a gain and a delay.

    Attributes:
        parts: names.
        gains: of each in the mixture; negative where it is inverted.
        delays: samples by which each is late in the mixture.
        residual: mixture minus plain sum, dB re mixture, in what was read.
        left: what remains when the gains and delays are undone, dB re mixture.
        sounding: whether each part sounds in what was read.
        certain: whether the gain of each is farther from 1 than coding and noise of the size of what is left bring it.
    """

    parts: tuple[str, ...]
    gains: tuple[float, ...]
    delays: tuple[int, ...]
    residual: float
    left: float
    sounding: tuple[bool, ...]
    certain: tuple[bool, ...]


def fit_mixture(song: Song, comparison: SongComparison) -> Fit:
    """Read the pieces in which the mixture differs most from its parts, and find how it follows from them.

    Args:
        song: with a recorded mixture.
        comparison: of it.

    Raises:
        AudioError: a file cannot be read.
    """
    rate, n_samples = comparison.sample_rate, comparison.n_samples
    length = min(_SECONDS * rate, n_samples)
    frames = loud_pieces(comparison.residual, _PIECES, max(1, length * FRAMES_PER_SECOND // rate))
    starts = sorted({min(frame * rate // FRAMES_PER_SECOND, n_samples - length) for frame in frames})
    starts = [start // song.position_step * song.position_step for start in starts]
    mixture = torch.stack([song.mixture.read(start, length) for start in starts]).numpy()  # (n, C, T)
    parts = np.stack([torch.stack([song.stems[name].read(start, length) for start in starts]) for name in song.parts])
    return _fit(tuple(song.parts), mixture, parts, max(1, length // 2))


def _fit(names: tuple[str, ...], mixture: np.ndarray, parts: np.ndarray, longest: int) -> Fit:
    """Fit parts (K, n, C, T) to a mixture (n, C, T): first without delays, then with those that make it better."""
    power = float(np.square(mixture, dtype=np.float64).sum())
    sounding = tuple(bool(np.abs(part).max() > 1e-4) for part in parts)
    delays = [0] * len(parts)
    gains, left = _solve(mixture, parts, delays)
    for attempt in _propose(mixture, parts, delays, longest):
        attempt = [delay if sounds else 0 for delay, sounds in zip(attempt, sounding, strict=True)]
        better, remaining = _solve(mixture, parts, attempt)
        if _decibels(remaining, power) < _decibels(left, power) - _BETTER * (attempt != delays):
            delays, gains, left = attempt, better, remaining
    for index in np.argsort([-float(np.square(part).sum()) for part in parts]):
        if sounding[index]:
            found = _find_delay(_remove(mixture, parts, delays, gains, index), parts[index], longest)
            attempt = [found if k == index else delay for k, delay in enumerate(delays)]
            better, remaining = _solve(mixture, parts, attempt)
            if _decibels(remaining, power) < _decibels(left, power) - _BETTER:
                delays, gains, left = attempt, better, remaining
    plain = float(np.square(mixture - parts.sum(0), dtype=np.float64).sum())
    values = (tuple(map(float, gains)), tuple(delays), _decibels(plain, power), _decibels(left, power))
    powers = np.square(parts, dtype=np.float64).sum((1, 2, 3))
    certain = tuple((np.abs(1 - gains) * powers > _CERTAIN * left).tolist())
    return Fit(names, *values, sounding, certain)


def _propose(mixture: np.ndarray, parts: np.ndarray, delays: Sequence[int], longest: int) -> list[list[int]]:
    """List one delay for all parts."""
    common = _find_delay(mixture, parts.sum(0), longest)
    return [[common] * len(delays)] if common else []


def _remove(mixture: np.ndarray, parts: np.ndarray, delays: Sequence[int], gains: np.ndarray, kept: int) -> np.ndarray:
    """Subtract all parts but one from a mixture."""
    rest = mixture.copy()
    for k, (part, delay, gain) in enumerate(zip(parts, delays, gains, strict=True)):
        if k != kept:
            rest -= np.float32(gain) * _delayed(part, delay)
    return rest


def _delayed(part: np.ndarray, delay: int) -> np.ndarray:
    """Move (..., T) later by some samples, or earlier; zeros take the place."""
    if delay == 0:
        return part
    moved = np.zeros_like(part)
    if delay > 0:
        moved[..., delay:] = part[..., :-delay]
    else:
        moved[..., :delay] = part[..., -delay:]
    return moved


def _solve(mixture: np.ndarray, parts: np.ndarray, delays: Sequence[int]) -> tuple[np.ndarray, float]:
    """Find the gains of delayed parts, and the power that remains, without the edges that delays leave."""
    edge = max(0, *delays), max(0, *(-delay for delay in delays))
    inside = slice(edge[0], mixture.shape[-1] - edge[1])
    moved = [_delayed(part, delay)[..., inside].ravel() for part, delay in zip(parts, delays, strict=True)]
    wanted = mixture[..., inside].ravel().astype(np.float64)
    gram = np.array([[np.dot(one, other) for other in moved] for one in moved], np.float64)
    products = np.array([np.dot(part, wanted) for part in moved])
    gains = np.linalg.lstsq(gram, products, rcond=1e-7)[0]
    rest = wanted - sum(gain * part for gain, part in zip(gains, moved, strict=True))
    return gains, float(np.square(rest).sum()) * mixture.shape[-1] / max(
        1, len(range(*inside.indices(mixture.shape[-1])))
    )


def _find_delay(late: np.ndarray, early: np.ndarray, longest: int) -> int:
    """Find the samples by which (n, C, T) is later than another, from the peak of what filters one into the other."""
    n_fft = scipy.fft.next_fast_len(2 * late.shape[-1], real=True)
    spectra = [scipy.fft.rfft(waveform, n_fft) for waveform in (late, early)]
    cross = (spectra[0] * spectra[1].conj()).sum((0, 1))
    power = np.square(np.abs(spectra[1])).sum((0, 1))
    response = scipy.fft.irfft(cross / np.sqrt(power * (power + power.mean())), n_fft)
    lags = np.concatenate([response[-longest:], response[: longest + 1]])
    return int(np.abs(lags).argmax()) - longest


def _decibels(power: float, reference: float) -> float:
    return 10 * math.log10(max(power, 1e-20) / max(reference, 1e-20))
