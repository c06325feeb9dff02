"""Losses that average spectra's distances over several resolutions, fixed or drawn."""

import random
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sepkit.losses._check import (
    check_above_0,
    check_at_least_0,
    check_choice,
    check_range,
    check_resolutions,
    check_sizes,
    check_waveforms,
    take,
)
from sepkit.losses._numeric import full_precision
from sepkit.losses._window import make_window
from sepkit.losses.composite import CompositeLoss
from sepkit.losses.filters import SumAndDifference
from sepkit.losses.stft import SHARED, TERMS, STFTLoss, filtered, make_prefilter, weighted

_DEFAULT_WINDOWS = ("hann_window", "bartlett_window", "blackman_window", "hamming_window", "kaiser_window")


def _means(all_terms: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Average each term over resolutions."""
    return {name: torch.stack([terms[name] for terms in all_terms]).mean(0) for name in all_terms[0]}


class MultiResolutionSTFTLoss(CompositeLoss):
    """Average `STFTLoss`, where the arguments are explained, over several resolutions.

    `fft_sizes`, `hop_sizes` and `win_lengths` are lists, in samples; `n_bins` is one number or a list; `output` full
    returns the loss, and a list for each term.

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
        bands = list(n_bins) if isinstance(n_bins, (list, tuple)) else [n_bins] * len(sizes)
        if len(bands) != len(sizes):
            raise ValueError(f"n_bins must be one number, or a list of {len(sizes)}, got {n_bins!r}")
        shared = take(locals(), *SHARED, "window", "scale", "output")
        self.stft_losses = nn.ModuleList(
            STFTLoss(*size, n_bins=n_bands, **shared) for size, n_bands in zip(sizes, bands, strict=True)
        )
        # The filter is the same at all resolutions, so it runs once.
        self.prefilter = make_prefilter(perceptual_weighting, sample_rate)
        self.weights, self.output, self.reduction = self.stft_losses[0].weights, output, reduction

    def _all_terms(self, estimate: Tensor, target: Tensor) -> list[dict[str, Tensor]]:
        check_waveforms(estimate, target)
        estimate, target = filtered(self.prefilter, estimate, target)
        return [loss.unweighted(estimate, target) for loss in self.stft_losses]

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms, of those in `TERMS` that have a weight."""
        return weighted(_means(self._all_terms(estimate, target)), self.weights)

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., T); returns a scalar, or (...) for reduction none; a tuple for output full."""
        if self.output == "loss":
            return super().forward(estimate, target)
        found = self._all_terms(estimate, target)
        loss = sum(weighted(_means(found), self.weights).values())
        return loss, *([terms.get(name, 0.0) for terms in found] for name in TERMS)


class SumAndDifferenceSTFTLoss(CompositeLoss):
    """Compare the sum and the difference of two channels by `MultiResolutionSTFTLoss`, whose arguments it takes.

    `w_sum` and `w_diff` are the weights of the two, which are averaged; `output` full returns the loss, that of the sum
    and that of the difference, without weights.

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
        check_at_least_0(w_sum=w_sum, w_diff=w_diff)
        check_choice("output", output, ("loss", "full"))
        sizes = ("fft_sizes", "hop_sizes", "win_lengths")
        shared = take(locals(), *SHARED, *sizes, "window", "scale", "n_bins", "perceptual_weighting")
        self.loss, self.split = MultiResolutionSTFTLoss(**shared), SumAndDifference()
        self.weights = {"sum": w_sum / 2.0, "difference": w_diff / 2.0}
        self.output, self.reduction = output, reduction

    def _both(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        check_waveforms(estimate, target, n_dims=2)
        signals = zip(("sum", "difference"), self.split(estimate), self.split(target), strict=True)
        values = {name: self.loss(*pair) for name, *pair in signals}
        return {name: value.squeeze(-1) for name, value in values.items()} if self.reduction == "none" else values

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms: sum, difference."""
        return weighted(self._both(estimate, target), self.weights)

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor | tuple:
        """Compare (..., 2, T); returns a scalar, or (...) for reduction none; a tuple for output full."""
        if self.output == "loss":
            return super().forward(estimate, target)
        both = self._both(estimate, target)
        return sum(weighted(both, self.weights).values()), *both.values()


class RandomResolutionSTFTLoss(CompositeLoss):
    """Average `STFTLoss`, where the arguments are explained, over resolutions that are drawn anew every few calls.

    `resolutions` are drawn every `randomize_rate` calls by a generator of the loss's own, from `seed`. Transforms are
    powers of 2 from `min_fft_size` to `max_fft_size` (a signal needs more than half of its samples), hops a share of
    them from `min_hop_size` to `max_hop_size`, windows one of `windows`, with at most `n_mels` bands (an eighth of the
    transform where that is less).

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
        check_sizes(resolutions=resolutions, randomize_rate=randomize_rate)
        check_sizes(4, min_fft_size=min_fft_size, max_fft_size=max_fft_size)
        check_sizes(0, seed=seed)
        check_range("min_fft_size", min_fft_size, low=4, high=max_fft_size)
        check_above_0(max_hop_size=max_hop_size)
        check_range("min_hop_size", min_hop_size, high=max_hop_size, above=True)
        if n_mels is not None:
            check_sizes(n_mels=n_mels)
        if isinstance(windows, str) or not windows:
            raise ValueError(f"windows must be a list of at least one name, got {windows!r}")
        for window in windows:
            make_window(window, min_fft_size)
        self.resolutions, self.windows, self.randomize_rate = resolutions, tuple(windows), randomize_rate
        self.exponents = (min_fft_size.bit_length() - 1, max_fft_size.bit_length() - 1)
        self.hops, self.n_mels, self.max_fft_size = (min_hop_size, max_hop_size), n_mels, max_fft_size
        self._shared = take(locals(), *SHARED, "scale")
        self.prefilter = make_prefilter(perceptual_weighting, sample_rate)
        self.reduction, self.n_forwards, self._random = reduction, 0, random.Random(seed)
        self.stft_losses = self._draw()

    def get_extra_state(self) -> dict[str, object]:
        """Return all that decides which resolutions come next, as plain data."""
        return {"n_forwards": self.n_forwards, "drawn_from": self._drawn_from}

    def set_extra_state(self, state: dict[str, object]) -> None:
        """Restore the state that `get_extra_state` returned."""
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
            return STFTLoss(fft_size, hop_size, win_length, window=window, n_bins=n_bins, **self._shared)

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms, of those in `TERMS` that have a weight; this counts as a call."""
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
        found = [loss.unweighted(estimate, target) for loss in self.stft_losses]
        return weighted(_means(found), self.stft_losses[0].weights)
