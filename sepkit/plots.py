"""Pictures: spectrograms, waveforms, separations, training curves, scores. Arrays in, matplotlib axes out.

Without axes to draw on, a figure of its own is made, which needs no display and no global state: `axes.figure` gives
it, and its `savefig` writes it. Waveforms are tensors or numpy arrays in floating point; of what is not finite
nothing is drawn. Several axes may come as a list or as the grid that `plt.subplots` returns, row by row.
"""

import logging
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import as_tensor, check_range, is_number, is_turned, is_whole
from sepkit.files import readable
from sepkit.transforms import STFT, mel_filters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    Array = Tensor | np.ndarray
    AxesGrid = Axes | Sequence[Axes] | np.ndarray

_NUM_FFT, _HOP = 4096, 1024
_MAX_BANDS = 128
_RANGE_DB = 80.0  # below the loudest value
_DIFFERENCE_DB = 40.0
_HIGHEST = 16000.0  # Hz
_TICKS_KHZ = (0, 0.5, 1, 2, 4, 8, 16)
_MAP, _DIFFERENCE_MAP = "inferno", "RdBu_r"
_COLUMNS = 2000  # minima and maxima that a waveform is drawn with
_GREY = "0.35"
_COLOURS = ("#1f5fa8", "#d9822b", "#3f8f52", "#b8433f", "#7b5ea7", "#6b6b6b", "#2a9d9d", "#c06a9b")


