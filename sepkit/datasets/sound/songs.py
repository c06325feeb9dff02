"""Faults that show where the files of a song lie side by side."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sepkit.audio import AudioInfo
from sepkit.datasets.check import describe_copy
from sepkit.datasets.comparison import SongComparison
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.inspection import COPY, Inspection
from sepkit.datasets.measurement import FRAMES_PER_SECOND, Measurement
from sepkit.datasets.mixing import Fit
from sepkit.datasets.songs import Song
from sepkit.datasets.sound.files import SILENT, decibels, is_lossy
from sepkit.datasets.sound.typical import describe_sound, swap_gain, typical_name

_DIFFERS, _DIFFERS_LOSSY = -55.0, -12.0  # dB re mixture of a residual that is looked into
_BURST = -40.0  # dB of 100 ms of it, re mixture
_FLOOR = 2e-9  # of full scale: what rounding to 16 bits adds up to in a dozen files
_EIGHT_BITS, _FLOOR_EIGHT_BITS = ("PCM_S8", "PCM_U8"), 3e-5  # what rounding to them adds up to, in each file
_PLAINLY = -30.0  # dB re mixture from which what is left over is a warning
_GAIN = 0.1  # dB
_LACKING = -40.0  # dB of a gain below which the mixture lacks a part
_LOUD = -35.0  # dB of what a stem holds of another one, from which it is a warning
_SWAPPED = 3.0  # logarithmic likelihood by which stems fit better with each other's name


def find_length_faults(song: Song) -> Iterator[Finding]:
    """Find files of a song that are shorter or longer than most of the others."""
    stems = {**song.stems, **({"mixture": song.mixture} if song.mixture else {})}
    whole = {name: stem for name, stem in stems.items() if not stem.info.complaint}
    rates = {file.info.sample_rate for stem in whole.values() for file in stem.files}
    slack = math.ceil(next(iter(stems.values())).sample_rate / min(rates)) if len(rates) > 1 else 0
    counts = [stem.n_samples for stem in whole.values()]
    usual = max(counts, key=lambda length: (counts.count(length), length), default=0)
    for name, stem in whole.items():
        if abs(stem.n_samples - usual) > slack:
            other = "shorter" if stem.n_samples < usual else "longer"
            message = f"{abs(stem.n_samples - usual)} samples {other} than the other files of {song.name}"
            yield Finding(
                Severity.ERROR, "length", message, song_file(song, name)[0], None,
                "find out whether it starts late or ends early, and fill it with silence there",
            )  # fmt: skip


def song_file(song: Song, name: str) -> tuple[Path, int]:
    """Return the file of a stem, or of the mixture, and its sample rate."""
    info = (song.stems.get(name) or song.mixture).info
    return Path(info.path), info.sample_rate


def differs_from_sum(song: Song, comparison: SongComparison) -> bool:
    """Return whether a recorded mixture differs from the sum of its parts by more than rounding and coding do."""
    if song.mixture is None or not len(comparison.residual):
        return False
    level, limit, floor = float(comparison.mixture.mean()), _limit(song), _floor(song)
    whole = float(comparison.residual.mean()) > max(level * 10 ** (limit / 10), floor)
    burst = float(comparison.residual.max()) > max(level * 10 ** (max(_BURST, limit) / 10), floor)
    return whole or burst


def _infos(song: Song) -> list[AudioInfo]:
    return [file.info for stem in [song.mixture, *song.stems.values()] for file in stem.files]


def _limit(song: Song) -> float:
    """Return what coding with loss, or nothing of it, leaves over in a mixture, in dB re mixture."""
    return _DIFFERS_LOSSY if any(map(is_lossy, _infos(song))) else _DIFFERS


def _floor(song: Song) -> float:
    """Return the power that rounding leaves over, of full scale."""
    coarse = sum(info.subtype in _EIGHT_BITS for info in _infos(song))
    return _FLOOR + coarse * _FLOOR_EIGHT_BITS


def find_mixing_faults(song: Song, comparison: SongComparison, fit: Fit) -> Iterator[Finding]:
    """Describe how a recorded mixture differs from the sum of its parts.

    Args:
        song: which.
        comparison: of it.
        fit: how the mixture follows from the parts.
    """
    mixture = Path(song.mixture.info.path)
    if comparison.mixture.mean() < SILENT:
        message, remedy = "is silent, its parts are not", "remove it so that the sum takes its place"
        yield Finding(Severity.WARNING, "mixture", message, mixture, None, remedy)
        return
    sounding = [k for k, sounds in enumerate(fit.sounding) if sounds]
    if not sounding or fit.left > -3:
        message = f"is not the sum of its parts in any way (residual {fit.residual:.0f} dB)"
        yield Finding(Severity.WARNING, "mixture", message, mixture, None, "remove it, or find the song it belongs to")
        return
    gains = {fit.parts[k]: fit.gains[k] for k in sounding}
    certain = {fit.parts[k] for k in sounding if fit.certain[k]}
    delays = {fit.parts[k]: fit.delays[k] for k in sounding}
    common = _common(list(gains.values())) if len(gains) > 1 or len(fit.parts) == 1 else None
    late = next(iter(delays.values())) if len(set(delays.values())) == 1 else None
    if common is not None and certain and (text := _describe_gain(common)):
        yield (
            Finding(
                Severity.WARNING, "mixture gain", f"is {text} than the sum of its parts", mixture, None, _mend("level")
            )
            if common > 0
            else Finding(Severity.WARNING, "mixture gain", "is the inverted sum", mixture, None, "invert it")
        )
    if late:
        message = f"is {_describe_delay(late, comparison.sample_rate)} than the sum of its parts"
        yield Finding(Severity.WARNING, "mixture offset", message, mixture, None, _mend("position"))
    for name in gains:
        path = song_file(song, name)[0]
        if common is None and name in certain and (text := _describe_gain(gains[name])):
            inverted = "inverted" if gains[name] < 0 else f"{text} than here"
            lacking = decibels(gains[name] ** 2) < _LACKING
            message = "is not in the mixture" if lacking else f"is in the mixture {inverted}"
            yield Finding(Severity.WARNING, "mixture gain", message, path, None, _mend("level"))
        if late is None and delays[name]:
            message = f"is in the mixture {_describe_delay(delays[name], comparison.sample_rate)} than here"
            yield Finding(Severity.WARNING, "mixture offset", message, path, None, _mend("position"))
    if _is_left(song, fit):
        yield _describe_rest(mixture, comparison, fit)


def _mend(what: str) -> str:
    return f"correct its {what}, or remove the mixture so that the sum takes its place"


def _common(gains: Sequence[float]) -> float | None:
    """Return the gain that all parts have; None: they differ."""
    middle = float(np.median(gains))
    alike = middle and all(gain / middle > 0 and abs(decibels((gain / middle) ** 2)) < _GAIN for gain in gains)
    return middle if alike else None


def _describe_gain(gain: float) -> str:
    """Describe a gain; nothing where it is 1."""
    level = decibels(gain**2)
    if abs(level) <= _GAIN and gain > 0:
        return ""
    return f"{abs(level):.1f} dB {'louder' if level > 0 else 'softer'}"


def _describe_delay(delay: int, sample_rate: int) -> str:
    n = f"{abs(delay)} sample{'s' if abs(delay) != 1 else ''} ({1000 * abs(delay) / sample_rate:.2f} ms)"
    return f"{n} {'later' if delay > 0 else 'earlier'}"


def _is_left(song: Song, fit: Fit) -> bool:
    """Return whether something is left over that no gain or delay explains."""
    limit = _limit(song)
    explained = fit.residual - fit.left > 6
    return fit.left > limit and (not explained or fit.left > max(_BURST, limit))


def _describe_rest(mixture: Path, comparison: SongComparison, fit: Fit) -> Finding:
    explained = fit.residual - fit.left > 6
    level = fit.left if explained else decibels(float(comparison.residual.mean() / comparison.mixture.mean()))
    loudest = int(comparison.residual.argmax())
    message = f"differs from the sum of its parts by {level:.0f} dB, most"
    severity = Severity.WARNING if max(level, fit.left) > _PLAINLY else Severity.NOTE
    remedy = "add the part that is missing, or remove the mixture so that the sum takes its place"
    return Finding(severity, "left over", message, mixture, loudest / FRAMES_PER_SECOND, remedy)


def find_leaks(song: Song, comparison: SongComparison, levels: Mapping[str, np.ndarray]) -> Iterator[Finding]:
    """Describe stems that hold others.

    Args:
        song: which.
        comparison: of it.
        levels: (N,) of parts by name, to find where it is heard best.
    """
    for leak in comparison.leaks:
        source, holder = comparison.parts[leak.source], comparison.parts[leak.holder]
        place = None
        if source in levels and holder in levels:
            n = min(len(levels[source]), len(levels[holder]))
            ratio = levels[source][:n] / (levels[holder][:n] + 0.01 * levels[holder].mean() + 1e-12)
            loud = levels[source][:n] > levels[source].mean()
            place = float(np.where(loud, ratio, 0).argmax()) / FRAMES_PER_SECOND
        severity = Severity.WARNING if leak.level > _LOUD else Severity.NOTE
        message = f"holds {source} at about {leak.level:.0f} dB, heard best"
        remedy = "use the stem from before it was recorded with others, or give the example to no loss"
        yield Finding(severity, "bleed", message, song_file(song, holder)[0], place, remedy)


def find_copies(song: Song, inspection: Inspection, targets: Collection[str]) -> Iterator[Finding]:
    """Describe parts that are copies of each other, or the sum of others.

    Args:
        song: which.
        inspection: of it.
        targets: stems that are wanted; empty: all.
    """
    for copy in inspection.copies:
        pair = {copy.first, copy.second}
        wrong = abs(copy.correlation) > COPY and (not targets or bool(pair & set(targets)))
        severity = Severity.ERROR if wrong else Severity.WARNING
        message, _, remedy = describe_copy(copy).removesuffix(", in").partition("; ")
        other = max(pair, key=lambda name: (len(name), name))
        yield Finding(severity, "copy", message, song_file(song, other)[0], None, remedy)
    for sums, severity, near in (
        (inspection.doubles, Severity.ERROR, ""),
        (inspection.nearly, Severity.WARNING, "nearly "),
    ):
        for name, of in sums.items():
            message = f"is {near}the sum of {', '.join(of)}, which the mixture then holds twice"
            remedy = "remove it, or swap it with the mixture if it bears its name"
            yield Finding(severity, "sum", message, song_file(song, name)[0], None, remedy)


def find_swapped(song: Song, measured: Mapping[str, Measurement]) -> Iterator[Finding]:
    """Find pairs of stems that sound like each other's name.

    Args:
        song: which.
        measured: figures of parts, by name.
    """
    sounds = {
        name: (typical, describe_sound(figures))
        for name, figures in measured.items()
        if (typical := typical_name(name)) and figures.level > 1e-7
    }
    gains = {
        (one, other): swap_gain(sounds[one], sounds[other])
        for i, one in enumerate(sounds)
        for other in list(sounds)[i + 1 :]
        if sounds[one][0] != sounds[other][0]
    }
    used: set[str] = set()
    for (one, other), gain in sorted(gains.items(), key=lambda entry: -entry[1]):
        if gain > _SWAPPED and not used & {one, other}:
            used |= {one, other}
            for name, like in ((one, other), (other, one)):
                message = f"sounds like {sounds[like][0]}, and {like} like {sounds[name][0]}: swapped, it seems"
                yield Finding(
                    Severity.WARNING, "swapped", message, song_file(song, name)[0], None, "listen, and swap their names"
                )
