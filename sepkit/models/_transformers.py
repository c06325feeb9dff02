"""Transformers along one axis of a grid of tokens, in parts that stay in the cache of a CPU."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sepkit.models._attention import Attention, ChannelAttention, FeedForward, Positions, RMSNorm

_CHUNK = 2**20  # queries, keys and values at a time, for each thread


def runs_in_parts(tokens: Tensor) -> bool:
    """Return whether a layer that takes a few tokens at a time is the faster and smaller one."""
    return tokens.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


class TransformerLayer(nn.Module):
    """Attention and feed-forward, each added to what came in.

    Args:
        attention: of the tokens to each other.
        feed_forward: on each token.
    """

    def __init__(self, attention: Attention, feed_forward: FeedForward) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward

    def forward(self, tokens: Tensor, angles: Tensor, first_values: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the tokens (Q, L, D), and the values of the attention; see `Attention`."""
        added, values = self.attention(tokens, angles, first_values)
        tokens = tokens + added
        return tokens + self.feed_forward(tokens), values


class ChannelLayer(nn.Module):
    """The same, with attention between features.

    Args:
        attention: of the features to each other.
        feed_forward: on each token.
    """

    def __init__(self, attention: ChannelAttention, feed_forward: FeedForward) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens (Q, L, D)."""
        tokens = tokens + self.attention(tokens)
        return tokens + self.feed_forward(tokens)


@dataclass(frozen=True)
class Layers:
    """Sizes of which all transformers of a network are made."""

    n_features: int
    n_heads: int
    head_size: int
    positions: Positions
    normed: bool
    attention_dropout: float
    dropout: float

    def __post_init__(self) -> None:
        for name in ("n_features", "n_heads", "head_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.head_size % 2:
            raise ValueError(f"head_size must be even, got {self.head_size}")
        for name in ("attention_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")

    def transformer(self, n_layers: int, mixes_values: bool = False, keeps_values: bool = False) -> "Transformer":
        """Build a transformer along an axis."""
        sizes = (self.n_features, self.n_heads, self.head_size, self.positions, mixes_values, self.attention_dropout)
        layers = (TransformerLayer(Attention(*sizes), self._feed_forward()) for _ in range(n_layers))
        return Transformer(nn.ModuleList(layers), self._norm(), keeps_values)

    def channel_transformer(self, n_layers: int) -> nn.Sequential:
        """Build a transformer whose attention is between features."""
        sizes = (self.n_features, self.n_heads, self.head_size, self.attention_dropout)
        layers = (ChannelLayer(ChannelAttention(*sizes), self._feed_forward()) for _ in range(n_layers))
        return nn.Sequential(*layers, self._norm())

    def _feed_forward(self) -> FeedForward:
        return FeedForward(self.n_features, self.dropout)

    def _norm(self) -> nn.Module:
        return RMSNorm(self.n_features) if self.normed else nn.Identity()


class Transformer(nn.Module):
    """Layers along the second dimension of (Q, L, D), and a norm after them.

    Args:
        layers: of the type `TransformerLayer`.
        norm: of the tokens that come out.
        keeps_values: return the values of the first layer's attention too.
    """

    def __init__(self, layers: nn.ModuleList, norm: nn.Module, keeps_values: bool) -> None:
        super().__init__()
        self.layers, self.norm, self.keeps_values = layers, norm, keeps_values

    def forward(
        self, tokens: Tensor, angles: Tensor, first_values: Tensor | None, overwrites: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Transform sequences.

        On a CPU, where nothing is kept for a backward pass, a few sequences at a time go through all layers.

        Args:
            tokens: see `Attention`.
            angles: see `Attention`.
            first_values: see `Attention`.
            overwrites: the tokens may be overwritten.
        """
        if not runs_in_parts(tokens):
            return self._run(tokens, angles, first_values)
        attention = self.layers[0].attention
        n_values = 3 * attention.n_heads * attention.head_size * tokens.shape[1]
        n_at_a_time = max(1, _CHUNK * torch.get_num_threads() // n_values)
        transformed = tokens if overwrites else torch.empty_like(tokens)  # in memory as they are, transposed or not
        kept = []
        for start in range(0, len(tokens), n_at_a_time):
            part = slice(start, start + n_at_a_time)
            own = None if first_values is None else first_values[part]
            transformed[part], values = self._run(tokens[part].contiguous(), angles, own)
            kept.append(values)
        return transformed, torch.cat(kept) if self.keeps_values else None

    def _run(self, tokens: Tensor, angles: Tensor, first_values: Tensor | None) -> tuple[Tensor, Tensor | None]:
        kept = None
        for position, layer in enumerate(self.layers):
            tokens, values = layer(tokens, angles, first_values)
            if self.keeps_values and not position:
                kept = values.contiguous()  # a view would keep queries and keys
        return self.norm(tokens), kept
