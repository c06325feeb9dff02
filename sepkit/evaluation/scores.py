"""The scores of tracks: rows, their medians and means with intervals, a table and a CSV file."""

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sepkit.files import atomic_file
from sepkit.metrics.tracks import INTERVAL, STATISTICS, over_tracks

COLUMNS = ("system", "track", "target", "metric", "value")
_ABSENT = "-"  # in the table, where no track has a score
_EXACT = 100  # dB, above which a score in the table says no more than that rounding is left
_PAGE = 80  # characters
INTERVAL_NOTE = f"from .. to: {INTERVAL}"


class Score(NamedTuple):
    """One number; in dB, NaN where the metric has no value."""

    system: str
    track: str
    target: str
    metric: str
    value: float


@dataclass
class Scores:
    """The scores of one or more systems over tracks.

    Attributes:
        rows: all numbers, in the order of the tracks.
        title: what was measured and how, above the table.
        notes: what a reader of the table must know besides, below it.
        folder: where the files lie; None: nothing was written.
    """

    rows: list[Score] = field(default_factory=list)
    title: str = ""
    notes: list[str] = field(default_factory=list)
    folder: Path | None = None

    def names(self, column: str) -> list[str]:
        """List the different names in a column, "system", "track", "target" or "metric", by first appearance."""
        return list(dict.fromkeys(getattr(row, column) for row in self.rows))

    def values(self, system: str, target: str, metric: str) -> dict[str, float]:
        """Give the scores that exist, by track."""
        wanted = (system, target, metric)
        return {
            row.track: row.value
            for row in self.rows
            if (row.system, row.target, row.metric) == wanted and not math.isnan(row.value)
        }

    def median(self, system: str, target: str, metric: str) -> float:
        """Take the median over the tracks that have a score; NaN where none has."""
        return over_tracks(self.values(system, target, metric).values(), "median")[0]

    def mean(self, system: str, target: str, metric: str) -> float:
        """Take the mean over the tracks that have a score; NaN where none has."""
        return over_tracks(self.values(system, target, metric).values(), "mean")[0]

    def interval(self, system: str, target: str, metric: str, statistic: str = "median") -> tuple[float, float]:
        """Give the 95 % interval of the "median" or "mean" over tracks; NaN with fewer than two."""
        return over_tracks(self.values(system, target, metric).values(), statistic)[1:]

    def table(self) -> str:
        """Lay out median and mean over tracks, with intervals, of every target, system and metric, 80 columns wide."""
        parts = [self.title] if self.title else []
        parts += [self._block(target) for target in self.names("target")]
        if self.notes:
            parts.append("\n".join(self.notes))
        return "\n\n".join(parts)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write one line a number with 5 decimals; a value that does not exist is empty."""
        with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in self.rows:
                writer.writerow([*row[:-1], "" if math.isnan(row.value) else f"{row.value:.5f}"])

    def _block(self, target: str) -> str:
        """Lay out one target, as many metrics side by side as there is room for."""
        metrics = self.names("metric")
        first = max(len(name) for name in ["mixture/4", *self.names("target"), *self.names("system")])
        column = max(8, *(len(metric) + 1 for metric in metrics))
        n_columns = max(1, (_PAGE - first - 8) // column)
        groups = [metrics[start : start + n_columns] for start in range(0, len(metrics), n_columns)]
        return "\n".join(line for group in groups for line in self._lines(target, group, first, column))

    def _lines(self, target: str, metrics: Sequence[str], first: int, column: int) -> list[str]:
        systems = list(dict.fromkeys(row.system for row in self.rows if row.target == target))
        lines = [f"{self._heading(target):{first + 8}}" + "".join(f"{metric:>{column}}" for metric in metrics)]
        n_labels = 3 if len(self.names("track")) > 1 else 1
        for system in systems:
            for statistic in STATISTICS:
                found = [over_tracks(self.values(system, target, name).values(), statistic) for name in metrics]
                named = list(zip((statistic, "from", "to"), zip(*found, strict=True), strict=True))
                for label, values in named[:n_labels]:
                    name = system if label == "median" else ""
                    cells = "".join(f"{_cell(value):>{column}}" for value in values)
                    lines.append(f"{name:{first}}  {label:>6}{cells}")
        return lines

    def _heading(self, target: str) -> str:
        """Name the target, and how many tracks have scores where not all have."""
        scored = {row.track for row in self.rows if row.target == target and not math.isnan(row.value)}
        n_tracks = len(self.names("track"))
        return target if len(scored) == n_tracks else f"{target} ({len(scored)} of {n_tracks})"


def _cell(value: float) -> str:
    if math.isnan(value):
        return _ABSENT
    return f"{value:.2f}" if value <= _EXACT else f">{_EXACT}"
