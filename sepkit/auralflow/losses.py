"""Losses under auralflow's names, with its arguments."""

from torch import Tensor

from sepkit.losses import (
    MagnitudeL1Loss,
    MagnitudeL2Loss,
    MagnitudeLogL1Loss,
    MagnitudeLogL2Loss,
    MagnitudeRMSELoss,
)
from sepkit.losses._check import check_above_0, check_reduction, check_waveforms, choose_reduction
from sepkit.losses._numeric import full_precision, item_sum, reduce


class L1Loss(MagnitudeL1Loss):
    """Compare magnitudes by `MagnitudeL1Loss`.

    Args:
        reduce_mean: False is another word for the reduction sum.
        reduction: mean, sum or none.
    """

    def __init__(self, reduce_mean: bool = True, reduction: str = "mean") -> None:
        super().__init__(choose_reduction(reduce_mean, reduction))


class L2Loss(MagnitudeL2Loss):
    """Compare magnitudes by `MagnitudeL2Loss`.

    Args:
        reduce_mean: False is another word for the reduction sum.
        reduction: mean, sum or none.
    """

    def __init__(self, reduce_mean: bool = True, reduction: str = "mean") -> None:
        super().__init__(choose_reduction(reduce_mean, reduction))


class RMSELoss(MagnitudeRMSELoss):
    """Compare magnitudes by `MagnitudeRMSELoss`."""


class LogL1Loss(MagnitudeLogL1Loss):
    """Compare magnitudes by `MagnitudeLogL1Loss`."""


class LogL2Loss(MagnitudeLogL2Loss):
    """Compare magnitudes by `MagnitudeLogL2Loss`."""


@full_precision
def si_sdr_loss(estimate: Tensor, target: Tensor, reduction: str = "mean", eps: float = 1e-12) -> Tensor:
    """Measure the negative scale-invariant signal-to-distortion ratio of each item in dB.

    Unlike in `SISDRLoss`, means are not removed, and the energies of channels are added up; each is scaled on its own.

    Args:
        estimate: (B, ..., T).
        target: (B, ..., T).
        reduction: mean, sum or none, over items.
        eps: added to energies, which bounds the loss where one is zero.

    Returns:
        A scalar, or (B,) for none.

    Source:
        J. Le Roux, S. Wisdom, H. Erdogan, J. Hershey, SDR - half-baked or well done?, 2019, eq. 4;
        channels as in auralflow.
    """
    check_waveforms(estimate, target, n_dims=2)
    check_reduction(reduction)
    check_above_0(eps=eps)
    gain = (estimate * target).sum(-1, keepdim=True) / (target.square().sum(-1, keepdim=True) + eps)
    projection = gain * target
    kept, lost = item_sum(projection.square()), item_sum((estimate - projection).square())
    return reduce(-10.0 * ((kept + eps) / (lost + eps)).log10(), reduction)
