"""ConvTasNet: masks in a learned filter bank, by dilated convolutions over time."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.models._waveform import check_mixture

_MASKS = {"sigmoid": torch.sigmoid, "relu": torch.relu, "softmax": partial(torch.softmax, dim=1)}
_Mask = Literal[tuple(_MASKS)]
_EPS = 1e-8


class ConvTasNet(nn.Module):
    """Estimate waveforms by masks of the output of a learned filter bank.

    Short filters turn the waveform into frames; convolutions whose dilation doubles from block to block, and begins
    anew with each repeat, find masks for them; other filters turn the masked frames back.

    Args:
        n_sources: S.
        n_filters: of the filter bank, >= 1.
        filter_size: samples of a filter, >= 1.
        hop_length: samples between frames, 1 to `filter_size`.
        n_features: between the blocks, >= 1.
        hidden_size: features within a block, >= 1.
        n_skip: features that each block hands to the masks directly, >= 1; 0: the last block's output makes the masks.
        kernel_size: frames that a convolution takes in, >= 1; odd without `causal`.
        n_blocks: in a repeat, >= 1.
        n_repeats: of the blocks, >= 1.
        norm: over which features are normalised: "global", all of an item; "frame", those of each frame; "cumulative",
            those of a frame and of all before it.
        mask: "sigmoid", [0, 1]; "relu", >= 0; "softmax" over the sources.
        rectify: let the filter bank give nothing below zero.
        causal: let a frame depend on those before it alone; not with "global".

    Raises:
        ValueError: an argument is out of range.

    Source:
        Y. Luo, N. Mesgarani, Conv-TasNet, 2019, as the package asteroid builds it. Channels are separated one by one;
        the last block hands nothing on where there are skips. Samples at the end that fill no hop are silent in the
        estimates, unless there are fewer than a filter's in all.
    """

    outputs = ("estimate",)

    def __init__(
        self,
        n_sources: int,
        n_filters: int = 512,
        filter_size: int = 16,
        hop_length: int = 8,
        n_features: int = 128,
        hidden_size: int = 512,
        n_skip: int = 128,
        kernel_size: int = 3,
        n_blocks: int = 8,
        n_repeats: int = 3,
        norm: Literal["global", "frame", "cumulative"] = "global",
        mask: _Mask = "sigmoid",
        rectify: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"n_filters": n_filters, "filter_size": filter_size, "n_features": n_features}
        sizes |= {"hidden_size": hidden_size, "kernel_size": kernel_size, "n_blocks": n_blocks, "n_repeats": n_repeats}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if not 1 <= hop_length <= filter_size:
            raise ValueError(f"hop_length must be between 1 and filter_size {filter_size}, got {hop_length}")
        if n_skip < 0:
            raise ValueError(f"n_skip must be at least 0, got {n_skip}")
        if not causal and kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd without causal, got {kernel_size}")
        if norm not in _NORMS:
            raise ValueError(f"norm must be one of {', '.join(_NORMS)}, got {norm!r}")
        if causal and norm == "global":
            raise ValueError("norm must be frame or cumulative with causal, got 'global', which knows what comes later")
        if mask not in _MASKS:
            raise ValueError(f"mask must be one of {', '.join(_MASKS)}, got {mask!r}")
        self.blocks = (_Block,)
        repeat = [
            partial(_Block, n_features, hidden_size, n_skip, kernel_size, 2**number, norm, causal)
            for number in range(n_blocks)
        ]
        self.core = _Core(
            n_sources,
            (n_filters, filter_size, hop_length),
            (n_features, n_skip),
            repeat * n_repeats,
            norm,
            mask,
            rectify,
        )

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate a mixture (B, C, T) of any number of channels: (B, S, C, T)."""
        check_mixture(mixture, self.core)
        estimate = self.core(mixture.flatten(0, 1).unsqueeze(1))  # (B * C, S, T)
        return estimate.unflatten(0, mixture.shape[:2]).transpose(1, 2)


