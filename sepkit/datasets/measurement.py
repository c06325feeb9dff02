"""What a file sounds like in figures, gathered block by block while it is read once."""

from dataclasses import dataclass, fields

import numpy as np
import scipy  # whose parts are imported when they are used
from safetensors.numpy import load, save

from sepkit.audio.info import is_sound

FRAMES_PER_SECOND = 10
BLOCK_SECONDS = 10  # of which every sample rate has whole samples, and a whole number of frames
_WINDOW = 0.046  # s of a spectrum, to the nearest power of two samples
_QUANTUM = 2.0**-15  # the step of 16 bits
_STEP = 6 * _QUANTUM  # by which a flat top is entered or left, where a wave that is round there has none
_FEW = 10  # frames whose means tell little of how these differ
_FLAT = 3  # equal samples of a flat top
_NEAR_PEAK = 0.98  # of the peak, from which a flat top is at it
_SOUNDING = 1e-2  # of the mean power so far, above which a spectrum counts as sounding
_KEPT = 100_000  # flat tops of a block, at most


@dataclass(frozen=True, eq=False)
class Measurement:
    """Figures of one file.

    Attributes:
        sample_rate: Hz.
        n_samples: per channel.
        levels: (N,) float32, mean square of each 100 ms over all channels; the last may be shorter.
        peaks: (N,) float32, largest absolute sample of each 100 ms.
        powers: (C,) mean square of each channel.
        product: mean of the product of the first two channels; 0 where there is one.
        low: (3,) mean squares of two channels below 150 Hz and the mean of their product; zeros where there is one.
        offset: (C,) constant part of each channel, from the means of 100 ms, the softer the more they weigh.
        offset_error: (C,) standard error of it.
        n_nonfinite: samples that are NaN, infinite or huge, which count as 0 in all else.
        first_nonfinite: the first of them, in samples; -1: there is none.
        n_clipped: samples in flat tops: three or more equal ones at the highest or lowest value of a channel, entered
            or left with a step.
        first_clipped: the first of them, in samples; -1: there is none.
        clipping_level: the largest absolute sample of them; 0: there is none.
        spectrum: (F,) mean power of bins up to half the sample rate, all channels.
        highest: (F,) the largest power of each bin.
        texture: (2,) mean change of the logarithmic spectrum from one time to the next, and from one bin to the next,
            150 Hz to 8 kHz, weighted by amplitude: percussion changes in time, tones from bin to bin.
        damage: what the decoder passed over or replaced, in words; "": nothing.
    """

    sample_rate: int
    n_samples: int
    levels: np.ndarray
    peaks: np.ndarray
    powers: np.ndarray
    product: float
    low: np.ndarray
    offset: np.ndarray
    offset_error: np.ndarray
    n_nonfinite: int
    first_nonfinite: int
    n_clipped: int
    first_clipped: int
    clipping_level: float
    spectrum: np.ndarray
    highest: np.ndarray
    texture: np.ndarray
    damage: str = ""

    @property
    def level(self) -> float:
        """Return the mean square of all samples."""
        return float(np.mean(self.powers))

    @property
    def peak(self) -> float:
        """Return the largest absolute sample."""
        return float(self.peaks.max(initial=0.0))

    @property
    def duration(self) -> float:
        """Return the length in seconds."""
        return self.n_samples / self.sample_rate


