"""How much of one stem another one holds, from stems that come in blocks.

Where a stem holds another one at -30 dB, spectral bins in which it has nothing of its own are 30 dB below the other's,
and have the other's phase, turned by the same angle at every time. In clean stems the phases of bins of any ratio are
independent. So bins are sorted by their ratio, and in each class is measured how constant the angle is: this finds a
copy below what is louder than it, and any filter in it that is shorter than the window.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # whose parts are imported when they are used

_WINDOW = 0.093  # s, to the nearest power of two samples
_RANGE = 60.0, 8000.0  # Hz
_STEP, _LOWEST = 3.0, -66.0  # dB of a class, and of the last one
_STRONG = 0.003  # of the mean power so far, above which a bin of the stem that leaks counts
_FAINT = 1e-9  # power of a bin that counts as silent
_N_BANDS = 21
_FEW = 30.0  # pairs of times in a band, below which it tells nothing
_CONSTANT = 0.2  # coherence of the angle from which a leak is reported where the ratio is constant, too; 1: constant
_SURE = 7.0  # standard deviations of chance, for the same
_FOCUSED = 0.8  # share of what is coherent that has one ratio, from which the ratio is constant
_PLAIN, _PLAINLY = 0.3, 20.0  # coherence and standard deviations for all others: two that play the same are less alike


class Leak(NamedTuple):
    """A stem that another one holds.

    Attributes:
        source: number of the stem that is held.
        holder: number of the stem that holds it.
        level: dB of the held sound re the source.
        coherence: how constant the angle is, 0 by chance to 1.
        sureness: in standard deviations of chance.
    """

    source: int
    holder: int
    level: float
    coherence: float
    sureness: float


class LeakMeter:
    """Find stems that others hold.

    Args:
        sample_rate: Hz.
        n_stems: K.
    """

    def __init__(self, sample_rate: int, n_stems: int):
        self._n_fft = 2 ** max(5, round(np.log2(_WINDOW * sample_rate)))
        self._window = np.hanning(self._n_fft + 1)[:-1].astype(np.float32)
        low, high = (int(hertz * self._n_fft / sample_rate) for hertz in _RANGE)
        self._bins = slice(max(1, low), min(high, self._n_fft // 2))
        frequencies = np.arange(self._n_fft // 2 + 1)[self._bins] * sample_rate / self._n_fft
        edges = np.geomspace(*_RANGE, _N_BANDS + 1)
        self._bands = np.clip(np.digitize(frequencies, edges) - 1, 0, _N_BANDS - 1)
        self._n_classes = int(-_LOWEST / _STEP) + 1
        shape = n_stems, n_stems, self._n_classes, len(frequencies)
        self._turns, self._counts = np.zeros(shape, np.complex64), np.zeros(shape, np.int32)
        self._power, self._n_frames = np.zeros(n_stems), 0

    def push(self, stems: np.ndarray) -> None:
        """Take the next block (K, C, T)."""
        n_frames = stems.shape[-1] // self._n_fft
        if not n_frames:
            return
        share = np.linspace(0.6, 0.4, stems.shape[1], dtype=np.float32)  # unequal: opposite channels do not cancel
        mono = np.einsum("kct,c->kt", stems[..., : n_frames * self._n_fft], share / share.sum())
        frames = mono.reshape(len(mono), n_frames, self._n_fft) * self._window
        spectra = scipy.fft.rfft(frames)[..., self._bins]
        powers = np.square(spectra.real) + np.square(spectra.imag)
        self._power += powers.sum((1, 2), dtype=np.float64) / powers.shape[2]
        self._n_frames += n_frames
        phases = spectra / np.sqrt(np.maximum(powers, 1e-30))
        strong = powers > (_STRONG * self._power / self._n_frames)[:, None, None]
        for source in range(len(mono)):
            for holder in range(len(mono)):
                if source != holder:
                    self._add(source, holder, powers, phases, strong[source])

    def _add(self, source: int, holder: int, powers: np.ndarray, phases: np.ndarray, strong: np.ndarray) -> None:
        """Sort the bins of a pair by their ratio, and add up their angles."""
        used = strong & (powers[holder] > _FAINT) & (powers[holder] < powers[source])
        where = np.flatnonzero(used)
        if not len(where):
            return
        ratio = powers[holder].ravel()[where] / powers[source].ravel()[where]
        classes = np.minimum(np.rint(10 / -_STEP * np.log10(ratio)), self._n_classes - 1).astype(np.intp)
        turns = phases[holder].ravel()[where] * phases[source].ravel()[where].conj()
        place = classes * powers.shape[2] + where % powers.shape[2]
        shape, size = self._counts.shape[2:], self._counts[0, 0].size
        self._counts[source, holder] += np.bincount(place, minlength=size).reshape(shape)
        self._turns[source, holder].real += np.bincount(place, turns.real, size).reshape(shape)
        self._turns[source, holder].imag += np.bincount(place, turns.imag, size).reshape(shape)

    def finish(self) -> list[Leak]:
        """Return what leaks, the surest first."""
        n_stems = len(self._power)
        pairs = [(source, holder) for source in range(n_stems) for holder in range(n_stems) if source != holder]
        leaks = [leak for source, holder in pairs if (leak := self._find(source, holder))]
        leaks.sort(key=lambda leak: -leak.sureness)
        return _drop_common(leaks)

    def _find(self, source: int, holder: int) -> Leak | None:
        counts = self._counts[source, holder].astype(np.float64)
        constant = np.abs(self._turns[source, holder]) ** 2 - counts  # expected 0 by chance
        pairs = counts * (counts - 1)
        in_bands = np.zeros((2, self._n_classes, _N_BANDS))
        for kind, values in enumerate((constant, pairs)):
            for row, of_class in zip(in_bands[kind], values, strict=True):
                row += np.bincount(self._bands, of_class, _N_BANDS)
        constant, pairs = in_bands
        smooth = [np.stack([np.convolve(band, np.ones(3), "same") for band in rows.T], 1) for rows in in_bands]
        coherence, sureness = np.zeros(self._n_classes), np.zeros(self._n_classes)
        for index, (row, n_pairs) in enumerate(zip(*smooth, strict=True)):
            known = n_pairs >= _FEW
            if known.sum() >= min(3, _N_BANDS):
                sureness[index] = row.sum() / np.sqrt(n_pairs.sum())
                coherence[index] = _weighted_median(row[known] / n_pairs[known], np.sqrt(n_pairs[known]))
        best = int(np.argmax(np.where(sureness > _SURE, coherence, 0)))
        near = slice(max(0, best - 1), best + 2)
        plain = coherence[best] >= _PLAIN and sureness[best] >= _PLAINLY
        focused = self._focus(source, holder, near) >= _FOCUSED
        if coherence[best] < _CONSTANT or sureness[best] < _SURE or not (plain or focused):
            return None
        weight = np.maximum(constant[near].sum(1), 0) + 1e-9
        level = -_STEP * float((np.arange(self._n_classes)[near] * weight).sum() / weight.sum())
        return Leak(source, holder, level, float(coherence[best]), float(sureness[best]))

    def _focus(self, source: int, holder: int, near: slice) -> float:
        """Measure the share of what is coherent that lies in some classes."""
        counts = self._counts[source, holder]
        coherent = np.maximum(np.abs(self._turns[source, holder]) ** 2 - counts, 0) / np.maximum(counts, 1)
        coherent = np.where(counts >= 3, coherent, 0).sum(1)
        return float(coherent[near].sum() / max(coherent.sum(), 1e-9))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _drop_common(leaks: Sequence[Leak]) -> list[Leak]:
    """Drop pairs that are alike only because both hold a third, surer."""
    kept: list[Leak] = []
    for leak in leaks:
        pair = {leak.source, leak.holder}
        sources = [{other.source for other in kept if other.holder == stem} for stem in pair]
        if not (sources[0] & sources[1]):
            kept.append(leak)
    return kept
