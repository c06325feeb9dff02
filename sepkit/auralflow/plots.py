"""Pictures under auralflow's names."""

from typing import TYPE_CHECKING

import numpy as np

from sepkit.arguments import check_range
from sepkit.files import readable
from sepkit.plots import _axes
from sepkit.plots.waveforms import draw_envelope, mix_down

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sepkit.plots._axes import Array


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
    estimate, target = _axes.check_pair(estimate, target, (2, 3))
    check_range("resolution", resolution, 1, 10000)
    label = readable(label)
    pictures = [_axes.mask_infinite(part.reshape(-1, *part.shape[-2:]).mean(0).numpy()) for part in (estimate, target)]
    difference = pictures[0] - pictures[1]
    finite = np.concatenate([part[np.isfinite(part)] for part in pictures])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    reach = _axes.find_peak([difference])
    axes = _axes.new_column(3, 8, 2.1, resolution)
    for ax, picture, name in zip(axes, pictures, ("estimate", "target"), strict=False):
        image = ax.imshow(picture, origin="lower", aspect="auto", cmap=_axes.LEVEL_MAP, vmin=low, vmax=high)
        ax.set_title(f"{label}, {name}", loc="left", fontsize="medium")
    _axes.add_colour_bar(image, axes[:2], "dB")
    image = axes[2].imshow(
        difference, origin="lower", aspect="auto", cmap=_axes.DIFFERENCE_MAP, vmin=-reach, vmax=reach
    )
    axes[2].set_title(f"{label}, estimate - target", loc="left", fontsize="medium")
    _axes.add_colour_bar(image, axes[2:], "dB")
    _axes.label_outside(axes, "frame", "bin")
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
    estimate, target = (mix_down(part) for part in _axes.check_pair(estimate, target, (1, 2)))
    axes = _axes.new_column(3, 8, 1.5, resolution)
    for rows, samples, colour, name in (
        ((1, 2), target, _axes.COLOURS[0], "target"),
        ((0, 2), estimate, _axes.COLOURS[1], "estimate"),
    ):
        for row in rows:
            draw_envelope(axes[row], samples, 1, colour, name, alpha=0.6 if row == 2 else 1.0)
        axes[rows[0]].set_title(f"{label}, {name}", loc="left", fontsize="medium")
    axes[2].set_title(f"{label}, both", loc="left", fontsize="medium")
    axes[2].legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    peak = _axes.find_peak((estimate, target))
    for ax in axes:
        ax.set(xlim=(0, len(target)), ylim=(-1.05 * peak, 1.05 * peak))
        _axes.hide_spines(ax)
    axes[2].set_xlabel("sample")
    return axes[0].figure
