"""Compare earlier evaluations, track by track."""

import csv
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sepkit.arguments import check_path
from sepkit.disk import writing
from sepkit.evaluation.files import TRACKS, read_track
from sepkit.evaluation.scores import Score
from sepkit.evaluation.table import INTERVAL_NOTE
from sepkit.files import atomic_file, readable
from sepkit.metrics.bootstrap import bootstrap_interval

OWN_SYSTEMS = ("model", "estimates")  # what an evaluation is about, its baselines left out


class ComparisonError(ValueError):
    """Evaluations cannot be compared."""


class Difference(NamedTuple):
    """How much better than the first evaluation another one is, over their common tracks.

    `median` and `mean` are of the differences track by track, each with both ends of its 95 % interval.
    """

    name: str
    target: str
    metric: str
    n_tracks: int
    median: tuple[float, float, float]
    mean: tuple[float, float, float]


@dataclass
class Comparison:
    """Evaluations side by side.

    Attributes:
        names: of the evaluations; the others are compared with the first.
        rows: their scores of the common tracks, the name in place of the system.
        tracks: the common ones.
        notes: what a reader must know besides.
    """

    names: list[str]
    rows: list[Score]
    tracks: list[str]
    notes: list[str] = field(default_factory=list)

    def differences(self) -> list[Difference]:
        """List the paired differences, others minus first, by target, metric and evaluation."""
        value = {row[:4]: row.value for row in self.rows}
        first, *others = self.names
        differences = []
        for target, metric in dict.fromkeys((row.target, row.metric) for row in self.rows):
            for name in others:
                gains = [value[name, t, target, metric] - value[first, t, target, metric] for t in self.tracks]
                gains = list(filter(math.isfinite, gains))
                intervals = (bootstrap_interval(gains, statistic) for statistic in ("median", "mean"))
                differences.append(Difference(name, target, metric, len(gains), *intervals))
        return differences

    def table(self) -> str:
        """Format the differences, 80 columns wide."""
        first, differences = self.names[0], self.differences()
        width = max(len(name) for name in self.names)
        lines = [f"{len(self.tracks)} common tracks; each score minus that of {first}, track by track"]
        for target in dict.fromkeys(difference.target for difference in differences):
            labels = "".join(f"{label:>8}" for label in ("median", "from", "to", "mean", "from", "to", "tracks"))
            lines += ["", f"{target:{width + 11}}{labels}"]
            for each in (each for each in differences if each.target == target):
                cells = "".join(f"{_cell(number):>8}" for number in (*each.median, *each.mean))
                lines.append(f"{each.name:{width}} {each.metric:10}{cells}{each.n_tracks:8}")
        return "\n".join([*lines, "", *self.notes])

    def write(self, output: str | os.PathLike) -> None:
        """Write `comparison.csv`, one line a difference, and `comparison.png`, box plots of the scores.

        Args:
            output: folder, created if need be.
        """
        output = Path(output)
        with writing(output, "choose another output"):
            output.mkdir(parents=True, exist_ok=True)
            with atomic_file(output / "comparison.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                labels = [f"{statistic}{end}" for statistic in ("median", "mean") for end in ("", "_from", "_to")]
                writer.writerow(["name", "minus", "target", "metric", "tracks", *labels])
                for each in self.differences():
                    numbers = ["" if math.isnan(value) else f"{value:.5f}" for value in (*each.median, *each.mean)]
                    writer.writerow([each.name, self.names[0], each.target, each.metric, each.n_tracks, *numbers])
        try:
            with atomic_file(output / "comparison.png", durable=False) as temporary:
                _draw(self.rows, temporary)
        except Exception as error:  # whatever it is, the numbers are there
            warnings.warn(f"there is no picture of the comparison ({type(error).__name__}: {error})", stacklevel=2)


def compare(folders: Sequence[str | os.PathLike], output: str | os.PathLike | None = None) -> Comparison:
    """Compare evaluations on the tracks that all of them hold, target by target.

    Args:
        folders: two or more that `evaluate` wrote; the others are compared with the first.
        output: folder for `comparison.csv` and `comparison.png`; None: nothing is written.

    Raises:
        ComparisonError: a folder holds no evaluation, there is no common track, or the tracks were scored with
            other settings.
        ValueError: there are fewer than two folders, or one is named twice.
    """
    names = _name_folders(folders)
    scored = {name: _read_folder(Path(folder)) for name, folder in zip(names, folders, strict=True)}
    common = [key for key in next(iter(scored.values())) if all(key in tracks for tracks in scored.values())]
    if not common:
        raise ComparisonError(f"{', '.join(names)} have no track in common: evaluate them on the same songs")
    _check_alike(scored, common)
    rows = [
        Score(name, "/".join(key), *row[2:])
        for name, tracks in scored.items()
        for key in common
        for row in tracks[key][0].rows
        if row.system in OWN_SYSTEMS
    ]
    comparison = Comparison(names, rows, ["/".join(key) for key in common], [INTERVAL_NOTE])
    left_out = {name: len(tracks) - len(common) for name, tracks in scored.items() if len(tracks) > len(common)}
    comparison.notes += [f"{name} holds {number} more tracks, left out" for name, number in left_out.items()]
    if output is not None:
        comparison.write(output)
        comparison.notes.append(f"differences: {Path(output) / 'comparison.csv'}; box plots: comparison.png beside")
    return comparison


def _name_folders(folders: Sequence[str | os.PathLike]) -> list[str]:
    for folder in folders:
        check_path(folder, "a folder")
    paths = [Path(folder).resolve() for folder in folders]
    if len(set(paths)) < 2 or len(set(paths)) < len(paths):
        raise ValueError(f"compare needs two or more different folders, got {', '.join(map(str, folders)) or 'none'}")
    names = [path.name for path in paths]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    return [readable(name) for name in names]


def _read_folder(folder: Path) -> dict[tuple[str, str], tuple]:
    """Read scores and origins by split and track."""
    paths = sorted((folder / TRACKS).glob("*/*.json"))
    scored = {(path.parent.name, path.stem): read_track(path) for path in paths}
    if not scored or None in scored.values():
        bad = [folder / TRACKS / split / f"{name}.json" for (split, name), track in scored.items() if not track]
        what = f"{bad[0]} cannot be read" if bad else f"{folder} holds no {TRACKS}/<split>/<track>.json"
        raise ComparisonError(f"{what}: evaluate again with this version")
    return scored


def _check_alike(scored: Mapping[str, Mapping], common: Sequence[tuple[str, str]]) -> None:
    """Refuse what was scored in different ways."""
    first, *others = scored
    for key in common:
        wanted = _flat(scored[first][key][1])
        for name in others:
            present = _flat(scored[name][key][1])
            differing = [
                f"{setting} {_show(wanted[setting])} and {_show(present.get(setting))}"
                for setting in wanted
                if wanted[setting] != present.get(setting)
            ]
            if differing:
                raise ComparisonError(
                    f"{first} and {name} were scored differently ({'/'.join(key)}: {'; '.join(differing)}): "
                    "evaluate both with the same settings"
                )


def _flat(origin: Mapping[str, Any]) -> dict[str, Any]:
    return {**origin["scoring"], **origin["shape"]}


def _show(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{round(value, 2) + 0.0:+.2f}"  # + 0.0: no minus before a zero


def _draw(rows: Sequence[Score], path: Path) -> None:
    """Draw one panel of box plots for each metric."""
    from sepkit.plots import load_matplotlib, plot_scores

    load_matplotlib()
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(row.metric for row in rows if math.isfinite(row.value)))
    n_boxes = len({(row.system, row.target) for row in rows})
    figure = Figure(figsize=(max(6.0, 2 + 0.5 * n_boxes), 3 * max(1, len(metrics))), layout="constrained")
    axes = figure.subplots(max(1, len(metrics)), squeeze=False)[:, 0]
    for ax, metric in zip(axes, metrics, strict=False):
        plot_scores(rows, metric, ax)
    figure.savefig(path, dpi=120, format="png")
