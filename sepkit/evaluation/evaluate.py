"""The entry to scoring: a model on songs, or estimates in files against references."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from sepkit.arguments import is_integer
from sepkit.datasets import open_songs
from sepkit.disk import not_left_empty, writing
from sepkit.evaluation.files import (
    TRACKS,
    check_files,
    describe_origin,
    file_name,
    find_tracks,
    hash_model,
    write_track,
)
from sepkit.evaluation.measure import WHOLE, TrackAudio, expected_memory, museval_engine
from sepkit.evaluation.reporting import report_evaluation
from sepkit.evaluation.runner import TrackScorer, TrackScores, score_tracks
from sepkit.evaluation.scores import Scores
from sepkit.evaluation.settings import DEFAULT_METRICS, Settings, check_settings, without_mixture
from sepkit.evaluation.table import INTERVAL_NOTE
from sepkit.evaluation.targets import choose_targets
from sepkit.evaluation.tracks import Track, describe_recorded, folder_tracks, song_tracks
from sepkit.inference import check_chunks
from sepkit.locks import locked
from sepkit.metrics.units import NOT_DECIBELS
from sepkit.model_folder import load_model
from sepkit.processes import end_if_spawned
from sepkit.report import FILE, Stopwatch
from sepkit.separator import Separator
from sepkit.transforms import STFT

_KEPT = "the tracks written before are kept: make room, or choose another output, and evaluate again"


def evaluate(
    model: Separator | str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    *,
    split: str = "test",
    estimates: str | os.PathLike | None = None,
    references: str | os.PathLike | None = None,
    targets: Sequence[str] | None = None,
    output: str | os.PathLike | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    mode: str = "v4",
    window: float = 1.0,
    hop: float = 1.0,
    silent: str | None = None,
    protocol: str = "sepkit",
    engine: str = "sepkit",
    baselines: bool = True,
    batch_size: int = 1,
    overlap: float = 0.25,
    device: str | torch.device | None = None,
    resample: bool = False,
    trust: bool = False,
    workers: int = 1,
    report: bool = False,
    run: str | os.PathLike | None = None,
    progress: bool = True,
    log: Callable[[str], object] | None = None,
) -> Scores:
    """Score a model on songs, or estimates in files against references.

    One stem alone is scored beside what is left of the mixture, as [stem, accompaniment]. SDR, ISR, SIR and SAR
    are museval's: of frames, of which each track counts the median; a frame in which a reference or an estimate is
    silent has no score. All other metrics are of the whole track. Systems are "model" or "estimates" and, as
    baselines, "mixture/S" (the mixture divided by the number of targets), "silence", and "oracle", the ideal ratio
    mask. With `output`, a track that was scored there before is taken over where model, settings and files are the
    same: a stopped evaluation goes on with the same call.

    Args:
        model: a separator, or the folder of one.
        data: root of songs, for the model or in place of references; "demo": the built-in songs.
        split: of the data, "train", "valid" or "test"; names the folder of JSON files.
        estimates: in place of a model: folder of tracks, `track/stem.ext`, or of the stems of one track; with
            data also `split/track/stem.ext`.
        references: for the estimates, folders and files of the same names.
        targets: stems that are scored, "accompaniment" among them; None: all that are estimated.
        output: folder for `scores.csv` and, of the model or the estimates, museval's `<split>/<track>.json`, and
            `tracks/<split>/<track>.json` with all numbers in strict JSON; None: nothing is written.
        metrics: some of `METRICS`; others are not computed. "SDR" alone takes a hundredth of the time.
        mode: of SDR, ISR, SIR and SAR: "v4", filters of the whole track, or "v3", of each frame.
        window: seconds per frame, > 0.
        hop: seconds between frames, > 0.
        silent: "nan": a reference that is silent throughout has no score, and the others have; "museval": it is an
            error; "error": a silent frame is one, too. None: "museval" with the protocol of musdb, else "nan".
        protocol: "sepkit": all targets are scored together; "musdb": as museval.eval_mus_track does, vocals with
            accompaniment, all stems without it.
        engine: what computes SDR, ISR, SIR and SAR: "sepkit", or, for whoever doubts, "museval" itself.
        baselines: score what needs no model, too.
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        device: to which the model is moved; None: it stays where it is, and one from a folder on the CPU.
        resample: let songs of another rate than the model's be resampled.
        trust: let the model's folder name classes outside this package, which are then imported.
        workers: processes that score tracks at the same time, each with one thread and its own copy of the model.
        report: write `report.html` into the output, too: tables, box plots, and excerpts to listen to.
        run: for the report, the run folder of the model's training; None: that of a model given as a folder.
        progress: show a bar on stderr where that is a terminal.
        log: called with lines about the expected memory and what is taken over, before scoring starts.

    Raises:
        ValueError: the arguments do not say what is to be scored, one is out of range, stems are silent and that is
            forbidden, or another process writes into the output.
        sepkit.disk.OutputError: the output cannot be written to.
        WorkerError: a worker process broke off; what is scored is kept.
        sepkit.model_folder.ModelError: the folder holds no model.
        sepkit.datasets.DatasetError: the songs, or the two folders, cannot be used.
    """
    end_if_spawned()
    watch, settings = Stopwatch(), check_settings(metrics, mode, window, hop, silent, protocol, engine)
    _check_call(model, data, estimates, references, workers, batch_size, overlap)
    _check_report(report, run, output)
    settings, notes = _available(settings)
    if model is not None:
        placed = _place_model(model, device, trust)
        given = _open_songs(placed, data, split, targets, settings.protocol, batch_size, overlap, resample)
    else:
        tracks, read = folder_tracks(estimates, references, data, split, targets, settings.protocol)
        given = _Given("estimates", STFT(), tracks, None, {}, torch.device("cpu"))
        notes += read
    notes += describe_recorded(given.tracks)
    settings = _settle(settings, given.tracks)
    job = TrackScorer(given.system, given.tracks, settings, given.transform if baselines else None)
    destination = None if output is None else _Destination(Path(output), split)
    origins = _origins(given, settings, baselines)
    with nullcontext() if destination is None else destination.held():
        found, said = ({}, []) if destination is None else destination.find(given.tracks, origins)
        n_left = len(given.tracks) - len(found)
        for line in [*notes, *said, *_expected(job, n_left, workers)] if log else ():
            log(line)
        _score(job, found, origins, destination, workers, progress)
        in_order = [found[number] for number in range(len(given.tracks))]
        scores = Scores([row for each in in_order for row in each.rows], _title(len(in_order), settings))
        scores.notes = [*_notes(in_order), *notes, *said]
        if destination is not None:
            destination.finish(scores, [each.track for each in in_order])
        if report:
            cost = {**watch.read(), "tracks scored now": f"{n_left} of {len(in_order)}"}
            _report(scores, given, Path(output), model if run is None else run, cost)
    return scores


def _settle(settings: Settings, tracks: Sequence[Track]) -> Settings:
    """Leave out the metrics that need a mixture where none is known of any track, and try the others."""
    left = settings if any(track.mixed for track in tracks) else without_mixture(settings)
    if not left.metrics:
        raise ValueError(f"{', '.join(settings.metrics)} needs a mixture: add mixture.wav to the references")
    _try_metrics(left, tracks)
    return left


def _report(
    scores: Scores,
    given: "_Given",
    output: Path,
    run: Separator | str | os.PathLike | None,
    cost: Mapping[str, object],
) -> None:
    """Write the report in place of a former one; the scores are not lost with it."""
    folder = None if run is None or isinstance(run, Separator) else Path(run)
    try:
        (output / FILE).unlink(missing_ok=True)
        report_evaluation(scores, given.system, given.tracks, output, folder, cost, given.device)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"there is no report of the evaluation ({reason}); the same call makes it", stacklevel=3)


def _check_call(
    model: object,
    data: object,
    estimates: object,
    references: object,
    workers: int,
    batch_size: int,
    overlap: float,
) -> None:
    given = {"model": model, "data": data, "estimates": estimates, "references": references}
    present = [name for name, value in given.items() if value is not None]
    if present not in (["model", "data"], ["estimates", "references"], ["data", "estimates"]):
        raise ValueError(
            f"give model and data, estimates and references, or estimates and data, got "
            f"{' and '.join(present) or 'none of them'}"
        )
    if not is_integer(workers) or workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    check_chunks(batch_size, overlap)


def _check_report(report: bool, run: object, output: object) -> None:
    if (report or run is not None) and (output is None or not report):
        raise ValueError("a report needs a folder to go to, and a run a report: give output and report=True")


class _Given(NamedTuple):
    """What is scored: its name, its oracle's transform, its tracks, what its estimates depend on, and where it ran."""

    system: str
    transform: STFT
    tracks: list[Track]
    model: str | None
    separation: dict[str, Any]
    device: torch.device


