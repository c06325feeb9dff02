"""Bands of rows, of which the stages of an SCNet keep the fewer the higher they lie."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise


@dataclass(frozen=True)
class Band:
    """Rows of one band in one stage: a convolution over them, and what it needs around them.

    Attributes:
        n_rows: before the convolution.
        kernel: rows that a convolution spans.
        stride: rows between convolutions.
    """

    n_rows: int
    kernel: int
    stride: int

    @property
    def padding(self) -> tuple[int, int]:
        """Return the rows of zeros below and above, so that every row is in a convolution."""
        missing = self.kernel - 1 if self.stride == 1 else -self.n_rows % self.stride
        return missing // 2, missing - missing // 2

    @property
    def n_kept(self) -> int:
        """Return the number of rows after the convolution."""
        return math.ceil(self.n_rows / self.stride)

    @property
    def crop(self) -> slice:
        """Return where the rows lie among those that the transposed convolution gives back."""
        start = ((self.n_kept - 1) * self.stride + self.kernel - self.n_rows) // 2
        return slice(start, start + self.n_rows)


def split_stages(
    n_rows: int, n_stages: int, shares: Sequence[float], kernels: Sequence[int], strides: Sequence[int]
) -> list[list[Band]]:
    """Split the rows of each stage into bands.

    Args:
        n_rows: of the first stage; the next has what the bands keep.
        n_stages: how many there are.
        shares: of the rows for each band, from the lowest.
        kernels: rows that the convolution of a band spans: its stride, or any odd number where that is 1.
        strides: rows between the convolutions of a band.

    Raises:
        ValueError: there are not as many of each, they are out of range, or a band of a stage has no row.
    """
    if not len(shares) == len(kernels) == len(strides) >= 1:
        found = f"{len(shares)}, {len(kernels)} and {len(strides)}"
        raise ValueError(f"band_shares, band_kernels and band_strides must have one value a band, got {found}")
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-3:
        raise ValueError(f"band_shares must be above 0 and sum to 1, got {', '.join(map(str, shares))}")
    for kernel, stride in zip(kernels, strides, strict=True):
        if min(kernel, stride) < 1 or (kernel % 2 == 0 if stride == 1 else kernel != stride):
            wanted = "the band's stride, or odd where that is 1"
            raise ValueError(f"band_kernels must be {wanted}, got {kernel} for a stride of {stride}")
    stages = []
    for stage in range(n_stages):
        edges = [0, *(math.ceil(n_rows * share) for share in accumulate(shares[:-1])), n_rows]
        widths = [upper - lower for lower, upper in pairwise(edges)]
        if min(widths) < 1:
            raise ValueError(f"n_bins must give each band of stage {stage + 1} a row, got rows {widths}")
        stages.append([Band(*band) for band in zip(widths, kernels, strides, strict=True)])
        n_rows = sum(band.n_kept for band in stages[-1])
    return stages
