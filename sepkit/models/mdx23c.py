"""MDX23C: a U-Net of convolutions over time and frequency with dense layers across the frequencies."""

import math
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._magnitude import parts_of
from sepkit.models._products import Linear
from sepkit.models._transformers import runs_in_parts

_ACTIVATIONS = {"gelu": nn.GELU, "relu": partial(nn.ReLU, inplace=True), "elu": partial(nn.ELU, inplace=True)}
_Activation = Literal[tuple(_ACTIVATIONS)]
_N_MAPS = 4  # that are normalised at a time


class _Block(nn.Module):
    """Two convolutions with dense layers across the frequencies between them: maps (B, M, N, R) of R rows."""

    def __init__(self, n_maps_in: int, n_maps: int, n_rows: int, n_squeezed: int, activation: str) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(n_maps_in, n_maps, 1, bias=False)
        self.before = _normalised(n_maps_in, activation, nn.Conv2d(n_maps_in, n_maps, 3, padding=1, bias=False))
        self.across = nn.Sequential(
            *_normalised(n_maps, activation, Linear(n_rows, n_squeezed, bias=False)),
            *_normalised(n_maps, activation, Linear(n_squeezed, n_rows, bias=False)),
        )
        self.after = _normalised(n_maps, activation, nn.Conv2d(n_maps, n_maps, 3, padding=1, bias=False))

    def forward(self, maps: Tensor, overwrites: bool = False) -> Tensor:
        """Return maps of the same rows and frames; the ones that come in may be overwritten."""
        added = self.shortcut(maps)
        convolved = self.before[2](_activate(maps, self.before, overwrites))
        squeezed = self.across[2](_activate(convolved, self.across))
        mixed = self.across[5](_activate(squeezed, self.across[3:], True)).add_(convolved)
        del convolved, squeezed
        return self.after[2](_activate(mixed, self.after, True)).add_(added)


