"""Where stems sound: their levels in time, and the positions at which an example of a stem sounds or is silent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepkit.arguments import is_number
from sepkit.datasets.measurement import FRAMES_PER_SECOND, frame_edges
from sepkit.datasets.measuring import measure_file, measure_levels
from sepkit.datasets.songs import Song
from sepkit.datasets.stems import Stem, StemFile

_ROUNDING = 1e-9
NOWHERE = np.zeros((0, 2), dtype=np.int64)


@dataclass(frozen=True)
class ActivityRules:
    """What counts as sounding and as silent, and how many examples are silent.

    Attributes:
        silent: share of silent segments among those that are drawn, [0, 1].
        threshold: dB re full scale, of the mean square of 100 ms, above which a stem is active; -inf to 0.
        sounding: share of a segment in which a stem must be active for it to sound, (0, 1]; one in which it is active
            nowhere is silent; no other is drawn.
    """

    silent: float = 0.1
    threshold: float = -60.0
    sounding: float = 0.1

    def __post_init__(self) -> None:
        if not is_number(self.silent) or not 0 <= self.silent <= 1:
            raise ValueError(f"silent must be a share of the segments, [0, 1], got {self.silent}")
        if not is_number(self.threshold) or not self.threshold <= 0:
            raise ValueError(f"threshold must be a level in dB re full scale, at most 0, got {self.threshold}")
        if not is_number(self.sounding) or not 0 < self.sounding <= 1:
            raise ValueError(f"sounding must be a share of a segment, (0, 1], got {self.sounding}")


@dataclass(frozen=True)
class Activity:
    """The levels of stems of songs.

    Attributes:
        levels: by song and stem, (N,) mean square of each frame; None: the song lacks the stem.
        frame: length of a frame in samples of the songs.
    """

    levels: Sequence[Sequence[np.ndarray | None]]
    frame: float

    def active(self, song: int, stem: int, rules: ActivityRules) -> np.ndarray | None:
        """Return in which frames a stem is active, bool (N,); None where the song lacks it."""
        levels = self.levels[song][stem]
        return None if levels is None else levels > 10 ** (rules.threshold / 10)

    def seconds(self, stem: int, rules: ActivityRules, sample_rate: int) -> float:
        """Sum the time in which a stem is active in all songs, s."""
        active = (self.active(song, stem, rules) for song in range(len(self.levels)))
        return sum(int(frames.sum()) for frames in active if frames is not None) * self.frame / sample_rate


def join_activity(active: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return in which frames any of several stems is active, of those that are there; None where none is."""
    there = [frames for frames in active if frames is not None]
    if not there:
        return None
    joined = np.zeros(max(map(len, there)), dtype=bool)
    for frames in there:
        joined[: len(frames)] |= frames
    return joined


def measure_activity(songs: Sequence[Song], names: Sequence[str], progress: bool = True) -> Activity:
    """Measure the levels of stems of songs; files that were measured before are not read again.

    Args:
        songs: at least one.
        names: of the stems.
        progress: show a bar.

    Raises:
        sepkit.audio.AudioError: a file does not decode.
    """
    stems = [[song.stems[name] if song.has(name) else None for name in names] for song in songs]
    infos = [file.info for row in stems for stem in row if stem for file in stem.files]
    levels = measure_levels(infos, progress=progress)
    for info in infos:
        if Path(info.path) not in levels:  # it cannot be read, and this says why
            levels[Path(info.path)] = measure_file(info).levels
    rate = next(stem.sample_rate for row in stems for stem in row if stem)
    return Activity([[stem and sum_files(stem, levels) for stem in row] for row in stems], rate / FRAMES_PER_SECOND)


def sum_files(stem: Stem, levels: Mapping[Path, np.ndarray]) -> np.ndarray:
    """Compute the levels of a stem from those of its files, as of sounds that have nothing in common.

    Args:
        stem: of one file or several, or of parts of them.
        levels: (N,) mean square of each 100 ms of whole files, by path.

    Returns:
        (N,) mean square of each 100 ms of the stem.
    """
    found = [_cut_levels(levels[Path(file.info.path)], file) for file in stem.files]
    if len(found) == 1 and stem.files[0].gain == 1:
        return found[0]
    total = np.zeros(max(map(len, found)), dtype=np.float32)
    for part, file in zip(found, stem.files, strict=True):
        total[: len(part)] += file.gain**2 * part
    return total


