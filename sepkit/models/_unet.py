"""The U-Net of the SpectrogramNets: its input, stages, lowest stages and output."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.constant import Constant
from sepkit.models._activations import softmax_with_residual
from sepkit.models._bands import band_interpolation, triangular_bands
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
    """A softmax over the sources and an implicit residual."""

    def forward(self, logits: Tensor) -> Tensor:
        return softmax_with_residual(logits)


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
Activation = Literal[tuple(_ACTIVATIONS)]


@dataclass(frozen=True)
class Grid:
    """Sizes of input and output, and the rows of the U-Net."""

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
        """Return the frequencies of the used bins, Hz."""
        frequencies = torch.linspace(0, self.nyquist, self.n_bins, dtype=torch.float64)
        return frequencies if self.bandwidth is None else frequencies[frequencies <= self.bandwidth]

    @property
    def n_used_bins(self) -> int:
        """Return the number of bins below the bandwidth."""
        return len(self.frequencies)

    @property
    def n_rows(self) -> int:
        """Return the number of rows of the U-Net."""
        return self.n_bands or self.n_used_bins

    @property
    def n_lowest(self) -> int:
        """Return the number of rows below the last stage."""
        return math.ceil(self.n_rows / 2**_N_STAGES)


@dataclass(frozen=True)
class Layers:
    """Layers of which all stages are made."""

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
        """Build the activation after a normalisation, in place."""
        return nn.LeakyReLU(self.leak_factor, inplace=True) if self.leak_factor else nn.SELU(inplace=True)

    def convolutions(self, n_maps_in: int, n_maps: int) -> "Stage":
        """Build the convolutions of a stage, each with normalisation and activation."""
        layers: list[nn.Module] = []
        for i in range(_N_CONVOLUTIONS):
            convolution = nn.Conv2d(n_maps if i else n_maps_in, n_maps, 3, padding=1, bias=False)
            layers += [convolution, _normalisation(n_maps), self.activation()]
        return Stage(*layers)


class Stage(nn.Sequential):
    """Convolutions of a stage, a type of their own to be recomputed by."""


class UNet(nn.Module):
    """The real-valued part: magnitudes (B, C, F, N) to masks (B, S, C, F, N) and auxiliary outputs."""

    def __init__(
        self,
        grid: Grid,
        layers: Layers,
        lowest: nn.Module,
        normalize_input: bool,
        normalize_output: bool,
        mask_act_fn: str,
    ) -> None:
        super().__init__()
        self.size = (grid.n_channels, grid.n_bins)
        self.input = _Input(grid, normalize_input)
        self.lowest = lowest
        self.output = _Output(grid, layers.maps(0), mask_act_fn, normalize_output)
        maps = [grid.n_channels, *(layers.maps(stage) for stage in range(_N_STAGES))]
        self.down = nn.ModuleList(layers.convolutions(*pair) for pair in pairwise(maps))
        self.up = nn.ModuleList(_Up(layers, stage) for stage in reversed(range(_N_STAGES)))

    def forward(self, magnitude: Tensor) -> tuple[Tensor, ...]:
        maps, skips = self.input(magnitude), []
        for stage in self.down:
            maps = stage(maps)
            skips.append(maps)
            maps = F.max_pool2d(maps, 2, ceil_mode=True)
        maps, *auxiliary = self.lowest(maps)
        for stage, skip in zip(self.up, reversed(skips), strict=True):
            maps = stage(maps, skip)
        return self.output(maps), *auxiliary


class _Up(nn.Module):
    """A stage of the way up: maps of twice the size, cut to the skipped ones, which are concatenated."""

    def __init__(self, layers: Layers, stage: int) -> None:
        super().__init__()
        n_maps = layers.maps(stage)
        self.enlarge = nn.ConvTranspose2d(2 * n_maps, n_maps, 4, stride=2, padding=1, bias=False)
        self.normalise = _normalisation(n_maps)
        self.convolve = layers.convolutions(2 * n_maps, n_maps)
        self.drop = nn.Dropout2d(layers.dropout_p if stage >= _N_STAGES - _N_DROPPED else 0.0)

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        larger = self.normalise(self.enlarge(maps)[..., : skip.shape[-2], : skip.shape[-1]])
        return self.drop(self.convolve(torch.cat([larger, skip], 1)))


class Convolutions(nn.Module):
    """The lowest stage of the simple network."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.convolve = layers.convolutions(layers.maps(_N_STAGES - 1), layers.maps(_N_STAGES))

    def forward(self, maps: Tensor) -> tuple[Tensor]:
        return (self.convolve(maps),)


