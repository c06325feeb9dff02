"""Losses on magnitudes of spectra at one or several resolutions, taken from waveforms: auraloss's family."""

import random
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from sepkit.losses._bank import chroma_bank, mel_bank
from sepkit.losses._check import check_choice, check_flag, check_range, check_reduction, check_waveforms
from sepkit.losses._numeric import full_precision, reduce, safe_sqrt
from sepkit.losses._stft import ChunkSums, Constant, Resolution, power, spectral_operator, total
from sepkit.losses._window import make_window
from sepkit.losses.perceptual import FIRFilter, SumAndDifference

TERMS = ("spectral_convergence", "log_magnitude", "linear_magnitude", "phase")
# Mel bands without a single bin are held here in both signals, so that they say nothing.
_NO_BAND = 1e-30

_DEFAULT_WINDOWS = ("hann_window", "bartlett_window", "blackman_window", "hamming_window", "kaiser_window")


class _Options:
    """The options of `_magnitude_sums` by name; they travel as numbers."""

    def __init__(self, options: Sequence[float]) -> None:
        self.convergence, self.log, self.linear, self.phase = (flag > 0 for flag in options[:4])
        self.squared, self.live, self.cosine = (flag > 0 for flag in options[4:7])
        self.eps, self.log_eps, self.log_fac = options[7:]


def _count(options: Sequence[float]) -> tuple[int, int]:
    return sum(flag > 0 for flag in options[:4]), int(options[0])


def _distance(difference: Tensor, squared: bool) -> tuple[Tensor, Tensor]:
    """Sum |d| or d^2, with the slope."""
    if squared:
        return total(difference * difference), 2.0 * difference
    return total(difference.abs()), difference.sgn()


