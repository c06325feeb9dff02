"""Networks, one a file: complex spectrogram (B, C, F, N) in, mask (B, S, C, F, N) out.

A network may say more of itself by class attributes: `outputs`, the names of what its forward returns
(default: the mask alone); `frame_multiple`, to which the Separator pads (default 1); and a method
`fit(spectrograms)`, called once before the first step.
"""

from sepkit.models.blstm import BLSTM
from sepkit.models.spectrogram_net import SpectrogramNetLSTM, SpectrogramNetSimple, SpectrogramNetVAE

__all__ = ["BLSTM", "SpectrogramNetLSTM", "SpectrogramNetSimple", "SpectrogramNetVAE"]
