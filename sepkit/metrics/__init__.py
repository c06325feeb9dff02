"""Metrics of separation: waveforms in, decibels out; higher is better."""

from .frames import framewise_sdr
from .ratios import improvement, sd_sdr, sdr, si_sdr, snr

__all__ = ["framewise_sdr", "improvement", "sd_sdr", "sdr", "si_sdr", "snr"]
