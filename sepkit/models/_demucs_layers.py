"""Layers of the Demucs family: strided convolutions over rows or samples, with residual branches inside.

Features are (B, H, T) of a waveform, or (B, H, R, N) of a spectrogram with R rows of frequencies.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._products import Linear

_N_DECAYS = 4  # rates at which attention may fall off with distance
_SELF = -100.0  # the score of a frame for itself, which keeps it out


@dataclass(frozen=True)
class Stride:
    """How a layer moves over rows or samples: `spectral` over the rows of each frame, else over samples.

    An `edged` layer reads kernel // 4 zeros beyond both ends; one that is not takes all rows at once.
    """

    kernel_size: int
    step: int
    spectral: bool
    edged: bool = True

    @property
    def edge(self) -> int:
        """Return how many rows or samples stand beyond each end."""
        return self.kernel_size // 4 if self.edged else 0


@dataclass(frozen=True)
class Residuals:
    """What the residual branches of a layer are: how many, how narrow, at what scale they start."""

    depth: int
    compression: int
    scale: float
    recurrent: bool = False
    attentive: bool = False

    def build(self, n_features: int) -> nn.Sequential:
        """Build the branches of a layer with `n_features`."""
        return nn.Sequential(*(ResidualBranch(n_features, self, 2**level) for level in range(self.depth)))


class Recurrence(nn.Module):
    """Two-way LSTM over the frames of (B, H, N), and a linear layer back to H.

    Args:
        n_features: H.
        n_layers: recurrent layers.
        span: frames that are run at a time, each span beginning in the middle of the one before; None: all.
        residual: add the input.
    """

    def __init__(self, n_features: int, n_layers: int = 2, span: int | None = None, residual: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(n_features, n_features, n_layers, bidirectional=True)
        self.linear = Linear(2 * n_features, n_features)
        self.span, self.residual = span, residual

    def forward(self, features: Tensor) -> Tensor:
        n_frames = features.shape[-1]
        if self.span is None or n_frames <= self.span:
            recurrent = self._run(features.permute(2, 0, 1)).permute(1, 2, 0)
        else:
            recurrent = self._run_in_spans(features)
        return features + recurrent if self.residual else recurrent

    def _run(self, steps: Tensor) -> Tensor:
        return self.linear(self.lstm(steps)[0])

    def _run_in_spans(self, features: Tensor) -> Tensor:
        """Run spans on their own and keep of each what lies nearer to its middle than to that of another."""
        (n_items, _, n_frames), half = features.shape, self.span // 2
        n_spans = math.ceil(n_frames / half)
        padded = F.pad(features, (0, (n_spans + 1) * half - n_frames))
        spans = padded.unfold(-1, self.span, half)  # (B, H, n, span)
        found = self._run(spans.permute(3, 0, 2, 1).flatten(1, 2)).unflatten(1, (n_items, n_spans))
        edge = half // 2
        middles = found[edge:-edge].permute(1, 3, 2, 0).flatten(2)  # (B, H, n * half)
        first, last = (part.permute(1, 2, 0) for part in (found[:edge, :, 0], found[-edge:, :, -1]))
        return torch.cat([first, middles, last], -1)[..., :n_frames]


class LocalAttention(nn.Module):
    """Attention over the frames of (B, H, N), whose scores fall off with distance as each frame asks for."""

    def __init__(self, n_features: int, n_heads: int = 4) -> None:
        super().__init__()
        if n_features % n_heads:
            raise ValueError(f"attention needs a multiple of {n_heads} features in its branch, got {n_features}")
        self.n_heads = n_heads
        self.content, self.query, self.key = (nn.Conv1d(n_features, n_features, 1) for _ in range(3))
        self.decay = nn.Conv1d(n_features, n_heads * _N_DECAYS, 1)
        self.output = nn.Conv1d(n_features, n_features, 1)
        with torch.no_grad():
            self.decay.weight.mul_(0.01)
            self.decay.bias.fill_(-2)

    def forward(self, features: Tensor) -> Tensor:
        n_frames = features.shape[-1]
        query, key, content = (
            layer(features).unflatten(1, (self.n_heads, -1)).mT for layer in (self.query, self.key, self.content)
        )  # (B, heads, N, H / heads)
        heard = F.scaled_dot_product_attention(query, key, content, attn_mask=self._bias(features, n_frames).to(query))
        return features + self.output(heard.mT.flatten(1, 2))

    def _bias(self, features: Tensor, n_frames: int) -> Tensor:
        rates = torch.arange(1, _N_DECAYS + 1, device=features.device, dtype=features.dtype)
        decays = torch.sigmoid(self.decay(features)).unflatten(1, (self.n_heads, _N_DECAYS)) / 2
        slope = (decays * rates[:, None]).sum(2) / math.sqrt(_N_DECAYS)  # (B, heads, N)
        frames = torch.arange(n_frames, device=features.device, dtype=features.dtype)
        distance = (frames[:, None] - frames).abs()
        return -slope[..., None] * distance + _SELF * torch.eye(n_frames, device=features.device, dtype=features.dtype)


class GroupNorm(nn.GroupNorm):
    """Torch's, which also takes a single value a group, as of one frame: its result is the bias then."""

    def forward(self, features: Tensor) -> Tensor:
        return torch.group_norm(features, self.num_groups, self.weight, self.bias, self.eps)


