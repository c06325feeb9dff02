"""Filter banks that turn the bins of a Fourier transform into mel bands or pitch classes."""

import warnings

import numpy as np
import torch

from sepkit.mel import mel_bands


def mel_bank(sample_rate: float, n_fft: int, n_mels: int) -> np.ndarray:
    """Build (F, M) filters from 0 to half the sample rate, as librosa 0.11 does: filters.mel with its defaults."""
    frequencies = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    bank = mel_bands(frequencies, n_mels, lowest=0.0, highest=sample_rate / 2.0, scale="slaney", area=True)
    return np.ascontiguousarray(bank.numpy().T)


def htk_mel_bank(sample_rate: float, n_fft: int, n_mels: int) -> np.ndarray:
    """Build (F, M) filters as torchaudio's MelSpectrogram does, which takes an odd n_fft for the even one below."""
    frequencies = torch.linspace(0.0, int(sample_rate) // 2, n_fft // 2 + 1)
    bank = mel_bands(frequencies, n_mels, lowest=0.0, highest=sample_rate / 2.0)
    return np.ascontiguousarray(bank.numpy().T)


def warn_of_empty_bands(bank: np.ndarray, n_fft: int) -> None:
    """Warn of bands (F, M) without any bin."""
    n_empty = int((bank.sum(0) == 0).sum())
    if n_empty:
        warnings.warn(
            f"{n_empty} of {bank.shape[1]} bands hold no bin of a transform of {n_fft} samples and count as equal; "
            "take fewer bands or a longer transform",
            stacklevel=4,
        )


def chroma_bank(sample_rate: float, n_fft: int, n_chroma: int) -> np.ndarray:
    """Build filters for the pitch classes from C, in A = 440 Hz tuning, strongest five octaves above 27.5 Hz.

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
