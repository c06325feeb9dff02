"""What the hybrid networks of the Demucs family share: a coder of the spectrogram, one of the waveform, joined."""

from dataclasses import dataclass
from itertools import count, takewhile
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._demucs_bands import BandedDecoder, BandedEncoder
from sepkit.models._demucs_layers import (
    DecoderLayer,
    Ejection,
    EncoderLayer,
    Injection,
    Residuals,
    Stride,
    rescale_convolutions,
)
from sepkit.models._magnitude import parts_of
from sepkit.models._waveform import check_mixture

ResidualIn = Literal["encoder", "decoder", "both"]
_FRAME_STEP = 2  # of layers over frames, once one row is left; their kernel is twice as long


@dataclass(frozen=True)
class Plan:
    """The sizes of a hybrid network.

    Attributes:
        n_sources: S.
        n_maps: feature maps of the spectrogram, channels times real and imaginary part, or channels.
        n_channels: C of the waveform.
        n_rows: R, frequencies of the spectrogram.
        hidden_channels: H of the outermost layer.
        growth: factor of H from layer to layer.
        depth: layers of each coder.
        kernel_size: rows or samples that a stride reads.
        step: rows or samples that it moves.
        norm_from: layer from which on there is normalisation.
        norm_groups: groups of it.
        residual_in: which coders have residual branches.
        residuals: what they are.
        recurrence_from: layer from which on they have an LSTM.
        attention_from: layer from which on they have attention.
        embedding_gain: factor of the embedding of the rows; 0: none.
        band_edges: ends of the bands of the outermost layers, shares of the rows.
        n_banded: outermost layers that have bands.
    """

    n_sources: int
    n_maps: int
    n_channels: int
    n_rows: int
    hidden_channels: int
    growth: int
    depth: int
    kernel_size: int
    step: int
    norm_from: int
    norm_groups: int
    residual_in: ResidualIn
    residuals: Residuals
    recurrence_from: int | None = None
    attention_from: int | None = None
    embedding_gain: float = 2.0
    band_edges: tuple[float, ...] = ()
    n_banded: int = 0

    def __post_init__(self) -> None:
        counts = {name: getattr(self, name) for name in ("hidden_channels", "growth", "depth", "step", "norm_groups")}
        for name, number in counts.items():
            if number < 1:
                raise ValueError(f"{name.replace('step', 'stride')} must be at least 1, got {number}")
        if self.kernel_size != 2 * self.step:
            raise ValueError(f"kernel_size must be twice stride {self.step}, got {self.kernel_size}")
        if self.residual_in not in ("encoder", "decoder", "both"):
            raise ValueError(f"residual_in must be encoder, decoder or both, got {self.residual_in!r}")
        if self.n_rows % self.step:
            raise ValueError(f"n_bins must be one more than a multiple of stride {self.step}, got {self.n_rows + 1}")

    @property
    def rows(self) -> list[int]:
        """Return the number of rows before each layer up to the one that leaves a single row, R first."""
        rows = (self.n_rows // self.step**index for index in count())
        spread = list(takewhile(lambda n_rows: n_rows > self.kernel_size, rows))
        return [*spread, self.n_rows // self.step ** len(spread)][: self.depth]

    @property
    def joins(self) -> bool:
        """Return whether a layer leaves a single row, so that the two coders are one from there on."""
        return self.rows[-1] <= self.kernel_size

    def width(self, index: int) -> int:
        """Return H behind a layer of the encoder."""
        return self.hidden_channels * self.growth**index

    def norm(self, index: int) -> int | None:
        """Return the groups of normalisation in a layer, None where there is none."""
        return self.norm_groups if index >= self.norm_from else None

    def branches(self, index: int, coder: Literal["encoder", "decoder"]) -> Residuals | None:
        """Return the residual branches of a layer, None where there are none."""
        if self.residual_in not in (coder, "both"):
            return None
        flags = (start is not None and index >= start for start in (self.recurrence_from, self.attention_from))
        return Residuals(self.residuals.depth, self.residuals.compression, self.residuals.scale, *flags)

    def strides(self, index: int) -> tuple[Stride, Stride | None]:
        """Return how a layer moves over the rows, and how its twin moves over the waveform, None where it has none."""
        if index >= len(self.rows):
            return Stride(2 * _FRAME_STEP, _FRAME_STEP, spectral=False), None
        n_rows = self.rows[index]
        if n_rows > self.kernel_size:
            return (
                Stride(self.kernel_size, self.step, spectral=True),
                Stride(self.kernel_size, self.step, spectral=False),
            )
        return Stride(n_rows, self.step, spectral=True, edged=False), Stride(n_rows, n_rows // 2, spectral=False)


class HybridCore(nn.Module):
    """The real-valued part: feature maps (B, M, R, N) and waveform (B, C, T) in, both per source out.

    Args:
        plan: the sizes.
        middle: what stands between encoders and decoders, on (B, H, R', N) and (B, H, T'); None: the decoders begin
            with silence, and all that is known passes beside.
    """

    def __init__(self, plan: Plan, middle: nn.Module | None) -> None:
        super().__init__()
        self.plan = plan
        layers = range(plan.depth)
        self.encoder = nn.ModuleList(self._encoder_layer(index) for index in layers)
        self.wave_encoder = nn.ModuleList(filter(None, (self._wave_encoder_layer(index) for index in layers)))
        self.decoder = nn.ModuleList(self._decoder_layer(index) for index in reversed(layers))
        self.wave_decoder = nn.ModuleList(filter(None, map(self._wave_decoder_layer, reversed(layers))))
        if plan.embedding_gain:
            self.embedding = nn.Parameter(_smooth_rows(plan.n_rows // plan.step, plan.hidden_channels))
        rescale_convolutions(self)
        self.middle = middle

    def forward(self, maps: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate (B, S, M, R, N) and (B, S, C, T)."""
        features, *level = standardise(maps, (1, 2, 3))
        wave, *wave_level = standardise(waveform, (1, 2))
        skips, lengths, wave_skips, wave_lengths = [], [], [], []
        for index, layer in enumerate(self.encoder):
            injected = None
            if index < len(self.wave_encoder):
                wave_lengths.append(wave.shape[-1])
                wave = self.wave_encoder[index](wave)
                if isinstance(self.wave_encoder[index], Injection):
                    injected = wave
                else:
                    wave_skips.append(wave)
            lengths.append(features.shape[-1])
            features = layer(features, injected)
            if index == 0 and self.plan.embedding_gain:
                features = features + self.plan.embedding_gain * self.embedding.mT[..., None]
            skips.append(features)
        if self.middle is None:
            features = torch.zeros_like(features)
        else:
            features, wave = self.middle(features, wave)
        for index, layer in enumerate(self.decoder, len(self.wave_decoder) - len(self.decoder)):
            features, inner = layer(features, skips.pop(), lengths.pop())
            if index < 0:
                continue
            wave_layer, length = self.wave_decoder[index], wave_lengths.pop()
            if isinstance(wave_layer, Ejection):
                wave = wave_layer(inner.squeeze(2), length)
            else:
                wave, _ = wave_layer(wave, wave_skips.pop(), length)
        found, found_wave = (part.unflatten(1, (self.plan.n_sources, -1)) for part in (features, wave))
        return restore(found, *level), restore(found_wave, *wave_level)

    def _encoder_layer(self, index: int) -> nn.Module:
        plan, (stride, _) = self.plan, self.plan.strides(index)
        n_in = plan.width(index - 1) if index else plan.n_maps
        n_layers = len(plan.band_edges) + 1 if index < plan.n_banded else 1
        layers = [
            EncoderLayer(n_in, plan.width(index), stride, plan.norm(index), plan.branches(index, "encoder"))
            for _ in range(n_layers)
        ]
        return BandedEncoder(layers, plan.band_edges) if n_layers > 1 else layers[0]

    def _wave_encoder_layer(self, index: int) -> nn.Module | None:
        plan, (stride, wave_stride) = self.plan, self.plan.strides(index)
        n_in = plan.width(index - 1) if index else plan.n_channels
        if wave_stride is None:
            return None
        if not stride.edged:
            return Injection(n_in, plan.width(index), wave_stride)
        return EncoderLayer(n_in, plan.width(index), wave_stride, plan.norm(index), plan.branches(index, "encoder"))

    def _decoder_layer(self, index: int) -> nn.Module:
        plan, (stride, _) = self.plan, self.plan.strides(index)
        n_out = plan.width(index - 1) if index else plan.n_sources * plan.n_maps
        n_layers = len(plan.band_edges) + 1 if index < plan.n_banded else 1
        rules = (plan.norm(index), plan.branches(index, "decoder"), not index, n_layers > 1)
        layers = [DecoderLayer(plan.width(index), n_out, stride, *rules) for _ in range(n_layers)]
        return BandedDecoder(layers, plan.band_edges, not index) if n_layers > 1 else layers[0]

    def _wave_decoder_layer(self, index: int) -> nn.Module | None:
        plan, (stride, wave_stride) = self.plan, self.plan.strides(index)
        n_out = plan.width(index - 1) if index else plan.n_sources * plan.n_channels
        if wave_stride is None:
            return None
        if not stride.edged:
            return Ejection(plan.width(index), n_out, wave_stride, plan.norm(index), not index)
        rules = (plan.norm(index), plan.branches(index, "decoder"), not index)
        return DecoderLayer(plan.width(index), n_out, wave_stride, *rules)


def standardise(signal: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Subtract the mean of each item and divide by its spread; return the result, mean and spread.

    The spread has 1e-5 added in the division alone: silence stays exactly silent.
    """
    mean = signal.mean(dims, keepdim=True)
    n_values = signal[0].numel() if len(signal) else 0
    spread = signal.std(dims, correction=int(n_values > 1), keepdim=True)
    return (signal - mean) / (spread + 1e-5), mean, spread


def restore(signal: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    """Scale what was estimated per source, (B, S, ...), back to the level of its item."""
    return signal * spread.unsqueeze(1) + mean.unsqueeze(1)


def split_complex(spectrogram: Tensor, n_channels: int, n_bins: int, network: nn.Module) -> Tensor:
    """Split complex (B, C, F, N) into real (B, 2 C, F - 1, N), real beside imaginary part, without the Nyquist bin.

    Raises:
        TypeError: it is no tensor.
        ValueError: its shape, type or device is not the network's.
    """
    parts = parts_of(spectrogram, n_channels, n_bins, network)
    return parts[:, :, :-1].permute(0, 1, 4, 2, 3).flatten(1, 2)


def join_complex(maps: Tensor, like: Tensor) -> Tensor:
    """Make complex (B, S, C, F, N) of real (B, S, 2 C, F - 1, N), with silence at the Nyquist frequency."""
    parts = maps.to(like.real.dtype).unflatten(2, (-1, 2)).permute(0, 1, 2, 5, 4, 3)  # (B, S, C, N, F - 1, 2)
    return torch.view_as_complex(F.pad(parts, (0, 0, 0, 1)).contiguous()).mT


def fit_length(mixture: Tensor, length: int | None) -> Tensor:
    """Fill (B, C, T) with zeros at the end to a length in samples; None: leave it."""
    missing = max(0, (length or 0) - mixture.shape[-1])
    return F.pad(mixture, (0, missing)) if missing else mixture


def check_pair(mixture: Tensor, spectrogram: Tensor, network: nn.Module) -> None:
    """Refuse a mixture that is not a network's, or not of the items and channels of a spectrogram.

    Raises:
        TypeError: it is no tensor.
        ValueError: its shape, type or device is off.
    """
    check_mixture(mixture, network)
    if mixture.shape[:2] != spectrogram.shape[:2]:
        wanted, found = tuple(spectrogram.shape[:2]), tuple(mixture.shape[:2])
        raise ValueError(f"mixture must be of the items and channels of its spectrogram, {wanted}, got {found}")


def _smooth_rows(n_rows: int, n_features: int) -> Tensor:
    """Draw an embedding of rows in which neighbours are alike: a random walk, each row brought to the same spread."""
    rows = torch.empty(n_rows, n_features)
    if rows.is_meta:  # torch would load a second of modules to draw nothing
        return rows
    walk = torch.randn(n_rows, n_features).cumsum(0)
    return walk / torch.arange(1, n_rows + 1)[:, None].sqrt() / 10
