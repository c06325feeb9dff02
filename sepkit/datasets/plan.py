"""Which songs, positions and augmentations an example has: from (seed, epoch, i) alone."""

import hashlib
import operator
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Sampler

from sepkit.datasets.activity import measure_activity
from sepkit.datasets.matching import Partners, Remix
from sepkit.datasets.sampling import Sampling, SamplingRules, SongTable
from sepkit.datasets.songs import Song

VERSION = 1  # of the order in which what decides an example is drawn
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

    By default songs are drawn in proportion to their length: for a target of a remixed example among the songs that
    lend it, for all else among all songs. A stem that the drawn song does not have is absent.

    Args:
        sampling: draws songs and positions.
        remix: share of the examples whose stems come from different songs, [0, 1].
        augment: augmentations, whose `sample_parameters` is called in this order.
        seed: >= 0; the same seed gives the same examples.
        partners: songs that go together in remixed examples: the first stem is drawn from any, and the others from
            those that go with its song; None: all do.
    """

    def __init__(
        self,
        sampling: Sampling,
        remix: float = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
        partners: Partners | None = None,
    ) -> None:
        if not 0 <= remix <= 1:
            raise ValueError(f"remix must lie in [0, 1], got {remix}")
        if seed < 0:
            raise ValueError(f"seed must be 0 or above, got {seed}")
        self.sampling, self.partners = sampling, partners
        self.remix, self.augment, self.seed = remix, list(augment), seed

    @property
    def fingerprint(self) -> str:
        """Return a hash of the facts of songs on which draws depend."""
        facts = self.sampling.fingerprint.encode() + (self.partners.facts if self.partners else b"")
        return hashlib.sha256(facts).hexdigest()

    def plan(self, number: Number) -> Plan:
        """Decide the example with this number (epoch, i)."""
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, *number])))
        table, n_stems = self.sampling.table, self.sampling.table.has.shape[1]
        remixed = bool(generator.random() < self.remix)
        if remixed:
            places, usable = self._draw_stems(generator, n_stems), table.lends
        else:
            places, usable = [self.sampling.draw(generator, None)] * n_stems, table.has
        songs = tuple(song if song is not None and usable[song, k] else None for k, (song, _) in enumerate(places))
        positions = tuple(position for _, position in places)
        return Plan(
            songs, positions, tuple(step.sample_parameters(generator, n_stems) for step in self.augment), remixed
        )

    def _draw_stems(self, generator: np.random.Generator, n_stems: int) -> list[tuple[int | None, int]]:
        """Draw a song and a position for each stem."""
        first = self.sampling.draw(generator, 0)
        fitting = self.partners and self.partners.find(first[0])
        return [first, *(self.sampling.draw(generator, k, fitting) for k in range(1, n_stems))]


def plan_songs(
    songs: Sequence[Song],
    stems: Sequence[str],
    n_targets: int,
    n_samples: int,
    remix: float | Remix = 0.0,
    augment: Sequence[Any] = (),
    seed: int = 0,
    rules: SamplingRules | None = None,
) -> Planner:
    """Make the planner of examples of songs; where they are sampled by activity, measure it.

    Args:
        songs: which are drawn from.
        stems: names of the K stems of an example, the targets first.
        n_targets: S.
        n_samples: length of an example.
        remix: share of the examples whose stems come from different songs, or which songs go together, too.
        augment: augmentations, in order.
        seed: >= 0.
        rules: how songs and positions are drawn; None: as `SamplingRules` does.

    Raises:
        ValueError: an argument is out of range, or the songs do not have what is asked for.
        sepkit.audio.AudioError: activity is asked for, and a file does not decode.
    """
    remix = remix if isinstance(remix, Remix) else Remix(remix)
    partners = Partners(remix, [song.tempo for song in songs], [song.key for song in songs])
    if partners.n_alone:
        what = " or ".join(name for name in ("tempo", "key") if getattr(remix, name) is not None)
        warnings.warn(
            f"{partners.n_alone} of {len(songs)} songs are remixed with no other, since their {what} is not known: add "
            "it to manifest.csv",
            stacklevel=2,
        )
    if remix.share < 1 and not any(song.aligned and song.weight > 0 for song in songs):
        raise ValueError(
            f"the tracks have one stem each and can only be remixed, got remix {remix.share:g}: set data.remix: 1, or "
            "add songs whose stems belong together"
        )
    targets = stems[:n_targets]
    table = SongTable(
        [song.n_samples for song in songs],
        [song.position_step for song in songs],
        [[song.has(name) for name in stems] for song in songs],
        [[song.lends(name, targets) for name in stems] for song in songs] if remix.share else None,
        [song.weight for song in songs],
        [song.aligned for song in songs],
        stems,
        n_targets,
    )
    activity = measure_activity(songs, targets) if rules and rules.activity else None
    return Planner(Sampling(table, n_samples, rules, activity), remix.share, augment, seed, partners)


class EpochSampler(Sampler):
    """Hand out batches of numbers (epoch, i), the same on every run.

    Args:
        n_items: examples per epoch.
        batch_size: examples per batch of all processes; the last batch is smaller where it does not divide.
        epoch: the current epoch; set it before each epoch.
        first_batch: batches of the current epoch to leave out, because they were used before an interruption;
            set it back to 0 for the next epoch.
        rank: number of this process among those that share each batch, from 0.
        world: number of these processes; their shares together are the batches of one alone.

    Raises:
        ValueError: a number is out of range, or a process would have no share in a batch.
    """

    def __init__(
        self, n_items: int, batch_size: int, epoch: int = 0, first_batch: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if n_items < 1 or batch_size < 1:
            raise ValueError(f"n_items and batch_size must be above 0, got {n_items} and {batch_size}")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be one of {world} processes, counted from 0, got {rank}")
        smallest = min(n_items, batch_size, n_items % batch_size or batch_size)
        if smallest < world:
            raise ValueError(
                f"a batch has {smallest} of {n_items} examples, fewer than the {world} processes that share it: choose "
                f"another batch size than {batch_size}, or more examples"
            )
        self.n_items, self.batch_size, self.epoch, self.first_batch = n_items, batch_size, epoch, first_batch
        self.rank, self.world = rank, world

    def count_own(self, n_items: int) -> int:
        """Count the examples of this process among as many that are shared batch by batch, from the first on."""
        starts = range(0, n_items, self.batch_size)
        return sum(len(range(s + self.rank, min(s + self.batch_size, n_items), self.world)) for s in starts)

    def __len__(self) -> int:
        """Count the batches that are handed out."""
        return max(0, -(-self.n_items // self.batch_size) - self.first_batch)

    def __iter__(self) -> Iterator[list[Number]]:
        epoch = self.epoch
        for first in range(self.first_batch * self.batch_size, self.n_items, self.batch_size):
            end = min(first + self.batch_size, self.n_items)
            yield [(epoch, i) for i in range(first + self.rank, end, self.world)]
