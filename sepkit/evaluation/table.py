"""The scores of tracks as text, 80 columns wide."""

import math
from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING

from sepkit.evaluation.settings import Settings
from sepkit.metrics.bootstrap import INTERVAL, STATISTICS, bootstrap_interval
from sepkit.metrics.units import NOT_DECIBELS

if TYPE_CHECKING:
    from sepkit.evaluation.scores import Scores

INTERVAL_NOTE = f"intervals: {INTERVAL}"
_ABSENT = "-"  # where no track has a score
_EXACT = 100  # dB, above which a score is rounding alone
_PAGE = 80  # characters
_GAP = 2  # characters between columns


def title(settings: Settings, n_tracks: int) -> str:
    """Describe above the table what is measured and how."""
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


def lay_out_medians(scores: "Scores") -> list[str]:
    """Write medians over tracks, a block a target and a line a system.

    The first metrics have intervals, `2.83 [1.72, 3.84]`, as many of them as there is room for, at least one.
    """
    targets, metrics = scores.names("target"), scores.names("metric")
    lines = [(target, system) for target in targets for system in scores.systems(target)]
    intervals = [
        {line: bootstrap_interval(scores.values(line[1], line[0], metric).values(), "median") for line in lines}
        for metric in metrics
    ]
    first = max(map(len, [*map(scores.heading, targets), *scores.names("system")]), default=0)
    for n_intervals in range(len(metrics), 0, -1):
        columns = [_Column(metric, intervals[i], i < n_intervals) for i, metric in enumerate(metrics)]
        if first + sum(column.width for column in columns) <= _PAGE:
            break
    return ["\n".join(_median_lines(scores, target, first, columns)) for target in targets]


class _Column:
    """The medians of a metric, with or without their intervals, aligned."""

    def __init__(
        self, metric: str, intervals: Mapping[tuple[str, str], tuple[float, ...]], has_intervals: bool
    ) -> None:
        self._metric = metric
        self._medians = {key: _cell(median) for key, (median, _, _) in intervals.items()}
        self._intervals = {
            key: f" [{_cell(low)}, {_cell(high)}]" if has_intervals and not math.isnan(low) else ""
            for key, (_, low, high) in intervals.items()
        }
        self._left = _GAP + max(map(len, [metric, *self._medians.values()]))
        self.width = self._left + max(map(len, self._intervals.values()))

    def heading(self) -> str:
        """Name the metric above the medians."""
        return f"{self._metric:>{self._left}}".ljust(self.width)

    def cell(self, target: str, system: str) -> str:
        """Write `2.83 [1.72, 3.84]` or `2.83`."""
        key = (target, system)
        return f"{self._medians[key]:>{self._left}}{self._intervals[key]}".ljust(self.width)


def _median_lines(scores: "Scores", target: str, first: int, columns: Sequence[_Column]) -> Iterator[str]:
    for group in _groups(columns, _PAGE - first):
        yield f"{scores.heading(target):{first}}" + "".join(column.heading() for column in group).rstrip()
        for system in scores.systems(target):
            yield f"{system:{first}}" + "".join(column.cell(target, system) for column in group).rstrip()


def _groups(columns: Sequence[_Column], room: int) -> list[list[_Column]]:
    """Split columns into those that stand side by side."""
    groups: list[list[_Column]] = [[]]
    for column in columns:
        if groups[-1] and sum(other.width for other in groups[-1]) + column.width > room:
            groups.append([])
        groups[-1].append(column)
    return groups


def lay_out_statistics(scores: "Scores") -> list[str]:
    """Write median and mean over tracks, each with its interval below it, a block a target."""
    metrics = scores.names("metric")
    first = max(len(name) for name in ["mixture/4", *scores.names("target"), *scores.names("system")])
    column = max(8, *(len(metric) + 1 for metric in metrics))
    n_columns = max(1, (_PAGE - first - 8) // column)
    groups = [metrics[start : start + n_columns] for start in range(0, len(metrics), n_columns)]
    return [
        "\n".join(line for group in groups for line in _statistics_lines(scores, target, group, first, column))
        for target in scores.names("target")
    ]


def _statistics_lines(scores: "Scores", target: str, metrics: Sequence[str], first: int, column: int) -> Iterator[str]:
    yield f"{scores.heading(target):{first + 8}}" + "".join(f"{metric:>{column}}" for metric in metrics)
    n_labels = 3 if len(scores.names("track")) > 1 else 1
    for system in scores.systems(target):
        for statistic in STATISTICS:
            intervals = [
                bootstrap_interval(scores.values(system, target, name).values(), statistic) for name in metrics
            ]
            named = list(zip((statistic, "from", "to"), zip(*intervals, strict=True), strict=True))
            for label, row in named[:n_labels]:
                cells = "".join(f"{_cell(value):>{column}}" for value in row)
                yield f"{system if label == 'median' else '':{first}}  {label:>6}{cells}"


def _cell(value: float) -> str:
    if math.isnan(value):
        return _ABSENT
    return f"{value:.2f}" if value <= _EXACT else f">{_EXACT}"
