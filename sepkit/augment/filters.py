"""Filters that colour stems."""

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import check_waveform, is_number, is_whole
from sepkit.augment._arguments import check_probability


class Filter:
    """Colour some stems by a short filter: a few delayed copies are added, and the energy of noise is kept.

    Args:
        n_taps: copies, >= 1.
        reach: longest delay in samples, >= 1.
        depth: standard deviation of the copies' factors, >= 0.
        probability: of a coloured stem, [0, 1].
    """

    def __init__(self, n_taps: int = 4, reach: int = 24, depth: float = 0.4, probability: float = 1.0) -> None:
        if not all(map(is_whole, (n_taps, reach))) or not is_number(depth) or min(n_taps, reach) < 1 or depth < 0:
            raise ValueError(
                f"n_taps and reach must be at least 1 and depth at least 0, got {n_taps}, {reach} and {depth}"
            )
        self.n_taps, self.reach, self.depth = n_taps, reach, depth
        self.probability = check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw delays and factors of the copies (K, 2, n_taps), all factors 0 where nothing changes."""
        delays = generator.integers(1, self.reach + 1, (n_stems, self.n_taps))
        factors = generator.normal(0.0, self.depth, (n_stems, self.n_taps))
        factors *= generator.random((n_stems, 1)) < self.probability
        return np.stack([delays, factors], 1)

    @torch.no_grad()
    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Filter the stems (..., K, C, T) by delays and factors (..., K, 2, n_taps)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        coloured = stems.clone(memory_format=torch.contiguous_format)
        shape = (-1, *stems.shape[-2:])
        for stem, sums, (delays, factors) in zip(
            stems.reshape(shape), coloured.view(shape), parameters.flatten(0, -3).tolist(), strict=True
        ):
            for delay, factor in zip(map(int, delays), factors, strict=True):
                if factor and delay < stem.shape[-1]:
                    sums[:, delay:].add_(stem[:, :-delay], alpha=factor)
            if any(factors):
                sums /= (1 + sum(factor**2 for factor in factors)) ** 0.5
        return coloured
