"""Scores: tables, box plots, and one row a track."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sepkit.files import readable
from sepkit.metrics.bootstrap import INTERVAL, bootstrap_interval
from sepkit.metrics.units import NOT_DECIBELS
from sepkit.plots import new_figure, plot_scores
from sepkit.report.media import drawing, picture
from sepkit.report.page import Cell, Section, Table, Tile, build_section, number

Row = tuple[str, str, str, str, float]  # system, track, target, metric, value
_MOST_CELLS = 30000  # in the tables of tracks
_MOST_POINTS = 2000  # that a picture draws one by one
_OPEN = 12  # tracks, up to which their tables are open
_MOST_OPEN = 4  # tables
_NARROW = 4  # columns, up to which two tables have room side by side; half as many with intervals


class Summary(NamedTuple):
    """Scores over tracks, `median` and `mean` each with both ends of its 95 % interval.

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
    """Compute medians and means over tracks, for each target, system and metric."""
    values: dict[tuple[str, ...], list[float]] = {}
    for system, _, target, metric, value in rows:
        values.setdefault((system, target, metric), []).extend([] if math.isnan(value) else [value])
    systems, targets, metrics = (distinct(row[column] for row in rows) for column in (0, 2, 3))
    return [
        Summary(*cell, len(scores), bootstrap_interval(scores, "median"), bootstrap_interval(scores, "mean"))
        for cell in ((system, target, metric) for target in targets for system in systems for metric in metrics)
        for scores in [values.get(cell, [])]
    ]


def main_metric(rows: Iterable[Row]) -> str:
    """Choose the metric that is shown first: SDR, else the first with a finite value, else none."""
    names = distinct(row[3] for row in rows if math.isfinite(row[4]))
    return "SDR" if "SDR" in names else next(iter(names), "")


def score_tiles(summaries: Iterable[Summary], metric: str, system: str) -> list[Tile]:
    """List the median of a system for each target, beside those of silence and an oracle."""
    medians = {(row.system, row.target): row.median[0] for row in summaries if row.metric == metric}
    tiles = []
    for target in [target for name, target in medians if name == system]:
        bounds = {name: medians.get((name, target), math.nan) for name in ("silence", "oracle")}
        note = ", ".join(f"{name} {number(value)}" for name, value in bounds.items() if not math.isnan(value))
        tiles.append(Tile(f"{target}, {metric}", _with_unit(medians[system, target], metric), note))
    return tiles


def difference_tiles(differences: Iterable[Summary], metric: str, first: str) -> list[Tile]:
    """List the median difference for each target and evaluation."""
    return [
        Tile(
            f"{row.target}, {metric}",
            _with_unit(row.median[0], metric, signed=True),
            f"{row.system} minus {first}, {number(row.median[1], True)} … {number(row.median[2], True)}",
        )
        for row in differences
        if row.metric == metric
    ]


def _with_unit(value: float, metric: str, signed: bool = False) -> str:
    return number(value, signed) + ("" if metric in NOT_DECIBELS or math.isnan(value) else " dB")


def score_section(summaries: Sequence[Summary], rows: Sequence[Row], title: str, notes: Iterable[str]) -> Section:
    """Show median and mean over tracks of every target, system and metric, and box plots."""
    if not summaries:
        return Section("Scores", "")
    narrow = len({row.metric for row in summaries}) <= _NARROW // 2
    return build_section(
        "Scores",
        "scores",
        lead=title,
        pictures_first=True,
        pictures=draw_boxes(rows),
        groups=[{"tables": [_score_table(target, summaries) for target in distinct(row.target for row in summaries)]}],
        kind="wide" if narrow else "single",
        signed=False,
        notes=[*_explain_intervals(summaries), *notes],
    )


def _score_table(target: str, summaries: Sequence[Summary]) -> Table:
    cells = {(row.system, row.metric): row for row in summaries if row.target == target}
    systems, metrics = (distinct(key[place] for key in cells) for place in (0, 1))
    missing = Summary("", "", "", 0, (math.nan,) * 3, (math.nan,) * 3)
    rows: list[Sequence[Cell]] = []
    for system in systems:
        scores = [cells.get((system, metric), missing) for metric in metrics]
        rows.append([system, "median", *(score.median for score in scores)])
        rows.append(["", "mean", *(score.mean for score in scores)])
    n_tracks = max(row.n_tracks for row in cells.values())
    caption = f"{target}, over {n_tracks} {'track' if n_tracks == 1 else 'tracks'}"
    return Table(caption, ["", "over tracks", *metrics], rows, n_marked=2 if len(systems) > 1 else 0)


