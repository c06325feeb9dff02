"""Estimates that are right but for a delay, a sign or a gain, which ratios punish as if they were bad."""

import torch
from torch import Tensor

_EXCERPTS = 4
_EXCERPT = 8192
# From these a fault is reported: with less the estimate is merely poor. Music resembles itself after a period, too.
_SIMILAR = 0.7
_CLEARLY_BETTER = 1.2
_SCALED = 0.9
_GAINS = (0.5, 2.0)


def find_misalignment(estimate: Tensor, target: Tensor, loudest: list[int]) -> str | None:
    """Detect a delay, a sign or a gain of an estimate: "delayed by 40 samples", "inverted", "scaled by 0.1", or None.

    Args:
        estimate: (C, T).
        target: (C, T).
        loudest: samples around which the target is loud.
    """
    size = min(_EXCERPT, target.shape[-1])
    starts = [max(0, min(centre - size // 2, target.shape[-1] - size)) for centre in loudest[:_EXCERPTS]]
    excerpts = [
        torch.stack([waveform[:, start : start + size] for start in starts]).double() for waveform in (estimate, target)
    ]
    estimate_power, power = (excerpt.square().sum() for excerpt in excerpts)
    if power == 0 or estimate_power == 0:
        return None
    spectra = [torch.fft.rfft(excerpt, n=2 * size) for excerpt in excerpts]
    product = torch.fft.irfft((spectra[0] * spectra[1].conj()).sum((0, 1)))
    similarity = product / (power * estimate_power).sqrt()
    lag = int(similarity.argmax())
    best, aligned = float(similarity[lag]), float(similarity[0])
    if best > _SIMILAR and best > _CLEARLY_BETTER * abs(aligned):
        return f"delayed by {lag if lag < size else lag - 2 * size} samples"
    if aligned < -_SIMILAR:
        return "inverted"
    gain = float(product[0] / power)
    if aligned > _SCALED and not _GAINS[0] <= gain <= _GAINS[1]:
        return f"scaled by {gain:.2g}"
    return None
