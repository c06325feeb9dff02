"""The metrics of one track."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sepkit import metrics
from sepkit.baselines import ORACLE_BLOCK, ORACLE_MARGIN
from sepkit.evaluation.settings import FRAMEWISE, Settings
from sepkit.metrics.bootstrap import median
from sepkit.metrics.frames import frame_bounds, is_silent, silence
from sepkit.metrics.units import NOT_DECIBELS

# Bytes: correlations that the metrics keep at most, and all else they need; the oracle's spectrograms, a sample;
# those of the metrics that compare spectrograms, a sample.
_KEPT, _WORK, _ORACLE, _SPECTRA = 512 * 2**20, 75 * 2**20, 40, 50


class TrackAudio(NamedTuple):
    """The waveforms of one track."""

    mixture: Tensor | None  # (C, T); None: nobody knows it
    reference: Tensor  # (S, C, T)
    estimate: Tensor  # (S, C, T)
    names: Sequence[str] | None = None  # of the S targets, for warnings


class Group(NamedTuple):
    """Targets that are scored together, and those of them whose scores are kept."""

    together: slice
    kept: slice = slice(None)


EVERYTHING = (Group(slice(None)),)


@dataclass(frozen=True)
class Measurement:
    """The scores of the S targets of a track.

    Attributes:
        frames: (4, S, frames) float64: SDR, ISR, SIR, SAR; NaN what was not asked for.
        whole: by metric of the whole track, (S,).
    """

    frames: Tensor
    whole: dict[str, Tensor]

    def value(self, metric: str, source: int) -> float:
        """Give one number; of frames the median of those that have a score."""
        if metric in FRAMEWISE:
            return float(median(self.frames[FRAMEWISE.index(metric), source]))
        return float(self.whole[metric][source])


def measure(
    material: TrackAudio, sample_rate: int, settings: Settings, groups: Sequence[Group] = EVERYTHING
) -> Measurement:
    """Score the estimates of one track.

    A reference that is silent throughout has no score but log_wmse. An estimate that is silent throughout scores
    0 dB in SDR, ISR, uSDR and SNR, and nothing scale-invariant. Where one reference alone sounds there is no SIR.

    Args:
        material: of the track.
        sample_rate: Hz.
        settings: what is measured, and how.
        groups: which targets are scored together; all targets are kept by one of them.
    """
    n_sources = len(material.reference)
    found = {}
    for together, kept in groups:
        names = material.names and material.names[together]
        part = TrackAudio(material.mixture, material.reference[together], material.estimate[together], names)
        measured = _measure_together(part, sample_rate, settings)
        places = list(enumerate(range(n_sources)[together]))[kept]
        found.update({source: (measured, place) for place, source in places})
    chosen = [found[source] for source in range(n_sources)]
    metric_names = chosen[0][0].whole
    return Measurement(
        torch.stack([measured.frames[:, place] for measured, place in chosen], dim=1),
        {name: torch.stack([measured.whole[name][place] for measured, place in chosen]) for name in metric_names},
    )


def _measure_together(material: TrackAudio, sample_rate: int, settings: Settings) -> Measurement:
    window, hop = (int(seconds * sample_rate) for seconds in (settings.window, settings.hop))  # as museval cuts
    engine = museval_engine() if settings.engine == "museval" and settings.framewise else score_frames
    frames = engine(material, window, hop, settings)
    if (~is_silent(material.reference)).sum() == 1:
        frames[FRAMEWISE.index("SIR")] = torch.nan
    whole = {name: WHOLE[name](material, sample_rate) for name in settings.metrics if name in WHOLE}
    quiet = is_silent(material.estimate)
    for name in _SCALED & whole.keys():
        whole[name] = torch.where(quiet, torch.nan, whole[name])
    absent = (material.reference == 0).flatten(1).all(1)
    for name in _LEVELLED & whole.keys():
        whole[name] = torch.where(absent, torch.nan, whole[name])
    return Measurement(frames, whole)


def _mixed(material: TrackAudio) -> Tensor:
    return material.mixture.expand_as(material.reference)


def _si_sdr_improvement(material: TrackAudio, _sample_rate: int) -> Tensor:
    score = metrics.si_sdr(material.estimate, material.reference)
    return metrics.improvement(score, metrics.si_sdr(_mixed(material), material.reference))


def _stem_by_stem(metric: Callable[..., Tensor], material: TrackAudio, *given: object) -> Tensor:
    """Hold the spectrograms of one stem at a time."""
    pairs = zip(material.estimate, material.reference, strict=True)
    return torch.stack([metric(estimate, reference, *given) for estimate, reference in pairs])


WHOLE: dict[str, Callable[[TrackAudio, int], Tensor]] = {
    "SI-SDR": lambda given, _: metrics.si_sdr(given.estimate, given.reference),
    "SI-SDRi": _si_sdr_improvement,
    "uSDR": lambda given, _: metrics.sdr(given.estimate, given.reference),
    "SNR": lambda given, _: metrics.snr(given.estimate, given.reference),
    "SD-SDR": lambda given, _: metrics.sd_sdr(given.estimate, given.reference),
    "SI-SIR": lambda given, _: metrics.si_sir(given.estimate, given.reference),
    "SI-SAR": lambda given, _: metrics.si_sar(given.estimate, given.reference),
    "l1_freq": lambda given, _: _stem_by_stem(metrics.l1_freq, given),
    "bleedless": lambda given, rate: _stem_by_stem(metrics.bleedless, given, rate),
    "fullness": lambda given, rate: _stem_by_stem(metrics.fullness, given, rate),
    "log_wmse": lambda given, rate: _stem_by_stem(metrics.log_wmse, given, given.mixture, rate),
    "PESQ": lambda given, rate: metrics.pesq(given.estimate, given.reference, rate),
    "STOI": lambda given, rate: metrics.stoi(given.estimate, given.reference, rate),
}
_SCALED = frozenset(("SI-SDR", "SI-SDRi", "SI-SIR", "SI-SAR", "SD-SDR"))  # mean nothing of a silent estimate
_LEVELLED = frozenset(("l1_freq", "bleedless", "fullness"))  # have a value for a silent reference, but no meaning


def score_frames(material: TrackAudio, window: float, hop: float, settings: Settings) -> Tensor:
    """Measure SDR, ISR, SIR and SAR of frames, (4, S, frames); NaN what is not asked for."""
    reference = material.reference
    if not settings.framewise:
        n_frames = len(frame_bounds(reference.shape[-1], window, hop))
        return torch.full((len(FRAMEWISE), len(reference), n_frames), torch.nan, dtype=torch.float64)
    found = metrics.bss_eval(
        material.estimate,
        reference,
        window,
        hop,
        framewise_filters=settings.mode == "v3",
        metrics=settings.framewise,
        silent=settings.silent,
        names=material.names,
    )
    return torch.stack(found[: len(FRAMEWISE)])


@cache
def museval_engine() -> Callable[[TrackAudio, float, float, Settings], Tensor]:
    """Take museval's own implementation, silenced, in place of `score_frames`.

    Raises:
        ImportError: museval is not installed, or ffmpeg and ffprobe, which it wants even for waveforms, are not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from museval.metrics import bss_eval as original
        except RuntimeError as error:  # stempeg's, which museval imports
            raise ImportError(str(error)) from error
    if not hasattr(np.linalg, "linalg"):
        np.linalg.linalg = np.linalg  # museval 0.4.1 looks for LinAlgError there, which numpy 2.4 removed

    def run(material: TrackAudio, window: float, hop: float, settings: Settings) -> Tensor:
        reference, estimate = material.reference, material.estimate
        silence(estimate, reference, window, hop, settings.silent)
        frames = torch.stack(metrics.bss_eval(estimate, reference, window, hop, metrics=["SDR"], silent="nan")[:4])
        sounding, quiet = ~is_silent(reference), is_silent(estimate)
        of_silence = frames[0, quiet]
        if (sounding & ~quiet).any():
            # Other estimates matter to the scores of a source by their silence only: references stand in for those.
            audible = torch.where(quiet[:, None, None], reference, estimate)[sounding].transpose(1, 2)  # (S, T, C)
            given = (reference[sounding].transpose(1, 2).double().numpy(), audible.double().numpy())
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = original(*given, window=window, hop=hop, framewise_filters=settings.mode == "v3")
            frames[:, sounding] = torch.from_numpy(np.stack(found[:4]))
        frames[:2, quiet], frames[2:, quiet] = of_silence, torch.nan
        frames[[i for i, name in enumerate(FRAMEWISE) if name not in settings.metrics]] = torch.nan
        return frames

    return run


