"""Level, polarity and channels: what one pass over the samples does, which a loader does while it converts them."""

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import check_waveform
from sepkit.augment._arguments import check_probability, check_span, draw_choice, draw_factors

Factors = np.ndarray | Tensor  # (..., K)


class Gain:
    """Change the level of each stem, uniformly in decibels.

    Args:
        low_db: least gain, dB.
        high_db: greatest gain, dB.
        probability: of a changed stem, [0, 1].
    """

    def __init__(self, low_db: float = -6.0, high_db: float = 6.0, probability: float = 1.0) -> None:
        self.low_db, self.high_db = check_span(low_db, high_db)
        self.probability = check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw factors (K,), 1 where nothing changes."""
        factors = draw_factors(generator, (self.low_db, self.high_db), n_stems)
        if self.probability == 1:  # nothing more is drawn than before there was a choice
            return factors
        return np.where(draw_choice(generator, self.probability, n_stems), factors, 1.0)

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
        order = torch.arange(stems.shape[:-1].numel()).view(-1, stems.shape[-2])  # of the rows, which are copied whole
        order = torch.where(parameters.reshape(-1, 1).to(order.device) > 0.5, order.flip(-1), order)
        rows = stems.reshape(-1, stems.shape[-1])
        return rows.index_select(0, order.flatten().to(stems.device, non_blocking=True)).view(stems.shape)
