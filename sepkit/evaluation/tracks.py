"""The tracks that are scored: separated by a model, or read from folders that are paired by name."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sepkit import audio
from sepkit.datasets import DatasetError, Song
from sepkit.evaluation.scoring import Material
from sepkit.inference import separate_blocks
from sepkit.separator import Separator

REST_NAMES = ("accompaniment", "residual")  # what is left beside one stem
_BLOCK = 1 << 16  # samples that go into the model at a time
Stems = dict[str, audio.AudioInfo]


@dataclass(frozen=True)
class Track:
    """One track, in memory only while it is scored.

    Attributes:
        name: of its folder.
        targets: names of the S scored stems.
        sample_rate: Hz.
        read: gives the waveforms.
    """

    name: str
    targets: tuple[str, ...]
    sample_rate: int
    read: Callable[[], Material]


def song_tracks(model: Separator, songs: Iterable[Song], batch_size: int, overlap: float) -> list[Track]:
    """Make tracks of songs that a model separates; one stem alone is scored beside what is left of the mixture."""
    return [
        Track(
            song.name,
            _scored(model.sources),
            model.sample_rate,
            partial(_separate_song, model, song, batch_size, overlap),
        )
        for song in songs
    ]


def folder_tracks(estimates: str | os.PathLike, references: str | os.PathLike) -> list[Track]:
    """Pair folders of tracks, or the two folders of one track, and check all that is known before reading.

    One estimated stem alone is scored beside what is left of the mixture, which is `mixture.*` of the
    references, else the sum of all references.

    Args:
        estimates: `track/stem.ext`, or the stems of one track.
        references: the same, with all stems that are estimated.

    Raises:
        DatasetError: anything does not fit, with all findings.
    """
    estimates, references = Path(estimates), Path(references)
    pairs, findings = _pair_folders(estimates, references)
    found = {name: tuple(_stems(folder, findings) for folder in pair) for name, pair in pairs.items()}
    wanted = dict.fromkeys(stem for estimated, _ in found.values() for stem in estimated if stem != "mixture")
    for name, (estimated, recorded) in found.items():
        findings += _check_track(name, wanted, estimated, recorded)
    if not findings and not wanted:
        findings.append(f"{estimates} holds no stem besides mixtures: give the folder of separated stems")
    if findings:
        raise DatasetError(f"{estimates} against {references}", findings)
    return [_file_track(name, list(wanted), *stems) for name, stems in found.items()]


def _scored(sources: Iterable[str]) -> tuple[str, ...]:
    """Name the scored stems: of one, also what is left."""
    sources = tuple(sources)
    if len(sources) > 1:
        return sources
    return (*sources, next(name for name in REST_NAMES if name not in sources))


def _separate_song(model: Separator, song: Song, batch_size: int, overlap: float) -> Material:
    mixture = song.read_mixture(0, song.n_frames)
    reference = torch.stack([song.read_stem(name, 0, song.n_frames) for name in model.sources])
    estimate, done = torch.empty_like(reference), 0
    for block in separate_blocks(
        model, mixture.split(_BLOCK, -1), model.sample_rate, model.sources, batch_size, overlap
    ):
        estimate[..., done : done + block.shape[-1]] = block
        done += block.shape[-1]
    return _with_rest(mixture, reference, estimate)


def _with_rest(mixture: Tensor, reference: Tensor, estimate: Tensor) -> Material:
    """Put what is left of the mixture beside one stem alone."""
    if len(reference) == 1:
        reference = torch.cat([reference, mixture - reference])
        estimate = torch.cat([estimate, mixture - estimate])
    return Material(mixture, reference, estimate)


def _pair_folders(estimates: Path, references: Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Pair the folders of tracks by name, and list what has no partner."""
    missing = [f"there is no folder {root}" for root in (estimates, references) if not root.is_dir()]
    if missing:
        return {}, missing
    alone = [_holds_audio(root) for root in (estimates, references)]
    if all(alone):
        return {references.resolve().name: (estimates, references)}, []
    if any(alone):
        one, many = (estimates, references) if alone[0] else (references, estimates)
        return {}, [f"{one} holds the stems of one track, {many} does not: give two folders of the same kind"]
    tracks = [
        {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and _holds_audio(path)}
        for root in (estimates, references)
    ]
    empty = [f"{root} holds neither stems nor folders of stems" for root, held in
             zip((estimates, references), tracks, strict=True) if not held]
    if empty:
        return {}, empty
    estimated, recorded = tracks
    findings = [f"{estimated[name]}: no reference track {name!r}{_nearest(name, recorded)}"
                for name in estimated if name not in recorded]
    findings += [f"{recorded[name]}: no estimates of track {name!r}{_nearest(name, estimated)}"
                 for name in recorded if name not in estimated]
    return {name: (estimated[name], recorded[name]) for name in estimated if name in recorded}, findings


