"""Layers of transformers over the frames or the bands: attention that knows positions, or channels alone."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.constant import Constant

Positions = Literal["rotary", "polar"]
_LARGEST_PHASE = 2 * torch.pi


class RMSNorm(nn.Module):
    """Scale vectors to a root mean square of 1, times learned gains.

    Args:
        shape: (..., D) of the gains, all but D apart for vectors of their own.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(shape))

    def forward(self, vectors: Tensor) -> Tensor:
        """Scale (..., D); zeros remain zeros."""
        return F.normalize(vectors, dim=-1) * (self.gain * self.gain.shape[-1] ** 0.5)


class Places(nn.Module):
    """The angles by which positions along one axis turn the pairs of features, or the features, of a head.

    Args:
        head_size: features of a head, even.
        positions: "rotary": pairs are turned, head_size / 2 frequencies; "polar": each feature is, head_size.
    """

    def __init__(self, head_size: int, positions: Positions) -> None:
        super().__init__()
        n_frequencies = head_size // 2 if positions == "rotary" else head_size
        exponents = torch.arange(n_frequencies, dtype=torch.float64) / n_frequencies
        self.frequencies = Constant((10000.0**-exponents).float(), persistent=True)

    def forward(self, n_positions: int, like: Tensor) -> Tensor:
        """Return the angles (positions, frequencies), in float32 at least, whatever the precision of `like`."""
        frequencies = self.frequencies.values.to(torch.promote_types(like.dtype, torch.float32))
        return torch.arange(n_positions, device=frequencies.device)[:, None] * frequencies