class ResidualBranch(nn.Module):
    """A dilated bottleneck over the frames of (B, H, N), added at a learned scale."""

    def __init__(self, n_features: int, kind: Residuals, dilation: int) -> None:
        super().__init__()
        hidden = n_features // kind.compression
        if hidden < 1:
            raise ValueError(f"a layer must have at least residual_compression {kind.compression}, got {n_features}")
        self.narrow = nn.Conv1d(n_features, hidden, 3, dilation=dilation, padding=dilation)
        self.narrow_norm = GroupNorm(1, hidden)
        self.recurrence = Recurrence(hidden, 2, 200, residual=True) if kind.recurrent else nn.Identity()
        self.attention = LocalAttention(hidden) if kind.attentive else nn.Identity()
        self.widen = nn.Conv1d(hidden, 2 * n_features, 1)
        self.widen_norm = GroupNorm(1, 2 * n_features)
        self.scale = nn.Parameter(torch.full((n_features,), kind.scale))

    def forward(self, features: Tensor) -> Tensor:
        narrow = F.gelu(self.narrow_norm(self.narrow(features)))
        wide = self.widen_norm(self.widen(self.attention(self.recurrence(narrow))))
        return features + self.scale[:, None] * F.glu(wide, 1)


class EncoderLayer(nn.Module):
    """Stride down, residual branches, and a gated 1 x 1 convolution.

    Args:
        n_in: H before it.
        n_out: H behind it.
        stride: how it moves.
        norm_groups: groups of the normalisations; None: none.
        residuals: the branches; None: none.
    """

    def __init__(
        self, n_in: int, n_out: int, stride: Stride, norm_groups: int | None, residuals: Residuals | None
    ) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = _strided(n_in, n_out, stride)
        self.norm = _norm(norm_groups, n_out)
        self.residuals = residuals.build(n_out) if residuals else nn.Identity()
        self.rewrite = (nn.Conv2d if stride.spectral else nn.Conv1d)(n_out, 2 * n_out, 1)
        self.rewrite_norm = _norm(norm_groups, 2 * n_out)

    def forward(self, features: Tensor, injected: Tensor | None = None, edges: tuple[int, int] | None = None) -> Tensor:
        """Encode features.

        Args:
            features: (B, H, T), or (B, H, R, N) for a spectral layer.
            injected: (B, H', N), added to the one row that is left.
            edges: rows of zeros before the first and after the last; None: the layer's own.
        """
        if not self.stride.spectral:
            features = pad_to_step(features.flatten(1, -2), self.stride.step)
        before, after = (self.stride.edge,) * 2 if edges is None else edges
        if before == after:
            features = _convolve(self.convolution, features, before)
        else:
            features = self.convolution(F.pad(features, (0, 0, before, after)))
        if injected is not None:
            features = features + injected.unsqueeze(2)
        features = over_rows(self.residuals, F.gelu(self.norm(features)))
        return F.glu(self.rewrite_norm(self.rewrite(features)), 1)


class Injection(nn.Module):
    """The last layer of a waveform's encoder: stride down to the frames of the spectrogram, nothing else."""

    def __init__(self, n_in: int, n_out: int, stride: Stride) -> None:
        super().__init__()
        self.stride = stride
        self.convolution = _strided(n_in, n_out, stride)

    def forward(self, features: Tensor) -> Tensor:
        return _convolve(self.convolution, pad_to_step(features, self.stride.step), self.stride.edge)


