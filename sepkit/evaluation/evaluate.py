"""The entry to scoring: a model on songs, or estimates in files against references."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from sepkit.arguments import is_integer
from sepkit.chunking import Chunking
from sepkit.datasets import open_songs
from sepkit.datasets.candidates import StemMap
from sepkit.datasets.layout import SUBSETS
from sepkit.evaluation.files import OutputFolder, describe_origin, hash_model
from sepkit.evaluation.measure import WHOLE, TrackAudio, expected_memory, museval_engine
from sepkit.evaluation.pairing import folder_tracks
from sepkit.evaluation.reporting import report_evaluation
from sepkit.evaluation.runner import TrackScorer, TrackScores, score_tracks
from sepkit.evaluation.scores import Scores
from sepkit.evaluation.settings import DEFAULT_METRICS, Settings, check_settings, without_mixture
from sepkit.evaluation.table import INTERVAL_NOTE, title
from sepkit.evaluation.targets import choose_targets
from sepkit.evaluation.tracks import ModelTrack, Track, describe_tracks
from sepkit.inference import choose_chunking
from sepkit.metrics.units import NOT_DECIBELS
from sepkit.model_folder import load_model
from sepkit.processes import end_if_spawned
from sepkit.report import FILE, Stopwatch
from sepkit.separator import Separator
from sepkit.terminal import bar_option, hiding_bars
from sepkit.transforms import STFT


def evaluate(
    model: Separator | str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    *,
    split: str = "test",
    layout: str | None = None,
    stems: StemMap | None = None,
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
    batch_size: int | None = None,
    overlap: float | None = None,
    shifts: int | None = None,
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

    One stem alone is scored beside the residual, as [stem, accompaniment]. SDR, ISR, SIR and SAR
    are museval's: of frames, of which each track counts the median; a frame in which a reference or an estimate is
    silent has no score. All other metrics are of the whole track. Systems are "model" or "estimates" and, as
    baselines, "mixture/S" (the mixture divided by the number of targets), "silence", and "oracle", the ideal ratio
    mask. With `output`, a track that was scored there before is taken over where model, settings and files are the
    same: a stopped evaluation goes on with the same call.

    Args:
        model: a separator, or the folder of one.
        data: root of songs, for the model or in place of references; "demo": the built-in songs.
        split: of the data, "train", "valid" or "test"; names the folder of JSON files.
        layout: how files lie in the data, as a recipe's `data.layout`; None: as its shape shows.
        stems: by name of a stem, the stems of the data whose sum it is, as a recipe's `data.stems`.
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
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it; None: the model's.
        overlap: share of a chunk that the next one covers again, in [0, 0.9]; None: the model's.
        shifts: delayed separations whose mean is scored, as in `sepkit.inference.separate`; None: the model's.
        device: to which the model is moved; None: it stays where it is, and one from a folder on the CPU.
        resample: let songs of another rate than the model's be resampled.
        trust: let the model's folder name classes outside this package, which are then imported.
        workers: processes that score tracks at the same time, each with one thread and its own copy of the model.
        report: write `report.html` into the output, too: tables, box plots, and excerpts to listen to.
        run: for the report, the run folder of the model's training; None: that of a model given as a folder.
        progress: show a bar on stderr where that is a terminal.
        log: called with lines about the expected memory and what is taken over, before scoring starts.

    Raises:
        ValueError: the arguments do not determine what is scored, one is out of range, stems are silent and that is
            forbidden, or another process writes into the output.
        sepkit.disk.OutputError: the output cannot be written to.
        WorkerError: a worker process broke off; what is scored is kept.
        sepkit.model_folder.ModelError: the folder holds no model.
        sepkit.datasets.DatasetError: the songs, or the two folders, cannot be used.
    """
    end_if_spawned()
    watch, settings = Stopwatch(), check_settings(metrics, mode, window, hop, silent, protocol, engine)
    sources = {"model": model, "data": data, "estimates": estimates, "references": references}
    chunks = {"batch_size": batch_size, "overlap": overlap, "shifts": shifts}
    _check_call(sources, workers, split, {**chunks, "device": device, "resample": resample, "trust": trust})
    _check_what_goes_together(report, output, run, data, layout or stems or None)
    settings, notes = _choose_engine(settings)
    system, transform, model_hash, separation = "estimates", STFT(), None, {}
    with hiding_bars(not progress):
        if model is None:
            tracks, read = folder_tracks(estimates, references, data, split, targets, settings.protocol, layout, stems)
            notes += read
        else:
            separator = _place_model(model, device, trust)
            chunking, wanted = choose_chunking(separator, **chunks), (targets, settings.protocol)
            tracks = _separate_songs(separator, chunking, wanted, data, split, resample, layout, stems)
            system, transform, model_hash = "model", separator.transform, hash_model(separator)
            separation = {"overlap": chunking.overlap, "shifts": chunking.shifts, "resample": resample}
    notes += describe_tracks(tracks)
    scorer = TrackScorer(system, tracks, _leave_out_metrics(settings, tracks), transform if baselines else None)
    separation.update({"baselines": baselines, **({"stems": stems} if stems else {})})
    origins = [describe_origin(track, scorer.settings, model_hash, separation) for track in tracks]
    folder = None if output is None else OutputFolder(Path(output), split)
    with nullcontext() if folder is None else folder.held():
        scores, n_scored = _score(scorer, origins, folder, notes, workers, progress, log)
        if report:
            cost = {**watch.read(), "tracks scored now": f"{n_scored} of {len(tracks)}"}
            _report(scores, scorer, Path(output), model if run is None else run, cost)
    return scores


