"""BandSplitRNN: bands of bins as features, recurrence over the frames and over the bands in turn."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._band_layouts import BandLayout, BandLinear, GatherBands, ScatterBands
from sepkit.models._magnitude import parts_of
from sepkit.models._products import Linear
from sepkit.models._recurrent_bands import overlapping_musical_bands, stepped_bands

_CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class BandSplitRNN(nn.Module):
    """Estimate complex masks by recurrence over the frames of each band, and over the bands of each frame, in turn.

    Args:
        n_sources: S.
        n_channels: C; each is separated by itself.
        n_bins: F.
        sample_rate: Hz.
        bands: "paper", side by side, 100 Hz wide at the bottom; or the number of bands that lie evenly in pitch and
            overlap, >= 1.
        n_features: of each band and frame, >= 1.
        hidden_size: of the recurrence, for each direction, >= 1.
        n_layers: of recurrence over frames and then over bands, >= 1.
        mask_size: features before the masks of a band, >= 1.
        cell: of the recurrence, "lstm" or "gru".
        bidirectional: let the recurrence over the frames know what comes later too; that over the bands goes both ways
            or one way with it.

    Attributes:
        lookahead: 0 frames without `bidirectional`, else all.

    Raises:
        ValueError: an argument is out of range.

    Source:
        Y. Luo, J. Yu, Music Source Separation with Band-split RNN, 2023, as bandit (K. Watcharasupat et al., 2023)
        builds it: one network for all sources, and features are normalised frame by frame.
    """

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        bands: int | Literal["paper"] = "paper",
        n_features: int = 128,
        hidden_size: int = 256,
        n_layers: int = 12,
        mask_size: int = 512,
        cell: Literal["lstm", "gru"] = "lstm",
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"n_features": n_features, "hidden_size": hidden_size, "n_layers": n_layers, "mask_size": mask_size}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if cell not in _CELLS:
            raise ValueError(f"cell must be one of {', '.join(_CELLS)}, got {cell!r}")
        if isinstance(bands, str) and bands != "paper":
            raise ValueError(f"bands must be 'paper' or a number, got {bands!r}")
        self.n_channels, self.n_bins = n_channels, n_bins
        self.blocks, self.lookahead = (_Layer,), None if bidirectional else 0
        layout = layout_of(bands, n_bins, sample_rate)
        layers = [_Layer(n_features, hidden_size, cell, bidirectional) for _ in range(2 * n_layers)]
        masks = [_BandMasks(layout, n_features, mask_size) for _ in range(n_sources)]
        self.core = _Core(_BandSplit(layout, n_features), layers, masks)

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        """Estimate the masks of a spectrogram.

        Args:
            mixture_spectrogram: complex (B, C, F, N).

        Returns:
            Complex (B, S, C, F, N), unbounded.
        """
        mask = self.core(parts_of(mixture_spectrogram, self.n_channels, self.n_bins, self.core))
        return torch.view_as_complex(mask.to(mixture_spectrogram.real.dtype).contiguous())


def layout_of(bands: int | str, n_bins: int, sample_rate: int) -> BandLayout:
    """Place the bands that `BandSplitRNN` is asked for."""
    return (
        stepped_bands(n_bins, sample_rate)
        if bands == "paper"
        else overlapping_musical_bands(bands, n_bins, sample_rate)
    )


class _Core(nn.Module):
    """The real-valued part: spectrograms (B, C, F, N, 2) in, masks (B, S, C, F, N, 2) out."""

    def __init__(self, split: "_BandSplit", layers: list["_Layer"], masks: list["_BandMasks"]) -> None:
        super().__init__()
        self.split, self.layers, self.masks = split, nn.ModuleList(layers), nn.ModuleList(masks)

    def forward(self, spectrogram: Tensor) -> Tensor:
        n_items = len(spectrogram)
        features = self.split(spectrogram.flatten(0, 1).unsqueeze(1))  # (B * C, K, N, D)
        features = features.to(spectrogram.dtype)  # sums of layers are kept precise
        for layer in self.layers:
            features = layer(features).transpose(
                1, 2
            )  # over the frames of each band, then over the bands of each frame
        masks = [masks(features) for masks in self.masks]  # (B * C, 1, F, N, 2) each
        return torch.stack([mask.squeeze(1).unflatten(0, (n_items, -1)) for mask in masks], 1)


class _Layer(nn.Module):
    """Add to (B, K, N, D) what a recurrence over dimension N finds."""

    def __init__(self, n_features: int, hidden_size: int, cell: str, bidirectional: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_features)
        self.recurrence = _CELLS[cell](n_features, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.output = Linear((2 if bidirectional else 1) * hidden_size, n_features)

    def forward(self, features: Tensor) -> Tensor:
        recurrent, _ = self.recurrence(self.norm(features).flatten(0, 1))
        return features + self.output(recurrent).unflatten(0, features.shape[:2])


class _BandSplit(nn.Module):
    """Make features of each band and frame: (B, 1, F, N, 2) to (B, K, N, D)."""

    def __init__(self, layout: BandLayout, n_features: int) -> None:
        super().__init__()
        self.gather = GatherBands(layout)
        sizes = [(n_bands, 2 * width) for n_bands, width in self.gather.sizes]
        self.norms = nn.ModuleList(_BandNorm(*size) for size in sizes)
        self.layers = nn.ModuleList(BandLinear(n_bands, size, n_features) for n_bands, size in sizes)
        self.register_buffer("places", torch.tensor(layout.order).argsort(), persistent=False)

    def forward(self, spectrogram: Tensor) -> Tensor:
        groups = zip(self.gather(spectrogram), self.norms, self.layers, strict=True)
        features = torch.cat([layer(norm(bins)) for bins, norm, layer in groups])  # (K, B * N, D), group by group
        return features.index_select(0, self.places).unflatten(1, (len(spectrogram), -1)).transpose(0, 1)


class _BandMasks(nn.Module):
    """Make the masks of one source: (B, K, N, D) to (B, 1, F, N, 2)."""

    def __init__(self, layout: BandLayout, n_features: int, mask_size: int) -> None:
        super().__init__()
        self.n_bands = [len(group) for group in layout.groups]
        self.register_buffer("order", torch.tensor(layout.order), persistent=False)
        self.layers = nn.ModuleList(
            nn.Sequential(
                _BandNorm(len(group), n_features),
                BandLinear(len(group), n_features, mask_size),
                nn.Tanh(),
                BandLinear(len(group), mask_size, 4 * layout.widths[group[0]]),
                nn.GLU(-1),
            )
            for group in layout.groups
        )
        self.scatter = ScatterBands(layout, 1)

    def forward(self, features: Tensor) -> Tensor:
        bands = features.transpose(0, 1).flatten(1, 2).index_select(0, self.order)  # (K, B * N, D), group by group
        groups = zip(self.layers, bands.split(self.n_bands), strict=True)
        return self.scatter([layer(band) for layer, band in groups], len(features))


class _BandNorm(nn.Module):
    """Normalise the features of each of M bands, (M, L, H)."""

    def __init__(self, n_bands: int, size: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(n_bands, size)), nn.Parameter(torch.zeros(n_bands, size))

    def forward(self, features: Tensor) -> Tensor:
        normalized = F.layer_norm(features, features.shape[-1:])
        return torch.addcmul(self.bias[:, None], normalized, self.weight[:, None])
