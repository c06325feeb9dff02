"""Score tracks one after the other, or in several processes."""

import math
import os
import pickle
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import active_children, connection, get_context, parent_process
from multiprocessing.queues import SimpleQueue

import torch

from sepkit.baselines import baseline_estimates
from sepkit.evaluation.measure import FRAMEWISE, Measurement, TrackAudio, measure
from sepkit.evaluation.scores import Score
from sepkit.evaluation.settings import Settings, without_mixture
from sepkit.evaluation.tracks import Track
from sepkit.metrics.frames import is_silent
from sepkit.processes import GUARD, init_worker, retain_freed_memory, starting_processes
from sepkit.transforms import STFT

SILENT = "is silent throughout, not scored"
UNESTIMATED = "is estimated as silence, 0 dB SDR and no SI-SDR"
NO_FRAME = "has no frame in which all stems sound, no SDR, ISR, SIR, SAR"


class WorkerError(RuntimeError):
    """A process that scored tracks broke off."""


@dataclass(frozen=True)
class TrackScores:
    """The scores of a track, and remarks about them.

    Attributes:
        track: its name.
        frames: by target and metric, of the model or the estimates: one score a frame.
        rows: one number for each system, target and metric.
        remarks: target, and why it has no score.
        warnings: of the metrics.
    """

    track: str
    frames: dict[str, dict[str, list[float]]]
    rows: list[Score] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class TrackScorer:
    """Tracks, and how they are scored.

    Attributes:
        system: name of what is scored.
        tracks: on which.
        settings: how.
        transform: of the ideal mask; None: no baselines are scored.
    """

    system: str
    tracks: Sequence[Track]
    settings: Settings
    transform: STFT | None = None

    def score(self, number: int) -> TrackScores:
        """Score a track.

        Raises:
            ValueError: its stems are silent and the settings forbid it, or its samples are not finite.
        """
        track = self.tracks[number]
        material = track.read()
        settings = self.settings if track.mixed else without_mixture(self.settings)
        try:
            measured, messages = _measure_quietly(material, track, settings)
        except ValueError as error:
            raise ValueError(f"{track.name}: {error}") from error
        frames = {
            target: dict(zip(FRAMEWISE, measured.frames[:, source].tolist(), strict=True))
            for source, target in enumerate(track.targets.names)
        }
        rows = _rows(self.system, track, measured, settings)
        for name, rated in self._baselines(material, track):
            of_baselines = replace(settings, silent="nan")
            rows += _rows(name, track, _measure_quietly(rated, track, of_baselines)[0], settings)
        return TrackScores(track.name, frames, rows, list(_remarks(track, material, measured, settings)), messages)

    def _baselines(self, material: TrackAudio, track: Track) -> Iterator[tuple[str, TrackAudio]]:
        if self.transform is not None and not track.mixed:
            yield "silence", material._replace(estimate=torch.zeros_like(material.estimate))
        elif self.transform is not None:
            mixture, reference = material.mixture, material.reference
            estimates = baseline_estimates(
                mixture, reference, self.transform, track.sample_rate, track.targets.overlapping
            )
            yield from ((name, material._replace(estimate=estimate)) for name, estimate in estimates)


def _rows(system: str, track: Track, measured: Measurement, settings: Settings) -> list[Score]:
    return [
        Score(system, track.name, target, metric, measured.value(metric, source))
        for source, target in enumerate(track.targets.names)
        for metric in settings.metrics
    ]


def _measure_quietly(material: TrackAudio, track: Track, settings: Settings) -> tuple[Measurement, list[str]]:
    """Score, and keep the metrics' warnings for the table in place of the terminal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measured = measure(material, track.sample_rate, settings, track.targets.groups)
    return measured, list(dict.fromkeys(str(warning.message) for warning in caught if warning.category is UserWarning))


def _remarks(
    track: Track, material: TrackAudio, measured: Measurement, settings: Settings
) -> Iterator[tuple[str, str]]:
    """Describe which targets have no score, and why."""
    absent = (material.reference == 0).flatten(1).all(1)
    for source, target in enumerate(track.targets.names):
        if absent[source]:
            yield target, SILENT
            continue
        if settings.framewise and all(math.isnan(measured.value(name, source)) for name in settings.framewise):
            yield target, NO_FRAME
        if is_silent(material.estimate[source]):
            yield target, UNESTIMATED


def score_tracks(
    scorer: TrackScorer, numbers: Sequence[int], workers: int, done: Callable[[int, TrackScores], None]
) -> None:
    """Score tracks, and report each as soon as it is scored, in any order.

    Raises:
        WorkerError: a process broke off.
    """
    if workers == 1 or len(numbers) < 2:
        for number in numbers:
            done(number, scorer.score(number))
        return
    before, context, n_workers = set(active_children()), get_context("spawn"), min(workers, len(numbers))
    queue = context.SimpleQueue()
    threading.Thread(target=_send, args=(scorer, queue, n_workers), daemon=True).start()
    pool = ProcessPoolExecutor(n_workers, context, _start_worker, (queue,))
    try:
        with starting_processes():
            with _interrupts_later():
                waiting = {pool.submit(_score_in_worker, number): number for number in numbers}
            for future in as_completed(waiting):
                done(waiting[future], future.result())
    except BaseException as error:
        for process in set(active_children()) - before:
            process.terminate()
        if isinstance(error, BrokenExecutor):
            raise WorkerError(
                "a worker process broke off, for want of memory or because it cannot import the network: use fewer "
                f"workers, or none, with workers=1; what is scored already is kept; {GUARD}"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back, also from the processes that are started meanwhile, which are not up to it at first."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _send(scorer: TrackScorer, queue: SimpleQueue, n_workers: int) -> None:
    """Send a scorer to the workers; sent with what starts a process, one that ends early would block this one."""
    content = pickle.dumps(scorer)  # once, and not through shared memory, of which containers have little
    for _ in range(n_workers):
        queue.put(content)


_scorer: TrackScorer | None = None  # of this worker process


def _start_worker(queue: SimpleQueue) -> None:
    """Set up a process that scores: one thread, Ctrl-C is left to the parent, and it does not outlive that."""
    global _scorer
    init_worker(0)
    retain_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _scorer = pickle.loads(queue.get())


def _end_with_parent() -> None:
    connection.wait([parent_process().sentinel])
    os._exit(1)


def _score_in_worker(number: int) -> TrackScores:
    return _scorer.score(number)
