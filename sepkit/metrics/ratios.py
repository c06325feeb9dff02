"""Energy ratios of a whole recording: sdr, snr, si_sdr, si_sir, si_sar, sd_sdr. Waveforms in, decibels out.

All sums run over samples and channels together (one scale for all channels); leading dimensions are free.
To score channels one by one, move them into the leading dimensions: `sdr(estimate.unsqueeze(-2), ...)`.
A silent target has no score: NaN, with a gradient of zero, so that it can be left out of a mean; nor have waveforms
that hold NaN. All raise ValueError where the shapes differ, or hold no sample.
"""

import torch
from torch import Tensor

from sepkit.arguments import as_tensor, check_range, check_same_device
from sepkit.metrics.shapes import Waveform, take_waveforms


def sdr(estimate: Waveform, target: Waveform, eps: float = 1e-7) -> Tensor:
    """Measure the signal-to-distortion ratio of the whole recording (global SDR, utterance SDR).

    Args:
        estimate: (..., C, T).
        target: (..., C, T).
        eps: added to both energies, in squared full scale times samples. A perfect estimate scores
            10 log10(energy / eps + 1), with 0 it scores +inf.

    Returns:
        (...,), in dB; NaN where the target is silent.

    Source:
        Mitsufuji et al., Music Demixing Challenge 2021, Front. Signal Process. 1:808395, 2022, eq. 1; there a
        silent target scores about -10 log10(noise / eps). The score of a song is the mean over its stems.
    """
    estimate, target = _aligned(estimate, target)
    return _ratio(_energy(target), _energy(target - estimate), target, eps)


def snr(estimate: Waveform, target: Waveform, eps: float = 1e-12) -> Tensor:
    """Measure the signal-to-noise ratio: `sdr` with an eps that is too small to be seen."""
    return sdr(estimate, target, eps)


def si_sdr(estimate: Waveform, target: Waveform, eps: float = 1e-12, zero_mean: bool = False) -> Tensor:
    """Measure the scale-invariant signal-to-distortion ratio, with one scale for all channels.

    Args:
        estimate: (..., C, T).
        target: (..., C, T).
        eps: added to both energies, in squared full scale times samples.
        zero_mean: remove the mean of each channel first; the result is then called SI-SNR.

    Returns:
        (...,), in dB; NaN where the target is silent.

    Source:
        Le Roux et al., SDR - half-baked or well done?, ICASSP 2019, eq. 4.
    """
    estimate, target = _aligned(estimate, target)
    if zero_mean:
        estimate = estimate - estimate.mean(-1, keepdim=True)
        target = target - target.mean(-1, keepdim=True)
    scaled = _projected(estimate, target)
    return _ratio(_energy(scaled), _energy(scaled - estimate), target, eps)


def si_sir(estimate: Waveform, target: Waveform, eps: float = 1e-12) -> Tensor:
    """Measure the scale-invariant ratio to what the estimate contains of the other sources.

    Args:
        estimate: (..., S, C, T).
        target: (..., S, C, T), all sources.
        eps: added to both energies, in squared full scale times samples.

    Returns:
        (..., S), in dB; NaN where the target is silent.

    Source:
        Le Roux et al., SDR - half-baked or well done?, ICASSP 2019, section 3; projections are found from the
        Gram matrix of the sources, to whose diagonal rounding is added, so that sources may be equal or silent.
    """
    estimate, target = _aligned(estimate, target, "(..., S, C, T)")
    scaled = _projected(estimate, target)
    return _ratio(_energy(scaled), _energy(_projected_on_all(estimate, target) - scaled), target, eps)


def si_sar(estimate: Waveform, target: Waveform, eps: float = 1e-12) -> Tensor:
    """Measure the scale-invariant ratio to what the estimate contains of none of the sources.

    Args:
        estimate: (..., S, C, T).
        target: (..., S, C, T), all sources.
        eps: added to both energies, in squared full scale times samples.

    Returns:
        (..., S), in dB; NaN where the target is silent.

    Source:
        Le Roux et al., SDR - half-baked or well done?, ICASSP 2019, section 3, as `si_sir`.
    """
    estimate, target = _aligned(estimate, target, "(..., S, C, T)")
    scaled = _projected(estimate, target)
    return _ratio(_energy(scaled), _energy(estimate - _projected_on_all(estimate, target)), target, eps)


def sd_sdr(estimate: Waveform, target: Waveform, eps: float = 1e-12) -> Tensor:
    """Measure the scale-dependent ratio: as `si_sdr`, but a wrong gain counts as distortion.

    Args:
        estimate: (..., C, T).
        target: (..., C, T).
        eps: added to both energies, in squared full scale times samples.

    Returns:
        (...,), in dB; NaN where the target is silent.

    Source:
        Le Roux et al., SDR - half-baked or well done?, ICASSP 2019, eq. 9.
    """
    estimate, target = _aligned(estimate, target)
    return _ratio(_energy(_projected(estimate, target)), _energy(target - estimate), target, eps)


def improvement(score: Tensor, mixture_score: Tensor) -> Tensor:
    """Subtract what the unprocessed mixture scores as an estimate.

    Args:
        score: (...,), in dB, of the estimate.
        mixture_score: (...,), in dB, by the same metric with the mixture as estimate.

    Returns:
        (...,), in dB: SDRi, SI-SDRi, NSDR; NaN where either is NaN.

    Raises:
        ValueError: the shapes differ.
    """
    score, mixture_score = as_tensor(score, "score"), as_tensor(mixture_score, "mixture_score")
    if score.shape != mixture_score.shape:
        raise ValueError(
            f"score and mixture_score must have one shape, got {tuple(score.shape)} and {tuple(mixture_score.shape)}"
        )
    if not (score.is_floating_point() and mixture_score.is_floating_point()):
        raise ValueError(f"score and mixture_score must be in dB, got {score.dtype} and {mixture_score.dtype}")
    check_same_device(score=score, mixture_score=mixture_score)
    return score - mixture_score


def _aligned(estimate: Tensor, target: Tensor, wanted: str = "(..., C, T)") -> tuple[Tensor, Tensor]:
    """Check the shapes, and leave half precision, whose range is too short for energies."""
    estimate, target = take_waveforms(estimate, target, wanted)
    dtype = torch.promote_types(torch.promote_types(estimate.dtype, target.dtype), torch.float32)
    return estimate.to(dtype), target.to(dtype)


def _energy(waveform: Tensor) -> Tensor:
    return waveform.square().sum((-2, -1))


def _projected(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale the target to be the part of it that the estimate contains; a silent target stays silent."""
    energy = _energy(target)
    scale = (estimate * target).sum((-2, -1)) / torch.where(energy > 0, energy, 1.0)
    return scale[..., None, None] * target


def _projected_on_all(estimate: Tensor, target: Tensor) -> Tensor:
    """Project each estimate on the span of all targets, (..., S, C, T)."""
    sources = target.flatten(-2)  # (..., S, C * T)
    gram = sources @ sources.mT
    power = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    rounding = torch.finfo(gram.dtype).eps * torch.where(power > 0, power, 1.0)
    regular = gram + rounding * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    scales = torch.linalg.solve(regular, sources @ estimate.flatten(-2).mT)  # (..., target, estimate)
    return (scales.mT @ sources).view_as(target)


def _ratio(signal: Tensor, noise: Tensor, target: Tensor, eps: float) -> Tensor:
    check_range("eps", eps, 0)
    score = 10 * torch.log10((signal + eps) / (noise + eps))
    return torch.where((target == 0).all(-1).all(-1), torch.nan, score)
