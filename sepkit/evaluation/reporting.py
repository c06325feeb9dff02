"""What an evaluation and a comparison show in their reports."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from sepkit.evaluation.comparison import Comparison
from sepkit.evaluation.scores import Score, Scores
from sepkit.evaluation.table import INTERVAL_NOTE
from sepkit.evaluation.tracks import ModelTrack, Track
from sepkit.excerpts import Excerpt, shorten
from sepkit.report import FILE, SECONDS, Summary, main_metric, report_comparison, report_scores, summarize


def report_evaluation(
    scores: Scores,
    system: str,
    tracks: Sequence[Track],
    output: Path,
    run: Path | None,
    cost: Mapping[str, object],
) -> Path:
    """Write `report.html` of an evaluation, with excerpts of its best, its middle and its worst track."""
    remarks = choose_tracks(scores.rows, system)
    model = next((track.model for track in tracks if isinstance(track, ModelTrack)), None)
    device = next((part.device for part in model.parameters()), None) if model else None
    return report_scores(
        output / FILE,
        (run or output).resolve().name,
        scores.rows,
        summarize(scores.rows),
        system,
        title=scores.title,
        notes=_for_pages(scores.notes),
        excerpts=[_excerpt(track) for name in remarks for track in tracks if track.name == name and track.mixed],
        remarks=remarks,
        run=run,
        cost=cost,
        device=device or torch.device("cpu"),
    )


def choose_tracks(rows: Iterable[Score], system: str) -> dict[str, str]:
    """Choose tracks that show how good a system is: the best, the middle and the worst one of its first target."""
    own = [row for row in rows if row.system == system and math.isfinite(row.value)]
    metric = main_metric(own)
    target = next((row.target for row in own if row.metric == metric), "")
    ranked = sorted((row.value, row.track) for row in own if (row.metric, row.target) == (metric, target))
    places = {"the best": -1, "the middle": (len(ranked) - 1) // 2, "the worst": 0} if ranked else {}
    chosen: dict[str, str] = {}
    for label, place in places.items():
        value, track = ranked[place]
        what = f"{label} of {len(ranked)} tracks, " if len(ranked) > 1 else ""
        chosen.setdefault(track, f"{what}{metric} of {target} {value:.2f}")
    return chosen


def _excerpt(track: Track) -> Excerpt:
    material, stems = track.read(), track.targets.stems
    estimates, references = (part[: len(stems)] for part in (material.estimate, material.reference))
    whole = Excerpt(track.name, tuple(stems), track.sample_rate, 0.0, material.mixture, estimates, references)
    return shorten(whole, SECONDS)


def report_compared(comparison: Comparison, output: Path) -> Path:
    """Write `report.html` of a comparison.

    Args:
        comparison: of evaluations.
        output: folder.
    """
    differences = [Summary(*each) for each in comparison.differences()]
    notes = _for_pages(comparison.notes)
    return report_comparison(output / FILE, comparison.names, comparison.rows, differences, notes)


def _for_pages(notes: Iterable[str]) -> list[str]:
    """Remove what explains the columns of the terminal's table; a page explains its own."""
    return [note for note in notes if note != INTERVAL_NOTE]
