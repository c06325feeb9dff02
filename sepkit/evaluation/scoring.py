"""The metrics of one track, and what stands beside a model: trivial estimates and the oracle."""

import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sepkit.masks import ideal_ratio_mask
from sepkit.metrics import bss_eval, sdr, si_sdr
from sepkit.metrics.frames import is_silent
from sepkit.transforms import STFT

FRAMEWISE = ("SDR", "ISR", "SIR", "SAR")
_ORACLE_BLOCK, _ORACLE_MARGIN = 10, 1  # s that are masked at a time, and s on either side that hide the cuts
Engine = Callable[[Tensor, Tensor, float, float], Tensor]


class Material(NamedTuple):
    """The waveforms of one track."""

    mixture: Tensor  # (C, T)
    reference: Tensor  # (S, C, T)
    estimate: Tensor  # (S, C, T)


@dataclass(frozen=True)
class Measurement:
    """The scores of the S targets of a track.

    Attributes:
        frames: (4, S, frames) float64: SDR, ISR, SIR, SAR.
        whole: by metric, (S,): SI-SDR, SI-SDRi, uSDR.
    """

    frames: Tensor
    whole: dict[str, Tensor]

    def values(self, source: int) -> dict[str, float]:
        """Give one number a metric; of frames the median of those that have a score."""
        medians = {name: _median(self.frames[i, source]) for i, name in enumerate(FRAMEWISE)}
        return {**medians, **{name: float(value[source]) for name, value in self.whole.items()}}


def measure(
    material: Material, sample_rate: int, window: float, hop: float, engine: Engine
) -> Measurement:
    """Score the estimates of one track.

    A reference that is silent throughout has no score. An estimate that is silent throughout scores 0 dB in SDR,
    ISR and uSDR, and in nothing else. Where one reference alone sounds there is no SIR.

    Args:
        material: of the track.
        sample_rate: Hz.
        window: seconds per frame.
        hop: seconds between frames.
        engine: gives SDR, ISR, SIR and SAR, (4, S, frames), of estimate, reference, window and hop in samples.
    """
    mixture, reference, estimate = material
    window, hop = int(window * sample_rate), int(hop * sample_rate)  # cut as museval cuts
    frames = engine(estimate, reference, window, hop)
    if (~is_silent(reference)).sum() == 1:
        frames[FRAMEWISE.index("SIR")] = torch.nan
    scale_invariant = torch.where(is_silent(estimate), torch.nan, si_sdr(estimate, reference))
    whole = {
        "SI-SDR": scale_invariant,
        "SI-SDRi": scale_invariant - si_sdr(mixture.expand_as(reference), reference),
        "uSDR": sdr(estimate, reference),
    }
    return Measurement(frames, whole)


def score_frames(
    estimate: Tensor, reference: Tensor, window: float, hop: float, metrics: Sequence[str] = FRAMEWISE
) -> Tensor:
    """Measure SDR, ISR, SIR and SAR of frames, (4, S, frames); NaN what is not asked for."""
    return torch.stack(bss_eval(estimate, reference, window, hop, metrics=metrics)[: len(FRAMEWISE)])


def museval_engine() -> Engine:
    """Take museval's own implementation, silenced.

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

    def run(estimate: Tensor, reference: Tensor, window: float, hop: float) -> Tensor:
        frames = score_frames(estimate, reference, window, hop, ["SDR"])
        sounding, quiet = ~is_silent(reference), is_silent(estimate)
        of_silence = frames[0, quiet]
        if (sounding & ~quiet).any():
            # Other estimates matter to the scores of a source by their silence only: references stand in for those.
            audible = torch.where(quiet[:, None, None], reference, estimate)[sounding].transpose(1, 2)  # (S, T, C)
            sources = reference[sounding].transpose(1, 2)
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = original(sources.double().numpy(), audible.double().numpy(), window=window, hop=hop)
            frames[:, sounding] = torch.from_numpy(np.stack(found[:4]))
        frames[:2, quiet], frames[2:, quiet] = of_silence, torch.nan
        return frames

    return run


def baseline_estimates(material: Material, transform: STFT, sample_rate: int) -> Iterator[tuple[str, Tensor]]:
    """Yield names and estimates (S, C, T) of what needs no model: mixture/S, silence, and the ideal ratio mask."""
    mixture, reference = material.mixture, material.reference
    n_sources = len(reference)
    yield f"mixture/{n_sources}", (mixture / n_sources).expand_as(reference)
    yield "silence", torch.zeros(()).expand_as(reference)
    yield "oracle", mask_ideally(mixture, reference, transform, sample_rate)


@torch.inference_mode()
def mask_ideally(mixture: Tensor, reference: Tensor, transform: STFT, sample_rate: int) -> Tensor:
    """Separate with the ideal ratio mask, ten seconds at a time.

    Args:
        mixture: (C, T).
        reference: (S, C, T).
        transform: in whose bins the mask is taken.
        sample_rate: Hz.

    Returns:
        (S, C, T).
    """
    device = next(transform.buffers()).device
    length, margin = mixture.shape[-1], _ORACLE_MARGIN * sample_rate
    estimate = torch.empty_like(reference)
    for start in range(0, length, _ORACLE_BLOCK * sample_rate):
        stop = min(length, start + _ORACLE_BLOCK * sample_rate)
        first, last = max(0, start - margin), min(length, stop + margin)
        spectrogram = transform(mixture[None, :, first:last].to(device))  # (1, C, F, N)
        targets = transform(reference[None, :, :, first:last].to(device))
        mask = ideal_ratio_mask(targets, spectrogram - targets.sum(1))
        found = transform.inverse(mask * spectrogram.unsqueeze(1), last - first)[0]
        estimate[..., start:stop] = found[..., start - first : stop - first].cpu()
    return estimate


def _median(values: Tensor) -> float:
    known = [value for value in values.tolist() if not math.isnan(value)]
    return statistics.median(known) if known else math.nan
