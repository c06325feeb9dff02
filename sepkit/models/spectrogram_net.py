"""auralflow's three networks: a U-Net over the magnitudes, the same with recurrence, and with a latent too."""

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from sepkit.models._magnitude import magnitude_of
from sepkit.models._unet import Activation, Convolutions, Grid, Latent, Layers, Recurrence, Stage, UNet


class _SpectrogramNet(nn.Module):
    """Estimate masks by `core`, a U-Net over the magnitudes."""

    core: UNet
    blocks = (Stage,)

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        """Estimate the masks (B, S, C, F, N), real, of a complex spectrogram (B, C, F, N)."""
        return self.core(magnitude_of(mixture_spectrogram, *self.core.size, self.core))[0]

    def fit(self, spectrograms: Iterable[Tensor]) -> None:
        """Start `normalize_input` from the statistics of complex spectrograms (B, C, F, N)."""
        self.core.input.fit(spectrogram.abs() for spectrogram in spectrograms)


class SpectrogramNetSimple(_SpectrogramNet):
    """Estimate masks by a U-Net over the magnitudes.

    Five stages of three 3 x 3 convolutions each halve bins and frames, five others lead back up, which take the maps
    of the stage of the same size on the way down too. Sizes are rounded up, so that any number of bins and frames
    passes. Activations are normalised per item, so that the items of a batch do not depend on each other.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F.
        sample_rate: Hz.
        hidden_channels: feature maps of the first stage, >= 1; each stage further down has twice as many.
        mask_act_fn: "sigmoid", [0, 1]; "softmax" over the sources and an implicit residual; "hardtanh", [0, 1] with
            straight edges; "relu", >= 0; "tanh", [-1, 1]; "elu", > -1; "selu", > -1.76; "prelu", unbounded.
        leak_factor: slope of the feature maps' LeakyReLU below 0, [0, 1); 0: SELU instead.
        dropout_p: share of the feature maps that the three lowest stages of the way up drop in training, [0, 1).
        normalize_input: bring each item to the same level, and shift and scale each row by learned values, which start
            from the songs' statistics; the masks then do not depend on the mixture's gain. Else the network takes
            levels as they are.
        normalize_output: scale and shift the masks of each source and bin by learned values before `mask_act_fn`.
        bandwidth: Hz above which no bin is used and the masks are zero, at least one bin's; None: no limit.
        n_bands: rows of the U-Net, >= 2: bands, linear up to 600 Hz and logarithmic above, between whose centres the
            masks are interpolated; None: a row per bin.

    Raises:
        ValueError: an argument is out of range.

    Source:
        auralflow, SpectrogramNetSimple, 2022, mended: normalisation per item in place of a batch's, convolution,
        normalisation, activation in this order, 4 x 4 kernels upwards, no clipping of the masks, any size.
        O. Ronneberger et al., U-Net, 2015; A. Jansson et al., Singing voice separation with deep U-Net, 2017.
    """

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        hidden_channels: int = 16,
        mask_act_fn: Activation = "sigmoid",
        leak_factor: float = 0.0,
        dropout_p: float = 0.4,
        normalize_input: bool = True,
        normalize_output: bool = True,
        bandwidth: float | None = None,
        n_bands: int | None = None,
    ) -> None:
        super().__init__()
        grid = Grid(n_sources, n_channels, n_bins, sample_rate / 2, bandwidth, n_bands)
        layers = Layers(hidden_channels, leak_factor, dropout_p)
        self.core = UNet(grid, layers, Convolutions(layers), normalize_input, normalize_output, mask_act_fn)


class SpectrogramNetLSTM(_SpectrogramNet):
    """Estimate masks by a U-Net whose lowest stage is a bidirectional recurrence over time.

    A step of the recurrence spans 32 frames; it sees all rows and feature maps of them at once, and the whole
    recording on both sides.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F.
        sample_rate: Hz.
        hidden_channels: as all up to `normalize_output`, and `bandwidth` and `n_bands`, of SpectrogramNetSimple.
        mask_act_fn: how masks are bounded.
        leak_factor: slope of the LeakyReLU, [0, 1); 0: SELU.
        dropout_p: share of the feature maps, and of the features between recurrent layers, dropped in training.
        normalize_input: whether each item is brought to the same level.
        normalize_output: whether masks are scaled and shifted per source and bin.
        recurrent_depth: recurrent layers, >= 1.
        hidden_size: features of each direction, >= 1.
        input_axis: 0, the axis of the frames, and nothing else.
        bandwidth: Hz above which no bin is used; None: no limit.
        n_bands: rows of the U-Net; None: a row per bin.

    Raises:
        ValueError: an argument is out of range.

    Source:
        auralflow, SpectrogramNetLSTM, 2022, mended as SpectrogramNetSimple; the recurrence runs over the frames of each
        item, where auralflow's ran over the items of the batch.
    """

    _lowest: ClassVar = Recurrence

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        hidden_channels: int = 16,
        mask_act_fn: Activation = "sigmoid",
        leak_factor: float = 0.0,
        dropout_p: float = 0.4,
        normalize_input: bool = True,
        normalize_output: bool = True,
        recurrent_depth: int = 3,
        hidden_size: int = 1024,
        input_axis: int = 0,
        bandwidth: float | None = None,
        n_bands: int | None = None,
    ) -> None:
        super().__init__()
        if min(recurrent_depth, hidden_size) < 1:
            raise ValueError(
                f"recurrent_depth and hidden_size must be at least 1, got {recurrent_depth} and {hidden_size}"
            )
        if input_axis != 0:
            raise ValueError(
                "input_axis must be 0, because the recurrence runs over the frames; over rows, with frames as "
                f"features, the network would be bound to one length; got {input_axis}"
            )
        grid = Grid(n_sources, n_channels, n_bins, sample_rate / 2, bandwidth, n_bands)
        layers = Layers(hidden_channels, leak_factor, dropout_p)
        lowest = self._lowest(layers, grid.n_lowest, recurrent_depth, hidden_size)
        self.core = UNet(grid, layers, lowest, normalize_input, normalize_output, mask_act_fn)


class SpectrogramNetVAE(SpectrogramNetLSTM):
    """Estimate masks by a U-Net whose lowest stage is a Gaussian latent, drawn from in training, and a recurrence.

    The auxiliary outputs are mean and standard deviation of the latent, for a `KLDivergenceLoss` in the recipe, for
    example `{class: KLDivergenceLoss, weight: {from: 0, to: 0.001, epochs: 10}}`. In evaluation the mean is taken.

    The arguments are those of SpectrogramNetLSTM; there are also `hidden_size` latent variables in a step of 32 frames.

    Source:
        auralflow, SpectrogramNetVAE, 2022, mended as SpectrogramNetLSTM; `hidden_size` latent variables, the logarithm
        of the variance clamped, nothing drawn in evaluation. D. Kingma, M. Welling, Auto-encoding variational Bayes,
        2014, section 2.4.
    """

    outputs: ClassVar = {"mask": "source", "mu": "item", "sigma": "item"}
    _lowest: ClassVar = Latent

    def forward(self, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        """Estimate the masks of a complex spectrogram (B, C, F, N).

        Returns:
            "mask", (B, S, C, F, N), real; "mu" and "sigma" of the latent, (B, ceil(N / 32), `hidden_size`).
        """
        magnitude = magnitude_of(mixture_spectrogram, *self.core.size, self.core)
        return dict(zip(self.outputs, self.core(magnitude), strict=True))
