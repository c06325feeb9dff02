"""Losses on masks: what a mask does to the target and to everything else in the mixture."""

import warnings
from functools import lru_cache

import torch
from torch import Tensor, nn

from sepkit.losses._check import (
    check_above_0,
    check_choice,
    check_range,
    check_real,
    check_reduction,
    check_same_shape,
    choose_reduction,
)
from sepkit.losses._numeric import full_precision, item_mean, reduce, reduce_elements
from sepkit.losses.composite import CompositeLoss

UNITS = ("item", "all", "frame")


def _weights(alpha: float, beta: float | None) -> tuple[float, float, float]:
    check_range("alpha", alpha, high=1.0)
    check_range("beta", 0.0 if beta is None else beta, high=1.0)
    separation = 1.0 - alpha - (beta or 0.0)
    if separation < -1e-6:
        raise ValueError(f"alpha + beta must be at most 1, got {alpha} + {beta}; lower one of them")
    return max(separation, 0.0), alpha, beta or 0.0


@lru_cache
def _warn_without_separation(alpha: float, beta: float | None) -> None:
    separation, attenuation, quality = _weights(alpha, beta)
    if separation <= 1e-6:
        warnings.warn(
            f"component loss: the weights are separation {separation:g}, attenuation {attenuation:g}, "
            f"quality {quality:g}; without a separation term a mask of zeros is the optimum, try alpha=0.1, beta=0.8",
            stacklevel=3,
        )


def _unit(spectrogram: Tensor, unit: str) -> Tensor:
    dims = {"item": tuple(range(1, spectrogram.dim())), "all": None, "frame": (-2,)}[unit]
    power = spectrogram.square().sum(dim=dims, keepdim=True)
    # A silent spectrogram has no direction: it stays zero, and no gradient divides by its norm.
    return spectrogram / torch.where(power > 1e-20, power, 1.0).sqrt()


def _component_terms(
    mask: Tensor, target: Tensor, residual: Tensor, *, weights: tuple[float, float, float], unit: str
) -> dict[str, Tensor]:
    """Compute the weighted terms of each item: (B,) each, only those whose weight is not 0."""
    n_dims, letters = (3, "(B, ..., F, N)") if unit == "frame" else (2, "(B, ...)")
    check_same_shape(n_dims, letters, mask=mask, target=target, residual=residual)
    _check_mask(mask)
    check_real(mask=mask, target=target, residual=residual)
    separation, attenuation, quality = weights
    leaked = mask * residual
    terms = {}
    if separation:
        terms["separation"] = separation * item_mean((mask * target - target).square())
    if attenuation:
        terms["attenuation"] = attenuation * item_mean(leaked.square())
    if quality:
        terms["quality"] = quality * item_mean((_unit(leaked, unit) - _unit(residual, unit)).square())
    return terms


def _check_mask(mask: Tensor) -> None:
    if mask.is_complex():
        raise ValueError(f"mask must be real, got {mask.dtype}; use a loss on estimate_spectrogram instead")


@full_precision
def component_loss(
    mask: Tensor,
    target: Tensor,
    residual: Tensor,
    alpha: float = 0.2,
    beta: float | None = 0.8,
    unit: str = "item",
    reduction: str = "mean",
) -> Tensor:
    """Measure what a mask takes from the target, what it leaves of the residual, and how it changes its shape.

    With y the target, r the residual and m the mask, the mean over elements of (1 - alpha - beta) (m y - y)^2 +
    alpha (m r)^2 + beta (m r / |m r| - r / |r|)^2. The defaults give the first term the weight 0, which rewards
    silence.

    Args:
        mask: (B, ...), real; spectrograms end in (F, N).
        target: (B, ...), magnitudes of the wanted source.
        residual: (B, ...), magnitudes of everything else, `|X| - |Y|`, signed.
        alpha: weight of the residual that passes, 0 to 1.
        beta: weight of the residual's change of shape, 0 to 1; None, like 0, leaves it out.
        unit: over what |.| is taken: each item, all of the tensor, or each frame (over F).
        reduction: mean, sum or none, over items.

    Returns:
        A scalar, or (B,) for none.

    Raises:
        ValueError: alpha + beta is above 1, shapes differ, or the mask is complex.

    Source:
        Z. Xu, S. Elshamy, Z. Zhao, T. Fingscheidt, Components loss for neural networks in mask-based speech
        enhancement, 2021; the residual is |X| - |Y| here. The values are those of auralflow's formula.
    """
    check_choice("unit", unit, UNITS)
    check_reduction(reduction)
    weights = _weights(alpha, beta)
    _warn_without_separation(alpha, beta)
    terms = _component_terms(mask, target, residual, weights=weights, unit=unit)
    return reduce(torch.stack(list(terms.values())).sum(0), reduction)


