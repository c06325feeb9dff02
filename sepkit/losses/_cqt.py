"""The constant-Q transform that sot-loss compares spectra of, from torch's convolution."""

import numpy as np
import torch
from torch import Tensor, nn

from sepkit.constant import Constant
from sepkit.losses._numeric import safe_sqrt
from sepkit.losses._window import make_window


def _frequencies(
    *, sample_rate: float, fmin: float, fmax: float | None, n_bins: int, bins_per_octave: int
) -> np.ndarray:
    if fmax is not None:
        n_bins = int(np.ceil(bins_per_octave * np.log2(fmax / fmin)))
    frequencies = fmin * 2.0 ** (np.arange(n_bins) / bins_per_octave)
    if frequencies[-1] > sample_rate / 2:
        most = int(np.floor(bins_per_octave * np.log2(sample_rate / 2 / fmin)))
        raise ValueError(
            f"the top bin must be at most half the sample rate, {sample_rate / 2:g} Hz, got {frequencies[-1]:.0f} Hz; "
            f"take at most {most} bins"
        )
    return frequencies


def _kernel(window: object, *, length: int, frequency: float, width: int) -> np.ndarray:
    tone = np.exp(np.arange((-length) // 2, length // 2) * 2j * np.pi * frequency)
    kernel = make_window(window, length).astype(np.float32) * tone / length
    start = int(np.ceil(width / 2 - length / 2)) - length % 2
    placed = np.zeros(width, np.complex64)
    placed[start : start + length] = kernel / np.abs(kernel).sum()
    return placed


class CQT(nn.Module):
    """Take magnitudes of a constant-Q or variable-Q transform, each bin scaled by the root of its length.

    Args:
        sample_rate: Hz.
        hop_length: samples from frame to frame.
        fmin: Hz, of the lowest bin.
        fmax: Hz, which decides on the number of bins instead of n_bins; None: it does not.
        n_bins: number of bins.
        bins_per_octave: resolution.
        gamma: Hz, added to the bandwidth of every bin; 0: constant Q.
        window: of scipy.
    """

    def __init__(
        self,
        *,
        sample_rate: float,
        hop_length: int,
        fmin: float,
        fmax: float | None,
        n_bins: int,
        bins_per_octave: int,
        gamma: float,
        window: str | float | tuple,
    ) -> None:
        super().__init__()
        self.frequencies = _frequencies(
            sample_rate=sample_rate, fmin=fmin, fmax=fmax, n_bins=n_bins, bins_per_octave=bins_per_octave
        )
        ratio = np.float32(2.0 ** (1.0 / bins_per_octave) - 1.0)
        quality = 1.0 / (2.0 ** (1.0 / bins_per_octave) - 1.0)
        lengths = np.ceil(quality * sample_rate / (self.frequencies + gamma / ratio)).astype(int)
        self.hop_length, self.width = hop_length, int(2 ** np.ceil(np.log2(lengths.max())))
        kernels = np.stack(
            [
                _kernel(window, length=int(length), frequency=frequency / sample_rate, width=self.width)
                for length, frequency in zip(lengths, self.frequencies, strict=True)
            ]
        )
        self.kernels = Constant(np.concatenate([kernels.real, -kernels.imag])[:, None])
        self.gains = Constant(np.sqrt(lengths.astype(np.float32))[:, None])

    def forward(self, signal: Tensor) -> Tensor:
        """Transform (R, T) to (R, N, F)."""
        reach = self.width // 2
        if signal.shape[1] <= reach:
            raise ValueError(
                f"this constant-Q transform needs more than {reach} samples of signal, got {signal.shape[1]}; "
                "raise fmin or gamma, or take fewer bins an octave"
            )
        padded = torch.nn.functional.pad(signal[:, None], (reach, reach), mode="reflect")
        planes = torch.nn.functional.conv1d(padded, self.kernels(signal), stride=self.hop_length)
        real, imaginary = (planes.unflatten(1, (2, -1)) * self.gains(signal)).unbind(1)
        return safe_sqrt(real * real + imaginary * imaginary).mT
