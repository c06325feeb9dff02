"""Pitch and tempo, changed together."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sepkit.arguments import check_waveform, is_number
from sepkit.augment._arguments import check_probability


class Speed:
    """Play some stems faster or slower, which changes pitch and tempo together.

    What a faster stem lacks at the end is silence. Samples are interpolated linearly.

    Args:
        low: least factor, > 0.
        high: greatest factor.
        probability: of a changed stem, [0, 1].
    """

    def __init__(self, low: float = 0.85, high: float = 1.15, probability: float = 1.0) -> None:
        if not all(map(is_number, (low, high))) or not 0 < low <= high:
            raise ValueError(f"low and high must be factors, 0 < low <= high, got {low} and {high}")
        self.low, self.high, self.probability = low, high, check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw factors (K,), 1 where nothing changes."""
        factors = np.exp(generator.uniform(np.log(self.low), np.log(self.high), n_stems))
        return np.where(generator.random(n_stems) < self.probability, factors, 1.0)

    @torch.no_grad()
    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Play the stems (..., K, C, T) at factors (..., K)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        n_samples = stems.shape[-1]
        played = stems.clone(memory_format=torch.contiguous_format)
        for stem, factor in zip(played.view(-1, *stems.shape[-2:]), parameters.flatten().tolist(), strict=True):
            if factor != 1:
                size = max(1, round(n_samples / factor))
                changed = F.interpolate(stem[None], size=size, mode="linear")[0, :, :n_samples]
                stem.zero_()[:, : changed.shape[-1]] = changed
        return played
