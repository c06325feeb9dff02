"""Networks, one a file.

A network names in `forward` which quantities it takes: "mixture", (B, C, T), "mixture_spectrogram", complex
(B, C, F, N), "mixture_magnitude", or several. What else it declares is described by `sepkit.models.facts.NetworkFacts`.
"""

from sepkit.models.blstm import BLSTM
from sepkit.models.demucs import Demucs
from sepkit.models.hdemucs import HDemucs
from sepkit.models.htdemucs import HTDemucs
from sepkit.models.spectrogram_net import SpectrogramNetLSTM, SpectrogramNetSimple, SpectrogramNetVAE

__all__ = ["BLSTM", "Demucs", "HDemucs", "HTDemucs", "SpectrogramNetLSTM", "SpectrogramNetSimple", "SpectrogramNetVAE"]
