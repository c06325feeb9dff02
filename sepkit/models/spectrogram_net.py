"""auralflow's three networks: a U-Net over the magnitudes, the same with recurrence, and with a latent besides."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.constant import Constant
from sepkit.models._activations import softmax_with_rest
from sepkit.models._bands import band_interpolation, triangular_bands
from sepkit.models._magnitude import magnitude_of
from sepkit.models._statistics import row_statistics

_N_STAGES = 5  # each halves bins and frames
_N_CONVOLUTIONS = 3  # a stage
_N_GROUPED = 8  # maps that are normalised together, or so many more that all groups are alike
_N_DROPPED = 3  # stages of the way up with dropout, from the lowest
_FLOOR = 1e-4  # magnitudes are compressed as log(floor + magnitude)
_SHIFT, _SCALE = 4.0, 0.4  # that bring compressed magnitudes near mean 0 and variance 1
_LEAST_LEVEL = 1e-3  # root mean square of magnitudes below which an item is not raised further
_LOG_VARIANCE = 10.0  # logarithms of variances lie in [-10, 10]


class _Shares(nn.Module):
    """A softmax over the sources and an implicit rest."""

    def forward(self, logits: Tensor) -> Tensor:
        return softmax_with_rest(logits)


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "softmax": _Shares,
    "hardtanh": lambda: nn.Hardtanh(0.0, 1.0),
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "prelu": nn.PReLU,
}
_Activation = Literal[tuple(_ACTIVATIONS)]


class SpectrogramNetSimple(nn.Module):
    """Estimate masks by a U-Net over the magnitudes.

    Five stages of three 3 x 3 convolutions each halve bins and frames, five others lead back up and see what the
    stage of the same size gave on the way down. Sizes are rounded up, so that any number of bins and frames
    passes. Activations are normalised per item, so that no item of a batch hears of the others.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F.
        sample_rate: Hz.
        hidden_channels: feature maps of the first stage, >= 1; each stage further down has twice as many.
        mask_act_fn: "sigmoid", [0, 1]; "softmax" over the sources and an implicit rest; "hardtanh", [0, 1] with
            straight edges; "relu", >= 0; "tanh", [-1, 1]; "elu", > -1; "selu", > -1.76; "prelu", unbounded.
        leak_factor: slope of the feature maps' LeakyReLU below 0, [0, 1); 0: SELU instead.
        dropout_p: share of the feature maps that the three lowest stages of the way up drop in training, [0, 1).
        normalize_input: bring each item to the same level, and shift and scale each row by learned values, which start
            from the songs' statistics; the masks then do not depend on the mixture's gain. Else the network hears
            levels as they are.
        normalize_output: scale and shift the masks of each source and bin by learned values before `mask_act_fn`.
        bandwidth: Hz above which nothing is heard and the masks are zero, at least one bin's; None: no limit.
        n_bands: rows of the U-Net, >= 2: bands, linear up to 600 Hz and logarithmic above, between whose centres the
            masks are interpolated; None: a row per bin.

    Raises:
        ValueError: an argument is out of range.

    Source:
        auralflow, SpectrogramNetSimple, 2022, mended: normalisation per item in place of a batch's, convolution,
        normalisation, activation in this order, 4 x 4 kernels upwards, no clipping of the masks, any size.
        O. Ronneberger et al., U-Net, 2015; A. Jansson et al., Singing voice separation with deep U-Net, 2017.
    """

    outputs = ("mask",)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        hidden_channels: int = 16,
        mask_act_fn: _Activation = "sigmoid",
        leak_factor: float = 0.0,
        dropout_p: float = 0.4,
        normalize_input: bool = True,
        normalize_output: bool = True,
        bandwidth: float | None = None,
        n_bands: int | None = None,
    ) -> None:
        super().__init__()
        grid = _Grid(n_sources, n_channels, n_bins, sample_rate / 2, bandwidth, n_bands)
        inner = _Inner(hidden_channels, leak_factor, dropout_p)
        lowest = _Convolutions(inner)
        self.core = _UNet(grid, inner, lowest, normalize_input, normalize_output, mask_act_fn)

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        """Estimate the masks (B, S, C, F, N), real, of a complex spectrogram (B, C, F, N)."""
        return self.core(self.core.magnitude_of(mixture_spectrogram))[0]

    def fit(self, spectrograms: Iterable[Tensor]) -> None:
        """Start `normalize_input` from the statistics of complex spectrograms (B, C, F, N)."""
        self.core.input.fit(spectrogram.abs() for spectrogram in spectrograms)


class SpectrogramNetLSTM(nn.Module):
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
        bandwidth: Hz above which nothing is heard; None: no limit.
        n_bands: rows of the U-Net; None: a row per bin.

    Raises:
        ValueError: an argument is out of range.

    Source:
        auralflow, SpectrogramNetLSTM, 2022, mended as SpectrogramNetSimple; the recurrence runs over the frames of each
        item, where auralflow's ran over the items of the batch.
    """

    outputs = ("mask",)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        hidden_channels: int = 16,
        mask_act_fn: _Activation = "sigmoid",
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
        _check_recurrence(recurrent_depth, hidden_size, input_axis)
        grid = _Grid(n_sources, n_channels, n_bins, sample_rate / 2, bandwidth, n_bands)
        inner = _Inner(hidden_channels, leak_factor, dropout_p)
        lowest = _Recurrence(inner, grid.n_lowest, recurrent_depth, hidden_size)
        self.core = _UNet(grid, inner, lowest, normalize_input, normalize_output, mask_act_fn)

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        """Estimate the masks (B, S, C, F, N), real, of a complex spectrogram (B, C, F, N)."""
        return self.core(self.core.magnitude_of(mixture_spectrogram))[0]

    def fit(self, spectrograms: Iterable[Tensor]) -> None:
        """Start `normalize_input` from the statistics of complex spectrograms (B, C, F, N)."""
        self.core.input.fit(spectrogram.abs() for spectrogram in spectrograms)


