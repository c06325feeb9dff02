"""Distances of distributions on a line and on a circle, as functions."""

import torch
from torch import Tensor

from sepkit.losses._check import check_flags, check_range, check_real, check_same_shape, check_tensors
from sepkit.losses._numeric import full_precision


@full_precision
def quantile_function(qs: Tensor, cws: Tensor, xs: Tensor) -> Tensor:
    """Find where a discrete distribution reaches some levels.

    Args:
        qs: (..., k), levels.
        cws: (..., n), cumulative weights, rising.
        xs: (..., n), positions.

    Returns:
        (..., k), positions; the last one beyond the last level.
    """
    check_tensors(qs=qs, cws=cws, xs=xs)
    check_real(qs=qs, cws=cws, xs=xs)
    check_same_shape(1, "(..., n)", cws=cws, xs=xs)
    if qs.shape[:-1] != cws.shape[:-1] or not qs.dim():
        raise ValueError(f"qs must be (..., k) beside cws {tuple(cws.shape)}, got {tuple(qs.shape)}")
    index = torch.searchsorted(cws.contiguous(), qs.contiguous())
    return torch.take_along_dim(xs, index.clamp(max=xs.shape[-1] - 1), dim=-1)


def _uniform(values: Tensor, weights: Tensor | None) -> Tensor:
    return torch.full_like(values, 1.0 / values.shape[1]) if weights is None else weights


def _in_order(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    values, order = values.sort(1)
    return values, weights.gather(1, order)


def _check_distributions(**tensors: Tensor | None) -> None:
    """Refuse anything but positions (batch, n) and (batch, m), with weights of their shapes, or None."""
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None or name.endswith("values")}
    check_tensors(**tensors)
    check_real(**tensors)
    for name, tensor in tensors.items():
        if tensor.dim() != 2 or 0 in tensor.shape or len(tensor) != len(tensors["u_values"]):
            raise ValueError(f"{name} must be (batch, n), at least 1 each, got {tuple(tensor.shape)}")
    for name in ("u", "v"):
        if f"{name}_weights" in tensors:
            check_same_shape(2, "(batch, n)", **{part: tensors[part] for part in (f"{name}_values", f"{name}_weights")})


@full_precision
def wasserstein_1d(
    u_values: Tensor,
    v_values: Tensor,
    u_weights: Tensor | None = None,
    v_weights: Tensor | None = None,
    p: float = 1,
    require_sort: bool = True,
    return_quantiles: bool = False,
    limit_quantile_range: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Measure the p-th power of the Wasserstein distance of distributions on a line.

    Args:
        u_values: (batch, n), positions.
        v_values: (batch, m), positions.
        u_weights: (batch, n), >= 0; None: 1 / n each.
        v_weights: (batch, m), >= 0; None: 1 / m each.
        p: order, >= 1.
        require_sort: sort the positions first; without it they must rise.
        return_quantiles: give the quantiles of both at all levels, the levels, and both cumulative weights instead.
        limit_quantile_range: leave out levels above 1, where weights do not add up to 1.

    Returns:
        (batch,), or five tensors for return_quantiles.

    The gradient of equal levels, which positions without weight have, goes to whichever comes last in torch's sort.

    Source:
        G. Peyre, M. Cuturi, Computational optimal transport, 2019, remark 2.30; where totals differ, the lighter
        distribution waits at its last position.
    """
    check_range("p", p, 1)
    check_flags(require_sort=require_sort, return_quantiles=return_quantiles, limit_quantile_range=limit_quantile_range)
    _check_distributions(u_values=u_values, v_values=v_values, u_weights=u_weights, v_weights=v_weights)
    u_weights, v_weights = _uniform(u_values, u_weights), _uniform(v_values, v_weights)
    if require_sort:
        u_values, u_weights = _in_order(u_values, u_weights)
        v_values, v_weights = _in_order(v_values, v_weights)
    u_levels, v_levels = u_weights.cumsum(1), v_weights.cumsum(1)
    levels = torch.cat((u_levels, v_levels), 1).sort(1).values
    u_quantiles = quantile_function(levels, u_levels, u_values)
    v_quantiles = quantile_function(levels, v_levels, v_values)
    if return_quantiles:
        return u_quantiles, v_quantiles, levels, u_levels, v_levels
    widths = torch.nn.functional.pad(levels, (1, 0)).diff(dim=1)
    if limit_quantile_range:
        widths = torch.where(levels > 1, 0.0, widths)
    distance = (u_quantiles - v_quantiles).abs()
    return (widths * (distance if p == 1 else distance.pow(p))).sum(1)


@full_precision
def wasserstein_1d_circle(
    u_values: Tensor,
    v_values: Tensor,
    u_weights: Tensor | None = None,
    v_weights: Tensor | None = None,
    require_sort: bool = True,
) -> Tensor:
    """Measure the Wasserstein distance of order 1 of distributions on a circle of circumference 1.

    Args:
        u_values: (batch, n), positions, taken modulo 1.
        v_values: (batch, m), positions, taken modulo 1.
        u_weights: (batch, n), that add up to 1; None: 1 / n each.
        v_weights: (batch, m), that add up to 1; None: 1 / m each.
        require_sort: kept for its place: positions of both are merged in any case.

    Returns:
        (batch,).

    Source:
        J. Rabin, J. Delon, Y. Gousseau, Transportation distances on the circle, 2011: the level median formula.
    """
    check_flags(require_sort=require_sort)
    _check_distributions(u_values=u_values, v_values=v_values, u_weights=u_weights, v_weights=v_weights)
    weights = torch.cat((_uniform(u_values, u_weights), -_uniform(v_values, v_weights)), 1)
    values, weights = _in_order(torch.cat((u_values, v_values), 1) % 1.0, weights)
    difference = weights.cumsum(1)
    widths = torch.cat((values.diff(dim=1), 1.0 - values[:, -1:]), 1)
    ranked, order = difference.detach().sort(1)
    share = widths.detach().gather(1, order).cumsum(1)
    middle = torch.searchsorted(share, 0.5 * share[:, -1:]).clamp(max=share.shape[1] - 1)
    return (widths * (difference - ranked.gather(1, middle)).abs()).sum(1)