def plot_spectrogram(
    signal: "Array",
    sample_rate: int = 44100,
    *,
    hop_length: int | None = None,
    title: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw mel bands over time, in dB below the loudest one, down to -80 dB; channels are averaged as power.

    Args:
        signal: a waveform, real (C, T) or (T,), or a spectrogram, complex (C, F, N) or (F, N).
        sample_rate: Hz.
        hop_length: samples between the frames of a spectrogram, >= 1; None: F - 1, half of its transform.
        title: above the picture.
        ax: to draw on; None: of a new figure.

    Raises:
        ValueError: the signal has another shape, or a rate or length is not positive.
    """
    bands, duration = _mel_bands(signal, sample_rate, hop_length)
    ax = ax or _new_figure(8, 3.2).subplots()
    image = _draw_bands(ax, _decibels(bands, _loudest(bands)), sample_rate, duration, title)
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)")
    _add_colour_bar(image, [ax], "dB re the loudest band")
    return ax


def plot_waveforms(
    waveforms: "Mapping[str, Array]", sample_rate: int = 44100, axes: "AxesGrid | None" = None
) -> "list[Axes]":
    """Draw waveforms one below the other, on one scale.

    Args:
        waveforms: by name, (C, T) or (T,) each; channels are averaged.
        sample_rate: Hz.
        axes: one for each waveform; None: of a new figure.

    Raises:
        ValueError: there is no waveform, one has another shape, there are not as many axes, or sample_rate is not
            positive.
    """
    _check_sample_rate(sample_rate)
    if not waveforms:
        raise ValueError("there must be something to draw, got an empty mapping")
    drawn = {name: _mono(waveform) for name, waveform in waveforms.items()}
    axes = _check_axes(axes, len(drawn)) or _new_column(len(drawn), 8, 1.3)
    peak = _peak(drawn.values())
    for ax, colour, (name, samples) in zip(axes, _cycled(len(drawn)), drawn.items(), strict=True):
        _draw_envelope(ax, samples, 1 / sample_rate, colour)
        ax.set_title(readable(name), loc="left", fontsize="medium")
        ax.set(xlim=(0, len(samples) / sample_rate), ylim=(-1.05 * peak, 1.05 * peak))
        _unclutter(ax)
    axes[-1].set_xlabel("time (s)")
    return axes


def plot_separation(
    mixture: "Array",
    stems: "Mapping[str, Array]",
    sample_rate: int = 44100,
    axes: "AxesGrid | None" = None,
) -> "list[Axes]":
    """Draw the mixture, its stems and what they leave of it, as mel bands on one scale in dB.

    Args:
        mixture: (C, T) or (T,).
        stems: by name, of the mixture's shape.
        sample_rate: Hz.
        axes: for mixture and stems, and one more if the rest is to be drawn; None: of a new figure, where the rest has
            a picture unless it is everywhere more than 80 dB below the loudest band.

    Returns:
        The axes, in the order mixture, stems, rest.

    Raises:
        ValueError: a stem has another shape than the mixture, there are fewer axes or more, or sample_rate is not
            positive.
    """
    axes = _check_axes(axes, len(stems) + 1, len(stems) + 2)
    mixture = _as_tensor(mixture, "mixture")
    parts = {name: _as_tensor(stem, f"the stem {name}") for name, stem in stems.items()}
    if mixture.is_complex() or any(part.is_complex() for part in parts.values()):
        raise ValueError("mixture and stems must be real waveforms, got complex ones: take their inverse transform")
    other = {name: tuple(part.shape) for name, part in parts.items() if part.shape != mixture.shape}
    if other:
        raise ValueError(f"stems must have the mixture's shape {tuple(mixture.shape)}, got {other}")
    signals = [mixture, *parts.values(), mixture - sum(parts.values())]
    drawn = [_mel_bands(signal, sample_rate) for signal in signals[: len(axes) if axes else None]]
    loudest = _loudest(*(bands for bands, _ in drawn))
    if axes is None:
        audible = bool(_loudest(drawn[-1][0]) > loudest * 10 ** (-_RANGE_DB / 10))
        axes = _new_grid(len(drawn) - 1 + audible)
    for ax, name, (bands, duration) in zip(axes, ["mixture", *parts, "rest"], drawn, strict=False):
        image = _draw_bands(ax, _decibels(bands, loudest), sample_rate, duration, name)
    _label_outside(axes, "time (s)", "kHz")
    _add_colour_bar(image, axes, "dB re the loudest band")
    return axes


def plot_difference(
    estimate: "Array", target: "Array", sample_rate: int = 44100, axes: "AxesGrid | None" = None
) -> "list[Axes]":
    """Draw an estimate and its target as mel bands on one scale, and their difference, all in dB.

    Args:
        estimate: (C, T) or (T,).
        target: of the same shape.
        sample_rate: Hz.
        axes: three, for estimate, target and estimate - target; None: of a new figure.

    Raises:
        ValueError: the shapes differ, or are others, there are not three axes, or sample_rate is not positive.
    """
    estimate, target = _pair(estimate, target, (1, 2))
    (estimated, duration), (wanted, _) = (_mel_bands(part, sample_rate) for part in (estimate, target))
    loudest = _loudest(estimated, wanted)
    pictures = [_decibels(bands, loudest) for bands in (estimated, wanted)]
    axes = _check_axes(axes, 3) or _new_column(3, 8, 2.1)
    for ax, picture, name in zip(axes, pictures, ("estimate", "target"), strict=False):
        image = _draw_bands(ax, picture, sample_rate, duration, name)
    _add_colour_bar(image, axes[:2], "dB re the loudest")
    image = _draw_bands(axes[2], pictures[0] - pictures[1], sample_rate, duration, "estimate - target")
    image.set(cmap=_DIFFERENCE_MAP, clim=(-_DIFFERENCE_DB, _DIFFERENCE_DB))
    _add_colour_bar(image, axes[2:], "dB")
    _label_outside(axes, "time (s)", "kHz")
    return axes


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
    axes = _check_axes(axes, 2) or list(_new_figure(9, 3.4).subplots(1, 2, sharex=True))
    _draw_curve(axes[0], rows, "loss", _COLOURS[0], "")
    axes[0].set(title="loss", xlabel="epoch")
    names = list(dict.fromkeys(key for row in rows for key in row if key == "SDR" or key.startswith("SDR/")))
    colours = iter(_cycled(len(names) + 1)[1:])
    for name in names:
        label = name.partition("/")[2] or ("mean" if len(names) > 1 else "")
        _draw_curve(axes[1], rows, name, _COLOURS[0] if name == "SDR" else next(colours), label)
    _mark_best(axes[1], *_series(rows, "SDR"))
    axes[1].set(title="SDR (dB)", xlabel="epoch")
    for ax in axes:
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        _unclutter(ax)
    _add_legend(axes[1])
    return axes


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
    ax = ax or _new_figure(max(5.0, 1.5 + 0.45 * len(targets) * (len(systems) + 1)), 3.8).subplots()
    width = 0.8 / len(systems)
    for i, (system, colour) in enumerate(zip(systems, _cycled(len(systems)), strict=True)):
        places = np.arange(len(targets)) + (i - (len(systems) - 1) / 2) * width
        values = [[row[4] for row in chosen if (row[0], row[2]) == (system, target)] for target in targets]
        _draw_boxes(ax, values, places, width, colour, readable(system))
    ax.set_xticks(range(len(targets)), map(readable, targets))
    ax.set(ylabel=metric if metric in NOT_DECIBELS else f"{metric} (dB)", xlim=(-0.6, len(targets) - 0.4))
    ax.grid(axis="y", alpha=0.3)
    ax.axhline(0, color=_GREY, linewidth=0.8)
    _add_legend(ax)
    _unclutter(ax)
    return ax


def spec_show_diff(label: str, estimate: "Array", target: "Array", resolution: int = 120) -> "Figure":
    """Draw two spectrograms on one scale, and their difference.

    Args:
        label: name of the source.
        estimate: in dB, (C, F, N) or (F, N); channels are averaged.
        target: in dB, of the same shape.
        resolution: dots per inch.

    Raises:
        ValueError: the shapes differ, or are others.
    """
    estimate, target = _pair(estimate, target, (2, 3))
    check_range("resolution", resolution, 1, 10000)
    label = readable(label)
    pictures = [_or_nan(part.reshape(-1, *part.shape[-2:]).mean(0).numpy()) for part in (estimate, target)]
    difference = pictures[0] - pictures[1]
    finite = np.concatenate([part[np.isfinite(part)] for part in pictures])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    reach = _peak([difference])
    axes = _new_column(3, 8, 2.1, resolution)
    for ax, picture, name in zip(axes, pictures, ("estimate", "target"), strict=False):
        image = ax.imshow(picture, origin="lower", aspect="auto", cmap=_MAP, vmin=low, vmax=high)
        ax.set_title(f"{label}, {name}", loc="left", fontsize="medium")
    _add_colour_bar(image, axes[:2], "dB")
    image = axes[2].imshow(difference, origin="lower", aspect="auto", cmap=_DIFFERENCE_MAP, vmin=-reach, vmax=reach)
    axes[2].set_title(f"{label}, estimate - target", loc="left", fontsize="medium")
    _add_colour_bar(image, axes[2:], "dB")
    _label_outside(axes, "frame", "bin")
    return axes[0].figure


def waveform_show_diff(label: str, estimate: "Array", target: "Array", resolution: int = 120) -> "Figure":
    """Draw two waveforms, and both over each other.

    Args:
        label: name of the source.
        estimate: (C, T) or (T,); channels are averaged.
        target: of the same shape.
        resolution: dots per inch.

    Raises:
        ValueError: the shapes differ, or are others.
    """
    check_range("resolution", resolution, 1, 10000)
    label = readable(label)
    estimate, target = (_mono(part) for part in _pair(estimate, target, (1, 2)))
    axes = _new_column(3, 8, 1.5, resolution)
    for rows, samples, colour, name in (
        ((1, 2), target, _COLOURS[0], "target"),
        ((0, 2), estimate, _COLOURS[1], "estimate"),
    ):
        for row in rows:
            _draw_envelope(axes[row], samples, 1, colour, name, alpha=0.6 if row == 2 else 1.0)
        axes[rows[0]].set_title(f"{label}, {name}", loc="left", fontsize="medium")
    axes[2].set_title(f"{label}, both", loc="left", fontsize="medium")
    axes[2].legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    peak = _peak((estimate, target))
    for ax in axes:
        ax.set(xlim=(0, len(target)), ylim=(-1.05 * peak, 1.05 * peak))
        _unclutter(ax)
    axes[2].set_xlabel("sample")
    return axes[0].figure


def _as_tensor(values: "Array", name: str) -> Tensor:
    tensor = as_tensor(values, name).detach().cpu()
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise ValueError(f"{name} must be floating point in [-1, 1], got {tensor.dtype}: scale it first")
    return tensor if tensor.is_complex() else tensor.float()


def _check_turned(waveform: Tensor, name: str) -> None:
    if waveform.dim() == 2 and is_turned(waveform.shape):
        raise ValueError(f"{name} must be (C, T), got {tuple(waveform.shape)}: transpose it")


def _mono(waveform: "Array") -> np.ndarray:
    """Average the channels; what is not finite becomes NaN, of which nothing is drawn."""
    waveform = _as_tensor(waveform, "a waveform")
    if waveform.is_complex() or waveform.dim() not in (1, 2) or not waveform.numel():
        raise ValueError(f"a waveform must be real (C, T) or (T,), got {waveform.dtype} {tuple(waveform.shape)}")
    _check_turned(waveform, "a waveform")
    return _or_nan(waveform.reshape(-1, waveform.shape[-1]).mean(0).numpy())


def _or_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _peak(values: Iterable[np.ndarray]) -> float:
    """Find the highest magnitude, 1e-6 at least."""
    return max(1e-6, *(float(np.abs(part).max(where=np.isfinite(part), initial=0)) for part in values))


def _pair(estimate: "Array", target: "Array", dimensions: Sequence[int]) -> tuple[Tensor, Tensor]:
    estimate, target = _as_tensor(estimate, "estimate"), _as_tensor(target, "target")
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


def _mel_bands(signal: "Array", sample_rate: int, hop_length: int | None = None) -> tuple[Tensor, float]:
    """Power in mel bands (M, N), averaged over channels, and the seconds that they cover."""
    _check_sample_rate(sample_rate)
    if hop_length is not None and not (is_whole(hop_length) and hop_length >= 1):
        raise ValueError(f"hop_length must be at least 1, got {hop_length}")
    signal = _as_tensor(signal, "signal")
    if not (signal.dim() in (2, 3) if signal.is_complex() else signal.dim() in (1, 2)) or not signal.numel():
        raise ValueError(
            "signal must be a real waveform (C, T) or (T,), or a complex spectrogram (C, F, N) or (F, N), got "
            f"{signal.dtype} {tuple(signal.shape)}"
        )
    if signal.is_complex():
        n_bins = signal.shape[-2]
        spectrogram, duration = signal, signal.shape[-1] * (hop_length or n_bins - 1) / sample_rate
    else:
        _check_turned(signal, "signal")
        spectrogram, duration = STFT(_NUM_FFT, _HOP)(signal), signal.shape[-1] / sample_rate
        n_bins = spectrogram.shape[-2]
    power = spectrogram.abs().square().reshape(-1, n_bins, spectrogram.shape[-1]).mean(0)
    n_bands = max(1, min(_MAX_BANDS, n_bins // 8))
    return mel_filters(n_bins, n_bands, sample_rate, 0.0, _highest(sample_rate)) @ power, duration


def _loudest(*bands: Tensor) -> float:
    """Find the highest power that is finite; 0 where there is none."""
    return max(float(part.where(part.isfinite(), torch.zeros(())).max()) for part in bands)


def _highest(sample_rate: int) -> float:
    return min(_HIGHEST, sample_rate / 2)


def _decibels(bands: Tensor, loudest: float) -> np.ndarray:
    if loudest <= 0:
        return np.full(bands.shape, -_RANGE_DB)
    return _or_nan(10 * torch.log10((bands / loudest).clamp(min=10 ** (-_RANGE_DB / 10))).numpy())


def _draw_bands(ax: "Axes", picture: np.ndarray, sample_rate: int, duration: float, title: str) -> "AxesImage":
    n_bands = len(picture)
    image = ax.imshow(
        picture,
        origin="lower",
        aspect="auto",
        cmap=_MAP,
        vmin=-_RANGE_DB,
        vmax=0,
        extent=(0, duration, 0, n_bands),
    )
    step = math.log10(1 + _highest(sample_rate) / 700) / (n_bands + 1)  # bands are evenly spaced in mel
    shown = [tick for tick in _TICKS_KHZ if 1000 * tick <= _highest(sample_rate)]
    places = np.array([math.log10(1 + 1000 * tick / 700) / step - 0.5 for tick in shown])
    ax.set_yticks(places.clip(0, n_bands), [f"{tick:g}" for tick in shown])
    ax.set_ylim(0, n_bands)
    ax.set_title(readable(title), loc="left", fontsize="medium")
    return image


def _draw_envelope(
    ax: "Axes", samples: np.ndarray, step: float, colour: str, label: str = "", alpha: float = 1.0
) -> None:
    """Draw a waveform: every sample of a short one, minima and maxima of a long one."""
    style = {"color": colour, "label": label or None, "alpha": alpha}
    if len(samples) <= 2 * _COLUMNS:
        ax.plot(np.arange(len(samples)) * step, samples, linewidth=0.8, **style)
        return
    starts = np.linspace(0, len(samples), _COLUMNS, endpoint=False).astype(int)
    lowest, highest = np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)
    ax.fill_between(starts * step, lowest, highest, linewidth=0.3, **style)


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a column, where there are any."""
    known = [row for row in rows if row.get(name) not in (None, "")]
    return [float(row["epoch"]) for row in known], [float(row[name]) for row in known]


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


def load_matplotlib() -> ModuleType:
    """Import matplotlib, whatever MPLBACKEND says.

    Notebooks name a backend there that other environments lack, and matplotlib then refuses to be imported. Nothing
    here needs one; where it exists, it is the caller's own figures'.
    """
    if "matplotlib" not in sys.modules:
        wanted, log = os.environ.pop("MPLBACKEND", ""), logging.getLogger("matplotlib")
        level = log.level
        log.setLevel(logging.ERROR)  # where there is no home folder, it tells that it works in a temporary one
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


def _new_figure(width: float, height: float, resolution: float = 120) -> "Figure":
    """Make a figure (inches, dots per inch) outside pyplot, which would keep it alive and may want a display."""
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=resolution, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _new_column(n_rows: int, width: float, height: float, resolution: float = 120) -> "list[Axes]":
    figure = _new_figure(width, 0.5 + height * n_rows, resolution)
    return list(figure.subplots(n_rows, 1, sharex=True, sharey=True, squeeze=False)[:, 0])


def _new_grid(n_pictures: int) -> "list[Axes]":
    """Make axes in one column, or from four pictures on in two."""
    n_columns = 1 if n_pictures < 4 else 2
    n_rows = math.ceil(n_pictures / n_columns)
    figure = _new_figure(5.5 * n_columns + 1, 0.5 + 2.1 * n_rows)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[n_pictures:]:
        ax.remove()
    return list(axes[:n_pictures])


def _check_sample_rate(sample_rate: float) -> None:
    if not is_number(sample_rate) or not 0 < sample_rate < math.inf:
        raise ValueError(f"sample_rate must be positive, in Hz, got {sample_rate}")


def _check_axes(axes: "AxesGrid | None", *wanted: int) -> "list[Axes] | None":
    """List axes, of which there must be one of the numbers that are wanted."""
    if axes is None:
        return None
    load_matplotlib()
    from matplotlib.axes import Axes

    given = list(np.asarray(axes, dtype=object).flat)
    strange = [type(ax).__name__ for ax in given if not isinstance(ax, Axes)]
    if strange:
        raise ValueError(f"axes must be one of matplotlib's, a list or a grid of them, got {strange[0]}")
    if len(given) not in wanted:
        raise ValueError(f"axes must be {' or '.join(map(str, wanted))}, one for each picture, got {len(given)}")
    return given


def _label_outside(axes: "Sequence[Axes]", xlabel: str, ylabel: str) -> None:
    """Label the lowest axes of each column and the first of each row, in each figure."""
    lowest = {(ax.figure, _column(ax)): ax for ax in axes}
    for ax in axes:
        if _column(ax) in (None, 0):
            ax.set_ylabel(ylabel)
        if _column(ax) is None or lowest[ax.figure, _column(ax)] is ax:
            ax.set_xlabel(xlabel)
            ax.tick_params(labelbottom=True)


def _column(ax: "Axes") -> int | None:
    """Tell the column in the grid; None: the axes stand in none."""
    spec = ax.get_subplotspec()
    return None if spec is None else spec.colspan.start


def _add_colour_bar(image: "AxesImage", axes: "Sequence[Axes]", label: str) -> None:
    load_matplotlib()
    from matplotlib.cm import ScalarMappable

    scale = ScalarMappable(image.norm, image.cmap)  # of every figure, where an image is of its own alone
    for figure in dict.fromkeys(ax.figure for ax in axes):
        bar = figure.colorbar(scale, ax=[ax for ax in axes if ax.figure is figure], label=label, pad=0.02)
        bar.outline.set_visible(False)


def _add_legend(ax: "Axes") -> None:
    """Put a legend, where there is anything to explain, beside the picture."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _unclutter(ax: "Axes") -> None:
    ax.spines[["top", "right"]].set_visible(False)


def _cycled(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]
