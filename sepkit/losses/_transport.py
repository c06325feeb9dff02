"""Optimal transport between distributions on a line: closed forms per point, without sorting levels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sepkit.losses._numeric import differentiated_once
from sepkit.losses._stft import ChunkSums, power, spectral_operator, total


def passed(levels: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Count, at each level, the levels of the other distribution that lie below; at ties `levels` come first.

    Args:
        levels: (R, n), rising.
        others: (R, m), rising.

    Returns:
        For `levels`, the number of others below: (R, n); for `others`, the number of levels at or below: (R, m).
    """
    of_levels = torch.searchsorted(others, levels)
    # A level lies at or below the l-th other exactly if at most l others lie below the level: count those counts.
    counts = levels.new_zeros(others.shape[0], others.shape[1] + 1)
    counts.scatter_add_(1, of_levels, torch.ones_like(levels))
    return of_levels, counts[:, :-1].cumsum(1).long()


def _cost(distance: Tensor, p: float) -> Tensor:
    if p == 2:
        return distance * distance
    return distance.abs() if p == 1 else distance.abs().pow(p)


def _step(distance: Tensor, moved: Tensor, p: float) -> Tensor:
    """Give what a unit of level costs less once its own point is passed: |d|^p - |d + moved|^p."""
    if p == 2:
        return (2.0 * distance + moved).mul_(moved).neg_()
    return _cost(distance, p) - _cost(distance + moved, p)


def _at(positions: Tensor, index: Tensor) -> Tensor:
    return positions.expand(index.shape[0], -1).gather(1, index.clamp_(max=positions.shape[1] - 1))


def _slopes(positions: Tensor, other_positions: Tensor, counts: Tensor, p: float) -> Tensor:
    moved = torch.nn.functional.pad(positions.diff(dim=1), (0, 1))
    return _step(positions - _at(other_positions, counts), moved, p)


def level_slopes(
    estimate: Tensor,
    target: Tensor,
    estimate_positions: Tensor,
    target_positions: Tensor,
    p: float,
) -> tuple[Tensor, Tensor]:
    """Give the slopes of the transport cost with respect to the levels; the cost is levels times slopes, summed.

    The cost is the integral of |X(q) - Y(q)|^p over q, with the quantile functions X and Y, that stay at the last
    point beyond the last level. As q passes a level, its own quantile moves on to the next point.

    Args:
        estimate: (R, n), cumulative weights.
        target: (R, m), cumulative weights.
        estimate_positions: (R or 1, n), rising.
        target_positions: (R or 1, m), rising.
        p: order, >= 1.

    Returns:
        (R, n) and (R, m); zero where the distributions are equal.
    """
    below, at_or_below = passed(estimate, target)
    of_estimate = _slopes(estimate_positions, target_positions, below, p)
    of_target = _slopes(target_positions, estimate_positions, at_or_below, p)
    # The integral ends at the higher total, where both wait at their last points.
    end = _cost(estimate_positions[:, -1] - target_positions[:, -1], p)
    estimate_is_higher = estimate[:, -1] >= target[:, -1]
    of_estimate[:, -1] += end * estimate_is_higher
    of_target[:, -1] += end * ~estimate_is_higher
    if estimate.shape == target.shape:
        differ = (estimate - target).abs().amax(1, keepdim=True).sign()
        of_estimate, of_target = of_estimate * differ, of_target * differ
    return of_estimate, of_target


