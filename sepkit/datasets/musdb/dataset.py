"""MUSDB18: examples from the songs of the public set, coded or not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sepkit.datasets.musdb.stem_files import SOURCES, VALIDATION_SONGS
from sepkit.datasets.opening import open_songs
from sepkit.datasets.song_dataset import SongDataset, count_samples


class MUSDB18(SongDataset):
    """Examples from MUSDB18 (`{train,test}/song.stem.mp4`) or MUSDB18-HQ (`{train,test}/song/{vocals,...}.wav`).

    Names, stems and the 14 validation songs, which are not in train, are those of the package musdb. AAC is decoded
    once, by ffmpeg to 16 bits as musdb does, into `$SEPKIT_CACHE` (32 GB for all 150 songs). As in every other
    root, the residual of the recorded mixture belongs to the mixture.

    Args:
        root: the folder that holds train and test.
        subset: "train", "valid" or "test".
        targets: names of the S stems to return, in this order; None: vocals, drums, bass, other.
        segment: seconds per example, > 0.
        sample_rate: Hz; 44100 unless `resample`.
        n_channels: C; averaged to one where C is 1.
        resample: convert to another rate than 44100.
        items_per_epoch: number of examples; None: once through the audio of the subset.
        remix: share of the examples whose stems come from different songs, [0, 1].
        augment: augmentations of `sepkit.augment`, in order.
        seed: the same seed gives the same examples.

    Raises:
        DatasetError: the folder cannot be used, with all findings; ffmpeg is needed and not on the PATH.

    Source:
        Rafii, Liutkus, Stoeter, Mimilakis, Bittner: The MUSDB18 corpus for music separation, 2017.
    """

    def __init__(
        self,
        root: str | Path,
        subset: str = "train",
        targets: Sequence[str] | None = None,
        segment: float = 6.0,
        sample_rate: int = 44100,
        n_channels: int = 2,
        resample: bool = False,
        items_per_epoch: int | None = None,
        remix: float = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
    ) -> None:
        n_samples = count_samples(segment, sample_rate)
        targets = list(SOURCES) if targets is None else targets
        songs = open_songs(root, subset, targets, sample_rate, n_channels, resample, valid_names=VALIDATION_SONGS)
        self.sample_rate, self.segment = sample_rate, segment
        super().__init__(songs, targets, n_samples, items_per_epoch, remix, augment, seed)
