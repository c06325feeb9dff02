"""SongDataset: examples from songs on disk, read as they are needed."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sepkit.arguments import is_number
from sepkit.datasets.plan import Number, Plan, Planner, check_number
from sepkit.datasets.songs import Song, check_targets, stem_names


class SongDataset(Dataset):
    """Examples from songs, each decided by (seed, epoch, i) alone.

    What a recorded mixture holds beside the parts of its song stays out of remixed examples, unless the song has one
    part alone and ten seconds show that the rest is another, no trace of a mixture that is late, scaled or mastered.

    Args:
        songs: what examples are drawn from.
        targets: names of the S stems that an example returns; every song has them.
        segment: length of an example, samples.
        n_items: examples per epoch; None: as many as the songs are long.
        remix: share of the examples whose stems come from different songs, [0, 1].
        augment: augmentations of `sepkit.augment`, applied in order to all stems before they are summed.
        seed: the same seed gives the same examples.
    """

    def __init__(
        self,
        songs: Sequence[Song],
        targets: Sequence[str],
        segment: int,
        n_items: int | None = None,
        remix: float = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
    ) -> None:
        if segment < 1 or (n_items is not None and n_items < 1):
            raise ValueError(f"an example and an epoch must not be empty, got {segment} samples and {n_items} examples")
        check_targets(targets)
        if not targets or len(set(targets)) < len(targets):
            raise ValueError(f"targets must name at least one stem, each once, got {list(targets)}")
        inside = [f"{song.name}: {name}" for song in songs for name in targets if name in song.apart]
        if inside:
            raise ValueError(f"no target may be part of another, as by their names these are: {', '.join(inside)}")
        missing = [f"{song.name}: {name}" for song in songs for name in targets if name not in song.stems]
        if missing or not songs:
            raise ValueError(f"every song must have the targets, missing are {', '.join(missing) or 'the songs'}")
        self.songs, self.targets, self.segment = list(songs), list(targets), segment
        self.n_items = n_items or max(1, sum(song.n_samples for song in songs) // segment)
        self.stems = stem_names(songs, targets)
        self.augment = list(augment)
        self.planner = Planner(
            [song.n_samples for song in self.songs],
            [song.position_step for song in self.songs],
            [[song.has(name) for name in self.stems] for song in self.songs],
            segment,
            remix,
            augment,
            seed,
            [[song.lends(name) for name in self.stems] for song in self.songs] if remix else None,
        )

    def __len__(self) -> int:
        return self.n_items

    @property
    def n_channels(self) -> int:
        """C."""
        return self.songs[0].n_channels

    def plan(self, number: Number) -> Plan:
        """Tell the songs, positions and augmentations of example (epoch, i) without reading."""
        return self.planner.plan(number)

    def read(self, number: Number) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read the stems (K, C, T) of example (epoch, i), and what is to be done to them.

        Returns:
            The stems as recorded, the targets first; and for each augmentation what it has drawn (K, ...).
        """
        plan = self.plan(number)
        stems = torch.empty(len(self.stems), self.n_channels, self.segment)
        if plan.remixed:
            self._read_remixed(stems, plan)
        else:  # the first stem is a target, which every song has
            self.songs[plan.songs[0]].read_into(stems, self.stems, plan.positions[0])
        return stems, tuple(torch.as_tensor(parameters, dtype=torch.float32) for parameters in plan.parameters)

    def _read_remixed(self, stems: Tensor, plan: Plan) -> None:
        for k, (song, position) in enumerate(zip(plan.songs, plan.positions, strict=True)):
            if song is None:
                stems[k].zero_()
            else:
                self.songs[song].read_into(stems[k : k + 1], self.stems[k : k + 1], position)

    def __getitem__(self, number: int | Number) -> tuple[Tensor, Tensor]:
        """Get an example.

        Args:
            number: (epoch, i), or i alone, which is of epoch 0.

        Returns:
            mixture (C, T), the sum of all stems, and targets (S, C, T).
        """
        number = check_number(number, self.n_items)
        return augment_and_mix(*self.read(number), self.augment, len(self.targets))


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
    for step, decided in zip(augment, parameters, strict=True):
        stems = step(stems, decided)
    return stems.sum(-3), stems[..., :n_targets, :, :]


def count_samples(seconds: float, sample_rate: int) -> int:
    """Convert the length of an example to samples.

    Raises:
        ValueError: it is no finite number of seconds above 0.
    """
    if not is_number(seconds) or not 0 < seconds < math.inf:
        raise ValueError(f"the length of an example must be a finite number of seconds above 0, got {seconds}")
    return round(seconds * sample_rate)