class MDX23C(nn.Module):
    """Estimate complex spectra by convolutions on real and imaginary parts, TFC-TDF-UNet v3.

    The bins are cut into subbands of equal width, which are feature maps side by side. Each stage convolves, and mixes
    all frequencies of a subband by dense layers; on the way down it shrinks frames and frequencies, and on the way up
    takes the maps of the stage of the same size. All normalisation is of a feature map of one item.

    Args:
        n_sources: S.
        n_channels: C.
        n_bins: F.
        n_maps: feature maps of the first stage, >= 1.
        growth: feature maps that each stage has more than the one above, >= 0.
        n_stages: stages on either way, >= 1.
        n_blocks: blocks of two convolutions in a stage, >= 1.
        n_subbands: into which the used bins are cut, >= 1.
        scale: by which a stage divides frames and frequencies, >= 1 each.
        bottleneck: by which the dense layers divide the frequencies in between, >= 1.
        activation: "gelu", "relu" or "elu".
        n_used_bins: bins from the lowest on that are used; the others are estimated as 0. A multiple of
            n_subbands * scale[1] ** n_stages; None: the largest that there is, which leaves out the highest bin where
            n_fft is a power of two.

    Raises:
        ValueError: an argument is out of range.

    Source:
        M. Kim et al., Sound demixing challenge 2023 music demixing track technical report: TFC-TDF-UNet v3, 2023, with
        the sizes of the published model as defaults. The normalisation is always per item and feature map.
    """

    outputs = ("spectrum",)
    blocks = (_Block,)

    def __init__(
        self,
        n_sources: int,
        n_channels: int,
        n_bins: int,
        n_maps: int = 128,
        growth: int = 128,
        n_stages: int = 5,
        n_blocks: int = 2,
        n_subbands: int = 4,
        scale: tuple[int, int] = (2, 2),
        bottleneck: int = 4,
        activation: _Activation = "gelu",
        n_used_bins: int | None = None,
    ) -> None:
        super().__init__()
        counts = {"n_maps": n_maps, "n_stages": n_stages, "n_blocks": n_blocks, "n_subbands": n_subbands}
        for name, count in {**counts, "scale": min(scale), "bottleneck": bottleneck}.items():
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if growth < 0:
            raise ValueError(f"growth must be at least 0, got {growth}")
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}")
        self.n_channels, self.n_bins = n_channels, n_bins
        multiple = n_subbands * scale[1] ** n_stages
        self.n_used_bins = n_bins // multiple * multiple if n_used_bins is None else n_used_bins
        if not 1 <= self.n_used_bins <= n_bins or self.n_used_bins % multiple:
            wanted = f"a multiple of n_subbands * scale[1] ** n_stages, {multiple}, up to n_bins {n_bins}"
            raise ValueError(f"n_used_bins must be {wanted}, got {self.n_used_bins}")
        n_lowest = self.n_used_bins // multiple  # frequencies of a subband in the lowest stage
        if n_lowest < bottleneck:
            raise ValueError(
                f"bottleneck must be at most the frequencies of the lowest stage, {n_lowest}, got {bottleneck}"
            )
        self.frame_multiple = scale[0] ** n_stages
        self.core = _Core(
            (n_sources, n_channels, 2, n_subbands),
            [n_maps + stage * growth for stage in range(n_stages + 1)],
            [self.n_used_bins // n_subbands // scale[1] ** stage for stage in range(n_stages + 1)],
            n_blocks,
            tuple(scale),
            bottleneck,
            activation,
        )

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        """Estimate the spectra of the sources.

        Args:
            mixture_spectrogram: complex (B, C, F, N), N a multiple of `frame_multiple`.

        Returns:
            Complex (B, S, C, F, N).
        """
        parts = parts_of(mixture_spectrogram, self.n_channels, self.n_bins, self.core, self.frame_multiple)
        used = self.core(parts[:, :, : self.n_used_bins])  # (B, S, C, N, F, 2)
        spectrum = F.pad(used.to(parts.dtype), (0, 0, 0, self.n_bins - self.n_used_bins))
        return torch.view_as_complex(spectrum).mT


class _Core(nn.Module):
    """The real-valued part: parts (B, C, F, N, 2) of the used bins in, (B, S, C, N, F, 2) out."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        n_maps: list[int],
        n_rows: list[int],
        n_blocks: int,
        scale: tuple[int, int],
        bottleneck: int,
        activation: str,
    ) -> None:
        super().__init__()
        self.shape = shape  # S, C, 2, subbands: what the maps at the end are
        n_parts = math.prod(shape[1:])

        def blocks(stage: int, n_maps_in: int) -> nn.Sequential:
            n_squeezed = n_rows[stage] // bottleneck
            widths = [n_maps_in, *[n_maps[stage]] * (n_blocks - 1)]
            return nn.Sequential(
                *(_Block(width, n_maps[stage], n_rows[stage], n_squeezed, activation) for width in widths)
            )

        *stages, lowest = range(len(n_maps))
        self.lift = nn.Conv2d(n_parts, n_maps[0], 1, bias=False)
        self.down = nn.ModuleList(blocks(stage, n_maps[stage]) for stage in stages)
        self.shrink = nn.ModuleList(
            _normalised(above, activation, nn.Conv2d(above, below, scale, stride=scale, bias=False))
            for above, below in pairwise(n_maps)
        )
        self.lowest = blocks(lowest, n_maps[lowest])
        self.enlarge = nn.ModuleList(
            _normalised(below, activation, nn.ConvTranspose2d(below, above, scale, stride=scale, bias=False))
            for above, below in reversed(list(pairwise(n_maps)))
        )
        self.up = nn.ModuleList(blocks(stage, 2 * n_maps[stage]) for stage in reversed(stages))
        self.decide = nn.Sequential(
            nn.Conv2d(n_parts + n_maps[0], n_maps[0], 1, bias=False),
            _ACTIVATIONS[activation](),
            nn.Conv2d(n_maps[0], shape[0] * n_parts, 1, bias=False),
        )

    def forward(self, parts: Tensor) -> Tensor:
        subbands = parts.unflatten(2, (self.shape[-1], -1))  # (B, C, K, R, N, 2)
        mixture = subbands.permute(0, 1, 5, 2, 4, 3).flatten(1, 3)  # (B, C * 2 * K, N, R)
        lifted = self.lift(mixture)
        maps, skips = lifted, []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:
                maps = block(maps, overwrites=maps is not lifted)
            skips.append(maps)
            maps = shrink[2](_activate(maps, shrink))
        for block in self.lowest:
            maps = block(maps, overwrites=True)
        for enlarge, blocks in zip(self.enlarge, self.up, strict=True):
            maps = enlarge[2](_activate(maps, enlarge, True))
            maps = torch.cat([maps, skips.pop()], 1)
            for block in blocks:
                maps = block(maps, overwrites=True)
        decided = self.decide(torch.cat([mixture, maps * lifted], 1)).unflatten(1, self.shape)  # (B, S, C, 2, K, N, R)
        return decided.permute(0, 1, 2, 5, 4, 6, 3).flatten(4, 5)


def _activate(maps: Tensor, layers: nn.Sequential, overwrites: bool = False) -> Tensor:
    """Apply the first two of `_normalised`, some maps at a time where nothing is kept for a backward pass."""
    norm, activation = layers[0], layers[1]
    if not runs_in_parts(maps):
        return activation(norm(maps))
    activated = maps if overwrites else torch.empty_like(maps)
    for item, result in zip(maps, activated, strict=True):
        for start in range(0, len(item), _N_MAPS):
            part = slice(start, start + _N_MAPS)
            some = item[part].unsqueeze(0)
            result[part] = activation(
                F.group_norm(some, len(item[part]), norm.weight[part], norm.bias[part], norm.eps)
            )[0]
    return activated


def _normalised(n_maps: int, activation: str, layer: nn.Module) -> nn.Sequential:
    """Put a normalisation of each feature map, and an activation, before a layer."""
    # A group per map is the instance normalisation of the source, which torch computes six times as fast.
    return nn.Sequential(nn.GroupNorm(n_maps, n_maps), _ACTIVATIONS[activation](), layer)
