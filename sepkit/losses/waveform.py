"""Losses on waveforms, computed in the time domain."""

from torch import Tensor

from sepkit.losses._check import check_range, check_reduction, check_waveforms
from sepkit.losses._numeric import full_precision, item_sum, reduce


@full_precision
def si_sdr_loss(estimate: Tensor, target: Tensor, reduction: str = "mean", eps: float = 1e-12) -> Tensor:
    """Measure the negative scale-invariant signal-to-distortion ratio of each item in dB.

    Each channel of the target is scaled on its own, then energies are added up; means are not removed.

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
    check_range("eps", eps, above=True)
    gain = (estimate * target).sum(-1, keepdim=True) / (target.square().sum(-1, keepdim=True) + eps)
    projection = gain * target
    kept, lost = item_sum(projection.square()), item_sum((estimate - projection).square())
    return reduce(-10.0 * ((kept + eps) / (lost + eps)).log10(), reduction)