def expected_memory(
    n_targets: int, n_channels: int, n_samples: int, sample_rate: int, settings: Settings, baselines: bool
) -> int:
    """Estimate the memory that scoring a track takes, in bytes, beside the model and the libraries.

    Args:
        n_targets: S, scored together.
        n_channels: C.
        n_samples: T.
        sample_rate: Hz.
        settings: what is measured, and how.
        baselines: the oracle is scored, too.
    """
    waveform = 4 * n_channels * n_samples
    whole = set(settings.metrics) - set(FRAMEWISE)
    copies = 3 if whole & {"SI-SIR", "SI-SAR"} else int(bool(whole - set(NOT_DECIBELS)))
    size = _WORK + waveform * (1 + (2 + baselines + copies) * n_targets)
    if baselines:
        size += _ORACLE * (ORACLE_BLOCK + 2 * ORACLE_MARGIN) * sample_rate * n_channels * n_targets
    if whole & set(NOT_DECIBELS):
        size += _SPECTRA * n_channels * n_samples
    if set(settings.framewise) <= {"SDR"}:
        return size
    n_rows, taps = n_targets * n_channels, 512
    if settings.engine == "museval":
        return size + 32 * n_rows * 2 ** math.ceil(math.log2(n_samples + taps)) + 40 * (n_rows * taps) ** 2
    n_frames = 1 if settings.mode == "v3" else math.ceil(n_samples / (settings.hop * sample_rate))
    return size + min(_KEPT, 16 * n_frames * n_rows**2 * taps)
