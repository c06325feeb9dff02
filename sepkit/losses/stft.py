"""Losses on magnitudes of spectra at one resolution, taken from waveforms: auraloss's family."""

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from sepkit.losses._bank import chroma_bank, mel_bank
from sepkit.losses._check import (
    check_choice,
    check_device,
    check_flag,
    check_range,
    check_reduction,
    check_size,
    check_transform,
    check_waveforms,
)
from sepkit.losses._magnitude_terms import NO_BAND, Magnitudes, Options, angle_terms, magnitude_sums, magnitude_terms
from sepkit.losses._numeric import full_precision, reduce, safe_sqrt
from sepkit.losses._stft import Constant, Resolution, power, total
from sepkit.losses._window import make_window
from sepkit.losses.filters import FIRFilter

TERMS = ("spectral_convergence", "log_magnitude", "linear_magnitude", "phase")


def _make_bank(scale: str | None, sample_rate: float | None, n_fft: int, n_bins: int | None) -> np.ndarray | None:
    check_choice("scale", scale, (None, "mel", "chroma"))
    if scale is None:
        return None
    if sample_rate is None or n_bins is None:
        raise ValueError(f"scale {scale!r} needs sample_rate and n_bins, got {sample_rate} and {n_bins}; name both")
    if n_bins > n_fft:
        raise ValueError(f"n_bins must be 1 to the FFT size, {n_fft}, got {n_bins}")
    return (mel_bank if scale == "mel" else chroma_bank)(sample_rate, n_fft, n_bins)


def _warn_of_empty_bands(bank: np.ndarray | None, n_fft: int) -> None:
    n_empty = 0 if bank is None else int((bank.sum(0) == 0).sum())
    if n_empty:
        warnings.warn(
            f"{n_empty} of {bank.shape[1]} bands hold no bin of a transform of {n_fft} samples and count as equal; "
            "take fewer bands or a longer transform",
            stacklevel=4,
        )


