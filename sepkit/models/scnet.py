"""SCNet: bands that are compressed the more the higher they lie, and recurrences over frequencies and frames."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._bands_of_stages import Band, split_stages
from sepkit.models._magnitude import parts_of
from sepkit.models._products import Linear

_N_MASK_MAPS = 64
_FLOOR = 1e-5  # added to the spread of a spectrogram that is divided by it


class _Rows(nn.Module):
    """Residual convolutions along each row of (B, M, R, N), each of which is normalised by itself."""

    def __init__(self, n_maps: int, n_convolutions: int, bottleneck: int, kernel_size: int) -> None:
        super().__init__()
        n_squeezed, padding = n_maps // bottleneck, kernel_size // 2
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, n_maps),
                nn.Conv1d(n_maps, 2 * n_squeezed, kernel_size, padding=padding),
                nn.GLU(1),
                nn.Conv1d(n_squeezed, n_squeezed, kernel_size, padding=padding, groups=n_squeezed),
                nn.GroupNorm(1, n_squeezed),
                nn.SiLU(),
                nn.Conv1d(n_squeezed, n_maps, 1),
            )
            for _ in range(n_convolutions)
        )

    def forward(self, maps: Tensor) -> Tensor:
        rows = maps.transpose(1, 2).flatten(0, 1)  # (B * R, M, N)
        for layer in self.layers:
            rows = rows + layer(rows)
        return F.gelu(rows).unflatten(0, (len(maps), -1)).transpose(1, 2)


class _Down(nn.Module):
    """A stage on the way down: (B, M, R, N) to fewer rows, and to what the way up takes from it."""

    def __init__(
        self, bands: list[Band], widths: tuple[int, int], depths: Sequence[int], bottleneck: int, kernel_size: int
    ) -> None:
        super().__init__()
        self.bands, (n_maps_in, n_maps) = bands, widths
        self.compress = nn.ModuleList(
            nn.Conv2d(n_maps_in, n_maps, (band.kernel, 1), stride=(band.stride, 1)) for band in bands
        )
        self.rows = nn.ModuleList(_Rows(n_maps, depth, bottleneck, kernel_size) for depth in depths)
        self.join = nn.Conv2d(n_maps, n_maps, 3, padding=1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        parts = maps.split([band.n_rows for band in self.bands], 2)
        padded = [F.pad(part, (0, 0, *band.padding)) for part, band in zip(parts, self.bands, strict=True)]
        compressed = [
            rows(compress(part)) for part, compress, rows in zip(padded, self.compress, self.rows, strict=True)
        ]
        skip = torch.cat(compressed, 2)
        return self.join(skip), skip


class _Up(nn.Module):
    """A stage on the way up: the rows of each band as they were before its stage on the way down."""

    def __init__(self, bands: list[Band], n_maps: int, n_maps_out: int) -> None:
        super().__init__()
        self.bands = bands
        self.fuse = nn.Conv2d(n_maps, 2 * n_maps, 3, padding=1)
        self.expand = nn.ModuleList(
            nn.ConvTranspose2d(n_maps, n_maps_out, (band.kernel, 1), stride=(band.stride, 1)) for band in bands
        )

    def forward(self, maps: Tensor, skip: Tensor) -> Tensor:
        parts = F.glu(self.fuse(maps + skip), 1).split([band.n_kept for band in self.bands], 2)
        expanded = zip(parts, self.expand, self.bands, strict=True)
        return torch.cat([expand(part)[:, :, band.crop] for part, expand, band in expanded], 2)


class _Recurrence(nn.Module):
    """A recurrence in both directions along the rows of (B, N, R, M), or what stands in their place."""

    def __init__(self, n_maps: int, hidden_size: int) -> None:
        super().__init__()
        self.normalise = nn.GroupNorm(1, n_maps)
        self.recur = nn.LSTM(n_maps, hidden_size, batch_first=True, bidirectional=True)
        self.project = Linear(2 * hidden_size, n_maps)

    def forward(self, maps: Tensor) -> Tensor:
        features = self.normalise(maps).permute(0, 3, 2, 1)  # (B, N, R, M)
        recurrent, _ = self.recur(features.flatten(0, 1))
        return maps + self.project(recurrent).unflatten(0, features.shape[:2]).permute(0, 3, 2, 1)


class _DualPath(nn.Module):
    """A recurrence along the frequencies, and one along the frames or what they were transformed to."""

    def __init__(self, n_maps: int, hidden_size: int) -> None:
        super().__init__()
        self.frequencies, self.frames = _Recurrence(n_maps, hidden_size), _Recurrence(n_maps, hidden_size)

    def forward(self, maps: Tensor) -> Tensor:
        return self.frames(self.frequencies(maps).mT).mT


class SCNet(nn.Module):
    """Estimate complex spectra of which high bands are compressed more than low ones.

    Each stage cuts its rows, the bins at first, into bands and convolves each with a stride of its own. Below the
    lowest, recurrences run over rows and frames in turn, every second pair of them on the Fourier transform of the
    maps over the frames. On the way up each stage takes the maps of the one of the same size.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F.
        n_maps: feature maps of each stage.
        band_shares: of the rows of a stage for each band, from the lowest; they sum to 1.
        band_strides: by which a stage divides the rows of each band, >= 1.
        band_kernels: rows that a convolution spans in each band: its stride, or an odd number where that is 1.
        band_convolutions: residual convolutions over the frames in each band of a stage, >= 0.
        bottleneck: by which the residual convolutions divide the feature maps in between, >= 1.
        kernel_size: frames that a residual convolution spans, odd.
        n_layers: pairs of recurrences, even, >= 2.
        expand: by which the features of a recurrence are multiplied within it, >= 1.
        masked: estimate complex masks whose parts lie in [-1, 1]; the spectra are those of the mixture times them.
        standardize: bring each item to mean 0 and variance 1 over all of its spectrogram first, and the spectra back.

    Raises:
        ValueError: an argument is out of range.

    Source:
        W. Tong et al., SCNet: sparse compression network for music source separation, 2024; with `standardize` as its
        authors' own code since September 2024, and without as the weights of the community. `masked` is the
        community's. The first convolution of a stage on the way up, which there sees the same maps twice, has one
        weight here for the sum of both.
    """

    outputs = ("spectrum",)
    blocks = (_Down, _DualPath, _Up)
    frame_multiple = 2

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        n_maps: Sequence[int] = (32, 64, 128),
        band_shares: Sequence[float] = (0.175, 0.392, 0.433),
        band_strides: Sequence[int] = (1, 4, 16),
        band_kernels: Sequence[int] = (3, 4, 16),
        band_convolutions: Sequence[int] = (3, 2, 1),
        bottleneck: int = 4,
        kernel_size: int = 3,
        n_layers: int = 6,
        expand: int = 1,
        masked: bool = False,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        if not n_maps or not 1 <= bottleneck <= min(n_maps):
            raise ValueError(f"bottleneck must lie in [1, the least of n_maps], got {bottleneck} for {list(n_maps)}")
        if len(band_convolutions) != len(band_shares) or min(band_convolutions) < 0:
            wanted = f"{len(band_shares)} numbers that are not negative, one a band"
            raise ValueError(f"band_convolutions must be {wanted}, got {list(band_convolutions)}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}")
        if n_layers < 2 or n_layers % 2:
            raise ValueError(f"n_layers must be even and at least 2, got {n_layers}")
        if expand < 1:
            raise ValueError(f"expand must be at least 1, got {expand}")
        if masked and standardize:
            raise ValueError("standardize must be false where masked is true: masks are those of the mixture as it is")
        self.n_channels, self.n_bins, self.masked, self.standardize = n_channels, n_bins, masked, standardize
        stages = split_stages(n_bins, len(n_maps), band_shares, band_kernels, band_strides)
        widths = [2 * n_channels, *n_maps]
        self.core = _Core(n_sources, widths, n_bins if masked else None)
        for bands, pair in zip(stages, pairwise(widths), strict=True):
            self.core.down.append(_Down(bands, pair, band_convolutions, bottleneck, kernel_size))
        for layer in range(n_layers):
            n_features = widths[-1] * (2 if layer % 2 else 1)
            self.core.dual_paths.append(_DualPath(n_features, n_features * expand))
        for bands, (above, below) in reversed(list(zip(stages, pairwise(widths), strict=True))):
            self.core.up.append(_Up(bands, below, above if len(self.core.up) < len(stages) - 1 else above * n_sources))

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        """Estimate the spectra of the sources.

        Args:
            mixture_spectrogram: complex (B, C, F, N), N even.

        Returns:
            Complex (B, S, C, F, N).
        """
        mixture = parts_of(mixture_spectrogram, self.n_channels, self.n_bins, self.core, self.frame_multiple)
        if not self.standardize:
            found = torch.view_as_complex(self.core(mixture).to(mixture.dtype)).mT
            return found * mixture_spectrogram.unsqueeze(1) if self.masked else found
        variance, mean = torch.var_mean(mixture, (1, 2, 3, 4), keepdim=True)
        spread = variance.clamp(min=1e-20).sqrt()  # whose gradient on silence is finite
        found = self.core((mixture - mean) / (spread + _FLOOR)).to(mixture.dtype)
        return torch.view_as_complex(found * spread.unsqueeze(1) + mean.unsqueeze(1)).mT


class _Core(nn.Module):
    """The part with weights: parts (B, C, F, N, 2) in, those of the sources (B, S, C, N, F, 2) out."""

    def __init__(self, n_sources: int, widths: list[int], n_masked_bins: int | None) -> None:
        super().__init__()
        self.n_sources = n_sources
        self.down, self.dual_paths, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.position, self.mask = None, None
        if n_masked_bins:
            n_parts = n_sources * widths[0]
            self.position = nn.Parameter(torch.zeros(1, widths[0], n_masked_bins, 1))
            self.mask = nn.Sequential(
                nn.Conv2d(n_parts, _N_MASK_MAPS, 3, padding=1),
                nn.GELU(),
                nn.Conv2d(_N_MASK_MAPS, n_parts, 1),
                nn.Tanh(),
            )

    def forward(self, parts: Tensor) -> Tensor:
        maps, skips = parts.permute(0, 1, 4, 2, 3).flatten(1, 2), []  # (B, C * 2, F, N)
        if self.position is not None:
            maps = maps + self.position
        for stage in self.down:
            maps, skip = stage(maps)
            skips.append(skip)
        n_frames = maps.shape[-1]
        for number, dual_path in enumerate(self.dual_paths):
            maps = dual_path(maps)
            maps = _from_frequencies(maps, n_frames) if number % 2 else _to_frequencies(maps)
        for stage in self.up:
            maps = stage(maps, skips.pop())
        if self.mask is not None:
            maps = self.mask(maps)
        estimates = maps.unflatten(1, (self.n_sources, -1, 2))  # (B, S, C, 2, F, N)
        return estimates.permute(0, 1, 2, 5, 4, 3).contiguous()


def _to_frequencies(maps: Tensor) -> Tensor:
    """Transform (B, M, R, N) over the frames: (B, 2 * M, R, N / 2 + 1), the real parts first."""
    transformed = torch.fft.rfft(_at_least_single(maps), norm="ortho")
    return torch.cat([transformed.real, transformed.imag], 1).to(maps.dtype)


def _from_frequencies(maps: Tensor, n_frames: int) -> Tensor:
    """Transform back what `_to_frequencies` gave."""
    real, imaginary = _at_least_single(maps).chunk(2, 1)
    return torch.fft.irfft(torch.complex(real, imaginary), n_frames, norm="ortho").to(maps.dtype)


def _at_least_single(maps: Tensor) -> Tensor:
    """Convert halves to float32, of which there are Fourier transforms of any length."""
    return maps if maps.dtype == torch.float64 else maps.float()