def turn(pairs: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn pairs of features by angles: the product of complex numbers, of which nothing but the angles is kept.

    Args:
        pairs: (..., 2, E), first components and second ones.
        cosines: of the angles, (..., E), to be broadcast.
        sines: of the angles, likewise.

    Returns:
        The same shape and type; computed in the precision of the angles.
    """
    if not torch.compiler.is_compiling():
        return _Turn.apply(pairs, cosines, sines)
    first, second = pairs.unbind(-2)  # what a compiler makes one product of
    return torch.stack([first * cosines - second * sines, second * cosines + first * sines], -2).to(pairs.dtype)


class _Turn(torch.autograd.Function):
    """Without it, autograd keeps copies of halves, and a backward pass of slices costs more than the products."""

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        turned = pairs * cosines.unsqueeze(-2)
        first, second = pairs.unbind(-2)
        turned.select(-2, 0).addcmul_(second, sines, value=-1)
        turned.select(-2, 1).addcmul_(first, sines)
        return turned.to(pairs.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _Turn.apply(gradient, cosines, -sines), None, None


class Attention(nn.Module):
    """Attention of each token to all of its sequence, gated per head.

    Args:
        n_features: D.
        n_heads: H.
        head_size: E, even.
        positions: "rotary": queries and keys are turned by their position; "polar": their softplus is a length, and
            their position, with a learned phase for each feature of the keys, is the angle.
        mixes_values: take a learned share of the values from elsewhere.
        dropout: share of the attention weights, and of the result, that is dropped in training.

    Source:
        J. Su et al., RoFormer, 2021; W.-T. Lu et al., BS-RoFormer, 2023; A. Gopalakrishnan et al., PoPE, 2025, for
        "polar". Pairs of features are kept as halves of a head, where the published code interleaves them.
    """

    def __init__(
        self,
        n_features: int,
        n_heads: int,
        head_size: int,
        positions: Positions = "rotary",
        mixes_values: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_heads, self.head_size, self.dropout = n_heads, head_size, dropout
        self.norm = RMSNorm(n_features)
        self.to_heads = nn.Linear(n_features, 3 * n_heads * head_size, bias=False)
        self.gate = nn.Linear(n_features, n_heads)
        self.share = nn.Linear(n_features, n_heads) if mixes_values else None
        self.phases = nn.Parameter(torch.zeros(n_heads, head_size)) if positions == "polar" else None
        self.output = nn.Sequential(nn.Linear(n_heads * head_size, n_features, bias=False), nn.Dropout(dropout))

    def forward(self, tokens: Tensor, angles: Tensor, first_values: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            tokens: (Q, L, D), Q sequences.
            angles: of the positions, (L, E / 2), or (L, E) where they are polar.
            first_values: (Q, L, H, E), mixed in where there is a share for them.

        Returns:
            What is to be added to the tokens, and the values before anything was mixed in.
        """
        normed = self.norm(tokens)
        heads = self.to_heads(normed).unflatten(-1, (3, self.n_heads, self.head_size))  # (Q, L, 3, H, E)
        values = mixed = heads[:, :, 2]
        if self.share is not None and first_values is not None:
            mixed = torch.lerp(values, first_values, torch.sigmoid(self.share(normed)).unsqueeze(-1))
        place = self._turned if self.phases is None else self._polar
        queries, keys = place(heads[:, :, :2], angles).transpose(1, 3).unbind(2)  # (Q, H, L, E or 2 E)
        n_more = keys.shape[-1] - self.head_size  # zeros, because the fast kernels want values as long as keys
        attended = F.scaled_dot_product_attention(
            queries,
            keys,
            F.pad(mixed, (0, n_more)).transpose(1, 2),
            dropout_p=self.dropout if self.training else 0.0,
            scale=self.head_size**-0.5,
        )
        attended = attended.transpose(1, 2)[..., : self.head_size]  # (Q, L, H, E)
        return self.output((attended * torch.sigmoid(self.gate(normed)).unsqueeze(-1)).flatten(2)), values

    def _turned(self, heads: Tensor, angles: Tensor) -> Tensor:
        """Turn the pairs of queries and keys (Q, L, 2, H, E)."""
        pairs = heads.unflatten(-1, (2, -1))
        return turn(pairs, angles.cos()[:, None, None], angles.sin()[:, None, None]).flatten(-2)

    def _polar(self, heads: Tensor, angles: Tensor) -> Tensor:
        """Turn queries and keys (Q, L, 2, H, E), lengths, to their angles: (Q, L, 2, H, 2 E)."""
        phases = self.phases.clamp(-_LARGEST_PHASE, 0).to(angles.dtype)
        shifts = torch.stack([torch.zeros_like(phases), phases])  # (2, H, E)
        angles = angles[:, None, None] + shifts
        lengths = F.softplus(heads)
        return torch.cat([lengths * angles.cos(), lengths * angles.sin()], -1).to(heads.dtype)


class ChannelAttention(nn.Module):
    """Attention of each feature of a head to the others of it, over all tokens; it costs as much as their number.

    Args:
        n_features: D.
        n_heads: H.
        head_size: E.
        dropout: share of the attention weights that is dropped in training.

    Source:
        A. El-Nouby et al., XCiT, 2021, with a fixed scale of 8 beside the learned one.
    """

    def __init__(self, n_features: int, n_heads: int, head_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.head_size, self.dropout = n_heads, head_size, dropout
        self.norm = RMSNorm(n_features)
        self.to_heads = nn.Linear(n_features, 3 * n_heads * head_size, bias=False)
        self.log_scale = nn.Parameter(torch.ones(n_heads, 1, 1))
        self.output = nn.Linear(n_heads * head_size, n_features, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what is to be added to tokens (Q, L, D)."""
        heads = self.to_heads(self.norm(tokens)).unflatten(-1, (3, self.n_heads, self.head_size))
        queries, keys, values = heads.permute(2, 0, 3, 4, 1).unbind(0)  # (Q, H, E, L)
        queries, keys = F.normalize(queries, dim=-1) * self.log_scale.exp(), F.normalize(keys, dim=-1)
        attended = F.scaled_dot_product_attention(
            queries, keys, values, dropout_p=self.dropout if self.training else 0.0, scale=8.0
        )
        return self.output(attended.permute(0, 3, 1, 2).flatten(2))


class FeedForward(nn.Sequential):
    """Two layers on each token by itself; the values between them are four times as many.

    Args:
        n_features: D.
        dropout: share of the values after each layer that is dropped in training.
    """

    def __init__(self, n_features: int, dropout: float = 0.0) -> None:
        super().__init__(
            RMSNorm(n_features),
            nn.Linear(n_features, 4 * n_features),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * n_features, n_features),
            nn.Dropout(dropout),
        )
