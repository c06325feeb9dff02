"""Ratios of mean absolute errors of spectra in dB: the L1-SNR family in the frequency domain, and in both."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sepkit.losses._check import (
    check_above_0,
    check_at_least_0,
    check_choice,
    check_flags,
    check_range,
    check_reduction,
    check_resolutions,
    check_sizes,
    check_transform,
    check_waveforms,
    take,
)
from sepkit.losses._numeric import item_mean
from sepkit.losses._stft import ChunkSums, KernelSettings, Resolution, power, spectral_operator, total
from sepkit.losses._window import make_window
from sepkit.losses.composite import CompositeLoss
from sepkit.losses.l1snr import DB_PER_NEPER, L1SNRDBLoss, blend_l1, l1_snr, level_penalty, scale_gradient

# What both losses of a mix take.
_SHARED = ("lambda0", "delta_lambda", "l1snr_eps", "dbrms_eps", "lmin", "l1_weight", "ref_level")
_SPECTRAL = (
    "n_ffts", "hop_lengths", "win_lengths", "window_fn", "min_audio_length", "spec_reg_coef", "spec_ref_level",
    "mps_cpu_fallback",
)  # fmt: skip
# Mean absolute value of real stems' spectra (window of norm 1) over that of their waveforms.
_SPECTRAL_LEVEL = 0.19


def _plane_sums(spectrum: Tensor) -> list[Tensor]:
    """Add up the absolute real parts and the absolute imaginary parts of (R, N, F): (R,) each."""
    planes = torch.view_as_real(spectrum).abs()
    return list(planes.sum(1).sum(1).unbind(1))  # frames first, along memory


def _plane_gradients(spectrum: Tensor, sign: float) -> list[Tensor]:
    real, imaginary = spectrum.real.sgn().mul_(sign), spectrum.imag.sgn().mul_(sign)
    nothing = torch.zeros_like(real)
    return [torch.complex(real, nothing), torch.complex(nothing, imaginary)]


@spectral_operator("complex_l1", lambda options: (3, 3) if options[0] else (2, 2))
def _complex_l1(estimate: Tensor, target: Tensor, settings: KernelSettings) -> ChunkSums:
    """Sum |Re E| and |Im E| of the error, and |Re Y| and |Im Y|; with an option |X|^2 and |Y|^2 as well."""
    need_estimate, need_target = settings.needs
    error = estimate - target
    sums, target_sums = _plane_sums(error), _plane_sums(target)
    of_estimate = _plane_gradients(error, 1.0) if need_estimate else []
    of_target = _plane_gradients(error, -1.0) if need_target else []
    of_target_sums = _plane_gradients(target, 1.0) if need_target else []
    if settings.options[0]:
        sums.append(total(power(estimate)))
        target_sums.append(total(power(target)))
        if need_estimate:
            of_estimate.append(2.0 * estimate)
        if need_target:
            of_target.append(torch.zeros_like(target))
            of_target_sums.append(2.0 * target)
    return ChunkSums(sums, target_sums, (of_estimate, of_target + of_target_sums))


def _finite(signal: Tensor) -> Tensor:
    return torch.nan_to_num(signal, nan=0.0, posinf=1.0, neginf=-1.0)


class STFTL1SNRDBLoss(CompositeLoss):
    """Compare spectra at several resolutions by the L1-SNR of real plus that of imaginary parts, in dB, per item.

    A signal too short for a resolution (n_fft // 2 samples or less, or less than one hop) leaves it out; one that is
    too short for all, or shorter than `min_audio_length`, is compared by `L1SNRDBLoss`, about half as large.

    Args:
        name: a label, kept as an attribute.
        weight: factor of the loss.
        lambda0: weight of any difference of level.
        delta_lambda: what too quiet an estimate of an audible target adds to it.
        l1snr_eps: added to mean absolute values.
        dbrms_eps: added to mean squares of levels.
        lmin: level below which a target is not audible, dB.
        n_ffts: samples, one for each resolution.
        hop_lengths: samples.
        win_lengths: samples.
        window_fn: hann, hamming, blackman, bartlett or kaiser; it is divided by its root sum of squares.
        min_audio_length: samples below which waveforms are compared instead.
        use_regularization: add a penalty on the difference of levels of the spectra.
        spec_reg_coef: factor of the penalty.
        l1_weight: share of a plain L1 error, 0 to 1; at 1 nothing else remains, and the slope is lost.
        mps_cpu_fallback: must be left at True: nothing here uses what is wrong on MPS.
        ref_level: mean absolute value of a typical target.
        spec_ref_level: the same of its spectrum; None: 0.19 ref_level.
        check_finite: replace NaN by 0 and infinity by 1, which hides that a training has diverged.
        grad_scale: factor of the gradient alone.
        reduction: mean, sum or none, over items.

    Source:
        torch-l1-snr 0.2.1, with check_finite off.
    """

    def __init__(
        self,
        name: str | None = None,
        weight: float = 1.0,
        lambda0: float = 0.1,
        delta_lambda: float = 0.9,
        l1snr_eps: float = 1e-3,
        dbrms_eps: float = 1e-8,
        lmin: float = -60.0,
        n_ffts: Sequence[int] = (512, 1024, 2048),
        hop_lengths: Sequence[int] = (128, 256, 512),
        win_lengths: Sequence[int] = (512, 1024, 2048),
        window_fn: str = "hann",
        min_audio_length: int = 512,
        use_regularization: bool = False,
        spec_reg_coef: float = 0.1,
        l1_weight: float = 0.0,
        mps_cpu_fallback: bool = True,
        ref_level: float = 0.05,
        spec_ref_level: float | None = None,
        check_finite: bool = False,
        grad_scale: float = 1.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        resolutions = check_resolutions(n_ffts=n_ffts, hop_lengths=hop_lengths, win_lengths=win_lengths)
        for n_fft, hop_length, win_length in resolutions:
            check_transform(n_ffts=n_fft, hop_lengths=hop_length, win_lengths=win_length)
        check_choice("window_fn", window_fn, ("hann", "hamming", "blackman", "bartlett", "kaiser"))
        check_sizes(0, min_audio_length=min_audio_length)
        check_at_least_0(spec_reg_coef=spec_reg_coef)
        check_above_0(spec_ref_level=1.0 if spec_ref_level is None else spec_ref_level)
        check_flags(check_finite=check_finite)
        if not mps_cpu_fallback:
            raise ValueError("mps_cpu_fallback must be True, got False; leave it out, nothing is moved to the CPU")
        # Its checks are those of this class, and it takes over where signals are too short.
        shared = take(locals(), *_SHARED, "name", "weight", "use_regularization", "grad_scale", "reduction")
        self.waveform_loss = L1SNRDBLoss(reg_coef=spec_reg_coef, **shared)
        self.resolutions = nn.ModuleList(
            Resolution(n_fft, hop_length, _unit_window(window_fn, win_length))
            for n_fft, hop_length, win_length in resolutions
        )
        self.name, self.weight, self.grad_scale, self.reduction = name, weight, grad_scale, reduction
        self.l1_weight, self.eps, self.dbrms_eps = l1_weight, l1snr_eps, dbrms_eps
        self.min_audio_length, self.check_finite = min_audio_length, check_finite
        level = _SPECTRAL_LEVEL * ref_level if spec_ref_level is None else spec_ref_level
        self.l1_slope = 2.0 * DB_PER_NEPER / (level + l1snr_eps)
        self.penalty_weight = (1.0 - l1_weight) * spec_reg_coef if use_regularization else 0.0

    def _resolution_terms(self, resolution: Resolution, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compare (B, C, T) at one resolution: (B,) each."""
        n_items, n_channels, n_samples = estimate.shape
        penalize = self.penalty_weight > 0.0
        signals = (signal.reshape(-1, n_samples) for signal in (estimate, target))
        both = resolution.sums(_complex_l1, *signals, options=[penalize])
        n_bins = n_channels * resolution.n_frames(n_samples) * (resolution.n_fft // 2 + 1)
        errors, references = (part.view(n_items, n_channels, -1).sum(1) / n_bins for part in both)  # (B, 2 or 3)
        ratio = l1_snr(errors[:, :2], references[:, :2], self.eps).sum(1)
        blended = blend_l1(ratio, errors[:, :2].mean(1), l1_weight=self.l1_weight, slope=self.l1_slope)
        if not penalize:
            return {"ratio": blended}
        levels = (10.0 * (part[:, 2] + self.dbrms_eps).log10() for part in (errors, references))
        return {"ratio": blended, "level": self.penalty_weight * level_penalty(*levels, **self.waveform_loss.penalty)}

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms of each item of (B, ..., T), ratio and level: (B,) each."""
        check_waveforms(estimate, target, n_dims=2)
        if self.check_finite:
            estimate, target = _finite(estimate), _finite(target)
        n_samples = estimate.shape[-1]
        usable = [
            resolution
            for resolution in self.resolutions
            if n_samples >= max(self.min_audio_length, resolution.n_fft // 2 + 1, resolution.hop_length)
        ]
        if not usable:
            return self.waveform_loss.terms(estimate, target)
        signals = [signal.reshape(len(signal), -1, n_samples) for signal in (estimate, target)]
        all_terms = [self._resolution_terms(resolution, *signals) for resolution in usable]
        means = {name: torch.stack([terms[name] for terms in all_terms]).mean(0) for name in all_terms[0]}
        return {name: scale_gradient(self.weight * term, self.grad_scale) for name, term in means.items()}


def _unit_window(name: str, length: int) -> np.ndarray:
    window = make_window(f"{name}_window", length).astype(np.float64)
    return (window / math.sqrt(float((window * window).sum()))).astype(np.float32)


class MultiL1SNRDBLoss(CompositeLoss):
    """Mix `L1SNRDBLoss` of waveforms and `STFTL1SNRDBLoss` of spectra, where the arguments are explained.

    `spec_weight` is the share of the spectra, 0 to 1. `use_time_regularization` and `use_spec_regularization` penalize
    a difference of levels of waveforms and of spectra. `time_loss_params` and `spec_loss_params` are other arguments of
    the two. `time_loss_module` is an object that takes the place of `L1SNRDBLoss`, used as it is: without the penalty
    on levels and without `l1_weight`, with a warning unless both are off.

    Source:
        torch-l1-snr 0.2.1, with check_finite off.
    """

    def __init__(
        self,
        name: str | None = None,
        weight: float = 1.0,
        spec_weight: float = 0.5,
        l1_weight: float = 0.0,
        use_time_regularization: bool = True,
        use_spec_regularization: bool = False,
        lambda0: float = 0.1,
        delta_lambda: float = 0.9,
        l1snr_eps: float = 1e-3,
        dbrms_eps: float = 1e-8,
        lmin: float = -60.0,
        n_ffts: Sequence[int] = (512, 1024, 2048),
        hop_lengths: Sequence[int] = (128, 256, 512),
        win_lengths: Sequence[int] = (512, 1024, 2048),
        window_fn: str = "hann",
        min_audio_length: int = 512,
        spec_reg_coef: float = 0.1,
        time_loss_params: Mapping[str, Any] | None = None,
        spec_loss_params: Mapping[str, Any] | None = None,
        mps_cpu_fallback: bool = True,
        ref_level: float = 0.05,
        spec_ref_level: float | None = None,
        check_finite: bool = False,
        time_loss_module: nn.Module | None = None,
        grad_scale: float = 1.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_at_least_0(weight=weight)
        check_range("spec_weight", spec_weight, high=1.0)
        check_above_0(grad_scale=grad_scale)
        check_reduction(reduction)
        check_flags(check_finite=check_finite)
        shared = take(locals(), *_SHARED)
        spectral = take(locals(), *_SPECTRAL)
        if time_loss_module is not None:
            _check_time_loss(time_loss_module, time_loss_params, reduction)
            _warn_of_dropped(use_time_regularization, l1_weight)
        in_time = {**shared, "use_regularization": use_time_regularization, **(time_loss_params or {})}
        in_bins = {**shared, **spectral, "use_regularization": use_spec_regularization, **(spec_loss_params or {})}
        self.time_loss = time_loss_module or L1SNRDBLoss(name, reduction="none", **in_time)
        self.spec_loss = STFTL1SNRDBLoss(name, reduction="none", **in_bins)
        self.name, self.weight, self.spec_weight = name, weight, spec_weight
        self.grad_scale, self.reduction, self.check_finite = grad_scale, reduction, check_finite

    def _in_time(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare waveforms: (B,), or the scalar that a module gives for the whole batch."""
        values = self.time_loss(estimate, target)
        if not values.dim() and self.reduction == "mean":
            return values
        if not values.dim() or len(values) != len(estimate):
            raise ValueError(
                f"time_loss_module must give one value per item, {len(estimate)}, got shape {tuple(values.shape)}"
            )
        return item_mean(values)

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms of each item of (B, ..., T), time and spectrum: (B,) each."""
        check_waveforms(estimate, target, n_dims=2)
        if self.check_finite:
            estimate, target = _finite(estimate), _finite(target)
        terms = {}
        if self.spec_weight < 1.0:
            terms["time"] = (1.0 - self.spec_weight) * self._in_time(estimate, target)
        if self.spec_weight > 0.0:
            terms["spectrum"] = self.spec_weight * self.spec_loss(estimate, target)
        return {name: scale_gradient(self.weight * term, self.grad_scale) for name, term in terms.items()}


def _warn_of_dropped(use_time_regularization: bool, l1_weight: float) -> None:
    """Warn of what the built-in loss of waveforms computes, and the one in its place does not."""
    dropped = ["the penalty on levels (use_time_regularization)"] if use_time_regularization else []
    dropped += ["the share of a plain L1 error (l1_weight)"] if l1_weight else []
    if dropped:
        warnings.warn(
            f"time_loss_module is used as it is, without {' and '.join(dropped)} of L1SNRDBLoss; "
            "set use_time_regularization=False, and l1_weight in spec_loss_params, if this is meant",
            stacklevel=3,
        )


def _check_time_loss(module: nn.Module, params: Mapping[str, Any] | None, reduction: str) -> None:
    if params:
        raise ValueError("time_loss_params must be left out beside time_loss_module; give them to the module")
    if not isinstance(module, nn.Module):
        raise ValueError(f"time_loss_module must be a loss object, got {module!r}")
    if reduction != "mean" and getattr(module, "reduction", None) != "none":
        raise ValueError('time_loss_module must be built with reduction="none", which gives one value per item')
