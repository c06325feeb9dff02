"""Read all songs once, and find what is wrong with their sound."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepkit.audio import AudioInfo
from sepkit.datasets.activity import sum_files
from sepkit.datasets.examination import (
    VERSION,
    Examination,
    examine_song,
    pack_examination,
    unpack_examination,
)
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.inspected import song_key
from sepkit.datasets.measurement import Measurement
from sepkit.datasets.measuring import in_batches, keep_measured, measure, remember
from sepkit.datasets.remembered import Remembered
from sepkit.datasets.songs import Song
from sepkit.datasets.sound.files import find_in_file, is_lossy
from sepkit.datasets.sound.sets import (
    Checked,
    find_loudness_outliers,
    find_same_songs,
    find_silent_targets,
    measure_activity,
)
from sepkit.datasets.sound.songs import find_leaks, find_length_faults, find_swapped

_DAMAGING = ("NaN", "damaged", "truncated", "unreadable")


@dataclass(frozen=True)
class SoundCheck:
    """What was found in songs.

    Attributes:
        findings: the worst first.
        activity: hours in which a stem sounds, hours of its files, songs, by split and stem.
        n_songs: that were read.
        hours: of them.
    """

    findings: tuple[Finding, ...]
    activity: Mapping[tuple[str, str], tuple[float, float, int]]
    n_songs: int
    hours: float


def check_sound(
    songs: Sequence[Song], targets: Collection[str] = (), workers: int | None = None, progress: bool = True
) -> SoundCheck:
    """Read all songs once, and find what is wrong with their sound.

    What was read is remembered by its files; the same songs are not read again, and a check that was stopped goes on.

    Args:
        songs: of all splits.
        targets: stems that are wanted; empty: all.
        workers: threads; None: the cores.
        progress: show a bar.
    """
    examined = _examine(songs, targets, workers, progress)
    infos = {Path(file.info.path): file.info for song in songs for _, file in _files(song)}
    measured = measure(infos.values(), workers, progress)
    checked = [_check(song, found, measured) for song, found in zip(songs, examined, strict=True)]
    findings = [
        finding for path, info in infos.items() if path in measured for finding in find_in_file(info, measured[path])
    ]
    broken = {finding.file for finding in findings if finding.kind in _DAMAGING}
    for entry, found in zip(checked, examined, strict=True):
        findings += _find_in_song(entry, found, broken)
    findings += find_same_songs(checked)
    findings += find_loudness_outliers(checked)
    findings += find_silent_targets(checked, targets)
    findings += _count_lossy(infos)
    hours = sum(song.n_samples / _rate(song) for song in songs) / 3600
    return SoundCheck(sort_findings(findings), measure_activity(checked), len(songs), hours)


def sort_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Sort findings, each once: the worst first, then by kind and file."""
    order = {finding: (-finding.severity, finding.kind, str(finding.file)) for finding in findings}
    return tuple(sorted(order, key=order.get))


def _rate(song: Song) -> int:
    return next(iter(song.stems.values())).sample_rate


def _files(song: Song) -> Iterator[tuple[str, object]]:
    stems = {**song.stems, **({"mixture": song.mixture} if song.mixture else {})}
    return ((name, file) for name, stem in stems.items() for file in stem.files)


def _examine(songs: Sequence[Song], targets: Collection[str], workers: int | None, progress: bool) -> list[Examination]:
    """Read songs, or recall what was found in them."""
    store = Remembered("songs", ("comparison", "findings"))
    keys = [song_key(song, f"examined {VERSION}", targets) for song in songs]
    known = {key: unpack_examination(*columns) for key, columns in store.read(keys).items()}
    missing = [n for n, key in enumerate(keys) if key not in known]

    def examine(number: int) -> tuple[Examination, dict[str, Measurement]]:
        return examine_song(songs[number], targets)

    for batch in in_batches(examine, missing, workers, "reading songs", "song", progress):
        readable = {keys[n]: pack_examination(found) for n, (found, _) in batch if found.comparison is not None}
        remember(store, readable)
        for number, (found, measured) in batch:
            known[keys[number]] = found
            infos = {file.info.path: file.info for _, file in _files(songs[number])}
            keep_measured({path: (infos[path], figures) for path, figures in measured.items()})
    return [known[key] for key in keys]


def _check(song: Song, found: Examination, measured: Mapping[Path, Measurement]) -> Checked:
    """Join what is known of a song; stems of several files have no figures of their own, but levels."""
    figures, levels = {}, {}
    for name, stem in {**song.stems, **({"mixture": song.mixture} if song.mixture else {})}.items():
        path = Path(stem.info.path)
        if len(stem.files) == 1 and path in measured:
            figures[name] = measured[path]
        paths = [Path(file.info.path) for file in stem.files]
        if all(path in measured for path in paths):
            levels[name] = sum_files(stem, {path: measured[path].levels for path in paths})
    return Checked(song, song.split, found.comparison, figures, levels)


def _find_in_song(entry: Checked, found: Examination, broken: Collection[Path | None]) -> Iterator[Finding]:
    song = entry.song
    if found.error and not {Path(file.info.path) for _, file in _files(song)} & set(broken):
        yield Finding(Severity.ERROR, "unreadable", found.error)
    yield from found.findings
    if not song.padded and song.aligned:
        yield from find_length_faults(song)
    parts = {name: figures for name, figures in entry.measured.items() if name in song.parts}
    yield from find_swapped(song, parts)
    if entry.comparison is not None:
        levels = {name: levels for name, levels in entry.levels.items() if name in song.parts}
        yield from find_leaks(song, entry.comparison, levels)


def _count_lossy(infos: Mapping[Path, AudioInfo]) -> Iterator[Finding]:
    lossy = [path for path, info in infos.items() if is_lossy(info)]
    if lossy:
        message = f"{len(lossy)} of {len(infos)} files are coded with loss, the first is {lossy[0]}"
        yield Finding(Severity.NOTE, "lossy", message, None, None, "use the original recordings where there are any")
