"""How good a separator is on the same excerpts, all through a training."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sepkit import metrics
from sepkit.datasets import Song
from sepkit.excerpts import Excerpt
from sepkit.inference import separate
from sepkit.report.excerpts import loudest_part
from sepkit.separator import Separator

_SHOWN_SECONDS = 4.0


def excerpt_of(song: Song, sources: Sequence[str], n_frames: int | None) -> tuple[Tensor, Tensor]:
    """Read the middle of a song: mixture (C, T) and targets (S, C, T).

    Args:
        song: which one.
        sources: names of the targets.
        n_frames: samples; None: the whole song.
    """
    n_frames = song.n_frames if n_frames is None else min(n_frames, song.n_frames)
    start = _start_of(song, n_frames)
    targets = torch.stack([song.read_stem(name, start, n_frames) for name in sources])
    return song.read_mixture(start, n_frames), targets


def _start_of(song: Song, n_frames: int) -> int:
    return (song.n_frames - n_frames) // 2 // song.quantum * song.quantum


def validate(
    separator: Separator,
    songs: Sequence[Song],
    excerpt: float | None,
    batch_size: int,
    look: Callable[[Excerpt], object] | None = None,
) -> dict[str, float]:
    """Score a separator: per source the median over the songs of the median SDR over frames of a second.

    Args:
        separator: what is scored.
        songs: on what.
        excerpt: seconds from the middle of each song; None: whole songs.
        batch_size: chunks that the network sees at once.
        look: called with the most telling seconds of the first song; None: nobody looks.

    Returns:
        dB by source; NaN where no song has a frame that can be scored.
    """
    rate = separator.sample_rate
    n_frames = None if excerpt is None else round(excerpt * rate)
    medians = []
    for song in songs:
        mixture, targets = excerpt_of(song, separator.sources, n_frames)
        estimates = separate(separator, mixture, stems=separator.sources, batch_size=batch_size)
        estimates = torch.stack(list(estimates.values()))
        if look and not medians:
            start = _start_of(song, mixture.shape[-1]) / rate
            look(shorten(Excerpt(song.name, tuple(separator.sources), rate, start, mixture, estimates, targets)))
        scores = metrics.framewise_sdr(estimates, targets, rate, rate)
        medians.append(scores.nanmedian(-1).values)
    scores = torch.stack(medians).nanquantile(0.5, dim=0)  # one nearly silent stem would decide a mean
    return dict(zip(separator.sources, scores.tolist(), strict=True))


def shorten(excerpt: Excerpt) -> Excerpt:
    """Copy the four seconds in which all targets are there to be heard.

    Args:
        excerpt: with targets; a shorter one is copied as a whole.
    """
    first, n_frames = loudest_part(excerpt.targets, excerpt.sample_rate, _SHOWN_SECONDS)
    parts = (excerpt.mixture, excerpt.estimates, excerpt.targets)
    mixture, estimates, targets = (part[..., first : first + n_frames].clone() for part in parts)
    start = excerpt.start + first / excerpt.sample_rate
    return replace(excerpt, start=start, mixture=mixture, estimates=estimates, targets=targets)
