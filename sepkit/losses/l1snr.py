"""Ratios of mean absolute errors of waveforms in dB: the L1-SNR family in the time domain."""

import math

import torch
from torch import Tensor, nn

from sepkit.losses._check import (
    check_above_0,
    check_at_least_0,
    check_flags,
    check_range,
    check_real,
    check_reduction,
    check_same_shape,
    check_waveforms,
)
from sepkit.losses._numeric import full_precision, item_mean, reduce
from sepkit.losses.composite import CompositeLoss

DB_PER_NEPER = 10.0 / math.log(10.0)


@full_precision
def dbrms(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Measure the level of each item.

    Args:
        x: (B, ...).
        eps: added to the mean square, at least 0; 1e-8 puts silence at -80 dB.

    Returns:
        (B,), dB re 1.
    """
    check_same_shape(1, "(B, ...)", x=x)
    check_real(x=x)
    check_at_least_0(eps=eps)
    rows = x.reshape(x.shape[0], -1)
    # A norm keeps no squares for the backward pass.
    return 10.0 * (torch.linalg.vector_norm(rows, dim=1).square() / rows.shape[1] + eps).log10()


def scale_gradient(loss: Tensor, grad_scale: float) -> Tensor:
    """Multiply the gradient, not the value."""
    return loss if grad_scale == 1.0 else loss.detach() + grad_scale * (loss - loss.detach())


def l1_snr(error: Tensor, reference: Tensor, eps: float) -> Tensor:
    """Divide a mean absolute error by a mean absolute reference, in dB; eps is added to both."""
    return 10.0 * ((error + eps) / (reference + eps)).log10()


def blend_l1(snr: Tensor, error: Tensor, *, l1_weight: float, slope: float) -> Tensor:
    """Mix a ratio in dB with a plain L1 error that has the slope (dB per unit) of a typical target.

    At l1_weight 1 it is the plain error alone, without the slope: the blend is not continuous there.
    """
    if l1_weight >= 1.0:
        return error
    if l1_weight == 0.0:
        return snr
    return (1.0 - l1_weight) * snr + l1_weight * slope * error


def level_penalty(
    estimate_level: Tensor, target_level: Tensor, *, lambda0: float, delta_lambda: float, lmin: float
) -> Tensor:
    """Weight the difference of two levels, the more the quieter an estimate is than an audible target.

    Args:
        estimate_level: (B,), dB.
        target_level: (B,), dB.
        lambda0: weight of any difference.
        delta_lambda: what a target at `lmin` or louder adds to it, at most.
        lmin: level below which a target is not audible, dB.

    Returns:
        (B,), dB; the weight passes no gradient, but second derivatives are those of the gradient.
    """
    difference = (estimate_level - target_level).abs()
    audible = target_level > estimate_level.clamp(min=lmin)
    share = (difference / (target_level - lmin).clamp(min=1e-6)).clamp(0.0, 1.0)
    weight = lambda0 + audible * delta_lambda * share
    if torch.compiler.is_compiling():  # where nothing is differentiated twice
        return weight.detach() * difference
    return _Weighed.apply(weight, difference)


class _Weighed(torch.autograd.Function):
    """The product of two, whose gradient takes the weight for a constant; its second derivative does not."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, difference: Tensor) -> Tensor:
        return weight * difference

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor], _: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[None, Tensor]:
        return None, ctx.saved_tensors[0] * gradient

    @staticmethod
    def jvp(ctx: torch.autograd.function.FunctionCtx, _: Tensor | None, tangent: Tensor) -> Tensor:
        return ctx.saved_tensors[0] * tangent


