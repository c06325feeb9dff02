"""Demucs: a U-Net over the samples."""

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._demucs_hybrid import ResidualIn, standardise
from sepkit.models._demucs_layers import GroupNorm, Recurrence, Residuals, rescale_convolutions
from sepkit.models._resample import Resampler
from sepkit.models._waveform import check_mixture

_ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu}
_SPAN = 3  # samples that the gated convolutions of the decoder read


class _EncoderLayer(nn.Module):
    """Stride down, residual branches, and a gated convolution of single samples."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: int,
        step: int,
        activation: str,
        groups: int | None,
        branches: Residuals | None,
    ) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[activation]
        self.convolution = nn.Conv1d(n_in, n_out, kernel_size, step)
        self.norm = GroupNorm(groups, n_out) if groups else nn.Identity()
        self.residuals = branches.build(n_out) if branches else nn.Identity()
        self.rewrite = nn.Conv1d(n_out, 2 * n_out, 1)
        self.rewrite_norm = GroupNorm(groups, 2 * n_out) if groups else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        features = self.residuals(self.activation(self.norm(self.convolution(features))))
        return F.glu(self.rewrite_norm(self.rewrite(features)), 1)


class _DecoderLayer(nn.Module):
    """Add what the encoder had, a gated convolution, residual branches, and stride up."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: int,
        step: int,
        activation: str,
        groups: int | None,
        branches: Residuals | None,
        padded: bool,
        outermost: bool,
    ) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[activation]
        self.rewrite = nn.Conv1d(n_in, 2 * n_in, _SPAN, padding=_SPAN // 2 if padded else 0)
        self.rewrite_norm = GroupNorm(groups, 2 * n_in) if groups else nn.Identity()
        self.residuals = branches.build(n_in) if branches else nn.Identity()
        self.convolution = nn.ConvTranspose1d(n_in, n_out, kernel_size, step)
        self.norm = GroupNorm(groups, n_out) if groups and not outermost else nn.Identity()
        self.outermost = outermost

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        features = self.rewrite(features + cut_middle(skip, features.shape[-1]))
        features = self.norm(self.convolution(self.residuals(F.glu(self.rewrite_norm(features), 1))))
        return features if self.outermost else self.activation(features)


class Demucs(nn.Module):
    """Estimate waveforms from the waveform by an encoder and a decoder of strided convolutions.

    The decoder is given what the encoder had at the same rate. Any length passes: zeros are filled in on both sides, in
    the place of which `sepkit.separate` gives what stands around a chunk.

    Args:
        n_sources: S.
        n_channels: C.
        hidden_channels: features of the outermost layer, >= 1.
        growth: factor of the features from layer to layer, >= 1.
        depth: layers of the encoder and of the decoder, >= 1.
        kernel_size: samples that a layer reads, >= `stride`; even where `resample`.
        stride: samples that become one in a layer; even where `resample`.
        activation: "gelu", or "relu" in version 2.
        norm_from: layers from this number on, counted from 0 and the outermost, are normalised.
        norm_groups: groups of features of that normalisation.
        residual_in: "encoder", "decoder" or "both" have residual branches in their layers; None: neither.
        residual_depth: branches of a layer, each with twice the reach of the one before.
        residual_compression: how many times fewer features a branch has inside.
        residual_scale: the factor at which branches start.
        recurrence_from: layers from this number on have an LSTM in their branches; None: none.
        attention_from: layers from this number on have attention in their branches; None: none.
        n_recurrent: layers of an LSTM between encoder and decoder, >= 0.
        padded: fill zeros in at both ends before each convolution of the decoder; else, as in version 2, it takes
            more samples than it gives.
        resample: run at twice the sample rate.
        normalize: bring each item to the same mean and level, measured on the mean of its channels.

    Raises:
        ValueError: an argument is out of range, or sizes do not fit each other.

    Source:
        A. Défossez et al., Music source separation in the waveform domain, 2019, and demucs 4.1; the defaults are
        version 3, and version 2 is `{activation: relu, norm_from: 6, residual_in: null, n_recurrent: 2, padded: false,
        normalize: false}`.
    """

    outputs = ("estimate",)
    blocks = (_EncoderLayer, _DecoderLayer)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        hidden_channels: int = 64,
        growth: int = 2,
        depth: int = 6,
        kernel_size: int = 8,
        stride: int = 4,
        activation: Literal["gelu", "relu"] = "gelu",
        norm_from: int = 4,
        norm_groups: int = 4,
        residual_in: ResidualIn | None = "encoder",
        residual_depth: int = 2,
        residual_compression: int = 4,
        residual_scale: float = 1e-4,
        recurrence_from: int | None = 4,
        attention_from: int | None = 4,
        n_recurrent: int = 0,
        padded: bool = True,
        resample: bool = True,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        if residual_in not in ("encoder", "decoder", "both", None):
            raise ValueError(f"residual_in must be encoder, decoder, both or None, got {residual_in!r}")
        if min(hidden_channels, growth, depth, stride) < 1 or n_recurrent < 0:
            raise ValueError(
                "hidden_channels, growth, depth and stride must be at least 1, and n_recurrent at least 0, got "
                f"{hidden_channels}, {growth}, {depth}, {stride} and {n_recurrent}"
            )
        if kernel_size < stride or (resample and (kernel_size % 2 or stride % 2)):
            wanted = "not below stride, and both even with resample"
            raise ValueError(f"kernel_size must be {wanted}, got {kernel_size} and {stride}")
        self.n_channels, self.normalize = n_channels, normalize
        widths = [hidden_channels * growth**index for index in range(depth)]
        layers = []
        for index, width in enumerate(widths):
            branches = Residuals(
                residual_depth, residual_compression, residual_scale,
                *(start is not None and index >= start for start in (recurrence_from, attention_from)),
            )  # fmt: skip
            layers.append(
                {
                    "width": width, "kernel_size": kernel_size, "step": stride, "activation": activation,
                    "groups": norm_groups if index >= norm_from else None, "branches": branches,
                }
            )  # fmt: skip
        self.core = _Core(n_sources, n_channels, layers, residual_in, n_recurrent, padded, resample)

    def valid_length(self, n_samples: int) -> int:
        """Return the samples to which a mixture of `n_samples` is filled up."""
        return self.core.valid_length(n_samples)

    def forward(self, mixture: Tensor) -> Tensor:
        """Estimate the waveform of each source, (B, S, C, T), from that of the mixture, (B, C, T)."""
        check_mixture(mixture, self)
        if mixture.shape[1] != self.n_channels:
            raise ValueError(f"mixture must be (B, {self.n_channels}, T), got {tuple(mixture.shape)}")
        n_samples = mixture.shape[-1]
        missing = self.valid_length(n_samples) - n_samples
        if self.normalize:
            _, mean, spread = standardise(mixture.mean(1, keepdim=True), (1, 2))
            mixture = (mixture - mean) / (spread + 1e-5)
        estimate = self.core(F.pad(mixture, (missing // 2, missing - missing // 2)))
        if self.normalize:
            estimate = estimate * spread.unsqueeze(1) + mean.unsqueeze(1)
        return cut_middle(estimate, n_samples)


class _Core(nn.Module):
    """The network on (B, C, V) of a valid length V, whose result may be shorter."""

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        layers: list[dict],
        residual_in: ResidualIn | None,
        n_recurrent: int,
        padded: bool,
        resample: bool,
    ) -> None:
        super().__init__()
        self.n_sources, self.padded = n_sources, padded
        self.depth, self.kernel_size, self.step = len(layers), layers[0]["kernel_size"], layers[0]["step"]
        self.upsample, self.downsample = (
            Resampler(*rates) if resample else nn.Identity() for rates in ((1, 2), (2, 1))
        )
        inner, outer = (residual_in in (coder, "both") for coder in ("encoder", "decoder"))
        encoder, decoder, n_in, n_out = [], [], n_channels, n_sources * n_channels
        for layer in layers:
            width, branches = layer.pop("width"), layer.pop("branches")
            encoder.append(_EncoderLayer(n_in, width, branches=branches if inner else None, **layer))
            rules = {"branches": branches if outer else None, "padded": padded, "outermost": not decoder}
            decoder.append(_DecoderLayer(width, n_out, **rules, **layer))
            n_in = n_out = width
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(reversed(decoder))
        self.recurrence = Recurrence(n_in, n_recurrent) if n_recurrent else nn.Identity()
        rescale_convolutions(self)

    def valid_length(self, n_samples: int) -> int:
        """Return the least length >= `n_samples` of which every stride is filled, and the result not shorter."""
        factor = 1 if isinstance(self.upsample, nn.Identity) else 2
        length = factor * n_samples
        for _ in range(self.depth):
            length = max(1, math.ceil((length - self.kernel_size) / self.step) + 1)
            length += 0 if self.padded else _SPAN - 1
        for _ in range(self.depth):
            length = (length - 1) * self.step + self.kernel_size
        return -(-length // factor)

    def forward(self, mixture: Tensor) -> Tensor:
        """Estimate (B, S, C, V') of (B, C, V)."""
        features, skips = self.upsample(mixture), []
        for layer in self.encoder:
            features = layer(features)
            skips.append(features)
        features = self.recurrence(features)
        for layer in self.decoder:
            features = layer(features, skips.pop())
        return self.downsample(features).unflatten(1, (self.n_sources, -1))


def cut_middle(features: Tensor, length: int) -> Tensor:
    """Cut the middle `length` samples out of (..., T)."""
    start = (features.shape[-1] - length) // 2
    return features[..., start : start + length]
