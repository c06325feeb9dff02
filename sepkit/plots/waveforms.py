"""Waveforms, one below the other."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sepkit.files import readable
from sepkit.plots import _axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sepkit.plots._axes import Array, AxesGrid


_COLUMNS = 2000  # minima and maxima that a waveform is drawn with


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
    _axes.check_sample_rate(sample_rate)
    if not waveforms:
        raise ValueError("there must be something to draw, got an empty mapping")
    drawn = {name: mix_down(waveform) for name, waveform in waveforms.items()}
    axes = _axes.check_axes(axes, len(drawn)) or _axes.new_column(len(drawn), 8, 1.3)
    peak = _axes.find_peak(drawn.values())
    for ax, colour, (name, samples) in zip(axes, _axes.choose_colours(len(drawn)), drawn.items(), strict=True):
        draw_envelope(ax, samples, 1 / sample_rate, colour)
        ax.set_title(readable(name), loc="left", fontsize="medium")
        ax.set(xlim=(0, len(samples) / sample_rate), ylim=(-1.05 * peak, 1.05 * peak))
        _axes.hide_spines(ax)
    axes[-1].set_xlabel("time (s)")
    return axes


def mix_down(waveform: "Array") -> np.ndarray:
    """Average the channels; what is not finite becomes NaN, of which nothing is drawn."""
    waveform = _axes.to_float(waveform, "a waveform")
    if waveform.is_complex() or waveform.dim() not in (1, 2) or not waveform.numel():
        raise ValueError(f"a waveform must be real (C, T) or (T,), got {waveform.dtype} {tuple(waveform.shape)}")
    _axes.check_turned(waveform, "a waveform")
    return _axes.mask_infinite(waveform.reshape(-1, waveform.shape[-1]).mean(0).numpy())


def draw_envelope(
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
