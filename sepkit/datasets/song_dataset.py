"""SongDataset: examples from songs on disk, read as they are needed."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sepkit.arguments import is_number
from sepkit.datasets.matching import Remix
from sepkit.datasets.opening import check_targets
from sepkit.datasets.plan import Number, Plan, check_number, plan_songs
from sepkit.datasets.sampling import SamplingRules
from sepkit.datasets.songs import Song, stem_names


class Example(NamedTuple):
    """An example before it is augmented and mixed.

    Attributes:
        stems: (K, C, T) as recorded, the targets first; zeros where absent.
        parameters: of each augmentation (K, ...).
        present: bool (S,), which targets the example has; what is absent may sound in the mixture.
    """

    stems: Tensor
    parameters: tuple[Tensor, ...]
    present: Tensor


class SongDataset(Dataset):
    """Examples from songs, each decided by (seed, epoch, i) alone.

    The residual of a recorded mixture, which is no part of its song, stays out of remixed examples, unless the song has
    one part alone and ten seconds show that the residual is another, no trace of a mixture that is late or mastered.

    Args:
        songs: what examples are drawn from.
        targets: names of the S stems that an example returns; every song has at least one of them.
        n_samples: length of an example.
        n_items: examples per epoch; None: as many as the songs are long.
        remix: share of the examples whose stems come from different songs, [0, 1], or which songs go together, too.
        augment: augmentations of `sepkit.augment`, applied in order to all stems before they are summed.
        seed: the same seed gives the same examples.
        sampling: how songs and positions are drawn; None: in proportion to the length of the songs.
    """

    def __init__(
        self,
        songs: Sequence[Song],
        targets: Sequence[str],
        n_samples: int,
        n_items: int | None = None,
        remix: float | Remix = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
        sampling: SamplingRules | None = None,
    ) -> None:
        if n_samples < 1 or (n_items is not None and n_items < 1):
            raise ValueError(
                f"an example and an epoch must not be empty, got {n_samples} samples and {n_items} examples"
            )
        check_targets(targets)
        if not targets or len(set(targets)) < len(targets):
            raise ValueError(f"targets must name at least one stem, each once, got {list(targets)}")
        inside = [f"{song.name}: {name}" for song in songs for name in targets if name in song.apart]
        if inside:
            raise ValueError(f"no target may be part of another, as by their names these are: {', '.join(inside)}")
        lacking = [song.name for song in songs if not any(map(song.has, targets))]
        if lacking or not songs:
            of = f"have none of {', '.join(targets)}: {', '.join(lacking)}" if lacking else "is missing: the songs"
            raise ValueError(f"every song must have at least one of the targets, {of}")
        self.songs, self.targets, self.n_samples = list(songs), list(targets), n_samples
        self.n_items = n_items or max(1, sum(song.n_samples for song in songs) // n_samples)
        self.stems = stem_names(songs, targets)
        self.augment = list(augment)
        self.planner = plan_songs(songs, self.stems, len(self.targets), n_samples, remix, augment, seed, sampling)

    def __len__(self) -> int:
        return self.n_items

    @property
    def n_channels(self) -> int:
        """Return C."""
        return self.songs[0].n_channels

    def plan(self, number: Number) -> Plan:
        """Return the songs, positions and augmentations of example (epoch, i) without reading."""
        return self.planner.plan(number)

    def presence(self, numbers: Sequence[Number]) -> Tensor:
        """Return which targets examples have, bool (B, S) on the CPU, without reading them."""
        n_targets = len(self.targets)
        if self.planner.sampling.table.lends[:, :n_targets].all():  # so each song has them, and none is planned
            return torch.ones(len(numbers), n_targets, dtype=torch.bool)
        return torch.tensor([self.plan(number).present[:n_targets] for number in numbers])

    def read(self, number: Number) -> Example:
        """Read example (epoch, i)."""
        plan = self.plan(number)
        stems = torch.empty(len(self.stems), self.n_channels, self.n_samples)
        if plan.remixed:
            for k, (song, position) in enumerate(zip(plan.songs, plan.positions, strict=True)):
                if song is None:
                    stems[k].zero_()
                else:
                    self.songs[song].read_into(stems[k : k + 1], self.stems[k : k + 1], position)
        else:
            song = next(song for song in plan.songs if song is not None)
            self.songs[song].read_into(stems, self.stems, plan.positions[0])
        parameters = tuple(torch.as_tensor(drawn, dtype=torch.float32) for drawn in plan.parameters)
        return Example(stems, parameters, torch.tensor(plan.present[: len(self.targets)]))

    def __getitem__(self, number: int | Number) -> tuple[Tensor, Tensor]:
        """Get an example.

        Args:
            number: (epoch, i), or i alone, which is of epoch 0.

        Returns:
            mixture (C, T), the sum of all stems, and targets (S, C, T), zeros where the example lacks one.
        """
        example = self.read(check_number(number, self.n_items))
        return augment_and_mix(example.stems, example.parameters, self.augment, len(self.targets))


def augment_and_mix(
    stems: Tensor, parameters: Sequence[Tensor], augment: Sequence[Any], n_targets: int
) -> tuple[Tensor, Tensor]:
    """Augment the stems of examples and sum them.

    Args:
        stems: (..., K, C, T), the targets first.
        parameters: for each augmentation (..., K, ...).
        augment: the augmentations, in order.
        n_targets: S.

    Returns:
        mixture (..., C, T) and targets (..., S, C, T).
    """
    for step, drawn in zip(augment, parameters, strict=True):
        stems = step(stems, drawn)
    return stems.sum(-3), stems[..., :n_targets, :, :]


def count_samples(seconds: float, sample_rate: int) -> int:
    """Convert the length of an example to samples.

    Raises:
        ValueError: it is no finite number of seconds above 0.
    """
    if not is_number(seconds) or not 0 < seconds < math.inf:
        raise ValueError(f"the length of an example must be a finite number of seconds above 0, got {seconds}")
    return round(seconds * sample_rate)
