"""What every instrument is made of: tables, decaying partials, pads, noise, control curves."""

import numpy as np
import scipy  # whose parts are imported when they are used

HOP = 256  # samples between two values of a control curve
FRAME = 4 * HOP  # samples that are filtered at a time
_TABLE = 2048  # samples of one period


def hertz(midi: float | np.ndarray) -> float | np.ndarray:
    """Turn a pitch on the MIDI scale (69 is 440 Hz) into Hz."""
    return 440.0 * 2.0 ** ((np.asarray(midi) - 69.0) / 12.0)


def amplitude(level_db: float | np.ndarray) -> float | np.ndarray:
    """Turn dB into a factor."""
    return 10.0 ** (np.asarray(level_db) / 20.0)


def chance(rng: np.random.Generator, probability: float) -> bool:
    """Draw True with `probability`."""
    return bool(rng.random() < probability)


def noise(rng: np.random.Generator, n_samples: int) -> np.ndarray:
    """Draw white noise of unit variance, (T,) float32."""
    return rng.standard_normal(n_samples, dtype=np.float32)


def rms(waveform: np.ndarray) -> float:
    """Measure the root mean square over all samples."""
    return float(np.sqrt(np.mean(np.square(waveform), dtype=np.float64)))


def drift(rng: np.random.Generator, n_values: int, step: int) -> np.ndarray:
    """Draw a slow random curve of about unit variance, one new random value every `step` values."""
    knots = rng.standard_normal(n_values // step + 3)
    return np.interp(np.arange(n_values) / step + rng.random(), np.arange(len(knots)), knots)


def stretch(control: np.ndarray, n_samples: int) -> np.ndarray:
    """Interpolate a control curve with one value every HOP samples, (N,), to (T,) float32."""
    values = np.asarray(control, dtype=np.float32)
    slopes = np.diff(values, append=values[-1:])
    ramp = np.arange(HOP, dtype=np.float32) / HOP
    return (values[:, None] + slopes[:, None] * ramp).reshape(-1)[:n_samples]


def envelope(n_samples: int, attack: float, release: float, sample_rate: int, decay: float = 0.0) -> np.ndarray:
    """Build the envelope of one note: a rise and a fall of raised cosines, between them an exponential decay.

    Args:
        n_samples: T, the release included.
        attack: s.
        release: s.
        sample_rate: Hz.
        decay: time constant in s; 0 holds the level.

    Returns:
        (T,) float32 in [0, 1].
    """
    shape = np.ones(n_samples, dtype=np.float32)
    if decay:
        shape *= np.exp(-np.arange(n_samples, dtype=np.float32) / np.float32(decay * sample_rate))
    n_rise = max(1, min(int(attack * sample_rate), n_samples // 2))
    n_fall = max(1, min(int(release * sample_rate), n_samples - n_rise))
    shape[:n_rise] *= np.sin(0.5 * np.pi * np.arange(n_rise) / n_rise) ** 2
    shape[-n_fall:] *= np.cos(0.5 * np.pi * np.arange(1, n_fall + 1) / n_fall) ** 2
    return shape


def place(track: np.ndarray, sound: np.ndarray, start: int, gain: float = 1.0) -> None:
    """Add a sound (..., n) into a track (..., T) at a sample, cutting what hangs over."""
    skip = max(0, -start)
    stop = min(track.shape[-1], start + sound.shape[-1])
    if stop > start + skip:
        track[..., start + skip : stop] += np.float32(gain) * sound[..., skip : stop - start]


def pan(sound: np.ndarray, position: float) -> np.ndarray:
    """Place a mono sound (n,) between left (-1) and right (1) at constant power, (2, n)."""
    angle = 0.25 * np.pi * (1.0 + np.clip(position, -1.0, 1.0))
    gains = np.array([[np.cos(angle)], [np.sin(angle)]], dtype=np.float32) * np.float32(np.sqrt(2.0))
    return gains * sound


def periods(harmonics: np.ndarray, phases: np.ndarray | None = None) -> np.ndarray:
    """Turn rows of harmonic amplitudes (R, K) into rows of one period each, (R, 2049), unit RMS."""
    spectrum = np.zeros((len(harmonics), _TABLE // 2 + 1), dtype=np.complex64)
    spectrum[:, 1 : harmonics.shape[1] + 1] = -1j * harmonics
    if phases is not None:
        spectrum[:, 1 : harmonics.shape[1] + 1] *= np.exp(1j * phases)
    table = scipy.fft.irfft(spectrum, axis=-1).astype(np.float32)
    table /= np.sqrt(np.mean(table**2, axis=-1, keepdims=True)) + 1e-9
    return np.concatenate([table, table[:, :1]], axis=-1)


def scan(table: np.ndarray, phase: np.ndarray, row: np.ndarray | None = None) -> np.ndarray:
    """Read a table of periods along a phase.

    Args:
        table: (R, 2049) from `periods`.
        phase: (T,) in cycles, growing.
        row: (T,) integer row of each sample; None reads row 0.

    Returns:
        (T,) float32.
    """
    position = (phase - np.floor(phase)) * _TABLE
    index = np.minimum(position.astype(np.int32), _TABLE - 1)
    fraction = (position - index).astype(np.float32)
    if row is not None:
        index += row.astype(np.int32) * (_TABLE + 1)
    flat = table.reshape(-1)
    low = flat[index]
    return low + fraction * (flat[index + 1] - low)


def sweep(table: np.ndarray, phase: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Read a table whose spectrum changes from row to row along `position` (T,) in [0, R - 1]."""
    row = np.minimum(position.astype(np.int32), len(table) - 2)
    low = scan(table, phase, row)
    return low + (position - row).astype(np.float32) * (scan(table, phase, row + 1) - low)


def damped_partials(
    rng: np.random.Generator,
    partials: tuple[np.ndarray, np.ndarray, np.ndarray],
    n_samples: int,
    sample_rate: int,
) -> np.ndarray:
    """Add up sinusoids that decay exponentially, each as a short stretch of one long spectrum.

    Args:
        rng: draws the phases.
        partials: frequencies (K,) in Hz, amplitudes (K,), time constants (K,) in s.
        n_samples: T.
        sample_rate: Hz; partials above 0.48 of it are left out.

    Returns:
        (T,) float32.
    """
    n_fft = 1 << int(np.ceil(np.log2(max(n_samples, 4096))))
    spectrum = np.zeros(n_fft // 2 + 1, dtype=np.complex64)
    half = n_fft // 192  # wide enough for an attack of about 2 ms
    longest = n_fft / sample_rate / 3.0  # a longer tail would wrap around
    for frequency, level, decay in zip(*partials, strict=True):
        if not 20.0 < frequency < 0.48 * sample_rate:
            continue
        centre = frequency / sample_rate * n_fft
        low, high = max(1, int(centre) - half), min(n_fft // 2, int(centre) + half)
        detune = 2 * np.pi / n_fft * (centre - np.arange(low, high))
        damping = 1.0 / (min(decay, longest) * sample_rate)
        phase = np.exp(2j * np.pi * rng.random())
        spectrum[low:high] += 0.5 * level * phase / (1.0 - np.exp(-damping + 1j * detune))
    sound = scipy.fft.irfft(spectrum)[:n_samples].astype(np.float32)
    return sound * envelope(n_samples, 0.001, 0.1 * n_samples / sample_rate, sample_rate)


def pad_loop(
    rng: np.random.Generator,
    frequencies: np.ndarray,
    levels: np.ndarray,
    bandwidth: float,
    sample_rate: int,
) -> np.ndarray:
    """Build an endless stereo texture: every partial a narrow band of random phases.

    Args:
        rng: draws the phases.
        frequencies: (K,) in Hz.
        levels: (K,).
        bandwidth: of each band, relative to its frequency.
        sample_rate: Hz.

    Returns:
        (2, 131072) float32 of unit RMS; its end runs on into its beginning.

    Source:
        Paul Nasca, PADsynth algorithm, 2005; partials of whole chords share one spectrum.
    """
    n_fft = 131072
    magnitude = np.zeros(n_fft // 2 + 1, dtype=np.float32)
    for frequency, level in zip(frequencies, levels, strict=True):
        if not 20.0 < frequency < 0.45 * sample_rate:
            continue
        centre, width = frequency / sample_rate * n_fft, max(0.6, bandwidth * frequency / sample_rate * n_fft)
        low, high = max(1, int(centre - 3 * width)), min(n_fft // 2, int(centre + 3 * width) + 2)
        bins = (np.arange(low, high) - centre) / width
        magnitude[low:high] += level / np.sqrt(width) * np.exp(-0.5 * bins**2)
    phases = rng.random((2, n_fft // 2 + 1), dtype=np.float32) * np.float32(2 * np.pi)
    loop = scipy.fft.irfft(magnitude * np.exp(1j * phases), axis=-1).astype(np.float32)
    return loop / (rms(loop) + 1e-9)


def colour(sound: np.ndarray, frequencies: np.ndarray, gains_db: np.ndarray, sample_rate: int) -> np.ndarray:
    """Filter a short sound (..., n) by gains in dB given at rising frequencies in Hz."""
    n_samples = sound.shape[-1]
    n_fft = scipy.fft.next_fast_len(n_samples + 512, real=True)
    bins = scipy.fft.rfftfreq(n_fft, 1.0 / sample_rate)
    gains = amplitude(np.interp(np.log(bins + 1.0), np.log(np.asarray(frequencies) + 1.0), gains_db))
    return scipy.fft.irfft(scipy.fft.rfft(sound, n_fft) * gains.astype(np.float32), n_fft)[..., :n_samples]


def filter_frames(excitation: np.ndarray, gains: np.ndarray, sounding: np.ndarray) -> np.ndarray:
    """Filter (T,) by gains of the frames, HOP apart, that are `sounding` (N,); the others fall silent."""
    n_frames, n_samples = len(sounding), len(excitation)
    window = np.sqrt(np.hanning(FRAME + 1)[:-1]).astype(np.float32)
    padded = np.pad(excitation, (FRAME // 2, n_frames * HOP + FRAME // 2 - n_samples))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP][:n_frames][sounding]
    parts = np.zeros((n_frames, FRAME), dtype=np.float32)
    parts[sounding] = scipy.fft.irfft(scipy.fft.rfft(frames * window) * gains, FRAME) * (0.5 * window)
    joined = np.zeros((n_frames + 3, HOP), dtype=np.float32)
    for k in range(4):
        joined[k : k + n_frames] += parts[:, k * HOP : (k + 1) * HOP]
    return joined.reshape(-1)[FRAME // 2 : FRAME // 2 + n_samples]
