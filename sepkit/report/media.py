"""Pictures and sound inside the page."""

import base64
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soundfile
from torch import Tensor

from sepkit import audio
from sepkit.plots import literal_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RASTER = 144  # dots per inch of spectrograms
_QUALITY = 80
_LARGEST = 1.2  # times its own size, so that its letters are not much larger than the page's
_CEILING = 0.9  # lossy coding overshoots
# Layer III of MPEG-1, 2 and 2.5: sample rates, and from each on the bit rates at libsndfile's levels 1 and 0.
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_KILOBITS = {32000: (32, 320), 16000: (8, 160), 0: (8, 64)}
_RC = {
    "svg.fonttype": "none",
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.linewidth": 0.8,
    "savefig.transparent": True,
}


class Player(NamedTuple):
    """A waveform in the page: its name, and its sound as the URL of an MP3."""

    label: str
    source: str


def drawing() -> AbstractContextManager:
    """Set matplotlib up for pages: text stays text, and the browser has the letters that matplotlib's font lacks."""
    return literal_text(_RC)


def picture(figure: "Figure", description: str) -> str:
    """Convert a figure to an SVG element in the colours of the page's text.

    Args:
        figure: drawn within `drawing`.
        description: what it shows, for those who do not see it.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", dpi=_RASTER, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    width = _LARGEST * 72 * figure.get_figwidth()  # pt
    shown = f'<svg role="img" aria-label="{escape(description)}" style="max-width: {width:.0f}pt" '
    svg = re.sub(r'^<svg (.*?)width="[\d.]+pt" height="[\d.]+pt"', lambda head: shown + head[1], svg, count=1)
    svg = re.sub(r' id="[A-Za-z][\w.]*_\d+"', "", svg)  # not unique on a page; those that are used have no underscore
    svg = re.sub(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", _as_webp, svg)
    return svg.replace("#000000", "currentColor").strip()


def _as_webp(png: re.Match) -> str:
    """Encode an image of spectrograms so that it takes a tenth of the space."""
    from PIL import Image, features

    if not features.check("webp"):
        return png[0]
    buffer = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png[1]))).save(buffer, "WEBP", quality=_QUALITY, method=4)
    return _data_url("image/webp", buffer.getvalue())


def common_gain(waveforms: Sequence[Tensor]) -> float:
    """Find the gain, at most 1, that lets all waveforms be played without clipping."""
    peak = max(float(waveform.abs().max()) for waveform in waveforms)
    return min(1.0, _CEILING / peak) if peak else 1.0


def player(label: str, waveform: Tensor, sample_rate: int, kilobits: float) -> Player:
    """Encode a waveform for the page.

    Args:
        label: what it is.
        waveform: (C, T).
        sample_rate: Hz.
        kilobits: per second, at most.
    """
    return Player(label, _data_url("audio/mpeg", encode_mp3(waveform, sample_rate, kilobits)))


def encode_mp3(waveform: Tensor, sample_rate: int, kilobits: float) -> bytes:
    """Encode a short waveform as MP3, in memory, at a constant rate.

    Args:
        waveform: (C, T); more than two channels are averaged.
        sample_rate: Hz; one that MP3 does not know becomes its next higher one, or 48000.
        kilobits: per second, at most, as far as the format goes.
    """
    rate = next((known for known in _MP3_RATES if known >= sample_rate), _MP3_RATES[-1])
    waveform = waveform if len(waveform) <= 2 else audio.adapt_channels(waveform, 1)
    samples = audio.resample(waveform.detach().cpu().float(), sample_rate, rate).T.numpy()
    low, high = next(ends for lowest, ends in _MP3_KILOBITS.items() if rate >= lowest)
    level = (high - min(max(kilobits, low), high)) / (high - low)
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        np.ascontiguousarray(samples.clip(-1, 1)),
        rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=level,
        bitrate_mode="CONSTANT",
    )
    return buffer.getvalue()


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
