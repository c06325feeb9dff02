"""Optimal transport between spectra: how far energy must move along the frequency axis. sot-loss's family."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sepkit.constant import Constant
from sepkit.losses._bank import htk_mel_bank, warn_of_empty_bands
from sepkit.losses._check import (
    check_above_0,
    check_at_least_0,
    check_choice,
    check_device,
    check_flags,
    check_range,
    check_real,
    check_reduction,
    check_resolutions,
    check_same_shape,
    check_sizes,
    check_tensors,
    check_transform,
    check_waveforms,
    take,
)
from sepkit.losses._cqt import CQT
from sepkit.losses._numeric import full_precision, reduce, safe_sqrt
from sepkit.losses._stft import Resolution, power, refuse_other_modes
from sepkit.losses._transport import Transport, transport_sums
from sepkit.losses._window import make_window
from sepkit.losses.composite import CompositeLoss
from sepkit.losses.wasserstein import wasserstein_1d, wasserstein_1d_circle

TRANSFORMS = ("stft", "mel", "cqt", "vqt", "identity")
_FLAGS = (
    "normalize", "balanced", "return_quantiles", "quantile_lowpass", "apply_root", "circular", "square_magnitude",
    "reduce",
)  # fmt: skip
# What `MultiResolutionSOTLoss` hands on.
_SHARED = (
    "transform", "normalize", "balanced", "p", "quantile_lowpass", "eps", "dim", "apply_root", "device", "window",
    "n_mels", "log", "sample_rate", "bin_position_scaling", "square_magnitude", "reduction",
)  # fmt: skip
SCALINGS = ("normalized", "absolute", "normalized_linear")


def _check_circle(transform: str | None, flags: dict[str, bool]) -> None:
    """Refuse what has no meaning on a circle."""
    if flags["return_quantiles"] or flags["quantile_lowpass"] or flags["apply_root"]:
        raise ValueError("circular must be alone, got return_quantiles, quantile_lowpass or apply_root beside it")
    if transform not in ("identity", None):
        raise ValueError(f'circular needs transform "identity" and positions below 1, got {transform!r}')


class Wasserstein1DLoss(nn.Module):
    """Compare spectra frame by frame by optimal transport: energy costs the more the further it has to move.

    It is blind to the level of a frame, unless `normalize` or `balanced` is off, and to phase. A silent frame of the
    target counts as energy at its highest bin; a silent estimate has no shape, hence no gradient.

    Args:
        transform: stft, mel, cqt, vqt, or identity (None): the loss is given spectra then, (..., F, N) >= 0.
        normalize: divide spectra by their totals.
        balanced: by each one's own total; without it both by the estimate's, and without `normalize` the target is
            scaled to the estimate's total.
        p: order, >= 1.
        return_quantiles: return quantiles of estimate and target, levels, and both cumulative spectra instead.
        quantile_lowpass: leave out levels above 1, where totals differ.
        eps: added to totals, and to the cost under a square root.
        dim: -1 (or 2): move energy along frequency; -2 (or 1): along time, in frames.
        apply_root: take the p-th root of each cost.
        circular: positions lie on a circle, and p is 1; for identity.
        device: where constants are put.
        fft_size: samples of a Fourier transform, for stft and mel.
        hop_length: samples from frame to frame.
        win_length: samples of the window, for stft; None: fft_size.
        window: of scipy, for stft, cqt and vqt; mel has a Hann window.
        n_mels: number of mel bands.
        n_bins: number of bins, for cqt and vqt.
        bins_per_semitone: resolution, for cqt and vqt.
        gamma: Hz, bandwidth added to each bin of vqt.
        fmin: Hz, lowest bin of cqt and vqt.
        fmax: Hz, that decides on their number of bins instead of n_bins.
        log: must be left at False.
        sample_rate: Hz.
        bin_position_scaling: normalized: frequency from 0 to 1 (mel: the band's number); absolute: in Hz, not for
            mel; normalized_linear: the bin's number from 0 to 1, not for mel.
        square_magnitude: compare squares.
        reduce: average; without it every frame's cost is returned, (..., N).
        reduction: mean or sum over channels and items of the mean over frames, or none: one value per channel.

    Source:
        B. Torres, G. Peeters, G. Richard, Unsupervised harmonic parameter estimation using differentiable DSP and
        spectral optimal transport, 2024; as in sot-loss 0.1.5.
    """

    def __init__(
        self,
        transform: str | None = "stft",
        normalize: bool = True,
        balanced: bool = True,
        p: float = 2,
        return_quantiles: bool = False,
        quantile_lowpass: bool = False,
        eps: float = 1e-8,
        dim: int = -1,
        apply_root: bool = False,
        circular: bool = False,
        device: torch.device | str | None = None,
        fft_size: int = 1024,
        hop_length: int = 256,
        win_length: int | None = None,
        window: str | float | tuple = "flattop",
        n_mels: int = 128,
        n_bins: int = 250,
        bins_per_semitone: int = 3,
        gamma: float = 0,
        fmin: float = 32.7,
        fmax: float | None = None,
        log: bool = False,
        sample_rate: float = 22050,
        bin_position_scaling: str = "normalized",
        square_magnitude: bool = False,
        reduce: bool = True,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        options = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _check_options(options)
        win_length = fft_size if win_length is None else win_length
        self.normalize, self.balanced, self.p, self.eps = normalize, balanced, p, eps
        self.return_quantiles, self.quantile_lowpass = return_quantiles, quantile_lowpass
        self.apply_root, self.circular, self.along_time = apply_root, circular, dim in (-2, 1)
        self.square_magnitude, self.reduce, self.reduction = square_magnitude, reduce, reduction
        self.transform = transform or "identity"
        self.resolution = self.bank = self.cqt = None
        if self.transform == "stft":
            self.resolution = Resolution(fft_size, hop_length, make_window(window, win_length))
        elif self.transform == "mel":
            self.resolution = Resolution(fft_size, hop_length, make_window("hann_window", fft_size))
            bank = htk_mel_bank(sample_rate, fft_size, n_mels)
            warn_of_empty_bands(bank, fft_size)
            self.bank = Constant(bank)
        elif self.transform != "identity":
            sizes = take(locals(), "sample_rate", "hop_length", "fmin", "fmax", "n_bins", "gamma", "window")
            self.cqt = CQT(bins_per_octave=12 * bins_per_semitone, **sizes)
        positions = self._own_positions(bin_position_scaling, sample_rate)
        self.positions = None if positions is None else Constant(positions.astype(np.float32))
        self.to(device)

    def _own_positions(self, scaling: str, sample_rate: float) -> np.ndarray | None:
        if self.transform == "identity":
            return None
        if self.bank is not None:
            if scaling != "normalized":
                raise ValueError(f'bin_position_scaling must be "normalized" for mel, got {scaling!r}')
            return torch.linspace(0, 1, self.bank.values.shape[1]).numpy()
        if self.cqt is None:
            n_fft = self.resolution.n_fft
            if scaling == "absolute":
                return torch.fft.rfftfreq(n_fft, d=1 / sample_rate).numpy()
            return torch.linspace(0, 1, n_fft // 2 + 1).numpy()
        frequencies = self.cqt.frequencies.astype(np.float32)
        if scaling == "normalized_linear":
            return torch.linspace(0, 1, len(frequencies)).numpy()
        if scaling == "absolute":
            return frequencies
        return (frequencies - frequencies[0]) / (frequencies[-1] - frequencies[0])

    def _spectrum(self, signal: Tensor) -> Tensor:
        """Transform (R, T), or transpose spectra (R, F, N), to (R, N, F)."""
        if self.transform == "identity":
            return signal.mT
        if self.cqt is not None:
            return self.cqt(signal)
        powers = power(self.resolution.spectrum(signal))
        return safe_sqrt(powers) if self.bank is None else powers @ self.bank(signal)

    def _root(self, cost: Tensor) -> Tensor:
        if not self.apply_root or self.p == 1:
            return cost
        if self.p == 2:
            return (cost + self.eps).sqrt()
        equal = cost <= 0
        return torch.where(equal, 0.0, torch.where(equal, 1.0, cost).pow(1.0 / self.p))

    def _rows(self, estimate: Tensor, target: Tensor) -> tuple[torch.Size, list[Tensor]]:
        """Divide by totals, and join distributions as (R, n), with the shape R had."""
        estimate, target = (spectrum.mT if self.along_time else spectrum for spectrum in (estimate, target))
        totals = [spectrum.sum(-1, keepdim=True) + self.eps for spectrum in (estimate, target)]
        if self.normalize:
            masses = estimate / totals[0], target / totals[1 if self.balanced else 0]
        else:
            masses = estimate, target / totals[1] * totals[0] if self.balanced else target
        return estimate.shape[:-1], [mass.reshape(-1, mass.shape[-1]) for mass in masses]

    @full_precision
    def loss(
        self,
        x_spec: Tensor,
        y_spec: Tensor,
        x_positions: Tensor | None = None,
        y_positions: Tensor | None = None,
    ) -> Tensor | list[Tensor]:
        """Compare spectra, with the estimate first.

        Args:
            x_spec: (batch, frames, bins), >= 0.
            y_spec: (batch, frames, bins); its number of bins may differ where positions are given.
            x_positions: (bins,) or (batch * frames, bins); None: evenly from 0 to 1.
            y_positions: the same for y_spec.

        Returns:
            (batch * frames,), costs; for dim -2 (batch * bins,). A list of five for return_quantiles.
        """
        _check_spectra("(batch, frames, bins)", x_positions is not None, x_spec=x_spec, y_spec=y_spec)
        shape, rows = self._rows(x_spec, y_spec)
        _check_positions(rows, x_positions=x_positions, y_positions=y_positions)
        places = zip(rows, (x_positions, y_positions), strict=True)
        points = [_positions(row, place).expand_as(row) for row, place in places]
        if self.circular:
            return wasserstein_1d_circle(*points, u_weights=rows[0], v_weights=rows[1])
        options = {"return_quantiles": self.return_quantiles, "limit_quantile_range": self.quantile_lowpass}
        cost = wasserstein_1d(*points, u_weights=rows[0], v_weights=rows[1], p=self.p, **options)
        if self.return_quantiles:
            return [part.reshape(*shape, -1) for part in cost]
        return self._root(cost)

    def _all_costs(self, estimate: Tensor, target: Tensor, places: list[Tensor | None]) -> Tensor | list[Tensor]:
        """Compare rows by whole spectrograms: (R, N) costs."""
        spectra = [self._spectrum(signal) for signal in (estimate, target)]
        if self.square_magnitude:
            spectra = [spectrum.square() for spectrum in spectra]
        own = all(place is None for place in places)
        if self.along_time:
            frames = torch.arange(spectra[0].shape[1], device=estimate.device)
            places = [frames if place is None else place for place in places]
        elif self.positions is not None:
            places = [self.positions(estimate) if place is None else place for place in places]
        if self.transform == "identity" or self.return_quantiles or self.quantile_lowpass or not own:
            costs = self.loss(*spectra, x_positions=places[0], y_positions=places[1])
            return costs if self.return_quantiles else costs.view(estimate.shape[0], -1)
        rows = self._rows(*spectra)[1]
        refuse_other_modes(*rows)
        places = [_positions(row, place).reshape(-1, row.shape[1]) for row, place in zip(rows, places, strict=True)]
        return self._root(Transport.apply(*rows, *places, self.p)).view(estimate.shape[0], -1)

    def _row_means(self, estimate: Tensor, target: Tensor, places: list[Tensor | None]) -> Tensor:
        plain = self.normalize and self.balanced and not (self.along_time or self.quantile_lowpass)
        if self.resolution is None or not plain or any(place is not None for place in places):
            return self._all_costs(estimate, target, places).mean(1)
        options = [self.p, self.eps, self.square_magnitude, self.apply_root]
        tables = [self.positions(estimate)[None], *([] if self.bank is None else [self.bank(estimate)])]
        sums, _ = self.resolution.sums(transport_sums, estimate, target, options=options, tables=tables)
        return sums[:, 0] / self.resolution.n_frames(estimate.shape[1])

    @full_precision
    def forward(
        self,
        estimate: Tensor,
        target: Tensor,
        x_positions: Tensor | None = None,
        y_positions: Tensor | None = None,
    ) -> Tensor | list[Tensor]:
        """Compare waveforms (..., T), or spectra (..., F, N) for the identity transform.

        Args:
            estimate: (..., T) or (..., F, N).
            target: the same.
            x_positions: (F,), of the estimate's bins; None: the transform's own, or evenly from 0 to 1.
            y_positions: (F,), of the target's bins.

        Returns:
            A scalar; (...) for reduction none; (..., N) for reduce=False; a list of five for return_quantiles.
        """
        n_inner = 2 if self.transform == "identity" else 1
        if n_inner == 1:
            check_waveforms(estimate, target)
        else:
            _check_spectra("(..., F, N)", x_positions is not None, estimate=estimate, target=target)
        rows = [signal.reshape(-1, *signal.shape[signal.dim() - n_inner :]) for signal in (estimate, target)]
        lead = estimate.shape[: estimate.dim() - n_inner]
        places = [x_positions, y_positions]
        if self.return_quantiles:
            return [part.view(*lead, *part.shape[1:]) for part in self._all_costs(*rows, places)]
        if not self.reduce:
            return self._all_costs(*rows, places).view(*lead, -1)
        return reduce(self._row_means(*rows, places).view(lead), self.reduction)


def _positions(row: Tensor, positions: Tensor | None) -> Tensor:
    """Return the positions of the points of (R, n), evenly from 0 to 1 where none are named."""
    return (torch.linspace(0, 1, row.shape[1], device=row.device) if positions is None else positions).to(row)


def _check_spectra(letters: str, bins_may_differ: bool, **spectra: Tensor) -> None:
    """Refuse spectra of unequal shape, but for the number of bins where their positions are given."""
    check_tensors(**spectra)
    check_real(**spectra)
    n_dims, bins = (3, -1) if "bins" in letters else (2, -2)
    alike = dict(spectra)
    if bins_may_differ and all(spectrum.dim() >= n_dims for spectrum in spectra.values()):
        alike = {name: spectrum.narrow(bins, 0, min(spectrum.shape[bins], 1)) for name, spectrum in spectra.items()}
    check_same_shape(n_dims, letters, **alike)


def _check_positions(rows: Sequence[Tensor], **positions: Tensor | None) -> None:
    """Refuse positions that are not one for each point of (R, n)."""
    for row, (name, place) in zip(rows, positions.items(), strict=True):
        if place is None:
            continue
        check_tensors(**{name: place})
        check_real(**{name: place})
        if tuple(place.shape) not in {(row.shape[1],), tuple(row.shape)}:
            raise ValueError(f"{name} must be ({row.shape[1]},), one for each bin, got {tuple(place.shape)}")
    if rows[0].shape[1] != rows[1].shape[1] and None in positions.values():
        wanted = " and ".join(positions)
        raise ValueError(f"{wanted} must both be given for spectra of {rows[0].shape[1]} and {rows[1].shape[1]} bins")


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of `Wasserstein1DLoss`, by their names, that are out of range or contradict each other."""
    flags, sizes = take(options, *_FLAGS), take(options, "fft_size", "hop_length", "win_length")
    check_choice("transform", options["transform"], (*TRANSFORMS, None))
    check_choice("dim", options["dim"], (-1, -2, 1, 2))
    check_choice("bin_position_scaling", options["bin_position_scaling"], SCALINGS)
    check_range("p", options["p"], 1)
    check_above_0(**take(options, "eps", "fmin", "sample_rate"))
    check_at_least_0(gamma=options["gamma"])
    check_flags(**flags)
    if options["log"]:
        raise ValueError("log must be False, got True; logarithms below 0 are no distribution, compress by yourself")
    if options["circular"]:
        _check_circle(options["transform"], flags)
    if sizes["win_length"] is None:
        sizes["win_length"] = sizes["fft_size"]
    check_transform(**sizes)
    check_sizes(**take(options, "n_mels", "n_bins", "bins_per_semitone"))
    if options["fmax"] is not None:
        check_range("fmax", options["fmax"], options["fmin"], above=True)
    check_device(options["device"])
    check_reduction(options["reduction"])
    if not options["reduce"] and options["reduction"] != "mean":
        raise ValueError(
            f'reduction must be left at "mean" with reduce=False, got {options["reduction"]!r}; set one of them'
        )


class MultiResolutionSOTLoss(CompositeLoss):
    """Add up `Wasserstein1DLoss`, where the arguments are explained, over several resolutions.

    `transform` is stft or mel; `fft_sizes`, `hop_lengths` and `win_lengths` (None: `fft_sizes`) are lists, in samples.

    Source:
        B. Torres, G. Peeters, G. Richard, Unsupervised harmonic parameter estimation using differentiable DSP and
        spectral optimal transport, 2024; a sum, not a mean, as in sot-loss 0.1.5.
    """

    def __init__(
        self,
        transform: str = "stft",
        fft_sizes: Sequence[int] = (1024, 2048, 512),
        hop_lengths: Sequence[int] = (256, 512, 128),
        win_lengths: Sequence[int] | None = None,
        normalize: bool = True,
        balanced: bool = True,
        p: float = 2,
        quantile_lowpass: bool = False,
        eps: float = 1e-8,
        dim: int = -1,
        apply_root: bool = False,
        device: torch.device | str | None = None,
        window: str | float | tuple = "flattop",
        n_mels: int = 128,
        log: bool = False,
        sample_rate: float = 22050,
        bin_position_scaling: str = "normalized",
        square_magnitude: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_choice("transform", transform, ("stft", "mel"))
        win_lengths = fft_sizes if win_lengths is None else win_lengths
        sizes = check_resolutions(fft_sizes=fft_sizes, hop_lengths=hop_lengths, win_lengths=win_lengths)
        names, shared = ("fft_size", "hop_length", "win_length"), take(locals(), *_SHARED)
        self.loss_modules = nn.ModuleList(
            Wasserstein1DLoss(**dict(zip(names, size, strict=True)), **shared) for size in sizes
        )
        self.names = [f"fft_{size[0]}" for size in sizes]
        self.reduction = reduction

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the loss of (..., T) at each resolution, fft_1024 and so on."""
        return {name: loss(estimate, target) for name, loss in zip(self.names, self.loss_modules, strict=True)}
