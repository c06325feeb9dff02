"""Metrics of separation: waveforms in, decibels out; higher is better."""

from .decomposition import BSSEval, bss_eval
from .frames import framewise_sdr
from .ratios import improvement, sd_sdr, sdr, si_sdr, snr

__all__ = ["BSSEval", "bss_eval", "framewise_sdr", "improvement", "sd_sdr", "sdr", "si_sdr", "snr"]
