"""Optimal transport between distributions on a line: closed forms per point, without sorting levels."""

import torch
from torch import Tensor

from sepkit.losses._numeric import differentiated_once
from sepkit.losses._stft import ChunkSums, KernelSettings, power, spectral_operator, total


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
    """Compute what a unit of level costs less once its own point is passed: |d|^p - |d + moved|^p."""
    if p == 2:
        return (2.0 * distance + moved).mul_(moved).neg_()
    return _cost(distance, p) - _cost(distance + moved, p)


def _gradients(positions: Tensor, other_positions: Tensor, counts: Tensor, *, p: float) -> Tensor:
    moved = torch.nn.functional.pad(positions.diff(dim=1), (0, 1))
    others = other_positions.expand(len(counts), -1).gather(1, counts.clamp_(max=other_positions.shape[1] - 1))
    return _step(positions - others, moved, p)


def level_gradients(
    estimate: Tensor, target: Tensor, *, estimate_positions: Tensor, target_positions: Tensor, p: float
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the transport cost with respect to the levels; the cost is levels times these, summed.

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
    of_estimate = _gradients(estimate_positions, target_positions, below, p=p)
    of_target = _gradients(target_positions, estimate_positions, at_or_below, p=p)
    # The integral ends at the higher total, where both wait at their last points.
    end = _cost(estimate_positions[:, -1] - target_positions[:, -1], p)
    estimate_is_higher = estimate[:, -1] >= target[:, -1]
    of_estimate[:, -1] += end * estimate_is_higher
    of_target[:, -1] += end * ~estimate_is_higher
    if estimate.shape == target.shape:
        differ = (estimate - target).abs().amax(1, keepdim=True).sign()
        of_estimate, of_target = of_estimate * differ, of_target * differ
    return of_estimate, of_target


def line_gradients(estimate: Tensor, target: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Compute what `level_gradients` does for p = 1 and one set of points, where no merging is needed."""
    moves = torch.nn.functional.pad(positions.diff(dim=1), (0, 1))
    of_estimate = (estimate - target).sgn_().mul_(moves)
    return of_estimate, -of_estimate


def from_below(gradients: Tensor) -> Tensor:
    """Turn gradients with respect to cumulative weights into gradients with respect to weights: (R, n)."""
    # gradient_j = sum over k >= j; the running sum is taken from the total, which costs no flips.
    running = gradients.cumsum(1)
    return running[:, -1:] - running + gradients


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
        positions = {"estimate_positions": estimate_positions, "target_positions": target_positions}
        gradients = level_gradients(*levels, **positions, p=p)
        ctx.save_for_backward(*map(from_below, gradients))
        return sum((level * gradient).sum(1) for level, gradient in zip(levels, gradients, strict=True))

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple:
        differentiated_once()
        return *(saved * gradient[:, None] for saved in ctx.saved_tensors), None, None, None


@spectral_operator("transport_sums", lambda _: (1, 0))
def transport_sums(estimate: Tensor, target: Tensor, settings: KernelSettings) -> ChunkSums:
    """Sum the transport costs of the frames; both spectra are divided by their totals."""
    p, eps, squared, root = settings.options
    positions, *banks = settings.tables
    powers = [power(spectrum) for spectrum in (estimate, target)]
    bins = powers if squared or banks else [bin_powers.sqrt() for bin_powers in powers]
    bands = [magnitudes @ banks[0] for magnitudes in bins] if banks else bins
    masses = [band * band for band in bands] if banks and squared else bands
    totals = [mass.sum(2, keepdim=True) + eps for mass in masses]
    weights = [mass / mass_total for mass, mass_total in zip(masses, totals, strict=True)]
    levels = [weight.flatten(0, 1).cumsum(1) for weight in weights]
    if p == 1:
        of_levels = line_gradients(*levels, positions)
    else:
        of_levels = level_gradients(*levels, estimate_positions=positions, target_positions=positions, p=p)
    costs = sum((level * gradient).sum(1) for level, gradient in zip(levels, of_levels, strict=True))
    costs, factor = _rooted(costs, p, eps) if root else (costs, None)
    gradients: list[list[Tensor]] = []
    sides = zip((estimate, target), powers, bands, of_levels, totals, weights, settings.needs, strict=True)
    for spectrum, bin_powers, band, of_level, mass_total, weight, need in sides:
        if not need:
            gradients.append([])
            continue
        gradient = from_below(of_level).view_as(weight)
        gradient = (gradient - (gradient * weight).sum(2, keepdim=True)).div_(mass_total)
        if factor is not None:
            gradient = gradient * factor.view(*band.shape[:2], 1)
        if banks:
            gradient = 2.0 * ((2.0 * gradient * band if squared else gradient) @ banks[0].T)
        else:
            gradient = 2.0 * gradient if squared else _over(gradient, bin_powers)
        gradients.append([spectrum * gradient])
    return ChunkSums([total(costs.view(estimate.shape[0], -1))], [], gradients)


def _over(gradient: Tensor, powers: Tensor) -> Tensor:
    """Divide by magnitudes, with 0 where they are 0."""
    inverse = powers.rsqrt()
    return gradient.mul_(inverse.masked_fill_(powers == 0, 0.0))


def _rooted(costs: Tensor, p: float, eps: float) -> tuple[Tensor, Tensor]:
    """Take the p-th root of costs, and its gradient: for p = 2 of the cost plus eps."""
    if p == 1:
        return costs, torch.ones_like(costs)
    if p == 2:
        root = (costs + eps).sqrt()
        return root, 0.5 / root
    safe = costs.clamp(min=torch.finfo(costs.dtype).tiny)
    equal = costs <= 0
    root = torch.where(equal, 0.0, safe.pow(1.0 / p))
    return root, torch.where(equal, 0.0, root / (p * safe))