class DecoderLayer(nn.Module):
    """Add what the encoder had, a gated convolution, residual branches, and stride up.

    Args:
        n_in: H before it.
        n_out: H behind it.
        stride: that of the encoder's layer which it undoes.
        norm_groups: groups of the normalisations; None: none.
        residuals: the branches; None: none.
        outermost: no activation behind it.
        banded: it sees a band of the rows alone: its gated convolution spans one row, and nothing is cut or activated.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        stride: Stride,
        norm_groups: int | None,
        residuals: Residuals | None,
        outermost: bool = False,
        banded: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.outermost, self.banded, self.n_in = stride, outermost, banded, n_in
        if stride.spectral:
            span = 1 if banded else 3
            self.rewrite = nn.Conv2d(n_in, 2 * n_in, (span, 3), padding=(span // 2, 1))
        else:
            self.rewrite = nn.Conv1d(n_in, 2 * n_in, 3, padding=1)
        self.rewrite_norm = _norm(norm_groups, 2 * n_in)
        self.residuals = residuals.build(n_in) if residuals else nn.Identity()
        self.convolution = _strided(n_in, n_out, stride, upwards=True)
        self.norm = _norm(norm_groups, n_out)

    def forward(self, features: Tensor, skip: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Decode features into those of the next layer, `length` samples long, and those before the stride."""
        if self.stride.spectral and features.dim() == 3:
            features = features.unflatten(1, (self.n_in, -1))
        gated = F.glu(self.rewrite_norm(self.rewrite(features + skip)), 1)
        inner = over_rows(self.residuals, gated)
        outer = self.norm(self.convolution(inner))
        if self.banded:
            return outer, inner
        return activate(cut(outer, self.stride, length), self.outermost), inner


class Ejection(nn.Module):
    """The first layer of a waveform's decoder: stride up from the frames of the spectrogram, nothing else."""

    def __init__(self, n_in: int, n_out: int, stride: Stride, norm_groups: int | None, outermost: bool) -> None:
        super().__init__()
        self.stride, self.outermost = stride, outermost
        self.convolution = _strided(n_in, n_out, stride, upwards=True)
        self.norm = _norm(norm_groups, n_out)

    def forward(self, features: Tensor, length: int) -> Tensor:
        return activate(cut(self.norm(self.convolution(features)), self.stride, length), self.outermost)


def over_rows(branches: nn.Module, features: Tensor) -> Tensor:
    """Run branches over the frames of every row, (B, H, R, N), or of (B, H, N)."""
    if features.dim() == 3 or isinstance(branches, nn.Identity):
        return branches(features)
    n_items = len(features)
    rows = features.transpose(1, 2).flatten(0, 1)  # (B * R, H, N)
    return branches(rows).unflatten(0, (n_items, -1)).transpose(1, 2)


def activate(features: Tensor, outermost: bool) -> Tensor:
    """Return features behind their activation, which the outermost layer lacks."""
    return features if outermost else F.gelu(features)


def cut(features: Tensor, stride: Stride, length: int) -> Tensor:
    """Cut what a stride up has beyond the ends: rows at both, samples to `length`."""
    if stride.spectral:
        return features[:, :, stride.edge : features.shape[2] - stride.edge]
    return features[..., stride.edge : stride.edge + length]


def pad_to_step(features: Tensor, step: int) -> Tensor:
    """Fill (B, H, T) with zeros to a multiple of a step."""
    missing = -features.shape[-1] % step
    return F.pad(features, (0, missing)) if missing else features


@torch.no_grad()
def rescale_convolutions(module: nn.Module, target: float = 0.1) -> None:
    """Scale weights and biases of the convolutions of a new module, so that the weights' spread nears `target`.

    Source:
        A. Défossez et al., Music Source Separation in the Waveform Domain, 2019, section 4.1.2: the root of the ratio.
    """
    for part in module.modules():
        is_convolution = isinstance(part, nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d)
        if is_convolution and not part.weight.is_meta:  # torch would load a second of modules to do nothing
            spread = part.weight.std() if part.weight.numel() > 1 else part.weight.abs().squeeze()
            gain = (target / spread).sqrt()
            part.weight.mul_(gain)
            part.bias.mul_(gain)


def _strided(n_in: int, n_out: int, stride: Stride, upwards: bool = False) -> nn.Module:
    if stride.spectral:
        layer = nn.ConvTranspose2d if upwards else nn.Conv2d
        return layer(n_in, n_out, (stride.kernel_size, 1), (stride.step, 1))
    return (nn.ConvTranspose1d if upwards else nn.Conv1d)(n_in, n_out, stride.kernel_size, stride.step)


def _convolve(layer: nn.Conv1d | nn.Conv2d, features: Tensor, edge: int) -> Tensor:
    """Run a convolution with `edge` zeros beyond both ends of the rows or samples."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(features, layer.weight, layer.bias, layer.stride, (edge, 0))
    return F.conv1d(features, layer.weight, layer.bias, layer.stride, edge)


def _norm(groups: int | None, n_features: int) -> nn.Module:
    if groups is None:
        return nn.Identity()
    if n_features % groups:
        raise ValueError(f"norm_groups must divide {n_features}, the features of a normalisation, got {groups}")
    return GroupNorm(groups, n_features)
