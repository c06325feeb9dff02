"""The four reports."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from sepkit.arguments import check_path, check_range
from sepkit.excerpts import Excerpt
from sepkit.report.environment import cost_section
from sepkit.report.excerpts import excerpt_section
from sepkit.report.page import FILE, Tile, duration, write_page
from sepkit.report.run import Run, curve_section, read_run, recipe_section, run_tiles
from sepkit.report.scores import (
    Row,
    Summary,
    difference_section,
    difference_tiles,
    main_metric,
    score_section,
    score_tiles,
    summarize,
    system_section,
    track_section,
)
from sepkit.report.separation import separation_parts

_CPU = torch.device("cpu")


def report_training(
    folder: str | os.PathLike,
    excerpts: Sequence[Excerpt] = (),
    rows: Sequence[Row] = (),
    *,
    title: str = "",
    notes: Sequence[str] = (),
    data: Mapping[str, object] | None = None,
    cost: Mapping[str, object] | None = None,
    device: torch.device = _CPU,
) -> Path:
    """Write the report of a training into its run folder.

    Args:
        folder: the run folder; what it lacks has no section.
        excerpts: of validation songs.
        rows: scores of validation songs, beside baselines.
        title: what was measured and how.
        notes: what a reader of the scores must know.
        data: names and values about the songs.
        cost: names and values of costs.
        device: on which it was trained.

    Returns:
        The file, `report.html` in the folder.
    """
    check_path(folder, "folder")
    run = read_run(folder)
    sections = [
        curve_section(run),
        score_section(summarize(rows), rows, title, notes),
        excerpt_section(excerpts),
        system_section(rows),
        recipe_section(run, data),
        cost_section(cost, device),
    ]
    sources = ", ".join(run.card.get("separator", {}).get("sources", []))
    lead = f"A separator of {sources}." if sources else "A separator."
    return write_page(Path(folder) / FILE, "Training", run.name, lead, run_tiles(run), sections)


def report_scores(
    path: str | os.PathLike,
    name: str,
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    system: str,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    excerpts: Sequence[Excerpt] = (),
    remarks: Mapping[str, str] | None = None,
    run: str | os.PathLike | None = None,
    cost: Mapping[str, object] | None = None,
    device: torch.device = _CPU,
) -> Path:
    """Write the report of an evaluation.

    Args:
        path: the file.
        name: of what was scored.
        rows: all scores.
        summaries: of the scores, over tracks.
        system: what the evaluation is about, beside its baselines.
        title: what was measured and how.
        notes: what a reader must know.
        excerpts: of some tracks.
        remarks: by track, beside its excerpt.
        run: folder of the model's training; None: unknown.
        cost: names and values of costs.
        device: on which the model ran.

    Returns:
        The file.
    """
    trained = Run("") if run is None else read_run(run)
    tracks = len({row[1] for row in rows})
    sections = [
        score_section(summaries, rows, title, notes),
        excerpt_section(excerpts, remarks),
        track_section(rows, system),
        curve_section(trained),
        recipe_section(trained),
        cost_section(cost, device),
    ]
    lead = f"{tracks} {'track' if tracks == 1 else 'tracks'}; the figures below are medians over them."
    tiles = score_tiles(summaries, main_metric(rows), system)
    return write_page(path, "Evaluation", name, lead, tiles, sections)


def report_comparison(
    path: str | os.PathLike,
    names: Sequence[str],
    rows: Sequence[Row],
    differences: Sequence[Summary],
    notes: Sequence[str] = (),
) -> Path:
    """Write the report of a comparison.

    Args:
        path: the file.
        names: of the evaluations, of which the others are compared with the first.
        rows: their scores of the common tracks, the name in place of the system.
        differences: to the first evaluation.
        notes: what a reader must know.

    Returns:
        The file.
    """
    metric, tracks = main_metric(rows), len({row[1] for row in rows})
    sections = [difference_section(differences, rows, names[0], notes), system_section(rows)]
    lead = f"Paired differences to {names[0]} over {tracks} common {'track' if tracks == 1 else 'tracks'}."
    tiles = difference_tiles(differences, metric, names[0])
    return write_page(path, "Comparison", " and ".join([*names[1:], names[0]]), lead, tiles, sections)


def report_separation(
    path: str | os.PathLike,
    name: str,
    recording: str | os.PathLike,
    stems: Mapping[str, str | os.PathLike],
    *,
    seconds: float,
    gain: float = 1.0,
    model: str = "",
    cost: Mapping[str, object] | None = None,
    device: torch.device = _CPU,
) -> Path:
    """Write the report of a separated recording.

    Args:
        path: the file.
        name: of the recording.
        recording: audio file.
        stems: files, by name; the excerpt lies where the first one is loudest.
        seconds: duration of the recording.
        gain: by which the stems were scaled.
        model: what separated them.
        cost: names and values of costs.
        device: on which the model ran.

    Returns:
        The file.
    """
    check_range("seconds", seconds, 0, 1e9, above=True)
    waveforms, excerpt = separation_parts(name, recording, stems, seconds, gain)
    sections = [
        excerpt_section([excerpt]),
        waveforms,
        cost_section({"recording": str(recording), "model": model, **(cost or {})}, device),
    ]
    tiles = [Tile("duration", duration(seconds)), Tile("stems", str(len(stems)), ", ".join(stems))]
    lead = f"{', '.join(stems)}: an excerpt where {next(iter(stems))} sounds most, and waveforms of the whole."
    return write_page(path, "Separation", name, lead, tiles, sections)