class L1SNRLoss(nn.Module):
    """Compare waveforms by the mean absolute error over the target's mean absolute value, in dB, per item.

    All channels of an item make one ratio.

    Args:
        name: a label, kept as an attribute.
        weight: factor of the loss.
        eps: added to both means, full scale 1; a target quieter than this hardly counts.
        l1_weight: share of a plain L1 error, 0 to 1; at 1 nothing else remains, and the slope is lost.
        ref_level: mean absolute value of a typical target, which sets the slope of the L1 share.
        grad_scale: factor of the gradient alone.
        reduction: mean, sum or none, over items.

    Source:
        torch-l1-snr 0.2.1.
    """

    def __init__(
        self,
        name: str | None = None,
        weight: float = 1.0,
        eps: float = 1e-3,
        l1_weight: float = 0.0,
        ref_level: float = 0.05,
        grad_scale: float = 1.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_at_least_0(weight=weight)
        check_above_0(eps=eps, ref_level=ref_level, grad_scale=grad_scale)
        check_range("l1_weight", l1_weight, high=1.0)
        check_reduction(reduction)
        self.name, self.weight, self.eps, self.reduction = name, weight, eps, reduction
        self.l1_weight, self.ref_level, self.grad_scale = l1_weight, ref_level, grad_scale

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare (B, ..., T); returns a scalar, or (B,) for reduction none."""
        check_waveforms(estimate, target, n_dims=2)
        error = item_mean((estimate - target).abs())
        snr = l1_snr(error, item_mean(target.abs()), self.eps)
        slope = DB_PER_NEPER / (self.ref_level + self.eps)
        loss = blend_l1(snr, error, l1_weight=self.l1_weight, slope=slope)
        return reduce(scale_gradient(self.weight * loss, self.grad_scale), self.reduction)


class L2SNRLoss(nn.Module):
    """Compare waveforms by the mean squared error over the target's mean square, in dB, per item.

    Args:
        name: a label, kept as an attribute.
        weight: factor of the loss.
        eps: added to both means, full scale 1.
        tau: share of the target's power added to the error's: no gain beyond -10 log10(tau) dB.
        grad_scale: factor of the gradient alone.
        reduction: mean, sum or none, over items.

    Source:
        torch-l1-snr 0.2.1.
    """

    def __init__(
        self,
        name: str | None = None,
        weight: float = 1.0,
        eps: float = 1e-6,
        tau: float = 1e-3,
        grad_scale: float = 1.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_at_least_0(weight=weight, tau=tau)
        check_above_0(eps=eps, grad_scale=grad_scale)
        check_reduction(reduction)
        self.name, self.weight, self.eps, self.tau = name, weight, eps, tau
        self.grad_scale, self.reduction = grad_scale, reduction

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare (B, ..., T); returns a scalar, or (B,) for reduction none."""
        check_waveforms(estimate, target, n_dims=2)
        error, reference = item_mean((estimate - target).square()), item_mean(target.square())
        ratio = (error + self.tau * reference + self.eps) / (reference + self.eps)
        return reduce(scale_gradient(self.weight * 10.0 * ratio.log10(), self.grad_scale), self.reduction)


class L1SNRDBLoss(CompositeLoss):
    """Add to `L1SNRLoss` a penalty on the difference of the levels, stronger for estimates too quiet.

    Args:
        name: a label, kept as an attribute.
        weight: factor of the loss.
        lambda0: weight of any difference of level.
        delta_lambda: what too quiet an estimate of an audible target adds to it.
        l1snr_eps: added to mean absolute values, full scale 1.
        dbrms_eps: added to mean squares of levels.
        lmin: level below which a target is not audible, dB re 1.
        use_regularization: add the penalty.
        l1_weight: share of a plain L1 error, 0 to 1; it takes from ratio and penalty alike.
        reg_coef: factor of the penalty.
        ref_level: mean absolute value of a typical target.
        grad_scale: factor of the gradient alone.
        reduction: mean, sum or none, over items.

    Source:
        torch-l1-snr 0.2.1.
    """

    def __init__(
        self,
        name: str | None = None,
        weight: float = 1.0,
        lambda0: float = 0.1,
        delta_lambda: float = 0.9,
        l1snr_eps: float = 1e-3,
        dbrms_eps: float = 1e-8,
        lmin: float = -60.0,
        use_regularization: bool = True,
        l1_weight: float = 0.0,
        reg_coef: float = 1.0,
        ref_level: float = 0.05,
        grad_scale: float = 1.0,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_at_least_0(weight=weight, lambda0=lambda0, delta_lambda=delta_lambda, reg_coef=reg_coef)
        check_above_0(l1snr_eps=l1snr_eps, dbrms_eps=dbrms_eps, grad_scale=grad_scale)
        check_range("lmin", lmin, -math.inf)
        check_flags(use_regularization=use_regularization)
        check_reduction(reduction)
        self.ratio = L1SNRLoss(eps=l1snr_eps, l1_weight=l1_weight, ref_level=ref_level, reduction="none")
        self.name, self.weight, self.grad_scale, self.reduction = name, weight, grad_scale, reduction
        self.penalty = {"lambda0": lambda0, "delta_lambda": delta_lambda, "lmin": lmin}
        self.dbrms_eps = dbrms_eps
        self.penalty_weight = (1.0 - l1_weight) * reg_coef if use_regularization else 0.0

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms of each item of (B, ..., T), ratio and level: (B,) each."""
        terms = {"ratio": self.ratio(estimate, target)}
        if self.penalty_weight:
            levels = dbrms(estimate, self.dbrms_eps), dbrms(target, self.dbrms_eps)
            terms["level"] = self.penalty_weight * level_penalty(*levels, **self.penalty)
        return {name: scale_gradient(self.weight * term, self.grad_scale) for name, term in terms.items()}
