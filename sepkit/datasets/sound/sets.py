"""Faults that show where songs lie side by side: the same one twice, other levels, silent targets."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sepkit.datasets.comparison import SongComparison
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.fingerprint import Match, find_matches
from sepkit.datasets.measurement import FRAMES_PER_SECOND, Measurement
from sepkit.datasets.songs import Song
from sepkit.datasets.sound.files import SILENT, decibels
from sepkit.datasets.sound.songs import song_file

ACTIVE = 1e-6  # mean square of 100 ms in which a stem counts as sounding: -60 dB re full scale
_NAMED = 5  # songs of a list in a sentence
_FEW = 4  # songs, from which one may be an outlier
_FAR, _FAR_STEM = 8.0, 15.0  # dB from the median, for mixtures and for stems re their mixture
_SPREAD = 4.0  # robust standard deviations
_SOFT, _LOUD = -50.0, -4.0  # dB re full scale, beyond which a lone mixture is odd


@dataclass(frozen=True)
class Checked:
    """A song and what was found in its files.

    Attributes:
        song: which.
        split: "train", "valid" or "test".
        comparison: of its files; None: they cannot be read.
        measured: figures of its files, by stem, the mixture as "mixture"; of stems that are one file alone.
        levels: (N,) mean square of each 100 ms, by stem, the mixture as "mixture".
    """

    song: Song
    split: str
    comparison: SongComparison | None
    measured: Mapping[str, Measurement]
    levels: Mapping[str, np.ndarray]

    @property
    def path(self) -> Path:
        """Return the file by which findings name the song: the mixture, else its first stem's."""
        return song_file(self.song, "mixture" if self.song.mixture else next(iter(self.song.stems)))[0]


def find_same_songs(checked: Sequence[Checked]) -> Iterator[Finding]:
    """Find songs that are in the data twice: an error where one of them is to test or to choose by.

    Args:
        checked: all songs of all splits.

    Yields:
        One finding for a song and all those of a split that are the same.
    """
    known = [entry for entry in checked if entry.comparison is not None]
    same: dict[tuple[int, str], list[Match]] = {}
    for match in find_matches([entry.comparison.fingerprint for entry in known]):
        same.setdefault((match.second, known[match.first].split), []).append(match)
    for matches in same.values():
        match = max(matches, key=lambda match: match.seconds)
        others = [known[other.first] for other in matches if other is not match]
        one, other = sorted((known[match.first], known[match.second]), key=lambda entry: entry.split == "train")
        across = one.split != other.split
        moved = f", {abs(match.offset):.1f} s {'later' if match.offset > 0 else 'earlier'}" if match.offset else ""
        message = (
            f"{one.split}/{one.song.name} holds {match.seconds:.0f} s ({match.share:.0%}) of "
            f"{other.split}/{other.song.name}{moved}{_list_more(others)}"
        )
        severity = Severity.ERROR if across else Severity.WARNING
        remedy = (
            "remove one of them: scores of songs that were trained on say nothing" if across else "remove one of them"
        )
        yield Finding(severity, "same song", message, one.path, None, remedy)


def _list_more(others: Sequence[Checked]) -> str:
    if not others:
        return ""
    names = ", ".join(f"{other.split}/{other.song.name}" for other in others[:_NAMED])
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return f"; the same are {names}{more}"


def find_loudness_outliers(checked: Sequence[Checked]) -> Iterator[Finding]:
    """Find songs and stems whose level is far from that of the others."""
    mixtures = {
        entry.path: active_level(entry.comparison.mixture)
        for entry in checked
        if entry.comparison is not None and entry.comparison.mixture.max(initial=0) > SILENT
    }
    for path, level, distance in _outliers(mixtures, _FAR):
        other = "softer" if distance < 0 else "louder"
        message = f"its song is {abs(distance):.0f} dB {other} than most, {level:.0f} dB"
        yield Finding(Severity.WARNING, "loudness", message, path, None, "scale its stems and its mixture alike")
    for path, level in mixtures.items() if len(mixtures) < _FEW else ():
        if not _SOFT < level < _LOUD:
            message = f"its song is very {'soft' if level < 0 and level <= _SOFT else 'loud'}, {level:.0f} dB"
            yield Finding(Severity.NOTE, "loudness", message, path, None, "scale its stems and its mixture alike")
    names = dict.fromkeys(name for entry in checked for name in entry.song.parts)
    for name in names:
        levels = {
            song_file(entry.song, name)[0]: active_level(entry.levels[name]) - active_level(entry.comparison.mixture)
            for entry in checked
            if _sounds(entry, name) and entry.comparison is not None
        }
        for path, _, distance in _outliers(levels, _FAR_STEM):
            other = "softer" if distance < 0 else "louder"
            message = f"{abs(distance):.0f} dB {other} in its mixture than {name} mostly is"
            yield Finding(Severity.NOTE, "loudness", message, path, None, "listen whether that is meant")


def _sounds(entry: Checked, name: str) -> bool:
    levels = entry.levels.get(name, ())
    return len(levels) > 0 and float(np.mean(levels)) > SILENT


def active_level(levels: np.ndarray) -> float:
    """Measure the level of the 100 ms of a file that are not far below its mean, in dB.

    Args:
        levels: (N,) mean squares.
    """
    return decibels(float(levels[levels >= 0.01 * levels.mean()].mean())) if len(levels) else decibels(0.0)


def _outliers(levels: Mapping[Path, float], far: float) -> list[tuple[Path, float, float]]:
    """List what is far from the median of levels, with its distance."""
    if len(levels) < _FEW:
        return []
    middle = float(np.median(list(levels.values())))
    spread = 1.4826 * float(np.median([abs(level - middle) for level in levels.values()]))
    limit = max(far, _SPREAD * spread)
    return [(path, level, level - middle) for path, level in levels.items() if abs(level - middle) > limit]


def find_silent_targets(checked: Sequence[Checked], targets: Collection[str]) -> Iterator[Finding]:
    """Find wanted stems that sound nowhere in a split."""
    for split in dict.fromkeys(entry.split for entry in checked):
        of_split = [entry for entry in checked if entry.split == split]
        for name in targets:
            known = [_sounds(entry, name) for entry in of_split if name in entry.levels]
            if known and not any(known):
                severity = Severity.ERROR if split == "train" else Severity.WARNING
                message = f"{name} is silent in all songs of {split}"
                yield Finding(severity, "silence", message, None, None, "choose others, or add songs where it sounds")


def measure_activity(checked: Sequence[Checked]) -> dict[tuple[str, str], tuple[float, float, int]]:
    """Measure how long stems sound: hours, hours of all, songs, by split and stem."""
    found: dict[tuple[str, str], tuple[float, float, int]] = {}
    for entry in checked:
        for name in entry.song.parts:
            if name in entry.levels:
                levels = entry.levels[name]
                hours = np.array([(levels > ACTIVE).sum(), len(levels)]) / FRAMES_PER_SECOND / 3600
                sounding, total, songs = found.get((entry.split, name), (0.0, 0.0, 0))
                found[entry.split, name] = sounding + hours[0], total + hours[1], songs + 1
    return found
