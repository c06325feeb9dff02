"""Faults of single files."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy  # whose parts are imported when they are used

from sepkit import audio
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.measurement import FRAMES_PER_SECOND, Measurement

SILENT = 1e-12  # mean square, of full scale: -120 dB
_FAINT = 1e-4  # peak below which a file is all but silent: -80 dB
_UNSCALED = 10.0  # peak above which no music is: whole numbers, perhaps, in a file of fractions
_CLIPPED = 6  # samples at flat tops from which they are reported
_OFFSET, _SURE = 4e-4, 8.0  # of full scale, and in standard errors
_MONO, _NEARLY_MONO = 1e-8, 1e-4  # power of the difference of channels re that of their sum
_ONE_SIDED = 1e-6  # power of one channel re the other
_STEP_POWER, _FAR_SOFTER = 2.0**-30, 1e-3  # of one step of 16 bits, below which no sound is, and of it re the other
_INVERTED, _LOW_INVERTED = -0.3, -0.5  # correlation of channels, in all and below 150 Hz
_PLAINLY_INVERTED = -0.6  # in all, where what is below 150 Hz is in phase, as a wide sound has it
_LOW_HEARD = 1e-3  # of the power below 150 Hz, that tells a phase
_LOW_SHARE = 0.02  # of the power, that must lie below 150 Hz
_STEEP = 22.0  # dB within some hundred Hz
_LOWEST_END = 4500.0  # Hz, below which instruments end steeply themselves
_BROAD = 700.0  # Hz below the end which must hold sound, so that a lone tone is none
_OPEN = 0.93  # of half the sample rate, from which a steep end is that of a converter
_DULL = 0.85  # of it, below which a steep end costs audible sound
_LOSSY = ("MPEG", "VORBIS", "OPUS", "MP3", "AAC", "AC3", "WMA", "GSM", "ADPCM", "ULAW", "ALAW")


def find_in_header(info: audio.AudioInfo) -> Iterator[Finding]:
    """Find what is wrong with a file before its end is reached: truncated, damaged, more than declared."""
    path = Path(info.path)
    if info.truncated:
        declared = "an unknown number of" if info.n_declared is None else info.n_declared
        message = f"truncated, {info.n_samples} of {declared} samples are there"
        yield Finding(Severity.ERROR, "truncated", message, path, info.duration, "get the whole file")
    if info.damage:
        yield Finding(
            Severity.ERROR, "damaged", audio.describe_damage(info.damage, info.sample_rate), path,
            info.damage[0].position / info.sample_rate, "export or download it again",
        )  # fmt: skip
    if info.undeclared:
        message = f"holds {info.undeclared} samples more than its header declares"
        yield Finding(Severity.ERROR, "truncated", message, path, None, "export it again")


def find_in_file(info: audio.AudioInfo, measured: Measurement) -> Iterator[Finding]:
    """Find what is wrong with the sound of a file.

    Args:
        info: what the probe found.
        measured: its figures.
    """
    path, rate = Path(info.path), info.sample_rate
    if measured.damage and not info.damage:
        yield Finding(Severity.ERROR, "damaged", measured.damage, path, None, "export or download it again")
    if measured.n_nonfinite:
        message = f"{measured.n_nonfinite} samples are NaN, infinite or huge, the first"
        place = measured.first_nonfinite / rate
        yield Finding(Severity.ERROR, "NaN", message, path, place, "repair or export it again")
    if measured.level < SILENT or measured.peak < _FAINT:
        yield _describe_silence(path, measured)
        return
    yield from _find_clipping(path, info, measured)
    yield from _find_offset(path, measured)
    if len(measured.powers) == 2:
        yield from _compare_channels(path, measured)
    yield from _find_band_limit(path, measured)


def is_lossy(info: audio.AudioInfo) -> bool:
    """Return whether a file is coded with loss."""
    return any(name in f"{info.format} {info.subtype}".upper() for name in _LOSSY)


def decibels(power: float) -> float:
    """Convert a power to dB; nothing is below -200 dB."""
    return 10 * math.log10(max(power, 1e-20))


def _describe_silence(path: Path, measured: Measurement) -> Finding:
    if measured.peak == 0:
        return Finding(Severity.NOTE, "silence", "silent throughout", path)
    message = f"all but silent: its peak is {20 * math.log10(measured.peak):.0f} dB"
    return Finding(Severity.NOTE, "silence", message, path, None, "replace it by silence, or raise it")


def _find_clipping(path: Path, info: audio.AudioInfo, measured: Measurement) -> Iterator[Finding]:
    remedy = "export it with more headroom; what is clipped cannot be restored"
    if measured.n_clipped >= _CLIPPED:
        level, place = 20 * math.log10(measured.clipping_level), measured.first_clipped / info.sample_rate
        message = f"{measured.n_clipped} samples are clipped at {level:.1f} dB, the first"
        yield Finding(Severity.WARNING, "clipping", message, path, place, remedy)
    if measured.peak > 1.0:
        place = float(measured.peaks.argmax()) / FRAMES_PER_SECOND
        message = f"peaks {20 * math.log10(measured.peak):.1f} dB above full scale, which 16 bits cannot hold,"
        severity = Severity.WARNING if measured.peak > _UNSCALED else Severity.NOTE
        yield Finding(severity, "clipping", message, path, place, "export it softer")


def _find_offset(path: Path, measured: Measurement) -> Iterator[Finding]:
    size = np.abs(measured.offset)
    found = np.flatnonzero((size > _OFFSET) & (size > _SURE * measured.offset_error))
    if len(found):
        values = " and ".join(f"{measured.offset[channel]:.4f}" for channel in found)
        heard = size.max() ** 2 > 1e-2 * measured.level
        severity = Severity.WARNING if heard else Severity.NOTE
        yield Finding(severity, "DC", f"has a constant part of {values}", path, None, "subtract its mean")


def _compare_channels(path: Path, measured: Measurement) -> Iterator[Finding]:
    first, second = measured.powers
    softer, louder = min(first, second), max(first, second)
    if softer < max(_ONE_SIDED * louder, min(_STEP_POWER, _FAR_SOFTER * louder)):
        name = "left" if first < second else "right"
        message = f"its {name} channel is silent"
        yield Finding(Severity.WARNING, "channels", message, path, None, "make it mono, or export both channels")
        return
    middle, side = (first + second) / 2 + measured.product, (first + second) / 2 - measured.product
    if side < _NEARLY_MONO * middle:
        nearly = f"nearly mono, channels differ by {decibels(side / middle):.0f} dB"
        message = "mono, in two equal channels" if side < _MONO * middle else nearly
        yield Finding(Severity.NOTE, "mono", message, path)
        return
    correlation = measured.product / math.sqrt(first * second)
    low = measured.low[2] / math.sqrt(max(measured.low[0] * measured.low[1], 1e-30))
    power = float(measured.spectrum.sum())
    share = (measured.low[0] + measured.low[1]) / 2 / max(power, 1e-30)
    limit = _PLAINLY_INVERTED if share > _LOW_HEARD and low > 0 else _INVERTED
    if correlation < limit or (share > _LOW_SHARE and low < _LOW_INVERTED):
        where = f"{correlation:.2f}" if correlation < limit else f"{low:.2f} below 150 Hz"
        message = f"one channel is inverted, it seems: the correlation of the channels is {where}"
        yield Finding(Severity.WARNING, "inverted", message, path, None, "invert one channel if it is")


def _find_band_limit(path: Path, measured: Measurement) -> Iterator[Finding]:
    drop, limit = find_band_limit(measured)
    if drop >= _STEEP and limit < _OPEN * measured.sample_rate / 2:
        dull = limit < _DULL * measured.sample_rate / 2
        message = f"ends at {limit / 1000:.1f} kHz, {drop:.0f} dB within some hundred Hz: coded with loss, or resampled"
        severity = Severity.WARNING if dull else Severity.NOTE
        yield Finding(severity, "band limit", message, path, None, "use the original recording")


def find_band_limit(measured: Measurement) -> tuple[float, float]:
    """Find the steepest end of a spectrum above which there is nothing as loud: how steep, dB, and where, Hz."""
    hertz = measured.sample_rate / 2 / (len(measured.spectrum) - 1)
    width, gap = max(1, round(300 / hertz)), max(1, round(150 / hertz))
    best = (0.0, 0.0)
    for curve in (measured.highest, measured.spectrum):
        smooth = scipy.ndimage.uniform_filter1d(10 * np.log10(np.maximum(curve, 1e-14)), width)
        above = np.maximum.accumulate(smooth[::-1])[::-1]
        reach, broad = gap + width // 2, max(1, round(_BROAD / hertz))
        # Of the band that ends at each bin.
        below = scipy.ndimage.minimum_filter1d(smooth, broad, origin=(broad - 1) // 2)
        first, last = int(_LOWEST_END / hertz) + reach, len(smooth) - reach
        if last > first:
            drops = below[first - reach : last - reach] - above[first + reach : last + reach]
            steepest = int(drops.argmax())
            best = max(best, (float(drops[steepest]), (first + steepest) * hertz))
    return best
