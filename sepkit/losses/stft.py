"""Losses on magnitudes of spectra at one resolution, taken from waveforms: auraloss's family."""

import torch
from torch import Tensor

from sepkit.constant import Constant
from sepkit.losses._bank import chroma_bank, mel_bank, warn_of_empty_bands
from sepkit.losses._check import (
    check_above_0,
    check_at_least_0,
    check_choice,
    check_device,
    check_flags,
    check_reduction,
    check_sizes,
    check_transform,
    check_waveforms,
    take,
)
from sepkit.losses._magnitude_terms import NO_BAND, Magnitudes, Options, angle_terms, magnitude_sums, magnitude_terms
from sepkit.losses._numeric import full_precision, reduce, safe_sqrt
from sepkit.losses._stft import Resolution, power, total
from sepkit.losses._window import make_window
from sepkit.losses.composite import CompositeLoss
from sepkit.losses.filters import FIRFilter

TERMS = ("spectral_convergence", "log_magnitude", "linear_magnitude", "phase")
# What every loss that is made of `STFTLoss` hands on to it.
SHARED = (
    "w_sc", "w_log_mag", "w_lin_mag", "w_phs", "sample_rate", "scale_invariance", "eps", "reduction", "mag_distance",
    "device", "log_eps", "log_fac", "sc_reduction", "floor", "phase",
)  # fmt: skip


def _make_bank(scale: str | None, *, sample_rate: float | None, n_fft: int, n_bins: int | None) -> Constant | None:
    check_choice("scale", scale, (None, "mel", "chroma"))
    if scale is None:
        return None
    if sample_rate is None or n_bins is None:
        raise ValueError(f"scale {scale!r} needs sample_rate and n_bins, got {sample_rate} and {n_bins}; name both")
    if n_bins > n_fft:
        raise ValueError(f"n_bins must be 1 to the FFT size, {n_fft}, got {n_bins}")
    bank = (mel_bank if scale == "mel" else chroma_bank)(sample_rate, n_fft, n_bins)
    warn_of_empty_bands(bank, n_fft)
    return Constant(bank)


