"""What vocals, drums, bass and the rest sound like in figures, to tell stems that bear each other's name."""

from itertools import pairwise

import numpy as np

from sepkit.datasets.measurement import Measurement
from sepkit.datasets.roles import is_like

_EDGES = np.array([0, 60, 120, 250, 500, 1000, 2000, 4000, 8000, 16000])  # Hz
_SOUNDING = 1e-2  # of the mean power, above which 100 ms count
_FREEDOM = 5.0  # of Student's distribution, whose long ends forgive what is rare
_ODD, _DOUBT = -65.0, 0.4  # likelihood below which two sounds are odd for their names, what share of that is taken off
_PLAIN = ("vocals", "drums", "bass", "other")
# Means and standard deviations over 152 built-in songs and five real ones: shares of bands in dB, texture, how the
# level varies in dB, how much of the time it sounds, difference of the channels in dB: what `describe_sound` gives.
# fmt: off
_TYPICAL: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "vocals": (
        (-36, -31.6, -13.8, -5.27, -4.13, -10.6, -14.3, -17.8, -23.4, 0.0531, 0.581, 0.528, 6, 0.79, -9.26),
        (5.43, 7.85, 7.09, 3, 3, 3, 3, 4.5, 6.85, 0.337, 0.261, 0.2, 1.5, 0.2, 5),
    ),
    "drums": (
        (-7.63, -4.35, -8.3, -12.4, -15.5, -16.5, -17.1, -17.8, -20.7, 0.887, 0.947, 0.0592, 6.32, 0.805, -18.9),
        (3.98, 3, 3, 3, 3, 3.3, 3.1, 5.1, 5.52, 0.3, 0.25, 0.2, 1.5, 0.2, 6.56),
    ),
    "bass": (
        (-8.57, -2.64, -7, -15.8, -28.6, -37.7, -44.5, -48.5, -49.9, -0.781, -0.146, 0.634, 4.18, 0.702, -31.4),
        (3.07, 3, 3, 5.75, 8.9, 7.64, 5.51, 3, 3, 0.449, 0.405, 0.2, 1.5, 0.2, 6.07),
    ),
    "other": (
        (-21.4, -13.5, -10.8, -5.98, -5.93, -9.1, -14.4, -22.3, -32, -0.343, 0.21, 0.553, 3.47, 0.878, -13.1),
        (7.16, 7.67, 5.61, 3, 3, 3, 3.55, 6.12, 6.72, 0.412, 0.36, 0.2, 1.66, 0.2, 6.58),
    ),
}
# fmt: on


def describe_sound(measured: Measurement) -> np.ndarray:
    """Compute the figures by which stems are told apart, (15,); NaN where the sample rate is too low for one."""
    hertz = measured.sample_rate / 2 / (len(measured.spectrum) - 1)
    frequencies = np.arange(len(measured.spectrum)) * hertz
    sums = np.array([
        measured.spectrum[(frequencies >= low) & (frequencies < high)].sum()
        for low, high in pairwise(_EDGES)
    ])  # fmt: skip
    bands = 10 * np.log10(sums / max(float(sums.sum()), 1e-20) + 1e-5)
    bands[_EDGES[1:] > measured.sample_rate / 2] = np.nan
    in_time, in_frequency = np.log(np.maximum(measured.texture, 1e-3))
    sounding = measured.levels[measured.levels > _SOUNDING * measured.levels.mean()]
    varying = float(np.std(10 * np.log10(sounding))) if len(sounding) else 0.0
    share = len(sounding) / max(1, len(measured.levels))
    side = -40.0
    if len(measured.powers) == 2:
        total = float(measured.powers.sum())
        side = 10 * np.log10((total - 2 * measured.product) / max(total + 2 * measured.product, 1e-20) + 1e-4)
    return np.array([*bands, in_time - in_frequency, in_time, in_frequency, varying, share, side])


def typical_name(stem: str) -> str | None:
    """Return under which of the four names a stem's sound is known: "drums" for `drum_kit`; None: under none."""
    return stem if stem in _TYPICAL else next((name for name in _PLAIN[:3] if is_like(stem, name)), None)


def likelihood(sound: np.ndarray, name: str) -> float:
    """Compute the logarithmic likelihood that a stem of a name, one of the four, has a sound.

    Args:
        sound: as `describe_sound` gives it.
        name: "vocals", "drums", "bass" or "other".
    """
    mean, deviation = (np.array(values) for values in _TYPICAL[name])
    known = np.isfinite(sound)
    distance = np.square((sound - mean) / deviation)[known]
    spread = -np.log(deviation)[known].sum()
    return float(spread - 0.5 * (_FREEDOM + known.sum()) * np.log1p(distance.sum() / _FREEDOM))


def swap_gain(first: tuple[str, np.ndarray], second: tuple[str, np.ndarray]) -> float:
    """Compute by how much two stems are likelier with each other's name, logarithmic; below 0: their own fit better.

    Stems that are odd for each other's names, too, are believed the less for it: they may be called anything.

    Args:
        first: name and sound of one.
        second: of the other.
    """
    (name, sound), (other_name, other_sound) = first, second
    own = likelihood(sound, name) + likelihood(other_sound, other_name)
    as_swapped = likelihood(sound, other_name) + likelihood(other_sound, name)
    return as_swapped - own + _DOUBT * min(0.0, as_swapped - _ODD)
