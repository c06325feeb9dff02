"""Examples from folders and from memory, under auralflow's names."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sepkit.arguments import check_waveform, is_integer, is_number
from sepkit.datasets.candidates import StemMap
from sepkit.datasets.check import check_songs
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.opening import check_targets, open_songs
from sepkit.datasets.plan import Number, Plan, Planner, check_number
from sepkit.datasets.sampling import Sampling, SongTable
from sepkit.datasets.song_dataset import SongDataset, count_samples
from sepkit.datasets.songs import Song


class AudioFolder(SongDataset):
    """Examples from a folder of songs: `root/{train,valid,test}/song/{vocals,drums,bass,other,...}.wav`.

    Any readable format is taken. A flat `root/song/` counts as train; where `valid` is absent, whole songs of
    train are set aside for it, see `open_songs`. The mixture is the sum of all parts of the song, whether wanted
    or not, see `sepkit.datasets.roles`; the residual of a recorded `mixture` belongs to it. Stems may be silent
    throughout. A song shorter than an example is filled with silence.

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
        layout: how files lie in the root, see `open_songs`; None: as its shape shows.
        stems: by name of a stem, the stems of the set whose sum it is; None: all keep their names.

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
        layout: str | None = None,
        stems: StemMap | None = None,
    ) -> None:
        n_samples = count_samples(sample_length, sample_rate)
        wanted = (sample_rate, num_channels, resample, valid_share, split_seed)
        found = {"allow_damaged": allow_damaged, "layout": layout, "stems": stems}
        songs = open_songs(dataset_path, subset, targets, *wanted, **found)
        if targets is None:
            targets = sorted(songs[0].parts)
            missing = {name for song in songs for name in targets if name not in song.parts}
            if missing:
                raise DatasetError(dataset_path, [f"not all songs have {', '.join(sorted(missing))}; name the targets"])
        self.sample_rate, self.sample_length = sample_rate, sample_length
        super().__init__(songs, targets, n_samples, items_per_epoch, remix, augment, seed)


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


class AudioDataset(Dataset):
    """Random chunks of songs in memory, planned one by one as they are asked for.

    Args:
        dataset: songs as `load_stems` returns them.
        targets: names of the S stems to return, in this order.
        chunk_size: seconds per chunk.
        num_chunks: number of chunks; exactly this many are returned.
        sample_rate: Hz.
        seed: the same seed gives the same chunks.

    Raises:
        TypeError: a stem is no tensor.
        ValueError: there are no songs, a target is missing, a stem is not (C, T), or a size is out of range.
    """

    def __init__(
        self,
        dataset: Sequence[Mapping[str, Tensor | int]],
        targets: Sequence[str],
        chunk_size: float = 1,
        num_chunks: int = 1_000_000,
        sample_rate: int = 44100,
        seed: int = 0,
    ) -> None:
        check_targets(targets)
        self.n_samples = _count_samples(chunk_size, num_chunks, sample_rate)
        if not dataset or not targets:
            raise ValueError(f"wanted are songs and targets, got {len(dataset)} songs and {len(targets)} targets")
        missing = sorted({name for song in dataset for name in ("mixture", *targets, "duration") if name not in song})
        if missing:
            raise ValueError(f"every song must have mixture, targets and duration, missing: {', '.join(missing)}")
        for song in dataset:
            for name in ("mixture", *targets):
                check_waveform(song[name], name)
        self.dataset, self.targets, self.num_chunks = list(dataset), list(targets), int(num_chunks)
        lengths = [int(song["duration"]) for song in self.dataset]
        table = SongTable(lengths, [1] * len(lengths), [[True]] * len(lengths))
        self.planner = Planner(Sampling(table, self.n_samples), seed=seed)

    def __len__(self) -> int:
        return self.num_chunks

    def plan(self, number: Number) -> Plan:
        """Return the song and the position of chunk (epoch, i)."""
        return self.planner.plan(number)

    def __getitem__(self, number: int | Number) -> tuple[Tensor, Tensor]:
        """Get a chunk by (epoch, i), or by i alone: mixture (C, T) and targets (S, C, T)."""
        plan = self.plan(check_number(number, self.num_chunks))
        song, start = self.dataset[plan.songs[0]], plan.positions[0]
        chunks = [song[name][:, start : start + self.n_samples] for name in ("mixture", *self.targets)]
        chunks = [torch.nn.functional.pad(chunk, (0, self.n_samples - chunk.shape[-1])) for chunk in chunks]
        return chunks[0], torch.stack(chunks[1:])


