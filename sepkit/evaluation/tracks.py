"""The tracks that are scored: separated by a model, or read from folders that are paired by name."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from torch import Tensor

from sepkit import audio
from sepkit.datasets import DatasetError, Song, open_songs
from sepkit.datasets.check import describe_inspections
from sepkit.datasets.roles import Roles, describe_roles, is_all_but_vocals, is_mixture, missing_part, sort_stems, untag
from sepkit.datasets.songs import Stem, make_song
from sepkit.evaluation.measure import TrackAudio
from sepkit.evaluation.settings import WITH_MIXTURE
from sepkit.evaluation.targets import ACCOMPANIMENT, REST_NAMES, VOCALS, Targets, choose_targets
from sepkit.files import readable, safe_name
from sepkit.inference import separate_blocks
from sepkit.separator import Separator

_BLOCK = 1 << 16  # samples that go into the model at a time
Stems = dict[str, audio.AudioInfo]
_SHOWN = 5  # names in a sentence
_EQUAL = (  # of all files of a track
    ("sample_rate", "Hz", "resample the others"),
    ("n_channels", "channels", "write all as mono or all as stereo"),
    ("n_samples", "samples", "cut the longer ones, or fill the shorter ones with silence, at the end"),
)


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
        mixed: whether the mixture is known; of one recorded stem alone it is not.
        song: what is recorded.
    """

    name: str
    targets: Targets
    sample_rate: int
    n_channels: int
    n_samples: int
    files: tuple[str, ...]
    read: Callable[[], TrackAudio]
    mixed: bool
    song: Song


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
    names = [name for name in targets.names if name in targets.stems or (targets.summed and name in model.sources)]
    estimate = partial(_separate, model, names, batch_size, overlap)
    return [_song_track(song, targets, estimate) for song in songs]


def _song_track(
    song: Song, targets: Targets, estimate: Callable[[Tensor | None, Tensor], int], files: Sequence[str] = ()
) -> Track:
    """Make a track of a song, whose estimates have files of their own or none."""
    mixed = song.mixture is not None or len(song.parts) > 1
    if not mixed and targets.rest not in (None, *song.stems):
        targets = Targets(targets.stems)
    recorded = [*song.stems.values(), *([song.mixture] if song.mixture else [])]
    return Track(
        song.name,
        targets,
        recorded[0].sample_rate,
        song.n_channels,
        song.n_samples,
        (*files, *(stem.info.path for stem in recorded)),
        partial(_read_material, song, targets, mixed, estimate),
        mixed,
        song,
    )


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


def _read_material(song: Song, targets: Targets, mixed: bool, estimate: Callable[[Tensor, Tensor], int]) -> TrackAudio:
    """Read a track; the estimated rest, where it has no file, is the mixture without the first stem."""
    mixture = song.read_mixture(0, song.n_samples)
    reference, found = (mixture.new_empty(len(targets.names), *mixture.shape) for _ in range(2))
    for place, name in enumerate(targets.stems):
        reference[place] = song.read_stem(name, 0, song.n_samples)
    n_estimated = estimate(mixture, found)
    if targets.rest:
        reference[-1] = _read_rest(song, targets, mixture)
        if n_estimated < len(found):
            found[-1] = mixture - found[0]
    return TrackAudio(mixture if mixed else None, reference, found, targets.names)


def _read_rest(song: Song, targets: Targets, mixture: Tensor) -> Tensor:
    """Read what is left beside the first stem; where that is a sum, the recorded one, else all parts but the vocals."""
    if targets.summed and targets.rest in song.stems:
        return song.read_stem(targets.rest, 0, song.n_samples)
    others = [name for name in song.parts if name != VOCALS] if targets.summed else []
    if others:
        return sum(song.read_stem(name, 0, song.n_samples) for name in others)
    return mixture - song.read_stem(targets.stems[0], 0, song.n_samples)


