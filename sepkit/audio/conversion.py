"""Change the rate and the number of channels of a waveform."""

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import as_tensor, as_waveform, check_count, check_is_tensor, check_waveform, is_whole

_HIGHEST_RATE = 10**8  # Hz; the filters of rates without sense take hours to compute


def _check_rates(rate_from: int, rate_to: int) -> None:
    if not all(is_whole(rate) and 0 < rate <= _HIGHEST_RATE for rate in (rate_from, rate_to)):
        given = f"{rate_from!r} and {rate_to!r} Hz"
        raise ValueError(f"Sample rates must be positive, whole and at most {_HIGHEST_RATE}, got {given}.")


def resample(waveform: Tensor | np.ndarray, rate_from: int, rate_to: int) -> Tensor:
    """Resample a waveform with soxr's HQ filter (flat to 0.91 of the lower Nyquist frequency).

    Args:
        waveform: (C, T), real floating point, as tensor on the CPU or numpy array.
        rate_from: its sample rate in Hz.
        rate_to: the wanted sample rate in Hz.

    Returns:
        (C, floor(T * rate_to / rate_from + 1/2)); the waveform itself where the rates are equal. Half precision
        becomes float32; no gradient passes.

    Raises:
        TypeError: the waveform is neither a tensor nor a numpy array.
        ValueError: a rate is not positive, or the waveform is not (C, T) on the CPU.
    """
    _check_rates(rate_from, rate_to)
    waveform = as_tensor(waveform, "waveform")
    if waveform.ndim != 2:
        raise ValueError(f"resample wants a waveform (C, T), got {tuple(waveform.shape)}.")
    if waveform.numel():
        check_waveform(waveform, "waveform")
    if waveform.device.type != "cpu":
        raise ValueError(f"waveform must be on the CPU, got one on {waveform.device}: move it with .cpu()")
    if rate_from == rate_to:
        return waveform
    import soxr

    samples = waveform.detach().to(torch.promote_types(waveform.dtype, torch.float32)).contiguous().numpy()
    resampled = soxr.resample(samples.T, rate_from, rate_to, quality="HQ")
    return torch.from_numpy(np.ascontiguousarray(resampled.T))


class Resampler:
    """Resample block by block, bit-equal to one call of `resample` over the whole.

    Args:
        rate_from: sample rate of the blocks in Hz.
        rate_to: wanted sample rate in Hz.
        n_channels: channels of the blocks.

    Raises:
        ValueError: a rate is not positive.
    """

    def __init__(self, rate_from: int, rate_to: int, n_channels: int):
        _check_rates(rate_from, rate_to)
        self.n_channels = check_count("n_channels", n_channels)
        self._stream = None
        if rate_from != rate_to:
            import soxr

            self._stream = soxr.ResampleStream(rate_from, rate_to, n_channels, dtype="float32", quality="HQ")

    def push(self, block: Tensor) -> Tensor:
        """Take a block (C, t), a float32 tensor, and return what is finished by then: (C, any number, also 0)."""
        check_is_tensor(block, "block")
        if block.dtype != torch.float32 or block.is_meta:
            raise ValueError(f"block must be float32, got {block.dtype} on {block.device}: convert it")
        if block.ndim != 2 or block.shape[0] != self.n_channels:
            raise ValueError(f"The resampler wants blocks ({self.n_channels}, T), got {tuple(block.shape)}.")
        return block if self._stream is None else self._run(block, last=False)

    def flush(self) -> Tensor:
        """Return the remaining (C, t) after the last block; the resampler is used up then."""
        nothing = torch.zeros(self.n_channels, 0)
        return nothing if self._stream is None else self._run(nothing, last=True)

    def _run(self, block: Tensor, last: bool) -> Tensor:
        interleaved = np.ascontiguousarray(block.detach().cpu().numpy().T)
        resampled = self._stream.resample_chunk(interleaved, last=last)
        return torch.from_numpy(np.ascontiguousarray(resampled.T))


def adapt_channels(waveform: Tensor | np.ndarray, n_channels: int) -> Tensor:
    """Copy one channel to many, or average many to one.

    Args:
        waveform: (..., C, T), as tensor or numpy array.
        n_channels: wanted number of channels, >= 1.

    Returns:
        (..., n_channels, T); the waveform itself where it has that many.

    Raises:
        TypeError: the waveform is neither a tensor nor a numpy array.
        ValueError: it is not (..., C, T) in floating point, or neither side is mono, so that the mapping would be a
            guess.
    """
    waveform, n_channels = as_waveform(waveform, "waveform", "(..., C, T)"), check_count("n_channels", n_channels, 0)
    present = waveform.shape[-2]
    if present == n_channels:
        return waveform
    if present == 1 and n_channels > 1:
        return waveform.repeat_interleave(n_channels, dim=-2)
    if n_channels == 1 and present > 1:
        return waveform.mean(dim=-2, keepdim=True)
    raise ValueError(
        f"Cannot map {present} channels to {n_channels}: only mono to many and many to mono are defined; "
        "mix the file down first."
    )
