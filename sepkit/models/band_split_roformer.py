"""BandSplitRoFormer: bands of bins as tokens, attention over the frames and over the bands in turn."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sepkit.models._attention import Places, Positions, RMSNorm
from sepkit.models._band_layouts import (
    BandLayout,
    BandLinear,
    GatherBands,
    ScatterBands,
    consecutive_bands,
    overlapping_mel_bands,
)
from sepkit.models._magnitude import parts_of
from sepkit.models._transformers import ChannelLayer, Layers, TransformerLayer, runs_in_parts

_Norm = Literal["each", "last"]
_N_HIDDEN = 2**23  # values between two layers of the masks at a time


class BandSplitRoFormer(nn.Module):
    """Estimate complex masks by attention over the frames and over bands of bins.

    The bins of each band, of all channels, become one token a frame. Blocks of transformers follow, over the frames of
    each band, then over the bands of each frame. For each source and band a perceptron turns the tokens into masks;
    where bands overlap, their mean is taken. Masks are unbounded and turn the phase.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F.
        sample_rate: Hz.
        hidden_size: features of a token, >= 1.
        n_layers: blocks, >= 1.
        bands: K, a number of overlapping bands on the mel scale; or the bins of each band, side by side from 0 Hz up,
            which sum to F.
        n_heads: heads of each attention, >= 1.
        head_size: features of a head, even.
        n_time_layers: layers over the frames in a block, >= 1.
        n_band_layers: layers over the bands in a block, >= 1.
        n_channel_layers: layers of attention between features, before both, >= 0.
        n_mask_layers: linear layers of the perceptrons, >= 1.
        mask_expansion: features between them are so many times `hidden_size`, >= 1.
        norm: where tokens are normalised beside the input of each layer: after "each" transformer, or after the "last"
            block alone.
        positions: "rotary": pairs of features are turned by their position; "polar": the position is the angle and the
            feature the length.
        value_residual: take a learned share of the values of each attention from that of the first block.
        skip_connections: add the output of all earlier blocks to the input of the transformer over the frames.
        zero_dc: mask the bin at 0 Hz by zero.
        attention_dropout: share of the attention weights, and of each attention's result, dropped in training, [0, 1).
        dropout: share of the features in and after each feed-forward layer that is dropped in training, [0, 1).

    Raises:
        ValueError: an argument is out of range, or the bands do not cover the bins.

    Source:
        W.-T. Lu et al., Music source separation with band-split RoPE transformer, 2023 (`norm: last`, bands of given
        widths); J.-C. Wang et al., Mel-Band RoFormer for music source separation, 2023 (`norm: each`, mel bands), both
        as published by lucidrains and ZFTurbo (MIT). A mask is computed in the precision of the weights; no table of
        positions is kept. Layers of bands of the same width are one batched product.
    """

    blocks = (TransformerLayer, ChannelLayer)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        hidden_size: int = 384,
        n_layers: int = 6,
        bands: int | Sequence[int] = 60,
        n_heads: int = 8,
        head_size: int = 64,
        n_time_layers: int = 1,
        n_band_layers: int = 1,
        n_channel_layers: int = 0,
        n_mask_layers: int = 3,
        mask_expansion: int = 4,
        norm: _Norm = "each",
        positions: Positions = "rotary",
        value_residual: bool = False,
        skip_connections: bool = False,
        zero_dc: bool = True,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        least = {"n_layers": n_layers, "n_time_layers": n_time_layers, "n_band_layers": n_band_layers}
        least |= {"n_mask_layers": n_mask_layers, "mask_expansion": mask_expansion, "hidden_size": hidden_size}
        for name, count in least.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if n_channel_layers < 0:
            raise ValueError(f"n_channel_layers must be at least 0, got {n_channel_layers}")
        for name, choice, choices in (("norm", norm, _Norm), ("positions", positions, Positions)):
            if choice not in get_args(choices):
                raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {choice!r}")
        layers = Layers(hidden_size, n_heads, head_size, positions, norm == "each", attention_dropout, dropout)
        if isinstance(bands, int):
            layout = overlapping_mel_bands(bands, n_bins, sample_rate)
        else:
            layout = consecutive_bands(bands, n_bins)
        blocks = [
            _Block(
                layers,
                (n_channel_layers, n_time_layers, n_band_layers),
                value_residual,
                is_first=not position,
                overwrites=not skip_connections,
            )
            for position in range(n_layers)
        ]
        mask_sizes = [hidden_size, *[hidden_size * mask_expansion] * (n_mask_layers - 1)]
        masks = [_BandMasks(layout, n_channels, mask_sizes) for _ in range(n_sources)]
        self.core = _Core(_BandSplit(layout, n_channels, hidden_size), blocks, masks, skip_connections, zero_dc)
        self.core.norm = RMSNorm(hidden_size) if norm == "last" else nn.Identity()
        self.core.time_places, self.core.band_places = Places(head_size, positions), Places(head_size, positions)
        self.size = (n_channels, n_bins)

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        """Estimate the masks (B, S, C, F, N), complex, of a complex spectrogram (B, C, F, N)."""
        mask = self.core(parts_of(mixture_spectrogram, *self.size, self.core))
        return torch.view_as_complex(mask.to(mixture_spectrogram.real.dtype))


class _Core(nn.Module):
    """The real-valued part: spectrograms (B, C, F, N, 2) in, masks (B, S, C, F, N, 2) out."""

    def __init__(
        self,
        split: "_BandSplit",
        blocks: list["_Block"],
        masks: list["_BandMasks"],
        skip_connections: bool,
        zero_dc: bool,
    ) -> None:
        super().__init__()
        self.split, self.layers, self.masks = split, nn.ModuleList(blocks), nn.ModuleList(masks)
        self.skip_connections, self.zero_dc = skip_connections, zero_dc

    def forward(self, spectrogram: Tensor) -> Tensor:
        tokens = self.split(spectrogram).to(spectrogram.dtype)  # (B, K, N, D); sums of layers are kept precise
        angles = self.time_places(tokens.shape[2], tokens), self.band_places(tokens.shape[1], tokens)
        earlier: list[Tensor] = []
        first, *others = self.layers
        tokens, values = first(tokens, angles, (None, None), [])
        for block in others:
            if self.skip_connections:
                earlier.append(tokens)
            tokens, _ = block(tokens, angles, values, earlier)
        tokens = self.norm(tokens)
        mask = torch.stack([masks(tokens) for masks in self.masks], 1)
        if self.zero_dc:
            mask[:, :, :, 0] = 0
        return mask


class _Block(nn.Module):
    """Transformers between the features, over the frames and over the bands of tokens (B, K, N, D)."""

    def __init__(
        self,
        layers: Layers,
        depths: tuple[int, int, int],
        value_residual: bool,
        is_first: bool,
        overwrites: bool,  # the tokens that come in, where nothing is kept for a backward pass
    ) -> None:
        super().__init__()
        self.overwrites = overwrites
        n_channel_layers, *axes = depths
        self.channels = layers.channel_transformer(n_channel_layers) if n_channel_layers else None
        self.time, self.bands = (
            layers.transformer(
                n_layers, mixes_values=value_residual and not is_first, keeps_values=value_residual and is_first
            )
            for n_layers in axes
        )

    def forward(
        self,
        tokens: Tensor,
        angles: tuple[Tensor, Tensor],
        first_values: tuple[Tensor | None, Tensor | None],
        earlier: list[Tensor],
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
        n_items, n_bands = tokens.shape[:2]
        if self.channels is not None:
            tokens = self.channels(tokens.flatten(1, 2)).unflatten(1, (n_bands, -1))
        for other in earlier:
            tokens = tokens + other
        tokens, time_values = self.time(tokens.flatten(0, 1), angles[0], first_values[0], self.overwrites)
        tokens = tokens.unflatten(0, (n_items, n_bands)).transpose(1, 2)  # (B, N, K, D)
        tokens, band_values = self.bands(tokens.flatten(0, 1), angles[1], first_values[1], overwrites=True)
        return tokens.unflatten(0, (n_items, -1)).transpose(1, 2).contiguous(), (time_values, band_values)


class _BandSplit(nn.Module):
    """Make a token of each band and frame: (B, C, F, N, 2) to (B, K, N, D)."""

    def __init__(self, layout: BandLayout, n_channels: int, n_features: int) -> None:
        super().__init__()
        self.gather = GatherBands(layout)
        sizes = [(n_bands, 2 * n_channels * width) for n_bands, width in self.gather.sizes]
        self.norms = nn.ModuleList(RMSNorm(n_bands, 1, size) for n_bands, size in sizes)
        self.layers = nn.ModuleList(BandLinear(n_bands, size, n_features) for n_bands, size in sizes)
        self.register_buffer("order", torch.tensor(layout.order), persistent=False)
        self.register_buffer("places", self.order.argsort(), persistent=False)

    def forward(self, spectrogram: Tensor) -> Tensor:
        groups = zip(self.gather(spectrogram), self.norms, self.layers, strict=True)
        tokens = (layer(norm(bins)) for bins, norm, layer in groups)  # (M, B * N, D) each
        join = self._put if runs_in_parts(spectrogram) else self._cat
        return join(tokens).unflatten(1, (len(spectrogram), -1)).transpose(0, 1)

    def _cat(self, groups: Iterable[Tensor]) -> Tensor:
        return torch.cat(list(groups)).index_select(0, self.places)

    def _put(self, groups: Iterable[Tensor]) -> Tensor:
        """Put the tokens of each group to their place, where only one group is held beside the result."""
        tokens = None
        orders = self.order.split([n_bands for n_bands, _ in self.gather.sizes])
        for group, order in zip(groups, orders, strict=True):
            tokens = group.new_empty(len(self.order), *group.shape[1:]) if tokens is None else tokens
            tokens[order] = group
        return tokens


class _BandMasks(nn.Module):
    """Make the masks of one source from the tokens: (B, K, N, D) to (B, C, F, N, 2)."""

    def __init__(self, layout: BandLayout, n_channels: int, sizes: list[int]) -> None:
        super().__init__()
        self.n_bands = [len(group) for group in layout.groups]
        self.register_buffer("order", torch.tensor(layout.order), persistent=False)
        self.layers = nn.ModuleList(
            _Perceptron(len(group), [*sizes, 4 * n_channels * layout.widths[group[0]]]) for group in layout.groups
        )
        self.scatter = ScatterBands(layout, n_channels)

    def forward(self, tokens: Tensor) -> Tensor:
        bands = tokens.transpose(0, 1).flatten(1, 2)  # (K, B * N, D)
        if runs_in_parts(tokens):
            groups = (bands.index_select(0, order) for order in self.order.split(self.n_bands))
        else:
            groups = bands.index_select(0, self.order).split(self.n_bands)
        return self.scatter([layer(group) for layer, group in zip(self.layers, groups, strict=True)], len(tokens))


class _Perceptron(nn.Sequential):
    """Linear layers of these sizes, for each of M bands, with tanh between them; half of the last values are gates."""

    lends_weights = True  # nothing else uses them

    def __init__(self, n_bands: int, sizes: list[int]) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Tanh(), BandLinear(n_bands, n_in, n_out)]
        super().__init__(*layers[1:], nn.GLU(-1))
        self.n_values = n_bands * max(sizes[:-1])  # of a frame, between two layers

    def forward(self, bands: Tensor) -> Tensor:
        """Map (M, L, n_in) to (M, L, n_out), on a CPU a few frames at a time."""
        if not runs_in_parts(bands):
            return super().forward(bands)
        n_at_a_time = max(1, _N_HIDDEN // self.n_values)
        return torch.cat([super(_Perceptron, self).forward(part) for part in bands.split(n_at_a_time, 1)], 1)
