"""HTDemucs: two U-Nets, over the spectrogram and over the waveform, and a transformer across both in their middle."""

from torch import Tensor, nn

from sepkit.models._cross_transformer import CrossTransformer, TransformerLayer
from sepkit.models._demucs_hybrid import (
    HybridCore,
    Plan,
    ResidualIn,
    check_pair,
    fit_length,
    join_complex,
    split_complex,
)
from sepkit.models._demucs_layers import DecoderLayer, EncoderLayer, Residuals, rescale_convolutions


class HTDemucs(nn.Module):
    """Estimate spectra from the spectrogram and waveforms from the waveform, which are summed.

    Each side has an encoder of strided convolutions, whose outputs its decoder is given again, and a transformer in
    the middle lets either side hear the other. The spectrogram is that of
    `{class: STFT, n_fft: 4096, hop_length: 1024, normalized: true, framing: hops}`; its Nyquist bin is not used.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F, so that F - 1 can be divided by `stride` `depth` times and is more than `kernel_size` each time.
        hidden_channels: features of the outermost layers, >= 1.
        growth: factor of the features from layer to layer, >= 1.
        depth: layers of each encoder and decoder, >= 1.
        kernel_size: bins or samples that a layer reads, twice `stride`.
        stride: bins or samples that become one in a layer.
        norm_from: layers from this number on, counted from 0 and the outermost, are normalised.
        norm_groups: groups of features of that normalisation.
        residual_in: "encoder", "decoder" or "both" have residual branches in their layers.
        residual_depth: branches of a layer, each with twice the reach of the one before.
        residual_compression: how many times fewer features a branch has inside.
        residual_scale: the factor at which branches start.
        embedding_gain: factor of the learned embedding of the bins behind the first layer; 0: none.
        bottleneck_channels: features of the transformer, a multiple of 4 and of `n_heads`; None: those of the
            innermost layer.
        n_layers: transformer layers of each side, >= 1, within a side and across in turn.
        n_heads: heads of the attention.
        feed_forward: features inside the feed-forward networks, in multiples of the transformer's.
        cross_first: begin with a layer across.
        position_gain: factor of the encoding of time and frequency.
        longest_period: of that encoding, in steps.
        training_length: samples to which shorter mixtures are filled with zeros, in training too, where the original
            takes them as they are; None: any length as it is.

    Raises:
        ValueError: an argument is out of range, or sizes do not fit each other.

    Source:
        S. Rouard, F. Massa, A. Défossez, Hybrid transformers for music source separation, 2023, and demucs 4.1; without
        dropout and sparse attention, and mixtures longer than `training_length` are taken. The starting values of the
        transformer are torch's, its layers start at 1e-4.
    """

    outputs = ("spectrum", "waveform")
    blocks = (EncoderLayer, DecoderLayer, TransformerLayer)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        hidden_channels: int = 48,
        growth: int = 2,
        depth: int = 4,
        kernel_size: int = 8,
        stride: int = 4,
        norm_from: int = 4,
        norm_groups: int = 4,
        residual_in: ResidualIn = "both",
        residual_depth: int = 2,
        residual_compression: int = 8,
        residual_scale: float = 1e-3,
        embedding_gain: float = 2.0,
        bottleneck_channels: int | None = 512,
        n_layers: int = 5,
        n_heads: int = 8,
        feed_forward: float = 4.0,
        cross_first: bool = False,
        position_gain: float = 1.0,
        longest_period: float = 10000.0,
        training_length: int | None = None,
    ) -> None:
        super().__init__()
        residuals = Residuals(residual_depth, residual_compression, residual_scale)
        plan = Plan(
            n_sources, 2 * n_channels, n_channels, n_bins - 1, hidden_channels, growth, depth, kernel_size, stride,
            norm_from, norm_groups, residual_in, residuals, embedding_gain=embedding_gain,
        )  # fmt: skip
        if plan.joins or (n_bins - 1) % stride**depth:
            wanted = f"one more than a multiple of {stride}^{depth} and more than {kernel_size * stride ** (depth - 1)}"
            raise ValueError(f"n_bins must be {wanted} for {depth} layers of stride {stride}, got {n_bins}")
        self.n_channels, self.n_bins, self.training_length = n_channels, n_bins, training_length
        self.least_length = training_length or 0
        innermost = plan.width(depth - 1)
        n_features = bottleneck_channels or innermost
        if n_layers < 1 or n_heads < 1 or n_features % 4 or n_features % n_heads:
            raise ValueError(
                "n_layers and n_heads must be at least 1, and the transformer's features a multiple of 4 and of "
                f"n_heads, got {n_layers}, {n_heads} and {n_features}"
            )
        transformer = CrossTransformer(
            n_features, n_layers, n_heads, int(n_features * feed_forward), cross_first, position_gain, longest_period
        )
        self.core = HybridCore(plan, _Bottleneck(innermost, transformer, bottleneck_channels))

    def forward(self, mixture: Tensor, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        """Estimate both parts of each source.

        Args:
            mixture: (B, C, T).
            mixture_spectrogram: complex (B, C, F, N), of the mixture filled to `training_length`.

        Returns:
            "spectrum", complex (B, S, C, F, N), and "waveform", (B, S, C, T).
        """
        maps = split_complex(mixture_spectrogram, self.n_channels, self.n_bins, self)
        check_pair(mixture, mixture_spectrogram, self)
        waveform = fit_length(mixture, self.training_length)
        maps, waveform = self.core(maps, waveform)
        return {
            "spectrum": join_complex(maps, mixture_spectrogram),
            "waveform": waveform[..., : mixture.shape[-1]],
        }


class _Bottleneck(nn.Module):
    """The transformer, between changes of the number of features."""

    def __init__(self, n_outside: int, transformer: CrossTransformer, n_inside: int | None) -> None:
        super().__init__()
        sizes = [(n_outside, n_inside or n_outside), (n_inside or n_outside, n_outside)] * 2
        self.enter, self.leave, self.wave_enter, self.wave_leave = (
            nn.Conv1d(n_in, n_out, 1) if n_inside else nn.Identity() for n_in, n_out in sizes
        )
        rescale_convolutions(self)
        self.transformer = transformer

    def forward(self, rows: Tensor, wave: Tensor) -> tuple[Tensor, Tensor]:
        grid = rows.shape[2:]
        rows = self.enter(rows.flatten(2)).unflatten(2, grid)
        rows, wave = self.transformer(rows, self.wave_enter(wave))
        return self.leave(rows.flatten(2)).unflatten(2, grid), self.wave_leave(wave)
