"""What is done to the stems of an example before they are summed.

An augmentation has two methods. `sample_parameters(generator, n_stems)` decides, from a numpy generator alone, an array
whose first dimension is the stems; `__call__(stems, parameters)` applies it to stems (..., K, C, T), on any device.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sepkit.arguments import check_waveform, is_number, is_whole


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
        self.probability = _check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw factors (K,), 1 or -1."""
        return np.where(generator.random(n_stems) < self.probability, -1.0, 1.0)

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
        self.probability = _check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw (K,), 1 where the channels are swapped."""
        return (generator.random(n_stems) < self.probability).astype(np.float64)

    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Reverse the channels of the stems (..., K, C, T) where parameters (..., K) is 1."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        swapped = parameters.to(stems.device, non_blocking=True)[..., None, None] > 0.5
        return torch.where(swapped, stems.flip(-2), stems)


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
        self.low, self.high, self.probability = low, high, _check_probability(probability)

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
        self.probability = _check_probability(probability)

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


def _check_probability(probability: float) -> float:
    if not is_number(probability) or not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    return probability