def folder_tracks(
    estimates: str | os.PathLike,
    references: str | os.PathLike | None,
    data: str | os.PathLike | None,
    split: str,
    chosen: Sequence[str] | None,
    protocol: str,
) -> tuple[list[Track], list[str]]:
    """Pair estimates with references by name, and check all that is known before reading.

    Args:
        estimates: `track/stem.ext`, or the stems of one track; of songs also `split/track/stem.ext`.
        references: the same, with all stems that are estimated.
        data: in place of references: root of songs, as `sepkit.datasets.open_songs` takes it.
        split: of the songs.
        chosen: stems that are scored; None: all that are estimated.
        protocol: which are scored together.

    Returns:
        The tracks, and how the folders were read, where that is not plain.

    Raises:
        DatasetError: anything does not fit, with all findings.
        ValueError: such targets cannot be scored.
    """
    estimates, root, findings = Path(estimates), Path(data if references is None else references), []
    if references is None:
        found, said = _pair_with_songs(estimates, root, split, findings), []
    else:
        found, said = _pair_folders(estimates, root, split, findings)
    renamed = {stem: _name_sum(stem, *stems) for stems in found.values() for stem in stems[0]}
    found = {name: ({renamed[stem]: info for stem, info in files.items()}, of) for name, (files, of) in found.items()}
    estimated = list(dict.fromkeys(stem for files, _ in found.values() for stem in files if not is_mixture(stem)))
    chosen = [renamed.get(stem, stem) for stem in ([chosen] if isinstance(chosen, str) else chosen or ())] or None
    wanted = [stem for stem in estimated if chosen is None or stem in (*chosen, ACCOMPANIMENT)]
    for name, (files, recorded) in found.items():
        findings += _check_track(name, wanted, files, recorded)
    if not findings and not estimated:
        findings.append(f"{estimates} holds no stem besides mixtures: give the folder of separated stems")
    if findings:
        raise DatasetError(f"{estimates} against {root}", findings)
    tracks = [_file_track(name, estimated, chosen, protocol, *stems) for name, stems in found.items()]
    said += [f"{old} is scored as {new}" for old, new in renamed.items() if new != old]
    scored = {stem for track in tracks for stem in track.targets.names}
    said += [
        f"not scored: {stem}{'' if any(stem in recorded for _, recorded in found.values()) else ' (no reference)'}"
        for stem in estimated
        if stem not in scored
    ]
    said += describe_roles([_sort_recorded(recorded, scored) for _, recorded in found.values()])
    return tracks, said


def _name_sum(stem: str, estimated: Collection[str], recorded: Collection[str]) -> str:
    """Name an estimate of all but the vocals as its reference is named, else accompaniment."""
    if stem in recorded or not is_all_but_vocals(stem):
        return stem
    known = [name for name in recorded if is_all_but_vocals(name)]
    name = known[0] if len(known) == 1 else ACCOMPANIMENT
    return stem if name in estimated else name


def _sort_recorded(recorded: Stems, wanted: Collection[str]) -> Roles:
    return sort_stems(recorded, [stem for stem in recorded if stem in wanted])


def describe_recorded(tracks: Sequence[Track]) -> list[str]:
    """Say what ten seconds of the recorded stems tell, of which tracks no mixture is known, and what is left out there.

    Args:
        tracks: all.
    """
    targets = {name for track in tracks for name in track.targets.stems}
    told, refused = describe_inspections([track.song for track in tracks], targets)
    names = [track.name for track in tracks if not track.mixed]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    left = f"{', '.join(WITH_MIXTURE)}, mixture and oracle are left out, and what is beside the stem"
    return [*told, *refused, *([f"no mixture is known of {shown}: {left}"] if names else [])]


def _pair_folders(
    estimates: Path, references: Path, split: str, findings: list[str]
) -> tuple[dict[str, tuple[Stems, Stems]], list[str]]:
    """Pair the folders of tracks by name, list what has no partner, and say how folders of files alone were read."""
    missing = [f"there is no folder {root}" for root in (estimates, references) if not root.is_dir()]
    if missing:
        findings += missing
        return {}, []
    alone = [_holds_audio(root) for root in (estimates, references)]
    if all(alone):
        pair = _stems(estimates, findings), _stems(references, findings)
        return {references.resolve().name: pair}, [f"read as the stems of one track: {', '.join(pair[0])}"]
    if any(alone):
        one, many = (estimates, references) if alone[0] else (references, estimates)
        findings.append(f"{one} holds the stems of one track, {many} does not: {_way_apart(one)}")
        return {}, []
    tracks = [_track_folders(root) for root in (estimates, references)]
    empty = [root for root, held in zip((estimates, references), tracks, strict=True) if not held]
    findings += [f"{root} holds neither stems nor folders of stems: {_inner(root, split)}" for root in empty]
    pairs = {} if empty else _pair(*tracks, findings)
    return {name: tuple(_stems(folder, findings) for folder in pair) for name, pair in pairs.items()}, []