def _check_call(sources: Mapping[str, object], workers: int, split: str, of_model: Mapping[str, object]) -> None:
    present = [name for name, value in sources.items() if value is not None]
    if present not in (["model", "data"], ["estimates", "references"], ["data", "estimates"]):
        raise ValueError(
            f"give model and data, estimates and references, or estimates and data, got "
            f"{' and '.join(present) or 'none of them'}"
        )
    if not is_integer(workers) or workers < 1:
        raise ValueError(f"workers must be >= 1, got {workers}")
    name = next((name for name, value in of_model.items() if value is not None and value is not False), None)
    if name is not None and sources["model"] is None:
        raise ValueError(f"{name} is for a model that separates, estimates are scored as they are: leave {name} out")
    if split not in SUBSETS:
        raise ValueError(f"split must be one of {', '.join(SUBSETS)}, got {split!r}")


def _separate_songs(
    separator: Separator,
    chunking: Chunking,
    wanted: tuple[Sequence[str] | None, str],
    data: str | os.PathLike,
    split: str,
    resample: bool,
    layout: str | None,
    stems: StemMap | None,
) -> list[ModelTrack]:
    """Open the songs that a model is scored on, by targets and protocol that are wanted."""
    chosen = choose_targets(separator.sources, *wanted)
    shape = (separator.sample_rate, separator.n_channels)
    songs = open_songs(data, split, chosen.stems, *shape, resample=resample, layout=layout, stems=stems)
    return [ModelTrack(song, chosen, separator, chunking) for song in songs]


def _check_what_goes_together(report: bool, output: object, run: object, data: object, how: object) -> None:
    if (report and output is None) or (run is not None and not report):
        raise ValueError("a report needs a folder to go to, and a run a report: give output and report=True")
    if data is None and how is not None:
        raise ValueError("layout and stems say how data lie: give data, or leave them out")


def _place_model(model: Separator | str | os.PathLike, device: str | torch.device | None, trust: bool) -> Separator:
    if not isinstance(model, Separator):
        return load_model(model, device or "cpu", trust)
    return model if device is None else model.to(device)


def _choose_engine(settings: Settings) -> tuple[Settings, list[str]]:
    """Start the engine; without what museval needs SDR is kept alone, and a note describes that."""
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


