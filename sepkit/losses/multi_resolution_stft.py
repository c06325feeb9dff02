"""Losses that average spectra's distances over several resolutions, fixed or drawn."""

import random
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sepkit.losses._check import check_choice, check_range, check_resolutions, check_size, check_waveforms
from sepkit.losses._numeric import full_precision
from sepkit.losses._window import make_window
from sepkit.losses.filters import SumAndDifference
from sepkit.losses.stft import TERMS, STFTLoss, filtered, make_prefilter, weighted

_DEFAULT_WINDOWS = ("hann_window", "bartlett_window", "blackman_window", "hamming_window", "kaiser_window")


def _each(value: object, n: int) -> list:
    """Repeat a single value, or take a list of n."""
    return list(value) if isinstance(value, (list, tuple)) else [value] * n


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
        sizes = check_resolutions(fft_sizes=fft_sizes, hop_sizes=hop_sizes, win_lengths=win_lengths)
        bands = _each(n_bins, len(sizes))
        if len(bands) != len(sizes):
            raise ValueError(f"n_bins must be one number, or a list of {len(sizes)}, got {n_bins!r}")
        self.stft_losses = nn.ModuleList(
            STFTLoss(
                *size, window, w_sc, w_log_mag, w_lin_mag, w_phs, sample_rate, scale, bins,
                False, scale_invariance, eps, output, reduction, mag_distance, device, log_eps, log_fac,
                sc_reduction, floor, phase,
            )
            for size, bins in zip(sizes, bands, strict=True)
        )  # fmt: skip
        # The filter is the same at all resolutions, so it runs once.
        self.prefilter = make_prefilter(perceptual_weighting, sample_rate)
        self.output, self.reduction = output, reduction

    def _terms(self, estimate: Tensor, target: Tensor) -> list[dict[str, Tensor]]:
        check_waveforms(estimate, target)
        estimate, target = filtered(self.prefilter, estimate, target)
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
        loss = _mean([weighted(terms, weights) for terms in found])
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
        loss = weighted(found, self.weights)
        return loss if self.output == "loss" else (loss, *found.values())


def _check_draws(
    resolutions: int,
    min_fft_size: int,
    max_fft_size: int,
    min_hop_size: float,
    max_hop_size: float,
    windows: Sequence[str],
    randomize_rate: int,
    seed: int,
) -> None:
    check_size("resolutions", resolutions)
    check_size("max_fft_size", max_fft_size, 4)
    check_size("min_fft_size", min_fft_size, 4)
    check_range("min_fft_size", min_fft_size, 4, max_fft_size)
    check_range("max_hop_size", max_hop_size, above=True)
    check_range("min_hop_size", min_hop_size, 0.0, max_hop_size, above=True)
    check_size("randomize_rate", randomize_rate)
    check_size("seed", seed, 0)
    if isinstance(windows, str) or not windows:
        raise ValueError(f"windows must be a list of at least one name, got {windows!r}")
    for window in windows:
        make_window(window, min_fft_size)


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
        _check_draws(resolutions, min_fft_size, max_fft_size, min_hop_size, max_hop_size, windows, randomize_rate, seed)
        if n_mels is not None:
            check_size("n_mels", n_mels)
        self.resolutions, self.windows, self.randomize_rate = resolutions, tuple(windows), randomize_rate
        self.exponents = (min_fft_size.bit_length() - 1, max_fft_size.bit_length() - 1)
        self.hops, self.n_mels, self.max_fft_size = (min_hop_size, max_hop_size), n_mels, max_fft_size
        self._before = (w_sc, w_log_mag, w_lin_mag, w_phs, sample_rate, scale)
        self._after = (
            scale_invariance, eps, "loss", reduction, mag_distance, device, log_eps, log_fac, sc_reduction, floor,
            phase,
        )  # fmt: skip
        self.prefilter = make_prefilter(perceptual_weighting, sample_rate)
        self.reduction, self.n_forwards, self._random = reduction, 0, random.Random(seed)
        self.stft_losses = self._draw()

    def get_extra_state(self) -> dict[str, object]:
        """Return all that decides which resolutions come next, as plain data."""
        return {"n_forwards": self.n_forwards, "drawn_from": self._drawn_from}

    def set_extra_state(self, state: dict[str, object]) -> None:
        """Go back to what `get_extra_state` gave."""
        version, numbers, spare = state["drawn_from"]
        self._random.setstate((version, tuple(numbers), spare))
        self.n_forwards = state["n_forwards"]
        self._redraw()

    def _redraw(self) -> None:
        device = next(self.buffers()).device
        self.stft_losses = self._draw().to(device)

    def _draw(self) -> nn.ModuleList:
        self._drawn_from = self._random.getstate()
        return nn.ModuleList(self._draw_one() for _ in range(self.resolutions))

    def _draw_one(self) -> STFTLoss:
        fft_size = 2 ** self._random.randint(*self.exponents)
        hop_size = max(1, int(fft_size * self._random.uniform(*self.hops)))
        win_length = int(fft_size * self._random.choice((1.0, 0.5, 0.25)))
        window = self._random.choice(self.windows)
        n_bins = None if self.n_mels is None else max(1, min(self.n_mels, fft_size // 8))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty bands, which cannot be helped here
            return STFTLoss(fft_size, hop_size, win_length, window, *self._before, n_bins, False, *self._after)

    def _terms(self, estimate: Tensor, target: Tensor) -> list[dict[str, Tensor]]:
        check_waveforms(estimate, target)
        if estimate.shape[-1] <= self.max_fft_size // 2:
            raise ValueError(
                f"a transform of {self.max_fft_size} samples needs more than {self.max_fft_size // 2} of signal, "
                f"got {estimate.shape[-1]}; lower max_fft_size"
            )
        if self.n_forwards and self.n_forwards % self.randomize_rate == 0:
            self._redraw()
        self.n_forwards += 1
        estimate, target = filtered(self.prefilter, estimate, target)
        return [loss.terms(estimate, target) for loss in self.stft_losses]

    @full_precision
    def parts(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Give the weighted terms that add up to the loss; like `forward`, it counts as a call."""
        found, weights = self._terms(estimate, target), self.stft_losses[0].weights
        return {name: weights[name] * _mean([terms[name] for terms in found]) for name in found[0]}

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare (..., T); returns a scalar, or (...) for reduction none."""
        found, weights = self._terms(estimate, target), self.stft_losses[0].weights
        return _mean([weighted(terms, weights) for terms in found])
