"""Networks for tests: with known outputs, with other inputs and outputs than masks, or that act on their process."""

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """Give source s the mask `gains[s]` everywhere."""

    def __init__(self, gains: list[float]) -> None:
        super().__init__()
        self.gains = gains

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        gains = mixture_spectrogram.real.new_tensor(self.gains)[None, :, None, None, None]
        return gains.expand(len(mixture_spectrogram), -1, *mixture_spectrogram.shape[1:])


class Stuck(Constant):
    """Say in a folder which process is here, and never come to an end."""

    def __init__(self, gains: list[float], folder: str) -> None:
        super().__init__(gains)
        self.folder = folder

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:  # noqa: ARG002
        Path(self.folder, str(os.getpid())).touch()
        while True:
            time.sleep(1)


class Dying(Constant):
    """Take its process along, once a folder holds as many files of tracks as are let live."""

    def __init__(self, gains: list[float], folder: str, n_tracks: int) -> None:
        super().__init__(gains)
        self.folder, self.n_tracks = folder, n_tracks

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        if len(list(Path(self.folder).glob("tracks/*/*.json"))) >= self.n_tracks:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(mixture_spectrogram)


class Filterbank(nn.Module):
    """Estimate waveforms from the waveform alone, by filters of its own."""

    outputs = ("estimate",)

    def __init__(self, n_sources: int, n_channels: int) -> None:
        super().__init__()
        self.filter = nn.Conv1d(n_channels, n_sources * n_channels, 9, padding=4)
        self.n_sources = n_sources

    def forward(self, mixture: Tensor) -> Tensor:
        return self.filter(mixture).unflatten(1, (self.n_sources, -1))


class Placed(nn.Module):
    """Estimate what tells the place of each sample in what the network is given; source k has k times as much.

    Args:
        n_sources: S.
        fills: samples to which shorter mixtures are filled; 0: Demucs' own rule, to 5 above a multiple of 16.
        gain: factor of all.
    """

    outputs = ("estimate",)

    def __init__(self, n_sources: int, fills: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.n_sources, self.fills, self.gain, self.lengths = n_sources, fills, gain, []

    def valid_length(self, n_samples: int) -> int:
        return max(n_samples, self.fills) if self.fills else -(-n_samples // 16) * 16 + 5

    def forward(self, mixture: Tensor) -> Tensor:
        place = torch.arange(mixture.shape[-1]) / mixture.shape[-1]
        self.lengths.append(mixture.shape[-1])
        number = torch.arange(1, self.n_sources + 1)[:, None, None]
        return self.gain * (number * (mixture * (1 + place)).unsqueeze(1) + 0.1 * number * place)


class Hybrid(nn.Module):
    """Estimate spectra from the spectrogram and waveforms from the waveform, which are summed."""

    outputs = ("spectrum", "waveform")

    def __init__(self, n_sources: int, n_channels: int) -> None:
        super().__init__()
        self.filterbank = Filterbank(n_sources, n_channels)
        self.gains = nn.Parameter(torch.linspace(0.2, 0.8, n_sources))

    def forward(self, mixture: Tensor, mixture_spectrogram: Tensor) -> dict[str, Tensor]:
        spectrum = self.gains[:, None, None, None] * mixture_spectrogram.unsqueeze(1)
        return {"spectrum": spectrum, "waveform": self.filterbank(mixture)}


class Talkative(nn.Module):
    """Estimate masks, the level of each source, and two features of each item; name how many frames a segment has."""

    outputs: ClassVar = {"mask": "source", "level": "source", "features": "item"}
    frame_multiple = 4
    lookahead = 0
    blocks = (nn.Linear,)

    def __init__(self, n_sources: int, n_frames: int) -> None:
        super().__init__()
        self.core, self.n_frames = nn.Linear(2, n_sources), n_frames

    def forward(self, mixture_magnitude: Tensor, mixture: Tensor) -> dict[str, Tensor]:
        features = torch.stack([mixture_magnitude.mean((1, 2, 3)), mixture.abs().mean((1, 2))], 1)  # (B, 2)
        level = torch.sigmoid(self.core(features))  # (B, S)
        mask = level[..., None, None, None].expand(-1, -1, *mixture_magnitude.shape[1:])
        return {"mask": mask, "level": level[..., None], "features": features}


class LevelLoss(nn.Module):
    """Compare the level of a source, which a network estimates, with its target's."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, level: Tensor, target: Tensor) -> Tensor:
        values = (level[:, 0] - target.abs().mean((1, 2))).square()
        return values if self.reduction == "none" else values.mean()


class FeatureLoss(LevelLoss):
    """Keep the features of an item small."""

    def forward(self, features: Tensor) -> Tensor:
        values = features.square().sum(1)
        return values if self.reduction == "none" else values.mean()


SMALL = {  # arguments that keep a network small; one without entry is tested as it is by default
    "BLSTM": {"hidden_size": 8, "n_layers": 1, "n_bands": 12},
    "MDX23C": {"n_maps": 4, "growth": 2, "n_stages": 2, "n_blocks": 1},
    "SCNet": {"n_maps": (4, 6), "band_convolutions": (1, 1, 0), "bottleneck": 2, "n_layers": 2},
    "BandSplitRNN": {"bands": 8, "n_features": 4, "hidden_size": 4, "n_layers": 1, "mask_size": 4},
    "ConvTasNet": {"n_filters": 8, "n_features": 4, "hidden_size": 6, "n_skip": 4, "n_blocks": 2, "n_repeats": 2},
    "OpenUnmix": {"hidden_size": 8, "n_layers": 1, "dropout": 0.0},
    "BandSplitRoFormer": {
        "bands": 4,
        "hidden_size": 8,
        "n_layers": 2,
        "n_heads": 2,
        "head_size": 4,
        "n_channel_layers": 1,
        "value_residual": True,
        "skip_connections": True,
    },
    "Demucs": {
        "hidden_channels": 4,
        "growth": 1,
        "depth": 2,
        "norm_from": 1,
        "residual_depth": 1,
        "residual_compression": 1,
        "recurrence_from": None,
        "attention_from": 1,
    },
    "HDemucs": {
        "hidden_channels": 4,
        "growth": 1,
        "depth": 2,
        "kernel_size": 16,
        "stride": 8,
        "norm_from": 1,
        "residual_depth": 1,
        "residual_compression": 1,
        "recurrence_from": None,  # torch.compile breaks its graph at each; test_models_demucs.py has them
        "attention_from": 1,
    },
    "HTDemucs": {
        "hidden_channels": 4,
        "depth": 1,
        "residual_depth": 1,
        "residual_compression": 2,
        "bottleneck_channels": 8,
        "n_layers": 2,
        "n_heads": 2,
        "feed_forward": 1.0,
    },
    "SpectrogramNetLSTM": {"hidden_channels": 2, "hidden_size": 4, "recurrent_depth": 2, "dropout_p": 0.0},
    "SpectrogramNetSimple": {"hidden_channels": 2},
    "SpectrogramNetVAE": {"hidden_channels": 2, "hidden_size": 4, "recurrent_depth": 1},
    "LoRA": {"rank": 2, "network": {"class": "BLSTM", "hidden_size": 8, "n_layers": 1, "n_bands": 12}},
}
