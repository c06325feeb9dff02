"""The scores of tracks: rows, their medians and means with intervals, a table and a CSV file."""

import csv
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sepkit.evaluation.table import lay_out_medians, lay_out_statistics
from sepkit.files import atomic_file
from sepkit.metrics.bootstrap import bootstrap_interval

COLUMNS = ("system", "track", "target", "metric", "value")


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
        """Return the scores that exist, by track."""
        wanted = (system, target, metric)
        return {
            row.track: row.value
            for row in self.rows
            if (row.system, row.target, row.metric) == wanted and not math.isnan(row.value)
        }

    def median(self, system: str, target: str, metric: str) -> float:
        """Take the median over the tracks that have a score; NaN where none has."""
        return bootstrap_interval(self.values(system, target, metric).values(), "median")[0]

    def mean(self, system: str, target: str, metric: str) -> float:
        """Take the mean over the tracks that have a score; NaN where none has."""
        return bootstrap_interval(self.values(system, target, metric).values(), "mean")[0]

    def interval(self, system: str, target: str, metric: str, statistic: str = "median") -> tuple[float, float]:
        """Return the 95 % interval of the "median" or "mean" over tracks; NaN with fewer than two."""
        return bootstrap_interval(self.values(system, target, metric).values(), statistic)[1:]

    def table(self, verbose: bool = False) -> str:
        """Format the scores of every target, 80 columns wide.

        Args:
            verbose: median and mean, each with its interval below it; False: a line a system, medians over tracks,
                with the intervals of as many metrics, from the first on, as there is room for.
        """
        blocks = lay_out_statistics(self) if verbose else lay_out_medians(self)
        return "\n\n".join(filter(None, [self.title, *blocks, "\n".join(self.notes)]))

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write one line a number with 5 decimals; a value that does not exist is empty."""
        with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in self.rows:
                writer.writerow([*row[:-1], "" if math.isnan(row.value) else f"{row.value:.5f}"])

    def systems(self, target: str) -> list[str]:
        """List the systems that have rows of a target, by first appearance."""
        return list(dict.fromkeys(row.system for row in self.rows if row.target == target))

    def heading(self, target: str) -> str:
        """Name a target, and how many tracks have scores where not all have."""
        scored = {row.track for row in self.rows if row.target == target and not math.isnan(row.value)}
        n_tracks = len(self.names("track"))
        return target if len(scored) == n_tracks else f"{target} ({len(scored)} of {n_tracks})"