class _Core(nn.Module):
    """All of it, for one channel: (B, 1, T) to (B, S, T)."""

    def __init__(
        self,
        n_sources: int,
        filter_bank: tuple[int, int, int],
        sizes: tuple[int, int],
        blocks: list[partial],
        norm: str,
        mask: str,
        rectify: bool,
    ) -> None:
        super().__init__()
        n_filters, self.filter_size, self.hop_length = filter_bank
        n_features, n_skip = sizes
        self.n_sources, self.mask, self.rectify, self.skips = n_sources, mask, rectify, n_skip > 0
        self.encode = nn.Conv1d(1, n_filters, self.filter_size, self.hop_length, bias=False)
        self.enter_norm = _NORMS[norm](n_filters)
        self.enter = nn.Conv1d(n_filters, n_features, 1)
        self.blocks = nn.ModuleList(
            build(hands_on=not self.skips or number < len(blocks)) for number, build in enumerate(blocks, 1)
        )
        self.leave_activation = nn.PReLU()
        self.leave = nn.Conv1d(n_skip or n_features, n_sources * n_filters, 1)
        self.decode = nn.ConvTranspose1d(n_filters, 1, self.filter_size, self.hop_length, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        length = mixture.shape[-1]
        frames = self.encode(F.pad(mixture, (0, max(0, self.filter_size - length))))  # (B, K, N)
        frames = torch.relu(frames) if self.rectify else frames
        features, skipped = self.enter(self.enter_norm(frames)), None
        for block in self.blocks:
            features, skip = block(features)
            skipped = skip if skipped is None or skip is None else skipped + skip
        logits = self.leave(self.leave_activation(skipped if self.skips else features))
        mask = _MASKS[self.mask](logits.unflatten(1, (self.n_sources, -1)))
        masked = (mask * frames.unsqueeze(1)).flatten(0, 1)  # (B * S, K, N)
        estimate = self.decode(masked).unflatten(0, mask.shape[:2]).squeeze(2)
        return F.pad(estimate, (0, length - estimate.shape[-1]))


class _Block(nn.Module):
    """A dilated convolution of each feature by itself between two that mix them: features (B, H, N) and skip."""

    def __init__(
        self,
        n_features: int,
        hidden_size: int,
        n_skip: int,
        kernel_size: int,
        dilation: int,
        norm: str,
        causal: bool,
        hands_on: bool,
    ) -> None:
        super().__init__()
        reach = (kernel_size - 1) * dilation
        self.n_before, padding = (reach, 0) if causal else (0, reach // 2)
        self.widen = nn.Conv1d(n_features, hidden_size, 1)
        self.widen_activation, self.widen_norm = nn.PReLU(), _NORMS[norm](hidden_size)
        self.convolve = nn.Conv1d(
            hidden_size, hidden_size, kernel_size, padding=padding, dilation=dilation, groups=hidden_size
        )
        self.convolve_activation, self.convolve_norm = nn.PReLU(), _NORMS[norm](hidden_size)
        self.narrow = nn.Conv1d(hidden_size, n_features, 1) if hands_on else None
        self.skip = nn.Conv1d(hidden_size, n_skip, 1) if n_skip else None

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden = self.widen_norm(self.widen_activation(self.widen(features)))
        convolved = self.convolve(F.pad(hidden, (self.n_before, 0)) if self.n_before else hidden)
        hidden = self.convolve_norm(self.convolve_activation(convolved))
        skip = None if self.skip is None else self.skip(hidden)
        return features if self.narrow is None else features + self.narrow(hidden), skip


class _FrameNorm(nn.LayerNorm):
    """Normalise each frame of (B, H, N) over its features."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features, eps=_EPS)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.mT).mT


class _CumulativeNorm(nn.Module):
    """Normalise each frame of (B, H, N) over its features and those of all frames before."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(n_features)), nn.Parameter(torch.zeros(n_features))

    def forward(self, features: Tensor) -> Tensor:
        # In float32 at least: sums over minutes of frames have no room in half precision.
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        n_features, n_frames = wide.shape[1:]
        counts = n_features * torch.arange(1, n_frames + 1, device=wide.device, dtype=wide.dtype)
        mean = wide.sum(1, keepdim=True).cumsum(-1) / counts
        square = wide.square().sum(1, keepdim=True).cumsum(-1) / counts
        spread = ((square - mean.square()).clamp(min=0) + _EPS).sqrt()
        normalized = (wide - mean) / spread * self.weight[:, None] + self.bias[:, None]
        return normalized.to(features.dtype)


_NORMS = {
    "global": lambda n_features: nn.GroupNorm(1, n_features, eps=_EPS),
    "frame": _FrameNorm,
    "cumulative": _CumulativeNorm,
}
