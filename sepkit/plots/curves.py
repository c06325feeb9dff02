"""Curves of a training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sepkit.plots import _axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sepkit.plots._axes import AxesGrid


def plot_history(history: Iterable[Mapping[str, Any]], axes: "AxesGrid | None" = None) -> "list[Axes]":
    """Draw loss and SDR by epoch, of the SDR the best.

    Args:
        history: a mapping an epoch, as in `history.csv`: epoch, loss, and where there was a validation SDR, of
            several sources also SDR/<source>. Numbers may be text; what is missing or empty is left out.
        axes: two, for loss and SDR; None: of a new figure.

    Raises:
        ValueError: there are not two axes.
    """
    rows = list(history)
    axes = _axes.check_axes(axes, 2) or list(_axes.new_figure(9, 3.4).subplots(1, 2, sharex=True))
    _draw_curve(axes[0], rows, "loss", _axes.COLOURS[0], "")
    axes[0].set(title="loss", xlabel="epoch")
    names = list(dict.fromkeys(key for row in rows for key in row if key == "SDR" or key.startswith("SDR/")))
    colours = iter(_axes.choose_colours(len(names) + 1)[1:])
    for name in names:
        label = name.partition("/")[2] or ("mean" if len(names) > 1 else "")
        _draw_curve(axes[1], rows, name, _axes.COLOURS[0] if name == "SDR" else next(colours), label)
    _mark_best(axes[1], *_series(rows, "SDR"))
    axes[1].set(title="SDR (dB)", xlabel="epoch")
    for ax in axes:
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        _axes.hide_spines(ax)
    _axes.add_legend(axes[1])
    return axes


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """List epochs and values of a column, where there are any."""
    filled = [row for row in rows if row.get(name) not in (None, "")]
    return [float(row["epoch"]) for row in filled], [float(row[name]) for row in filled]


def _draw_curve(ax: "Axes", rows: Sequence[Mapping[str, Any]], name: str, colour: str, label: str) -> None:
    epochs, values = _series(rows, name)
    marker = "." if len(epochs) < 30 else ""
    width = 1.8 if name in ("loss", "SDR") else 1.1
    ax.plot(epochs, values, marker=marker, color=colour, linewidth=width, label=label or None)


def _mark_best(ax: "Axes", epochs: Sequence[float], scores: Sequence[float]) -> None:
    if not scores:
        return
    score, epoch = max(zip(scores, epochs, strict=True), key=lambda pair: (pair[0], -pair[1]))
    ax.plot(epoch, score, marker="*", markersize=12, color="black", linestyle="", zorder=3,
            label=f"best: {score:.2f} dB,\nepoch {epoch:g}")  # fmt: skip
