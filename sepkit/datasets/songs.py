"""What songs a root holds, checked before anything is read from it."""

import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from sepkit import audio
from sepkit.arguments import check_path, is_integer
from sepkit.datasets.layout import SUBSETS, DatasetError, find_root, list_songs
from sepkit.datasets.look import Look, look_at
from sepkit.datasets.readers import locate_pcm16, read_into
from sepkit.datasets.roles import Roles, describe_roles, is_like, missing_part, sort_stems
from sepkit.datasets.stem_files import (
    check_stem_file,
    decode_stem_files,
    is_stem_file,
    song_name,
    source_names,
)
from sepkit.instantiate import did_you_mean

RESIDUAL = "(rest)"  # the name of what a recorded mixture holds beside the stems
_SHOWN = 20  # names in a sentence
_MARGIN = 2048  # samples around a segment that hide the edges of the resampler


@dataclass(frozen=True)
class Stem:
    """One recorded stem of a song, read at the song's rate and number of channels."""

    info: audio.AudioInfo
    sample_rate: int
    n_channels: int
    allow_damaged: bool = False

    @cached_property
    def n_samples(self) -> int:
        """Length in samples at `sample_rate`."""
        return self.info.n_samples * self.sample_rate // self.info.sample_rate

    @property
    def position_step(self) -> int:
        """Positions at `sample_rate` that are whole samples of the file are multiples of this."""
        return self.sample_rate // math.gcd(self.sample_rate, self.info.sample_rate)

    @cached_property
    def _pcm_offset(self) -> int | None:
        return locate_pcm16(self.info)

    def read(self, start: int, n_samples: int) -> Tensor:
        """Read (C, n_samples) from a position that is a multiple of `position_step`; zeros follow the end."""
        out = torch.empty(self.n_channels, n_samples)
        self.read_into(out, start)
        return out

    def read_into(self, out: Tensor, start: int) -> None:
        """Fill out (C, T) as `read` does."""
        n_samples = max(0, min(out.shape[-1], self.n_samples - start))
        out[:, n_samples:] = 0
        if n_samples and self.info.sample_rate == self.sample_rate:
            read_into(self.info, self._pcm_offset, start, out[:, :n_samples], self.allow_damaged)
        elif n_samples:
            out[:, :n_samples] = audio.adapt_channels(self._read_resampled(start, n_samples), self.n_channels)

    def _read_resampled(self, start: int, n_samples: int) -> Tensor:
        rate, file_rate = self.sample_rate, self.info.sample_rate
        margin = min(start, -(-_MARGIN // self.position_step) * self.position_step)
        first = (start - margin) * file_rate // rate
        wanted = min(-(-(n_samples + margin + _MARGIN) * file_rate // rate), self.info.n_samples - first)
        found = audio.read(self.info.path, first, wanted, allow_truncated=self.allow_damaged, info=self.info)[0]
        return audio.resample(found, file_rate, rate)[:, margin : margin + n_samples]


@dataclass(frozen=True)
class Song:
    """A song and its stems, and its mixture where that is recorded.

    Attributes:
        name: the folder's.
        stems: by name.
        mixture: as recorded; None: the sum of the parts.
        apart: stems that are not added to the mixture, because parts hold the same.
    """

    name: str
    stems: dict[str, Stem]
    mixture: Stem | None = None
    apart: frozenset[str] = frozenset()

    @cached_property
    def parts(self) -> list[str]:
        """Name the stems whose sum is the mixture, but for what a recorded one holds beside them."""
        return [name for name in self.stems if name not in self.apart]

    @property
    def _recorded(self) -> dict[str, Stem]:
        return {**self.stems, **({"mixture": self.mixture} if self.mixture else {})}

    @cached_property
    def n_samples(self) -> int:
        """Length in samples."""
        return min(stem.n_samples for stem in self._recorded.values())

    @cached_property
    def position_step(self) -> int:
        """Positions that are whole samples in every file are multiples of this."""
        return math.lcm(*(stem.position_step for stem in self._recorded.values()))

    @property
    def n_channels(self) -> int:
        """C."""
        return next(iter(self._recorded.values())).n_channels

    def has(self, name: str) -> bool:
        """Tell whether the mixture has a part of this name."""
        return name in self.parts or (name == RESIDUAL and self.mixture is not None)

    def lends(self, name: str, targets: Sequence[str]) -> bool:
        """Return whether remixed examples may take this part.

        Of a song that lacks a target, its other parts may hold that target, so that none of them is taken. What a
        mixture holds beside its parts is another part, and not a trace of them, only where ten seconds show it; it is
        taken only where without it one part would be alone.
        """
        if name not in targets and not all(map(self.has, targets)):
            return False
        if name == RESIDUAL:
            return self.has(name) and len(self.parts) == 1 and self.look.holds_another_part
        return self.has(name)

    def read_into(self, out: Tensor, names: Sequence[str], start: int) -> None:
        """Fill out (K, C, T) with the parts of these names, each read once; those that the song lacks with zeros.

        `RESIDUAL` is what the recorded mixture holds beside all parts.
        """
        for waveform, name in zip(out, names, strict=True):
            if name in self.parts:
                self.stems[name].read_into(waveform, start)
            elif name == RESIDUAL and self.mixture:
                self.mixture.read_into(waveform, start)
            else:
                waveform.zero_()
        if self.mixture and RESIDUAL in names:
            rest = out[names.index(RESIDUAL)]
            for name in self.parts:
                rest -= out[names.index(name)] if name in names else self.stems[name].read(start, out.shape[-1])

    def read_stem(self, name: str, start: int, n_samples: int) -> Tensor:
        """Read (C, n_samples) of a stem or of `RESIDUAL`; zeros follow the end."""
        if name in self.stems:
            return self.stems[name].read(start, n_samples)
        out = torch.empty(1, self.n_channels, n_samples)
        self.read_into(out, [name], start)
        return out[0]

    def read_mixture(self, start: int, n_samples: int) -> Tensor:
        """Read (C, n_samples) of the mixture: the recorded one, else the sum of all parts."""
        if self.mixture:
            return self.mixture.read(start, n_samples)
        return sum(self.stems[name].read(start, n_samples) for name in self.parts)

    @cached_property
    def look(self) -> Look:
        """Look at ten seconds of all files."""
        return look_at(self)


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
    allow_damaged: bool = False,
    allow_missing: bool = False,
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
        valid_share: share of the songs of train that become valid where that is absent, [0, 1); 0: none, train is all.
        split_seed: which songs these are.
        valid_names: these songs instead.
        allow_damaged: take what decodes of truncated and damaged files, as players do, instead of refusing them.
        allow_missing: take songs that lack targets, though not all of them.

    Raises:
        DatasetError: anything is wrong, with all findings.
    """
    check_targets(targets)
    if subset not in SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(SUBSETS)}, got {subset!r}")
    if not 0 <= valid_share < 1:
        raise ValueError(f"valid_share must lie in [0, 1), got {valid_share}")
    if not all(map(is_integer, (sample_rate, n_channels))) or sample_rate < 1 or n_channels < 1:
        raise ValueError(f"sample_rate and n_channels must be above 0, got {sample_rate} and {n_channels}")
    check_path(root, "root")
    root, wanted = find_root(root), targets or ()
    places, mistaken = list_songs(root, subset, wanted, valid_share, split_seed, valid_names)
    folders, findings = _song_folders(places)
    found = [_look_into(place, folders.get(place), sample_rate, n_channels, allow_damaged) for place in places]
    findings = [*mistaken, *findings, *_check_songs(found, subset, wanted, sample_rate, resample, allow_missing)]
    if findings:
        raise DatasetError(root, findings, {name for each in found for name in each.names})
    for line in describe_roles([each.roles(wanted) for each in found]):
        warnings.warn(f"{root}, {subset}: {line}", stacklevel=2)
    return [each.song(wanted) for each in found]


def check_targets(targets: Sequence[str] | None) -> None:
    """Refuse targets that are no list of names; None is in order.

    Raises:
        ValueError: a name that is not in a list, or a list of other than names.
    """
    if targets is not None and (isinstance(targets, str) or not all(isinstance(name, str) for name in targets)):
        raise ValueError(f"targets must be a list of names, got {targets!r}")


def _song_folders(places: Sequence[Path]) -> tuple[dict[Path, Path], list[str]]:
    """Find the folder in which the stems of each song lie, and what is wrong with stem files, which are decoded."""
    stem_files = [place for place in places if is_stem_file(place)]
    folders = {place: place for place in places if place not in stem_files}
    findings = [finding for place in stem_files if (finding := check_stem_file(place))]
    if findings:
        return folders, findings
    decoded, findings = decode_stem_files(stem_files)
    return {**folders, **({} if findings else decoded)}, findings


def make_song(name: str, stems: dict[str, Stem], roles: Roles) -> Song:
    """Make a song of its files.

    Args:
        name: of the song.
        stems: all files that can be read, by name of the stem.
        roles: what they are.
    """
    others = {stem: found for stem, found in stems.items() if stem != roles.mixture}
    return Song(name, others, stems.get(roles.mixture), frozenset(others) - set(roles.parts))


@dataclass(frozen=True)
class _Found:
    """What lies in the folder of a song, usable or not.

    Attributes:
        place: how findings name it.
        names: of all stems, those that cannot be read among them.
        files: what can be read, the mixture included, by name of the file.
        findings: what is wrong with single files at first sight.
    """

    place: Path
    names: set[str]
    files: dict[str, Stem]
    findings: list[str]

    def roles(self, targets: Collection[str]) -> Roles:
        """Tell what its files are where these stems are wanted."""
        return sort_stems((Path(name).stem for name in self.files), targets)

    def song(self, targets: Collection[str]) -> Song:
        """Give it as a song of which these stems are wanted."""
        return make_song(
            song_name(self.place), {Path(name).stem: stem for name, stem in self.files.items()}, self.roles(targets)
        )


def _look_into(place: Path, folder: Path | None, sample_rate: int, n_channels: int, allow_damaged: bool) -> _Found:
    """Probe the files of a song; None: of a stem file that is not decoded."""
    if folder is None:
        return _Found(place, set(source_names()), {}, [])
    found = _Found(place, set(), {}, [])
    for path in sorted(path for path in folder.iterdir() if path.is_file() and audio.is_audio_name(path)):
        if path.stem in found.names:
            found.findings.append(f"{path}: there is another file for the stem {path.stem!r}; keep one")
        found.names.add(path.stem)
        try:
            found.files[path.name] = Stem(audio.probe(path), sample_rate, n_channels, allow_damaged)
        except audio.AudioError as error:
            found.findings.append(str(error))
    found.names.discard("mixture")
    return found


def _check_songs(
    found: Sequence[_Found],
    subset: str,
    targets: Sequence[str],
    sample_rate: int,
    resample: bool,
    allow_missing: bool,
) -> list[str]:
    """List what is wrong with songs: first what many have in common, then each one's stems, channels, lengths."""
    if not found:
        return []
    present = sorted({name for each in found for name in each.names})
    nowhere = [name for name in dict.fromkeys(targets) if name not in present]
    findings = [
        f"no song of {subset} has the stem {name!r} (there are: {_listed(present)})"
        f"{did_you_mean(name, present) or _way_to_name(name, present)}"
        for name in nowhere
    ]
    if not resample:
        findings += _check_rates(found, sample_rate)
    for each in found:
        missing = [name for name in dict.fromkeys(targets) if name not in (*each.names, *nowhere)]
        findings += each.findings
        if not allow_missing or len(missing) == len(set(targets)) > 0:
            findings += [f"{each.place}: the stem {name!r} is missing" for name in missing]
        if not (sort_stems(each.names).parts or targets):
            findings.append(f"{each.place}: there are no stems")
        roles = each.roles(targets)
        if roles.finer and len(roles.parts) == 1 and roles.mixture is None:
            findings.append(
                f"{each.place}: {roles.parts[0]} is wanted, by its name holds {', '.join(roles.finer)}, and nothing is "
                f"beside it; name {missing_part(roles.parts[0])} what it leaves out, add mixture.wav, or choose others"
            )
        findings += [finding for name, stem in each.files.items() for finding in _check_file(each.place / name, stem)]
        findings += _check_lengths(each)
    return findings


def _listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *more]) or "none"


def _way_to_name(name: str, present: Sequence[str]) -> str:
    """Say how a stem that no song has gets its name."""
    alike = next((other for other in present if is_like(other, name)), None)
    return f"; rename {alike!r} and the like" if alike else f"; add {name}.wav to the songs, or choose others"


def _check_rates(found: Sequence[_Found], sample_rate: int) -> list[str]:
    """Tell each other sample rate once, with a file that has it and the number of those beside it."""
    paths: dict[int, list[Path]] = {}
    for each in found:
        for name, stem in each.files.items():
            paths.setdefault(stem.info.sample_rate, []).append(each.place / name)
    return [
        f"{same[0]}{f' and {len(same) - 1} more' if len(same) > 1 else ''}: {rate} Hz, wanted are {sample_rate}; "
        "set data.resample: true, or resample=True"
        for rate, same in sorted(paths.items())
        if rate != sample_rate
    ]


def _check_file(path: Path, stem: Stem) -> list[str]:
    info, findings = stem.info, []
    if wrong := "" if stem.allow_damaged else _describe_fault(info):
        findings.append(f"{path}: {wrong}; get the whole file, or set data.allow_damaged: true, or allow_damaged=True")
    if info.n_channels not in (1, stem.n_channels) and stem.n_channels != 1:
        findings.append(f"{path}: has {info.n_channels} channels, wanted are 1 or {stem.n_channels}; mix it down")
    return findings


def _describe_fault(info: audio.AudioInfo) -> str:
    """Say what is wrong with the audio of a file or with its length; "" where nothing is."""
    declared = "an unknown number of" if info.n_declared is None else info.n_declared
    wrong = [
        f"truncated, {info.n_samples} of {declared} samples decode" if info.truncated else "",
        audio.describe_damage(info.damage, info.sample_rate),
        f"{info.undeclared} samples more than its header declares" if info.undeclared else "",
    ]
    return ", ".join(filter(None, wrong))


def _check_lengths(found: _Found) -> list[str]:
    """Compare the lengths; files of different rates may differ by what rounding to whole samples does."""
    whole = [(name, stem) for name, stem in found.files.items() if not stem.info.complaint]
    rates = {stem.info.sample_rate for _, stem in whole}
    slack = max((-(-stem.sample_rate // stem.info.sample_rate) for _, stem in whole), default=0)
    lengths = [stem.n_samples for _, stem in whole] or [0]
    if max(lengths) - min(lengths) <= (slack if len(rates) > 1 else 0):
        return []
    listed = ", ".join(f"{Path(name).stem} {stem.n_samples}" for name, stem in whole)
    return [f"{found.place}: the lengths differ in samples ({listed}); fill the shorter ones with silence"]


def stem_names(songs: Iterable[Song], targets: Sequence[str]) -> list[str]:
    """Name all that mixtures are made of: the targets, the other parts, and `RESIDUAL` where a mixture is recorded."""
    songs = list(songs)
    others = {name for song in songs for name in song.parts} - set(targets)
    rest = [RESIDUAL] if any(song.mixture for song in songs) else []
    return [*targets, *sorted(others), *rest]
