"""Triangular filters on the mel scales of HTK and of Slaney."""

import math
from typing import Literal

import torch
from torch import Tensor

_SLANEY_BREAK, _SLANEY_STEP = 1000.0, math.log(6.4) / 27  # Hz and 15 mel, where the scale turns logarithmic


def _to_mel(hertz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    return hertz * 3 / 200 if hertz < _SLANEY_BREAK else 15 + math.log(hertz / _SLANEY_BREAK) / _SLANEY_STEP


def _to_hertz(mel: Tensor, scale: str) -> Tensor:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return torch.where(mel < 15, mel * 200 / 3, _SLANEY_BREAK * torch.exp(_SLANEY_STEP * (mel - 15)))


def mel_bands(
    frequencies: Tensor,
    n_mels: int,
    *,
    lowest: float,
    highest: float,
    scale: Literal["htk", "slaney"] = "htk",
    area: bool = False,
) -> Tensor:
    """Build triangular filters that are evenly spaced in mel.

    Args:
        frequencies: (F,), Hz, of the bins; in their precision it is computed.
        n_mels: bands M.
        lowest: lower edge of the first band, Hz.
        highest: upper edge of the last band, Hz.
        scale: htk, or slaney: linear to 1 kHz, logarithmic above.
        area: give every filter the area of 1 Hz, instead of a peak of 1.

    Returns:
        (M, F), float32.

    Source:
        S. Young et al., The HTK Book, 2006, section 5.4, the values of torchaudio where frequencies are float32.
        M. Slaney, Auditory Toolbox, 1998; rounded to float32 before and after the division, as in librosa 0.11.
    """
    mels = torch.linspace(_to_mel(lowest, scale), _to_mel(highest, scale), n_mels + 2, dtype=frequencies.dtype)
    edges = _to_hertz(mels, scale)
    widths = edges.diff()[:, None]
    distances = frequencies - edges[:, None]  # (M + 2, F)
    rising, falling = distances[:-2] / widths[:-1], -distances[2:] / widths[1:]
    triangles = torch.minimum(rising, falling).clamp(min=0).float()
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).float() if area else triangles
