"""Frames of a recording, when one counts as silent, and the framewise SDR that needs nothing else."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sepkit.arguments import is_number
from sepkit.metrics.shapes import Waveform, take_waveforms

SILENT_MODES = ("nan", "museval", "error")


def frame_bounds(length: int, window: float, hop: float) -> list[tuple[int, int]]:
    """List where frames start and stop; samples behind the last whole frame are in none.

    Args:
        length: samples in the recording, >= 1.
        window: samples per frame, > 0; from `length` on (also inf) the recording is one frame.
        hop: samples between frames, > 0; finite where there is more than one frame.

    Returns:
        (start, stop) of each frame, in samples.

    Raises:
        ValueError: window or hop is out of range.

    Source:
        museval 0.4.1, metrics.Framing.
    """
    if not all(is_number(value) and value > 0 for value in (window, hop)):
        raise ValueError(f"window and hop must be > 0 samples, got {window} and {hop}")
    if window >= length:
        return [(0, length)]
    if math.isinf(hop):
        raise ValueError(f"hop must be finite where window is shorter than the signal, got {hop}")
    n_frames = math.floor((length - window + hop) / hop)
    starts = (t * hop for t in range(n_frames))
    return [(math.floor(start), math.floor(min(start + window, length))) for start in starts]


def is_silent(waveform: Tensor) -> Tensor:
    """Return where the sum of the channels is zero at every sample, museval's meaning of silence.

    A pure side signal (left = -right) is silent in this sense.

    Args:
        waveform: (..., C, T).

    Returns:
        (...,), bool.
    """
    silent = torch.ones(waveform.shape[:-2], dtype=torch.bool, device=waveform.device)
    start, size = 0, 256
    while start < waveform.shape[-1] and silent.any():
        silent &= (waveform[..., start : start + size].sum(-2) == 0).all(-1)
        # Almost every signal sounds at once; others are read in pieces that stay small.
        start, size = start + size, min(4 * size, 2**16)
    return silent


def framewise_sdr(
    estimate: Waveform,
    target: Waveform,
    window: float = 44100,
    hop: float = 44100,
    silent: str = "nan",
) -> Tensor:
    """Measure museval's SDR of each frame; no distortion filters enter it, and no gradient leaves.

    A frame in which any scored reference, or any estimate, is silent is NaN for all sources. The three
    `silent` modes differ in what they make of more silence than that.

    Args:
        estimate: (S, C, T).
        target: (S, C, T), as many sources, channels and samples.
        window: samples per frame; from T on (also inf) the recording is one frame.
        hop: samples between frames.
        silent: "nan": a reference that is silent throughout scores NaN, an estimate that is silent
            throughout scores 0 dB, and neither makes frames of the other sources NaN; "museval": silence
            throughout is an error; "error": a silent frame is one, too.

    Returns:
        (S, frames), float64, in dB; +inf where the frame is reproduced exactly.

    Raises:
        ValueError: shapes, window, hop or silent are out of range, or silence that the mode forbids.

    Source:
        museval 0.4.1, mode "v4"; that its filters cancel in SDR is noted by Le Roux et al., SDR - half-baked
        or well done?, ICASSP 2019, section 2.
    """
    estimate, target = take_waveforms(estimate, target, "(S, C, T)", integers=True)
    estimate, target = with_float64(estimate), with_float64(target)
    scored, unscored_frames = silence(estimate, target, window, hop, silent)
    signal, noise = frame_energies(estimate, target, frame_bounds(target.shape[-1], window, hop))
    score = decibels(signal, noise)
    score[:, unscored_frames] = torch.nan
    score[~scored] = torch.nan
    return score


def with_float64(waveform: Tensor) -> Tensor:
    """Move what lies on a device without float64 (MPS) to the CPU."""
    return waveform.cpu() if waveform.device.type == "mps" else waveform


def silence(estimate: Tensor, target: Tensor, window: float, hop: float, silent: str) -> tuple[Tensor, Tensor]:
    """Find the references that can be scored, and the frames that cannot.

    Args:
        estimate: (S, C, T).
        target: (S, C, T).
        window: samples per frame.
        hop: samples between frames.
        silent: what silence means, see `framewise_sdr`.

    Returns:
        bool (S,): the reference is to be scored; bool (frames,): no source has a score in this frame.

    Raises:
        ValueError: the mode is unknown, or silence that it forbids.
    """
    if silent not in SILENT_MODES:
        raise ValueError(f"silent must be one of {', '.join(SILENT_MODES)}, got {silent!r}")
    silent_target, silent_estimate = is_silent(target), is_silent(estimate)
    if silent != "nan":
        _refuse_silence(silent_target, "reference", silent)
        _refuse_silence(silent_estimate, "estimate", silent)
    watched = ((target, ~silent_target), (estimate, ~silent_target & ~silent_estimate))
    bounds = frame_bounds(target.shape[-1], window, hop)
    unscored = [any(bool(is_silent(stems[..., a:b])[these].any()) for stems, these in watched) for a, b in bounds]
    if silent == "error" and any(unscored):
        raise ValueError(
            f"every reference and estimate must sound in every frame, got silence in frame "
            f"{unscored.index(True)}: use silent='nan' to leave such frames out"
        )
    return ~silent_target.cpu(), torch.tensor(unscored)


def frame_energies(
    estimate: Sequence[Tensor], target: Sequence[Tensor], bounds: list[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Sum the squares of target and error in each frame.

    Args:
        estimate: S waveforms (C, T).
        target: S waveforms (C, T).
        bounds: start and stop of each frame, in samples.

    Returns:
        target and error energy, each (S, frames), float64, on the CPU.
    """
    n_channels = len(target[0])
    work = target[0].new_empty(n_channels * max(stop - start for start, stop in bounds), dtype=torch.float64)
    energies = work.new_empty((2, len(target), len(bounds)))
    with torch.no_grad():
        for source, (estimated, wanted) in enumerate(zip(estimate, target, strict=True)):
            for frame, (start, stop) in enumerate(bounds):
                flat = work[: n_channels * (stop - start)]
                part = flat.view(n_channels, stop - start)
                part.copy_(wanted[:, start:stop])
                energies[0, source, frame] = torch.dot(flat, flat)
                part.sub_(estimated[:, start:stop])
                energies[1, source, frame] = torch.dot(flat, flat)
    signal, noise = energies.cpu()
    return signal, noise


def decibels(signal: Tensor, noise: Tensor) -> Tensor:
    """Return 10 log10(signal / noise), +inf where there is no noise, as museval does."""
    return torch.where(noise == 0, torch.inf, 10 * torch.log10(signal / noise))


def _refuse_silence(silent: Tensor, kind: str, mode: str) -> None:
    if silent.any():
        raise ValueError(
            f"every {kind} must sound somewhere with silent={mode!r}, got silence in source "
            f"{int(torch.nonzero(silent)[0])}: use silent='nan' to score the others"
        )
