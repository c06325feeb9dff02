"""Metrics of other packages, with this package's shapes: log_wmse, pesq, stoi. `pip install "sepkit[metrics]"`."""

import math
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import as_waveform, check_count, check_same_device
from sepkit.metrics.shapes import Waveform, take_waveforms


def log_wmse(estimate: Waveform, target: Waveform, mixture: Waveform, sample_rate: int = 44100) -> Tensor:
    """Measure the frequency-weighted error relative to the mixture's level; silent targets have a score, too.

    Channels are measured one by one, and their scores averaged. Differentiable.

    Args:
        estimate: (..., C, T).
        target: (..., C, T).
        mixture: (..., C, T).
        sample_rate: Hz.

    Returns:
        (...,), on a scale like that of decibels, at most 73.7.

    Raises:
        ValueError: the shapes differ.
        ImportError: the package torch-log-wmse is missing.

    Source:
        Landschoot, torch-log-wmse 1.1 (at least 1.0), after Jordal, log-wmse-audio-quality.
    """
    estimate, target = take_waveforms(estimate, target)
    mixture = as_waveform(mixture, "mixture", "(..., C, T)")
    if mixture.shape != target.shape:
        raise ValueError(f"mixture must be shaped as target, {tuple(target.shape)}, got {tuple(mixture.shape)}")
    check_same_device(target=target, mixture=mixture)
    sample_rate = check_count("sample_rate", sample_rate)
    package = _package("torch_log_wmse", "log_wmse")
    score = package.LogWMSE(sample_rate=sample_rate, reduction="none")
    mixture, estimate, target_items = (item.reshape(-1, *target.shape[-2:]) for item in (mixture, estimate, target))
    return score(mixture, estimate[:, :, None], target_items[:, :, None]).reshape(target.shape[:-2])


def pesq(estimate: Waveform, target: Waveform, sample_rate: int) -> Tensor:
    """Measure the perceived quality of speech, averaged over the channels.

    Args:
        estimate: (..., C, T).
        target: (..., C, T).
        sample_rate: 16000 Hz (wide band) or 8000 Hz (narrow band); resample before.

    Returns:
        (...,), mean opinion score of 1 .. 4.6, float64; NaN where the target holds no utterance.

    Raises:
        ValueError: the shapes differ, or the rate is another.
        ImportError: the package pesq is missing.

    Source:
        ITU-T P.862.2 (wide band) and P.862.1, through the package pesq.
    """
    estimate, target = take_waveforms(estimate, target)
    if sample_rate not in (8000, 16000):
        raise ValueError(f"sample_rate must be 16000 or 8000 Hz for PESQ, got {sample_rate}: resample the files")
    package = _package("pesq", "pesq")

    def score(given, wanted) -> float:
        try:
            return package.pesq(sample_rate, wanted, given, "wb" if sample_rate == 16000 else "nb")
        except package.NoUtterancesError:
            return float("nan")

    return _by_channel(score, estimate, target)


def stoi(estimate: Waveform, target: Waveform, sample_rate: int, extended: bool = False) -> Tensor:
    """Measure the intelligibility of speech, averaged over the channels.

    Args:
        estimate: (..., C, T).
        target: (..., C, T).
        sample_rate: Hz; the measure itself works at 10 kHz.
        extended: ESTOI, for noise that fluctuates.

    Returns:
        (...,), at most 1, float64; NaN where the target is silent.

    Raises:
        ValueError: the shapes differ.
        ImportError: the package pystoi is missing.

    Source:
        Taal et al., IEEE TASLP 19(7), 2011; extended: Jensen and Taal, IEEE TASLP 24(11), 2016; package pystoi.
    """
    estimate, target = take_waveforms(estimate, target)
    sample_rate = check_count("sample_rate", sample_rate)
    package = _package("pystoi", "stoi")

    def score(given, wanted) -> float:
        return package.stoi(wanted, given, sample_rate, extended=extended) if wanted.any() else float("nan")

    return _by_channel(score, estimate, target)


def _by_channel(score: Callable[..., float], estimate: Tensor, target: Tensor) -> Tensor:
    """Average a score of two numpy waveforms over the channels."""
    rows = [waveform.detach().cpu().double().flatten(0, -2).numpy() for waveform in (estimate, target)]
    pairs = zip(*rows, strict=True)
    scores = [score(*pair) if all(np.isfinite(row).all() for row in pair) else math.nan for pair in pairs]
    return torch.tensor(scores, dtype=torch.float64).reshape(target.shape[:-1]).mean(-1)


def _package(module: str, metric: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{metric} needs the package {module.replace('_', '-')}: pip install 'sepkit[metrics]'"
        ) from error
