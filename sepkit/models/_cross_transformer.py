"""A transformer over two sequences at once: layers in each, and layers in which each looks at the other."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._products import Linear, linear


class CrossTransformer(nn.Module):
    """Let the rows and frames of a spectrogram and the samples of a waveform hear themselves and each other.

    Args:
        n_features: H, a multiple of 4 and of `n_heads`.
        n_layers: layers of each side, in turn within it and across.
        n_heads: heads of the attention.
        hidden_size: features inside the feed-forward networks.
        cross_first: begin with a layer across.
        position_gain: factor of the encoding of the places.
        longest_period: of the encoding of the places, in steps.
        layer_scale: the factor at which what a layer adds starts.
    """

    def __init__(
        self,
        n_features: int,
        n_layers: int,
        n_heads: int,
        hidden_size: int,
        cross_first: bool = False,
        position_gain: float = 1.0,
        longest_period: float = 10000.0,
        layer_scale: float = 1e-4,
    ) -> None:
        super().__init__()
        self.position_gain, self.longest_period = position_gain, longest_period
        self.norm, self.wave_norm = nn.LayerNorm(n_features), nn.LayerNorm(n_features)
        self.layers, self.wave_layers = (
            nn.ModuleList(
                TransformerLayer(n_features, n_heads, hidden_size, layer_scale, across=bool(i % 2) != cross_first)
                for i in range(n_layers)
            )
            for _ in range(2)
        )

    def forward(self, rows: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Transform (B, H, R, N) and (B, H, T) into the same shapes."""
        n_features, n_rows, n_frames = rows.shape[1:]
        tokens = self.norm(rows.permute(0, 3, 2, 1).flatten(1, 2))  # (B, N * R, H), frame by frame
        wave_tokens = self.wave_norm(wave.mT)
        grid = grid_positions(n_features, n_frames, n_rows, self.longest_period, tokens)
        line = line_positions(n_features, wave.shape[-1], self.longest_period, tokens)
        tokens, wave_tokens = tokens + self.position_gain * grid, wave_tokens + self.position_gain * line
        for layer, wave_layer in zip(self.layers, self.wave_layers, strict=True):
            tokens, wave_tokens = layer(tokens, wave_tokens), wave_layer(wave_tokens, tokens)
        return tokens.unflatten(1, (n_frames, n_rows)).permute(0, 3, 2, 1), wave_tokens.mT


class TransformerLayer(nn.Module):
    """Attention within a sequence, or from it to another, and a feed-forward network, each added at a learned scale."""

    def __init__(self, n_features: int, n_heads: int, hidden_size: int, scale: float, across: bool) -> None:
        super().__init__()
        self.across = across
        self.norm = nn.LayerNorm(n_features)
        if across:
            self.other_norm = nn.LayerNorm(n_features)
        self.attention = Attention(n_features, n_heads)
        self.attention_scale = nn.Parameter(torch.full((n_features,), scale))
        self.feed_norm = nn.LayerNorm(n_features)
        self.widen = Linear(n_features, hidden_size)
        self.narrow = Linear(hidden_size, n_features)
        self.feed_scale = nn.Parameter(torch.full((n_features,), scale))
        self.output_norm = ItemNorm(n_features)

    def forward(self, tokens: Tensor, other: Tensor) -> Tensor:
        """Transform (B, M, H) by itself, or across by the other (B, L, H)."""
        normed = self.norm(tokens)
        heard = self.attention(normed, self.other_norm(other) if self.across else None)
        tokens = tokens + self.attention_scale * heard
        tokens = tokens + self.feed_scale * self.narrow(F.gelu(self.widen(self.feed_norm(tokens))))
        return self.output_norm(tokens)


class Attention(nn.Module):
    """Attention with heads; queries, keys and values are one matrix."""

    def __init__(self, n_features: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.inputs, self.output = Linear(n_features, 3 * n_features), Linear(n_features, n_features)

    def forward(self, tokens: Tensor, other: Tensor | None) -> Tensor:
        """Let (B, M, H) look at itself, or at the other (B, L, H)."""
        if other is None:
            query, key, value = self.inputs(tokens).chunk(3, -1)
        else:
            n_features, weight, bias = tokens.shape[-1], self.inputs.weight, self.inputs.bias
            query = linear(tokens, weight[:n_features], bias[:n_features])
            key, value = linear(other, weight[n_features:], bias[n_features:]).chunk(2, -1)
        query, key, value = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (query, key, value))
        heard = F.scaled_dot_product_attention(query, key, value)  # (B, heads, M, H / heads)
        return self.output(heard.transpose(1, 2).flatten(2))


class ItemNorm(nn.Module):
    """Standardise all steps and features of an item, (B, M, H), together."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(n_features)), nn.Parameter(torch.zeros(n_features))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, tokens.shape[1:]) * self.weight + self.bias


def line_positions(n_features: int, n_steps: int, longest_period: float, like: Tensor) -> Tensor:
    """Compute the encoding of steps in a line, (n_steps, H): all cosines, then all sines."""
    precision = {"dtype": torch.promote_types(like.dtype, torch.float32), "device": like.device}
    phase = torch.arange(n_steps, **precision)[:, None] / longest_period ** torch.linspace(
        0, 1, n_features // 2, **precision
    )
    return torch.cat([phase.cos(), phase.sin()], -1).to(like.dtype)


def grid_positions(n_features: int, n_frames: int, n_rows: int, longest_period: float, like: Tensor) -> Tensor:
    """Compute the encoding of frames and rows, (n_frames * n_rows, H): half the features each, sines beside cosines."""
    half, precision = n_features // 2, {"dtype": torch.promote_types(like.dtype, torch.float32), "device": like.device}
    rates = torch.exp(torch.arange(0, half, 2, **precision) * (-math.log(longest_period) / half))
    phases = (torch.arange(n_steps, **precision)[:, None] * rates for n_steps in (n_frames, n_rows))
    frames, rows = (torch.stack([phase.sin(), phase.cos()], -1).flatten(1) for phase in phases)
    grid = torch.cat([frames[:, None].expand(-1, n_rows, -1), rows.expand(n_frames, -1, -1)], -1)
    return grid.flatten(0, 1).to(like.dtype)
