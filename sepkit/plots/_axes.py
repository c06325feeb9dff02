"""Figures, axes, colours and the checks that pictures share."""

import logging
import math
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sepkit.arguments import as_tensor, is_number, is_turned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    Array = Tensor | np.ndarray
    AxesGrid = Axes | Sequence[Axes] | np.ndarray


LEVEL_MAP, DIFFERENCE_MAP = "inferno", "RdBu_r"
COLOURS = ("#1f5fa8", "#d9822b", "#3f8f52", "#b8433f", "#7b5ea7", "#6b6b6b", "#2a9d9d", "#c06a9b")


def load_matplotlib() -> ModuleType:
    """Import matplotlib, whatever MPLBACKEND says.

    Notebooks name a backend there that other environments lack, and matplotlib then refuses to be imported. Nothing
    here needs one; where it exists, it is the caller's own figures'.
    """
    if "matplotlib" not in sys.modules:
        wanted, log = os.environ.pop("MPLBACKEND", ""), logging.getLogger("matplotlib")
        level = log.level
        log.setLevel(logging.ERROR)  # where there is no home folder, it reports that it works in a temporary one
        try:
            import matplotlib
            import matplotlib.font_manager
        finally:
            log.setLevel(level)
            if wanted:
                os.environ["MPLBACKEND"] = wanted
        if wanted:
            with suppress(ValueError):
                matplotlib.rcParams["backend"] = wanted
    return sys.modules["matplotlib"]


@contextmanager
def literal_text(settings: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Set matplotlib up so that dollars in names begin no formula, and letters that its font lacks are no warning.

    Args:
        settings: other rcParams.
    """
    rc = {"text.parse_math": False, **(settings or {})}
    with load_matplotlib().rc_context(rc), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def new_figure(width: float = 4.3, height: float = 2.9, resolution: float = 120) -> "Figure":
    """Create a figure outside pyplot, which would keep it alive and may want a display.

    Args:
        width: inches; text in figures of the default width is legible on a phone.
        height: inches.
        resolution: dots per inch.
    """
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=resolution, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_column(n_rows: int, width: float, height: float, resolution: float = 120) -> "list[Axes]":
    """Create a figure of axes one below the other, of inches each."""
    figure = new_figure(width, 0.5 + height * n_rows, resolution)
    return list(figure.subplots(n_rows, 1, sharex=True, sharey=True, squeeze=False)[:, 0])


def check_axes(axes: "AxesGrid | None", *wanted: int) -> "list[Axes] | None":
    """List axes, of which there must be as many as one of the numbers that are wanted."""
    if axes is None:
        return None
    load_matplotlib()
    from matplotlib.axes import Axes

    listed = list(np.asarray(axes, dtype=object).flat)
    strange = [type(ax).__name__ for ax in listed if not isinstance(ax, Axes)]
    if strange:
        raise ValueError(f"axes must be one of matplotlib's, a list or a grid of them, got {strange[0]}")
    if len(listed) not in wanted:
        raise ValueError(f"axes must be {' or '.join(map(str, wanted))}, one for each picture, got {len(listed)}")
    return listed


def label_outside(axes: "Sequence[Axes]", xlabel: str, ylabel: str) -> None:
    """Add labels to the lowest axes of each column and the first of each row, in each figure."""
    specs = [ax.get_subplotspec() for ax in axes]
    columns = [None if spec is None else spec.colspan.start for spec in specs]  # None: not in a grid
    lowest = {(ax.figure, column): ax for ax, column in zip(axes, columns, strict=True)}
    for ax, column in zip(axes, columns, strict=True):
        if column in (None, 0):
            ax.set_ylabel(ylabel)
        if column is None or lowest[ax.figure, column] is ax:
            ax.set_xlabel(xlabel)
            ax.tick_params(labelbottom=True)


def add_colour_bar(image: "AxesImage", axes: "Sequence[Axes]", label: str) -> None:
    """Add one colour bar to each figure of the axes."""
    load_matplotlib()
    from matplotlib.cm import ScalarMappable

    scale = ScalarMappable(image.norm, image.cmap)  # of every figure, where an image is of its own alone
    for figure in dict.fromkeys(ax.figure for ax in axes):
        bar = figure.colorbar(scale, ax=[ax for ax in axes if ax.figure is figure], label=label, pad=0.02)
        bar.outline.set_visible(False)


def add_legend(ax: "Axes") -> None:
    """Add a legend beside the picture, where there is anything to explain."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def hide_spines(ax: "Axes") -> None:
    """Hide the frame above and at the right."""
    ax.spines[["top", "right"]].set_visible(False)


def choose_colours(n_colours: int) -> list[str]:
    """Choose colours, from the first on again where they run out."""
    return [COLOURS[i % len(COLOURS)] for i in range(n_colours)]


def check_sample_rate(sample_rate: float) -> None:
    """Check that a rate is a positive number."""
    if not is_number(sample_rate) or not 0 < sample_rate < math.inf:
        raise ValueError(f"sample_rate must be positive, in Hz, got {sample_rate}")


def to_float(values: "Array", name: str) -> Tensor:
    """Convert an array in floating point to a tensor in float32 or complex, on the CPU."""
    tensor = as_tensor(values, name).detach().cpu()
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise ValueError(f"{name} must be floating point in [-1, 1], got {tensor.dtype}: scale it first")
    return tensor if tensor.is_complex() else tensor.float()


def check_turned(waveform: Tensor, name: str) -> None:
    """Refuse a waveform whose channels seem to come last."""
    if waveform.dim() == 2 and is_turned(waveform.shape):
        raise ValueError(f"{name} must be (C, T), got {tuple(waveform.shape)}: transpose it")


def check_pair(estimate: "Array", target: "Array", dimensions: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Convert estimate and target to tensors, of one shape of either number of dimensions."""
    estimate, target = to_float(estimate, "estimate"), to_float(target, "target")
    if (
        not estimate.numel()
        or estimate.shape != target.shape
        or estimate.dim() not in dimensions
        or (estimate + target).is_complex()
    ):
        raise ValueError(
            f"estimate and target must be real, of one shape of {dimensions[0]} or {dimensions[1]} dimensions, got "
            f"{tuple(estimate.shape)} and {tuple(target.shape)}"
        )
    return estimate, target


def mask_infinite(values: np.ndarray) -> np.ndarray:
    """Replace by NaN what is not finite, of which nothing is drawn."""
    return np.where(np.isfinite(values), values, np.nan)


def find_peak(values: Iterable[np.ndarray]) -> float:
    """Find the highest magnitude, 1e-6 at least."""
    return max(1e-6, *(float(np.abs(part).max(where=np.isfinite(part), initial=0)) for part in values))
