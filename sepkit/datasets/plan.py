"""Which songs, positions and augmentations an example has: from (seed, epoch, i) alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

Number = tuple[int, int]  # epoch and index of an example


@dataclass(frozen=True)
class Plan:
    """An example before anything is read.

    Attributes:
        songs: index of the song per stem; None where the song lacks the stem, which then is silent.
        positions: first sample per stem.
        drawn: what each augmentation decided, an array whose first dimension is the stems.
    """

    songs: tuple[int | None, ...]
    positions: tuple[int, ...]
    drawn: tuple[np.ndarray, ...]


class Planner:
    """Decide examples: reproducible, in any order, by any number of workers and processes.

    Songs are drawn in proportion to the number of positions that they offer.

    Args:
        n_frames: length of each song, samples.
        quanta: positions in each song are multiples of this, samples.
        has_stem: bool (songs, K), which stems each song has.
        segment: length of an example, samples; shorter songs start at 0.
        remix: share of the examples whose stems come from different songs, [0, 1].
        augment: augmentations, whose `draw` is called in this order.
        seed: the same seed gives the same examples.
    """

    def __init__(
        self,
        n_frames: Sequence[int],
        quanta: Sequence[int],
        has_stem: np.ndarray,
        segment: int,
        remix: float = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
    ) -> None:
        if not 0 <= remix <= 1:
            raise ValueError(f"remix must lie in [0, 1], got {remix}")
        self.quanta, self.has_stem = np.asarray(quanta), np.asarray(has_stem, dtype=bool)
        self.n_positions = np.maximum(0, np.asarray(n_frames) - segment) // self.quanta + 1
        self.remix, self.augment, self.seed = remix, list(augment), seed

    def plan(self, number: Number) -> Plan:
        """Decide the example with this number (epoch, i)."""
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *number])))
        n_stems = self.has_stem.shape[1]
        if generator.random() < self.remix:
            drawn = [self._draw(generator, self.has_stem[:, stem]) for stem in range(n_stems)]
            songs, positions = zip(*drawn, strict=True)
        else:
            song, position = self._draw(generator, np.ones(len(self.has_stem), dtype=bool))
            songs = tuple(song if has else None for has in self.has_stem[song])
            positions = (position,) * n_stems
        return Plan(songs, positions, tuple(step.draw(generator, n_stems) for step in self.augment))

    def _draw(self, generator: np.random.Generator, allowed: np.ndarray) -> tuple[int, int]:
        """Draw a song among the allowed ones, and a position in it."""
        shares = np.where(allowed, self.n_positions, 0)
        song = int(generator.choice(len(shares), p=shares / shares.sum()))
        return song, int(generator.integers(self.n_positions[song]) * self.quanta[song])


class EpochSampler(Sampler):
    """Hand out batches of numbers (epoch, i), the same on every run.

    Args:
        n_items: examples per epoch.
        batch_size: examples per batch; the last batch is smaller where it does not divide.
        epoch: the current epoch; set it before each epoch.
    """

    def __init__(self, n_items: int, batch_size: int, epoch: int = 0) -> None:
        self.n_items, self.batch_size, self.epoch = n_items, batch_size, epoch

    def __len__(self) -> int:
        return -(-self.n_items // self.batch_size)

    def __iter__(self) -> Iterator[list[Number]]:
        for first in range(0, self.n_items, self.batch_size):
            yield [(self.epoch, i) for i in range(first, min(first + self.batch_size, self.n_items))]
