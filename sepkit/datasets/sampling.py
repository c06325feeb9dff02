"""Which song an example takes a stem from, and where in it."""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sepkit.datasets.activity import NOWHERE, Activity, ActivityRules, Spans, find_spans, join_activity

TRACKS = ("duration", "equally")
_UNIT = 1 << 20  # the mass of a song of weight 1, where all are drawn equally
_LARGEST = 2**62  # sum of the masses


@dataclass(frozen=True)
class SamplingRules:
    """How songs and positions are drawn.

    Attributes:
        tracks: "duration": songs in proportion to their length, or to what of it may be drawn; "equally": each as
            often as any.
        balanced: draw whole examples for one target after the other, each as often, from the songs that have it, so
            that rare targets are not; remixed examples have all targets anyway.
        activity: draw segments in which a target sounds, with a share of silent ones: for each target of a remixed
            example; for a whole one, for the target that it is drawn for where `balanced`, else for any; None: as they
            come.
    """

    tracks: str = "duration"
    balanced: bool = False
    activity: ActivityRules | None = None

    def __post_init__(self) -> None:
        if self.tracks not in TRACKS:
            raise ValueError(f"tracks must be {' or '.join(TRACKS)}, got {self.tracks!r}")


@dataclass(frozen=True)
class SongTable:
    """The facts of songs on which draws depend.

    Attributes:
        lengths: of each song, samples.
        position_steps: positions in each song are multiples of this, samples.
        has_stem: bool (songs, K), which stems each song has.
        lends_stem: bool (songs, K), which of them each song gives to remixed examples; None: all that it has.
        weights: how often each song is drawn, for its length; None: 1 each.
        aligned: bool (songs,), whether the stems of each sound together, so that whole examples are drawn from it; else
            it gives what it has to remixed ones, and says nothing of other stems; None: all are.
        stems: names of the K stems, for messages; the targets first.
        n_targets: how many of the stems, the first, are targets.
    """

    lengths: Sequence[int]
    position_steps: Sequence[int]
    has_stem: Sequence[Sequence[bool]]
    lends_stem: Sequence[Sequence[bool]] | None = None
    weights: Sequence[float] | None = None
    aligned: Sequence[bool] | None = None
    stems: Sequence[str] = field(default=())
    n_targets: int = 0

    @cached_property
    def has(self) -> np.ndarray:
        """Return `has_stem` as an array."""
        return np.asarray(self.has_stem, dtype=bool)

    @cached_property
    def lends(self) -> np.ndarray:
        """Return `lends_stem` as an array."""
        return self.has if self.lends_stem is None else np.asarray(self.lends_stem, dtype=bool)

    @cached_property
    def together(self) -> np.ndarray:
        """Return `aligned` as an array."""
        return np.ones(len(self.has), dtype=bool) if self.aligned is None else np.asarray(self.aligned, dtype=bool)


class _Pool:
    """Songs, each with the positions that may be drawn.

    Args:
        masses: of each song, to which its chance is proportional, whole numbers.
        n_positions: of each song.
        spans: where the positions are; None: from 0 on.
    """

    def __init__(self, masses: np.ndarray, n_positions: np.ndarray, spans: Spans | None = None) -> None:
        self.masses, self.n_positions, self.spans = masses, n_positions, spans
        self.ends = np.cumsum(masses)

    def draw(self, generator: np.random.Generator, partners: np.ndarray | None) -> tuple[int, int] | None:
        """Draw a song, one of the partners (songs,) where these are given, and a position; None: there is none."""
        ends = self.ends if partners is None else np.cumsum(np.where(partners, self.masses, 0))
        if not ends[-1]:
            return None
        song = int(ends.searchsorted(generator.integers(ends[-1]), side="right"))
        number = int(generator.integers(self.n_positions[song]))
        return song, number if self.spans is None else self.spans.position(song, number)