def line_slopes(estimate: Tensor, target: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Give the slopes as `level_slopes` does for p = 1 and one set of points, where no merging is needed."""
    moves = torch.nn.functional.pad(positions.diff(dim=1), (0, 1))
    of_estimate = (estimate - target).sgn_().mul_(moves)
    return of_estimate, -of_estimate


def from_below(slopes: Tensor) -> Tensor:
    """Turn slopes with respect to cumulative weights into slopes with respect to weights: (R, n)."""
    # slope_j = sum over k >= j; the running sum is taken from the total, which costs no flips.
    running = slopes.cumsum(1)
    return running[:, -1:] - running + slopes


class Transport(torch.autograd.Function):
    """Transport cost between weights on fixed points: (R, n), (R, m), positions, p to (R,); differentiable once."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        estimate: Tensor,
        target: Tensor,
        estimate_positions: Tensor,
        target_positions: Tensor,
        p: float,
    ) -> Tensor:
        levels = estimate.cumsum(1), target.cumsum(1)
        slopes = level_slopes(*levels, estimate_positions, target_positions, p)
        ctx.save_for_backward(*map(from_below, slopes))
        return sum((level * slope).sum(1) for level, slope in zip(levels, slopes, strict=True))

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple:
        differentiated_once()
        of_estimate, of_target = (slopes * gradient[:, None] for slopes in ctx.saved_tensors)
        return of_estimate, of_target, None, None, None


def _divided(
    slopes: tuple[Tensor, Tensor], masses: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Turn slopes with respect to weights into those of the masses that were divided by their totals."""
    return tuple(
        (slope - (slope * weight).sum(2, keepdim=True)).div_(mass)
        for slope, mass, weight in zip(slopes, masses, weights, strict=True)
    )


def _count(_: Sequence[float]) -> tuple[int, int]:
    return 1, 0


@spectral_operator("transport_sums", _count)
def transport_sums(
    estimate: Tensor,
    target: Tensor,
    options: Sequence[float],
    tables: Sequence[Tensor],
    needs: Sequence[bool],
) -> ChunkSums:
    """Sum the transport costs of the frames; both spectra are divided by their totals."""
    p, eps, squared, root = options
    positions, *banks = tables
    powers = [power(spectrum) for spectrum in (estimate, target)]
    bins = powers if squared or banks else [it.sqrt() for it in powers]
    bands = [it @ banks[0] for it in bins] if banks else bins
    masses = [it * it for it in bands] if banks and squared else bands
    totals = [mass.sum(2, keepdim=True) + eps for mass in masses]
    weights = [mass / sum_ for mass, sum_ in zip(masses, totals, strict=True)]
    levels = [weight.flatten(0, 1).cumsum(1) for weight in weights]
    slopes = line_slopes(*levels, positions) if p == 1 else level_slopes(*levels, positions, positions, p)
    costs = sum((level * slope).sum(1) for level, slope in zip(levels, slopes, strict=True))
    costs, factor = _rooted(costs, p, eps) if root else (costs, None)
    found: list[list[Tensor]] = []
    of_masses = _divided([from_below(slope).view_as(weights[0]) for slope in slopes], totals, weights)
    for spectrum, it, band, slope, need in zip((estimate, target), powers, bands, of_masses, needs, strict=True):
        if not need:
            found.append([])
            continue
        slope = slope if factor is None else slope * factor.view(*band.shape[:2], 1)
        slope = 2.0 * slope * band if banks and squared else slope
        slope = 2.0 * (slope @ banks[0].T) if banks else 2.0 * slope if squared else _over(slope, it)
        found.append([spectrum * slope])
    return ChunkSums([total(costs.view(estimate.shape[0], -1))], [], *found)


def _over(slope: Tensor, powers: Tensor) -> Tensor:
    """Divide by magnitudes, giving 0 where they are 0."""
    inverse = powers.rsqrt()
    return slope.mul_(inverse.masked_fill_(powers == 0, 0.0))


def _rooted(costs: Tensor, p: float, eps: float) -> tuple[Tensor, Tensor]:
    """Take the p-th root of costs, and its slope: for p = 2 of the cost plus eps."""
    if p == 1:
        return costs, torch.ones_like(costs)
    if p == 2:
        root = (costs + eps).sqrt()
        return root, 0.5 / root
    safe = costs.clamp(min=torch.finfo(costs.dtype).tiny)
    equal = costs <= 0
    root = torch.where(equal, 0.0, safe.pow(1.0 / p))
    return root, torch.where(equal, 0.0, root / (p * safe))
