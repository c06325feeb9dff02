"""Metrics of separation: waveforms in, scores out, most of them decibels; higher is better.

Waveforms are tensors or numpy arrays in floating point, full scale at 1, with channels before samples; scores are
tensors. A metric of waveforms that hold NaN is NaN, but for ISR, SIR and SAR, which refuse them.
"""

from sepkit.metrics.bss_eval import BSSEval, bss_eval
from sepkit.metrics.frames import framewise_sdr
from sepkit.metrics.perceptual import log_wmse, pesq, stoi
from sepkit.metrics.ratios import improvement, sd_sdr, sdr, si_sar, si_sdr, si_sir, snr
from sepkit.metrics.spectral import bleedless, fullness, l1_freq

__all__ = [
    "BSSEval",
    "bleedless",
    "bss_eval",
    "framewise_sdr",
    "fullness",
    "improvement",
    "l1_freq",
    "log_wmse",
    "pesq",
    "sd_sdr",
    "sdr",
    "si_sar",
    "si_sdr",
    "si_sir",
    "snr",
    "stoi",
]