def _holds_audio(folder: Path) -> bool:
    return any(path.is_file() and audio.is_audio_name(path) for path in folder.iterdir())


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(known), 1)
    return f", nearest is {nearest[0]!r}" if nearest else ""


def _stems(folder: Path, findings: list[str]) -> Stems:
    """Probe the stems of a track; what cannot be used becomes a finding."""
    stems: Stems = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file() and audio.is_audio_name(path)):
        if path.stem in stems:
            findings.append(f"{path}: there is another file for the stem {path.stem!r}: keep one")
        try:
            stems[path.stem] = audio.probe(path)
        except audio.AudioError as error:
            findings.append(str(error))
        else:
            if stems[path.stem].truncated:
                findings.append(f"{path}: truncated: replace it")
    return stems


def _check_track(name: str, wanted: Iterable[str], estimated: Stems, recorded: Stems) -> list[str]:
    """List what is wrong with a track: names, rates, channels, lengths."""
    wanted = list(wanted)
    findings = [f"{name}: no estimate of {stem!r}, which other tracks have{_nearest(stem, estimated)}"
                for stem in wanted if stem not in estimated]
    references = [stem for stem in recorded if stem != "mixture"]
    for stem in (stem for stem in wanted if stem in estimated and stem not in recorded):
        if not (stem in REST_NAMES and len(wanted) == 2 and any(other in recorded for other in wanted)):
            findings.append(f"{name}: no reference for the estimate {stem!r}{_nearest(stem, references)}")
    files = {f"estimate of {stem}": estimated[stem] for stem in wanted if stem in estimated}
    files.update({f"reference {stem}": info for stem, info in recorded.items()})
    for what, unit in (("sample_rate", "Hz"), ("n_channels", "channels"), ("n_frames", "samples")):
        given = {label: getattr(info, what) for label, info in files.items()}
        if len(set(given.values())) > 1:
            listed = ", ".join(f"{label} {value}" for label, value in given.items())
            findings.append(f"{name}: all files need the same number of {unit}, got {listed}")
    return findings


def _file_track(name: str, wanted: list[str], estimated: Stems, recorded: Stems) -> Track:
    scored = [stem for stem in wanted if stem in recorded]
    beside = [stem for stem in wanted if stem not in recorded]  # the rest of one stem, estimated by itself
    sample_rate = estimated[scored[0]].sample_rate
    targets = (*scored, *beside) if beside else _scored(scored)
    return Track(name, targets, sample_rate, partial(_read_files, scored, beside, estimated, recorded))


def _read_files(scored: list[str], beside: list[str], estimated: Stems, recorded: Stems) -> Material:
    mixture = _read_mixture(recorded)
    material = _with_rest(
        mixture,
        torch.stack([_read(recorded[stem]) for stem in scored]),
        torch.stack([_read(estimated[stem]) for stem in scored]),
    )
    for stem in beside:
        material.estimate[1] = _read(estimated[stem])
    return material


def _read_mixture(recorded: Mapping[str, audio.AudioInfo]) -> Tensor:
    """Read the mixture, else sum the stems; what is itself a sum counts beside one stem only."""
    if "mixture" in recorded:
        return _read(recorded["mixture"])
    stems = [stem for stem in recorded if stem not in REST_NAMES]
    return sum(_read(recorded[stem]) for stem in (stems if len(stems) > 1 else recorded))


def _read(info: audio.AudioInfo) -> Tensor:
    return audio.read(info.path, info=info)[0]
