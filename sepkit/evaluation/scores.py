"""The scores of tracks: rows, their medians and means, a table and a CSV file."""

import csv
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

COLUMNS = ("system", "track", "target", "metric", "value")
_ABSENT = "-"  # in the table, where no track has a score
_EXACT = 100  # dB, above which a score in the table says no more than that rounding is left


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
        found = self.values(system, target, metric).values()
        return statistics.median(found) if found else math.nan

    def mean(self, system: str, target: str, metric: str) -> float:
        """Take the mean over the tracks that have a score; NaN where none has."""
        found = self.values(system, target, metric).values()
        return sum(found) / len(found) if found else math.nan

    def table(self) -> str:
        """Lay out the median and the mean over tracks of every target, system and metric, 80 columns wide."""
        parts = [self.title] if self.title else []
        parts += [self._block(target) for target in self.names("target")]
        if self.notes:
            parts.append("\n".join(self.notes))
        return "\n\n".join(parts)

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write one line a number with 5 decimals; a value that does not exist is empty."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in self.rows:
                writer.writerow([*row[:-1], "" if math.isnan(row.value) else f"{row.value:.5f}"])

    def _block(self, target: str) -> str:
        metrics = self.names("metric")
        systems = list(dict.fromkeys(row.system for row in self.rows if row.target == target))
        width = max(len(name) for name in ["mixture/4", *self.names("target"), *self.names("system")])
        lines = [f"{self._heading(target):{width + 8}}" + "".join(f"{metric:>8}" for metric in metrics)]
        for system in systems:
            for label, over_tracks in (("median", self.median), ("mean", self.mean)):
                values = [over_tracks(system, target, metric) for metric in metrics]
                lines.append(_line(system if label == "median" else "", label, values, width))
        return "\n".join(lines)

    def _heading(self, target: str) -> str:
        """Name the target, and how many tracks have scores where not all have."""
        scored = {row.track for row in self.rows if row.target == target and not math.isnan(row.value)}
        n_tracks = len(self.names("track"))
        return target if len(scored) == n_tracks else f"{target} ({len(scored)} of {n_tracks})"


def _line(name: str, label: str, values: Sequence[float], width: int) -> str:
    return f"{name:{width}}  {label:6}" + "".join(f"{_cell(value):>8}" for value in values)


def _cell(value: float) -> str:
    if math.isnan(value):
        return _ABSENT
    return f"{value:.2f}" if value <= _EXACT else f">{_EXACT}"