def frame_edges(sample_rate: int, n_samples: int) -> np.ndarray:
    """Compute the first samples of frames of 100 ms, and the end of the last, in samples.

    Args:
        sample_rate: Hz.
        n_samples: of all frames; the last may be shorter.
    """
    n_frames = -(-n_samples * FRAMES_PER_SECOND // sample_rate)
    edges = np.arange(n_frames + 1) * sample_rate // FRAMES_PER_SECOND
    return np.minimum(edges, n_samples)


class Meter:
    """Measure a file that comes in blocks.

    Args:
        sample_rate: Hz.
        n_channels: C.
    """

    def __init__(self, sample_rate: int, n_channels: int):
        self.rate, self.n_channels, self.n_samples = sample_rate, n_channels, 0
        self._levels, self._peaks = [], []  # of each block, by frame
        self._squares = np.zeros(n_channels)  # sums
        self._weighted = np.zeros((5, n_channels))  # sums of w, wm, ww, wwm, wwmm for means m of frames and weights w
        self._product = 0.0
        self._n_nonfinite, self._first_nonfinite = 0, -1
        self._flat: list[np.ndarray] = []  # (n, 4): first sample, length, height, which of the tops
        self._tops = np.zeros(2 * n_channels)  # largest of each channel, above and below 0
        self._n_fft = 2 ** max(4, round(np.log2(_WINDOW * sample_rate)))
        self._window = np.hanning(self._n_fft + 1)[:-1].astype(np.float32)
        self._spectrum = np.zeros(self._n_fft // 2 + 1)
        self._highest = np.zeros(self._n_fft // 2 + 1, np.float32)
        self._n_low = int(150 * self._n_fft / sample_rate) + 1
        self._low, self._n_spectra = np.zeros(3), 0
        bins = np.array([150, 8000]) * self._n_fft / sample_rate
        self._middle = slice(*np.clip(bins.astype(int), 1, self._n_fft // 2))
        self._changes = np.zeros((2, 2))  # in time, in frequency: weighted, and the weights

    def push(self, block: np.ndarray) -> None:
        """Take the next block (C, T); all but the last have `BLOCK_SECONDS`."""
        block = self._replace_nonfinite(block)
        edges = frame_edges(self.rate, block.shape[1])
        lengths = np.diff(edges)
        sums = np.add.reduceat(np.square(block), edges[:-1], axis=1, dtype=np.float64)  # (C, N)
        totals = np.add.reduceat(block, edges[:-1], axis=1, dtype=np.float64)
        self._levels.append(sums.mean(0) / lengths)
        self._peaks.append(np.maximum.reduceat(np.abs(block).max(0), edges[:-1]))
        self._squares += sums.sum(1)
        means = totals / lengths
        weights = lengths / (np.maximum(sums / lengths - np.square(means), 0) + _QUANTUM**2)
        square = np.square(weights)
        for row, terms in enumerate((weights, weights * means, square, square * means, square * np.square(means))):
            self._weighted[row] += terms.sum(1)
        if self.n_channels == 2:
            self._product += float(np.dot(block[0], block[1]))
        self._find_flat_tops(block)
        self._add_spectra(block)
        self.n_samples += block.shape[1]

    def _replace_nonfinite(self, block: np.ndarray) -> np.ndarray:
        finite = is_sound(block)
        if finite.all():
            return block
        if self._first_nonfinite < 0:
            self._first_nonfinite = self.n_samples + int(np.argmin(finite.all(0)))
        self._n_nonfinite += int(finite.size - finite.sum())
        return np.where(finite, block, np.float32(0))

    def _find_flat_tops(self, block: np.ndarray) -> None:
        """Keep the runs of equal samples near the tops so far, of a channel above or below 0, that have a step."""
        self._tops = np.maximum(self._tops, np.stack([block.max(1), -block.min(1)], 1).ravel())
        for index, channel in enumerate(block):
            changes = np.flatnonzero(channel[1:] != channel[:-1])
            starts, ends = np.r_[0, changes + 1], np.r_[changes + 1, len(channel)]
            height, which = np.abs(channel[starts]), 2 * index + (channel[starts] < 0)
            chosen = (ends - starts >= _FLAT) & (height >= _NEAR_PEAK * self._tops[which]) & (height > 2 * _STEP)
            starts, ends, height, which = starts[chosen], ends[chosen], height[chosen], which[chosen]
            steps = [height - np.abs(channel[np.clip(at, 0, len(channel) - 1)]) for at in (starts - 1, ends)]
            clipped = np.maximum(*steps) > _STEP
            runs = np.stack([starts + self.n_samples, ends - starts, height, which], 1)
            self._flat.append(runs[clipped][:_KEPT])

    def _add_spectra(self, block: np.ndarray) -> None:
        n_frames = max(1, block.shape[1] // self._n_fft)
        short = max(0, self._n_fft - block.shape[1])
        block = np.pad(block, ((0, 0), (0, short))) if short else block[:, : n_frames * self._n_fft]
        spectra = scipy.fft.rfft(block.reshape(self.n_channels, n_frames, self._n_fft) * self._window)
        power = np.square(spectra.real) + np.square(spectra.imag)
        self._spectrum += power.mean(0).sum(0)
        self._highest = np.maximum(self._highest, power.max((0, 1)))
        self._n_spectra += n_frames
        self._add_changes(power.mean(0))
        if self.n_channels == 2:
            low = power[..., 1 : self._n_low].sum((1, 2), dtype=np.float64)
            first, second = spectra[..., 1 : self._n_low]
            self._low += *low, float((first * second.conj()).real.sum())

    def _add_changes(self, power: np.ndarray) -> None:
        """Add up how the logarithmic spectrum (frames, F) changes where it is neither silent nor far below its mean."""
        mean = float(self._spectrum.sum()) / self._n_spectra
        sounding = power.sum(1) > _SOUNDING * mean
        power = power[:, self._middle]
        spectrum = np.log(power + _SOUNDING * 0.1 * mean / len(self._spectrum) + 1e-12)
        weight = np.sqrt(power)
        both = sounding[1:] & sounding[:-1]
        for axis, change, heavier, chosen in (
            (0, np.diff(spectrum, axis=0), np.maximum(weight[1:], weight[:-1]), both),
            (1, np.diff(spectrum, axis=1), np.maximum(weight[:, 1:], weight[:, :-1]), sounding),
        ):
            self._changes[axis] += (np.abs(change) * heavier)[chosen].sum(), heavier[chosen].sum()

    def _weigh(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the weighted mean of the means of frames, and its standard error from how these differ.

        A few frames differ by chance alone as little as one differs from itself: there it is at least that of noise.
        """
        weights, products, squares, square_products, square_squares = self._weighted
        mean = products / np.maximum(weights, 1e-30)
        spread = square_squares - 2 * mean * square_products + np.square(mean) * squares
        error = np.sqrt(np.maximum(spread, 0)) / np.maximum(weights, 1e-30)
        are_few = np.square(weights) < _FEW * squares
        return mean, np.where(are_few, np.maximum(error, 1 / np.sqrt(np.maximum(weights, 1e-30))), error)

    def finish(self, damage: str = "") -> Measurement:
        """Return the figures of all blocks."""
        n_samples, flat = max(1, self.n_samples), np.concatenate([np.zeros((0, 4)), *self._flat])
        flat = flat[flat[:, 2] >= _NEAR_PEAK * self._tops[flat[:, 3].astype(int)]]
        return Measurement(
            self.rate,
            self.n_samples,
            np.concatenate([np.zeros(0), *self._levels]).astype(np.float32),
            np.concatenate([np.zeros(0), *self._peaks]).astype(np.float32),
            self._squares / n_samples,
            self._product / n_samples,
            self._low / max(1, self._n_spectra),
            *self._weigh(),
            self._n_nonfinite,
            self._first_nonfinite,
            int(flat[:, 1].sum()),
            int(flat[:, 0].min()) if len(flat) else -1,
            float(flat[:, 2].max(initial=0)),
            (self._spectrum / max(1, self._n_spectra)).astype(np.float32),
            self._highest.astype(np.float32),
            (self._changes[:, 0] / np.maximum(self._changes[:, 1], 1e-20)).astype(np.float32),
            damage,
        )


def pack(measurement: Measurement) -> tuple[bytes, bytes]:
    """Convert a measurement to bytes: the levels, and all else."""
    values = {field.name: getattr(measurement, field.name) for field in fields(Measurement)}
    levels = values.pop("levels").astype("<f4").tobytes()
    values["damage"] = np.frombuffer(measurement.damage.encode(), np.uint8)
    return levels, save({name: np.atleast_1d(np.ascontiguousarray(value)) for name, value in values.items()})


def unpack(levels: bytes, rest: bytes) -> Measurement:
    """Rebuild a measurement from its bytes.

    Raises:
        ValueError: they are no measurement's.
    """
    values = load(rest)
    kinds = {field.name: field.type for field in fields(Measurement)}
    plain = {name: kind(values[name][0]) for name, kind in kinds.items() if kind in (int, float)}
    damage = values["damage"].tobytes().decode()
    return Measurement(**{**values, **plain, "levels": np.frombuffer(levels, "<f4"), "damage": damage})
