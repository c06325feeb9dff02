"""A few seconds of a song, to see and hear."""

from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional as F

from sepkit.arguments import as_waveform, check_count, check_range

_GRAIN = 0.1  # s


@dataclass(frozen=True)
class Excerpt:
    """Mixture, targets and estimates of a few seconds of a song.

    Attributes:
        track: name of the song.
        sources: names, S of them.
        sample_rate: Hz.
        start: where the excerpt begins in the song, in s.
        mixture: (C, T).
        estimates: (S, C, T).
        targets: (S, C, T); None where unknown.
    """

    track: str
    sources: tuple[str, ...]
    sample_rate: int
    start: float
    mixture: Tensor
    estimates: Tensor
    targets: Tensor | None = None


def shorten(excerpt: Excerpt, seconds: float) -> Excerpt:
    """Copy the seconds in which all targets are audible.

    Args:
        excerpt: with targets; a shorter one is copied as a whole.
        seconds: to keep, > 0.
    """
    first, n_samples = loudest_part(excerpt.targets, excerpt.sample_rate, seconds)
    parts = (excerpt.mixture, excerpt.estimates, excerpt.targets)
    mixture, estimates, targets = (part[..., first : first + n_samples].clone() for part in parts)
    start = excerpt.start + first / excerpt.sample_rate
    return replace(excerpt, start=start, mixture=mixture, estimates=estimates, targets=targets)


def loudest_part(waveforms: Tensor, sample_rate: int, seconds: float) -> tuple[int, int]:
    """Find the part of a song in which all stems sound, as loud as the quietest among them gets.

    Args:
        waveforms: (S, C, T).
        sample_rate: Hz.
        seconds: wanted length.

    Returns:
        First sample, and number of samples, at most T.

    Raises:
        ValueError: the waveforms are others, or a number is not positive.
    """
    waveforms = as_waveform(waveforms, "waveforms", "(S, C, T)")
    check_count("sample_rate", sample_rate)
    check_range("seconds", seconds, 0, above=True)
    grain = max(1, round(_GRAIN * sample_rate))
    power = waveforms.square().mean(1)  # (S, T)
    missing = -power.shape[-1] % grain
    power = F.pad(power, (0, missing)).unflatten(-1, (-1, grain)).mean(-1)
    return best_part(power, waveforms.shape[-1], grain, round(min(seconds * sample_rate, waveforms.shape[-1])))


def best_part(power: Tensor, n_samples: int, grain: int, wanted: int) -> tuple[int, int]:
    """Find the part in which the stem that sounds least, compared with itself elsewhere, sounds most.

    Args:
        power: (S, K), of K grains.
        n_samples: samples in all.
        grain: samples.
        wanted: samples in the part.

    Returns:
        First sample, and number of samples, at most `n_samples`.
    """
    wanted = min(wanted, n_samples)
    n_grains = min(power.shape[-1], max(1, wanted // grain))
    level = power.double().unfold(-1, n_grains, 1).mean(-1)  # (S, K - n_grains + 1)
    share = level / level.amax(-1, keepdim=True).clamp(min=1e-12)
    sounding = level.amax(-1) > 0
    first = int(share[sounding].amin(0).argmax()) if sounding.any() else 0
    return min(first * grain, n_samples - wanted), wanted