def _place_model(model: Separator | str | os.PathLike, device: str | torch.device | None, trust: bool) -> Separator:
    if not isinstance(model, Separator):
        return load_model(model, device or "cpu", trust)
    return model if device is None else model.to(device)


def _open_songs(
    model: Separator,
    data: str | os.PathLike,
    split: str,
    targets: Sequence[str] | None,
    protocol: str,
    batch_size: int,
    overlap: float,
    resample: bool,
) -> _Given:
    chosen = choose_targets(model.sources, targets, protocol)
    songs = open_songs(data, split, chosen.stems, model.sample_rate, model.n_channels, resample=resample)
    tracks = song_tracks(model, songs, chosen, batch_size, overlap)
    separation = {"overlap": overlap, "resample": resample}
    placed = next((part.device for part in model.parameters()), torch.device("cpu"))
    return _Given("model", model.transform, tracks, hash_model(model), separation, placed)


def _available(settings: Settings) -> tuple[Settings, list[str]]:
    """Start the engine; without what museval needs SDR is left, and a note says so."""
    if settings.engine == "sepkit" or not settings.framewise:
        return settings, []
    try:
        museval_engine()
    except ImportError as error:
        missing = [name for name in settings.framewise if name != "SDR"]
        left = tuple(name for name in settings.metrics if name not in missing)
        if not missing or not left:
            raise ImportError(f"engine museval needs museval and ffmpeg: install them ({error})") from error
        note = f"{', '.join(missing)} are missing: install museval and ffmpeg ({' '.join(str(error).split())})"
        return replace(settings, engine="sepkit", metrics=left), [note]
    return settings, []