class Sampling:
    """Draw songs and positions.

    Args:
        table: the facts of the songs.
        n_samples: length of an example; shorter songs start at 0.
        rules: how songs and positions are drawn.
        activity: of the targets, where the rules ask for it.

    Raises:
        ValueError: no song can be drawn, or a target sounds nowhere.
    """

    def __init__(
        self, table: SongTable, n_samples: int, rules: SamplingRules | None = None, activity: Activity | None = None
    ) -> None:
        self.table, self.rules = table, rules or SamplingRules()
        lengths = np.asarray(table.lengths, dtype=np.int64)
        self._weights = np.ones(len(lengths)) if table.weights is None else np.asarray(table.weights, dtype=float)
        if not np.isfinite(self._weights).all() or (self._weights < 0).any():
            raise ValueError(f"the weight of a song must be 0 or above, got {self._weights.min()}")
        self._lengths, self._n_samples, self._last = lengths, n_samples, np.maximum(0, lengths - n_samples)
        self._everywhere = self._pool(np.ones(len(lengths), dtype=bool))
        if not self._everywhere.ends[-1]:
            raise ValueError("no song can be drawn: give at least one a weight above 0")
        self._sounding = self._find_sounding(activity) if self.rules.activity else {}
        self._of_stem = [self._remixed_pools(k) for k in range(table.has.shape[1])]
        self._whole = self._whole_pools()

    def draw(
        self, generator: np.random.Generator, stem: int | None, partners: np.ndarray | None = None
    ) -> tuple[int | None, int]:
        """Draw a song and the first sample of a segment.

        Args:
            generator: of which the numbers are taken.
            stem: for which a remixed example draws; None: for a whole example.
            partners: bool (songs,), the songs that may be drawn; None: all.

        Returns:
            The song, None where no partner may be drawn, and the position.
        """
        if stem is not None:
            pools = self._of_stem[stem]
        else:
            pools = self._whole[int(generator.integers(len(self._whole))) if len(self._whole) > 1 else 0]
        if len(pools) > 1 and generator.random() < self.rules.activity.silent:
            pools = (pools[1], pools[0], *pools[2:])
        for pool in pools:
            if place := pool.draw(generator, partners):
                step = self.table.position_steps[place[0]]
                return place[0], place[1] // step * step
        return None, 0

    def _pool(self, eligible: np.ndarray, spans: Spans | None = None) -> _Pool:
        """Make a pool of the songs that are eligible, bool (songs,), and their positions."""
        n_positions = self._last + 1 if spans is None else spans.n_positions
        eligible = eligible & (n_positions > 0) & (self._weights > 0)
        if self.rules.tracks == "equally":
            masses = self._weights * _UNIT
        else:
            masses = self._lengths * self._weights * (n_positions / (self._last + 1))
            eligible = eligible & (self._lengths > 0)
        if masses.sum() > _LARGEST:
            raise ValueError(f"the weights of songs must be smaller numbers, got {self._weights.max():g}")
        return _Pool(np.where(eligible, np.maximum(1, np.rint(masses)), 0).astype(np.int64), n_positions, spans)

    def _remixed_pools(self, stem: int) -> tuple[_Pool, ...]:
        """List from what a stem of a remixed example is drawn: a target from the songs that lend it."""
        lending = self.table.lends[:, stem]
        if stem >= self.table.n_targets or not lending.any():
            pool = self._pool(lending | self.table.together)
            return (pool if pool.ends[-1] else self._everywhere,)
        return (*(self._pool(lending, spans) for spans in self._sounding.get(stem, ())), self._pool(lending))

    def _whole_pools(self) -> list[tuple[_Pool, ...]]:
        """List from what whole examples are drawn, each of the list as often."""
        n_targets, has, together = self.table.n_targets, self.table.has, self.table.together
        if self.rules.balanced and n_targets:
            spans_of = {k: [*self._sounding.get(k, ()), None] for k in range(n_targets)}
            pools = [tuple(self._pool(has[:, k] & together, spans) for spans in spans_of[k]) for k in spans_of]
            return [of_target for of_target in pools if of_target[-1].ends[-1]]
        return [tuple(self._pool(together, spans) for spans in (*self._sounding.get(None, ()), None))]

    def _find_sounding(self, activity: Activity | None) -> dict[int | None, tuple[Spans, Spans]]:
        """Find where each target sounds, and where it is silent; where balance plays no part, any of them (None)."""
        if activity is None:
            raise ValueError("sampling by activity needs the activity of the targets, got None: measure it first")
        targets, n_songs = range(self.table.n_targets), len(self._lengths)
        active = {k: [activity.active(song, k, self.rules.activity) for song in range(n_songs)] for k in targets}
        if not self.rules.balanced:
            active[None] = [join_activity([active[k][song] for k in targets]) for song in range(n_songs)]
        found = {k: self._find_spans(frames, activity.frame) for k, frames in active.items()}
        for k in (k for k in targets if not found[k][0].n_positions.any()):
            name = self.table.stems[k] if self.table.stems else f"stem {k}"
            warnings.warn(f"{name} sounds in no segment of any song: {self._remedy()}", stacklevel=4)
        if not any(found[k][0].n_positions.any() for k in targets):
            raise ValueError(f"no target sounds in any segment of any song: {self._remedy()}")
        return found

    def _remedy(self) -> str:
        rules = self.rules.activity
        return (
            f"it must be above {rules.threshold:g} dB in {100 * rules.sounding:g} % of one; lower activity.threshold "
            "or activity.sounding, or add songs"
        )

    def _find_spans(self, active: Sequence[np.ndarray | None], frame: float) -> tuple[Spans, Spans]:
        """Find where one of the targets sounds, and where it is silent, in all songs."""
        sounding, steps = self.rules.activity.sounding, self.table.position_steps
        found = [
            (NOWHERE, NOWHERE)
            if frames is None
            else find_spans(frames, frame, self._n_samples, int(self._last[song]), steps[song], sounding)
            for song, frames in enumerate(active)
        ]
        return Spans([sounds for sounds, _ in found]), Spans([silent for _, silent in found])

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of the facts on which draws depend."""
        table = self.table
        positions = [fact for pair in self._sounding.values() for spans in pair for fact in spans.facts]
        steps = np.asarray(table.position_steps, np.int64)
        facts = (self._lengths, steps, table.has, table.lends, self._weights, table.together)
        names = "\n".join(table.stems).encode()
        return hashlib.sha256(b"".join([*(fact.tobytes() for fact in (*facts, *positions)), names])).hexdigest()

    def describe(self) -> list[str]:
        """Describe for each target how much of the songs can be drawn as sounding, and as silent."""
        n_positions = (self._last + 1).sum()
        lines = []
        for k in range(self.table.n_targets) if self._sounding else ():
            sounds, silent = (round(100 * spans.n_positions.sum() / n_positions) for spans in self._sounding[k])
            lines.append(f"{self.table.stems[k]} sounds in {sounds} % and is silent in {silent} % of all segments")
        return lines
