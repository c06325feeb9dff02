"""HDemucs: two U-Nets, over the spectrogram and over the waveform, that become one in their middle."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from sepkit.masks import wiener
from sepkit.models._demucs_hybrid import (
    HybridCore,
    Plan,
    ResidualIn,
    check_pair,
    join_complex,
    split_complex,
)
from sepkit.models._demucs_layers import DecoderLayer, EncoderLayer, Residuals
from sepkit.models._magnitude import magnitude_of


class HDemucs(nn.Module):
    """Estimate spectra from the spectrogram and waveforms from the waveform, which are summed.

    Both sides have an encoder of strided convolutions, whose outputs their decoder is given again. Where one row of the
    spectrogram is left, the waveform has as many samples as there are frames and joins it; layers further in have an
    LSTM and attention. The spectrogram is that of
    `{class: STFT, n_fft: 4096, hop_length: 1024, normalized: true, framing: hops}`; its Nyquist bin is not used.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F; F - 1 divided by `stride` again and again must come down to `kernel_size` or less within `depth`
            layers, and the hop be (F - 1) / 2 samples.
        hidden_channels: features of the outermost layers, >= 1.
        growth: factor of the features from layer to layer, >= 1.
        depth: layers of the encoder and decoder of the spectrogram; those beyond a single row stride over two frames.
        kernel_size: bins or samples that a layer reads, twice `stride`.
        stride: bins or samples that become one in a layer.
        norm_from: layers from this number on, counted from 0 and the outermost, are normalised.
        norm_groups: groups of features of that normalisation.
        residual_in: "encoder", "decoder" or "both" have residual branches in their layers.
        residual_depth: branches of a layer, each with twice the reach of the one before.
        residual_compression: how many times fewer features a branch has inside.
        residual_scale: the factor at which branches start.
        recurrence_from: layers from this number on have an LSTM in their branches; None: none.
        attention_from: layers from this number on have attention in their branches; None: none.
        embedding_gain: factor of the learned embedding of the bins behind the first layer; 0: none.
        estimates: "spectrum": complex spectra from complex ones; "magnitude": magnitudes from magnitudes, with the
            mixture's phase.
        wiener_iterations: of the multichannel Wiener filter behind magnitudes, >= 0.
        band_edges: shares of the bins, rising, at which the outermost layers change to weights of their own; None: the
            same for all bins.
        n_banded: outermost layers that do.

    Raises:
        ValueError: an argument is out of range, or sizes do not fit each other.

    Source:
        A. Défossez, Hybrid spectrogram and waveform source separation, 2021, and demucs 4.1; magnitudes go with
        `{framing: late_hops, pad_mode: constant}` there.
    """

    outputs = ("spectrum", "waveform")
    blocks = (EncoderLayer, DecoderLayer)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        hidden_channels: int = 48,
        growth: int = 2,
        depth: int = 6,
        kernel_size: int = 8,
        stride: int = 4,
        norm_from: int = 4,
        norm_groups: int = 4,
        residual_in: ResidualIn = "encoder",
        residual_depth: int = 2,
        residual_compression: int = 4,
        residual_scale: float = 1e-4,
        recurrence_from: int | None = 4,
        attention_from: int | None = 4,
        embedding_gain: float = 2.0,
        estimates: Literal["spectrum", "magnitude"] = "spectrum",
        wiener_iterations: int = 0,
        band_edges: Sequence[float] | None = None,
        n_banded: int = 2,
    ) -> None:
        super().__init__()
        if estimates not in ("spectrum", "magnitude"):
            raise ValueError(f"estimates must be spectrum or magnitude, got {estimates!r}")
        if wiener_iterations < 0 or (wiener_iterations and estimates == "spectrum"):
            raise ValueError(f"wiener_iterations must be at least 0, and 0 for spectra, got {wiener_iterations}")
        edges = tuple(band_edges or ())
        if list(edges) != sorted(set(edges)) or not all(0 < edge < 1 for edge in edges):
            raise ValueError(f"band_edges must rise between 0 and 1, got {list(edges)}")
        plan = Plan(
            n_sources, n_channels * (2 if estimates == "spectrum" else 1), n_channels, n_bins - 1, hidden_channels,
            growth, depth, kernel_size, stride, norm_from, norm_groups, residual_in,
            Residuals(residual_depth, residual_compression, residual_scale), recurrence_from, attention_from,
            embedding_gain, edges, n_banded if edges else 0,
        )  # fmt: skip
        if not plan.joins or n_bins - 1 != plan.rows[-1] * stride ** (len(plan.rows) - 1) or plan.rows[-1] % 2:
            raise ValueError(
                f"n_bins must be one more than an even number up to kernel_size {kernel_size} times a power of stride "
                f"{stride} that depth {depth} exceeds, got {n_bins}"
            )
        if edges and (n_banded >= len(plan.rows) or n_banded > norm_from):
            raise ValueError(
                f"n_banded must be below {len(plan.rows)} and at most norm_from {norm_from}, got {n_banded}"
            )
        self.n_channels, self.n_bins = n_channels, n_bins
        self.estimates, self.wiener_iterations = estimates, wiener_iterations
        self.core = HybridCore(plan, None)

    def forward(self, mixture: Tensor, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        """Estimate both parts of each source.

        Args:
            mixture: (B, C, T).
            mixture_spectrogram: complex (B, C, F, N), N the hops of T, the last one begun.

        Returns:
            "spectrum", complex (B, S, C, F, N), and "waveform", (B, S, C, T).

        Raises:
            ValueError: the two do not belong together.
        """
        known = mixture_spectrogram, self.n_channels, self.n_bins, self
        maps = split_complex(*known) if self.estimates == "spectrum" else magnitude_of(*known)[:, :, :-1]
        check_pair(mixture, mixture_spectrogram, self)
        hop, n_frames = (self.n_bins - 1) // 2, maps.shape[-1]
        if -(-mixture.shape[-1] // hop) != n_frames:
            raise ValueError(
                f"mixture of {mixture.shape[-1]} samples must have a frame per {hop}, got {n_frames}: use "
                f"transform: {{class: STFT, n_fft: {4 * hop}, hop_length: {hop}, normalized: true, framing: hops}}"
            )
        maps, waveform = self.core(maps, mixture)
        if self.estimates == "spectrum":
            spectrum = join_complex(maps, mixture_spectrogram)
        else:
            spectrum = self._with_phase(maps, mixture_spectrogram[:, :, :-1])
        return {"spectrum": spectrum, "waveform": waveform}

    def _with_phase(self, magnitude: Tensor, mixture: Tensor) -> Tensor:
        """Turn magnitudes (B, S, C, F - 1, N), negative ones too, into spectra with the phase of (B, C, F - 1, N)."""
        phase = torch.where(mixture == 0, 1, torch.sgn(mixture))
        spectrum = magnitude.to(mixture.real.dtype) * phase.unsqueeze(1)
        if self.wiener_iterations:
            spectrum = wiener(spectrum, mixture, self.wiener_iterations)
        return torch.nn.functional.pad(spectrum, (0, 0, 0, 1))