def _leave_out_metrics(settings: Settings, tracks: Sequence[Track]) -> Settings:
    """Remove the metrics that need a mixture where no track has one, and try the others before anything is scored.

    Metrics that lack their package, or want another rate, raise.
    """
    kept = settings if any(track.mixed for track in tracks) else without_mixture(settings)
    if not kept.metrics:
        raise ValueError(f"{', '.join(settings.metrics)} needs a mixture: add mixture.wav to the references")
    for rate, n_channels in {(track.sample_rate, track.shape[1]) for track in tracks}:
        noise = torch.rand(1, n_channels, rate, generator=torch.Generator().manual_seed(0)) - 0.5
        for name in kept.metrics:
            if name in NOT_DECIBELS:
                WHOLE[name](TrackAudio(noise[0], noise, noise), rate)
    return kept


def _describe_memory(scorer: TrackScorer, n_left: int, workers: int) -> list[str]:
    """Describe how much memory is expected: of the longest track, in each process."""
    if not n_left:
        return []
    baselines = scorer.transform is not None
    sizes = [expected_memory(*track.shape, track.sample_rate, scorer.settings, baselines) for track in scorer.tracks]
    size, longest = max(zip(sizes, scorer.tracks, strict=True), key=lambda pair: pair[0])
    n_processes = min(workers, n_left)
    where = f" in each of {n_processes} processes" if n_processes > 1 else ""
    n_targets, _, n_samples = longest.shape
    return [
        f"expected memory: about {size / 2**20:.0f} MB{where}, besides the model, for {longest.name} "
        f"({n_samples / longest.sample_rate:.0f} s, {n_targets} stems)"
    ]


def _score(
    scorer: TrackScorer,
    origins: Sequence[Mapping[str, object]],
    folder: OutputFolder | None,
    notes: Sequence[str],
    workers: int,
    progress: bool,
    log: Callable[[str], object] | None,
) -> tuple[Scores, int]:
    """Score the tracks that are not scored yet, write each as soon as it is, and count them."""
    tracks = scorer.tracks
    scored, kept = ({}, []) if folder is None else folder.find([track.name for track in tracks], origins)
    left = [number for number in range(len(tracks)) if number not in scored]
    for line in [*notes, *kept, *_describe_memory(scorer, len(left), workers)] if log else ():
        log(line)
    shown = {"desc": "scoring", "unit": "track", "dynamic_ncols": True, "disable": bar_option(progress)}
    bar = tqdm(total=len(tracks), initial=len(scored), **shown)

    def done(number: int, scores: TrackScores) -> None:
        scored[number] = scores
        if folder is not None:
            folder.write(scores, origins[number])
        bar.update()

    with bar:
        score_tracks(scorer, left, workers, done)
    in_order = [scored[number] for number in range(len(tracks))]
    scores = Scores([row for track in in_order for row in track.rows], title(scorer.settings, len(tracks)))
    scores.notes = [*_describe_scores(in_order), *notes, *kept]
    if folder is not None:
        folder.finish(scores, [track.track for track in in_order])
    return scores, len(left)


def _describe_scores(tracks: Sequence[TrackScores]) -> list[str]:
    """Describe what the table's reader must know: intervals, tracks without a score, the metrics' warnings."""
    cases: dict[tuple[str, str], list[str]] = {}
    for scores in tracks:
        for remark in scores.remarks:
            cases.setdefault(tuple(remark), []).append(scores.track)
    intervals = [INTERVAL_NOTE] if len(tracks) > 1 else []
    warned = [f"{scores.track}: {message}" for scores in tracks for message in scores.warnings]
    return [*intervals, *warned, *(f"{' '.join(case)}: {', '.join(names)}" for case, names in cases.items())]


def _report(
    scores: Scores,
    scorer: TrackScorer,
    output: Path,
    run: Separator | str | os.PathLike | None,
    cost: Mapping[str, object],
) -> None:
    """Write the report in place of a former one; the scores are not lost with it."""
    folder = None if run is None or isinstance(run, Separator) else Path(run)
    try:
        (output / FILE).unlink(missing_ok=True)
        report_evaluation(scores, scorer.system, scorer.tracks, output, folder, cost)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"there is no report of the evaluation ({reason}); the same call makes it", stacklevel=3)
