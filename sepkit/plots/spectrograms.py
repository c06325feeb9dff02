"""Spectrograms, of one signal, of a separation, and of an estimate beside its target."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import is_whole
from sepkit.files import readable
from sepkit.plots import _axes
from sepkit.transforms import STFT, mel_filters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from sepkit.plots._axes import Array, AxesGrid


_N_FFT, _HOP = 4096, 1024
_MAX_BANDS = 128
_RANGE_DB = 80.0  # below the loudest value
_DIFFERENCE_DB = 40.0
_HIGHEST = 16000.0  # Hz
_TICKS_KHZ = (0, 0.5, 1, 2, 4, 8, 16)


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
    ax = ax or _axes.new_figure(8, 3.2).subplots()
    image = _draw_bands(ax, _decibels(bands, _loudest(bands)), sample_rate, duration, title)
    ax.set(xlabel="time (s)", ylabel="frequency (kHz)")
    _axes.add_colour_bar(image, [ax], "dB re the loudest band")
    return ax


def plot_separation(
    mixture: "Array",
    stems: "Mapping[str, Array]",
    sample_rate: int = 44100,
    axes: "AxesGrid | None" = None,
) -> "list[Axes]":
    """Draw the mixture, its stems and the residual, mixture minus stems, as mel bands on one scale in dB.

    Args:
        mixture: (C, T) or (T,).
        stems: by name, of the mixture's shape.
        sample_rate: Hz.
        axes: for mixture and stems, and one more for the residual; None: of a new figure, where the residual has a
            picture unless it is everywhere more than 80 dB below the loudest band.

    Returns:
        The axes, in the order mixture, stems, residual.

    Raises:
        ValueError: a stem has another shape than the mixture, there are fewer axes or more, or sample_rate is not
            positive.
    """
    axes = _axes.check_axes(axes, len(stems) + 1, len(stems) + 2)
    mixture = _axes.to_float(mixture, "mixture")
    parts = {name: _axes.to_float(stem, f"the stem {name}") for name, stem in stems.items()}
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
    for ax, name, (bands, duration) in zip(axes, ["mixture", *parts, "residual"], drawn, strict=False):
        image = _draw_bands(ax, _decibels(bands, loudest), sample_rate, duration, name)
    _axes.label_outside(axes, "time (s)", "kHz")
    _axes.add_colour_bar(image, axes, "dB re the loudest band")
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
    estimate, target = _axes.check_pair(estimate, target, (1, 2))
    (estimated, duration), (wanted, _) = (_mel_bands(part, sample_rate) for part in (estimate, target))
    loudest = _loudest(estimated, wanted)
    pictures = [_decibels(bands, loudest) for bands in (estimated, wanted)]
    axes = _axes.check_axes(axes, 3) or _axes.new_column(3, 8, 2.1)
    for ax, picture, name in zip(axes, pictures, ("estimate", "target"), strict=False):
        image = _draw_bands(ax, picture, sample_rate, duration, name)
    _axes.add_colour_bar(image, axes[:2], "dB re the loudest")
    image = _draw_bands(axes[2], pictures[0] - pictures[1], sample_rate, duration, "estimate - target")
    image.set(cmap=_axes.DIFFERENCE_MAP, clim=(-_DIFFERENCE_DB, _DIFFERENCE_DB))
    _axes.add_colour_bar(image, axes[2:], "dB")
    _axes.label_outside(axes, "time (s)", "kHz")
    return axes


def _new_grid(n_pictures: int) -> "list[Axes]":
    """Create axes in one column, or from four pictures on in two."""
    n_columns = 1 if n_pictures < 4 else 2
    n_rows = math.ceil(n_pictures / n_columns)
    figure = _axes.new_figure(5.5 * n_columns + 1, 0.5 + 2.1 * n_rows)
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[n_pictures:]:
        ax.remove()
    return list(axes[:n_pictures])


def _mel_bands(signal: "Array", sample_rate: int, hop_length: int | None = None) -> tuple[Tensor, float]:
    """Compute the power in mel bands (M, N), averaged over channels, and the seconds that they cover."""
    _axes.check_sample_rate(sample_rate)
    if hop_length is not None and not (is_whole(hop_length) and hop_length >= 1):
        raise ValueError(f"hop_length must be at least 1, got {hop_length}")
    signal = _axes.to_float(signal, "signal")
    if not (signal.dim() in (2, 3) if signal.is_complex() else signal.dim() in (1, 2)) or not signal.numel():
        raise ValueError(
            "signal must be a real waveform (C, T) or (T,), or a complex spectrogram (C, F, N) or (F, N), got "
            f"{signal.dtype} {tuple(signal.shape)}"
        )
    if signal.is_complex():
        n_bins = signal.shape[-2]
        spectrogram, duration = signal, signal.shape[-1] * (hop_length or n_bins - 1) / sample_rate
    else:
        _axes.check_turned(signal, "signal")
        spectrogram, duration = STFT(_N_FFT, _HOP)(signal), signal.shape[-1] / sample_rate
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
    return _axes.mask_infinite(10 * torch.log10((bands / loudest).clamp(min=10 ** (-_RANGE_DB / 10))).numpy())


def _draw_bands(ax: "Axes", picture: np.ndarray, sample_rate: int, duration: float, title: str) -> "AxesImage":
    n_bands = len(picture)
    image = ax.imshow(
        picture,
        origin="lower",
        aspect="auto",
        cmap=_axes.LEVEL_MAP,
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
