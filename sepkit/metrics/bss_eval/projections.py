"""Energies of the parts into which distortion filters split an estimate.

The energy of `p = sum_i F_i * x_i` is a quadratic form in the filters F, whose matrix holds the correlations of the
x_i at short lags: nothing needs to be filtered. Only where rounding could be seen in a difference of such energies, the
stretch is filtered after all.

Filters are (M, L, C): from the M channels of all references to the C channels of one estimate.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Rounding may move an energy by this share (2e-7 dB) before the stretch is filtered instead.
_VISIBLE = 5e-8
# Error of a correlation relative to the energies behind it: 8 eps is typical, 7 times that the most that was seen.
_ROUNDING = 64 * torch.finfo(torch.float64).eps
_BLOCKS = 32


class Frames(NamedTuple):
    """Correlations of n frames of R references and R estimates, M channels each."""

    bounds: list[tuple[int, int]]  # start and stop, in samples
    references: Tensor  # (n, M, M, L): among the references
    estimates: Tensor  # (n, M, M, L): from the references to the estimates
    energies: Tensor  # (n, M): of the estimates


class Parts(NamedTuple):
    """Energies (n,) in each frame of the parts of an estimate.

    With s one reference, P the estimate projected on all references, P_j on the channels of s alone.
    """

    spatial: Tensor  # P_j - s
    own: Tensor  # P_j
    interference: Tensor  # P - P_j
    projection: Tensor  # P
    artifacts: Tensor  # estimate - P


class Split:
    """Filters that split one estimate with respect to one reference.

    Args:
        source: number j of the reference.
        estimate: number of the estimate.
        filters: (M, L, C), of the projection on all references.
        own_filters: (C, L, C), of the projection on reference j.
    """

    def __init__(self, source: int, estimate: int, filters: Tensor, own_filters: Tensor) -> None:
        self.n_channels = len(own_filters)
        self.source, self.estimate = self._channels(source), self._channels(estimate)
        self.filters, self.own_filters = filters, own_filters
        self.interference = filters.clone()
        self.interference[self.source] -= own_filters

    def energies(self, frames: Frames, targets: list[Tensor], estimates: list[Tensor]) -> Parts:
        """Measure the parts in each frame; the waveforms, each (C, T), are for the frames that need filtering."""
        parts, doubtful = self._by_correlations(frames)
        for frame in torch.nonzero(doubtful).flatten().tolist():
            estimate = estimates[self.estimate.start // self.n_channels]
            exact = self._by_filtering(targets, estimate, *frames.bounds[frame])
            for part, energy in zip(parts, exact, strict=True):
                part[frame] = energy
        return parts

    def _channels(self, source: int) -> slice:
        return slice(source * self.n_channels, (source + 1) * self.n_channels)

    def _by_correlations(self, frames: Frames) -> tuple[Parts, Tensor]:
        """Return the energies, and bool (n,): they may be off by rounding."""
        among_own = frames.references[:, self.source, self.source]
        of_references = frames.references[..., 0].diagonal(dim1=1, dim2=2)
        of_own, of_estimate = of_references[:, self.source], frames.energies[:, self.estimate]
        spatial_filters = self.own_filters.clone()
        spatial_filters[:, 0].diagonal().sub_(1)
        spatial, spatial_error = _energy(spatial_filters, among_own, of_own)
        own, own_error = _energy(self.own_filters, among_own, of_own)
        interference, interference_error = _energy(self.interference, frames.references, of_references)
        projection, projection_error = _energy(self.filters, frames.references, of_references)
        common = torch.einsum("nmcl,mlc->n", frames.estimates[:, :, self.estimate], self.filters)
        common_error = _uncertainty(torch.linalg.vector_norm(self.filters, dim=1), of_references, of_estimate)
        artifacts = of_estimate.sum(1) - 2 * common + projection
        artifacts_error = projection_error + 2 * common_error + _ROUNDING * of_estimate.sum(1)
        parts = Parts(spatial, own, interference, projection, artifacts)
        errors = Parts(spatial_error, own_error, interference_error, projection_error, artifacts_error)
        return parts, (torch.stack(errors) > _VISIBLE * torch.stack(parts)).any(0)

    def _by_filtering(self, targets: list[Tensor], estimate: Tensor, start: int, stop: int) -> Parts:
        """Measure the parts of one stretch in the time domain, in blocks (overlap-save)."""
        n_lags = self.filters.shape[1]
        n_fft = max(64, 2 ** (3 * n_lags - 1).bit_length())
        n_new = _BLOCKS * (n_fft - n_lags + 1)
        own = torch.zeros_like(self.filters)
        own[self.source] = self.own_filters
        bank = torch.cat([self.filters, own, self.interference], dim=-1)
        bank = torch.fft.rfft(bank, n=n_fft, dim=1).permute(1, 2, 0).contiguous()  # (K, 3 C, M)
        sums = self.filters.new_zeros(5)
        length = stop - start + n_lags - 1
        for begin in range(0, length, n_new):
            window = (start + begin, start, stop)
            rows = torch.cat([_excerpt(target, *window, n_lags - 1, n_new) for target in targets])
            n_kept = min(n_new, length - begin)
            filtered = _overlap_save(rows, bank, n_lags)[:, :n_kept]
            projection, projection_own, interference = filtered.split(self.n_channels)
            target = rows[self.source, n_lags - 1 :][:, :n_kept]
            mixed = _excerpt(estimate, *window, 0, n_new)[:, :n_kept]
            parts = (projection_own - target, projection_own, interference, projection, mixed - projection)
            sums += torch.stack([part.square().sum() for part in parts])
        return Parts(*sums)


def _energy(filters: Tensor, lags: Tensor, energies: Tensor) -> tuple[Tensor, Tensor]:
    """Return the energies (n,) of the filtered channels, and how far rounding may move them.

    Args:
        filters: (M, L, C).
        lags: (n, M, M, L).
        energies: (n, M).
    """
    n_lags = filters.shape[1]
    spectra = torch.fft.rfft(filters, n=2 * n_lags, dim=1)
    spectra = torch.einsum("ikc,jkc->ijk", spectra, spectra.conj())
    weights = torch.fft.irfft(spectra, n=2 * n_lags)[..., :n_lags]
    weights = torch.cat([weights[..., :1], 2 * weights[..., 1:]], dim=-1)  # lag -l of (i, j) is lag l of (j, i)
    energy = lags.reshape(len(lags), -1) @ weights.flatten()
    return energy, _uncertainty(torch.linalg.vector_norm(weights, dim=-1), energies, energies)


def _uncertainty(weights: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Estimate the rounding error of a weighted sum of correlations.

    Args:
        weights: (I, K), norm of the weights of each pair over its lags.
        left: (n, I), energies.
        right: (n, K), energies.
    """
    return _ROUNDING * ((left @ weights.square()) * right).sum(1).clamp(min=0).sqrt()


def _overlap_save(rows: Tensor, bank: Tensor, n_lags: int) -> Tensor:
    """Filter rows (M, L - 1 + n) with spectra (K, Q, M): (Q, n)."""
    n_fft = 2 * (len(bank) - 1)
    blocks = rows.unfold(1, n_fft, n_fft - n_lags + 1)  # (M, blocks, n_fft)
    spectra = bank @ torch.fft.rfft(blocks).permute(2, 0, 1)
    filtered = torch.fft.irfft(spectra.permute(1, 2, 0), n=n_fft)
    return filtered[..., n_lags - 1 :].flatten(1)


def _excerpt(waveform: Tensor, position: int, start: int, stop: int, n_before: int, n_after: int) -> Tensor:
    """Cut (C, n_before + n_after) around a position in float64; what is not in start .. stop - 1 is zero."""
    rows = waveform.new_zeros((len(waveform), n_before + n_after), dtype=torch.float64)
    first, last = max(position - n_before, start), min(position + n_after, stop)
    if first < last:
        offset = first - (position - n_before)
        rows[:, offset : offset + last - first] = waveform[:, first:last]
    return rows
