"""The one check that all metrics begin with."""

import torch


def check_waveforms(estimate: torch.Tensor, target: torch.Tensor, wanted: str = "(..., C, T)") -> None:
    """Raise unless estimate and target have one shape, with the wanted dimensions and at least one sample.

    Args:
        estimate: any shape.
        target: any shape.
        wanted: the letters of the shape; with dots any number of dimensions may precede the named ones.
    """
    leading, n_named = "..." in wanted, sum(letter.isupper() for letter in wanted)
    if estimate.shape != target.shape or target.ndim < n_named or (target.ndim > n_named and not leading):
        raise ValueError(
            f"estimate and target must both be {wanted}, got {tuple(estimate.shape)} and {tuple(target.shape)}"
        )
    if target.numel() == 0:
        raise ValueError(f"target must hold at least one sample, got {tuple(target.shape)}")