def _count_samples(chunk_size: float, num_chunks: int, sample_rate: int) -> int:
    """Convert the length of a chunk to samples; sizes out of range are refused."""
    numbers = all(map(is_number, (chunk_size, num_chunks)))
    n_samples = round(chunk_size * sample_rate) if numbers and math.isfinite(chunk_size) else 0
    if n_samples < 1 or num_chunks < 1 or num_chunks % 1:  # inf % 1 is NaN
        raise ValueError(
            f"chunk_size must be above 0 seconds and num_chunks a whole number above 0, got {chunk_size} and "
            f"{num_chunks}"
        )
    return n_samples


def load_stems(
    dataset_path: str | Path,
    targets: Sequence[str],
    split: str = "train",
    max_num_tracks: int | None = None,
    sample_rate: int = 44100,
    mono: bool = True,
) -> list["OrderedDict[str, Tensor | int]"]:
    """Read whole songs into memory.

    Args:
        dataset_path: the root, laid out as for AudioFolder.
        targets: names of the stems to load.
        split: "train", "valid" or "test".
        max_num_tracks: songs to load at most; None: all.
        sample_rate: Hz; files of another rate are refused.
        mono: average the channels to one; False: stereo.

    Returns:
        One mapping a song: "mixture" and the targets, each (C, T) float32, and "duration" in samples.

    Raises:
        DatasetError: the folder cannot be used, with all findings.
    """
    if max_num_tracks is not None and (not is_integer(max_num_tracks) or max_num_tracks < 1):
        raise ValueError(f"max_num_tracks must be above 0, got {max_num_tracks}")
    songs = open_songs(dataset_path, split, targets, sample_rate, 1 if mono else 2)
    return [_load(song, targets) for song in songs[:max_num_tracks]]


def _load(song: Song, targets: Sequence[str]) -> "OrderedDict[str, Tensor | int]":
    """Read the mixture and the targets of a song, each file at most once."""
    names = list(dict.fromkeys([*targets, *([] if song.mixture else song.parts)]))
    stems = {name: song.read_stem(name, 0, song.n_samples) for name in names}
    mixture = song.read_mixture(0, song.n_samples) if song.mixture else sum(stems[name] for name in song.parts)
    entries = [(name, stems[name]) for name in targets]
    return OrderedDict([("mixture", mixture), *entries, ("duration", song.n_samples)])


def create_audio_dataset(
    dataset_path: str | Path,
    targets: Sequence[str],
    split: str = "train",
    chunk_size: float = 1,
    num_chunks: int = 1_000_000,
    max_num_tracks: int | None = None,
    sample_rate: int = 44100,
    mono: bool = True,
    seed: int = 0,
) -> AudioDataset:
    """Load songs into memory and draw chunks from them; the arguments are those of `load_stems` and `AudioDataset`.

    Raises:
        DatasetError: the folder cannot be used, with all findings.
        ValueError: an argument is out of range.
    """
    _count_samples(chunk_size, num_chunks, sample_rate)  # before the songs are read
    dataset = load_stems(dataset_path, targets, split, max_num_tracks, sample_rate, mono)
    return AudioDataset(dataset, targets, chunk_size, num_chunks, sample_rate, seed)


def verify_dataset(
    dataset_path: str | Path,
    targets: Sequence[str] | None = None,
    subset: str = "train",
    sample_rate: int = 44100,
    num_channels: int = 2,
    deep: bool = False,
) -> int:
    """Check a root without reading its audio: layout, stems, rates, channels, lengths, truncated files.

    Where `valid` is absent, the songs of train that are set aside for it are checked with train.

    Args:
        dataset_path: the root, laid out as for AudioFolder.
        targets: stems that every song must have; None: any.
        subset: "train", "valid" or "test".
        sample_rate: Hz.
        num_channels: C.
        deep: decode every file to its end, too, and inspect ten seconds of each song, as a training does: NaN, a
            mixture that is not the sum of its parts, copies; what makes no number wrong is a warning.

    Returns:
        Number of songs that were checked; of train those that are set aside for validation included.

    Raises:
        DatasetError: something is wrong, with all findings.
    """
    share = {"valid_share": 0.0} if subset == "train" else {}
    songs = open_songs(dataset_path, subset, targets, sample_rate, num_channels, **share)
    if deep:
        check_songs(dataset_path, {subset: songs}, targets or (), deep)
    return len(songs)
