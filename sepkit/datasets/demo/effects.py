"""What a studio adds: compression, delays, doubling, and at the end equaliser, room and level."""

import numpy as np
import scipy  # whose parts are imported when they are used

from sepkit.datasets.demo.song import Song
from sepkit.datasets.demo.synthesis import HOP, amplitude, chance, drift, noise, rms, stretch

_CENTRES = np.array([31.5, 63.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 15500.0])
# Energy of the octaves of recorded stems relative to the stem, mean and spread over songs, in dB.
_SPECTRA = {
    "vocals": (
        (-42.0, -38.0, -21.5, -8.9, -4.6, -6.3, -10.9, -15.5, -17.5, -30.0),
        (6.0, 8.0, 6.0, 2.5, 1.7, 2.5, 2.0, 3.5, 3.5, 5.0),
    ),
    "drums": (
        (-11.5, -4.3, -8.5, -9.8, -13.0, -14.0, -15.5, -16.5, -17.5, -25.0),
        (5.0, 2.3, 3.0, 2.2, 2.5, 3.0, 2.0, 3.0, 3.0, 5.0),
    ),
    "bass": (
        (-12.0, -3.5, -5.0, -8.5, -20.0, -30.0, -38.0, -46.0, -55.0, -68.0),
        (5.0, 2.5, 2.5, 3.5, 6.0, 7.0, 8.0, 9.0, 9.0, 9.0),
    ),
    "other": (
        (-22.0, -13.0, -12.1, -9.5, -5.0, -7.0, -11.0, -17.5, -25.0, -38.0),
        (7.0, 4.0, 3.3, 2.5, 2.2, 2.2, 3.4, 5.5, 7.0, 8.0),
    ),
}
_LEVELS = {"vocals": -20.0, "drums": -18.5, "bass": -18.0, "other": -21.5}  # dB RMS where active
_BLOCK = 1 << 17
_TAPS = 4096
_KNEE = 0.9  # full scale of the limiter every stem passes


def compress(waveform: np.ndarray, ratio: float) -> np.ndarray:
    """Compress the level of a stem (2, T): above a floor, `ratio` dB in become 1 dB out."""
    n_samples = waveform.shape[-1]
    padded = np.pad(np.mean(waveform**2, axis=0), (0, -n_samples % HOP))
    level = np.sqrt(scipy.ndimage.gaussian_filter1d(padded.reshape(-1, HOP).mean(-1), 6.0))
    reference = np.sqrt(np.mean(level**2)) + 1e-9
    gain = np.maximum(level / reference, 0.1) ** (1.0 / ratio - 1.0)
    return waveform * stretch(gain, n_samples)


def echo(waveform: np.ndarray, delay: int, feedback: float, mix: float) -> np.ndarray:
    """Add repeats of a stereo stem, each on the other side and duller than the one before."""
    wet, repeat = waveform.copy(), waveform.mean(0, keepdims=True) * np.array([[1.0], [0.25]], dtype=np.float32)
    for _ in range(3):
        repeat = np.roll(0.5 * (repeat + np.roll(repeat, 2, axis=-1)), delay, axis=-1)[::-1]
        repeat[:, :delay] = 0.0
        wet += np.float32(mix) * repeat
        mix *= feedback
    return wet


