"""BSS Eval: how much of an estimate is target, filtered target, other sources, and nothing of these."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import is_integer
from sepkit.metrics.bss_eval.alignment import find_misalignment
from sepkit.metrics.bss_eval.correlations import Correlator
from sepkit.metrics.bss_eval.projections import Frames, Parts, Split
from sepkit.metrics.bss_eval.toeplitz import BlockToeplitz
from sepkit.metrics.frames import decibels, frame_bounds, frame_energies, is_silent, silence, with_float64
from sepkit.metrics.shapes import Waveform, take_waveforms

METRICS = ("SDR", "ISR", "SIR", "SAR")
# museval adds it to the diagonal of its normal equations, whatever their scale.
_RIDGE = float(np.finfo(np.float64).eps)
# Correlations of all frames are kept up to this size; beyond, the recording is read twice.
_KEPT_BYTES = 512 * 2**20
_GROUP = 8
# Least power of the references in any band, relative to their mean: 16-bit rounding leaves 1e-9 and more.
_EMPTY_BAND = 1e-11


class BSSEval(NamedTuple):
    """Scores in dB, float64 (S, frames) each, NaN where there is none, and the order of the estimates.

    `permutation[j, t]` is the estimate that was scored against reference j in frame t; its second dimension is 1
    where one order holds for the whole recording.
    """

    sdr: Tensor
    isr: Tensor
    sir: Tensor
    sar: Tensor
    permutation: Tensor


def bss_eval(
    estimate: Waveform,
    target: Waveform,
    window: float = 44100,
    hop: float = 44100,
    filters: int = 512,
    framewise_filters: bool = False,
    permute: bool = False,
    metrics: Sequence[str] = METRICS,
    silent: str = "nan",
    names: Sequence[str] | None = None,
) -> BSSEval:
    """Measure museval's SDR, ISR, SIR and SAR of each frame, with energies summed over samples and channels.

    Computed in float64 on the tensors' device, on the CPU with one thread. Samples behind the last whole frame are not
    scored, but shape the filters of version 4.

    Args:
        estimate: (S, C, T), real; integers are taken as they are.
        target: (S, C, T), all references of the recording.
        window: samples per frame; from T on (also inf) the recording is one frame.
        hop: samples between frames.
        filters: taps of the distortion filters, >= 1.
        framewise_filters: new filters for each frame (BSS Eval version 3, "images"), not one set (version 4).
        permute: score the order of the estimates that has the highest mean SIR, of the recording, or of each frame
            with framewise filters. Frames without score do not count; with silent="museval" they keep the given order.
        metrics: those to measure, the others are NaN; "SDR" alone needs no filters and takes a tenth of the time.
        silent: a frame in which a reference or an estimate is silent (its channels add up to zero) is NaN for all
            sources. "nan": a reference that is silent throughout is left out, with its estimate, as if it had not
            been given, and scores NaN; an estimate that is silent throughout silences no other source, and has 0 dB
            SDR and ISR, NaN SIR and SAR. "museval": silence throughout is an error. "error": a silent frame is, too.
        names: of the sources, for warnings; None: their numbers.

    Returns:
        scores and permutation, on the CPU; +inf where a denominator is exactly zero, as SIR with one source.

    Raises:
        ValueError: an argument is out of range, samples are not finite, or silence that the mode forbids.

    Warns:
        UserWarning: rounding decides ISR, SIR and SAR (in museval, too), since the references leave a band empty; or an
            estimate is probably delayed, inverted or scaled.

    Source:
        museval 0.4.1, metrics.bss_eval; Vincent et al., Performance measurement in blind audio source separation,
        IEEE TASLP 14(4), 2006; Stöter et al., The 2018 signal separation evaluation campaign, LVA/ICA 2018.
    """
    estimate, target = _checked(estimate, target, filters, metrics)
    labels = _labels(names, len(target))
    scored, unscored = silence(estimate, target, window, hop, silent)
    scores = torch.full((len(METRICS), len(target), len(unscored)), torch.nan, dtype=torch.float64)
    order = torch.arange(len(target))[:, None].repeat(1, len(unscored) if framewise_filters else 1)
    if scored.any() and not unscored.all():
        present = torch.nonzero(scored).flatten()
        bounds = frame_bounds(target.shape[-1], window, hop)
        sounding = [[items[i] for i in present] for items in (estimate, target, labels)]
        recording = _Recording(*sounding, bounds, ~unscored, int(filters))
        with _one_thread(target.device), torch.no_grad():
            table = _score_pairs(recording, framewise_filters, permute, {*metrics} <= {"SDR"})
        best = _best_order(table[2], order.shape[1], silent == "museval") if permute else order[: len(present)]
        order[present] = present[best]
        scores[:, present] = table[:, torch.arange(len(present))[:, None], best, torch.arange(len(unscored))]
    scores[[name not in metrics for name in METRICS]] = torch.nan
    return BSSEval(*scores, order)


class _Recording(NamedTuple):
    """A recording to score: R estimates and references (C, T), and frames, of which some are valid."""

    estimates: list[Tensor]
    targets: list[Tensor]
    labels: list[str]
    bounds: list[tuple[int, int]]
    valid: Tensor
    n_lags: int


def _score_pairs(recording: _Recording, framewise_filters: bool, permute: bool, only_sdr: bool) -> Tensor:
    """Score each reference (first R) with its estimate (second R), or with all estimates: (4, R, R, frames)."""
    estimates, targets, _, bounds, valid, _ = recording
    n_sources, n_frames = len(targets), len(bounds)
    pairs = [(j, e) for j in range(n_sources) for e in range(n_sources) if permute or j == e]
    signal, error = frame_energies([estimates[e] for _, e in pairs], [targets[j] for j, _ in pairs], bounds)
    table = torch.full((len(METRICS), n_sources, n_sources, n_frames), torch.nan, dtype=torch.float64)
    rows, columns = torch.tensor(pairs).T
    table[0, rows, columns] = decibels(signal, error)
    if permute or not only_sdr:
        _require_finite(error)
        if not permute:
            _warn_of_alignment(recording, signal)
        parts = _framewise_parts(recording, pairs) if framewise_filters else _global_parts(recording, pairs)
        parts = Parts(*parts.cpu())
        table[1, rows, columns] = decibels(signal, parts.spatial)
        table[2, rows, columns] = decibels(parts.own, parts.interference)
        table[3, rows, columns] = decibels(parts.projection, parts.artifacts)
        mute = [e for e, waveform in enumerate(estimates) if is_silent(waveform)]
        table[2:, :, mute] = torch.nan
    table[..., ~valid] = torch.nan
    return table


def _global_parts(recording: _Recording, pairs: list[tuple[int, int]]) -> Tensor:
    """Split with one set of filters for the recording: (5, pairs, frames)."""
    correlator = Correlator(recording.estimates, recording.targets, recording.n_lags)
    length = recording.targets[0].shape[-1]
    if _can_be_summed(recording):
        kept = _correlate(correlator, recording.bounds)
        end = recording.bounds[-1][1]
        cuts = [stop for _, stop in recording.bounds if stop < length]
        total = torch.cat([kept.references.sum(0), kept.estimates.sum(0)], dim=1) + correlator.borders(cuts)
        if end < length:
            total += correlator.stretch(end, length)[0]
        groups = [kept]
    else:
        total, _ = correlator.stretch(0, length)
        groups = (_correlate(correlator, bounds) for bounds in _grouped(recording.bounds, _GROUP))
    _require_finite(total)
    n_rows = len(total)
    splits = _splits(total[None, :, :n_rows], total[None, :, n_rows:], recording, pairs)[0]
    return torch.cat([_parts(splits, frames, recording) for frames in groups], dim=-1)


def _framewise_parts(recording: _Recording, pairs: list[tuple[int, int]]) -> Tensor:
    """Split each valid frame with its own filters: (5, pairs, frames)."""
    correlator = Correlator(recording.estimates, recording.targets, recording.n_lags)
    places = torch.nonzero(recording.valid).flatten().tolist()
    parts = torch.full((5, len(pairs), len(recording.bounds)), torch.nan, dtype=torch.float64)
    for group in _grouped(places, _GROUP):
        frames = _correlate(correlator, [recording.bounds[place] for place in group])
        _require_finite(frames.references)
        splits = _splits(frames.references, frames.estimates, recording, pairs)
        for index, place in enumerate(group):
            one = Frames(frames.bounds[index : index + 1], *(part[index : index + 1] for part in frames[1:]))
            parts[..., place] = _parts(splits[index], one, recording)[..., 0].cpu()
    return parts


def _splits(
    references: Tensor, estimates: Tensor, recording: _Recording, pairs: list[tuple[int, int]]
) -> list[list[Split]]:
    """Solve for the filters of all pairs, of Q frames or of the recording.

    Args:
        references: (Q, M, M, L), correlations among the references.
        estimates: (Q, M, M, L), from the references to the estimates.
        recording: of R sources.
        pairs: of reference and estimate.
    """
    n_sources = len(recording.targets)
    n_systems, n_rows, _, n_lags = references.shape
    n_channels = n_rows // n_sources
    ridged, right = _determined(references, estimates.transpose(2, 3), _copies(recording.targets))
    system = BlockToeplitz(ridged)
    filters, trusted = system.solve(right)
    _warn_of_empty_band(system, trusted)
    if n_sources == 1:
        return [[Split(0, 0, one, one)] for one in filters]
    by_source = [slice(j * n_channels, (j + 1) * n_channels) for j in range(n_sources)]
    blocks = torch.stack([ridged[:, part, part] for part in by_source], dim=1)  # (Q, R, C, C, L)
    own_right = [
        torch.cat([right[:, by_source[j]][..., by_source[e]] for i, e in pairs if i == j], dim=-1)
        for j in range(n_sources)
    ]
    own, _ = BlockToeplitz(blocks.flatten(0, 1)).solve(torch.stack(own_right, dim=1).flatten(0, 1))
    own = own.view(n_systems, n_sources, n_channels, n_lags, -1, n_channels)  # last but one: estimates of a source
    per_source = own.shape[-2]
    return [
        [
            Split(j, e, filters[q][..., by_source[e]], own[q, j, :, :, place % per_source])
            for place, (j, e) in enumerate(pairs)
        ]
        for q in range(n_systems)
    ]


def _determined(references: Tensor, right: Tensor, copies: list[int]) -> tuple[Tensor, Tensor]:
    """Add museval's ridge, and set aside channels that are silent or copies, whose filters may be anything.

    The projection is the same without them, and the equations then have one solution, found without pivots.
    """
    references, right = references.clone(), right.clone()
    diagonal = references[..., 0].diagonal(dim1=1, dim2=2)  # (Q, M), a view
    power = diagonal.amax(1, keepdim=True).expand_as(diagonal)
    power = torch.where(power > 0, power, 1.0)
    aside = diagonal == 0
    aside[:, copies] = True
    references[aside] = 0
    references.transpose(1, 2)[aside] = 0
    right[aside] = 0
    diagonal[aside] = power[aside]
    diagonal += _RIDGE
    return references, right


def _copies(targets: list[Tensor]) -> list[int]:
    """List the channels that equal an earlier channel of the same reference, as in mono files in stereo."""
    copies = []
    for source, target in enumerate(targets):
        for channel in range(1, len(target)):
            alike = (row for row in target[:channel] if torch.equal(row[:1024], target[channel, :1024]))
            if any(torch.equal(row, target[channel]) for row in alike):
                copies.append(source * len(target) + channel)
    return copies


def _parts(splits: list[Split], frames: Frames, recording: _Recording) -> Tensor:
    energies = [split.energies(frames, recording.targets, recording.estimates) for split in splits]
    return torch.stack([torch.stack(part) for part in energies], dim=1)  # (5, pairs, frames)


def _correlate(correlator: Correlator, bounds: list[tuple[int, int]]) -> Frames:
    n_rows, n_lags = correlator.n_references, correlator.n_lags
    shape = (len(bounds), n_rows, n_rows, n_lags)
    like = {"dtype": torch.float64, "device": correlator.device}
    references, estimates = torch.empty(shape, **like), torch.empty(shape, **like)
    energies = torch.empty((len(bounds), n_rows), **like)
    for index, (start, stop) in enumerate(bounds):
        lags, energies[index] = correlator.stretch(start, stop)
        references[index], estimates[index] = lags[:, :n_rows], lags[:, n_rows:]
    return Frames(bounds, references, estimates, energies)


def _can_be_summed(recording: _Recording) -> bool:
    """Return whether the recording's correlations are the sum of its frames', and these are few enough to be kept."""
    bounds, n_rows = recording.bounds, sum(len(target) for target in recording.targets)
    adjacent = all(first[1] == second[0] for first, second in itertools.pairwise(bounds))
    long_enough = min(stop - start for start, stop in bounds) >= recording.n_lags - 1
    return adjacent and long_enough and 16 * len(bounds) * n_rows**2 * recording.n_lags <= _KEPT_BYTES


def _best_order(sir: Tensor, n_orders: int, keep_given: bool) -> Tensor:
    """Order the estimates for the highest mean of SIR (R, R, frames): (R, n_orders)."""
    from scipy.optimize import linear_sum_assignment

    means = sir if n_orders > 1 else (sir.mean(-1) if keep_given else sir.nanmean(-1))[..., None]
    orders = []
    for gain in means.unbind(-1):
        if gain.isnan().all() or (keep_given and gain.isnan().any()):
            orders.append(torch.arange(len(gain)))
        else:
            finite = gain.nan_to_num(nan=-1e9, posinf=1e9, neginf=-1e9)
            orders.append(torch.from_numpy(linear_sum_assignment(finite.numpy(), maximize=True)[1]))
    return torch.stack(orders, dim=-1)


def _warn_of_empty_band(system: BlockToeplitz, trusted: Tensor) -> None:
    if not trusted.all() or (system.conditioning() < _EMPTY_BAND).any():
        warnings.warn(
            "the references leave a band empty or are copies of each other, so that rounding decides ISR, SIR and "
            "SAR: compare SDR, or score 16-bit versions of the files",
            stacklevel=2,
        )


def _warn_of_alignment(recording: _Recording, signal: Tensor) -> None:
    """Warn of estimates that are probably delayed, inverted or scaled in the loudest frames of signal, (R, frames)."""
    faults = []
    for source, (estimate, target) in enumerate(zip(recording.estimates, recording.targets, strict=True)):
        loudest = [sum(recording.bounds[frame]) // 2 for frame in signal[source].argsort(descending=True)]
        fault = find_misalignment(estimate, target, loudest)
        if fault:
            faults.append(f"{recording.labels[source]} looks {fault}")
    if faults:
        warnings.warn(f"{', '.join(faults)}: align the estimates with the references", stacklevel=2)


def _grouped(items: list, size: int) -> Iterator[list]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _require_finite(values: Tensor) -> None:
    if not values.isfinite().all():
        raise ValueError("estimate and target must be finite, got NaN or infinite samples: repair the files")


def _checked(estimate: Waveform, target: Waveform, filters: int, metrics: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Check the arguments, and return the waveforms as tensors."""
    estimate, target = map(with_float64, take_waveforms(estimate, target, "(S, C, T)", integers=True))
    if not is_integer(filters) or filters < 1:
        raise ValueError(f"filters must be >= 1 taps, got {filters!r}")
    if not metrics or not {*metrics} <= {*METRICS}:
        raise ValueError(f"metrics must be some of {', '.join(METRICS)}, got {metrics!r}")
    return estimate, target


def _labels(names: Sequence[str] | None, n_sources: int) -> list[str]:
    if names is None:
        return [f"estimate {source}" for source in range(n_sources)]
    if len(names) != n_sources:
        raise ValueError(f"names must be one for each of the {n_sources} sources, got {len(names)}")
    return [f"estimate of {name}" for name in names]


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Keep torch from waking threads for each of many small operations, which costs more than it brings."""
    n_threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(n_threads)