def _try_metrics(settings: Settings, tracks: Sequence[Track]) -> None:
    """Let a metric that lacks its package, or wants another rate, say so before anything is scored."""
    for rate, n_channels in {(track.sample_rate, track.n_channels) for track in tracks}:
        noise = torch.rand(1, n_channels, rate, generator=torch.Generator().manual_seed(0)) - 0.5
        for name in settings.metrics:
            if name in NOT_DECIBELS:
                WHOLE[name](TrackAudio(noise[0], noise, noise), rate)


def _origins(given: _Given, settings: Settings, baselines: bool) -> list[dict[str, Any]]:
    separation = {**given.separation, "baselines": baselines}
    return [describe_origin(track, settings, given.model, separation) for track in given.tracks]


class _Destination(NamedTuple):
    """Where an evaluation is written."""

    output: Path
    split: str

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out while the context lasts; folders that are made for nothing are removed."""
        with ExitStack() as stack:
            with writing(self.output, "choose another output"):
                stack.enter_context(not_left_empty(self.output))
                stack.enter_context(locked(self.output, "wait for it, or choose another output"))
            yield

    def write(self, scores: TrackScores, origin: Mapping[str, Any]) -> None:
        """Write a track."""
        with writing(self.output, _KEPT):
            write_track(self.output, self.split, scores, origin)

    def find(
        self, tracks: Sequence[Track], origins: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[int, TrackScores], list[str]]:
        """Find tracks that are scored already, and say how many there are, and why others are not taken."""
        names = [track.name for track in tracks]
        check_files(names)
        found, changed = find_tracks(self.output, self.split, names, origins)
        said = []
        if found:
            said.append(f"{len(found)} of {len(tracks)} tracks are taken over from an earlier evaluation")
        if changed:
            said.append(f"earlier scores are replaced, made with other {', '.join(sorted(changed))}")
        return found, said

    def finish(self, scores: Scores, tracks: Sequence[str]) -> None:
        """Write the table, and say where everything lies."""
        files = self.output / self.split
        scores.folder = self.output
        with writing(self.output, _KEPT):
            self.output.mkdir(parents=True, exist_ok=True)
            scores.to_csv(self.output / "scores.csv")
        scores.notes.append(f"scores: {self.output / 'scores.csv'}; museval's JSON: {files}; all numbers: {TRACKS}/")
        others = {path.name for path in files.glob("*.json")} - set(map(file_name, tracks))
        if others:
            scores.notes.append(f"{files} holds JSON of {len(others)} more tracks, from an earlier evaluation")


def _expected(job: TrackScorer, n_left: int, workers: int) -> list[str]:
    """Say how much memory is expected: of the longest track, in each process."""
    if not n_left:
        return []
    sizes = [_expected_size(track, job) for track in job.tracks]
    size, longest = max(zip(sizes, job.tracks, strict=True), key=lambda pair: pair[0])
    n_processes = min(workers, n_left)
    where = f" in each of {n_processes} processes" if n_processes > 1 else ""
    return [
        f"expected memory: about {size / 2**20:.0f} MB{where}, besides the model, for {longest.name} "
        f"({longest.n_samples / longest.sample_rate:.0f} s, {len(longest.targets.names)} stems)"
    ]


def _expected_size(track: Track, job: TrackScorer) -> int:
    n_targets, baselines = len(track.targets.names), job.transform is not None
    shape = (n_targets, track.n_channels, track.n_samples)
    return expected_memory(*shape, track.sample_rate, job.settings, baselines)


def _score(
    job: TrackScorer,
    found: dict[int, TrackScores],
    origins: Sequence[Mapping[str, Any]],
    destination: _Destination | None,
    workers: int,
    progress: bool,
) -> None:
    """Score the tracks that are not found yet, and write each as soon as it is scored."""
    left = [number for number in range(len(job.tracks)) if number not in found]
    bar = tqdm(
        total=len(job.tracks),
        initial=len(found),
        desc="scoring",
        unit="track",
        disable=None if progress else True,
        dynamic_ncols=True,
    )

    def done(number: int, scores: TrackScores) -> None:
        found[number] = scores
        if destination is not None:
            destination.write(scores, origins[number])
        bar.update()

    with bar:
        score_tracks(job, left, workers, done)


def _title(n_tracks: int, settings: Settings) -> str:
    tracks = f"{n_tracks} {'track' if n_tracks == 1 else 'tracks'}"
    lines = [f"{tracks}, in dB, medians over tracks{' [95 % interval]' if n_tracks > 1 else ''}."]
    if settings.framewise:
        lines.append(
            f"{' '.join(settings.framewise)}: median over frames of {settings.window:g} s every {settings.hop:g} s "
            f"(BSS Eval {settings.mode}, {settings.engine})."
        )
    whole = [name for name in settings.metrics if name not in (*settings.framewise, *NOT_DECIBELS)]
    others = [name for name in settings.metrics if name in NOT_DECIBELS]
    if whole:
        lines.append(f"{', '.join(whole).replace('SDRi', 'SDRi (over the mixture)')}: of the whole track.")
    if others:
        lines.append(f"{', '.join(others)}: of the whole track, not in dB.")
    if settings.protocol == "musdb":
        lines.append("Protocol musdb: vocals with accompaniment, all stems without it.")
    return "\n".join(fill(line, 80) for line in lines)


def _notes(tracks: Sequence[TrackScores]) -> list[str]:
    """Say what the table's reader must know: the intervals, which tracks have no score, what the metrics warned of."""
    cases: dict[tuple[str, str], list[str]] = {}
    for each in tracks:
        for remark in each.remarks:
            cases.setdefault(tuple(remark), []).append(each.track)
    intervals = [INTERVAL_NOTE] if len(tracks) > 1 else []
    warned = [f"{each.track}: {message}" for each in tracks for message in each.warnings]
    return [*intervals, *warned, *(f"{' '.join(case)}: {', '.join(names)}" for case, names in cases.items())]
