"""A studio for stems that are made: equaliser, room, and a compressor of the whole that keeps stems summable."""

import numpy as np
from scipy import ndimage, signal

_STEP = 256  # samples between two values of a level
_LONGEST = 2.5  # s of a room


def draw_room(rng: np.random.Generator, t60: float, sample_rate: int) -> np.ndarray:
    """Draw the response of a room without the direct sound.

    Args:
        rng: draws reflections.
        t60: s in which it falls by 60 dB.
        sample_rate: Hz.

    Returns:
        (2, n) float32 of unit energy: a gap, early reflections, a tail whose heights die first.
    """
    n_samples = int(min(0.9 * t60, _LONGEST) * sample_rate)
    time = np.arange(n_samples, dtype=np.float32) / sample_rate
    bright = rng.standard_normal((2, n_samples), dtype=np.float32)
    dull = ndimage.uniform_filter1d(bright, int(rng.integers(4, 14)), axis=-1) * 2.5
    decay = np.float32(6.9 / t60) * time
    response = dull * np.exp(-decay) + bright * np.exp(-decay / np.float32(rng.uniform(0.2, 0.6)))
    for _ in range(rng.integers(4, 12)):
        place = int(rng.uniform(0.002, 0.05) * sample_rate) % n_samples
        response[rng.integers(2), place] += rng.normal(0.0, 8.0)
    response = np.pad(response, ((0, 0), (int(rng.uniform(0.0, 0.04) * sample_rate), 0)))
    return (response / np.sqrt((response**2).sum(-1, keepdims=True))).astype(np.float32)


def add_room(waveform: np.ndarray, room: np.ndarray, level_db: float) -> np.ndarray:
    """Add what a room answers to the sum of both channels.

    Args:
        waveform: (2, T).
        room: (2, n).
        level_db: of the answer to noise, relative to it, in dB.
    """
    wet = signal.oaconvolve(waveform.mean(0, keepdims=True), room, axes=-1)[:, : waveform.shape[-1]]
    return waveform + np.float32(10 ** (level_db / 20)) * wet.astype(np.float32)


def equalise(rng: np.random.Generator, waveform: np.ndarray, spread_db: float, sample_rate: int) -> np.ndarray:
    """Filter a stem by three drawn bells and a wide one at each end.

    Args:
        rng: draws them.
        waveform: (2, T).
        spread_db: standard deviation of their gains.
        sample_rate: Hz.

    Returns:
        (2, T) float32.

    Source:
        Bristow-Johnson, Cookbook formulae for audio EQ biquad filter coefficients, peaking EQ; wide bells at both ends
        stand for shelves.
    """
    bells = [(rng.uniform(np.log(80.0), np.log(9000.0)), rng.uniform(0.5, 2.0)) for _ in range(3)]
    bells += [(np.log(45.0), 0.35), (np.log(12000.0), 0.35)]
    sections = [_bell(float(np.exp(log)), q, rng.normal(0.0, spread_db), sample_rate) for log, q in bells]
    return signal.sosfilt(np.array(sections), waveform, axis=-1).astype(np.float32)


def _bell(frequency: float, q: float, gain_db: float, sample_rate: int) -> np.ndarray:
    root = 10 ** (gain_db / 40)
    angle = 2 * np.pi * frequency / sample_rate
    alpha = np.sin(angle) / (2 * q)
    section = np.array(
        [1 + alpha * root, -2 * np.cos(angle), 1 - alpha * root, 1 + alpha / root, -2 * np.cos(angle), 1 - alpha / root]
    )
    return section / section[3]


def active_level(waveform: np.ndarray) -> float:
    """Measure the RMS over the tenths of a second that are within 35 dB of the loudest.

    Args:
        waveform: (C, T) at 44.1 kHz.

    Returns:
        A factor; 0: silence.
    """
    step = max(1, min(4410, waveform.shape[-1]))
    n_steps = waveform.shape[-1] // step
    energy = (waveform[:, : n_steps * step].reshape(len(waveform), n_steps, step) ** 2).mean((0, 2))
    return float(np.sqrt(energy[energy >= energy.max() * 10**-3.5].mean()))


def master(stems: dict[str, np.ndarray], level_db: float, ratio: float, peak: float) -> dict[str, np.ndarray]:
    """Scale a song to a level, and press its sum, by gains that all stems share, so that they still sum to it.

    Args:
        stems: (2, T) each.
        level_db: RMS of the sum where it sounds, in dB re full scale.
        ratio: above that level so many dB in become 1 dB out, >= 1.
        peak: that neither the sum nor a stem exceeds.

    Returns:
        The stems.
    """
    mixture = sum(stems.values())
    level = active_level(mixture)
    if level == 0.0:
        return stems
    gain = np.float32(10 ** (level_db / 20) / level)
    stems = {stem: gain * waveform for stem, waveform in stems.items()}
    n_samples = mixture.shape[-1]
    power = np.pad((gain * mixture) ** 2, ((0, 0), (0, -n_samples % _STEP))).reshape(2, -1, _STEP).mean((0, 2))
    loudness = np.sqrt(ndimage.gaussian_filter1d(power, 6.0)) / 10 ** (level_db / 20)
    pressed = np.maximum(loudness, 1.0) ** (1.0 / ratio - 1.0)
    top = np.max(np.abs([*stems.values(), gain * mixture]), axis=(0, 1))
    highest = np.pad(top, (0, -n_samples % _STEP)).reshape(-1, _STEP).max(-1)
    limit = np.minimum(1.0, peak / np.maximum(highest * pressed, 1e-9))
    limit = ndimage.gaussian_filter1d(ndimage.minimum_filter1d(limit, 9), 1.0, truncate=3.0)
    curve = np.interp(np.arange(n_samples), (np.arange(len(power)) + 0.5) * _STEP, pressed * limit).astype(np.float32)
    stems = {stem: curve * waveform for stem, waveform in stems.items()}
    top = max(np.abs(sum(stems.values())).max(), *(np.abs(waveform).max() for waveform in stems.values()))
    return stems if top <= peak else {stem: np.float32(peak / top) * waveform for stem, waveform in stems.items()}