class SpectrogramNetVAE(nn.Module):
    """Estimate masks by a U-Net whose lowest stage is a Gaussian latent, drawn from in training, and a recurrence.

    Besides the mask it says mean and standard deviation of the latent, for a `KLDivergenceLoss` in the recipe, for
    example `{class: KLDivergenceLoss, weight: {from: 0, to: 0.001, epochs: 10}}`. In evaluation the mean is taken.

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
        hidden_size: latent variables of a step of 32 frames, and features of each direction, >= 1.
        input_axis: 0, the axis of the frames, and nothing else.
        bandwidth: Hz above which nothing is heard; None: no limit.
        n_bands: rows of the U-Net; None: a row per bin.

    Raises:
        ValueError: an argument is out of range.

    Source:
        auralflow, SpectrogramNetVAE, 2022, mended as SpectrogramNetLSTM; `hidden_size` latent variables, the logarithm
        of the variance clamped, nothing drawn in evaluation. D. Kingma, M. Welling, Auto-encoding variational Bayes,
        2014, section 2.4.
    """

    outputs: ClassVar = {"mask": "source", "mu": "item", "sigma": "item"}

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        sample_rate: int,
        hidden_channels: int = 16,
        mask_act_fn: _Activation = "sigmoid",
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
        _check_recurrence(recurrent_depth, hidden_size, input_axis)
        grid = _Grid(n_sources, n_channels, n_bins, sample_rate / 2, bandwidth, n_bands)
        inner = _Inner(hidden_channels, leak_factor, dropout_p)
        lowest = _Latent(inner, grid.n_lowest, recurrent_depth, hidden_size)
        self.core = _UNet(grid, inner, lowest, normalize_input, normalize_output, mask_act_fn)

    def forward(self, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        """Estimate the masks of a complex spectrogram (B, C, F, N).

        Returns:
            "mask", (B, S, C, F, N), real; "mu" and "sigma" of the latent, (B, ceil(N / 32), `hidden_size`).
        """
        return dict(zip(self.outputs, self.core(self.core.magnitude_of(mixture_spectrogram)), strict=True))

    def fit(self, spectrograms: Iterable[Tensor]) -> None:
        """Start `normalize_input` from the statistics of complex spectrograms (B, C, F, N)."""
        self.core.input.fit(spectrogram.abs() for spectrogram in spectrograms)


@dataclass(frozen=True)
class _Grid:
    """What comes in and goes out, and what are the rows of the U-Net."""

    n_sources: int
    n_channels: int
    n_bins: int
    nyquist: float
    bandwidth: float | None
    n_bands: int | None

    def __post_init__(self) -> None:
        lowest = self.nyquist / (self.n_bins - 1)
        if self.bandwidth is not None and not lowest <= self.bandwidth <= self.nyquist:
            raise ValueError(f"bandwidth must lie in [{lowest:g}, {self.nyquist:g}] Hz, got {self.bandwidth}")
        if self.n_bands is not None and self.n_bands < 2:
            raise ValueError(f"n_bands must be at least 2, got {self.n_bands}")

    @property
    def frequencies(self) -> Tensor:
        """Hz of the bins that are heard."""
        frequencies = torch.linspace(0, self.nyquist, self.n_bins, dtype=torch.float64)
        return frequencies if self.bandwidth is None else frequencies[frequencies <= self.bandwidth]

    @property
    def n_used_bins(self) -> int:
        """Bins that are heard."""
        return len(self.frequencies)

    @property
    def n_rows(self) -> int:
        """Rows of the U-Net."""
        return self.n_bands or self.n_used_bins

    @property
    def n_lowest(self) -> int:
        """Rows below the last stage."""
        return math.ceil(self.n_rows / 2**_N_STAGES)


@dataclass(frozen=True)
class _Inner:
    """What all stages are made of."""

    hidden_channels: int
    leak_factor: float
    dropout_p: float

    def __post_init__(self) -> None:
        if self.hidden_channels < 1:
            raise ValueError(f"hidden_channels must be at least 1, got {self.hidden_channels}")
        if not 0 <= self.leak_factor < 1:
            raise ValueError(f"leak_factor must lie in [0, 1), got {self.leak_factor}")
        if not 0 <= self.dropout_p < 1:
            raise ValueError(f"dropout_p must lie in [0, 1), got {self.dropout_p}")

    def maps(self, stage: int) -> int:
        """Count the feature maps of a stage, from 0 at the top."""
        return self.hidden_channels * 2**stage

    def activation(self) -> nn.Module:
        """Follow a normalisation, in place."""
        return nn.LeakyReLU(self.leak_factor, inplace=True) if self.leak_factor else nn.SELU(inplace=True)

    def convolutions(self, n_maps_in: int, n_maps: int) -> nn.Sequential:
        """Convolve thrice, each time normalised and bent."""
        layers: list[nn.Module] = []
        for i in range(_N_CONVOLUTIONS):
            convolution = nn.Conv2d(n_maps if i else n_maps_in, n_maps, 3, padding=1, bias=False)
            layers += [convolution, _normalisation(n_maps), self.activation()]
        return nn.Sequential(*layers)


class _UNet(nn.Module):
    """The real-valued part: magnitudes (B, C, F, N) in; masks (B, S, C, F, N), and what the lowest stage says, out."""

    def __init__(
        self,
        grid: _Grid,
        inner: _Inner,
        lowest: nn.Module,
        normalize_input: bool,
        normalize_output: bool,
        mask_act_fn: str,
    ) -> None:
        super().__init__()
        self.size = (grid.n_channels, grid.n_bins)
        self.input = _Input(grid, normalize_input)
        self.lowest = lowest
        self.output = _Output(grid, inner.maps(0), mask_act_fn, normalize_output)
        maps = [grid.n_channels, *(inner.maps(stage) for stage in range(_N_STAGES))]
        self.down = nn.ModuleList(inner.convolutions(*pair) for pair in pairwise(maps))
        self.up = nn.ModuleList(_Up(inner, stage) for stage in reversed(range(_N_STAGES)))

    def magnitude_of(self, spectrogram: Tensor) -> Tensor:
        return magnitude_of(spectrogram, *self.size, self)

    def forward(self, magnitude: Tensor) -> tuple[Tensor, ...]:
        maps, skips = self.input(magnitude), []
        for stage in self.down:
            maps = stage(maps)
            skips.append(maps)
            maps = F.max_pool2d(maps, 2, ceil_mode=True)
        maps, *besides = self.lowest(maps)
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            maps = stage(maps, skip)
        return self.output(maps), *besides


class _Up(nn.Module):
    """A stage of the way up: twice the size, less what rounding added, beside the way down's maps."""

    def __init__(self, inner: _Inner, stage: int) -> None:
        super().__init__()
        n_maps = inner.maps(stage)
        self.enlarge = nn.ConvTranspose2d(2 * n_maps, n_maps, 4, stride=2, padding=1, bias=False)
        self.normalise = _normalisation(n_maps)
        self.convolve = inner.convolutions(2 * n_maps, n_maps)
        self.drop = nn.Dropout2d(inner.dropout_p if stage >= _N_STAGES - _N_DROPPED else 0.0)

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        larger = self.normalise(self.enlarge(maps)[..., : skip.shape[-2], : skip.shape[-1]])
        return self.drop(self.convolve(torch.cat([larger, skip], 1)))


class _Convolutions(nn.Module):
    """The lowest stage of the simple network."""

    def __init__(self, inner: _Inner) -> None:
        super().__init__()
        self.convolve = inner.convolutions(inner.maps(_N_STAGES - 1), inner.maps(_N_STAGES))

    def forward(self, maps: Tensor) -> tuple[Tensor]:
        return (self.convolve(maps),)


class _Recurrence(nn.Module):
    """The lowest stage that runs over the frames, from features of its own where they are not the maps."""

    def __init__(self, inner: _Inner, n_rows: int, depth: int, hidden_size: int, n_features: int | None = None) -> None:
        super().__init__()
        n_features = n_features or n_rows * inner.maps(_N_STAGES - 1)
        self.shape = (inner.maps(_N_STAGES), n_rows)
        self.recur = nn.LSTM(
            n_features,
            hidden_size,
            depth,
            batch_first=True,
            dropout=inner.dropout_p if depth > 1 else 0.0,
            bidirectional=True,
        )
        self.decode = nn.Sequential(
            nn.Linear(2 * hidden_size, hidden_size), nn.SELU(), nn.Linear(hidden_size, math.prod(self.shape))
        )
        self.normalise = nn.Sequential(_normalisation(self.shape[0]), inner.activation())

    def forward(self, maps: Tensor) -> tuple[Tensor]:
        return (self.run(_over_time(maps)),)

    def run(self, features: Tensor) -> Tensor:
        """Turn features (B, N, H) into maps (B, M, R, N)."""
        recurrent, _ = self.recur(features)
        return self.normalise(self.decode(recurrent).mT.unflatten(1, self.shape))


class _Latent(nn.Module):
    """The lowest stage that recurs over a Gaussian latent: its draw in training, its mean in evaluation."""

    def __init__(self, inner: _Inner, n_rows: int, depth: int, hidden_size: int) -> None:
        super().__init__()
        n_features = n_rows * inner.maps(_N_STAGES - 1)
        self.mean = nn.Linear(n_features, hidden_size)
        self.log_variance = nn.Linear(n_features, hidden_size)
        self.recurrence = _Recurrence(inner, n_rows, depth, hidden_size, hidden_size)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = _over_time(maps)
        mu = self.mean(features)
        sigma = torch.exp(self.log_variance(features).clamp(-_LOG_VARIANCE, _LOG_VARIANCE) / 2)
        latent = mu + sigma * torch.randn_like(mu) if self.training else mu
        return self.recurrence.run(latent), mu, sigma


class _Input(nn.Module):
    """Magnitudes (B, C, F, N) to compressed rows (B, C, R, N)."""

    def __init__(self, grid: _Grid, normalize: bool) -> None:
        super().__init__()
        self.n_used_bins, self.normalize = grid.n_used_bins, normalize
        self.bands = Constant(triangular_bands(grid.frequencies, grid.n_bands)) if grid.n_bands else None
        if normalize:
            self.shift = nn.Parameter(torch.full((grid.n_rows, 1), _SHIFT))
            self.scale = nn.Parameter(torch.full((grid.n_rows, 1), _SCALE))

    def forward(self, magnitude: Tensor) -> Tensor:
        shift, scale = (self.shift, self.scale) if self.normalize else (_SHIFT, _SCALE)
        return (self.compress(magnitude) + shift) * scale

    def compress(self, magnitude: Tensor) -> Tensor:
        """Take the logarithm of each row, of each item at the same level where it is normalised."""
        heard = magnitude[:, :, : self.n_used_bins]
        if self.normalize:
            power = heard.square().mean((1, 2, 3), keepdim=True)
            heard = heard / power.clamp(min=_LEAST_LEVEL**2).sqrt()
        return torch.log((heard if self.bands is None else self.bands(heard) @ heard) + _FLOOR)

    @torch.no_grad()
    def fit(self, magnitudes: Iterable[Tensor]) -> None:
        """Set shift and scale so that the rows of these magnitudes have mean 0 and variance 1."""
        statistics = row_statistics(map(self.compress, magnitudes)) if self.normalize else None
        if statistics is None:
            return
        mean, spread = statistics
        self.shift.copy_(-mean[:, None])
        self.scale.copy_(1 / spread.clamp(min=0.1)[:, None])


class _Output(nn.Module):
    """Maps (B, M, R, N) to masks (B, S, C, F, N)."""

    def __init__(self, grid: _Grid, n_maps: int, mask_act_fn: str, normalize: bool) -> None:
        super().__init__()
        if mask_act_fn not in _ACTIVATIONS:
            raise ValueError(f"mask_act_fn must be one of {', '.join(_ACTIVATIONS)}, got {mask_act_fn!r}")
        self.shape = (grid.n_sources, grid.n_channels)
        self.n_above, self.normalize = grid.n_bins - grid.n_used_bins, normalize
        self.activation = _ACTIVATIONS[mask_act_fn]()
        self.bands = Constant(band_interpolation(grid.frequencies, grid.n_bands)) if grid.n_bands else None
        start = 0.0 if mask_act_fn in ("sigmoid", "softmax") else 0.5  # so that no mask starts where it cannot learn
        self.head = nn.Conv2d(n_maps, math.prod(self.shape), 1, bias=not normalize)
        if normalize:
            self.shift = nn.Parameter(torch.full((grid.n_sources, 1, grid.n_used_bins, 1), start))
            self.scale = nn.Parameter(torch.ones(grid.n_sources, 1, grid.n_used_bins, 1))
        else:
            nn.init.constant_(self.head.bias, start)

    def forward(self, maps: Tensor) -> Tensor:
        bins = self.head(maps).unflatten(1, self.shape)
        if self.bands is not None:
            bins = self.bands(bins) @ bins
        if self.normalize:
            bins = bins * self.scale + self.shift
        return F.pad(self.activation(bins), (0, 0, 0, self.n_above))


def _normalisation(n_maps: int) -> nn.Module:
    """Normalise over the rows and frames, and some eight maps at a time, of each item."""
    return nn.GroupNorm(math.gcd(n_maps, max(1, n_maps // _N_GROUPED)), n_maps)


def _over_time(maps: Tensor) -> Tensor:
    """Lay the maps and rows (B, M, R, N) of each frame side by side: (B, N, M * R)."""
    return maps.flatten(1, 2).mT


def _check_recurrence(recurrent_depth: int, hidden_size: int, input_axis: int) -> None:
    if min(recurrent_depth, hidden_size) < 1:
        raise ValueError(f"recurrent_depth and hidden_size must be at least 1, got {recurrent_depth} and {hidden_size}")
    if input_axis != 0:
        raise ValueError(
            "input_axis must be 0, because the recurrence runs over the frames; over rows, with frames as features, "
            f"the network would be bound to one length; got {input_axis}"
        )
