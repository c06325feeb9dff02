"""Filters of some of the stems of a batch, and gains of all of them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Kernels = Callable[[Sequence[int]], Tensor]  # indices of stems -> impulse responses (M, 1 or C, L), on the CPU


def filter_chosen(stems: Tensor, chosen: Sequence[bool], kernels: Kernels, delay: int = 0) -> Tensor:
    """Filter some stems, each by an impulse response of its own, and leave the others as they are.

    Args:
        stems: (..., K, C, T).
        chosen: which of the stems, in the order in which they lie.
        kernels: makes their impulse responses.
        delay: samples of the responses that come before their time, as half of a symmetric one does.

    Returns:
        (..., K, C, T), without what rings on after the end; the stems themselves where none is chosen.
    """
    places = [place for place, is_chosen in enumerate(chosen) if is_chosen]
    if not places:
        return stems
    flat = stems.reshape(-1, *stems.shape[-2:])
    index = torch.tensor(places).to(stems.device, non_blocking=True)
    filtered = _convolve(flat.index_select(0, index), kernels(places), delay)
    return flat.index_copy(0, index, filtered).reshape(stems.shape)


def _convolve(waveforms: Tensor, kernels: Tensor, delay: int) -> Tensor:
    """Filter (M, C, T) by impulse responses (M, 1 or C, L), and keep T samples from `delay` on."""
    from scipy.fft import next_fast_len

    dtype = torch.promote_types(waveforms.dtype, torch.float32)  # there are no transforms of halves
    n_samples = waveforms.shape[-1]
    size = next_fast_len(n_samples + kernels.shape[-1] - 1, real=True)
    response = torch.fft.rfft(kernels.to(waveforms.device, dtype, non_blocking=True), size)
    filtered = torch.fft.irfft(torch.fft.rfft(waveforms.to(dtype), size).mul_(response), size)
    return filtered[..., delay : delay + n_samples].to(waveforms.dtype)
