"""Twice or half the rate inside a network, by a windowed sinc."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.constant import Constant

_N_ZEROS = 24  # zero crossings on either side
_ROLLOFF = 0.945  # of the lower Nyquist frequency


class Resampler(nn.Module):
    """Resample (..., T) from `old` to `new` samples of the same time, 1 and 2 or 2 and 1.

    Source:
        J. Smith, Digital audio resampling, 2002; window and roll-off are those of A. Défossez' julius, whose constants
        these are.
    """

    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        self.old, self.new = old, new
        rate = min(old, new) * _ROLLOFF
        self.reach = math.ceil(_N_ZEROS * old / rate)
        samples = np.arange(-self.reach, self.reach + old) / old
        phases = np.arange(new)[:, None] / new
        places = ((samples - phases) * rate).clip(-_N_ZEROS, _N_ZEROS)
        kernels = np.sinc(places) * np.cos(np.pi * places / (2 * _N_ZEROS)) ** 2
        self.kernels = Constant(torch.from_numpy(kernels / kernels.sum(1, keepdims=True))[:, None])

    def forward(self, waveform: Tensor) -> Tensor:
        length = waveform.shape[-1] * self.new // self.old
        padded = F.pad(waveform.reshape(-1, 1, waveform.shape[-1]), (self.reach, self.reach + self.old), "replicate")
        phases = F.conv1d(padded, self.kernels(padded), stride=self.old)  # (B, new, T / old)
        return phases.mT.reshape(*waveform.shape[:-1], -1)[..., :length]
