"""What songs a root holds, checked before anything is read from it."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sepkit import audio
from sepkit.datasets.pcm import locate_pcm16, read_into
from sepkit.datasets.stem_files import check_stem_file, decode_stem_files, is_stem_file, song_name, validation_names

SUBSETS = ("train", "valid", "test")
REST = "(rest)"  # the name of what a recorded mixture holds beside the stems
_MISNAMED = ("val", "validation", "dev")
_MARGIN = 2048  # samples around a segment that hide the edges of the resampler


class DatasetError(ValueError):
    """A root cannot be used: every finding on a line of its own."""

    def __init__(self, root: Path | str, findings: Sequence[str]) -> None:
        self.root, self.findings = root, list(findings)
        shown = self.findings[:50]
        if len(self.findings) > len(shown):
            shown.append(f"and {len(self.findings) - len(shown)} more")
        separator = "\n  " if len(shown) > 1 else " "
        super().__init__(separator.join([f"{root} cannot be used as data:", *shown]))

    def __reduce__(self) -> tuple:
        """Rebuild it from its arguments in another process."""
        return DatasetError, (self.root, self.findings)


@dataclass(frozen=True)
class Stem:
    """One recorded stem of a song, read at the song's rate and number of channels."""

    info: audio.AudioInfo
    sample_rate: int
    n_channels: int

    @cached_property
    def n_frames(self) -> int:
        """Length in samples at `sample_rate`."""
        return self.info.n_frames * self.sample_rate // self.info.sample_rate

    @property
    def quantum(self) -> int:
        """Positions at `sample_rate` that are whole samples of the file are multiples of this."""
        return self.sample_rate // math.gcd(self.sample_rate, self.info.sample_rate)

    @cached_property
    def _pcm_offset(self) -> int | None:
        return locate_pcm16(self.info)

    def read(self, start: int, n_frames: int) -> Tensor:
        """Read (C, n_frames) from a position that is a multiple of `quantum`; zeros follow the end."""
        out = torch.empty(self.n_channels, n_frames)
        self.read_into(out, start)
        return out

    def read_into(self, out: Tensor, start: int) -> None:
        """Fill out (C, T) as `read` does."""
        n_frames = max(0, min(out.shape[-1], self.n_frames - start))
        out[:, n_frames:] = 0
        if n_frames and self.info.sample_rate == self.sample_rate:
            read_into(self.info, self._pcm_offset, start, out[:, :n_frames])
        elif n_frames:
            out[:, :n_frames] = audio.adapt_channels(self._read_resampled(start, n_frames), self.n_channels)

    def _read_resampled(self, start: int, n_frames: int) -> Tensor:
        rate, file_rate = self.sample_rate, self.info.sample_rate
        margin = min(start, -(-_MARGIN // self.quantum) * self.quantum)
        first = (start - margin) * file_rate // rate
        wanted = min(-(-(n_frames + margin + _MARGIN) * file_rate // rate), self.info.n_frames - first)
        found = audio.read(self.info.path, first, wanted, info=self.info)[0]
        return audio.resample(found, file_rate, rate)[:, margin : margin + n_frames]


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

    @property
    def _recorded(self) -> dict[str, Stem]:
        return {**self.stems, **({"mixture": self.mixture} if self.mixture else {})}

    @cached_property
    def n_frames(self) -> int:
        """Length in samples."""
        return min(stem.n_frames for stem in self._recorded.values())

    @cached_property
    def quantum(self) -> int:
        """Positions that are whole samples in every file are multiples of this."""
        return math.lcm(*(stem.quantum for stem in self._recorded.values()))

    @property
    def n_channels(self) -> int:
        """C."""
        return next(iter(self._recorded.values())).n_channels

    def has(self, name: str) -> bool:
        """Tell whether the song has a stem of this name."""
        return name in self.stems or (name == REST and self.mixture is not None)

    def read_into(self, out: Tensor, names: Sequence[str], start: int) -> None:
        """Fill out (K, C, T) with the stems of these names, each read once; those that the song lacks with zeros.

        `REST` is what the recorded mixture holds beside all stems.
        """
        for waveform, name in zip(out, names, strict=True):
            if name in self.stems:
                self.stems[name].read_into(waveform, start)
            elif name == REST and self.mixture:
                self.mixture.read_into(waveform, start)
            else:
                waveform.zero_()
        if self.mixture and REST in names:
            rest = out[names.index(REST)]
            for name, stem in self.stems.items():
                rest -= out[names.index(name)] if name in names else stem.read(start, out.shape[-1])

    def read_stem(self, name: str, start: int, n_frames: int) -> Tensor:
        """Read (C, n_frames) of a stem or of `REST`; zeros follow the end."""
        out = torch.empty(1, self.n_channels, n_frames)
        self.read_into(out, [name], start)
        return out[0]

    def read_mixture(self, start: int, n_frames: int) -> Tensor:
        """Read (C, n_frames) of the mixture: the recorded one, else the sum of all stems."""
        if self.mixture:
            return self.mixture.read(start, n_frames)
        return sum(stem.read(start, n_frames) for stem in self.stems.values())


def open_songs(
    root: str | Path,
    subset: str,
    targets: Sequence[str] | None,
    sample_rate: int,
    n_channels: int,
    resample: bool = False,
    valid_share: float = 0.1,
    split_seed: int = 0,
    valid_names: Collection[str] = (),
) -> list[Song]:
    """Find the songs of a subset and check everything about them that can be known before reading.

    The layout is `root/{train,valid,test}/song/{mixture,vocals,drums,...}.ext`; a flat `root/song/` counts as
    train. A song may also be a `song.stem.mp4` of MUSDB18's five streams, which ffmpeg decodes once into the
    cache. Where `valid` is absent, whole songs are taken from train for it, always the same ones: MUSDB18's 14
    validation songs where train holds all of them, else a seeded share.

    Args:
        root: the folder; "demo": the built-in songs.
        subset: "train", "valid" or "test".
        targets: stems that every song must have; None: no stem in particular.
        sample_rate: Hz.
        n_channels: C; mono files are copied to C channels, and averaged to one if C is 1.
        resample: accept files of other sample rates, and resample them.
        valid_share: share of the songs of train that become valid where that is absent, in (0, 1).
        split_seed: which songs these are.
        valid_names: these songs instead.

    Raises:
        DatasetError: anything is wrong, with all findings.
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(SUBSETS)}, got {subset!r}")
    if not 0 < valid_share < 1:
        raise ValueError(f"valid_share must lie between 0 and 1, got {valid_share}")
    if sample_rate < 1 or n_channels < 1:
        raise ValueError(f"sample_rate and n_channels must be above 0, got {sample_rate} and {n_channels}")
    root = _find_root(root)
    places = _list_songs(root, subset, valid_share, split_seed, valid_names)
    folders = _song_folders(root, places)
    found = [
        _open_song(place, folder, targets, sample_rate, n_channels, resample)
        for place, folder in zip(places, folders, strict=True)
    ]
    findings = [finding for song in found if not isinstance(song, Song) for finding in song]
    if findings:
        raise DatasetError(root, findings)
    return found


def _find_root(root: str | Path) -> Path:
    if str(root) == "demo":
        from sepkit.datasets.demo import demo_root

        return demo_root()
    if not Path(root).is_dir():
        raise DatasetError(root, ["there is no such folder; give one with train/, valid/ and test/ folders of songs"])
    return Path(root)


def _list_songs(
    root: Path, subset: str, valid_share: float, split_seed: int, valid_names: Collection[str]
) -> list[Path]:
    """List the folders and files of the songs of a subset."""
    present = [name for name in SUBSETS if (root / name).is_dir()]
    misnamed = [name for name in _MISNAMED if (root / name).is_dir()]
    if present and misnamed and "valid" not in present:
        raise DatasetError(root, [f"the folder {misnamed[0]}/ is not read; name it valid/"])
    if subset in present and (subset != "train" or "valid" in present):
        return _songs_in(root, root / subset)
    if subset == "test" or (present and "train" not in present):
        wanted, found = "test" if subset == "test" else "train", ", ".join(present) or "songs, which count as train"
        raise DatasetError(root, [f"there is no folder {wanted}/ (found: {found})"])
    places = _songs_in(root, root / "train" if present else root)
    taken = _choose_valid([song_name(place) for place in places], valid_share, split_seed, valid_names)
    chosen = [place for place in places if (song_name(place) in taken) == (subset == "valid")]
    if not chosen:
        raise DatasetError(root, [f"train has no song that is for {subset}; add songs, or a folder valid/"])
    return chosen


def _songs_in(root: Path, folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    places = [path for path in paths if path.is_dir() or is_stem_file(path)]
    if not places:
        raise DatasetError(root, [f"{folder} holds no songs; a song is a folder of stems, or a .stem.mp4"])
    return places


def _choose_valid(
    names: Sequence[str], valid_share: float, split_seed: int, valid_names: Collection[str]
) -> Collection[str]:
    """Choose the songs of train that become valid; a single song stays in train."""
    if valid_names:
        return valid_names
    if validation_names() <= set(names):
        return validation_names()
    n_valid = min(len(names) - 1, max(1, round(valid_share * len(names))))
    return {names[i] for i in np.random.default_rng(split_seed).permutation(len(names))[:n_valid]}


def _song_folders(root: Path, places: Sequence[Path]) -> list[Path]:
    """Find the folder in which the stems of each song lie; decode what is not yet."""
    stem_files = [place for place in places if is_stem_file(place)]
    findings = [finding for place in stem_files if (finding := check_stem_file(place))]
    if not findings:
        folders, findings = decode_stem_files(stem_files)
    if findings:
        raise DatasetError(root, findings)
    return [folders.get(place, place) for place in places]


def _open_song(
    place: Path, folder: Path, targets: Sequence[str] | None, sample_rate: int, n_channels: int, resample: bool
) -> Song | list[str]:
    """Find what a song consists of: the song, or what is wrong with it."""
    stems, findings = {}, []
    for path in sorted(path for path in folder.iterdir() if path.is_file() and audio.is_audio_name(path)):
        if path.stem in stems:
            findings.append(f"{path}: there is another file for the stem {path.stem!r}; keep one")
        try:
            stems[path.stem] = Stem(audio.probe(path), sample_rate, n_channels)
        except audio.AudioError as error:
            findings.append(str(error))
    if findings:
        return findings
    mixture = stems.pop("mixture", None)
    song = Song(song_name(place), stems, mixture)
    return check_song(song, str(place), targets, resample) or song


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
    for stem in song._recorded.values():
        findings += _check_stem(stem, place, resample)
    if not findings:
        findings = _check_lengths(song, place)
    return findings


def _check_stem(stem: Stem, place: str, resample: bool) -> list[str]:
    info, findings = stem.info, []
    path = Path(place, Path(info.path).name)
    if info.truncated:
        declared = "an unknown number of" if info.n_declared is None else info.n_declared
        findings.append(f"{path}: truncated, {info.n_frames} of {declared} samples decode; get the whole file")
    if info.n_channels not in (1, stem.n_channels) and stem.n_channels != 1:
        findings.append(f"{path}: has {info.n_channels} channels, wanted are 1 or {stem.n_channels}; mix it down")
    if info.sample_rate != stem.sample_rate and not resample:
        findings.append(
            f"{path}: has {info.sample_rate} Hz, wanted are {stem.sample_rate}; "
            "set data.resample: true, or resample=True"
        )
    return findings


def _check_lengths(song: Song, place: str) -> list[str]:
    """Compare the lengths; files of different rates may differ by what rounding to whole samples does."""
    rates = {stem.info.sample_rate for stem in song._recorded.values()}
    slack = max(-(-stem.sample_rate // stem.info.sample_rate) for stem in song._recorded.values())
    lengths = {name: stem.n_frames for name, stem in song._recorded.items()}
    if max(lengths.values()) - min(lengths.values()) <= (slack if len(rates) > 1 else 0):
        return []
    listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
    return [f"{place}: the lengths differ in samples ({listed}); fill the shorter ones with silence"]


def stem_names(songs: Iterable[Song], targets: Sequence[str]) -> list[str]:
    """Name all stems that a mixture is made of: the targets, the others, and `REST` where a mixture is recorded."""
    songs = list(songs)
    others = {name for song in songs for name in song.stems} - set(targets)
    rest = [REST] if any(song.mixture for song in songs) else []
    return [*targets, *sorted(others), *rest]
