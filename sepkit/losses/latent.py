"""Losses on latent variables: how far a network's posterior is from the standard normal distribution."""

import math

import torch
from torch import Tensor, nn

from sepkit.losses._check import check_choice, check_real, check_same_shape
from sepkit.losses._numeric import full_precision, item_mean, item_sum, reduce

REDUCTIONS = ("sum", "mean", "batchmean", "none")
_VARIANCE_FLOOR = 1e-12


def _log(variance: Tensor) -> Tensor:
    """Take the logarithm, continued as a straight line below the floor: finite and rising from 0."""
    below = math.log(_VARIANCE_FLOOR) + variance / _VARIANCE_FLOOR - 1
    # One of the two, not their sum, in whose gradient the line's 1 / floor would drown the logarithm's.
    return torch.where(variance > _VARIANCE_FLOOR, variance.clamp(min=_VARIANCE_FLOOR).log(), below)


@full_precision
def kl_div_loss(mu: Tensor, sigma: Tensor, reduction: str = "sum") -> Tensor:
    """Measure the Kullback-Leibler divergence of N(mu, sigma^2) from N(0, 1), in nats.

    Args:
        mu: (B, ...), means.
        sigma: (B, ...), standard deviations; the sign does not matter.
        reduction: sum or mean over all elements; batchmean: the sum over the number of items; none: the mean
            of each item.

    Returns:
        A scalar, or (B,) for none.

    Source:
        D. Kingma, M. Welling, Auto-encoding variational Bayes, 2014, appendix B.
    """
    check_choice("reduction", reduction, REDUCTIONS)
    check_same_shape(1, "(B, ...)", mu=mu, sigma=sigma)
    check_real(mu=mu, sigma=sigma)
    variance = sigma.square()
    divergence = 0.5 * (mu.square() + variance - _log(variance) - 1.0)
    if reduction in ("sum", "batchmean"):
        return item_sum(divergence).sum() / (len(mu) if reduction == "batchmean" else 1)
    return reduce(item_mean(divergence), reduction)


class KLDivergenceLoss(nn.Module):
    """Apply `kl_div_loss` to the latent variables of a variational network.

    Args:
        reduction: sum, mean, batchmean or none; a sum needs a small weight beside losses that are means.
    """

    def __init__(self, reduction: str = "sum") -> None:
        super().__init__()
        check_choice("reduction", reduction, REDUCTIONS)
        self.reduction = reduction

    def forward(self, mu: Tensor, sigma: Tensor) -> Tensor:
        """Compare (B, ...); returns a scalar, or (B,) for reduction none."""
        return kl_div_loss(mu, sigma, self.reduction)