def chorus(rng: np.random.Generator, voice: np.ndarray, delay: float, depth: float, sample_rate: int) -> np.ndarray:
    """Copy a mono voice (T,) with a wandering delay, as a double take: `delay` and `depth` in s."""
    n_samples = len(voice)
    wander = drift(rng, n_samples // HOP + 2, max(2, int(0.35 * sample_rate / HOP)))
    position = np.arange(n_samples) - sample_rate * (delay + depth * stretch(wander, n_samples))
    index = np.clip(position.astype(np.int64), 0, n_samples - 2)
    fraction = np.clip(position - index, 0.0, 1.0).astype(np.float32)
    return voice[index] + fraction * (voice[index + 1] - voice[index])


def saturate(waveform: np.ndarray, drive: float) -> np.ndarray:
    """Limit a stem by tanh; `drive` 0.3 is warm, 10 is a fuzz."""
    level = rms(waveform) + 1e-9
    bent = np.tanh(waveform * np.float32(drive / (3.0 * level)))
    return bent * np.float32(level / (rms(bent) + 1e-9))


def _octaves(rng: np.random.Generator, waveform: np.ndarray) -> np.ndarray | None:
    """Measure the energy of the octaves in dB relative to the whole from frames drawn where there is sound."""
    n_fft = 4096
    frames = np.lib.stride_tricks.sliding_window_view(waveform, n_fft, axis=-1)[:, :: n_fft // 2]
    loud = np.flatnonzero(np.abs(frames[..., ::16]).max((0, -1)) > 1e-4)
    if not len(loud):
        return None
    chosen = frames[:, rng.choice(loud, min(len(loud), 120), replace=False)]
    return (np.abs(scipy.fft.rfft(chosen * np.hanning(n_fft).astype(np.float32))) ** 2).mean((0, 1))


def _equaliser(rng: np.random.Generator, stem: str, waveform: np.ndarray, song: Song) -> np.ndarray:
    """Draw gains on a grid of frequencies: part of the way towards the spectra of recorded stems."""
    power = _octaves(rng, waveform)
    bins = scipy.fft.rfftfreq(4096, 1.0 / song.sample_rate)
    octave = np.clip(np.round(np.log2(np.maximum(bins, 16.0) / 1000.0)), -5, 4).astype(int) + 5
    energy = np.bincount(octave, power, minlength=10)
    measured = 10.0 * np.log10(energy / energy.sum() + 1e-9)
    mean, spread = np.array(_SPECTRA[stem])
    wanted = mean + spread * rng.normal(0.0, 0.8, 10)
    pull = rng.uniform(0.7, 1.0)
    gains = np.clip(pull * (wanted - measured), -35.0, 18.0)
    gains += np.interp(np.arange(10), np.arange(0, 10, 3), rng.normal(0.0, 1.5, 4))
    return gains


def _filter(rng: np.random.Generator, gains_db: np.ndarray, song: Song) -> np.ndarray:
    """Interpolate octave gains, add narrow bumps and now and then a low-pass: a short response, (n,)."""
    bins = scipy.fft.rfftfreq(2 * _TAPS, 1.0 / song.sample_rate)
    grid = np.geomspace(20.0, song.sample_rate / 2, 300)
    curve = scipy.ndimage.gaussian_filter1d(np.interp(np.log(grid), np.log(_CENTRES), gains_db), 8.0)
    for _ in range(rng.integers(0, 4)):
        centre, width = rng.uniform(4.5, 9.2), rng.uniform(0.08, 0.5)
        curve += rng.normal(0.0, 3.0) * np.exp(-0.5 * ((np.log(grid) - centre) / width) ** 2)
    if chance(rng, 0.05):
        curve -= 30.0 * np.maximum(0.0, np.log2(grid / rng.uniform(1500.0, 7000.0)))
    curve -= 200.0 * np.maximum(0.0, np.log2(grid / song.cutoff))
    return _minimum_phase(amplitude(np.interp(bins, grid, np.maximum(curve, -90.0))))


def _minimum_phase(gains: np.ndarray) -> np.ndarray:
    """Turn gains on a grid of frequencies (n + 1,) into a response (n,) that starts at once."""
    cepstrum = scipy.fft.irfft(np.log(gains))
    cepstrum[1:_TAPS] *= 2.0
    cepstrum[_TAPS + 1 :] = 0.0
    return scipy.fft.irfft(np.exp(scipy.fft.rfft(cepstrum)))[:_TAPS].astype(np.float32)


def _room(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Draw the response of a room, (2, T) of unit energy: a gap, early reflections, a tail that darkens."""
    t60 = np.exp(rng.uniform(np.log(0.25), np.log(2.5)))
    n_samples = min(int(0.75 * t60 * sample_rate), _BLOCK // 2 - 3 * _TAPS)
    time = np.arange(n_samples, dtype=np.float32) / sample_rate
    tail = np.stack([noise(rng, n_samples), noise(rng, n_samples)])
    dull = scipy.ndimage.uniform_filter1d(tail, int(rng.integers(4, 14)), axis=-1) * 2.5
    response = dull * np.exp(-6.9 * time / t60) + tail * np.exp(-6.9 * time / (t60 * rng.uniform(0.2, 0.6)))
    for _ in range(rng.integers(4, 12)):
        response[rng.integers(2), int(rng.uniform(0.002, 0.05) * sample_rate) % n_samples] += rng.normal(0.0, 8.0)
    gap = int(rng.uniform(0.0, 0.04) * sample_rate)
    response = np.pad(response, ((0, 0), (gap, 0)))
    return (response / np.sqrt((response**2).sum(-1, keepdims=True))).astype(np.float32)


def _convolve(waveform: np.ndarray, direct: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Filter each channel by `direct` (n,) and add the filtered sum of both sent through `room` (2, n)."""
    n_samples = waveform.shape[-1]
    step = _BLOCK - len(direct) - room.shape[-1]
    room_spectrum = 0.5 * scipy.fft.rfft(room, _BLOCK)
    direct_spectrum = scipy.fft.rfft(direct, _BLOCK)
    joined = np.zeros((2, n_samples + _BLOCK), dtype=np.float32)
    for start in range(0, n_samples, step):
        spectrum = scipy.fft.rfft(waveform[:, start : start + step], _BLOCK) * direct_spectrum  # (2, F)
        spectrum += spectrum.sum(0) * room_spectrum
        joined[:, start : start + _BLOCK] += scipy.fft.irfft(spectrum, _BLOCK)
    return joined[:, :n_samples]


def active_level(waveform: np.ndarray) -> float:
    """Measure the RMS over the tenths of a second that are within 35 dB of the loudest, as a factor."""
    step = max(1, min(4410, waveform.shape[-1]))
    n_steps = waveform.shape[-1] // step
    energy = (waveform[:, : n_steps * step].reshape(2, n_steps, step) ** 2).mean((0, 2))
    return float(np.sqrt(energy[energy >= energy.max() * 10**-3.5].mean()))


def finish(rng: np.random.Generator, stem: str, waveform: np.ndarray, song: Song, wet_db: float) -> np.ndarray:
    """Send a dry stem through equaliser and room and set its level.

    Args:
        rng: draws settings.
        stem: "vocals", "drums", "bass" or "other".
        waveform: (2, T).
        song: its score.
        wet_db: the room's level relative to the dry sound, in dB.

    Returns:
        (2, T) float32; silence stays silence.
    """
    if np.abs(waveform).max() < 1e-5:
        return np.zeros_like(waveform)
    gains = _equaliser(rng, stem, waveform, song)
    direct = _filter(rng, gains, song)
    wet = _convolve(waveform, direct, _room(rng, song.sample_rate) * np.float32(amplitude(wet_db)))
    level = amplitude(_LEVELS[stem] + np.clip(rng.normal(0.0, 2.5), -6.0, 6.0))
    wet *= np.float32(level / (active_level(wet) + 1e-9))
    if stem in ("drums", "other"):
        side = np.float32(0.5 * (1.0 - rng.uniform(0.15, 1.0))) * (wet[0] - wet[1])
        wet = wet - np.stack([side, -side])
    return np.float32(_KNEE) * np.tanh(wet / np.float32(_KNEE))
