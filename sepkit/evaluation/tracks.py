"""The tracks that are scored: separated by a model, or read from folders that are paired by name."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from torch import Tensor

from sepkit import audio
from sepkit.datasets import DatasetError, Song, open_songs
from sepkit.evaluation.scoring import Material
from sepkit.evaluation.targets import REST_NAMES, Targets, choose_targets
from sepkit.files import readable, safe_name
from sepkit.inference import separate_blocks
from sepkit.separator import Separator

_BLOCK = 1 << 16  # samples that go into the model at a time
Stems = dict[str, audio.AudioInfo]
Reader = Callable[[], Tensor]


@dataclass(frozen=True)
class Track:
    """One track, in memory only while it is scored.

    Attributes:
        name: of its folder.
        targets: what is scored of it.
        sample_rate: Hz.
        n_channels: C.
        n_samples: T.
        files: from which it is read.
        read: gives the waveforms.
    """

    name: str
    targets: Targets
    sample_rate: int
    n_channels: int
    n_samples: int
    files: tuple[str, ...]
    read: Callable[[], Material]


@dataclass(frozen=True)
class _References:
    """What is recorded of a track; each reader gives (C, T)."""

    stems: Mapping[str, Reader]
    mixture: Reader


def song_tracks(
    model: Separator, songs: Iterable[Song], targets: Targets, batch_size: int, overlap: float
) -> list[Track]:
    """Make tracks of songs that a model separates.

    Args:
        model: which separates them.
        songs: at its rate.
        targets: what is scored.
        batch_size: chunks that the network sees at once.
        overlap: share of a chunk that the next one covers again.
    """
    estimate = partial(_separate, model, targets.stems, batch_size, overlap)
    return [
        Track(
            song.name,
            targets,
            model.sample_rate,
            song.n_channels,
            song.n_frames,
            _song_files(song),
            partial(_read_material, _song_references(song), targets, estimate),
        )
        for song in songs
    ]


def _song_files(song: Song) -> tuple[str, ...]:
    stems = [*song.stems.values(), *([song.mixture] if song.mixture else [])]
    return tuple(stem.info.path for stem in stems)


def _song_references(song: Song) -> _References:
    stems = {name: partial(song.read_stem, name, 0, song.n_frames) for name in song.stems}
    return _References(stems, partial(song.read_mixture, 0, song.n_frames))


def _separate(
    model: Separator, stems: Sequence[str], batch_size: int, overlap: float, mixture: Tensor, out: Tensor
) -> int:
    """Fill the first of out (S, C, T) with the estimated stems; give their number."""
    done = 0
    blocks = mixture.split(_BLOCK, -1)
    for block in separate_blocks(model, blocks, model.sample_rate, _in_order(model, stems), batch_size, overlap):
        for place, waveform in zip(_places(model, stems), block, strict=True):
            out[place, :, done : done + block.shape[-1]] = waveform
        done += block.shape[-1]
    return len(stems)


def _in_order(model: Separator, stems: Sequence[str]) -> list[str]:
    return [name for name in model.sources if name in stems]


def _places(model: Separator, stems: Sequence[str]) -> list[int]:
    return [stems.index(name) for name in _in_order(model, stems)]


def _read_material(
    references: _References, targets: Targets, estimate: Callable[[Tensor, Tensor], int]
) -> Material:
    """Read a track; the estimated rest, where it has no file, is the mixture without the first stem."""
    mixture = references.mixture()
    reference, found = (mixture.new_empty(len(targets.names), *mixture.shape) for _ in range(2))
    for place, name in enumerate(targets.stems):
        reference[place] = references.stems[name]()
    n_estimated = estimate(mixture, found)
    if targets.rest:
        reference[-1] = _read_rest(references, targets, mixture)
        if n_estimated < len(found):
            found[-1] = mixture - found[0]
    return Material(mixture, reference, found, targets.names)


def _read_rest(references: _References, targets: Targets, mixture: Tensor) -> Tensor:
    first, others = references.stems[targets.stems[0]], [targets.stems[0], *REST_NAMES]
    others = [read for name, read in references.stems.items() if name not in others]
    if targets.summed and targets.rest in references.stems:
        return references.stems[targets.rest]()
    return sum(read() for read in others) if targets.summed and others else mixture - first()


def folder_tracks(
    estimates: str | os.PathLike,
    references: str | os.PathLike | None,
    data: str | os.PathLike | None,
    split: str,
    chosen: Sequence[str] | None,
    protocol: str,
) -> list[Track]:
    """Pair estimates with references by name, and check all that is known before reading.

    Args:
        estimates: `track/stem.ext`, or the stems of one track; of songs also `split/track/stem.ext`.
        references: the same, with all stems that are estimated.
        data: in place of references: root of songs, as `sepkit.datasets.open_songs` takes it.
        split: of the songs.
        chosen: stems that are scored; None: all that are estimated.
        protocol: which are scored together.

    Raises:
        DatasetError: anything does not fit, with all findings.
        ValueError: such targets cannot be scored.
    """
    estimates = Path(estimates)
    if references is not None:
        root, findings = Path(references), []
        pairs = _pair_folders(estimates, root, split, findings)
        found = {name: tuple(_stems(folder, findings) for folder in pair) for name, pair in pairs.items()}
    else:
        root, findings = Path(data), []
        found = _pair_with_songs(estimates, root, split, findings)
    wanted = list(dict.fromkeys(stem for estimated, _ in found.values() for stem in estimated if stem != "mixture"))
    for name, (estimated, recorded) in found.items():
        findings += _check_track(name, wanted, estimated, recorded)
    if not findings and not wanted:
        findings.append(f"{estimates} holds no stem besides mixtures: give the folder of separated stems")
    if findings:
        raise DatasetError(f"{estimates} against {root}", findings)
    return [_file_track(name, wanted, chosen, protocol, *stems) for name, stems in found.items()]


def _pair_folders(
    estimates: Path, references: Path, split: str, findings: list[str]
) -> dict[str, tuple[Path, Path]]:
    """Pair the folders of tracks by name, and list what has no partner."""
    missing = [f"there is no folder {root}" for root in (estimates, references) if not root.is_dir()]
    if missing:
        findings += missing
        return {}
    alone = [_holds_audio(root) for root in (estimates, references)]
    if all(alone):
        return {references.resolve().name: (estimates, references)}
    if any(alone):
        one, many = (estimates, references) if alone[0] else (references, estimates)
        findings.append(f"{one} holds the stems of one track, {many} does not: give two folders of the same kind")
        return {}
    tracks = [_track_folders(root) for root in (estimates, references)]
    empty = [root for root, held in zip((estimates, references), tracks, strict=True) if not held]
    findings += [f"{root} holds neither stems nor folders of stems: {_inner(root, split)}" for root in empty]
    return {} if empty else _pair(*tracks, findings)


def _inner(root: Path, split: str) -> str:
    """Say which folder to give in place of one whose tracks lie deeper, that of the split if there are several."""
    holding = [path for path in sorted(root.iterdir()) if path.is_dir() and _track_folders(path)]
    if not holding:
        return "give a folder of track/stem.wav"
    return f"give {root / split if root / split in holding else holding[0]}"


def _pair_with_songs(
    estimates: Path, root: Path, split: str, findings: list[str]
) -> dict[str, tuple[Stems, Stems]]:
    """Pair the folders of estimates with songs, which are opened as the first estimate is."""
    inner = estimates / split
    tracks = _track_folders(inner if inner.is_dir() and not _holds_audio(inner) else estimates)
    estimated = {name: _stems(folder, findings) for name, folder in tracks.items()}
    first = next((info for stems in estimated.values() for info in stems.values()), None)
    if first is None:
        findings.append(f"{estimates} holds no folders of stems, track/stem.wav or {split}/track/stem.wav")
        return {}
    songs = {song.name: song for song in open_songs(root, split, None, first.sample_rate, first.n_channels)}
    pairs = _pair(estimated, songs, findings)
    return {name: (stems, _song_stems(song)) for name, (stems, song) in pairs.items()}


def _song_stems(song: Song) -> Stems:
    stems = {**song.stems, **({"mixture": song.mixture} if song.mixture else {})}
    return {name: stem.info for name, stem in stems.items()}


def _track_folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        return {}
    return {readable(path.name): path for path in sorted(root.iterdir()) if path.is_dir() and _holds_audio(path)}


def _pair(estimated: Mapping, recorded: Mapping, findings: list[str]) -> dict[str, tuple]:
    """Pair by name; separating writes into folders whose names are safe."""
    safe = {safe_name(name): name for name in recorded if name not in estimated}
    names = {name: name if name in recorded else safe.pop(safe_name(name), name) for name in estimated}
    estimated = {names[name]: held for name, held in estimated.items()}
    findings += [f"no reference track {name!r} for the estimates{_nearest(name, recorded)}"
                 for name in estimated if name not in recorded]
    findings += [f"no estimates of track {name!r}{_nearest(name, estimated)}"
                 for name in recorded if name not in estimated]
    return {name: (estimated[name], recorded[name]) for name in estimated if name in recorded}


def _holds_audio(folder: Path) -> bool:
    return any(path.is_file() and audio.is_audio_name(path) for path in folder.iterdir())


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(name, list(known), 1)
    return f", nearest is {nearest[0]!r}" if nearest else ""


def _stems(folder: Path, findings: list[str]) -> Stems:
    """Probe the stems of a track; what cannot be used becomes a finding."""
    stems: Stems = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file() and audio.is_audio_name(path)):
        name = readable(path.stem)
        if name in stems:
            findings.append(f"{path}: there is another file for the stem {name!r}: keep one")
        try:
            stems[name] = audio.probe(path)
        except audio.AudioError as error:
            findings.append(str(error))
        else:
            info = stems[name]
            if info.complaint:
                wrong = "truncated" if info.truncated else audio.describe_damage(info.damage, info.sample_rate)
                findings.append(f"{path}: {wrong}: replace it")
    return stems


def _check_track(name: str, wanted: Sequence[str], estimated: Stems, recorded: Stems) -> list[str]:
    """List what is wrong with a track: names, rates, channels, lengths."""
    findings = [f"{name}: no estimate of {stem!r}, which other tracks have{_nearest(stem, estimated)}"
                for stem in wanted if stem not in estimated]
    references = [stem for stem in recorded if stem != "mixture"]
    for stem in (stem for stem in wanted if stem in estimated and stem not in recorded):
        if not (stem in REST_NAMES and any(other in recorded for other in wanted)):
            findings.append(f"{name}: no reference for the estimate {stem!r}{_nearest(stem, references)}")
    files = {f"estimate of {stem}": estimated[stem] for stem in wanted if stem in estimated}
    files.update({f"reference {stem}": info for stem, info in recorded.items()})
    for what, unit in (("sample_rate", "Hz"), ("n_channels", "channels"), ("n_frames", "samples")):
        given = {label: getattr(info, what) for label, info in files.items()}
        if len(set(given.values())) > 1:
            listed = ", ".join(f"{label} {value}" for label, value in given.items())
            findings.append(f"{name}: all files need the same number of {unit}, got {listed}")
    return findings


def _file_track(
    name: str, wanted: list[str], chosen: Sequence[str] | None, protocol: str, estimated: Stems, recorded: Stems
) -> Track:
    targets = _file_targets(wanted, chosen, protocol, recorded)
    info = next(iter(recorded.values()))
    files = [*(estimated[stem] for stem in targets.names if stem in estimated), *recorded.values()]
    references = _References(
        {stem: partial(_read, found) for stem, found in recorded.items() if stem != "mixture"},
        partial(_read_mixture, recorded),
    )
    estimate = partial(_read_estimates, [estimated[stem] for stem in targets.names if stem in estimated])
    return Track(
        name,
        targets,
        info.sample_rate,
        info.n_channels,
        info.n_frames,
        tuple(found.path for found in files),
        partial(_read_material, references, targets, estimate),
    )


def _file_targets(
    wanted: list[str], chosen: Sequence[str] | None, protocol: str, recorded: Stems
) -> Targets:
    """Choose targets among files; where the reference of one is missing, it is what is left beside the other."""
    targets = choose_targets(wanted, chosen, protocol)
    missing = [stem for stem in targets.stems if stem not in recorded]
    if not missing:
        return targets
    stems = tuple(stem for stem in targets.stems if stem in recorded)
    if len(stems) != 1 or len(missing) != 1:
        raise ValueError(
            f"{missing[0]} has no reference and can stand beside one stem alone, got {', '.join(targets.names)}: "
            "choose targets, or protocol musdb"
        )
    return Targets(stems, missing[0])


def _read_estimates(estimated: Sequence[audio.AudioInfo], _mixture: Tensor, out: Tensor) -> int:
    for waveform, info in zip(out, estimated, strict=False):
        waveform.copy_(_read(info))
    return len(estimated)


def _read_mixture(recorded: Mapping[str, audio.AudioInfo]) -> Tensor:
    """Read the mixture, else sum the stems; what is itself a sum counts beside one stem only."""
    if "mixture" in recorded:
        return _read(recorded["mixture"])
    stems = [stem for stem in recorded if stem not in REST_NAMES]
    return sum(_read(recorded[stem]) for stem in (stems if len(stems) > 1 else recorded))


def _read(info: audio.AudioInfo) -> Tensor:
    return audio.read(info.path, info=info)[0]
