"""Check what can be known of songs before audio is read: by names and headers."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path

from sepkit import audio
from sepkit.datasets.candidates import Candidate, Wanted, known_names, list_candidates, sort_names
from sepkit.datasets.catalogue import Catalogue
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.roles import is_like, missing_part
from sepkit.datasets.stems import StemFile
from sepkit.problems import did_you_mean

_SHOWN = 20  # names in a sentence
_LONG = 1.0  # s by which stems may differ without a word, where they may differ


def check(catalogue: Catalogue, wanted: Wanted, candidates: Sequence[Candidate] | None = None) -> list[Finding]:
    """List what is wrong with the songs of a split: first what many have in common, then each one's.

    Args:
        catalogue: of a set.
        wanted: which songs.
        candidates: what `list_candidates` gave of both; None: it is called.

    Returns:
        Findings; nothing is to be trained on songs with one of severity error.
    """
    candidates = list_candidates(catalogue, wanted) if candidates is None else candidates
    places = {row.path for candidate in candidates for row in candidate.rows}
    unreadable = [each for each in catalogue.findings if each.file is None or each.file in places]
    findings = [*catalogue.manifest.findings, *unreadable]
    if not candidates:
        return findings
    nowhere, messages = _find_nowhere(candidates, wanted)
    findings += messages
    if not wanted.resample:
        findings += _check_rates(candidates, wanted.sample_rate)
    for candidate in candidates:
        findings += candidate.findings
        findings += _check_stems(candidate, nowhere, catalogue.manifest.is_aligned(wanted.split))
        for files in candidate.files.values():
            for place, file in files:
                findings += _check_file(place, file, wanted.n_channels)
        findings += _check_lengths(candidate)
        findings += _check_links(candidate)
    return findings


def _error(kind: str, message: str, file: Path | None = None, remedy: str = "") -> Finding:
    return Finding(Severity.ERROR, kind, message, file, remedy=remedy)


def _find_nowhere(candidates: Sequence[Candidate], wanted: Wanted) -> tuple[list[str], list[Finding]]:
    """Find targets that no song has, nor one of another set."""
    present = sorted(known_names(candidates))
    names = [name for name in dict.fromkeys(wanted.targets) if name not in {*present, *wanted.elsewhere}]
    more = [f"and {len(present) - _SHOWN} more"] if len(present) > _SHOWN else []
    stems = ", ".join([*present[:_SHOWN], *more]) or "none"
    findings = []
    for name in names:
        alike = next((other for other in present if is_like(other, name)), None)
        remedy = f"rename {alike!r} and the like" if alike else f"add {name}.wav to the songs, or choose others"
        remedy = did_you_mean(name, present).removeprefix("; ") or remedy
        message = f"no song of {wanted.split} has the stem {name!r} (there are: {stems})"
        findings.append(_error("missing", message, remedy=remedy))
    return names, findings


def _check_rates(candidates: Sequence[Candidate], sample_rate: int) -> list[Finding]:
    """Describe each other sample rate once, with a file that has it and the number of other files."""
    paths: dict[int, list[Path]] = {}
    for candidate in candidates:
        for files in candidate.files.values():
            for place, file in files:
                paths.setdefault(file.info.sample_rate, []).append(place)
    return [
        _error(
            "rate",
            f"{same[0]}{f' and {len(same) - 1} more' if len(same) > 1 else ''}: {rate} Hz, wanted are {sample_rate}",
            same[0],
            "convert the files, or let them be resampled by data.resample: true of a recipe, --resample or "
            "resample=True",
        )
        for rate, same in sorted(paths.items())
        if rate != sample_rate
    ]


def _check_stems(candidate: Candidate, nowhere: Sequence[str], aligned: bool) -> Iterator[Finding]:
    """Describe which stems a song lacks."""
    wanted, place = candidate.wanted, candidate.place
    targets = dict.fromkeys(wanted.targets)
    missing = [name for name in targets if name not in (*candidate.names, *nowhere)]
    if aligned and (not wanted.allow_missing or len(missing) == len(targets) > 0):
        yield from (_error("missing", f"the stem {name!r} is missing", place) for name in missing)
    if not (targets or sort_names(tuple(sorted(candidate.names)), ()).parts):
        yield _error("missing", "there are no stems", place)
    roles = candidate.roles
    if roles.finer and len(roles.parts) == 1 and roles.mixture is None:
        (part,) = roles.parts
        message = f"{part} is wanted, by its name holds {', '.join(roles.finer)}, and nothing is beside it"
        remedy = f"name {missing_part(part)} what it leaves out, add mixture.wav, or choose others"
        yield _error("names", message, place, remedy)


def _check_file(place: Path, file: StemFile, n_channels: int) -> Iterator[Finding]:
    """Describe the faults of a file's audio, of its length, and of its channels."""
    info = file.info
    declared = "an unknown number of" if info.n_declared is None else info.n_declared
    faults = (
        f"truncated, {info.n_samples} of {declared} samples decode" if info.truncated else "",
        audio.describe_damage(info.damage, info.sample_rate),
        f"{info.undeclared} samples more than its header declares" if info.undeclared else "",
    )
    if any(faults) and not file.allow_damaged:
        remedy = "get the whole file, or set data.allow_damaged: true, or allow_damaged=True"
        yield _error("damage", ", ".join(filter(None, faults)), place, remedy)
    if info.n_channels not in (1, n_channels) and n_channels != 1:
        yield _error("channels", f"has {info.n_channels} channels, wanted are 1 or {n_channels}", place, "mix it down")


