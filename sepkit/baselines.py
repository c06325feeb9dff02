"""Baselines of a separator's scores: estimates without a model, and the oracle, which masks cannot surpass."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sepkit.arguments import check_count, check_same_device, check_waveform
from sepkit.masks import ideal_ratio_mask
from sepkit.transforms import STFT

ORACLE_BLOCK, ORACLE_MARGIN = 10, 1  # s that are masked at a time, and s on either side that hide the cuts


def baseline_estimates(
    mixture: Tensor, targets: Tensor, transform: STFT, sample_rate: int, overlapping: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Yield names and estimates (S, C, T): the mixture divided by S, silence, and the ideal ratio mask.

    One target alone gets half of the mixture, as if the residual were the other one.

    Args:
        mixture: (C, T).
        targets: (S, C, T).
        transform: in whose bins the ideal mask is taken.
        sample_rate: Hz.
        overlapping: the last target is a sum of some of the others, and does not count among the S.
    """
    _check(mixture, targets)
    n_disjoint = len(targets) - overlapping
    n_parts = max(2, n_disjoint)
    yield f"mixture/{n_parts}", (mixture / n_parts).expand_as(targets)
    yield "silence", torch.zeros(()).expand_as(targets)
    oracle = oracle_estimate(mixture, targets[:n_disjoint], transform, sample_rate)
    if overlapping:
        oracle = torch.cat([oracle, oracle_estimate(mixture, targets[n_disjoint:], transform, sample_rate)])
    yield "oracle", oracle


def _check(mixture: Tensor, targets: Tensor) -> None:
    check_waveform(mixture, "mixture")
    check_waveform(targets, "targets", "(S, C, T)")
    if targets.shape[1:] != mixture.shape:
        raise ValueError(f"targets must be (S, {', '.join(map(str, mixture.shape))}), got {tuple(targets.shape)}")
    check_same_device(mixture=mixture, targets=targets)


@torch.no_grad()
def oracle_estimate(mixture: Tensor, targets: Tensor, transform: STFT, sample_rate: int) -> Tensor:
    """Separate with the ideal ratio mask, ten seconds at a time.

    Args:
        mixture: (C, T).
        targets: (S, C, T).
        transform: in whose bins the mask is taken.
        sample_rate: Hz.

    Returns:
        (S, C, T).
    """
    _check(mixture, targets)
    sample_rate = check_count("sample_rate", sample_rate)
    device = next(transform.buffers()).device
    length, margin = mixture.shape[-1], ORACLE_MARGIN * sample_rate
    estimate = torch.empty_like(targets)
    for start in range(0, length, ORACLE_BLOCK * sample_rate):
        stop = min(length, start + ORACLE_BLOCK * sample_rate)
        first, last = max(0, start - margin), min(length, stop + margin)
        spectrogram = transform(mixture[None, :, first:last].to(device))  # (1, C, F, N)
        wanted = transform(targets[None, :, :, first:last].to(device))
        mask = ideal_ratio_mask(wanted, spectrogram - wanted.sum(1))
        found = transform.inverse(mask * spectrogram.unsqueeze(1), last - first)[0]
        estimate[..., start:stop] = found[..., start - first : stop - first].cpu()
    return estimate
