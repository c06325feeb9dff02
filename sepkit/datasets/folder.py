"""SongDataset and AudioFolder: examples from songs on disk, read as they are needed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sepkit.arguments import is_number
from sepkit.datasets.plan import Number, Plan, Planner, check_number
from sepkit.datasets.songs import DatasetError, Song, check_targets, open_songs, stem_names


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
        self.n_items = n_items or max(1, sum(song.n_frames for song in songs) // segment)
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
        return stems, tuple(torch.as_tensor(drawn, dtype=torch.float32) for drawn in plan.drawn)

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
        return finish(*self.read(number), self.augment, len(self.targets))


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


def count_samples(seconds: float, sample_rate: int) -> int:
    """Convert the length of an example to samples.

    Raises:
        ValueError: it is no finite number of seconds above 0.
    """
    if not is_number(seconds) or not 0 < seconds < math.inf:
        raise ValueError(f"the length of an example must be a finite number of seconds above 0, got {seconds}")
    return round(seconds * sample_rate)


class AudioFolder(SongDataset):
    """Examples from a folder of songs: `root/{train,valid,test}/song/{vocals,drums,bass,other,...}.wav`.

    Any readable format is taken. A flat `root/song/` counts as train; where `valid` is absent, whole songs of
    train are set aside for it, see `open_songs`. The mixture is the sum of all parts of the song, whether wanted
    or not, see `sepkit.datasets.roles`; what a recorded `mixture` holds beside them belongs to it. Stems may be
    silent throughout. A song shorter than an example is filled with silence.

    Args:
        dataset_path: the root; "demo": the built-in songs.
        targets: names of the S stems to return, in this order; None: all parts of the first song, sorted.
        sample_length: seconds per example, > 0.
        subset: "train", "valid" or "test".
        sample_rate: Hz; files of another rate are refused unless `resample`.
        num_channels: C; mono is copied to C channels, and averaged to one where C is 1.
        resample: convert files of other rates.
        items_per_epoch: number of examples; None: once through the audio of the subset.
        remix: share of the examples whose stems come from different songs, [0, 1].
        augment: augmentations of `sepkit.augment`, in order.
        seed: the same seed gives the same examples.
        valid_share: share of the songs of train that make valid where that is absent, [0, 1); 0: none.
        split_seed: which songs these are.
        allow_damaged: take what decodes of truncated and damaged files, as players do, instead of refusing them.

    Raises:
        DatasetError: the folder cannot be used, with all findings.
        ValueError: an argument is out of range.
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
        allow_damaged: bool = False,
    ) -> None:
        segment = count_samples(sample_length, sample_rate)
        layout = (sample_rate, num_channels, resample, valid_share, split_seed)
        songs = open_songs(dataset_path, subset, targets, *layout, allow_damaged=allow_damaged)
        if targets is None:
            targets = sorted(songs[0].parts)
            missing = {name for song in songs for name in targets if name not in song.parts}
            if missing:
                raise DatasetError(dataset_path, [f"not all songs have {', '.join(sorted(missing))}; name the targets"])
        self.sample_rate, self.sample_length = sample_rate, sample_length
        super().__init__(songs, targets, segment, items_per_epoch, remix, augment, seed)


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
        chunk_size: seconds per example, > 0.
        sample_rate: Hz.
        mono: average the channels to one; False: stereo.

    Raises:
        DatasetError: the folder cannot be used, with all findings.
    """
    return AudioFolder(dataset_path, targets, chunk_size, split, sample_rate, 1 if mono else 2)
