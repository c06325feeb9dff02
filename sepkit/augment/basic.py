"""Level, polarity and channels: what one pass over the samples does, which a loader does while it converts them."""

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import check_waveform, is_number
from sepkit.augment._arguments import check_probability

Factors = np.ndarray | Tensor  # (..., K)


class Gain:
    """Change the level of each stem, uniformly in decibels.

    Args:
        low_db: least gain, dB.
        high_db: greatest gain, dB.
    """

    def __init__(self, low_db: float = -6.0, high_db: float = 6.0) -> None:
        if not all(map(is_number, (low_db, high_db))) or not low_db <= high_db:
            raise ValueError(f"low_db must not exceed high_db, got {low_db} and {high_db}")
        self.low_db, self.high_db = low_db, high_db

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw factors (K,)."""
        return 10 ** (generator.uniform(self.low_db, self.high_db, n_stems) / 20)

    def fold(self, parameters: Factors) -> tuple[Factors | None, Factors | None]:
        """Return the factors (..., K) of the stems, and None: no channels are swapped."""
        return parameters, None

    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Scale the stems (..., K, C, T) by factors (..., K)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        return stems * parameters.to(stems, non_blocking=True)[..., None, None]


class Sign:
    """Turn the polarity of each stem.

    Args:
        probability: of a turned stem, [0, 1].
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw factors (K,), 1 or -1."""
        return np.where(generator.random(n_stems) < self.probability, -1.0, 1.0)

    def fold(self, parameters: Factors) -> tuple[Factors | None, Factors | None]:
        """Return the factors (..., K) of the stems, and None: no channels are swapped."""
        return parameters, None

    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Scale the stems (..., K, C, T) by signs (..., K)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        return stems * parameters.to(stems, non_blocking=True)[..., None, None]


class SwapChannels:
    """Reverse the order of the channels of each stem: left becomes right.

    Args:
        probability: of a swapped stem, [0, 1].
    """

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw (K,), 1 where the channels are swapped."""
        return (generator.random(n_stems) < self.probability).astype(np.float64)

    def fold(self, parameters: Factors) -> tuple[Factors | None, Factors | None]:
        """Return None, no stem is scaled, and which stems have their channels reversed, bool (..., K)."""
        return None, parameters > 0.5

    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Reverse the channels of the stems (..., K, C, T) where parameters (..., K) is 1."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        swapped = parameters.to(stems.device, non_blocking=True)[..., None, None] > 0.5
        return torch.where(swapped, stems.flip(-2), stems)
