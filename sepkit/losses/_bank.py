"""Filter banks that turn the bins of a Fourier transform into mel bands or pitch classes."""

import numpy as np


def _hz_to_slaney(frequency: np.ndarray) -> np.ndarray:
    logarithmic = 15.0 + 27.0 * np.log(np.maximum(frequency, 1000.0) / 1000.0) / np.log(6.4)
    return np.where(frequency < 1000.0, frequency * 3.0 / 200.0, logarithmic)


def _slaney_to_hz(mel: np.ndarray) -> np.ndarray:
    logarithmic = 1000.0 * np.exp(np.log(6.4) / 27.0 * (np.maximum(mel, 15.0) - 15.0))
    return np.where(mel < 15.0, mel * 200.0 / 3.0, logarithmic)


def mel_bank(sample_rate: float, n_fft: int, n_mels: int) -> np.ndarray:
    """Make triangular filters, evenly spaced in Slaney's mel from 0 to half the sample rate, with areas of 1 / Hz.

    Args:
        sample_rate: Hz.
        n_fft: samples.
        n_mels: number of filters.

    Returns:
        (F, M), in the precision of float32.

    Source:
        librosa 0.11, filters.mel with its defaults.
    """
    top = _hz_to_slaney(np.array(sample_rate / 2.0))
    edges = _slaney_to_hz(np.linspace(0.0, top, n_mels + 2))
    bins = (np.arange(n_fft // 2 + 1) * (sample_rate / n_fft))[:, None]
    widths = np.diff(edges)
    rising, falling = (bins - edges[:-2]) / widths[:-1], (edges[2:] - bins) / widths[1:]
    bank = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return (bank * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)


def htk_mel_bank(sample_rate: float, n_fft: int, n_mels: int) -> np.ndarray:
    """Make triangular filters, evenly spaced in HTK's mel from 0 to half the sample rate, with peaks of 1.

    Args:
        sample_rate: Hz.
        n_fft: samples.
        n_mels: number of filters.

    Returns:
        (F, M), those of torchaudio's MelSpectrogram, which takes the last bin of an odd n_fft for half the sample rate.
    """
    from torchaudio.functional import melscale_fbanks  # 0.5 s, for this filter bank alone

    return melscale_fbanks(n_fft // 2 + 1, 0.0, sample_rate / 2.0, n_mels, int(sample_rate)).numpy()


def chroma_bank(sample_rate: float, n_fft: int, n_chroma: int) -> np.ndarray:
    """Make filters for the pitch classes from C, in A = 440 Hz tuning, strongest five octaves above 27.5 Hz.

    Args:
        sample_rate: Hz.
        n_fft: samples.
        n_chroma: number of classes in an octave.

    Returns:
        (F, M), in the precision of float32.

    Source:
        librosa 0.11, filters.chroma with its defaults.
    """
    frequencies = np.linspace(0.0, sample_rate, n_fft, endpoint=False)[1:]
    octaves = np.log2(frequencies / 27.5)
    # Bin 0 has no pitch: an octave and a half below bin 1, where the filter is widest.
    places = n_chroma * np.concatenate(([octaves[0] - 1.5], octaves))
    widths = np.append(np.maximum(np.diff(places), 1.0), 1.0)[:, None]
    half = np.round(n_chroma / 2.0)
    distances = np.remainder(places[:, None] - np.arange(n_chroma) + half + 10 * n_chroma, n_chroma) - half
    bank = np.exp(-0.5 * (2.0 * distances / widths) ** 2)
    bank /= np.sqrt((bank**2).sum(1, keepdims=True))
    bank *= np.exp(-0.5 * ((places / n_chroma - 5.0) / 2.0) ** 2)[:, None]
    return np.roll(bank, -3 * (n_chroma // 12), axis=1)[: n_fft // 2 + 1].astype(np.float32)
