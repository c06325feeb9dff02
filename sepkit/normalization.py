"""Mean and level of a whole recording, to which it is normalised before a network sees it, and brought back after."""

import torch
from torch import Tensor

from sepkit.arguments import check_is_tensor

NORMALIZED = (0.0, 1.0)  # statistics that change nothing
_SILENCE = 1e-8  # full scale; added to the standard deviation


def measure_mixture(mixture: Tensor) -> Tensor:
    """Measure mean and standard deviation of mixtures (B, C, T), averaged over their channels, as (B, 2)."""
    mono = mixture.mean(1)
    correction = min(1, mono.shape[-1] - 1)  # a single sample has no spread
    centred = mono - mono.mean(-1, keepdim=True)
    variance = centred.square().sum(-1) / (mono.shape[-1] - correction)
    spread = torch.where(variance > 0, variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt(), 0.0)
    return torch.stack([mono.mean(-1), spread], -1)


def normalize(waveform: Tensor, statistics: Tensor) -> Tensor:
    """Subtract the mean from a waveform (B, ..., T), and divide it by the standard deviation, of (B, 2)."""
    mean, scale = _of_each(waveform, statistics)
    return (waveform - mean) / scale


def restore(waveform: Tensor, statistics: Tensor) -> Tensor:
    """Scale a normalised waveform (B, ..., T) back to the level and mean of (B, 2)."""
    mean, scale = _of_each(waveform, statistics)
    return waveform * scale + mean


def _of_each(waveform: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and scale of each item, to be broadcast over the waveform."""
    mean, spread = statistics.to(waveform).reshape(-1, 2, *[1] * (waveform.dim() - 1)).unbind(1)
    return mean, spread + _SILENCE


def as_statistics(statistics: object, n_items: int) -> Tensor:
    """Take mean and standard deviation, (2,) for all items or (B, 2), as (B, 2).

    Args:
        statistics: a tensor, or numbers.
        n_items: B.

    Raises:
        ValueError: they are of another shape, not finite, or a standard deviation is below 0.
    """
    if not isinstance(statistics, Tensor):
        try:
            statistics = torch.as_tensor(statistics, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"statistics must be a mean and a standard deviation, got {statistics!r}") from None
    check_is_tensor(statistics, "statistics")
    if tuple(statistics.shape) not in ((2,), (n_items, 2)):
        raise ValueError(
            f"statistics must be a mean and a standard deviation, (2,) or ({n_items}, 2), got {tuple(statistics.shape)}"
        )
    if not bool(statistics.isfinite().all()) or bool((statistics[..., 1] < 0).any()):
        raise ValueError(f"statistics must be finite, and no standard deviation below 0, got {statistics.tolist()}")
    return statistics.expand(n_items, 2)


class RunningStatistics:
    """Mean and standard deviation of a stream, averaged over channels, in float64.

    Args:
        n_channels: that are averaged; of a stream with a multiple of them, consecutive groups are measured each.

    Source:
        T. Chan, G. Golub, R. LeVeque, Updating formulae and a pairwise algorithm for computing sample variances, 1979.
    """

    def __init__(self, n_channels: int) -> None:
        self._n_channels, self._count = n_channels, 0
        self._mean = self._squares = torch.zeros((), dtype=torch.float64)

    def push(self, block: Tensor) -> None:
        """Take samples (G * C, t), or (G * C + 1, t), whose last channel is a group of its own."""
        if not block.shape[-1]:
            return
        mono = torch.stack([group.double().mean(0) for group in block.split(self._n_channels)])  # (G, t)
        count, mean = mono.shape[-1], mono.mean(-1)
        squares = (mono - mean.unsqueeze(-1)).square().sum(-1)
        total, difference = self._count + count, mean - self._mean
        self._squares = self._squares + squares + difference.square() * (self._count * count / total)
        self._mean = self._mean + difference * (count / total)
        self._count = total

    def measure(self) -> Tensor:
        """Return mean and unbiased standard deviation of each group, (G, 2); of no sample, 0 and 0."""
        variance = self._squares / max(1, self._count - 1)
        return torch.stack([self._mean, variance.sqrt()], -1).reshape(-1, 2)
