"""Scores: tables, box plots, and one row a track."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sepkit.files import readable
from sepkit.metrics.bootstrap import INTERVAL, bootstrap_interval
from sepkit.metrics.units import NOT_DECIBELS
from sepkit.plots import plot_scores
from sepkit.report.media import drawing, new_figure, picture
from sepkit.report.page import Cell, Section, Tile, folded, grid, number, paragraph, table, text

Row = tuple[str, str, str, str, float]  # system, track, target, metric, value
_MOST_CELLS = 30000  # in the tables of tracks
_MOST_POINTS = 2000  # that a picture draws one by one
_OPEN = 12  # tracks, up to which their tables are open
_MOST_OPEN = 4  # tables
_NARROW = 4  # columns, up to which two tables have room side by side; half as many with intervals


class Summary(NamedTuple):
    """What the tracks give together, `median` and `mean` each with both ends of its 95 % interval.

    Of a comparison, the numbers are differences, and `system` is what is compared.
    """

    system: str
    target: str
    metric: str
    n_tracks: int
    median: tuple[float, float, float]
    mean: tuple[float, float, float]


def distinct(names: Iterable[str]) -> list[str]:
    """List names once each, by first appearance."""
    return list(dict.fromkeys(names))


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """Take medians and means over tracks, for each target, system and metric."""
    values: dict[tuple[str, ...], list[float]] = {}
    for system, _, target, metric, value in rows:
        values.setdefault((system, target, metric), []).extend([] if math.isnan(value) else [value])
    systems, targets, metrics = (distinct(row[column] for row in rows) for column in (0, 2, 3))
    return [
        Summary(*cell, len(found), bootstrap_interval(found, "median"), bootstrap_interval(found, "mean"))
        for cell in ((system, target, metric) for target in targets for system in systems for metric in metrics)
        for found in [values.get(cell, [])]
    ]


def main_metric(rows: Iterable[Row]) -> str:
    """Choose the metric that is shown first: SDR, else the first with a finite value, else none."""
    known = distinct(row[3] for row in rows if math.isfinite(row[4]))
    return "SDR" if "SDR" in known else next(iter(known), "")


def score_tiles(summaries: Iterable[Summary], metric: str, system: str) -> list[Tile]:
    """Give the median of a system for each target, beside what silence and an oracle reach.

    Args:
        summaries: of all systems.
        metric: which one.
        system: which one.
    """
    found = {(each.system, each.target): each.median[0] for each in summaries if each.metric == metric}
    tiles = []
    for name, target in found:
        if name == system:
            beside = [
                f"{other} {number(found[other, target])}"
                for other in ("silence", "oracle")
                if not math.isnan(found.get((other, target), math.nan))
            ]
            tiles.append(Tile(f"{target}, {metric}", _with_unit(found[name, target], metric), ", ".join(beside)))
    return tiles


def difference_tiles(differences: Iterable[Summary], metric: str, first: str) -> list[Tile]:
    """Give the median difference for each target and evaluation.

    Args:
        differences: to the first evaluation.
        metric: which one.
        first: name of that evaluation.
    """
    return [
        Tile(
            f"{each.target}, {metric}",
            _with_unit(each.median[0], metric, signed=True),
            f"{each.system} minus {first}, {number(each.median[1], True)} … {number(each.median[2], True)}",
        )
        for each in differences
        if each.metric == metric
    ]


def _with_unit(value: float, metric: str, signed: bool = False) -> str:
    return number(value, signed) + ("" if metric in NOT_DECIBELS or math.isnan(value) else " dB")


def score_section(summaries: Sequence[Summary], rows: Sequence[Row], title: str, notes: Iterable[str]) -> Section:
    """Show median and mean over tracks of every target, system and metric, and box plots.

    Args:
        summaries: of all systems.
        rows: all scores.
        title: what was measured and how.
        notes: what a reader must know besides.
    """
    tables = [_score_table(target, summaries) for target in distinct(each.target for each in summaries)]
    narrow = len({each.metric for each in summaries}) <= _NARROW // 2
    parts = [paragraph(title), boxes(rows), grid(tables, "wide" if narrow else "single")]
    parts += [paragraph(note, "note") for note in [*_explained(summaries), *notes]]
    return Section("Scores", "".join(parts) if summaries else "")


def _score_table(target: str, summaries: Sequence[Summary]) -> str:
    cells = {(each.system, each.metric): each for each in summaries if each.target == target}
    systems, metrics = (distinct(key[place] for key in cells) for place in (0, 1))
    nothing = Summary("", "", "", 0, (math.nan,) * 3, (math.nan,) * 3)
    rows: list[Sequence[Cell]] = []
    for system in systems:
        found = [cells.get((system, metric), nothing) for metric in metrics]
        rows.append([system, "median", *(each.median for each in found)])
        rows.append(["", "mean", *(each.mean for each in found)])
    n_tracks = max(each.n_tracks for each in cells.values())
    caption = f"{target}, over {n_tracks} {'track' if n_tracks == 1 else 'tracks'}"
    return table(caption, ["", "over tracks", *metrics], rows, n_marked=2 if len(systems) > 1 else 0)


def difference_section(
    differences: Sequence[Summary], rows: Sequence[Row], first: str, notes: Iterable[str]
) -> Section:
    """Show the paired differences of every target, metric and evaluation, and box plots of the scores.

    Args:
        differences: to the first evaluation, track by track.
        rows: all scores.
        first: name of that evaluation.
        notes: what a reader must know besides.
    """
    sentence = (
        f"Each score minus that of {first} on the same track: medians and means, each with its 95 % interval. "
        "Where an interval does not hold 0, the tracks agree on which is better."
    )
    others = distinct(each.system for each in differences)
    parts = [paragraph(sentence)]
    for other in others:
        found = [each for each in differences if each.system == other]
        heading = [f"<h3>{text(other)} minus {text(first)}</h3>"] if len(others) > 1 else []
        tables = (_difference_table(target, found) for target in distinct(each.target for each in found))
        parts += [*heading, grid(tables, "wide")]
    told = [paragraph(note, "note") for note in [*_explained(differences), *notes]]
    return Section("Differences", "".join([*parts, boxes(rows), *told]))


def _explained(summaries: Iterable[Summary]) -> list[str]:
    """Say what the small numbers below the others are, where there are any."""
    if all(math.isnan(each.median[1]) for each in summaries):
        return []
    return [f"Small, below a number: its {INTERVAL}."]


def _difference_table(target: str, differences: Iterable[Summary]) -> str:
    cells = [(each.metric, each.median, each.mean, str(each.n_tracks)) for each in differences if each.target == target]
    return table(target, ["", "median", "mean", "tracks"], cells, signed=True)


def boxes(rows: Sequence[Row]) -> str:
    """Draw box plots over tracks: of the main metric one for each target, of the others one each, folded away.

    Args:
        rows: all scores.
    """
    main = main_metric(rows)
    if not main:
        return ""
    targets = distinct(row[2] for row in rows if row[3] == main)
    first = grid(_target_boxes([row for row in rows if row[2] == target], main, target) for target in targets)
    others = [metric for metric in distinct(row[3] for row in rows if math.isfinite(row[4])) if metric != main]
    if not others:
        return first
    drawn = (_metric_boxes(rows, name) for name in others)
    return first + folded("Box plots of the other metrics", grid(drawn, "wide"))


def _target_boxes(rows: Sequence[Row], metric: str, target: str) -> str:
    """Draw the systems side by side for one target."""
    shown = [(target, track, system, name, value) for system, track, _, name, value in rows]
    if not any(row[3] == metric and math.isfinite(row[4]) for row in shown):
        return ""
    with drawing():
        figure = new_figure(4.3, 2.7)
        ax = figure.subplots()
        plot_scores(shown, metric, ax).get_legend().remove()
        ax.set_title(readable(target), loc="left")
        _finish(ax, distinct(row[2] for row in shown), len(shown))
        return picture(figure, f"Box plots over tracks: {metric} of {target} by system")


def _metric_boxes(rows: Sequence[Row], metric: str) -> str:
    """Draw all systems and targets for one metric."""
    with drawing():
        figure = new_figure(4.3, 3.1)
        ax = plot_scores(rows, metric, figure.subplots())
        ax.get_legend().remove()
        figure.legend(*ax.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
        _finish(ax, distinct(row[2] for row in rows), len(rows))
        return picture(figure, f"Box plots over tracks: {metric} by target and system")


def _finish(ax, labels: Sequence[str], n_rows: int) -> None:
    """Turn long labels, and draw very many points as one image."""
    if sum(map(len, labels)) > 40:
        ax.tick_params(axis="x", labelrotation=25)
    if n_rows > _MOST_POINTS:
        for points in ax.collections:
            points.set_rasterized(True)


def track_section(rows: Sequence[Row], system: str) -> Section:
    """Show the scores of every track, in one table for each target.

    Args:
        rows: all scores.
        system: which is shown.
    """
    shown = [row for row in rows if row[0] == system]
    metrics = distinct(row[3] for row in shown)
    value = {row[1:4]: row[4] for row in shown}
    return _tracks(
        shown,
        metrics,
        {
            target: lambda track, metric, target=target: value.get((track, target, metric), math.nan)
            for target in distinct(row[2] for row in shown)
        },
    )


def beside_section(rows: Sequence[Row]) -> Section:
    """Show the scores of every track side by side, in one table for each target and metric.

    Args:
        rows: all scores.
    """
    value = {row[:4]: row[4] for row in rows}
    return _tracks(
        rows,
        distinct(row[0] for row in rows),
        {
            f"{target}, {metric}": lambda track, system, rest=(target, metric): value.get(
                (system, track, *rest), math.nan
            )
            for target, metric in distinct(row[2:4] for row in rows)
        },
    )


def _tracks(rows: Sequence[Row], columns: Sequence[str], tables: Mapping[str, Callable[[str, str], float]]) -> Section:
    """Lay out tables of one row a track; a table gives the number of a track in a column."""
    tracks = distinct(row[1] for row in rows)
    n_tracks = max(1, _MOST_CELLS // max(1, len(columns) * len(tables)))
    parts = []
    for name, value in tables.items():
        cells = [[track, *(value(track, column) for column in columns)] for track in tracks[:n_tracks]]
        shown = len(tracks) <= _OPEN and len(parts) < _MOST_OPEN
        parts.append(folded(name, table(f"{name}, by track", ["track", *columns], cells), shown))
    left_out = f"The first {n_tracks} of {len(tracks)} tracks; scores.csv of the evaluation holds all."
    note = paragraph(left_out, "note") if len(tracks) > n_tracks else ""
    return Section("Tracks", grid(parts, "wide" if len(columns) <= _NARROW else "single") + note if parts else "")
