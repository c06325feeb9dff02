"""What songs a root holds, checked before anything is read from it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepkit import audio

SUBSETS = ("train", "valid", "test")
_MARGIN = 2048  # samples around a segment that hide the edges of the resampler


class DatasetError(ValueError):
    """A root cannot be used: every finding on a line of its own."""

    def __init__(self, root: Path | str, findings: Sequence[str]) -> None:
        self.findings = list(findings)
        shown = [f"  {finding}" for finding in self.findings[:50]]
        if len(self.findings) > len(shown):
            shown.append(f"  and {len(self.findings) - len(shown)} more")
        super().__init__("\n".join([f"{root} cannot be used as data:", *shown]))


@dataclass(frozen=True)
class Stem:
    """One recorded stem of a song, read at the song's rate and number of channels."""

    info: audio.AudioInfo
    sample_rate: int
    n_channels: int
    stream: int = 0

    @cached_property
    def n_frames(self) -> int:
        """Length in samples at `sample_rate`."""
        return self.info.n_frames * self.sample_rate // self.info.sample_rate

    @property
    def quantum(self) -> int:
        """Positions at `sample_rate` that are whole samples of the file are multiples of this."""
        return self.sample_rate // np.gcd(self.sample_rate, self.info.sample_rate)

    def read(self, start: int, n_frames: int) -> Tensor:
        """Read (C, n_frames) from a position that is a multiple of `quantum`; zeros follow the end."""
        if self.info.sample_rate == self.sample_rate:
            found = self._read_file(start, n_frames)
        else:
            found = self._read_resampled(start, n_frames)
        found = audio.adapt_channels(found, self.n_channels)
        return torch.nn.functional.pad(found, (0, n_frames - found.shape[-1]))

    def _read_file(self, start: int, n_frames: int) -> Tensor:
        n_frames = min(n_frames, self.info.n_frames - start)
        if n_frames <= 0:
            return torch.zeros(self.info.n_channels, 0)
        return audio.read(self.info.path, start, n_frames, stream=self.stream, info=self.info)[0]

    def _read_resampled(self, start: int, n_frames: int) -> Tensor:
        rate, file_rate = self.sample_rate, self.info.sample_rate
        margin = min(start, -(-_MARGIN // self.quantum) * self.quantum)
        first = (start - margin) * file_rate // rate
        wanted = -(-(n_frames + margin + _MARGIN) * file_rate // rate)
        found = audio.resample(self._read_file(first, wanted), file_rate, rate)
        return found[:, margin : margin + n_frames]


@dataclass(frozen=True)
class Song:
    """A song and its stems, and its mixture where that is recorded.

    Attributes:
        name: the folder's.
        stems: by name.
        mixture: as recorded; None: the sum of the stems.
    """

    name: str
    stems: dict[str, Stem]
    mixture: Stem | None = None

    @cached_property
    def n_frames(self) -> int:
        """Length in samples."""
        return min(stem.n_frames for stem in self._recorded)

    @cached_property
    def quantum(self) -> int:
        """Positions that are whole samples in every file are multiples of this."""
        return int(np.lcm.reduce([stem.quantum for stem in self._recorded]))

    @property
    def _recorded(self) -> list[Stem]:
        return [*self.stems.values(), *([self.mixture] if self.mixture else [])]

    def has(self, name: str) -> bool:
        """Tell whether the song has a stem of this name."""
        return name in self.stems or (name == REST and self.mixture is not None)

    def read_stem(self, name: str, start: int, n_frames: int) -> Tensor:
        """Read (C, n_frames) of a stem; `REST` is what the mixture holds beside all stems."""
        if name == REST:
            return self.read_mixture(start, n_frames) - sum(
                stem.read(start, n_frames) for stem in self.stems.values()
            )
        return self.stems[name].read(start, n_frames)

    def read_mixture(self, start: int, n_frames: int) -> Tensor:
        """Read (C, n_frames) of the mixture: the recorded one, else the sum of all stems."""
        if self.mixture:
            return self.mixture.read(start, n_frames)
        return sum(stem.read(start, n_frames) for stem in self.stems.values())


REST = "(rest)"


def find_songs(
    root: str | Path,
    subset: str,
    targets: Sequence[str] | None,
    sample_rate: int,
    n_channels: int,
    resample: bool = False,
    valid_share: float = 0.1,
    split_seed: int = 0,
) -> list[Song]:
    """Find the songs of a subset and check everything about them that can be known before reading.

    The layout is `root/{train,valid,test}/song/{mixture,vocals,drums,...}.ext`; a flat `root/song/` counts as
    train. Where `valid` is absent, whole songs are taken from train for it, always the same ones.

    Args:
        root: the folder.
        subset: "train", "valid" or "test".
        targets: stems that every song must have; None: no stem in particular.
        sample_rate: Hz.
        n_channels: C; mono files are copied to C channels, and averaged to one if C is 1.
        resample: accept files of other sample rates, and resample them.
        valid_share: share of the songs of train that become valid where that is absent, in (0, 1).
        split_seed: which songs these are.

    Raises:
        DatasetError: anything is wrong, with all findings.
    """
    root = Path(root)
    folders = _song_folders(root, subset, valid_share, split_seed)
    findings: list[str] = []
    songs = []
    for folder in folders:
        found = _read_folder(folder, targets, sample_rate, n_channels, resample)
        songs.append(found) if isinstance(found, Song) else findings.extend(found)
    if findings:
        raise DatasetError(root, findings)
    return songs


def _song_folders(root: Path, subset: str, valid_share: float, split_seed: int) -> list[Path]:
    """List the song folders of a subset."""
    if subset not in SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(SUBSETS)}, got {subset!r}")
    if not 0 < valid_share < 1:
        raise ValueError(f"valid_share must lie between 0 and 1, got {valid_share}")
    if not root.is_dir():
        raise DatasetError(root, ["there is no such folder: give one with train/, valid/ and test/ folders of songs"])
    present = [name for name in SUBSETS if (root / name).is_dir()]
    if subset in present and (subset != "train" or "valid" in present):
        return _folders_in(root, root / subset)
    if subset == "test" or (present and "train" not in present):
        wanted, found = "test" if subset == "test" else "train", ", ".join(present) or "songs, which count as train"
        raise DatasetError(root, [f"there is no folder {wanted}/ (found: {found})"])
    return _split(root, _folders_in(root, root / "train" if present else root), subset, valid_share, split_seed)


def _folders_in(root: Path, folder: Path) -> list[Path]:
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DatasetError(root, [f"{folder} holds no song folders"])
    return folders


def _split(root: Path, folders: list[Path], subset: str, valid_share: float, split_seed: int) -> list[Path]:
    """Divide the songs of train into train and valid."""
    if len(folders) < 2:
        raise DatasetError(root, ["train holds one song and there is no valid/: add songs, or a folder valid/"])
    n_valid = min(len(folders) - 1, max(1, round(valid_share * len(folders))))
    order = np.random.default_rng(split_seed).permutation(len(folders))
    taken = set(order[:n_valid].tolist())
    return [folder for i, folder in enumerate(folders) if (i in taken) == (subset == "valid")]


def _read_folder(
    folder: Path, targets: Sequence[str] | None, sample_rate: int, n_channels: int, resample: bool
) -> Song | list[str]:
    """Read what a song folder holds: the song, or what is wrong with it."""
    stems, findings = {}, []
    for path in sorted(path for path in folder.iterdir() if path.is_file() and audio.is_audio_name(path)):
        if path.stem in stems:
            findings.append(f"{path}: there is another file for the stem {path.stem!r}: keep one")
        try:
            stems[path.stem] = Stem(audio.probe(path), sample_rate, n_channels)
        except audio.AudioError as error:
            findings.append(str(error))
    if findings:
        return findings
    mixture = stems.pop("mixture", None)
    song = Song(folder.name, stems, mixture)
    return check_song(song, str(folder), targets, resample) or song


def check_song(song: Song, place: str, targets: Sequence[str] | None, resample: bool) -> list[str]:
    """List what is wrong with a song: stems, rates, channels, lengths.

    Args:
        song: the song, not yet read.
        place: how the findings name it.
        targets: stems that it must have; None: at least one of its own choice.
        resample: accept other sample rates.
    """
    findings = [f"{place}: the stem {name!r} is missing" for name in targets or () if name not in song.stems]
    if not song.stems:
        return findings or [f"{place}: there are no stems"]
    recorded = {**song.stems, **({"mixture": song.mixture} if song.mixture else {})}
    for name, stem in recorded.items():
        info = stem.info
        if info.truncated:
            findings.append(f"{info.path}: truncated, {info.n_frames} of {info.n_declared} frames decode: replace it")
        if info.n_channels not in (1, stem.n_channels) and stem.n_channels != 1:
            findings.append(f"{place}: {name} has {info.n_channels} channels, wanted are {stem.n_channels}")
        if info.sample_rate != stem.sample_rate and not resample:
            findings.append(
                f"{place}: {name} has {info.sample_rate} Hz, wanted are {stem.sample_rate}: "
                "set data.resample: true, or resample=True"
            )
    lengths = {name: stem.n_frames for name, stem in recorded.items()}
    if len(set(lengths.values())) > 1 and not findings:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        findings.append(f"{place}: the lengths differ in samples ({listed}): fill the shorter ones with silence")
    return findings


def stem_names(songs: Iterable[Song], targets: Sequence[str]) -> list[str]:
    """Name all stems that a mixture is made of: the targets, the others, and `REST` where a mixture is recorded."""
    songs = list(songs)
    others = {name for song in songs for name in song.stems} - set(targets)
    rest = [REST] if any(song.mixture for song in songs) else []
    return [*targets, *sorted(others), *rest]
