"""An excerpt as one picture, in a file of the run folder."""

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sepkit.excerpts import Excerpt
from sepkit.files import atomic_file, readable, safe_name
from sepkit.plots import load_matplotlib
from sepkit.transforms import STFT, mel_filters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "pictures"
_RESOLUTION = 100  # dots per inch
_TOP, _TITLE, _GAP, _FOOT = 30, 24, 8, 24  # heights in pixels, as the following
_N_BANDS, _N_FRAMES, _DOT = 96, 180, 2
_BANDS, _WAVE = _N_BANDS * _DOT, 72
_LEFT, _PANEL, _SCALE, _BAR = 54, _N_FRAMES * _DOT, 62, 9  # widths
_PLACES = (_LEFT, _LEFT + _PANEL + _GAP, _LEFT + 2 * _PANEL + _GAP + _SCALE)  # left ends of the columns
_WIDTH = _PLACES[2] + _PANEL + _SCALE
_SOURCE = _TITLE + _BANDS + _GAP + _WAVE + _FOOT
_COLUMNS = ("estimate", "target", "estimate - target")
_COLOURS = ((217, 130, 43), (31, 95, 168), (63, 143, 82))
_WINDOW = 0.09  # s
_HIGHEST = 16000.0  # Hz
_TICKS = (0.5, 1, 2, 4, 8, 16)  # kHz
_RANGE, _REACH = 80.0, 40.0  # dB, of levels and of their differences


def picture_file(folder: Path, label: str, excerpt: Excerpt) -> Path:
    """Draw an excerpt into `pictures/<label>_<track>.png`; a file of this name is the picture already.

    Args:
        folder: of the run.
        label: begins the name.
        excerpt: with targets.
    """
    path = folder / FOLDER / safe_name(f"{label}_{excerpt.track}", ".png")
    if not path.exists():
        load_matplotlib()
        from matplotlib.image import imsave

        path.parent.mkdir(exist_ok=True)
        with atomic_file(path, durable=False) as temporary:
            imsave(temporary, draw_excerpt(excerpt), format="png", pil_kwargs={"compress_level": 4})
    return path


def draw_excerpt(excerpt: Excerpt) -> np.ndarray:
    """Draw mel bands and waveforms of each source, its target and their difference, on one scale.

    matplotlib writes the words, and the panels are painted with numpy: axes would take ten times as long.

    Args:
        excerpt: with targets.

    Returns:
        Red, green and blue, uint8 (height, width, 3).
    """
    canvas = _write_labels(excerpt)
    for i, pair in enumerate(torch.stack([excerpt.estimates, excerpt.targets], 1)):
        top = _TOP + i * _SOURCE + _TITLE
        _paint_bands(canvas[top:], mel_levels(pair, excerpt.sample_rate))
        _paint_waves(canvas[top + _BANDS + _GAP :], pair.mean(1))
    return canvas


