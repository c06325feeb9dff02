"""Which songs, positions and augmentations an example has: from (seed, epoch, i) alone."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

Number = tuple[int, int]  # epoch and index of an example


def check_number(number: int | Number, n_items: int) -> Number:
    """Return the number of an example as (epoch, i), 0 <= i < n_items; i alone is of epoch 0."""
    epoch, i = number if isinstance(number, tuple) else (0, number)
    epoch, i = operator.index(epoch), operator.index(i)
    if not -n_items <= i < n_items:
        raise IndexError(f"the dataset has {n_items} examples, got index {i}")
    return epoch, i % n_items


@dataclass(frozen=True)
class Plan:
    """An example before anything is read.

    Attributes:
        songs: index of the song per stem; None where the stem is absent.
        positions: first sample per stem.
        parameters: what each augmentation decided, an array whose first dimension is the stems.
        remixed: whether song and position were drawn for each stem; else they are one song's.
    """

    songs: tuple[int | None, ...]
    positions: tuple[int, ...]
    parameters: tuple[np.ndarray, ...]
    remixed: bool

    @property
    def present(self) -> tuple[bool, ...]:
        """Return for each stem whether the example has it; what is absent is unknown, not silent."""
        return tuple(song is not None for song in self.songs)


class Planner:
    """Decide examples: reproducible, in any order, by any number of workers and processes.

    Songs are drawn in proportion to their length: for a target of a remixed example among the songs that lend it, for
    all else among all songs. A stem that the drawn song does not have is absent.

    Args:
        lengths: of each song, samples.
        position_steps: positions in each song are multiples of this, samples.
        has_stem: bool (songs, K), which stems each song has.
        n_samples: length of an example; shorter songs start at 0.
        remix: share of the examples whose stems come from different songs, [0, 1].
        augment: augmentations, whose `sample_parameters` is called in this order.
        seed: >= 0; the same seed gives the same examples.
        lends_stem: bool (songs, K), which of them each song gives to remixed examples; None: all that it has.
        n_targets: how many of the stems, the first, are targets.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        position_steps: Sequence[int],
        has_stem: Sequence[Sequence[bool]],
        n_samples: int,
        remix: float = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
        lends_stem: Sequence[Sequence[bool]] | None = None,
        n_targets: int = 0,
    ) -> None:
        if not 0 <= remix <= 1:
            raise ValueError(f"remix must lie in [0, 1], got {remix}")
        if seed < 0:
            raise ValueError(f"seed must be 0 or above, got {seed}")
        self.position_steps, self.has_stem = list(position_steps), np.asarray(has_stem, dtype=bool)
        self.lends_stem = self.has_stem if lends_stem is None else np.asarray(lends_stem, dtype=bool)
        self.last = [max(0, length - n_samples) for length in lengths]
        lending = np.ones_like(self.lends_stem)
        lending[:, :n_targets] = self.lends_stem[:, :n_targets] | ~self.lends_stem[:, :n_targets].any(0)
        self.ends = np.cumsum(lengths)
        self.stem_ends = np.cumsum(np.asarray(lengths) * lending.T, axis=1)
        self.remix, self.augment, self.seed = remix, list(augment), seed

    def plan(self, number: Number) -> Plan:
        """Decide the example with this number (epoch, i)."""
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *number])))
        n_stems = self.has_stem.shape[1]
        remixed = bool(generator.random() < self.remix)
        if remixed:
            places, usable = [self._draw(generator, ends) for ends in self.stem_ends], self.lends_stem
        else:
            places, usable = [self._draw(generator, self.ends)] * n_stems, self.has_stem
        songs = tuple(song if usable[song, k] else None for k, (song, _) in enumerate(places))
        positions = tuple(position for _, position in places)
        return Plan(
            songs, positions, tuple(step.sample_parameters(generator, n_stems) for step in self.augment), remixed
        )

    def _draw(self, generator: np.random.Generator, ends: np.ndarray) -> tuple[int, int]:
        """Draw a song and a position in it; `ends` are the sums of the lengths up to each song's end."""
        song = int(np.searchsorted(ends, generator.integers(ends[-1]), side="right"))
        position = int(generator.integers(self.last[song] + 1))
        return song, position // self.position_steps[song] * self.position_steps[song]


class EpochSampler(Sampler):
    """Hand out batches of numbers (epoch, i), the same on every run.

    Args:
        n_items: examples per epoch.
        batch_size: examples per batch; the last batch is smaller where it does not divide.
        epoch: the current epoch; set it before each epoch.
        first_batch: batches of the current epoch to leave out, because they were used before an interruption;
            set it back to 0 for the next epoch.
    """

    def __init__(self, n_items: int, batch_size: int, epoch: int = 0, first_batch: int = 0) -> None:
        if n_items < 1 or batch_size < 1:
            raise ValueError(f"n_items and batch_size must be above 0, got {n_items} and {batch_size}")
        self.n_items, self.batch_size, self.epoch, self.first_batch = n_items, batch_size, epoch, first_batch

    def __len__(self) -> int:
        """Count the batches that are handed out."""
        return max(0, -(-self.n_items // self.batch_size) - self.first_batch)

    def __iter__(self) -> Iterator[list[Number]]:
        epoch = self.epoch
        for first in range(self.first_batch * self.batch_size, self.n_items, self.batch_size):
            yield [(epoch, i) for i in range(first, min(first + self.batch_size, self.n_items))]
