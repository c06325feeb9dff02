"""All songs of sets, as far as they can be read, and what is wrong with their names and headers."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sepkit.audio import AudioInfo
from sepkit.datasets.candidates import Candidate, Wanted, list_candidates
from sepkit.datasets.catalogue import Catalogue, list_infos, probe
from sepkit.datasets.choosing import choose
from sepkit.datasets.faults import check
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.manifest import Manifest
from sepkit.datasets.several import Source
from sepkit.datasets.songs import Song
from sepkit.datasets.sources import describe_layout, find


@dataclass(frozen=True)
class Gathered:
    """The songs of sets.

    Attributes:
        songs: of all splits, damaged files among theirs.
        findings: what is wrong with names and headers.
        lines: on each set, for the user.
    """

    songs: list[Song]
    findings: list[Finding]
    lines: list[str]


def gather(
    sources: Sequence[Source],
    targets: Collection[str] = (),
    sample_rate: int | None = None,
    n_channels: int | None = None,
    resample: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Gathered:
    """Find all songs of sets, and what is wrong with their names and headers.

    Args:
        sources: the sets.
        targets: stems that are wanted; empty: all.
        sample_rate: Hz; None: what most files have.
        n_channels: C; None: what most files have that are not mono.
        resample: whether files of other rates will be resampled.
        workers: threads; None: the cores.
        progress: show a bar.

    Raises:
        DatasetError: a root is no set.
    """
    manifests = [find(source.root, source.layout, None, tuple(targets), required=False) for source in sources]
    for source, manifest in zip(sources, manifests, strict=True):
        if not manifest.rows:
            raise DatasetError(source.root, [str(each) for each in manifest.findings])
    catalogues = [probe(manifest, workers, progress) for manifest in manifests]
    infos = list_infos(catalogues)
    rate = sample_rate or _most_common((info.sample_rate for info in infos.values()), 44100)
    channels = n_channels or _most_common((info.n_channels for info in infos.values() if info.n_channels > 1), 1)
    wanted = Wanted("train", tuple(targets), rate, channels, resample=True, allow_missing=True)
    gathered = Gathered([], list(_check_rates(infos, rate, resample)), [])
    for source, catalogue in zip(sources, catalogues, strict=True):
        _gather_set(gathered, source, catalogue, replace(wanted, stems=source.stems))
        gathered.lines.append(f"{source.root}: {describe_layout(catalogue.manifest)}")
    return gathered


def _gather_set(gathered: Gathered, source: Source, catalogue: Catalogue, wanted: Wanted) -> None:
    gathered.findings.extend(_check_splits(catalogue.manifest))
    for split in catalogue.manifest.splits:
        asked = replace(wanted, split=split)
        found = check(catalogue, asked)
        is_measured = {(Severity.ERROR, "lengths")}  # which the check of the sound describes, file by file
        gathered.findings.extend(each for each in found if (each.severity, each.kind) not in is_measured)
        readable = replace(asked, allow_damaged=True)
        usable = [_keep_usable(candidate) for candidate in list_candidates(catalogue, readable)]
        usable = [candidate for candidate in usable if set(candidate.files) - {candidate.roles.mixture}]
        gathered.songs.extend(choose(catalogue, readable, source.weight, usable))


def _check_splits(manifest: Manifest) -> Iterator[Finding]:
    """Describe tracks that a manifest divides among splits, so that parts of one song are in both."""
    splits: dict[str, list[str]] = {}
    for split, track in manifest.tracks() if manifest.layout == "manifest" else ():
        splits.setdefault(track, []).append(split)
    for track, several in splits.items():
        if len(several) > 1:
            message = f"the track {track!r} is in {' and in '.join(several)}"
            remedy = "give all its rows one split, or two songs two names"
            yield Finding(Severity.WARNING, "manifest", message, manifest.root, None, remedy)


def _keep_usable(candidate: Candidate) -> Candidate:
    """Drop files that cannot be read, or have other channels; and the mixture where a part of it is left out."""
    channels = (1, candidate.wanted.n_channels)
    files = {
        name: some
        for name, some in candidate.files.items()
        if candidate.wanted.n_channels == 1 or all(file.info.n_channels in channels for _, file in some)
    }
    if candidate.names - set(files):
        files.pop("mixture", None)
    return replace(candidate, files=files)


def _most_common(numbers: Iterable[int], otherwise: int) -> int:
    return next((number for number, _ in Counter(numbers).most_common(1)), otherwise)


def _check_rates(infos: dict[Path, AudioInfo], sample_rate: int, resample: bool) -> Iterator[Finding]:
    """Describe files of another rate, one by one."""
    for path, info in infos.items():
        if info.sample_rate != sample_rate:
            severity = Severity.NOTE if resample else Severity.ERROR
            message = f"{info.sample_rate} Hz, {'wanted are' if not resample else 'resampled to'} {sample_rate}"
            remedy = "" if resample else "resample it, or set data.resample: true"
            yield Finding(severity, "rate", message, path, None, remedy)