class ComponentLoss(CompositeLoss):
    """Apply `component_loss` to a mask and the magnitudes of target and residual.

    Args:
        alpha: weight of the residual that passes, 0 to 1.
        beta: weight of the residual's change of shape, 0 to 1; None: without it.
        unit: item, all or frame.
        reduction: mean, sum or none.
    """

    def __init__(
        self, alpha: float = 0.2, beta: float | None = 0.8, unit: str = "item", reduction: str = "mean"
    ) -> None:
        super().__init__()
        check_choice("unit", unit, UNITS)
        check_reduction(reduction)
        self.weights = _weights(alpha, beta)
        _warn_without_separation(alpha, beta)
        self.unit, self.reduction = unit, reduction

    def terms(self, mask: Tensor, target_magnitude: Tensor, interference_magnitude: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms of each item of (B, ...), separation, attenuation and quality: (B,) each."""
        spectra = mask, target_magnitude, interference_magnitude
        return _component_terms(*spectra, weights=self.weights, unit=self.unit)


_DISTANCES = {"l1": torch.abs, "l2": torch.square}


@full_precision
def mask_loss(
    mask: Tensor,
    mixture: Tensor,
    target: Tensor,
    loss_fn: str = "l1",
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Measure how far a mask is from the ideal ratio `|Y| / max(|X|, eps)`, which is not clipped.

    Args:
        mask: (B, ...), real.
        mixture: (B, ...), magnitudes |X|.
        target: (B, ...), magnitudes |Y|.
        loss_fn: l1 or l2.
        eps: least magnitude that is divided by, in the unit of the magnitudes.
        reduction: mean or sum over elements; none: the mean over each item.

    Returns:
        A scalar, or (B,) for none.

    Source:
        auralflow, MaskLoss.
    """
    check_choice("loss_fn", loss_fn, tuple(_DISTANCES))
    check_above_0(eps=eps)
    check_reduction(reduction)
    check_same_shape(2, "(B, ...)", mask=mask, mixture=mixture, target=target)
    _check_mask(mask)
    check_real(mask=mask, mixture=mixture, target=target)
    distance = _DISTANCES[loss_fn](mask - target / mixture.clamp(min=eps))
    return reduce_elements(distance, reduction)


class MaskLoss(nn.Module):
    """Apply `mask_loss` to a mask and the magnitudes of mixture and target.

    Args:
        loss_fn: l1 or l2.
        reduce_mean: False, as in auralflow, is another word for the reduction sum.
        eps: least magnitude that is divided by.
        reduction: mean, sum or none.
    """

    def __init__(
        self, loss_fn: str = "l1", reduce_mean: bool = True, eps: float = 1e-6, reduction: str = "mean"
    ) -> None:
        super().__init__()
        check_choice("loss_fn", loss_fn, tuple(_DISTANCES))
        check_above_0(eps=eps)
        self.loss_fn, self.eps, self.reduction = loss_fn, eps, choose_reduction(reduce_mean, reduction)

    def forward(self, mask: Tensor, mixture_magnitude: Tensor, target_magnitude: Tensor) -> Tensor:
        """Compare (B, ...) masks; returns a scalar, or (B,) for reduction none."""
        options = {"loss_fn": self.loss_fn, "eps": self.eps, "reduction": self.reduction}
        return mask_loss(mask, mixture_magnitude, target_magnitude, **options)