def mel_levels(waveforms: Tensor, sample_rate: int) -> Tensor:
    """Measure mel bands, channels averaged as power.

    Args:
        waveforms: (..., C, T).
        sample_rate: Hz.

    Returns:
        (..., bands, columns), in dB below the loudest of all, -80 to 0.
    """
    n_fft = 2 ** round(math.log2(_WINDOW * sample_rate))
    hop = max(1, math.ceil(waveforms.shape[-1] / _N_FRAMES))
    spectrogram = STFT(n_fft, min(hop, n_fft // 2))(waveforms)
    filters = mel_filters(spectrogram.shape[-2], _N_BANDS, sample_rate, 0.0, _highest(sample_rate))
    power = filters @ torch.view_as_real(spectrogram).square().sum(-1).mean(-3)
    loudest = float(power.max())
    return 10 * torch.log10((power / (loudest or 1.0)).clamp(min=10 ** (-_RANGE / 10)))


def _highest(sample_rate: int) -> float:
    return min(_HIGHEST, sample_rate / 2)


def _paint_bands(canvas: np.ndarray, levels: Tensor) -> None:
    """Paint the levels (2, bands, columns) of estimate and target, and how they differ, with their scales."""
    shares = [*(1 + levels / _RANGE), (levels[0] - levels[1]) / (2 * _REACH) + 0.5]
    for column, (share, left) in enumerate(zip(shares, _PLACES, strict=True)):
        frames = np.linspace(0, share.shape[-1] - 1, _N_FRAMES).round().astype(int)
        dots = _coloured(share.numpy()[::-1, frames], column)
        canvas[:_BANDS, left : left + _PANEL] = dots.repeat(_DOT, axis=0).repeat(_DOT, axis=1)
        if column:
            scale = _coloured(np.linspace(1, 0, _BANDS)[:, None], column)
            canvas[:_BANDS, left + _PANEL + _GAP : left + _PANEL + _GAP + _BAR] = scale


def _coloured(shares: np.ndarray, column: int) -> np.ndarray:
    load_matplotlib()
    from matplotlib import colormaps

    return colormaps["RdBu_r" if column == 2 else "inferno"](shares, bytes=True)[..., :3]


def _paint_waves(canvas: np.ndarray, waveforms: Tensor) -> None:
    """Paint the waveforms (2, T) of estimate and target, and their difference, from minima to maxima."""
    samples = torch.cat([waveforms, waveforms[:1] - waveforms[1:]]).numpy()
    samples = samples / max(1e-6, float(np.abs(samples[:2]).max()))
    starts = np.linspace(0, samples.shape[-1], _PANEL, endpoint=False).astype(int)
    lowest, highest = np.minimum.reduceat(samples, starts, -1), np.maximum.reduceat(samples, starts, -1)
    heights = np.linspace(1, -1, _WAVE)[:, None]
    for left, colour, low, high in zip(_PLACES, _COLOURS, lowest, highest, strict=True):
        panel = canvas[:_WAVE, left : left + _PANEL]
        panel[:] = 246
        panel[(heights >= low - 1 / _WAVE) & (heights <= high + 1 / _WAVE)] = colour


def _write_labels(excerpt: Excerpt) -> np.ndarray:
    """Write all words on white (height, width, 3): what the panels show, and their scales."""
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = _TOP + _SOURCE * len(excerpt.sources)
    figure = Figure(figsize=(_WIDTH / _RESOLUTION, height / _RESOLUTION), dpi=_RESOLUTION)
    canvas = FigureCanvasAgg(figure)
    seconds = excerpt.mixture.shape[-1] / excerpt.sample_rate
    _write(figure, _LEFT, 16, f"{excerpt.track}, {excerpt.start:.1f} to {excerpt.start + seconds:.1f} s", size=9)
    for i, source in enumerate(excerpt.sources):
        _label_source(figure, _TOP + i * _SOURCE, source, excerpt.sample_rate, seconds)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for it; the file bears the name
        canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _label_source(figure: "Figure", top: int, source: str, sample_rate: int, seconds: float) -> None:
    """Label the panels of a source."""
    bands, foot = top + _TITLE, top + _SOURCE - _FOOT + 10
    for column, left in zip(_COLUMNS, _PLACES, strict=True):
        _write(figure, left, top + 13, f"{source}, {column}")
        _write(figure, left, foot, "0")
        _write(figure, left + _PANEL / 2, foot, f"{seconds / 2:g} s", "center")
        _write(figure, left + _PANEL, foot, f"{seconds:g} s", "right")
    step = math.log10(1 + _highest(sample_rate) / 700) / (_N_BANDS + 1)  # bands are evenly spaced in mel
    for tick in _TICKS:
        if 1000 * tick <= _highest(sample_rate):
            share = (math.log10(1 + 1000 * tick / 700) / step - 0.5) / _N_BANDS
            _write(figure, _LEFT - 6, bands + _BANDS * (1 - min(share, 0.98)), f"{tick:g} kHz", "right")
    for left, levels in ((_PLACES[1], (0, -40, -80)), (_PLACES[2], (40, 0, -40))):
        for level, share in zip(levels, (0.03, 0.5, 0.97), strict=True):
            _write(figure, left + _PANEL + _GAP + _BAR + 4, bands + _BANDS * share, f"{level} dB")


def _write(figure: "Figure", left: float, middle: float, text: str, align: str = "left", size: int = 8) -> None:
    """Write at a place in pixels, counted from the left and from above."""
    width, height = figure.get_size_inches() * _RESOLUTION
    place = {"ha": align, "va": "center", "fontsize": size}
    figure.text(left / width, 1 - middle / height, readable(text), parse_math=False, **place)  # names may hold dollars