class STFTLoss(CompositeLoss):
    """Compare magnitudes of spectra: by their relative error, by their logarithms, linearly, and by phase.

    Spectral convergence is one ratio over the whole batch unless `sc_reduction` is item: then an item's value does
    not depend on the others. Below sqrt(eps) magnitudes are held, so a silent estimate gets no gradient unless
    `floor` is live.

    Args:
        fft_size: samples of a Fourier transform.
        hop_size: samples from frame to frame.
        win_length: samples of the window.
        window: a window of torch, such as hann_window, or what scipy.signal.get_window takes.
        w_sc: weight of spectral convergence |X - Y| / |Y|, norms over all bins and frames.
        w_log_mag: weight of the distance of natural logarithms.
        w_lin_mag: weight of the distance of magnitudes.
        w_phs: weight of the distance of phases.
        sample_rate: Hz, for `scale` and `perceptual_weighting`.
        scale: None, mel or chroma bands of magnitudes.
        n_bins: number of bands.
        perceptual_weighting: A-weight the waveforms first.
        scale_invariance: scale the target's magnitudes to fit the estimate's, channel by channel.
        eps: least power of a bin.
        output: loss, or full: the loss and its terms without weights, 0.0 where a weight is 0.
        reduction: mean or sum over bins, frames, channels and items, or none: one value per channel.
        mag_distance: L1 or L2, for logarithmic and linear magnitudes.
        device: where constants are put; they move with the module, and to where the signals are.
        log_eps: added inside the logarithm.
        log_fac: factor inside the logarithm.
        sc_reduction: batch or item, see above.
        floor: clamp or live: below the floor gradients flow as if at it, towards the target's phase.
        phase: mse, of angles as they are, which noise decides; or cosine, 1 - cos of the difference.

    Source:
        R. Yamamoto, E. Song, J. Kim, Probability density distillation with generative adversarial networks, 2019;
        means over bins, and the norm over the batch, as in auraloss.
    """

    def __init__(
        self,
        fft_size: int = 1024,
        hop_size: int = 256,
        win_length: int = 1024,
        window: str | float | tuple = "hann_window",
        w_sc: float = 1.0,
        w_log_mag: float = 1.0,
        w_lin_mag: float = 0.0,
        w_phs: float = 0.0,
        sample_rate: float | None = None,
        scale: str | None = None,
        n_bins: int | None = None,
        perceptual_weighting: bool = False,
        scale_invariance: bool = False,
        eps: float = 1e-8,
        output: str = "loss",
        reduction: str = "mean",
        mag_distance: str = "L1",
        device: torch.device | str | None = None,
        log_eps: float = 0.0,
        log_fac: float = 1.0,
        sc_reduction: str = "batch",
        floor: str = "clamp",
        phase: str = "mse",
    ) -> None:
        super().__init__()
        self.weights = dict(zip(TERMS, (w_sc, w_log_mag, w_lin_mag, w_phs), strict=True))
        check_at_least_0(w_sc=w_sc, w_log_mag=w_log_mag, w_lin_mag=w_lin_mag, w_phs=w_phs, log_eps=log_eps)
        check_above_0(eps=eps, log_fac=log_fac)
        if not any(self.weights.values()):
            raise ValueError(
                "one of w_sc, w_log_mag, w_lin_mag, w_phs must be above 0, got 0 for all; nothing is compared"
            )
        check_transform(fft_size=fft_size, hop_size=hop_size, win_length=win_length)
        if sample_rate is not None:
            check_above_0(sample_rate=sample_rate)
        if n_bins is not None:
            check_sizes(n_bins=n_bins)
        check_device(device)
        check_reduction(reduction)
        check_choice("output", output, ("loss", "full"))
        check_choice("mag_distance", mag_distance, ("L1", "L2"))
        check_choice("sc_reduction", sc_reduction, ("batch", "item"))
        check_choice("floor", floor, ("clamp", "live"))
        check_choice("phase", phase, ("mse", "cosine"))
        check_flags(scale_invariance=scale_invariance)
        if scale_invariance and floor == "live":
            raise ValueError('floor must be "clamp" with scale_invariance, got "live"; leave one out')
        self.resolution = Resolution(fft_size, hop_size, make_window(window, win_length))
        self.bank = _make_bank(scale, sample_rate=sample_rate, n_fft=fft_size, n_bins=n_bins)
        self.prefilter = make_prefilter(perceptual_weighting, sample_rate)
        flags = dict(zip(Options._fields, map(bool, self.weights.values()), strict=False))
        self.options = Options(
            **flags, squared=mag_distance == "L2", live=floor == "live", cosine=phase == "cosine",
            eps=eps, log_eps=log_eps, log_fac=log_fac,
        )  # fmt: skip
        self.scale_invariance, self.sc_reduction = scale_invariance, sc_reduction
        self.output, self.reduction = output, reduction
        self.to(device)

    def _scaled_sums(self, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the terms after the target's magnitudes were fitted, for which a whole spectrogram is needed."""
        options, bank = self.options, self.bank and self.bank(estimate)
        spectra = [self.resolution.spectrum(signal) for signal in (estimate, target)]
        bands = [power(spectrum).clamp(min=options.eps).sqrt() for spectrum in spectra]
        bands = [band if bank is None else (band @ bank).clamp(min=NO_BAND) for band in bands]
        gain = total(bands[0] * bands[1]) / total(bands[1] * bands[1])
        bands[1] = bands[1] * gain[:, None, None]
        sums, *_ = magnitude_terms(*bands, options, need_target=False)
        if options.phase:
            both = [Magnitudes(spectrum, options.eps) for spectrum in spectra]
            sums.append(angle_terms(*both, cosine=options.cosine, needs=(False, False))[0])
        target_sums = total(bands[1] * bands[1])[:, None] if options.convergence else gain.new_empty(len(gain), 0)
        return torch.stack(sums, 1), target_sums

    def unweighted(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the terms without weights, each reduced like the loss, of filtered (..., T)."""
        shape = estimate.shape[:-1]
        rows = [signal.reshape(-1, signal.shape[-1]) for signal in (estimate, target)]
        if self.scale_invariance:
            sums, target_sums = self._scaled_sums(*rows)
        else:
            tables = [] if self.bank is None else [self.bank(estimate)]
            sums, target_sums = self.resolution.sums(magnitude_sums, *rows, options=self.options, tables=tables)
        n_frames, n_bins = self.resolution.n_frames(estimate.shape[-1]), self.resolution.n_fft // 2 + 1
        n_bands = n_bins if self.bank is None else self.bank.values.shape[1]
        terms, names = {}, [name for name in TERMS if self.weights[name]]
        for name, per_row in zip(names, sums.unbind(1), strict=True):
            if name == "spectral_convergence":
                terms[name] = self._convergence(per_row, target_sums[:, 0], shape)
            elif self.reduction == "sum" and name != "phase":
                terms[name] = per_row.sum()
            else:
                mean = (per_row / (n_frames * (n_bins if name == "phase" else n_bands))).view(shape)
                terms[name] = mean if self.reduction == "none" else mean.mean()
        return terms

    def _convergence(self, error: Tensor, target_sum: Tensor, shape: torch.Size) -> Tensor:
        if self.sc_reduction == "item":
            return reduce(safe_sqrt(error / target_sum).view(shape), self.reduction)
        ratio = safe_sqrt(error.sum() / target_sum.sum())
        return ratio.expand(shape) if self.reduction == "none" else ratio

    def _compare(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        check_waveforms(estimate, target)
        return self.unweighted(*filtered(self.prefilter, estimate, target))

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms, of those in `TERMS` that have a weight."""
        return weighted(self._compare(estimate, target), self.weights)

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., T); returns a scalar, or (...) for reduction none; a tuple for output full."""
        if self.output == "loss":
            return super().forward(estimate, target)
        terms = self._compare(estimate, target)
        return sum(weighted(terms, self.weights).values()), *(terms.get(name, 0.0) for name in TERMS)


def make_prefilter(perceptual_weighting: bool, sample_rate: float | None) -> FIRFilter | None:
    """Make the A-weighting filter where it is wanted."""
    check_flags(perceptual_weighting=perceptual_weighting)
    if not perceptual_weighting:
        return None
    if sample_rate is None:
        raise ValueError("perceptual_weighting needs sample_rate, got None; name it in Hz")
    return FIRFilter("aw", fs=sample_rate)


def filtered(prefilter: FIRFilter | None, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Filter both signals where there is a filter."""
    return (estimate, target) if prefilter is None else prefilter(estimate, target)


def weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> dict[str, Tensor]:
    """Multiply terms by their weights."""
    return {name: weights[name] * term for name, term in terms.items()}


_ONE_RESOLUTION = ("fft_size", "hop_size", "win_length", "window", "perceptual_weighting", "output")


class MelSTFTLoss(STFTLoss):
    """Compare mel spectra: `STFTLoss` with `scale` mel and `n_mels` for `n_bins`; its arguments are explained there."""

    def __init__(
        self,
        sample_rate: float,
        fft_size: int = 1024,
        hop_size: int = 256,
        win_length: int = 1024,
        window: str | float | tuple = "hann_window",
        w_sc: float = 1.0,
        w_log_mag: float = 1.0,
        w_lin_mag: float = 0.0,
        w_phs: float = 0.0,
        n_mels: int = 128,
        perceptual_weighting: bool = False,
        scale_invariance: bool = False,
        eps: float = 1e-8,
        output: str = "loss",
        reduction: str = "mean",
        mag_distance: str = "L1",
        device: torch.device | str | None = None,
        log_eps: float = 0.0,
        log_fac: float = 1.0,
        sc_reduction: str = "batch",
        floor: str = "clamp",
        phase: str = "mse",
    ) -> None:
        check_above_0(sample_rate=sample_rate)
        check_sizes(n_mels=n_mels)
        super().__init__(scale="mel", n_bins=n_mels, **take(locals(), *_ONE_RESOLUTION, *SHARED))


class ChromaSTFTLoss(STFTLoss):
    """Compare spectra folded into pitch classes: `STFTLoss` with `scale` chroma, whose arguments it takes.

    `n_chroma`, classes in an octave, stands for `n_bins`.
    """

    def __init__(
        self,
        sample_rate: float,
        fft_size: int = 1024,
        hop_size: int = 256,
        win_length: int = 1024,
        window: str | float | tuple = "hann_window",
        w_sc: float = 1.0,
        w_log_mag: float = 1.0,
        w_lin_mag: float = 0.0,
        w_phs: float = 0.0,
        n_chroma: int = 12,
        perceptual_weighting: bool = False,
        scale_invariance: bool = False,
        eps: float = 1e-8,
        output: str = "loss",
        reduction: str = "mean",
        mag_distance: str = "L1",
        device: torch.device | str | None = None,
        log_eps: float = 0.0,
        log_fac: float = 1.0,
        sc_reduction: str = "batch",
        floor: str = "clamp",
        phase: str = "mse",
    ) -> None:
        check_above_0(sample_rate=sample_rate)
        check_sizes(n_chroma=n_chroma)
        super().__init__(scale="chroma", n_bins=n_chroma, **take(locals(), *_ONE_RESOLUTION, *SHARED))
