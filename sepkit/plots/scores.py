"""Box plots of scores."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sepkit.files import readable
from sepkit.plots import _axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_GREY = "0.35"


def plot_scores(
    rows: Iterable[tuple[str, str, str, str, float]], metric: str = "SDR", ax: "Axes | None" = None
) -> "Axes":
    """Draw one box plot over tracks for each target and system, with the tracks as points.

    Args:
        rows: system, track, target, metric, value, as `Scores.rows` holds them; values that are not finite are
            left out.
        metric: which one.
        ax: to draw on; None: of a new figure.

    Raises:
        ValueError: no row has this metric and a finite value.
    """
    from sepkit.metrics.units import NOT_DECIBELS

    chosen = [row for row in rows if row[3] == metric and math.isfinite(row[4])]
    if not chosen:
        raise ValueError(f"rows must hold scores of the metric {metric!r}, got none: choose one that was measured")
    systems, targets = (list(dict.fromkeys(row[column] for row in chosen)) for column in (0, 2))
    ax = ax or _axes.new_figure(max(5.0, 1.5 + 0.45 * len(targets) * (len(systems) + 1)), 3.8).subplots()
    width = 0.8 / len(systems)
    for i, (system, colour) in enumerate(zip(systems, _axes.choose_colours(len(systems)), strict=True)):
        places = np.arange(len(targets)) + (i - (len(systems) - 1) / 2) * width
        values = [[row[4] for row in chosen if (row[0], row[2]) == (system, target)] for target in targets]
        _draw_boxes(ax, values, places, width, colour, readable(system))
    ax.set_xticks(range(len(targets)), map(readable, targets))
    ax.set(ylabel=metric if metric in NOT_DECIBELS else f"{metric} (dB)", xlim=(-0.6, len(targets) - 0.4))
    ax.grid(axis="y", alpha=0.3)
    ax.axhline(0, color=_GREY, linewidth=0.8)
    _axes.add_legend(ax)
    _axes.hide_spines(ax)
    return ax


def _draw_boxes(
    ax: "Axes", values: Sequence[Sequence[float]], places: np.ndarray, width: float, colour: str, label: str
) -> None:
    filled = [i for i, group in enumerate(values) if group]
    ax.boxplot(
        [values[i] for i in filled],
        positions=places[filled],
        widths=0.8 * width,
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "alpha": 0.35, "edgecolor": colour},
        medianprops={"color": colour, "linewidth": 2},
        whiskerprops={"color": colour},
        capprops={"color": colour},
    )
    points = [(places[i], value) for i in filled for value in values[i]]
    ax.scatter(*zip(*points, strict=True), s=8, color=colour, label=label, zorder=3)
