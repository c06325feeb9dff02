"""AudioFolder: examples from folders of songs, read from disk as they are needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sepkit.datasets.plan import Number, Plan, Planner
from sepkit.datasets.songs import DatasetError, Song, find_songs, stem_names


class SongDataset(Dataset):
    """Examples from songs, each decided by (seed, epoch, i) alone.

    Args:
        songs: what examples are drawn from.
        targets: names of the S stems that an example returns.
        segment: length of an example, samples.
        n_items: examples per epoch.
        remix: share of the examples whose stems come from different songs, [0, 1].
        augment: augmentations of `sepkit.augment`, applied in order to all stems before they are summed.
        seed: the same seed gives the same examples.
    """

    def __init__(
        self,
        songs: Sequence[Song],
        targets: Sequence[str],
        segment: int,
        n_items: int,
        remix: float = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
    ) -> None:
        if segment < 1 or n_items < 1:
            raise ValueError(f"an example and an epoch must not be empty, got {segment} samples and {n_items} examples")
        self.songs, self.targets, self.segment, self.n_items = list(songs), list(targets), segment, n_items
        self.stems = stem_names(songs, targets)
        self.augment = list(augment)
        self.planner = Planner(
            [song.n_frames for song in self.songs],
            [song.quantum for song in self.songs],
            [[song.has(name) for name in self.stems] for song in self.songs],
            segment,
            remix,
            augment,
            seed,
        )

    def __len__(self) -> int:
        return self.n_items

    def plan(self, number: Number) -> Plan:
        """Tell the songs, positions and augmentations of example (epoch, i) without reading."""
        return self.planner.plan(number)

    def read(self, number: Number) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Read the stems (K, C, T) of example (epoch, i), and what is to be done to them.

        Returns:
            The stems as recorded, the targets first; and for each augmentation what it has drawn (K, ...).
        """
        plan = self.plan(number)
        channels = self.n_channels
        stems = torch.zeros(len(self.stems), channels, self.segment)
        for k, (name, song, position) in enumerate(zip(self.stems, plan.songs, plan.positions, strict=True)):
            if song is not None:
                stems[k] = self.songs[song].read_stem(name, position, self.segment)
        return stems, tuple(torch.from_numpy(drawn) for drawn in plan.drawn)

    @property
    def n_channels(self) -> int:
        """C."""
        return next(iter(self.songs[0].stems.values())).n_channels

    def __getitem__(self, number: int | Number) -> tuple[Tensor, Tensor]:
        """Get an example.

        Args:
            number: (epoch, i), or i alone, which is of epoch 0.

        Returns:
            mixture (C, T), the sum of all stems, and targets (S, C, T).
        """
        epoch, i = number if isinstance(number, tuple) else (0, number)
        if not -self.n_items <= i < self.n_items:
            raise IndexError(f"the dataset has {self.n_items} examples, got index {i}")
        return finish(*self.read((epoch, i % self.n_items)), self.augment, len(self.targets))


def finish(stems: Tensor, drawn: Sequence[Tensor], augment: Sequence[Any], n_targets: int) -> tuple[Tensor, Tensor]:
    """Augment the stems of examples and sum them.

    Args:
        stems: (..., K, C, T), the targets first.
        drawn: for each augmentation (..., K, ...).
        augment: the augmentations, in order.
        n_targets: S.

    Returns:
        mixture (..., C, T) and targets (..., S, C, T).
    """
    for step, decided in zip(augment, drawn, strict=True):
        stems = step(stems, decided)
    return stems.sum(-3), stems[..., :n_targets, :, :]


class AudioFolder(SongDataset):
    """Examples from a folder of songs: `root/{train,valid,test}/song/{vocals,drums,bass,other,...}.wav`.

    Any readable format is taken. A flat `root/song/` counts as train; where `valid` is absent, whole songs of
    train are set aside for it. The mixture is the sum of all stems of the song, whether wanted or not; what a
    recorded `mixture` holds beside them belongs to it. Stems may be silent throughout. A song shorter than an
    example is filled with silence.

    Args:
        dataset_path: the root.
        targets: names of the S stems to return, in this order; None: all stems of the first song, sorted.
        sample_length: seconds per example.
        subset: "train", "valid" or "test".
        sample_rate: Hz; files of another rate are refused unless `resample`.
        num_channels: C; mono is copied to C channels, and averaged to one where C is 1.
        resample: convert files of other rates.
        items_per_epoch: number of examples; None: once through the audio of the subset.
        remix: share of the examples whose stems come from different songs, [0, 1].
        augment: augmentations of `sepkit.augment`, in order.
        seed: the same seed gives the same examples.
        valid_share: share of the songs of train that make valid where that is absent.
        split_seed: which songs these are.

    Raises:
        DatasetError: the folder cannot be used, with all findings.
    """

    def __init__(
        self,
        dataset_path: str | Path,
        targets: Sequence[str] | None = None,
        sample_length: float = 3,
        subset: str = "train",
        sample_rate: int = 44100,
        num_channels: int = 1,
        resample: bool = False,
        items_per_epoch: int | None = None,
        remix: float = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
        valid_share: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        if sample_length <= 0:
            raise ValueError(f"sample_length must be above 0 seconds, got {sample_length}")
        songs = find_songs(
            dataset_path, subset, targets, sample_rate, num_channels, resample, valid_share, split_seed
        )
        if targets is None:
            targets = sorted(songs[0].stems)
            missing = {name for song in songs for name in targets if name not in song.stems}
            if missing:
                raise DatasetError(dataset_path, [f"not all songs have {', '.join(sorted(missing))}: name the targets"])
        segment = max(1, round(sample_length * sample_rate))
        n_items = items_per_epoch or max(1, sum(song.n_frames for song in songs) // segment)
        self.sample_rate, self.sample_length = sample_rate, sample_length
        super().__init__(songs, targets, segment, n_items, remix, augment, seed)


def create_audio_folder(
    dataset_path: str | Path,
    targets: Sequence[str] | None = None,
    split: str = "train",
    chunk_size: float = 2,
    sample_rate: int = 44100,
    mono: bool = True,
) -> AudioFolder:
    """Create an AudioFolder after checking the root.

    Args:
        dataset_path: the root.
        targets: names of the stems to return; None: all.
        split: "train", "valid" or "test".
        chunk_size: seconds per example.
        sample_rate: Hz.
        mono: average the channels to one; False: stereo.

    Raises:
        DatasetError: the folder cannot be used, with all findings.
    """
    return AudioFolder(dataset_path, targets, chunk_size, split, sample_rate, 1 if mono else 2)
