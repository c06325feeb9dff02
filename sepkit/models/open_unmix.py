"""OpenUnmix: a recurrent network for each source, on magnitudes that are standardised bin by bin."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._magnitude import check_magnitude
from sepkit.models._products import Linear, linear
from sepkit.models._recurrence import LSTM
from sepkit.models._statistics import row_statistics
from sepkit.transforms import absolute


class OpenUnmix(nn.Module):
    """Estimate masks by a network for each source, three layers of LSTM between two of all bins.

    The mask of a source multiplies the magnitude of the mixture; it is not negative, and nothing bounds it above.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F.
        sample_rate: Hz.
        hidden_size: features between the layers, even, >= 2.
        n_layers: recurrent layers, >= 1.
        bandwidth: Hz above which no bin is listened to, at least one bin's; masks have all bins; None: no limit.
        bidirectional: let the recurrence know what comes later too.
        dropout: share of the features that is dropped between recurrent layers in training, [0, 1); 0 where there is
            one layer.

    Attributes:
        lookahead: 0 frames without `bidirectional`, else all.

    Raises:
        ValueError: an argument is out of range.

    Source:
        F. Stöter et al., Open-Unmix, 2019. The mask is the network's answer, and the mixture is multiplied afterwards;
        mean and scale of the bins are folded into the first weights, those of the output into the last normalisation
        over the batch. There are no blocks to recompute, because that normalisation would measure a batch twice.
    """

    blocks = (nn.LSTM,)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        hidden_size: int = 512,
        n_layers: int = 3,
        bandwidth: float | None = 16000.0,
        bidirectional: bool = True,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        if hidden_size < 2 or hidden_size % 2:
            raise ValueError(f"hidden_size must be even and at least 2, got {hidden_size}")
        if n_layers < 1:
            raise ValueError(f"n_layers must be at least 1, got {n_layers}")
        if not 0 <= dropout < 1 or (dropout and n_layers == 1):
            raise ValueError(f"dropout must lie in [0, 1), and be 0 where n_layers is 1, got {dropout}")
        frequencies = np.linspace(0, sample_rate / 2, n_bins)
        bandwidth = float("inf") if bandwidth is None else bandwidth
        if not bandwidth >= frequencies[1]:
            raise ValueError(f"bandwidth must be at least a bin's, {frequencies[1]:g} Hz, got {bandwidth}")
        self.lookahead = None if bidirectional else 0
        self.n_channels, self.n_bins, self.n_used_bins = n_channels, n_bins, int((frequencies <= bandwidth).sum())
        sizes = n_channels, n_bins, self.n_used_bins, hidden_size, n_layers
        self.core = _Core(_Source(*sizes, bidirectional, dropout) for _ in range(n_sources))

    def forward(self, mixture_magnitude: Tensor) -> Tensor:
        """Estimate the masks of a magnitude.

        Args:
            mixture_magnitude: (B, C, F, N).

        Returns:
            (B, S, C, F, N), >= 0.
        """
        check_magnitude(mixture_magnitude, self.n_channels, self.n_bins, self.core)
        return self.core(mixture_magnitude[:, :, : self.n_used_bins])

    def fit(self, spectrograms: Iterable[Tensor]) -> None:
        """Measure the mean and spread of each bin, of the mean of the channels, over complex (B, C, F, N)."""
        magnitudes = (absolute(spectrogram[:, :, : self.n_used_bins]) for spectrogram in spectrograms)
        statistics = row_statistics(magnitude.mean(1, keepdim=True) for magnitude in magnitudes)
        if statistics is None:
            return
        mean, spread = statistics
        spread = spread.clamp(min=max(1e-4 * float(spread.max()), 1e-8))
        with torch.no_grad():
            for source in self.core:
                source.mean.copy_(mean)
                source.scale.copy_(1 / spread)


class _Core(nn.ModuleList):
    """The real-valued part: magnitudes (B, C, F', N) in, masks (B, S, C, F, N) out."""

    def forward(self, magnitude: Tensor) -> Tensor:
        n_channels = magnitude.shape[1]
        bins = magnitude.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)  # once for all sources
        bins = bins.flatten(2)  # (B, N, C * F')
        masks = [source(bins) for source in self]  # (B, N, C * F) each
        mask = torch.stack(masks, 1) if len(masks) > 1 else masks[0].unsqueeze(1)
        return mask.unflatten(-1, (n_channels, -1)).permute(0, 1, 3, 4, 2)


class _Source(nn.Module):
    """The network of one source: (B, N, C * F') to (B, N, C * F)."""

    def __init__(
        self,
        n_channels: int,
        n_bins: int,
        n_used_bins: int,
        hidden_size: int,
        n_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.mean, self.scale = nn.Parameter(torch.zeros(n_used_bins)), nn.Parameter(torch.ones(n_used_bins))
        self.encode = Linear(n_channels * n_used_bins, hidden_size, bias=False)
        self.encode_norm = nn.BatchNorm1d(hidden_size)
        self.recurrence = LSTM(
            hidden_size,
            hidden_size // 2 if bidirectional else hidden_size,
            n_layers,
            batch_first=True,
            dropout=dropout,
            bidirectional=bidirectional,
        )
        self.join = Linear(2 * hidden_size, hidden_size, bias=False)
        self.join_norm = nn.BatchNorm1d(hidden_size)
        self.decode = Linear(hidden_size, n_channels * n_bins, bias=False)
        self.decode_norm = nn.BatchNorm1d(n_channels * n_bins)
        self.output_scale, self.output_mean = nn.Parameter(torch.ones(n_bins)), nn.Parameter(torch.ones(n_bins))

    def forward(self, bins: Tensor) -> Tensor:
        scale, mean = self.scale.repeat(self.n_channels), self.mean.repeat(self.n_channels)
        # Bins are standardised by the weights, whose gradient has that of scale and mean: none of the bins is needed.
        weight = self.encode.weight * scale
        encoded = _normalize(self.encode_norm, torch.tanh_, linear(bins, weight, -(weight @ mean)))  # (B, N, H)
        recurrent, _ = self.recurrence(encoded)
        joined = _normalize(self.join_norm, torch.relu_, self.join(torch.cat([encoded, recurrent], -1)))
        gain, offset = self.output_scale.repeat(self.n_channels), self.output_mean.repeat(self.n_channels)
        return _normalize(self.decode_norm, torch.relu_, self.decode(joined), gain, offset)


def _normalize(
    norm: nn.BatchNorm1d,
    activation: Callable[[Tensor], Tensor],
    features: Tensor,
    gain: float | Tensor = 1,
    offset: float | Tensor = 0,
) -> Tensor:
    """Scale (B, N, H) to zero mean and unit spread over items and frames, then by a gain; add an offset; bend it.

    The activation works in place, and not on a view, whose gradient would be copied.
    """
    if norm.training:
        norm.num_batches_tracked.add_(1)
    weight, bias = norm.weight * gain, norm.bias * gain + offset
    flat = features.flatten(0, 1)
    normalized = F.batch_norm(
        flat, norm.running_mean, norm.running_var, weight, bias, norm.training, norm.momentum, norm.eps
    )
    return activation(normalized).unflatten(0, features.shape[:2])