def difference_section(
    differences: Sequence[Summary], rows: Sequence[Row], first: str, notes: Iterable[str]
) -> Section:
    """Show the paired differences to the first evaluation, and box plots of the scores."""
    lead = (
        f"Each score minus that of {first} on the same track: medians and means, each with its 95 % interval. "
        "Where an interval does not hold 0, the tracks agree on which is better."
    )
    others = distinct(row.system for row in differences)
    groups = []
    for other in others:
        tables: dict[str, list[Sequence[Cell]]] = {}
        for row in differences:
            if row.system == other:
                tables.setdefault(row.target, []).append((row.metric, row.median, row.mean, str(row.n_tracks)))
        columns = ["", "median", "mean", "tracks"]
        groups.append(
            {
                "heading": f"{other} minus {first}" if len(others) > 1 else "",
                "tables": [Table(target, columns, cells) for target, cells in tables.items()],
            }
        )
    return build_section(
        "Differences",
        "scores",
        lead=lead,
        pictures_first=False,
        pictures=draw_boxes(rows),
        groups=groups,
        kind="wide",
        signed=True,
        notes=[*_explain_intervals(differences), *notes],
    )


def _explain_intervals(summaries: Iterable[Summary]) -> list[str]:
    """Describe the small numbers below the others, where there are any."""
    if all(math.isnan(row.median[1]) for row in summaries):
        return []
    return [f"Small, below a number: its {INTERVAL}."]


def draw_boxes(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Draw box plots over tracks, as SVG: "main" for each target of the main metric, "others" for the other metrics."""
    finite = [row for row in rows if math.isfinite(row[4])]
    main = main_metric(finite)
    targets = distinct(row[2] for row in finite if row[3] == main)
    others = [metric for metric in distinct(row[3] for row in finite) if metric != main]
    return {
        "main": [_draw_target([row for row in rows if row[2] == target], main) for target in targets],
        "others": [_draw_metric(rows, metric) for metric in others],
    }


def _draw_target(rows: Sequence[Row], metric: str) -> str:
    """Draw the systems side by side for one target."""
    target = rows[0][2]
    with drawing():
        figure = new_figure(4.3, 2.7)
        shown = [(target, track, system, name, value) for system, track, _, name, value in rows]
        ax = plot_scores(shown, metric, figure.subplots())
        ax.get_legend().remove()
        ax.set_title(readable(target), loc="left")
        _finish(ax, distinct(row[2] for row in shown), len(rows))
        return picture(figure, f"Box plots over tracks: {metric} of {target} by system")


def _draw_metric(rows: Sequence[Row], metric: str) -> str:
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
    """Show the scores of every track, in one table for each target."""
    return _build_tracks({(row[2], row[1], row[3]): row[4] for row in rows if row[0] == system})


def system_section(rows: Sequence[Row]) -> Section:
    """Show the scores of every track and system, in one table for each target and metric."""
    return _build_tracks({(f"{row[2]}, {row[3]}", row[1], row[0]): row[4] for row in rows})


def _build_tracks(values: Mapping[tuple[str, str, str], float]) -> Section:
    """Build tables of one row a track, from values by table, track and column."""
    if not values:
        return Section("Tracks", "")
    names, tracks, columns = (distinct(key[place] for key in values) for place in range(3))
    n_tracks = max(1, _MOST_CELLS // (len(columns) * len(names)))
    tables = {
        name: Table(
            f"{name}, by track",
            ["track", *columns],
            [
                [track, *(values.get((name, track, column), math.nan) for column in columns)]
                for track in tracks[:n_tracks]
            ],
        )
        for name in names
    }
    left_out = f"The first {n_tracks} of {len(tracks)} tracks; scores.csv of the evaluation holds all."
    return build_section(
        "Tracks",
        "tracks",
        tables=tables,
        n_open=_MOST_OPEN if len(tracks) <= _OPEN else 0,
        kind="wide" if len(columns) <= _NARROW else "single",
        notes=[left_out] if len(tracks) > n_tracks else [],
    )
