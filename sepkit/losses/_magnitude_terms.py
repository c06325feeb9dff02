"""The distances of magnitudes and phases that the STFT losses are made of, with their slopes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sepkit.losses._stft import ChunkSums, power, spectral_operator, total

# Mel bands without a single bin are held here in both signals, so that they say nothing.
NO_BAND = 1e-30


class Options:
    """The options of `magnitude_sums` by name; they travel as numbers."""

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
    estimate: Tensor, target: Tensor, which: Options, need_target: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sum the distance of logarithms, with the slopes with respect to estimate and target."""
    fac = which.log_fac
    if which.log_eps or fac != 1.0:
        estimate, target = (fac * magnitude + which.log_eps for magnitude in (estimate, target))
    value, slope = _distance((estimate / target).log(), which.squared)
    of_target = (slope / target).mul_(-fac) if need_target else None
    return value, (slope / estimate).mul_(fac), of_target


def magnitude_terms(
    estimate: Tensor, target: Tensor, which: Options, need_target: bool
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


class Magnitudes:
    """The floored magnitudes of a chunk, and the way back from their slopes to those of the spectrum."""

    def __init__(self, spectrum: Tensor, eps: float) -> None:
        self.spectrum, self.power = spectrum, power(spectrum)
        self.floored = self.power.clamp(min=eps)
        self.values = self.floored.sqrt()
        self.eps = eps

    def scale(self) -> Tensor:
        """Give 1 / |X|, and 0 below the floor."""
        return (self.power - self.eps).sgn_().relu_().div_(self.values)

    def to_spectrum(self, slopes: list[Tensor], bank: Tensor | None, guide: "Magnitudes | None") -> list[Tensor]:
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


def angle_terms(
    estimate: Magnitudes, target: Magnitudes, cosine: bool, needs: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """Sum a distance of phases, with the slopes with respect to both spectra."""
    both = (estimate, target)
    if not cosine:
        difference = estimate.spectrum.angle() - target.spectrum.angle()
        slopes = [
            torch.where(it.power > 0, 2.0 * sign * difference / it.power, 0.0) * (1j * it.spectrum) if need else None
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
def magnitude_sums(
    estimate: Tensor,
    target: Tensor,
    options: Sequence[float],
    tables: Sequence[Tensor],
    needs: Sequence[bool],
) -> ChunkSums:
    """Sum the terms that the options name; with a table, of bands of magnitudes instead of magnitudes."""
    which, bank = Options(options), tables[0] if tables else None
    both = Magnitudes(estimate, which.eps), Magnitudes(target, which.eps)
    bands = [it.values if bank is None else (it.values @ bank).clamp_(min=NO_BAND) for it in both]
    sums, *slopes = magnitude_terms(*bands, which, needs[1])
    references = [total(bands[1] * bands[1])] if which.convergence else []
    guides = (both[1], both[0]) if which.live else (None, None)
    found = [
        it.to_spectrum(of_it, bank, guide) if need else []
        for it, of_it, guide, need in zip(both, slopes, guides, needs, strict=True)
    ]
    if which.phase:
        angle_sum, angle_slopes = angle_terms(*both, which.cosine, needs)
        sums.append(angle_sum)
        found = [of_it if slope is None else [*of_it, slope] for of_it, slope in zip(found, angle_slopes, strict=True)]
    if which.convergence and needs[1]:
        found[1] += both[1].to_spectrum([2.0 * bands[1]], bank, None)
    return ChunkSums(sums, references, *found)
