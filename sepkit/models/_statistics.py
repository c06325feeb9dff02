"""What networks measure before their first step."""

from collections.abc import Iterable

from torch import Tensor


def row_statistics(spectrograms: Iterable[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Measure mean and spread of each row of real (B, C, K, N), over items, channels and frames.

    Returns:
        Mean and standard deviation, (K,) each, float64 on the CPU; None without any value.
    """
    count, total, squares = 0, 0.0, 0.0
    for spectrogram in spectrograms:
        rows = spectrogram.cpu().double()
        count += rows.numel() // rows.shape[2]
        total = total + rows.sum((0, 1, 3))
        squares = squares + (rows**2).sum((0, 1, 3))
    if not count:
        return None
    mean = total / count
    return mean, (squares / count - mean**2).clamp(min=0).sqrt()