class STFTLoss(nn.Module):
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
        phase: mse, of unwrapped angles, which hears noise above all; or cosine, 1 - cos of the difference.

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
        _check_terms(w_sc, w_log_mag, w_lin_mag, w_phs, eps, log_eps, log_fac)
        check_transform(fft_size=fft_size, hop_size=hop_size, win_length=win_length)
        _check_bands(sample_rate, n_bins)
        check_device(device)
        check_reduction(reduction)
        check_choice("output", output, ("loss", "full"))
        check_choice("mag_distance", mag_distance, ("L1", "L2"))
        check_choice("sc_reduction", sc_reduction, ("batch", "item"))
        check_choice("floor", floor, ("clamp", "live"))
        check_choice("phase", phase, ("mse", "cosine"))
        check_flag("scale_invariance", scale_invariance)
        if scale_invariance and floor == "live":
            raise ValueError('floor must be "clamp" with scale_invariance, got "live"; leave one out')
        self.resolution = Resolution(fft_size, hop_size, make_window(window, win_length))
        bank = _make_bank(scale, sample_rate, fft_size, n_bins)
        _warn_of_empty_bands(bank, fft_size)
        self.bank = None if bank is None else Constant(bank)
        self.prefilter = make_prefilter(perceptual_weighting, sample_rate)
        self.weights = dict(zip(TERMS, (w_sc, w_log_mag, w_lin_mag, w_phs), strict=True))
        flags = *self.weights.values(), mag_distance == "L2", floor == "live", phase == "cosine"
        self.options = [*(float(flag > 0) for flag in flags), eps, log_eps, log_fac]
        self.scale_invariance, self.sc_reduction = scale_invariance, sc_reduction
        self.output, self.reduction = output, reduction
        self.to(device)

    def _scaled_sums(self, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the terms after the target's magnitudes were fitted, for which a whole spectrogram is needed."""
        which, bank = Options(self.options), self.bank and self.bank(estimate)
        spectra = [self.resolution.spectrum(signal) for signal in (estimate, target)]
        bands = [power(spectrum).clamp(min=which.eps).sqrt() for spectrum in spectra]
        bands = [band if bank is None else (band @ bank).clamp(min=NO_BAND) for band in bands]
        gain = total(bands[0] * bands[1]) / total(bands[1] * bands[1])
        bands[1] = bands[1] * gain[:, None, None]
        sums, *_ = magnitude_terms(*bands, which, False)
        if which.phase:
            both = [Magnitudes(spectrum, which.eps) for spectrum in spectra]
            sums.append(angle_terms(*both, which.cosine, (False, False))[0])
        references = [total(bands[1] * bands[1])] if which.convergence else []
        return torch.stack(sums, 1), torch.stack(references, 1) if references else sums[0].new_empty(len(gain), 0)

    def _sums(self, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self.scale_invariance:
            return self._scaled_sums(estimate, target)
        tables = [] if self.bank is None else [self.bank(estimate)]
        return self.resolution.sums(magnitude_sums, estimate, target, self.options, tables)

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the terms without weights, each reduced like the loss, for filtered (..., T)."""
        shape = estimate.shape[:-1]
        rows = [signal.reshape(-1, signal.shape[-1]) for signal in (estimate, target)]
        sums, references = self._sums(*rows)
        n_frames = self.resolution.n_frames(estimate.shape[-1])
        n_elements = {name: n_frames * self._n_bands(name) for name in TERMS}
        found, names = {}, [name for name in TERMS if self.weights[name]]
        for name, per_row in zip(names, sums.unbind(1), strict=True):
            if name == "spectral_convergence":
                found[name] = self._convergence(per_row, references[:, 0], shape)
            elif self.reduction == "sum" and name != "phase":
                found[name] = per_row.sum()
            else:
                mean = (per_row / n_elements[name]).view(shape)
                found[name] = mean if self.reduction == "none" else mean.mean()
        return found

    def _n_bands(self, name: str) -> int:
        if self.bank is None or name == "phase":
            return self.resolution.n_fft // 2 + 1
        return self.bank.values.shape[1]

    def _convergence(self, error: Tensor, reference: Tensor, shape: torch.Size) -> Tensor:
        if self.sc_reduction == "item":
            return reduce(safe_sqrt(error / reference).view(shape), self.reduction)
        ratio = safe_sqrt(error.sum() / reference.sum())
        return ratio.expand(shape) if self.reduction == "none" else ratio

    @full_precision
    def parts(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the weighted terms that add up to the loss, of those in `TERMS` that have a weight."""
        check_waveforms(estimate, target)
        estimate, target = filtered(self.prefilter, estimate, target)
        return {name: self.weights[name] * term for name, term in self.terms(estimate, target).items()}

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., T); returns a scalar, or (...) for reduction none; a tuple for output full."""
        check_waveforms(estimate, target)
        estimate, target = filtered(self.prefilter, estimate, target)
        found = self.terms(estimate, target)
        loss = weighted(found, self.weights)
        return loss if self.output == "loss" else (loss, *(found.get(name, 0.0) for name in TERMS))


def _check_terms(
    w_sc: float, w_log_mag: float, w_lin_mag: float, w_phs: float, eps: float, log_eps: float, log_fac: float
) -> None:
    for name, weight in (
        ("w_sc", w_sc),
        ("w_log_mag", w_log_mag),
        ("w_lin_mag", w_lin_mag),
        ("w_phs", w_phs),
    ):
        check_range(name, weight)
    if not (w_sc or w_log_mag or w_lin_mag or w_phs):
        raise ValueError("one of w_sc, w_log_mag, w_lin_mag, w_phs must be above 0, got 0 for all; nothing is compared")
    check_range("eps", eps, above=True)
    check_range("log_eps", log_eps)
    check_range("log_fac", log_fac, above=True)


def _check_bands(sample_rate: float | None, n_bins: int | None) -> None:
    if sample_rate is not None:
        check_range("sample_rate", sample_rate, above=True)
    if n_bins is not None:
        check_size("n_bins", n_bins)


def make_prefilter(perceptual_weighting: bool, sample_rate: float | None) -> FIRFilter | None:
    """Make the A-weighting filter where it is wanted."""
    check_flag("perceptual_weighting", perceptual_weighting)
    if not perceptual_weighting:
        return None
    if sample_rate is None:
        raise ValueError("perceptual_weighting needs sample_rate, got None; name it in Hz")
    return FIRFilter("aw", fs=sample_rate)


def filtered(prefilter: FIRFilter | None, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Filter both signals where there is a filter."""
    return (estimate, target) if prefilter is None else prefilter(estimate, target)


def weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """Add up terms with their weights."""
    first, *others = (weights[name] * term for name, term in terms.items())
    return sum(others, first)


class MelSTFTLoss(nn.Module):
    """Compare mel spectra: `STFTLoss` with `scale` mel, whose arguments it takes.

    Args:
        sample_rate: Hz.
        fft_size: samples of a Fourier transform.
        hop_size: samples from frame to frame.
        win_length: samples of the window.
        window: a window of torch or scipy.
        w_sc: weight of spectral convergence.
        w_log_mag: weight of the distance of logarithms.
        w_lin_mag: weight of the distance of magnitudes.
        w_phs: weight of the distance of phases.
        n_mels: number of bands.
        perceptual_weighting: A-weight the waveforms first.
        scale_invariance: scale the target's magnitudes to fit.
        eps: least power of a bin.
        output: loss or full.
        reduction: mean, sum or none.
        mag_distance: L1 or L2.
        device: where constants are put.
        log_eps: added inside the logarithm.
        log_fac: factor inside the logarithm.
        sc_reduction: batch or item.
        floor: clamp or live.
        phase: mse or cosine.
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
        super().__init__()
        check_range("sample_rate", sample_rate, above=True)
        check_size("n_mels", n_mels)
        self.loss = STFTLoss(
            fft_size, hop_size, win_length, window, w_sc, w_log_mag, w_lin_mag, w_phs, sample_rate, "mel", n_mels,
            perceptual_weighting, scale_invariance, eps, output, reduction, mag_distance, device, log_eps, log_fac,
            sc_reduction, floor, phase,
        )  # fmt: skip
        self.reduction = reduction

    def parts(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the weighted terms that add up to the loss."""
        return self.loss.parts(estimate, target)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., T); returns what `STFTLoss` does."""
        return self.loss(estimate, target)


class ChromaSTFTLoss(nn.Module):
    """Compare spectra folded into pitch classes: `STFTLoss` with `scale` chroma, whose arguments it takes.

    Args:
        sample_rate: Hz.
        fft_size: samples of a Fourier transform.
        hop_size: samples from frame to frame.
        win_length: samples of the window.
        window: a window of torch or scipy.
        w_sc: weight of spectral convergence.
        w_log_mag: weight of the distance of logarithms.
        w_lin_mag: weight of the distance of magnitudes.
        w_phs: weight of the distance of phases.
        n_chroma: classes in an octave.
        perceptual_weighting: A-weight the waveforms first.
        scale_invariance: scale the target's magnitudes to fit.
        eps: least power of a bin.
        output: loss or full.
        reduction: mean, sum or none.
        mag_distance: L1 or L2.
        device: where constants are put.
        log_eps: added inside the logarithm.
        log_fac: factor inside the logarithm.
        sc_reduction: batch or item.
        floor: clamp or live.
        phase: mse or cosine.
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
        super().__init__()
        check_range("sample_rate", sample_rate, above=True)
        check_size("n_chroma", n_chroma)
        self.loss = STFTLoss(
            fft_size, hop_size, win_length, window, w_sc, w_log_mag, w_lin_mag, w_phs, sample_rate, "chroma", n_chroma,
            perceptual_weighting, scale_invariance, eps, output, reduction, mag_distance, device, log_eps, log_fac,
            sc_reduction, floor, phase,
        )  # fmt: skip
        self.reduction = reduction

    def parts(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the weighted terms that add up to the loss."""
        return self.loss.parts(estimate, target)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., T); returns what `STFTLoss` does."""
        return self.loss(estimate, target)
