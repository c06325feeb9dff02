"""BLSTM: recurrence over time on the loudness in bands, masks at full resolution."""

from collections.abc import Iterable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.constant import Constant
from sepkit.models._activations import softmax_with_residual
from sepkit.models._bands import triangular_bands
from sepkit.models._magnitude import magnitude_of
from sepkit.models._statistics import row_statistics

_ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softmax": partial(softmax_with_residual, dim=2),
    "tanh": torch.tanh,
    "hardtanh": lambda mask: (mask + 0.5).clamp(0, 1),
    "complex": None,
}
_Mask = Literal[tuple(_ACTIVATIONS)]
_FLOOR = 1e-4  # magnitudes are compressed as log(floor + magnitude)


class BLSTM(nn.Module):
    """Estimate masks by a bidirectional LSTM over the frames.

    The magnitudes are summed into triangular bands, linear up to 600 Hz and logarithmic above, compressed by
    the logarithm and standardised; the recurrence sees all channels at once, and a last layer gives every bin
    of every source and channel its mask.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F.
        sample_rate: Hz.
        hidden_size: features between the layers, even, >= 2.
        n_layers: recurrent layers, >= 1.
        n_bands: bands per channel, >= 1.
        bandwidth: Hz above which no bin is used and the masks are zero, at least one bin's; None: no limit.
        mask: "sigmoid", [0, 1]; "relu", >= 0; "softmax" over the sources and an implicit residual; "tanh",
            [-1, 1]; "hardtanh", [0, 1] with straight edges; "complex", unbounded, which also turns the phase.
        dropout: share of the features that is dropped between recurrent layers in training, [0, 1); 0 where
            there is one layer.

    Raises:
        ValueError: an argument is out of range.

    Source:
        F. Stöter et al., Open-Unmix, 2019, with bands in place of its learned scaling, and all sources at once.
    """

    blocks = (nn.LSTM,)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        hidden_size: int = 160,
        n_layers: int = 2,
        n_bands: int = 128,
        bandwidth: float | None = None,
        mask: _Mask = "sigmoid",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if mask not in _ACTIVATIONS:
            raise ValueError(f"mask must be one of {', '.join(_ACTIVATIONS)}, got {mask!r}")
        if hidden_size < 2 or hidden_size % 2:
            raise ValueError(f"hidden_size must be even and at least 2, got {hidden_size}")
        if min(n_layers, n_bands) < 1:
            raise ValueError(f"n_layers and n_bands must be at least 1, got {n_layers} and {n_bands}")
        if not 0 <= dropout < 1 or (dropout and n_layers == 1):
            raise ValueError(f"dropout must lie in [0, 1), and be 0 where n_layers is 1, got {dropout}")
        nyquist = sample_rate / 2
        frequencies = torch.linspace(0, nyquist, n_bins, dtype=torch.float64)
        bandwidth = nyquist if bandwidth is None else bandwidth
        if not frequencies[1] <= bandwidth <= nyquist:
            raise ValueError(f"bandwidth must lie in [{frequencies[1]:g}, {nyquist:g}] Hz, got {bandwidth}")
        self.core = _Core(
            triangular_bands(frequencies[frequencies <= bandwidth], n_bands),
            (n_sources, n_channels, n_bins),
            hidden_size,
            n_layers,
            mask,
            dropout,
        )

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        """Estimate the masks of a spectrogram.

        Args:
            mixture_spectrogram: complex (B, C, F, N).

        Returns:
            (B, S, C, F, N), real, or complex where `mask="complex"`.
        """
        magnitude = magnitude_of(mixture_spectrogram, self.core.n_channels, self.core.n_bins, self.core)
        mask = self.core(magnitude[:, :, : self.core.n_used_bins])
        if self.core.mask != "complex":
            return mask
        return torch.view_as_complex(mask.to(mixture_spectrogram.real.dtype).contiguous())

    def fit(self, spectrograms: Iterable[Tensor]) -> None:
        """Measure the mean and spread of the compressed bands over complex spectrograms (B, C, F, N)."""
        self.core.fit(spectrogram[:, :, : self.core.n_used_bins].abs() for spectrogram in spectrograms)


class _Core(nn.Module):
    """The real-valued part: magnitudes (B, C, F, N) in, masks (B, S, C, F, N) or (B, S, C, F, N, 2) out."""

    def __init__(
        self,
        bands: Tensor,
        shape: tuple[int, int, int],
        hidden_size: int,
        n_layers: int,
        mask: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.n_sources, self.n_channels, self.n_bins = shape
        self.mask = mask
        n_bands, self.n_used_bins = bands.shape
        self.bands = Constant(bands)
        self.register_buffer("mean", torch.full((n_bands, 1), -2.0))
        self.register_buffer("scale", torch.full((n_bands, 1), 0.5))
        self.encode = nn.Sequential(
            nn.Linear(self.n_channels * n_bands, hidden_size), nn.LayerNorm(hidden_size), nn.Tanh()
        )
        self.recurrence = nn.LSTM(
            hidden_size,
            hidden_size // 2,
            n_layers,
            batch_first=True,
            dropout=dropout,
            bidirectional=True,
        )
        n_parts = 2 if mask == "complex" else 1
        self.decode = nn.Sequential(
            nn.Linear(2 * hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, self.n_sources * self.n_channels * self.n_used_bins * n_parts),
        )

    def forward(self, magnitude: Tensor) -> Tensor:
        bands = (self.compress(magnitude) - self.mean) * self.scale  # (B, C, K, N)
        encoded = self.encode(bands.flatten(1, 2).mT)  # (B, N, H)
        recurrent, _ = self.recurrence(encoded)
        mask = self.decode(torch.cat([encoded, recurrent], -1))  # (B, N, S * C * F * parts)
        shape = (self.n_sources, self.n_channels, self.n_used_bins)
        n_unused_bins = self.n_bins - self.n_used_bins
        if self.mask == "complex":
            return F.pad(mask.unflatten(-1, (*shape, 2)), (0, 0, 0, n_unused_bins)).permute(0, 2, 3, 4, 1, 5)
        mask = _ACTIVATIONS[self.mask](mask.unflatten(-1, shape))  # (B, N, S, C, F)
        return F.pad(mask, (0, n_unused_bins)).permute(0, 2, 3, 4, 1)

    def compress(self, magnitude: Tensor) -> Tensor:
        """Take the logarithm of the mean magnitude in each band: (B, C, F, N) to (B, C, K, N)."""
        return torch.log(self.bands(magnitude) @ magnitude[:, :, : self.n_used_bins] + _FLOOR)

    @torch.no_grad()
    def fit(self, magnitudes: Iterable[Tensor]) -> None:
        """Set mean and scale to the statistics of the compressed bands, over items, channels and frames."""
        statistics = row_statistics(map(self.compress, magnitudes))
        if statistics is None:
            return
        mean, spread = statistics
        self.mean.copy_(mean[:, None])
        self.scale.copy_(1 / spread.clamp(min=0.1)[:, None])
