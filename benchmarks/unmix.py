"""Open-Unmix as it is published: its network, and a step of its scripts/train.py; for what is compared with it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

PACKAGE = "openunmix==1.3.0"
ADAM = {"lr": 1e-3, "weight_decay": 1e-5}


class Settings(NamedTuple):
    """What scripts/train.py has by default, but for stereo at 44.1 kHz, which are its data's."""

    rate: int = 44100  # Hz
    n_fft: int = 4096
    hop: int = 1024
    hidden: int = 512
    bandwidth: float = 16000  # Hz that are listened to
    seconds: float = 6.0  # of an example
    batch: int = 16


PUBLISHED = Settings()


def make_encoder(settings: Settings = PUBLISHED) -> nn.Module:
    """Make what turns waveforms (B, C, T) into magnitudes (B, C, F, N)."""
    from openunmix.transforms import ComplexNorm, make_filterbanks

    stft, _ = make_filterbanks(n_fft=settings.n_fft, n_hop=settings.hop, center=True, sample_rate=float(settings.rate))
    return nn.Sequential(stft, ComplexNorm(mono=False))


def make_network(
    settings: Settings = PUBLISHED, mean: np.ndarray | None = None, scale: np.ndarray | None = None
) -> nn.Module:
    """Make the network of a target, standardising its input by mean and scale of all bins (F,)."""
    from openunmix.model import OpenUnmix
    from openunmix.utils import bandwidth_to_max_bin

    return OpenUnmix(
        nb_bins=settings.n_fft // 2 + 1,
        nb_channels=2,
        hidden_size=settings.hidden,
        max_bin=int(bandwidth_to_max_bin(settings.rate, settings.n_fft, settings.bandwidth)),
        input_mean=mean,
        input_scale=scale,
    )


def take_step(
    network: nn.Module,
    encoder: Callable[[Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    mixture: Tensor,
    target: Tensor,
) -> float:
    """Take a step on waveforms (B, C, T), and return its loss."""
    optimizer.zero_grad()
    magnitude = encoder(mixture)
    estimate = network(magnitude)
    loss = nn.functional.mse_loss(estimate, encoder(target))
    loss.backward()
    optimizer.step()
    return loss.item()
