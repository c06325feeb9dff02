"""Bands of bins, and layers that are computed for all bands of the same width as one batched product."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sepkit.constant import Constant
from sepkit.mel import mel_bands


@dataclass(frozen=True)
class BandLayout:
    """Which bins each band holds.

    Attributes:
        bands: the bins of each band, rising.
        n_bins: F; every bin lies in at least one band.
    """

    bands: tuple[tuple[int, ...], ...]
    n_bins: int

    def __len__(self) -> int:
        return len(self.bands)

    @property
    def widths(self) -> list[int]:
        """Return the number of bins of each band."""
        return [len(bins) for bins in self.bands]

    @cached_property
    def groups(self) -> list[list[int]]:
        """Return the numbers of the bands of each width."""
        return group_by_width(self.widths)

    @property
    def order(self) -> list[int]:
        """Return the numbers of all bands, group by group."""
        return [band for group in self.groups for band in group]

    @property
    def bins(self) -> list[int]:
        """Return the bins of all bands, group by group."""
        return [one for band in self.order for one in self.bands[band]]


def group_by_width(widths: Sequence[int]) -> list[list[int]]:
    """List the positions of each width, widths in the order in which they come first."""
    groups: dict[int, list[int]] = {}
    for band, width in enumerate(widths):
        groups.setdefault(width, []).append(band)
    return list(groups.values())


def consecutive_bands(widths: Sequence[int], n_bins: int) -> BandLayout:
    """Place bands side by side, from 0 Hz up.

    Args:
        widths: bins of each band.
        n_bins: F.

    Raises:
        ValueError: a band is empty, or they do not hold F bins together.
    """
    if not widths or min(widths) < 1 or sum(widths) != n_bins:
        raise ValueError(f"widths of bands must be at least 1 and sum to the {n_bins} bins, got {list(widths)}")
    bins = iter(range(n_bins))
    return BandLayout(tuple(tuple(next(bins) for _ in range(width)) for width in widths), n_bins)


def overlapping_mel_bands(n_bands: int, n_bins: int, sample_rate: int) -> BandLayout:
    """Place bands evenly on Slaney's mel scale, each from the middle of the last to that of the next.

    Args:
        n_bands: K.
        n_bins: F, evenly spaced from 0 Hz to the Nyquist frequency.
        sample_rate: Hz.

    Raises:
        ValueError: there are so many bands that one is empty, or so few bins that one lies in none.

    Source:
        J.-C. Wang, W.-T. Lu, M. Won, Mel-Band RoFormer, 2023; the bins at 0 Hz and at the Nyquist frequency, at which
        the outermost triangles are 0, belong to the outermost bands.
    """
    if n_bands < 1:
        raise ValueError(f"bands must be at least 1, got {n_bands}")
    nyquist = sample_rate / 2
    with torch.device("cpu"):  # sizes of the network follow from it, so that it can be built without memory
        frequencies = torch.linspace(0, nyquist, n_bins, dtype=torch.float64)
        inside = mel_bands(frequencies, n_bands, lowest=0.0, highest=nyquist, scale="slaney") > 0
    inside[0, 0] = inside[-1, -1] = True
    if not inside.any(0).all() or not inside.any(1).all():
        raise ValueError(
            f"bands must be so few that none of them is empty and none of {n_bins} bins left out, got {n_bands}"
        )
    return BandLayout(tuple(tuple(band.nonzero()[:, 0].tolist()) for band in inside), n_bins)


class GatherBands(nn.Module):
    """Take the bins of each band out of a spectrogram.

    Args:
        layout: which bins are whose.
    """

    def __init__(self, layout: BandLayout) -> None:
        super().__init__()
        self.sizes = [(len(group), layout.widths[group[0]]) for group in layout.groups]
        self.register_buffer("bins", torch.tensor(layout.bins), persistent=False)

    def forward(self, spectrogram: Tensor) -> list[Tensor]:
        """Return real (B, C, F, N, 2) as one (M, B * N, W * C * 2) for each group of M bands of W bins."""
        frames = spectrogram.permute(0, 3, 2, 1, 4).flatten(0, 1).flatten(2)  # (B * N, F, C * 2)
        groups = frames.index_select(1, self.bins).split([n_bands * width for n_bands, width in self.sizes], 1)
        return [
            group.unflatten(1, size).flatten(2).transpose(0, 1) for group, size in zip(groups, self.sizes, strict=True)
        ]


class ScatterBands(nn.Module):
    """Put the bins of each band back to their places; a bin of several bands is their mean.

    Args:
        layout: which bins are whose.
        n_channels: C.
    """

    def __init__(self, layout: BandLayout, n_channels: int) -> None:
        super().__init__()
        self.n_bins, self.n_channels = layout.n_bins, n_channels
        bins, counts = torch.tensor(layout.bins), Counter(layout.bins)
        self.overlapping = len(bins) > layout.n_bins
        self.register_buffer("places", bins if self.overlapping else bins.argsort(), persistent=False)
        self.shares = Constant(torch.tensor([[1 / counts[one]] for one in range(layout.n_bins)]))

    def forward(self, groups: Sequence[Tensor], n_items: int) -> Tensor:
        """Return (M, B * N, W * C * 2) for each group as (B, C, F, N, 2), given B."""
        parts = [group.transpose(0, 1).unflatten(2, (-1, 2 * self.n_channels)).flatten(1, 2) for group in groups]
        bins = torch.cat(parts, 1)  # (B * N, bins of all bands, C * 2)
        if self.overlapping:
            empty = bins.new_zeros(len(bins), self.n_bins, 2 * self.n_channels)
            bins = empty.index_add(1, self.places, bins) * self.shares(bins)
        else:
            bins = bins.index_select(1, self.places)
        return bins.unflatten(2, (self.n_channels, 2)).unflatten(0, (n_items, -1)).permute(0, 3, 2, 1, 4)


class BandLinear(nn.Module):
    """A linear layer for each of M bands.

    Args:
        n_bands: M.
        n_in: features that come in.
        n_out: features that go out.
    """

    def __init__(self, n_bands: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)  # as in torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(n_bands, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_bands, n_out).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """Map (M, L, n_in) to (M, L, n_out)."""
        return torch.baddbmm(self.bias[:, None], features, self.weight)
