"""Score tracks: a model on songs, or estimates in files against references."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from sepkit.checkpoint import load_model
from sepkit.datasets import open_songs
from sepkit.evaluation.museval_files import write_track
from sepkit.evaluation.scores import Score, Scores
from sepkit.evaluation.scoring import (
    Engine,
    Material,
    Measurement,
    baseline_estimates,
    measure,
    museval_engine,
    score_frames,
)
from sepkit.evaluation.tracks import Track, folder_tracks, song_tracks
from sepkit.separator import Separator
from sepkit.transforms import STFT

__all__ = ["ENGINES", "Score", "Scores", "evaluate"]

ENGINES = ("sepkit", "museval")


def evaluate(
    model: Separator | str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    *,
    split: str = "test",
    estimates: str | os.PathLike | None = None,
    references: str | os.PathLike | None = None,
    output: str | os.PathLike | None = None,
    engine: str = "sepkit",
    baselines: bool = True,
    window: float = 1.0,
    hop: float = 1.0,
    batch_size: int = 1,
    overlap: float = 0.25,
    device: str | torch.device | None = None,
    resample: bool = False,
    progress: bool = True,
) -> Scores:
    """Score a model on songs, or estimates in files against references.

    One stem alone is scored beside what is left of the mixture, as [stem, accompaniment]. SDR, ISR, SIR and SAR
    are museval's, version 4: of frames, of which each track counts the median; a frame in which a reference or an
    estimate is silent has no score. SI-SDR, SI-SDRi (its improvement over the mixture) and uSDR are of the whole
    track. Systems are "model" or "estimates" and, as baselines, "mixture/S" (the mixture divided by the number of
    targets), "silence", and "oracle", the ideal ratio mask.

    Args:
        model: a separator, or the folder of one.
        data: root of songs for the model; "demo": the built-in songs.
        split: of the data, "train", "valid" or "test"; names the folder of JSON files.
        estimates: in place of model and data: folder of tracks, `track/stem.ext`, or of the stems of one track.
        references: for the estimates, folders and files of the same names.
        output: folder for `scores.csv` and, of the model or the estimates, museval's `<split>/<track>.json`; None:
            nothing is written.
        engine: what computes SDR, ISR, SIR and SAR: "sepkit", or, for whoever doubts, "museval" itself.
        baselines: score what needs no model, too.
        window: seconds per frame, > 0.
        hop: seconds between frames, > 0.
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].
        device: to which the model is moved; None: it stays where it is, and one from a folder on the CPU.
        resample: let songs of another rate than the model's be resampled.
        progress: show a bar on stderr where that is a terminal.

    Raises:
        ValueError: the arguments do not say what is to be scored, or one is out of range.
        sepkit.checkpoint.ModelError: the folder holds no model.
        sepkit.datasets.DatasetError: the songs, or the two folders, cannot be used.
    """
    _check_material(model, data, estimates, references)
    if engine not in ENGINES or window <= 0 or hop <= 0:
        raise ValueError(
            f"engine must be one of {', '.join(ENGINES)}, window and hop > 0 s, got {engine!r}, {window} and {hop}"
        )
    if model is not None:
        system, transform, tracks = _open_model(model, data, split, batch_size, overlap, device, resample)
    else:
        system, transform, tracks = "estimates", STFT(), folder_tracks(estimates, references)
    framewise, notes = _start(engine)
    score = partial(measure, window=window, hop=hop, engine=framewise)
    scores = Scores(title=_title(len(tracks), engine, window, hop))
    files = None if output is None else Path(output) / split
    for track in tqdm(tracks, "scoring", unit="track", disable=None if progress else True, dynamic_ncols=True):
        material = track.read()
        for name, rated in _systems(system, material, track.sample_rate, transform if baselines else None):
            measured, warned = _measure_quietly(score, rated, track.sample_rate)
            scores.rows += _rows(name, track, measured)
            if name == system:
                notes += [f"{track.name}: {message}" for message in warned]
                if files:
                    write_track(files / f"{track.name}.json", track.targets, measured, window, hop)
    scores.notes = [*notes, *_remarks(scores, system)]
    if files:
        _write(scores, files, [track.name for track in tracks])
    return scores


def _check_material(*given: object) -> None:
    model, data, estimates, references = (value is not None for value in given)
    if (model, data, estimates, references) not in ((True, True, False, False), (False, False, True, True)):
        names = ("model", "data", "estimates", "references")
        present = [name for name, value in zip(names, given, strict=True) if value is not None]
        raise ValueError(
            f"give model and data, or estimates and references, got {' and '.join(present) or 'none of them'}"
        )


def _open_model(
    model: Separator | str | os.PathLike,
    data: str | os.PathLike,
    split: str,
    batch_size: int,
    overlap: float,
    device: str | torch.device | None,
    resample: bool,
) -> tuple[str, STFT, list[Track]]:
    """Give the system's name, the transform of its oracle, and the tracks."""
    if not isinstance(model, Separator):
        model = load_model(model, device or "cpu")
    elif device is not None:
        model.to(device)
    songs = open_songs(data, split, model.sources, model.sample_rate, model.n_channels, resample=resample)
    return "model", model.transform, song_tracks(model, songs, batch_size, overlap)


