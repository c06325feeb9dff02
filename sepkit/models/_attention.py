"""Layers of transformers over the frames or the bands: attention that knows positions, or channels alone."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.constant import Constant
from sepkit.models._products import Linear, multiplies, multiply

Positions = Literal["rotary", "polar"]
_LARGEST_PHASE = 2 * torch.pi
_LONG = 128  # positions from which on products for each head are faster than torch's fused kernel
_N_WEIGHTS = 2**18  # of a head at a time


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


def turn(heads: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of neighbouring features by angles, and put the heads before the positions.

    Args:
        heads: (Q, L, A, H, E), A of queries and keys; overwritten where no gradients are asked for.
        angles: (L, E / 2).

    Returns:
        (Q, A, H, L, E), in the type of the heads; computed in the precision of the angles.
    """
    cosines, sines = angles.cos(), angles.sin()
    if heads.device.type in ("cpu", "cuda") and not torch.compiler.is_compiling():
        if heads.dtype == angles.dtype and not torch.is_grad_enabled():
            return _turn_in_place(heads, torch.complex(cosines, sines))
        return _turn(heads, torch.stack([cosines, sines], -1), True)
    first, second = heads.permute(0, 2, 3, 1, 4).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([first * cosines - second * sines, second * cosines + first * sines], -1)
    return turned.flatten(-2).to(heads.dtype)


def _turn_in_place(heads: Tensor, factors: Tensor) -> Tensor:
    """Multiply pairs (Q, L, A, H, E) with complex factors (L, E / 2); return a view, (Q, A, H, L, E)."""
    torch.view_as_complex(heads.unflatten(-1, (-1, 2))).mul_(factors[:, None, None])
    return heads.permute(0, 2, 3, 1, 4)


# As one complex product it takes a third of the time and keeps nothing but the table for the backward pass. It is an
# operator so that complex numbers stay inside: compilers and exports are given the real one above.
@torch.library.custom_op("sepkit::turn", mutates_args=())
def _turn(heads: Tensor, table: Tensor, forwards: bool) -> Tensor:
    """Multiply pairs with cosines and sines (L, E / 2, 2): (Q, L, A, H, E) to (Q, A, H, L, E), or all of it back."""
    precise = heads.to(table.dtype)
    if precise.stride(-1) != 1 or any(stride % 2 for stride in precise.stride()[:-1]):
        precise = precise.contiguous()  # complex numbers lie in a row
    pairs = torch.view_as_complex(precise.unflatten(-1, (-1, 2)))
    factors = torch.view_as_complex(table)
    if forwards:
        pairs = pairs.permute(0, 2, 3, 1, 4)
    else:
        pairs, factors = pairs.permute(0, 3, 1, 2, 4), factors.conj().resolve_conj()[:, None, None]
    turned = torch.empty(pairs.shape, dtype=pairs.dtype, device=pairs.device)
    torch.mul(pairs, factors, out=turned)
    return torch.view_as_real(turned).flatten(-2).to(heads.dtype)


@_turn.register_fake
def _(heads: Tensor, table: Tensor, forwards: bool) -> Tensor:  # noqa: ARG001
    order = (0, 2, 3, 1, 4) if forwards else (0, 3, 1, 2, 4)
    return heads.new_empty([heads.shape[axis] for axis in order])


def _keep_table(ctx: Any, inputs: tuple[Tensor, Tensor, bool], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(inputs[1])
    ctx.forwards = inputs[2]


def _turn_back(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
    return _turn(gradient, ctx.saved_tensors[0], not ctx.forwards), None, None


_turn.register_autograd(_turn_back, setup_context=_keep_table)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, scale: float, dropout: float) -> Tensor:
    """Compute the attention within each sequence and head, (Q, H, L, E): (Q, H, L, E of the values)."""
    n_positions = keys.shape[2]
    runs_head_by_head = n_positions >= _LONG and torch.get_num_threads() == 1  # more threads find too little in a head
    if not runs_head_by_head or dropout or torch.is_grad_enabled() or not multiplies(queries):
        return F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, scale=scale)
    attended = values.new_empty(len(values), n_positions, *values.shape[1::2]).transpose(1, 2)
    n_at_a_time = max(1, _N_WEIGHTS // n_positions)
    for number, sequence in enumerate(zip(queries * scale, keys, values, strict=True)):
        heads = zip(*(each.contiguous() for each in sequence), strict=True)
        for head, (asking, asked, told) in enumerate(heads):
            weights = (torch.softmax(multiply(part, asked), -1) for part in asking.split(n_at_a_time))
            attended[number, head] = torch.cat([multiply(part, told.mT) for part in weights])
    return attended


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
        "polar".
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
        self.to_heads = Linear(n_features, 3 * n_heads * head_size, bias=False)
        self.gate = Linear(n_features, n_heads)
        self.share = Linear(n_features, n_heads) if mixes_values else None
        self.phases = nn.Parameter(torch.zeros(n_heads, head_size)) if positions == "polar" else None
        self.output = nn.Sequential(Linear(n_heads * head_size, n_features, bias=False), nn.Dropout(dropout))

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
        heads = self.to_heads(normed).unflatten(-1, (3, self.n_heads, self.head_size))
        heads, values = heads.split([2, 1], 2)  # (Q, L, 2, H, E) of queries and keys, and one of values
        values = mixed = values.squeeze(2)
        if self.share is not None and first_values is not None:
            mixed = torch.lerp(values, first_values, torch.sigmoid(self.share(normed)).unsqueeze(-1))
        if self.phases is not None:
            mixed = F.pad(mixed, (0, self.head_size))  # because the fast kernels want values as long as keys
        queries, keys = (turn(heads, angles) if self.phases is None else self._polar(heads, angles)).unbind(1)
        dropout = self.dropout if self.training else 0.0
        attended = _attend(queries, keys, mixed.transpose(1, 2), self.head_size**-0.5, dropout)
        attended = attended.transpose(1, 2)  # (Q, L, H, E or 2 E)
        if self.phases is not None:
            attended = attended[..., : self.head_size]
        return self.output((attended * torch.sigmoid(self.gate(normed)).unsqueeze(-1)).flatten(2)), values

    def _polar(self, heads: Tensor, angles: Tensor) -> Tensor:
        """Turn queries and keys (Q, L, 2, H, E), lengths, to their angles: (Q, 2, H, L, 2 E)."""
        phases = self.phases.clamp(-_LARGEST_PHASE, 0).to(angles.dtype)
        shifts = torch.stack([torch.zeros_like(phases), phases])  # (2, H, E)
        angles = angles[:, None, None] + shifts
        lengths = F.softplus(heads)
        turned = torch.cat([lengths * angles.cos(), lengths * angles.sin()], -1).to(heads.dtype)
        return turned.permute(0, 2, 3, 1, 4)


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
        self.to_heads = Linear(n_features, 3 * n_heads * head_size, bias=False)
        self.log_scale = nn.Parameter(torch.ones(n_heads, 1, 1))
        self.output = Linear(n_heads * head_size, n_features, bias=False)

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
            Linear(n_features, 4 * n_features),
            nn.GELU(),
            nn.Dropout(dropout),
            Linear(4 * n_features, n_features),
            nn.Dropout(dropout),
        )
