"""What is done to the stems of an example before they are summed.

An augmentation has two methods. `draw(generator, n_stems)` decides, from a numpy generator alone, an array
whose first dimension is the stems; `__call__(stems, drawn)` applies it to stems (..., K, C, T), on any device.
"""

import numpy as np
import torch
from torch import Tensor


class Gain:
    """Change the level of each stem, uniformly in decibels.

    Args:
        low_db: least gain, dB.
        high_db: greatest gain, dB.
    """

    def __init__(self, low_db: float = -6.0, high_db: float = 6.0) -> None:
        if not low_db <= high_db:
            raise ValueError(f"low_db must not exceed high_db, got {low_db} and {high_db}")
        self.low_db, self.high_db = low_db, high_db

    def draw(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw factors (K,)."""
        return 10 ** (generator.uniform(self.low_db, self.high_db, n_stems) / 20)

    def __call__(self, stems: Tensor, drawn: Tensor) -> Tensor:
        """Scale the stems (..., K, C, T) by factors (..., K)."""
        return stems * drawn.to(stems)[..., None, None]


class Sign:
    """Turn the polarity of each stem.

    Args:
        probability: of a turned stem, [0, 1].
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = _check_probability(probability)

    def draw(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw factors (K,), 1 or -1."""
        return np.where(generator.random(n_stems) < self.probability, -1.0, 1.0)

    def __call__(self, stems: Tensor, drawn: Tensor) -> Tensor:
        """Scale the stems (..., K, C, T) by signs (..., K)."""
        return stems * drawn.to(stems)[..., None, None]


class SwapChannels:
    """Reverse the order of the channels of each stem: left becomes right.

    Args:
        probability: of a swapped stem, [0, 1].
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = _check_probability(probability)

    def draw(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw (K,), 1 where the channels are swapped."""
        return (generator.random(n_stems) < self.probability).astype(np.float64)

    def __call__(self, stems: Tensor, drawn: Tensor) -> Tensor:
        """Reverse the channels of the stems (..., K, C, T) where drawn (..., K) is 1."""
        swapped = (drawn > 0.5).to(stems.device)[..., None, None]
        return torch.where(swapped, stems.flip(-2), stems)


def _check_probability(probability: float) -> float:
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    return probability