def _way_apart(folder: Path) -> str:
    """Say how files of several tracks in one folder are to lie."""
    tagged = next((path for path in sorted(folder.iterdir()) if untag(path.stem)), None)
    if tagged is None:
        return "give two folders of the same kind"
    return f"put {tagged.name} into {'/'.join(untag(tagged.stem))}{tagged.suffix}, and the others alike"


def _inner(root: Path, split: str) -> str:
    """Say which folder to give in place of one whose tracks lie deeper, that of the split if there are several."""
    holding = [path for path in sorted(root.iterdir()) if path.is_dir() and _track_folders(path)]
    if not holding:
        return "give a folder of track/stem.wav"
    return f"give {root / split if root / split in holding else holding[0]}"


def _pair_with_songs(estimates: Path, root: Path, split: str, findings: list[str]) -> dict[str, tuple[Stems, Stems]]:
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
    findings += [
        f"no reference track {name!r} for the estimates{_nearest(name, recorded)}"
        for name in estimated
        if name not in recorded
    ]
    findings += [
        f"no estimates of track {name!r}{_nearest(name, estimated)}" for name in recorded if name not in estimated
    ]
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
    findings = [
        f"{name}: no estimate of {stem!r}, which other tracks have{_nearest(stem, estimated)}"
        for stem in wanted
        if stem not in estimated
    ]
    references = [stem for stem in recorded if not is_mixture(stem)]
    for stem in (stem for stem in wanted if stem in estimated and stem not in recorded):
        is_rest = stem in REST_NAMES or missing_part(stem) is not None
        if not (is_rest and any(other in recorded for other in wanted)):
            findings.append(
                f"{name}: no reference for the estimate {stem!r}{_nearest(stem, references)}: rename it, add the "
                "reference, or choose others as targets"
            )
    files = {f"estimate of {stem}": estimated[stem] for stem in wanted if stem in estimated}
    files.update({f"reference {stem}": info for stem, info in recorded.items()})
    for what, unit, remedy in _EQUAL:
        given = {label: getattr(info, what) for label, info in files.items()}
        if len(set(given.values())) > 1:
            listed = ", ".join(f"{label} {value}" for label, value in given.items())
            findings.append(f"{name}: all files need the same number of {unit}, got {listed}: {remedy}")
    return findings


def _file_track(
    name: str,
    available: Sequence[str],
    chosen: Sequence[str] | None,
    protocol: str,
    estimated: Stems,
    recorded: Stems,
) -> Track:
    targets = _file_targets(available, chosen, protocol, recorded)
    stems = {stem: Stem(info, info.sample_rate, info.n_channels) for stem, info in recorded.items()}
    song = make_song(name, stems, _sort_recorded(recorded, targets.names))
    # Beside vocals an accompaniment is all but the vocals, which is not what is left beside another stem.
    of_vocals = targets.summed or targets.stems[0] == VOCALS or VOCALS not in available
    names = targets.names if of_vocals else targets.stems
    files = [estimated[stem] for stem in names if stem in estimated]
    return _song_track(song, targets, partial(_read_estimates, files), [info.path for info in files])


def _file_targets(available: Sequence[str], chosen: Sequence[str] | None, protocol: str, recorded: Stems) -> Targets:
    """Choose targets among files; where the reference of one is missing, it is what is left beside the other."""
    targets = choose_targets(available, chosen, protocol)
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


def _read(info: audio.AudioInfo) -> Tensor:
    return audio.read(info.path, info=info)[0]
