"""Bands of bins, linear up to 600 Hz and logarithmic above."""

import math

import torch
from torch import Tensor

_LINEAR_BELOW = 600.0  # Hz


def triangular_bands(frequencies: Tensor, n_bands: int) -> Tensor:
    """Build triangular bands, linear up to 600 Hz and logarithmic above; each averages its bins.

    Args:
        frequencies: of the bins, Hz, evenly spaced from 0, (F,), F >= 2.
        n_bands: K.

    Returns:
        (K, F), each row sums to 1.
    """
    edges = _edges(float(frequencies[-1]), n_bands)
    widths = edges.diff().clamp(min=float(frequencies[1]))  # so that each triangle reaches at least one bin
    distances = frequencies - edges[1:-1, None]  # (K, F)
    rising, falling = 1 + distances / widths[:-1, None], 1 - distances / widths[1:, None]
    bands = torch.minimum(rising, falling).clamp(min=0)
    return (bands / bands.sum(1, keepdim=True).clamp(min=1e-9)).float()


def band_interpolation(frequencies: Tensor, n_bands: int) -> Tensor:
    """Build the matrix that draws straight lines between the centres of `triangular_bands`, level beyond them.

    Args:
        frequencies: of the bins, Hz, evenly spaced from 0, (F,), F >= 2.
        n_bands: K, >= 2.

    Returns:
        (F, K), each row sums to 1.
    """
    centres = _edges(float(frequencies[-1]), n_bands)[1:-1]
    inside = frequencies.clamp(centres[0], centres[-1])
    upper = torch.searchsorted(centres, inside).clamp(1, n_bands - 1)
    share = (inside - centres[upper - 1]) / (centres[upper] - centres[upper - 1])
    matrix = torch.zeros(len(frequencies), n_bands, dtype=torch.float64)
    matrix.scatter_(1, upper[:, None], share[:, None])
    return matrix.scatter_(1, upper[:, None] - 1, 1 - share[:, None]).float()


def _edges(highest: float, n_bands: int) -> Tensor:
    """Place the outer edges and the centres of bands up to `highest` Hz: (K + 2,)."""
    knee = min(_LINEAR_BELOW, highest)
    steps = torch.linspace(0, 1 + math.log(highest / knee), n_bands + 2, dtype=torch.float64)
    return knee * torch.where(steps < 1, steps, torch.exp(steps - 1))
