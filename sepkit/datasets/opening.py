"""Find the songs of a root, and check what can be known before anything is read."""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepkit import audio
from sepkit.arguments import check_path, is_integer
from sepkit.datasets.layout import SUBSETS, DatasetError, find_root, list_songs
from sepkit.datasets.musdb.stem_files import SOURCES, check_stem_file, decode_stem_files, is_stem_file, song_name
from sepkit.datasets.roles import Roles, describe_roles, is_like, missing_part, sort_stems
from sepkit.datasets.songs import Song, Stem, make_song
from sepkit.instantiate import did_you_mean

_SHOWN = 20  # names in a sentence


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
    candidates = [_probe_song(place, folders.get(place), sample_rate, n_channels, allow_damaged) for place in places]
    findings = [*mistaken, *findings, *_check_songs(candidates, subset, wanted, sample_rate, resample, allow_missing)]
    if findings:
        raise DatasetError(root, findings, {name for candidate in candidates for name in candidate.names})
    for line in describe_roles([candidate.roles(wanted) for candidate in candidates]):
        warnings.warn(f"{root}, {subset}: {line}", stacklevel=2)
    return [candidate.song(wanted) for candidate in candidates]


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


@dataclass(frozen=True)
class _Candidate:
    """The content of a song's folder, usable or not.

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
        """Sort its files where these stems are wanted."""
        return sort_stems((Path(name).stem for name in self.files), targets)

    def song(self, targets: Collection[str]) -> Song:
        """Build the song of which these stems are wanted."""
        return make_song(
            song_name(self.place), {Path(name).stem: stem for name, stem in self.files.items()}, self.roles(targets)
        )


def _probe_song(place: Path, folder: Path | None, sample_rate: int, n_channels: int, allow_damaged: bool) -> _Candidate:
    """Probe the files of a song; None: of a stem file that is not decoded."""
    if folder is None:
        return _Candidate(place, set(SOURCES), {}, [])
    candidate = _Candidate(place, set(), {}, [])
    for path in sorted(path for path in folder.iterdir() if path.is_file() and audio.is_audio_name(path)):
        if path.stem in candidate.names:
            candidate.findings.append(f"{path}: there is another file for the stem {path.stem!r}; keep one")
        candidate.names.add(path.stem)
        try:
            candidate.files[path.name] = Stem(audio.probe(path), sample_rate, n_channels, allow_damaged)
        except audio.AudioError as error:
            candidate.findings.append(str(error))
    candidate.names.discard("mixture")
    return candidate


def _check_songs(
    candidates: Sequence[_Candidate],
    subset: str,
    targets: Sequence[str],
    sample_rate: int,
    resample: bool,
    allow_missing: bool,
) -> list[str]:
    """List what is wrong with songs: first what many have in common, then each one's stems, channels, lengths."""
    if not candidates:
        return []
    present = sorted({name for candidate in candidates for name in candidate.names})
    nowhere = [name for name in dict.fromkeys(targets) if name not in present]
    more = [f"and {len(present) - _SHOWN} more"] if len(present) > _SHOWN else []
    stems = ", ".join([*present[:_SHOWN], *more]) or "none"
    findings = []
    for name in nowhere:
        alike = next((other for other in present if is_like(other, name)), None)
        remedy = f"; rename {alike!r} and the like" if alike else f"; add {name}.wav to the songs, or choose others"
        remedy = did_you_mean(name, present) or remedy
        findings.append(f"no song of {subset} has the stem {name!r} (there are: {stems}){remedy}")
    if not resample:
        findings += _check_rates(candidates, sample_rate)
    for candidate in candidates:
        missing = [name for name in dict.fromkeys(targets) if name not in (*candidate.names, *nowhere)]
        findings += candidate.findings
        if not allow_missing or len(missing) == len(set(targets)) > 0:
            findings += [f"{candidate.place}: the stem {name!r} is missing" for name in missing]
        if not (sort_stems(candidate.names).parts or targets):
            findings.append(f"{candidate.place}: there are no stems")
        roles = candidate.roles(targets)
        if roles.finer and len(roles.parts) == 1 and roles.mixture is None:
            (part,) = roles.parts
            findings.append(
                f"{candidate.place}: {part} is wanted, by its name holds {', '.join(roles.finer)}, and nothing is "
                f"beside it; name {missing_part(part)} what it leaves out, add mixture.wav, or choose others"
            )
        findings += [
            finding for name, stem in candidate.files.items() for finding in _check_file(candidate.place / name, stem)
        ]
        findings += _check_lengths(candidate)
    return findings


def _check_rates(candidates: Sequence[_Candidate], sample_rate: int) -> list[str]:
    """Describe each other sample rate once, with a file that has it and the number of other files."""
    paths: dict[int, list[Path]] = {}
    for candidate in candidates:
        for name, stem in candidate.files.items():
            paths.setdefault(stem.info.sample_rate, []).append(candidate.place / name)
    return [
        f"{same[0]}{f' and {len(same) - 1} more' if len(same) > 1 else ''}: {rate} Hz, wanted are {sample_rate}; "
        "convert the files, or let them be resampled by data.resample: true of a recipe, --resample or resample=True"
        for rate, same in sorted(paths.items())
        if rate != sample_rate
    ]


def _check_file(path: Path, stem: Stem) -> list[str]:
    """Describe the faults of a file's audio, of its length, and of its channels."""
    info, findings = stem.info, []
    declared = "an unknown number of" if info.n_declared is None else info.n_declared
    faults = (
        f"truncated, {info.n_samples} of {declared} samples decode" if info.truncated else "",
        audio.describe_damage(info.damage, info.sample_rate),
        f"{info.undeclared} samples more than its header declares" if info.undeclared else "",
    )
    if any(faults) and not stem.allow_damaged:
        remedy = "get the whole file, or set data.allow_damaged: true, or allow_damaged=True"
        findings.append(f"{path}: {', '.join(filter(None, faults))}; {remedy}")
    if info.n_channels not in (1, stem.n_channels) and stem.n_channels != 1:
        findings.append(f"{path}: has {info.n_channels} channels, wanted are 1 or {stem.n_channels}; mix it down")
    return findings


def _check_lengths(candidate: _Candidate) -> list[str]:
    """Compare the lengths; files of different rates may differ by what rounding to whole samples does."""
    whole = [(name, stem) for name, stem in candidate.files.items() if not stem.info.complaint]
    rates = {stem.info.sample_rate for _, stem in whole}
    slack = max((-(-stem.sample_rate // stem.info.sample_rate) for _, stem in whole), default=0)
    lengths = [stem.n_samples for _, stem in whole] or [0]
    if max(lengths) - min(lengths) <= (slack if len(rates) > 1 else 0):
        return []
    listed = ", ".join(f"{Path(name).stem} {stem.n_samples}" for name, stem in whole)
    return [f"{candidate.place}: the lengths differ in samples ({listed}); fill the shorter ones with silence"]