def _start(engine: str) -> tuple[Engine, list[str]]:
    """Start the engine; without what museval needs SDR is left, and a note says so."""
    if engine == "sepkit":
        return score_frames, []
    try:
        return museval_engine(), []
    except ImportError as error:
        note = f"ISR, SIR and SAR are missing: install museval and ffmpeg ({' '.join(str(error).split())})"
        return partial(score_frames, metrics=["SDR"]), [note]


def _title(n_tracks: int, engine: str, window: float, hop: float) -> str:
    return (
        f"{n_tracks} {'track' if n_tracks == 1 else 'tracks'}, in dB, median and mean over tracks.\n"
        f"SDR ISR SIR SAR: median over frames of {window:g} s every {hop:g} s (BSS Eval v4, {engine}).\n"
        "SI-SDR, SI-SDRi (over the mixture), uSDR: of the whole track."
    )


def _systems(
    system: str, material: Material, sample_rate: int, transform: STFT | None
) -> Iterator[tuple[str, Material]]:
    """Yield the material with the estimates of each system."""
    yield system, material
    if transform is not None:
        for name, estimate in baseline_estimates(material, transform, sample_rate):
            yield name, material._replace(estimate=estimate)


def _measure_quietly(
    score: Callable[[Material, int], Measurement], material: Material, sample_rate: int
) -> tuple[Measurement, list[str]]:
    """Score, and keep the metrics' warnings for the table in place of the terminal."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measured = score(material, sample_rate)
    return measured, list(dict.fromkeys(str(each.message) for each in caught if each.category is UserWarning))


def _rows(system: str, track: Track, measured: Measurement) -> list[Score]:
    return [
        Score(system, track.name, target, metric, value)
        for source, target in enumerate(track.targets)
        for metric, value in measured.values(source).items()
    ]


def _remarks(scores: Scores, system: str) -> list[str]:
    """Say which tracks have no score, and why."""
    remarks = []
    for target in scores.names("target"):
        found = {metric: scores.values(system, target, metric) for metric in ("uSDR", "SDR", "SI-SDR")}
        scored = list(found["uSDR"])
        tracks = [row.track for row in scores.rows if row[0] == system and row[2:4] == (target, "uSDR")]
        cases = {
            "is silent throughout, not scored": [name for name in tracks if name not in scored],
            "has no frame in which all stems sound, no SDR, ISR, SIR, SAR": [
                name for name in scored if name not in found["SDR"]
            ],
            "is estimated as silence, 0 dB SDR and no SI-SDR": [
                name for name in scored if name not in found["SI-SDR"]
            ],
        }
        remarks += [f"{target} {case}: {', '.join(names)}" for case, names in cases.items() if names]
    return remarks


def _write(scores: Scores, files: Path, tracks: Sequence[str]) -> None:
    """Write the table, and say where everything lies."""
    scores.folder = files.parent
    scores.to_csv(files.parent / "scores.csv")
    scores.notes.append(f"scores: {files.parent / 'scores.csv'}; museval's JSON: {files}")
    others = {path.stem for path in files.glob("*.json")} - set(tracks)
    if others:
        scores.notes.append(f"{files} holds JSON of {len(others)} more tracks, from an earlier evaluation")
