"""Comparisons of magnitude spectrograms: l1_freq, bleedless, fullness. Waveforms in, scores of 0 .. 100 out."""

import torch
from torch import Tensor

from sepkit.arguments import check_count
from sepkit.mel import mel_bands
from sepkit.metrics.shapes import Waveform, take_waveforms


def l1_freq(estimate: Waveform, target: Waveform) -> Tensor:
    """Score the mean distance of the magnitudes, over channels, bins and frames.

    Args:
        estimate: (..., C, T), T > 1024.
        target: (..., C, T).

    Returns:
        (...,), > 0; 100: equal magnitudes.

    Raises:
        ValueError: the shapes differ, or the waveforms are too short.

    Source:
        Music-Source-Separation-Training, utils/metrics.py, l1_freq: 100 / (1 + 10 mean |S - S'|), STFT of 2048 and
        hop 1024 under a rectangular window, reflected at the ends. It depends on the level of the song.
    """
    estimate, target = take_waveforms(estimate, target)
    if target.shape[-1] <= 1024:
        raise ValueError(f"target must be longer than 1024 samples, got {target.shape[-1]}")
    distance = (_magnitude(estimate, 2048, hann=False) - _magnitude(target, 2048, hann=False)).abs()
    return 100 / (1 + 10 * distance.mean((-3, -2, -1)))


def bleedless(estimate: Waveform, target: Waveform, sample_rate: int = 44100) -> Tensor:
    """Score how little the estimate exceeds the target, over channels, mel bands and frames.

    Args:
        estimate: (..., C, T).
        target: (..., C, T).
        sample_rate: Hz.

    Returns:
        (...,), > 0; 100: nowhere louder than the target.

    Raises:
        ValueError: the shapes differ, or hold no sample.

    Source:
        jarredou, github.com/csteinmetz1/auraloss issue 79, as in Music-Source-Separation-Training, bleed_full:
        100 / (1 + mean excess in dB), of 512 Slaney mel bands of a Hann STFT of 4096 and hop 1024, 80 dB range.
    """
    excess = _level_difference(estimate, target, sample_rate)
    return 100 / (1 + _mean_where(excess, ~(excess <= 0)))


def fullness(estimate: Waveform, target: Waveform, sample_rate: int = 44100) -> Tensor:
    """Score how little of the target the estimate lacks, over channels, mel bands and frames.

    Args:
        estimate: (..., C, T).
        target: (..., C, T).
        sample_rate: Hz.

    Returns:
        (...,), > 0; 100: nowhere softer than the target.

    Raises:
        ValueError: the shapes differ, or hold no sample.

    Source:
        As `bleedless`.
    """
    excess = _level_difference(estimate, target, sample_rate)
    return 100 / (1 + _mean_where(-excess, ~(excess >= 0)))


def _magnitude(waveform: Tensor, n_fft: int, hann: bool) -> Tensor:
    """Compute magnitudes with hop 1024: (..., C, T) -> (..., C, F, N), in float32 at least.

    With a Hann window zeros stand at the ends, with a rectangular one a reflection.
    """
    flat = waveform.to(torch.promote_types(waveform.dtype, torch.float32)).flatten(0, -2)
    window = (torch.hann_window if hann else torch.ones)(n_fft, dtype=flat.dtype, device=flat.device)
    mode = "constant" if hann else "reflect"
    spectra = torch.stft(flat, n_fft, 1024, window=window, pad_mode=mode, return_complex=True)
    # The square root has no gradient at zero; below 1e-18 of full scale nothing is measured.
    power = torch.view_as_real(spectra).square().sum(-1)
    return power.clamp(min=1e-36).sqrt().unflatten(0, waveform.shape[:-1])


def _level_difference(estimate: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Subtract the mel levels, (..., C, 512, N), in dB."""
    estimate, target = take_waveforms(estimate, target)
    nyquist = check_count("sample_rate", sample_rate) / 2
    frequencies = torch.linspace(0, nyquist, 2049, dtype=torch.float64)
    filters = mel_bands(frequencies, 512, lowest=0, highest=nyquist, scale="slaney", area=True)
    return _mel_level(estimate, filters) - _mel_level(target, filters)


def _mel_level(waveform: Tensor, filters: Tensor) -> Tensor:
    """Compute levels in dB, at most 80 below the highest of all channels."""
    magnitude = _magnitude(waveform, 4096, hann=True)
    level = 20 * torch.log10((filters.to(magnitude) @ magnitude).clamp(min=1e-10))
    return torch.maximum(level, level.amax((-3, -2, -1), keepdim=True) - 80)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Average the chosen values over the last three dimensions, 0 where there is none; NaN counts as chosen."""
    total = torch.where(chosen, values, 0.0).sum((-3, -2, -1))
    return total / chosen.sum((-3, -2, -1)).clamp(min=1)
