"""Fingerprints of songs, which stay alike when a song is coded with loss, made louder, shifted or cut."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # whose parts are imported when they are used

PER_SECOND = 20  # words
_WINDOW = 0.4  # s
_BANDS = np.geomspace(300, 2000, 34)  # Hz, edges
_BACK = 4  # words, to the one that is compared with
_FAINT = 1e-4  # of the mean power, below which there is no word
_HITS = 2  # equal words at one offset, from which two songs are compared
_ALIKE = 0.32  # share of bits that differ, below which a piece is the same; half differ by chance
_OFFSETS = 3  # of two songs, which are compared
_PIECE = 5.0  # s that are compared at a time
_SHORTEST = 0.3  # of the shorter song that must be the same


class Match(NamedTuple):
    """Two songs that hold the same.

    Attributes:
        first: number of the one.
        second: number of the other.
        seconds: how long what they share is.
        offset: seconds by which the second has it later.
        share: of the shorter song.
    """

    first: int
    second: int
    seconds: float
    offset: float
    share: float


class Fingerprinter:
    """Compute the fingerprint of a waveform that comes in blocks.

    Args:
        sample_rate: Hz.

    Source:
        J. Haitsma, T. Kalker, A highly robust audio fingerprinting system, 2002, section 4.2; fewer and longer steps.
    """

    def __init__(self, sample_rate: int):
        self._rate, self._length = sample_rate, max(16, round(_WINDOW * sample_rate))
        self._window = np.hanning(self._length).astype(np.float32)
        self._n_fft = scipy.fft.next_fast_len(self._length, real=True)
        bins = np.minimum(_BANDS * self._n_fft / sample_rate, self._n_fft // 2).astype(int)
        self._edges = bins
        self._held, self._first, self._next = np.zeros(0, np.float32), 0, 0
        self._energies: list[np.ndarray] = []

    def push(self, block: np.ndarray) -> None:
        """Take the next samples (T,)."""
        self._held = np.concatenate([self._held, block])
        end = self._first + len(self._held)
        n = max(0, ((end - self._length) * PER_SECOND + PER_SECOND - 1) // self._rate + 1 - self._next)
        starts = (np.arange(self._next, self._next + n) * self._rate) // PER_SECOND - self._first
        starts = starts[starts + self._length <= len(self._held)]
        for some in np.array_split(starts, max(1, len(starts) // 50)):
            frames = self._held[some[:, None] + np.arange(self._length)] * self._window
            spectra = scipy.fft.rfft(frames, self._n_fft)
            power = np.cumsum(np.square(spectra.real) + np.square(spectra.imag), -1, dtype=np.float64)
            self._energies.append(np.diff(power[:, self._edges], axis=1))
        self._next += len(starts)
        used = max(0, self._next * self._rate // PER_SECOND - self._first)
        self._held, self._first = self._held[used:], self._first + min(used, len(self._held))

    def finish(self) -> np.ndarray:
        """Return a word of 32 bits for each 50 ms, 0 where it is silent, (n,) uint32."""
        energies = np.concatenate([np.zeros((0, len(_BANDS) - 1)), *self._energies])
        if len(energies) <= _BACK:
            return np.zeros(0, np.uint32)
        levels = np.log(energies + 1e-12)
        slopes = levels[:, 1:] - levels[:, :-1]
        bits = (slopes[_BACK:] - slopes[:-_BACK]) > 0
        words = np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)
        power = energies[_BACK:].sum(1)
        return np.where(power > max(_FAINT * power.mean(), 1e-9), np.maximum(words, 1), 0).astype(np.uint32)


def find_matches(fingerprints: Sequence[np.ndarray]) -> list[Match]:
    """Find the pairs of songs that hold the same for a considerable part of the shorter one.

    Args:
        fingerprints: of songs, as `Fingerprinter` gives them.
    """
    words, songs, places = _join(fingerprints)
    matches = []
    for second, words_of_second in enumerate(fingerprints):
        for first, offsets in _candidates(words, songs, places, words_of_second, second).items():
            compared = [_compare(fingerprints, first, second, offset) for offset in offsets]
            matches += [max(found, key=lambda match: match.seconds)] if (found := [*filter(None, compared)]) else []
    return matches


def _join(fingerprints: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort all words but silent ones; of which song, and where, each is."""
    lengths = [len(words) for words in fingerprints]
    words = np.concatenate([np.zeros(0, np.uint32), *fingerprints])
    songs = np.repeat(np.arange(len(fingerprints)), lengths)
    places = np.concatenate([np.zeros(0, int), *map(np.arange, lengths)])
    order = np.argsort(words, kind="stable")
    order = order[words[order] > 0]
    return words[order], songs[order], places[order]


def _candidates(
    words: np.ndarray, songs: np.ndarray, places: np.ndarray, of_second: np.ndarray, second: int
) -> dict[int, list[int]]:
    """Find earlier songs with several equal words at one offset, and the most frequent offsets with each."""
    low, high = np.searchsorted(words, of_second, "left"), np.searchsorted(words, of_second, "right")
    counts = np.where((of_second > 0) & (high - low < 200), high - low, 0)  # frequent words tell nothing
    if not counts.sum():
        return {}
    at = np.repeat(np.arange(len(of_second)), counts)
    found = np.repeat(low, counts) + np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    earlier = songs[found] < second
    first, offset = songs[found][earlier], at[earlier] - places[found][earlier]
    pairs, hits = np.unique(np.stack([first, offset]), axis=1, return_counts=True)
    order = np.argsort(-hits, kind="stable")
    best: dict[int, list[int]] = {}
    for (song, shift), count in zip(pairs.T[order].tolist(), hits[order].tolist(), strict=True):
        if count >= _HITS and len(best.setdefault(song, [])) < _OFFSETS:
            best[song].append(shift)
    return best


def _compare(fingerprints: Sequence[np.ndarray], first: int, second: int, offset: int) -> Match | None:
    one, other = fingerprints[first], fingerprints[second]
    start, stop = max(0, -offset), min(len(one), len(other) - offset)
    one_cut, other_cut = one[start:stop], other[start + offset : stop + offset]
    sounding = (one_cut > 0) & (other_cut > 0)
    differing = np.unpackbits((one_cut ^ other_cut).view(np.uint8)).reshape(-1, 32).sum(1)
    n, length = int(_PIECE * PER_SECOND), len(one_cut)
    edges = np.arange(0, max(length, 1), n)
    errors = np.add.reduceat(np.where(sounding, differing, 0), edges) if length else np.zeros(1)
    counts = np.add.reduceat(sounding.astype(int), edges) if length else np.zeros(1)
    alike = (counts >= min(n, length) // 4) & (errors < _ALIKE * 32 * counts)
    shared = float(counts[alike].sum())
    shorter = max(1, min(int((one > 0).sum()), int((other > 0).sum())))
    share = shared / shorter
    if share < _SHORTEST or shared < PER_SECOND:
        return None
    return Match(first, second, shared / PER_SECOND, offset / PER_SECOND, share)