class Recurrence(nn.Module):
    """The lowest stage that recurs over the frames, from the maps of each or from given features."""

    def __init__(
        self, layers: Layers, n_rows: int, depth: int, hidden_size: int, n_features: int | None = None
    ) -> None:
        super().__init__()
        n_features = n_features or n_rows * layers.maps(_N_STAGES - 1)
        self.shape = (layers.maps(_N_STAGES), n_rows)
        self.recur = nn.LSTM(
            n_features,
            hidden_size,
            depth,
            batch_first=True,
            dropout=layers.dropout_p if depth > 1 else 0.0,
            bidirectional=True,
        )
        self.decode = nn.Sequential(
            nn.Linear(2 * hidden_size, hidden_size), nn.SELU(), nn.Linear(hidden_size, math.prod(self.shape))
        )
        self.normalise = nn.Sequential(_normalisation(self.shape[0]), layers.activation())

    def forward(self, maps: Tensor) -> tuple[Tensor]:
        return (self.run(_over_time(maps)),)

    def run(self, features: Tensor) -> Tensor:
        """Turn features (B, N, H) into maps (B, M, R, N)."""
        recurrent, _ = self.recur(features)
        return self.normalise(self.decode(recurrent).mT.unflatten(1, self.shape))


class Latent(nn.Module):
    """The lowest stage that recurs over a Gaussian latent: its draw in training, its mean in evaluation."""

    def __init__(self, layers: Layers, n_rows: int, depth: int, hidden_size: int) -> None:
        super().__init__()
        n_features = n_rows * layers.maps(_N_STAGES - 1)
        self.mean = nn.Linear(n_features, hidden_size)
        self.log_variance = nn.Linear(n_features, hidden_size)
        self.recurrence = Recurrence(layers, n_rows, depth, hidden_size, hidden_size)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = _over_time(maps)
        mu = self.mean(features)
        sigma = torch.exp(self.log_variance(features).clamp(-_LOG_VARIANCE, _LOG_VARIANCE) / 2)
        latent = mu + sigma * torch.randn_like(mu) if self.training else mu
        return self.recurrence.run(latent), mu, sigma


class _Input(nn.Module):
    """Magnitudes (B, C, F, N) to compressed rows (B, C, R, N)."""

    def __init__(self, grid: Grid, normalize: bool) -> None:
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
        used = magnitude[:, :, : self.n_used_bins]
        if self.normalize:
            power = used.square().mean((1, 2, 3), keepdim=True)
            used = used / power.clamp(min=_LEAST_LEVEL**2).sqrt()
        return torch.log((used if self.bands is None else self.bands(used) @ used) + _FLOOR)

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

    def __init__(self, grid: Grid, n_maps: int, mask_act_fn: str, normalize: bool) -> None:
        super().__init__()
        if mask_act_fn not in _ACTIVATIONS:
            raise ValueError(f"mask_act_fn must be one of {', '.join(_ACTIVATIONS)}, got {mask_act_fn!r}")
        self.shape = (grid.n_sources, grid.n_channels)
        self.n_unused_bins, self.normalize = grid.n_bins - grid.n_used_bins, normalize
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
        return F.pad(self.activation(bins), (0, 0, 0, self.n_unused_bins))


def _normalisation(n_maps: int) -> nn.Module:
    """Build a normalisation over the rows and frames, and some eight maps at a time, of each item."""
    return nn.GroupNorm(math.gcd(n_maps, max(1, n_maps // _N_GROUPED)), n_maps)


def _over_time(maps: Tensor) -> Tensor:
    """Concatenate the maps and rows (B, M, R, N) of each frame: (B, N, M * R)."""
    return maps.flatten(1, 2).mT
