"""What is done between left and right."""

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import check_waveform
from sepkit.augment._arguments import check_probability, check_span, draw_choice, draw_factors


class MidSideGain:
    """Change the levels of mid and side of each stem, of one channel's sum and difference with the other.

    Both are drawn uniformly in decibels: a stem becomes wider or narrower, its balance stays.

    Args:
        low_db: least gain, dB.
        high_db: greatest gain, dB.
        probability: of a changed stem, [0, 1].
        n_channels: of the stems, which must be 2; a recipe's separator gives it.
    """

    def __init__(
        self, low_db: float = -6.0, high_db: float = 6.0, probability: float = 1.0, n_channels: int = 2
    ) -> None:
        self.low_db, self.high_db = check_span(low_db, high_db)
        self.probability = check_probability(probability)
        if n_channels != 2:
            raise ValueError(f"n_channels must be 2 for MidSideGain, got {n_channels}; leave it out")

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw the factors of mid and side (K, 2), 1 where nothing changes."""
        factors = draw_factors(generator, (self.low_db, self.high_db), (n_stems, 2))
        return np.where(draw_choice(generator, self.probability, (n_stems, 1)), factors, 1.0)

    @torch.no_grad()
    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Scale mid and side of the stems (..., K, 2, T) by factors (..., K, 2)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        if stems.shape[-2] != 2:
            raise ValueError(f"MidSideGain needs stems (..., K, 2, T), got {tuple(stems.shape)}; leave it out")
        mid, side = (parameters.to(stems, non_blocking=True) / 2).unbind(-1)
        own, other = (mid + side)[..., None, None], (mid - side)[..., None, None]
        return (stems * own).addcmul_(stems.flip(-2), other)