def _cut_levels(levels: np.ndarray, file: StemFile) -> np.ndarray:
    """Cut levels to the part of a file that counts."""
    if file.start == 0 and file.end is None:
        return levels
    rate = file.info.sample_rate
    edges = frame_edges(rate, file.info.n_samples)[: len(levels) + 1]
    energy = np.concatenate([[0.0], np.cumsum(levels * np.diff(edges), dtype=np.float64)])
    wanted = file.start + frame_edges(rate, file.stop - file.start)
    return np.diff(np.interp(wanted, edges, energy)) / np.diff(wanted)


class Spans:
    """Positions of songs that may be drawn, as spans of samples.

    Args:
        spans: for each song (M, 2): first position, and that behind the last; sorted, apart from each other.
    """

    def __init__(self, spans: Sequence[np.ndarray]) -> None:
        self._firsts = np.cumsum([0, *map(len, spans)])
        joined = np.concatenate([np.zeros((0, 2), np.int64), *spans])
        self._starts = joined[:, 0]
        self._ends = np.concatenate([np.zeros(0, np.int64), *(np.cumsum(found[:, 1] - found[:, 0]) for found in spans)])
        sums = np.concatenate([[0], np.cumsum(joined[:, 1] - joined[:, 0])])
        self.n_positions = sums[self._firsts[1:]] - sums[self._firsts[:-1]]  # (songs,)

    @property
    def facts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where the spans of each song begin and end, and how many positions they have."""
        return self._starts, self._ends, self.n_positions

    def position(self, song: int, number: int) -> int:
        """Return the position with this number, 0 <= number < n_positions[song]."""
        first, end = self._firsts[song], self._firsts[song + 1]
        i = first + int(np.searchsorted(self._ends[first:end], number, side="right"))
        return int(self._starts[i]) + number - (int(self._ends[i - 1]) if i > first else 0)


def find_spans(
    active: np.ndarray, frame: float, n_samples: int, last: int, step: int, sounding: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the positions at which a segment sounds, and those at which it is silent.

    The share of a segment in which a stem is active is linear in its position between those at which it begins or ends
    with a run of frames: the spans are exact.

    Args:
        active: bool (N,), whether the stem is active in each frame.
        frame: samples per frame.
        n_samples: of a segment.
        last: the last position.
        step: spans begin at multiples of it, so that a position in one may be rounded down to one.
        sounding: least share of a sounding segment in which it is active, (0, 1]; in a silent one it is nowhere.

    Returns:
        Of either (M, 2), first positions and those behind the last.
    """
    if not active.any():
        return NOWHERE, _join(np.array([[0, last]]), step)
    if active.all() and last + n_samples <= len(active) * frame:
        return _join(np.array([[0, last]]), step), NOWHERE
    changes = np.concatenate([[0], np.flatnonzero(active[1:] != active[:-1]) + 1, [len(active)]])
    edges = changes * frame  # of runs of frames that are alike
    active_until = np.concatenate([[0.0], np.cumsum(np.diff(edges) * active[changes[:-1]])])
    length = min(n_samples, edges[-1])
    inner = np.concatenate([edges, edges - length])
    places = np.unique(np.concatenate([[0, last], inner[(inner > 0) & (inner < last)]]))
    ends = np.interp(places + length, edges, active_until)
    share = (ends - np.interp(places, edges, active_until)) / length
    sounds, silent = (_where_positive(places, margin + _ROUNDING) for margin in (share - sounding, -share))
    return _join(sounds, step), _join(silent, step)


def _where_positive(places: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Find where a piecewise linear function is not negative, (M, 2), both ends included."""
    if len(places) == 1:
        return np.repeat(places, 2)[None][margin >= 0]
    low, high, before, after = places[:-1], places[1:], margin[:-1], margin[1:]
    crossing = low + (high - low) * np.divide(before, before - after, out=np.zeros_like(low), where=before != after)
    starts, ends = np.where(before >= 0, low, crossing), np.where(after >= 0, high, crossing)
    return np.stack([starts, ends], 1)[(before >= 0) | (after >= 0)]


def _join(found: np.ndarray, step: int) -> np.ndarray:
    """Join spans that touch, and cut them to whole positions that begin at multiples of a step."""
    if not len(found):
        return NOWHERE
    apart = np.concatenate([[True], found[1:, 0] > found[:-1, 1] + _ROUNDING])
    starts = found[apart, 0]
    ends = found[np.concatenate([apart[1:], [True]]), 1]
    first = (np.ceil((starts - _ROUNDING) / step) * step).astype(np.int64)
    behind = np.floor(ends + _ROUNDING).astype(np.int64) + 1
    return np.stack([first, behind], 1)[behind > first]