def _check_lengths(candidate: Candidate) -> Iterator[Finding]:
    """Compare the lengths; files of different rates may differ by what rounding to whole samples does."""
    whole = {
        name: stem for name, stem in candidate.stems.items() if not any(file.info.complaint for file in stem.files)
    }
    rate = candidate.wanted.sample_rate
    rates = {file.info.sample_rate for stem in whole.values() for file in stem.files}
    slack = max((-(-rate // file_rate) for file_rate in rates), default=0) if len(rates) > 1 else 0
    lengths = {name: stem.n_samples for name, stem in whole.items()}
    longest, shortest = max(lengths.values(), default=0), min(lengths.values(), default=0)
    listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
    if longest - shortest > slack and not candidate.padded:
        message = f"the lengths differ in samples ({listed})"
        yield _error("lengths", message, candidate.place, "fill the shorter ones with silence")
    elif longest - shortest > _LONG * rate:
        message = f"the lengths differ by {(longest - shortest) / rate:.1f} s; shorter stems are silent to the end"
        yield Finding(Severity.WARNING, "lengths", message, candidate.place)


def _check_links(candidate: Candidate) -> Iterator[Finding]:
    """Describe files that several names lead to and that count more than once: in a stem, or in a mixture."""
    versions: dict[tuple[int, int], list[tuple[str, Path, StemFile]]] = {}  # only files of one size and time can be one
    for name, files in candidate.files.items():
        for place, file in files:
            if not file.is_packed:  # files in a tar have its version
                versions.setdefault(file.info.version, []).append((name, place, file))
    parts = candidate.roles.parts
    for alike in versions.values():
        for (name, place, file), (other_name, other_place, other) in combinations(alike, 2):
            if not (file.start < other.stop and other.start < file.stop and _is_same(file, other)):
                continue
            if name == other_name:
                message = f"is the same file as {place} and would be summed twice in {name!r}"
                yield _error("links", message, other_place, "remove one")
            elif name in parts and other_name in parts:
                message = f"is the same file as {place}, and the mixture holds it twice"
                yield Finding(Severity.WARNING, "links", message, other_place, None, "replace one, if it is not silent")


def _is_same(file: StemFile, other: StemFile) -> bool:
    """Return whether two paths lead to one file."""
    with suppress(OSError):
        return file.info.path == other.info.path or os.path.samefile(file.info.path, other.info.path)
    return False
