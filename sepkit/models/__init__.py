"""Networks, one a file.

A network names in `forward` which quantities it takes: "mixture", (B, C, T), "mixture_spectrogram", complex
(B, C, F, N), "mixture_magnitude", or several. What else it declares is described by `sepkit.models.facts.NetworkFacts`.
`LoRA` is no network by itself, but around one, so that it is not among `__all__`.
"""

from sepkit.models.band_split_rnn import BandSplitRNN
from sepkit.models.band_split_roformer import BandSplitRoFormer
from sepkit.models.blstm import BLSTM
from sepkit.models.conv_tasnet import ConvTasNet
from sepkit.models.demucs import Demucs
from sepkit.models.hdemucs import HDemucs
from sepkit.models.htdemucs import HTDemucs
from sepkit.models.lora import LoRA as LoRA
from sepkit.models.mdx23c import MDX23C
from sepkit.models.open_unmix import OpenUnmix
from sepkit.models.scnet import SCNet
from sepkit.models.spectrogram_net import SpectrogramNetLSTM, SpectrogramNetSimple, SpectrogramNetVAE

__all__ = [
    "BLSTM",
    "MDX23C",
    "BandSplitRNN",
    "BandSplitRoFormer",
    "ConvTasNet",
    "Demucs",
    "HDemucs",
    "HTDemucs",
    "OpenUnmix",
    "SCNet",
    "SpectrogramNetLSTM",
    "SpectrogramNetSimple",
    "SpectrogramNetVAE",
]