def _log_distance(
    estimate: Tensor, target: Tensor, which: _Options, need_target: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sum the distance of logarithms, with the slopes with respect to estimate and target."""
    fac = which.log_fac
    if which.log_eps or fac != 1.0:
        estimate, target = (fac * magnitude + which.log_eps for magnitude in (estimate, target))
    value, slope = _distance((estimate / target).log(), which.squared)
    of_target = (slope / target).mul_(-fac) if need_target else None
    return value, (slope / estimate).mul_(fac), of_target


def _magnitude_terms(
    estimate: Tensor, target: Tensor, which: _Options, need_target: bool
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Sum the distances of magnitudes (R, N, M), with the slopes with respect to estimate and target."""
    difference = estimate - target
    found: list[tuple] = []
    if which.convergence:
        found.append((*_distance(difference, True), None))
    if which.log:
        found.append(_log_distance(estimate, target, which, need_target))
    if which.linear:
        found.append((*_distance(difference, which.squared), None))
    sums, slopes = [term[0] for term in found], [term[1] for term in found]
    of_target = [-slope if special is None else special for _, slope, special in found] if need_target else []
    return sums, slopes, of_target


class _Magnitudes:
    """The floored magnitudes of a chunk, and the way back from their slopes to those of the spectrum."""

    def __init__(self, spectrum: Tensor, eps: float) -> None:
        self.spectrum, self.power = spectrum, power(spectrum)
        self.floored = self.power.clamp(min=eps)
        self.values = self.floored.sqrt()
        self.eps = eps

    def scale(self) -> Tensor:
        """Give 1 / |X|, and 0 below the floor."""
        return (self.power - self.eps).sgn_().relu_().div_(self.values)

    def to_spectrum(
        self, slopes: list[Tensor], bank: Tensor | None, guide: "_Magnitudes | None"
    ) -> list[Tensor]:
        """Turn slopes of magnitudes, or of bands of them, into slopes of the spectrum.

        Args:
            slopes: (R, N, F), or (R, N, M) with a bank.
            bank: (F, M).
            guide: whose phase a bin below the floor is to take; without one it gets no slope.
        """
        if bank is not None:
            slopes = [slope @ bank.T for slope in slopes]
        if guide is None:
            scale = self.scale()
            return [self.spectrum * slope.mul_(scale) for slope in slopes]
        above = self.power >= self.eps
        direction = torch.where(above, self.spectrum / self.values, guide.spectrum / guide.values)
        return [direction * slope for slope in slopes]


def _angle_terms(
    estimate: _Magnitudes, target: _Magnitudes, cosine: bool, needs: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """Sum a distance of phases, with the slopes with respect to both spectra."""
    both = (estimate, target)
    if not cosine:
        difference = estimate.spectrum.angle() - target.spectrum.angle()
        slopes = [
            torch.where(it.power > 0, 2.0 * sign * difference / it.power, 0.0) * (1j * it.spectrum)
            if need
            else None
            for it, sign, need in zip(both, (1.0, -1.0), needs, strict=True)
        ]
        return total(difference * difference), slopes
    norm = (estimate.values * target.values).reciprocal_()
    # No conj(): below a compiler's graph torch leaves its lazy flag unheeded.
    planes = [torch.view_as_real(it.spectrum) for it in both]
    likeness = (planes[0] * planes[1]).sum(-1) * norm
    slopes = [
        it.spectrum * (likeness * it.scale() / it.values) - other.spectrum * norm if need else None
        for it, other, need in zip(both, both[::-1], needs, strict=True)
    ]
    return total(1.0 - likeness), slopes


@spectral_operator("magnitude_sums", _count)
def _magnitude_sums(
    estimate: Tensor,
    target: Tensor,
    options: Sequence[float],
    tables: Sequence[Tensor],
    needs: Sequence[bool],
) -> ChunkSums:
    """Sum the terms that the options name; with a table, of bands of magnitudes instead of magnitudes."""
    which, bank = _Options(options), tables[0] if tables else None
    both = _Magnitudes(estimate, which.eps), _Magnitudes(target, which.eps)
    bands = [it.values if bank is None else (it.values @ bank).clamp_(min=_NO_BAND) for it in both]
    sums, *slopes = _magnitude_terms(*bands, which, needs[1])
    references = [total(bands[1] * bands[1])] if which.convergence else []
    guides = (both[1], both[0]) if which.live else (None, None)
    found = [
        it.to_spectrum(of_it, bank, guide) if need else []
        for it, of_it, guide, need in zip(both, slopes, guides, needs, strict=True)
    ]
    if which.phase:
        angle_sum, angle_slopes = _angle_terms(*both, which.cosine, needs)
        sums.append(angle_sum)
        found = [
            of_it if slope is None else [*of_it, slope]
            for of_it, slope in zip(found, angle_slopes, strict=True)
        ]
    if which.convergence and needs[1]:
        found[1] += both[1].to_spectrum([2.0 * bands[1]], bank, None)
    return ChunkSums(sums, references, *found)


def _make_bank(
    scale: str | None, sample_rate: float | None, n_fft: int, n_bins: int | None
) -> np.ndarray | None:
    check_choice("scale", scale, (None, "mel", "chroma"))
    if scale is None:
        return None
    if sample_rate is None or n_bins is None:
        raise ValueError(
            f"scale {scale!r} needs sample_rate and n_bins, got {sample_rate} and {n_bins}; name both"
        )
    check_range("sample_rate", sample_rate, above=True)
    if not 1 <= n_bins <= n_fft:
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
        self.prefilter = _make_prefilter(perceptual_weighting, sample_rate)
        self.weights = dict(zip(TERMS, (w_sc, w_log_mag, w_lin_mag, w_phs), strict=True))
        flags = *self.weights.values(), mag_distance == "L2", floor == "live", phase == "cosine"
        self.options = [*(float(flag > 0) for flag in flags), eps, log_eps, log_fac]
        self.scale_invariance, self.sc_reduction = scale_invariance, sc_reduction
        self.output, self.reduction = output, reduction
        self.to(device)

    def _scaled_sums(self, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the terms after the target's magnitudes were fitted, for which a whole spectrogram is needed."""
        which, bank = _Options(self.options), self.bank and self.bank(estimate)
        spectra = [self.resolution.spectrum(signal) for signal in (estimate, target)]
        bands = [power(spectrum).clamp(min=which.eps).sqrt() for spectrum in spectra]
        bands = [band if bank is None else (band @ bank).clamp(min=_NO_BAND) for band in bands]
        gain = total(bands[0] * bands[1]) / total(bands[1] * bands[1])
        bands[1] = bands[1] * gain[:, None, None]
        sums, *_ = _magnitude_terms(*bands, which, False)
        if which.phase:
            both = [_Magnitudes(spectrum, which.eps) for spectrum in spectra]
            sums.append(_angle_terms(*both, which.cosine, (False, False))[0])
        references = [total(bands[1] * bands[1])] if which.convergence else []
        return torch.stack(sums, 1), torch.stack(references, 1) if references else sums[0].new_empty(
            len(gain), 0
        )

    def _sums(self, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self.scale_invariance:
            return self._scaled_sums(estimate, target)
        tables = [] if self.bank is None else [self.bank(estimate)]
        return self.resolution.sums(_magnitude_sums, estimate, target, self.options, tables)

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
        estimate, target = _filtered(self.prefilter, estimate, target)
        return {name: self.weights[name] * term for name, term in self.terms(estimate, target).items()}

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., T); returns a scalar, or (...) for reduction none; a tuple for output full."""
        check_waveforms(estimate, target)
        estimate, target = _filtered(self.prefilter, estimate, target)
        found = self.terms(estimate, target)
        loss = _weighted(found, self.weights)
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
        raise ValueError(
            "one of w_sc, w_log_mag, w_lin_mag, w_phs must be above 0, got 0 for all; nothing is compared"
        )
    check_range("eps", eps, above=True)
    check_range("log_eps", log_eps)
    check_range("log_fac", log_fac, above=True)


def _make_prefilter(perceptual_weighting: bool, sample_rate: float | None) -> FIRFilter | None:
    check_flag("perceptual_weighting", perceptual_weighting)
    if not perceptual_weighting:
        return None
    if sample_rate is None:
        raise ValueError("perceptual_weighting needs sample_rate, got None; name it in Hz")
    return FIRFilter("aw", fs=sample_rate)


def _filtered(prefilter: FIRFilter | None, estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return (estimate, target) if prefilter is None else prefilter(estimate, target)


def _weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
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


def _each(value: object, n: int) -> list:
    """Repeat a single value, or take a list of n."""
    return list(value) if isinstance(value, (list, tuple)) else [value] * n


def _check_sizes(fft_sizes: Sequence[int], hop_sizes: Sequence[int], win_lengths: Sequence[int]) -> None:
    if not len(fft_sizes) == len(hop_sizes) == len(win_lengths) > 0:
        raise ValueError(
            "fft_sizes, hop_sizes and win_lengths must be lists of one length, "
            f"got {list(fft_sizes)}, {list(hop_sizes)}, {list(win_lengths)}"
        )


class MultiResolutionSTFTLoss(nn.Module):
    """Average `STFTLoss` over several resolutions.

    Args:
        fft_sizes: samples, one for each resolution.
        hop_sizes: samples.
        win_lengths: samples.
        window: a window of torch or scipy.
        w_sc: weight of spectral convergence.
        w_log_mag: weight of the distance of logarithms.
        w_lin_mag: weight of the distance of magnitudes.
        w_phs: weight of the distance of phases.
        sample_rate: Hz, for `scale` and `perceptual_weighting`.
        scale: None, mel or chroma.
        n_bins: number of bands, or a list with one number for each resolution.
        perceptual_weighting: A-weight the waveforms first.
        scale_invariance: scale the target's magnitudes to fit.
        eps: least power of a bin.
        output: loss, or full: the loss and a list for each term.
        reduction: mean, sum or none.
        mag_distance: L1 or L2.
        device: where constants are put.
        log_eps: added inside the logarithm.
        log_fac: factor inside the logarithm.
        sc_reduction: batch or item.
        floor: clamp or live.
        phase: mse or cosine.

    Source:
        R. Yamamoto, E. Song, J. Kim, Parallel WaveGAN, 2020, eq. 6, as in auraloss.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = (1024, 2048, 512),
        hop_sizes: Sequence[int] = (120, 240, 50),
        win_lengths: Sequence[int] = (600, 1200, 240),
        window: str | float | tuple = "hann_window",
        w_sc: float = 1.0,
        w_log_mag: float = 1.0,
        w_lin_mag: float = 0.0,
        w_phs: float = 0.0,
        sample_rate: float | None = None,
        scale: str | None = None,
        n_bins: int | Sequence[int] | None = None,
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
        _check_sizes(fft_sizes, hop_sizes, win_lengths)
        sizes = zip(fft_sizes, hop_sizes, win_lengths, _each(n_bins, len(fft_sizes)), strict=True)
        self.stft_losses = nn.ModuleList(
            STFTLoss(
                fft_size, hop_size, win_length, window, w_sc, w_log_mag, w_lin_mag, w_phs, sample_rate, scale, bins,
                False, scale_invariance, eps, output, reduction, mag_distance, device, log_eps, log_fac,
                sc_reduction, floor, phase,
            )
            for fft_size, hop_size, win_length, bins in sizes
        )  # fmt: skip
        # The filter is the same at all resolutions, so it runs once.
        self.prefilter = _make_prefilter(perceptual_weighting, sample_rate)
        self.output, self.reduction = output, reduction

    def _terms(self, estimate: Tensor, target: Tensor) -> list[dict[str, Tensor]]:
        check_waveforms(estimate, target)
        estimate, target = _filtered(self.prefilter, estimate, target)
        return [loss.terms(estimate, target) for loss in self.stft_losses]

    @full_precision
    def parts(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the weighted terms that add up to the loss, of those in `TERMS` that have a weight."""
        found, weights = self._terms(estimate, target), self.stft_losses[0].weights
        return {name: weights[name] * _mean([terms[name] for terms in found]) for name in found[0]}

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., T); returns a scalar, or (...) for reduction none; a tuple for output full."""
        found, weights = self._terms(estimate, target), self.stft_losses[0].weights
        loss = _mean([_weighted(terms, weights) for terms in found])
        if self.output == "loss":
            return loss
        return loss, *([terms.get(name, 0.0) for terms in found] for name in TERMS)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


class SumAndDifferenceSTFTLoss(nn.Module):
    """Compare the sum and the difference of two channels by `MultiResolutionSTFTLoss`, and average the two.

    Args:
        fft_sizes: samples, one for each resolution.
        hop_sizes: samples.
        win_lengths: samples.
        window: a window of torch or scipy.
        w_sum: weight of the sum.
        w_diff: weight of the difference.
        output: loss, or full: the loss, that of the sum, that of the difference, without weights.
        w_sc: weight of spectral convergence.
        w_log_mag: weight of the distance of logarithms.
        w_lin_mag: weight of the distance of magnitudes.
        w_phs: weight of the distance of phases.
        sample_rate: Hz, for `scale` and `perceptual_weighting`.
        scale: None, mel or chroma.
        n_bins: number of bands, or a list with one number for each resolution.
        perceptual_weighting: A-weight the waveforms first.
        scale_invariance: scale the target's magnitudes to fit.
        eps: least power of a bin.
        reduction: mean, sum or none.
        mag_distance: L1 or L2.
        device: where constants are put.
        log_eps: added inside the logarithm.
        log_fac: factor inside the logarithm.
        sc_reduction: batch or item.
        floor: clamp or live.
        phase: mse or cosine.

    Source:
        C. Steinmetz, J. Pons, S. Pascual, J. Serra, Automatic multitrack mixing with a differentiable mixing console
        of neural audio effects, 2021, eq. 7; halved, as in auraloss.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int],
        hop_sizes: Sequence[int],
        win_lengths: Sequence[int],
        window: str | float | tuple = "hann_window",
        w_sum: float = 1.0,
        w_diff: float = 1.0,
        output: str = "loss",
        w_sc: float = 1.0,
        w_log_mag: float = 1.0,
        w_lin_mag: float = 0.0,
        w_phs: float = 0.0,
        sample_rate: float | None = None,
        scale: str | None = None,
        n_bins: int | Sequence[int] | None = None,
        perceptual_weighting: bool = False,
        scale_invariance: bool = False,
        eps: float = 1e-8,
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
        check_range("w_sum", w_sum)
        check_range("w_diff", w_diff)
        check_choice("output", output, ("loss", "full"))
        self.split = SumAndDifference()
        self.loss = MultiResolutionSTFTLoss(
            fft_sizes, hop_sizes, win_lengths, window, w_sc, w_log_mag, w_lin_mag, w_phs, sample_rate, scale, n_bins,
            perceptual_weighting, scale_invariance, eps, "loss", reduction, mag_distance, device, log_eps, log_fac,
            sc_reduction, floor, phase,
        )  # fmt: skip
        self.weights = {"sum": w_sum / 2.0, "difference": w_diff / 2.0}
        self.output, self.reduction = output, reduction

    def _terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        check_waveforms(estimate, target, n_dims=2)
        signals = zip(self.split(estimate), self.split(target), strict=True)
        found = [self.loss(*pair) for pair in signals]
        if self.reduction == "none":
            found = [values.squeeze(-1) for values in found]
        return dict(zip(("sum", "difference"), found, strict=True))

    @full_precision
    def parts(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the weighted terms that add up to the loss: sum, difference."""
        return {name: self.weights[name] * term for name, term in self._terms(estimate, target).items()}

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., 2, T); returns a scalar, or (...) for reduction none; a tuple for output full."""
        found = self._terms(estimate, target)
        loss = _weighted(found, self.weights)
        return loss if self.output == "loss" else (loss, *found.values())


@spectral_operator("complex_distance", lambda _: (1, 0))
def _complex_distance(
    estimate: Tensor, target: Tensor, _: Sequence[float], __: Sequence[Tensor], needs: Sequence[bool]
) -> ChunkSums:
    """Sum the magnitudes of the error."""
    error = estimate - target
    magnitude = power(error).sqrt_()
    direction = error / torch.where(magnitude > 0, magnitude, 1.0)
    slopes = [[sign * direction] if need else [] for sign, need in zip((1.0, -1.0), needs, strict=True)]
    return ChunkSums([total(magnitude)], [], *slopes)


class MultiResolutionComplexSTFTLoss(nn.Module):
    """Add up the mean magnitudes of the error's complex spectra at several resolutions.

    Args:
        window_sizes: samples of the windows, one for each resolution.
        n_fft: least size of a Fourier transform; a longer window has one of its own length.
        hop_length: samples from frame to frame, at all resolutions.
        window: a window of torch or scipy.
        normalized: divide spectra by the root of the transform's size.
        reduction: mean, sum or none, over items.

    Source:
        W. Lu, J. Wang, Q. Kong, Y. Hung, Music source separation with band-split RoPE transformer, 2024, section 3.4,
        as in the widely used code of the RoFormers, there beside a plain L1 of waveforms.
    """

    def __init__(
        self,
        window_sizes: Sequence[int] = (4096, 2048, 1024, 512, 256),
        n_fft: int = 2048,
        hop_length: int = 147,
        window: str | float | tuple = "hann_window",
        normalized: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_flag("normalized", normalized)
        check_reduction(reduction)
        if not window_sizes:
            raise ValueError("window_sizes must name at least one size, got none")
        self.resolutions = nn.ModuleList(
            Resolution(max(size, n_fft), hop_length, make_window(window, size)) for size in window_sizes
        )
        self.names = [f"window_{size}" for size in window_sizes]
        self.normalized, self.reduction = normalized, reduction

    def _terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compare at each resolution: (B,) each."""
        check_waveforms(estimate, target, n_dims=2)
        rows = [signal.reshape(-1, signal.shape[-1]) for signal in (estimate, target)]
        found = {}
        for name, resolution in zip(self.names, self.resolutions, strict=True):
            sums, _ = resolution.sums(_complex_distance, *rows)
            n_bins = resolution.n_frames(rows[0].shape[1]) * (resolution.n_fft // 2 + 1)
            scale = resolution.n_fft**-0.5 if self.normalized else 1.0
            found[name] = (sums * (scale / n_bins)).view(len(estimate), -1).mean(1)
        return found

    @full_precision
    def parts(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the terms that add up to the loss: window_4096 and so on."""
        return {name: reduce(term, self.reduction) for name, term in self._terms(estimate, target).items()}

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare (B, ..., T); returns a scalar, or (B,) for reduction none."""
        first, *others = self._terms(estimate, target).values()
        return reduce(sum(others, first), self.reduction)


class RandomResolutionSTFTLoss(nn.Module):
    """Average `STFTLoss` over resolutions that are drawn anew every few calls.

    Args:
        resolutions: number of resolutions.
        min_fft_size: smallest transform, a power of 2.
        max_fft_size: largest transform, a power of 2; a signal needs more than half of its samples.
        min_hop_size: smallest hop, as a share of the transform.
        max_hop_size: largest hop.
        windows: names to draw from.
        w_sc: weight of spectral convergence.
        w_log_mag: weight of the distance of logarithms.
        w_lin_mag: weight of the distance of magnitudes.
        w_phs: weight of the distance of phases.
        sample_rate: Hz, for `scale` and `perceptual_weighting`.
        scale: None, mel or chroma.
        n_mels: number of bands; at most an eighth of a transform is used.
        randomize_rate: calls between draws.
        perceptual_weighting: A-weight the waveforms first.
        scale_invariance: scale the target's magnitudes to fit.
        eps: least power of a bin.
        reduction: mean, sum or none.
        mag_distance: L1 or L2.
        device: where constants are put.
        log_eps: added inside the logarithm.
        log_fac: factor inside the logarithm.
        sc_reduction: batch or item.
        floor: clamp or live.
        phase: mse or cosine.
        seed: of the loss's own draws.

    Source:
        C. Steinmetz, J. Reiss, auraloss: audio focused loss functions in PyTorch, 2020; the largest size is drawn
        too, and nothing global is random.
    """

    def __init__(
        self,
        resolutions: int = 3,
        min_fft_size: int = 16,
        max_fft_size: int = 32768,
        min_hop_size: float = 0.1,
        max_hop_size: float = 1.0,
        windows: Sequence[str] = _DEFAULT_WINDOWS,
        w_sc: float = 1.0,
        w_log_mag: float = 1.0,
        w_lin_mag: float = 0.0,
        w_phs: float = 0.0,
        sample_rate: float | None = None,
        scale: str | None = None,
        n_mels: int | None = None,
        randomize_rate: int = 1,
        perceptual_weighting: bool = False,
        scale_invariance: bool = False,
        eps: float = 1e-8,
        reduction: str = "mean",
        mag_distance: str = "L1",
        device: torch.device | str | None = None,
        log_eps: float = 0.0,
        log_fac: float = 1.0,
        sc_reduction: str = "batch",
        floor: str = "clamp",
        phase: str = "mse",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("resolutions", resolutions, 1)
        check_range("min_fft_size", min_fft_size, 4, max_fft_size)
        check_range("min_hop_size", min_hop_size, 0.0, max_hop_size, above=True)
        check_range("randomize_rate", randomize_rate, 1)
        self.resolutions, self.windows, self.randomize_rate = resolutions, tuple(windows), randomize_rate
        self.exponents = (min_fft_size.bit_length() - 1, max_fft_size.bit_length() - 1)
        self.hops, self.n_mels, self.max_fft_size = (min_hop_size, max_hop_size), n_mels, max_fft_size
        self._before = (w_sc, w_log_mag, w_lin_mag, w_phs, sample_rate, scale)
        self._after = (
            scale_invariance, eps, "loss", reduction, mag_distance, device, log_eps, log_fac, sc_reduction, floor,
            phase,
        )  # fmt: skip
        self.prefilter = _make_prefilter(perceptual_weighting, sample_rate)
        self.reduction, self.n_forwards, self._random = reduction, 0, random.Random(seed)
        self.stft_losses = self._draw()

    def _draw(self) -> nn.ModuleList:
        return nn.ModuleList(self._draw_one() for _ in range(self.resolutions))

    def _draw_one(self) -> STFTLoss:
        fft_size = 2 ** self._random.randint(*self.exponents)
        hop_size = max(1, int(fft_size * self._random.uniform(*self.hops)))
        win_length = int(fft_size * self._random.choice((1.0, 0.5, 0.25)))
        window = self._random.choice(self.windows)
        n_bins = None if self.n_mels is None else max(1, min(self.n_mels, fft_size // 8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty bands, which cannot be helped here
            return STFTLoss(
                fft_size, hop_size, win_length, window, *self._before, n_bins, False, *self._after
            )

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare (..., T); returns a scalar, or (...) for reduction none."""
        check_waveforms(estimate, target)
        if estimate.shape[-1] <= self.max_fft_size // 2:
            raise ValueError(
                f"a transform of {self.max_fft_size} samples needs more than {self.max_fft_size // 2} of signal, "
                f"got {estimate.shape[-1]}; lower max_fft_size"
            )
        if self.n_forwards and self.n_forwards % self.randomize_rate == 0:
            self.stft_losses = self._draw()
        self.n_forwards += 1
        estimate, target = _filtered(self.prefilter, estimate, target)
        return _mean([_weighted(loss.terms(estimate, target), loss.weights) for loss in self.stft_losses])
