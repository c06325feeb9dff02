"""Estimates in folders, paired with references by name."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sepkit import audio
from sepkit.datasets import DatasetError, open_songs
from sepkit.datasets.candidates import StemMap
from sepkit.datasets.roles import Roles, describe_roles, is_all_but_vocals, is_mixture, missing_part, sort_stems, untag
from sepkit.datasets.songs import make_song
from sepkit.datasets.stems import Stem, single
from sepkit.evaluation.targets import ACCOMPANIMENT, RESIDUAL_NAMES, VOCALS, Targets, choose_targets
from sepkit.evaluation.tracks import FileTrack
from sepkit.files import readable, safe_name
from sepkit.instantiate import did_you_mean

Stems = dict[str, audio.AudioInfo]


class References(NamedTuple):
    """The recorded stems of a track, its mixture among them.

    Attributes:
        stems: by name.
        padded: whether shorter ones count as silent to the end of the longest.
    """

    stems: Mapping[str, Stem]
    padded: bool = False


_EQUAL = (  # of all files of a track
    ("sample_rate", "Hz", "resample the others"),
    ("n_channels", "channels", "write all as mono or all as stereo"),
    ("n_samples", "samples", "cut the longer ones, or fill the shorter ones with silence, at the end"),
)


def folder_tracks(
    estimates: str | os.PathLike,
    references: str | os.PathLike | None,
    data: str | os.PathLike | None,
    split: str,
    chosen: Sequence[str] | None,
    protocol: str,
    layout: str | None = None,
    stems: StemMap | None = None,
) -> tuple[list[FileTrack], list[str]]:
    """Match estimates with references by name, and check all that is known before reading.

    Args:
        estimates: `track/stem.ext`, or the stems of one track; of songs also `split/track/stem.ext`.
        references: the same, with all stems that are estimated.
        data: in place of references: root of songs, as `sepkit.datasets.open_songs` takes it.
        split: of the songs.
        chosen: stems that are scored; None: all that are estimated.
        protocol: which are scored together.
        layout: how files lie in the root of songs, as `open_songs` takes it.
        stems: the stem map of the songs, as `open_songs` takes it.

    Returns:
        The tracks, and notes about how the folders were read, where that is not plain.

    Raises:
        DatasetError: anything does not fit, with all findings.
        ValueError: such targets cannot be scored.
    """
    estimates, root, findings = Path(estimates), Path(data if references is None else references), []
    if references is None:
        pairs, notes = _pair_with_songs(estimates, root, split, layout, stems, findings), []
    else:
        pairs, notes = _pair_folders(estimates, root, split, findings)
    renamed = {stem: _name_sum(stem, files, of.stems) for files, of in pairs.values() for stem in files}
    pairs = {name: ({renamed[stem]: info for stem, info in files.items()}, of) for name, (files, of) in pairs.items()}
    estimated = list(dict.fromkeys(stem for files, _ in pairs.values() for stem in files if not is_mixture(stem)))
    chosen = [renamed.get(stem, stem) for stem in ([chosen] if isinstance(chosen, str) else chosen or ())] or None
    _check_chosen(estimates, estimated, chosen)
    wanted = [stem for stem in estimated if chosen is None or stem in (*chosen, ACCOMPANIMENT)]
    for name, (files, recorded) in pairs.items():
        findings += _check_track(name, wanted, files, recorded)
    if not findings and not estimated:
        findings.append(f"{estimates} holds no stem besides mixtures: give the folder of separated stems")
    if findings:
        raise DatasetError(f"{estimates} against {root}", findings)
    tracks = [_make_track(name, estimated, chosen, protocol, *pair) for name, pair in pairs.items()]
    notes += [f"{old} is scored as {new}" for old, new in renamed.items() if new != old]
    scored = {stem for track in tracks for stem in track.targets.names}
    known = {stem for _, recorded in pairs.values() for stem in recorded.stems}
    notes += [
        f"not scored: {stem}{'' if stem in known else ' (no reference)'}" for stem in estimated if stem not in scored
    ]
    notes += describe_roles([_sort_recorded(recorded.stems, scored) for _, recorded in pairs.values()])
    return tracks, notes


def _check_chosen(estimates: Path, estimated: Sequence[str], chosen: Sequence[str] | None) -> None:
    """Refuse targets of which there are no estimates, before anything else is found about those that there are."""
    possible = [*estimated, *([ACCOMPANIMENT] if VOCALS in estimated else [])]
    unknown = [stem for stem in chosen or () if stem not in possible]
    if unknown and estimated:
        hint = did_you_mean(unknown[0], possible)
        raise ValueError(
            f"targets must be stems that are estimated, in {estimates} {', '.join(estimated)}, got "
            f"{', '.join(unknown)}{hint}"
        )


def _name_sum(stem: str, estimated: Collection[str], recorded: Collection[str]) -> str:
    """Name an estimate of all but the vocals as its reference is named, else accompaniment."""
    if stem in recorded or not is_all_but_vocals(stem):
        return stem
    sums = [name for name in recorded if is_all_but_vocals(name)]
    name = sums[0] if len(sums) == 1 else ACCOMPANIMENT
    return stem if name in estimated else name


def _sort_recorded(recorded: Mapping[str, Stem], wanted: Collection[str]) -> Roles:
    return sort_stems(recorded, [stem for stem in recorded if stem in wanted])


def _pair_folders(
    estimates: Path, references: Path, split: str, findings: list[str]
) -> tuple[dict[str, tuple[Stems, References]], list[str]]:
    """Match the folders of tracks by name, append what has no partner to the findings, and return pairs and notes."""
    findings += [f"there is no folder {root}" for root in (estimates, references) if not root.is_dir()]
    if findings:
        return {}, []
    alone = [_holds_audio(root) for root in (estimates, references)]
    if all(alone):
        pair = _stems(estimates, findings), _refer(_stems(references, findings))
        return {references.resolve().name: pair}, [f"read as the stems of one track: {', '.join(pair[0])}"]
    if any(alone):
        one, many = (estimates, references) if alone[0] else (references, estimates)
        findings.append(f"{one} holds the stems of one track, {many} does not: {_way_apart(one)}")
        return {}, []
    tracks = [_track_folders(root) for root in (estimates, references)]
    empty = [root for root, held in zip((estimates, references), tracks, strict=True) if not held]
    findings += [f"{root} holds neither stems nor folders of stems: {_inner(root, split)}" for root in empty]
    pairs = {} if empty else _pair(*tracks, findings)
    probed = {name: [_stems(folder, findings) for folder in pair] for name, pair in pairs.items()}
    return {name: (estimated, _refer(recorded)) for name, (estimated, recorded) in probed.items()}, []


def _refer(recorded: Stems) -> References:
    """Make each file the reference of its stem."""
    return References({stem: single(info, info.sample_rate, info.n_channels) for stem, info in recorded.items()})


def _way_apart(folder: Path) -> str:
    """Describe how files of several tracks in one folder are to lie."""
    tagged = next((path for path in sorted(folder.iterdir()) if untag(path.stem)), None)
    if tagged is None:
        return "give two folders of the same kind"
    return f"put {tagged.name} into {'/'.join(untag(tagged.stem))}{tagged.suffix}, and the others alike"


def _inner(root: Path, split: str) -> str:
    """Name the folder to give in place of one whose tracks lie deeper, that of the split if there are several."""
    holding = [path for path in sorted(root.iterdir()) if path.is_dir() and _track_folders(path)]
    if not holding:
        return "give a folder of track/stem.wav"
    return f"give {root / split if root / split in holding else holding[0]}"


def _pair_with_songs(
    estimates: Path, root: Path, split: str, layout: str | None, stem_map: StemMap | None, findings: list[str]
) -> dict[str, tuple[Stems, References]]:
    """Match the folders of estimates with songs, which are opened as the first estimate is."""
    inner = estimates / split
    tracks = _track_folders(inner if inner.is_dir() and not _holds_audio(inner) else estimates)
    estimated = {name: _stems(folder, findings) for name, folder in tracks.items()}
    first = next((info for stems in estimated.values() for info in stems.values()), None)
    if first is None:
        findings.append(f"{estimates} holds no folders of stems, track/stem.wav or {split}/track/stem.wav")
        return {}
    # Other rates are told beside all others of a track; nothing is resampled.
    shape = (first.sample_rate, first.n_channels)
    songs = open_songs(root, split, None, *shape, resample=True, layout=layout, stems=stem_map)
    pairs = _pair(estimated, {song.name: song for song in songs}, findings)
    return {
        name: (stems, References({**song.stems, **({"mixture": song.mixture} if song.mixture else {})}, song.padded))
        for name, (stems, song) in pairs.items()
    }


def _track_folders(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        return {}
    return {readable(path.name): path for path in sorted(root.iterdir()) if path.is_dir() and _holds_audio(path)}


def _pair(estimated: Mapping, recorded: Mapping, findings: list[str]) -> dict[str, tuple]:
    """Match by name; separating writes into folders whose names are safe."""
    safe = {safe_name(name): name for name in recorded if name not in estimated}
    names = {name: name if name in recorded else safe.pop(safe_name(name), name) for name in estimated}
    estimated = {names[name]: held for name, held in estimated.items()}
    findings += [
        f"no reference track {name!r} for the estimates{did_you_mean(name, recorded)}"
        for name in estimated
        if name not in recorded
    ]
    findings += [
        f"no estimates of track {name!r}{did_you_mean(name, estimated)}" for name in recorded if name not in estimated
    ]
    return {name: (estimated[name], recorded[name]) for name in estimated if name in recorded}


def _holds_audio(folder: Path) -> bool:
    return any(path.is_file() and audio.is_audio_name(path) for path in folder.iterdir())


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


def _check_track(name: str, wanted: Sequence[str], estimated: Stems, recorded: References) -> list[str]:
    """List what is wrong with a track: names, rates, channels, lengths."""
    findings = [
        f"{name}: no estimate of {stem!r}, which other tracks have{did_you_mean(stem, estimated)}"
        for stem in wanted
        if stem not in estimated
    ]
    references = [stem for stem in recorded.stems if not is_mixture(stem)]
    for stem in (stem for stem in wanted if stem in estimated and stem not in recorded.stems):
        is_residual = stem in RESIDUAL_NAMES or missing_part(stem) is not None
        if not (is_residual and any(other in recorded.stems for other in wanted)):
            findings.append(
                f"{name}: no reference for the estimate {stem!r}: rename it, add the reference, or choose others as "
                f"targets{did_you_mean(stem, references)}"
            )
    for what, unit, remedy in _EQUAL:
        values = {f"estimate of {stem}": getattr(estimated[stem], what) for stem in wanted if stem in estimated}
        values.update(_read_facts(recorded, what))
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{label} {value}" for label, value in values.items())
            findings.append(f"{name}: all files need the same number of {unit}, got {listed}: {remedy}")
    return findings


def _read_facts(recorded: References, what: str) -> dict[str, int]:
    """Return a fact of each reference, by its label, as its files have it, which may be several."""
    if what != "n_samples":
        of_files = {name: {getattr(file.info, what) for file in stem.files} for name, stem in recorded.stems.items()}
        return {f"reference {name}": max(values) for name, values in of_files.items()}
    lengths = {name: max(file.stop - file.start for file in stem.files) for name, stem in recorded.stems.items()}
    if recorded.padded:
        return {"references": max(lengths.values())}
    return {f"reference {name}": length for name, length in lengths.items()}


def _make_track(
    name: str,
    available: Sequence[str],
    chosen: Sequence[str] | None,
    protocol: str,
    estimated: Stems,
    recorded: References,
) -> FileTrack:
    targets = _choose_recorded(choose_targets(available, chosen, protocol), recorded.stems)
    song = make_song(name, dict(recorded.stems), _sort_recorded(recorded.stems, targets.names))
    song = replace(song, padded=recorded.padded)
    # Beside vocals an accompaniment is all but the vocals, which is not the residual beside another stem.
    of_vocals = targets.summed or targets.stems[0] == VOCALS or VOCALS not in available
    names = targets.names if of_vocals else targets.stems
    return FileTrack(song, targets, tuple(estimated[stem] for stem in names if stem in estimated))


def _choose_recorded(targets: Targets, recorded: Mapping[str, Stem]) -> Targets:
    """Return the targets; where the reference of one is missing, it is the residual beside the other."""
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
