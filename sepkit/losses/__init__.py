"""Losses: distances of an estimate from its target.

A loss is an `nn.Module` whose `forward` names the quantities it compares (`estimate, target`: waveforms
(B, C, T); `estimate_magnitude, target_magnitude`: (B, C, F, N); and so on) and whose value falls as the
estimate improves. `reduction` is mean, sum or none; none gives one value per item, or per item and channel where
a loss treats channels one by one. A loss of several terms is a `CompositeLoss`, whose `parts(...)` takes what
`forward` takes and returns the terms by name.
"""

from sepkit.lazy import lazy_names
from sepkit.losses.complex_stft import MultiResolutionComplexSTFTLoss
from sepkit.losses.composite import CompositeLoss
from sepkit.losses.filters import FIRFilter, SumAndDifference
from sepkit.losses.l1snr import L1SNRDBLoss, L1SNRLoss, L2SNRLoss, dbrms
from sepkit.losses.l1snr_spectra import MultiL1SNRDBLoss, STFTL1SNRDBLoss
from sepkit.losses.latent import KLDivergenceLoss, kl_div_loss
from sepkit.losses.magnitude import (
    MagnitudeL1Loss,
    MagnitudeL2Loss,
    MagnitudeLogL1Loss,
    MagnitudeLogL2Loss,
    MagnitudeRMSELoss,
    RelativeSpectralLoss,
    SpectralConvergenceLoss,
    STFTMagnitudeLoss,
)
from sepkit.losses.mask import ComponentLoss, MaskLoss, component_loss, mask_loss
from sepkit.losses.multi_resolution_stft import (
    MultiResolutionSTFTLoss,
    RandomResolutionSTFTLoss,
    SumAndDifferenceSTFTLoss,
)
from sepkit.losses.permutation import PermutationInvariantLoss
from sepkit.losses.stft import ChromaSTFTLoss, MelSTFTLoss, STFTLoss
from sepkit.losses.transport import MultiResolutionSOTLoss, Wasserstein1DLoss
from sepkit.losses.wasserstein import quantile_function, wasserstein_1d, wasserstein_1d_circle
from sepkit.losses.waveform import (
    DCLoss,
    ESRLoss,
    LogCoshLoss,
    SDSDRLoss,
    SISDRLoss,
    SNRLoss,
    WaveformL1Loss,
    WaveformL2Loss,
)

__all__ = [
    "ChromaSTFTLoss",
    "ComponentLoss",
    "CompositeLoss",
    "DCLoss",
    "ESRLoss",
    "FIRFilter",
    "KLDivergenceLoss",
    "L1Loss",
    "L1SNRDBLoss",
    "L1SNRLoss",
    "L2Loss",
    "L2SNRLoss",
    "LogCoshLoss",
    "LogL1Loss",
    "LogL2Loss",
    "MagnitudeL1Loss",
    "MagnitudeL2Loss",
    "MagnitudeLogL1Loss",
    "MagnitudeLogL2Loss",
    "MagnitudeRMSELoss",
    "MaskLoss",
    "MelSTFTLoss",
    "MultiL1SNRDBLoss",
    "MultiResolutionComplexSTFTLoss",
    "MultiResolutionSOTLoss",
    "MultiResolutionSTFTLoss",
    "PermutationInvariantLoss",
    "RMSELoss",
    "RandomResolutionSTFTLoss",
    "RelativeSpectralLoss",
    "SDSDRLoss",
    "SISDRLoss",
    "SNRLoss",
    "STFTL1SNRDBLoss",
    "STFTLoss",
    "STFTMagnitudeLoss",
    "SpectralConvergenceLoss",
    "SumAndDifference",
    "SumAndDifferenceSTFTLoss",
    "Wasserstein1DLoss",
    "WaveformL1Loss",
    "WaveformL2Loss",
    "component_loss",
    "dbrms",
    "kl_div_loss",
    "mask_loss",
    "quantile_function",
    "si_sdr_loss",
    "wasserstein_1d",
    "wasserstein_1d_circle",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    dict.fromkeys(
        ("L1Loss", "L2Loss", "LogL1Loss", "LogL2Loss", "RMSELoss", "si_sdr_loss"),
        "sepkit.auralflow.losses",
    ),
    __all__,
)
