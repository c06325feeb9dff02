"""How good a separator is on the same excerpts, all through a training."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sepkit import metrics
from sepkit.datasets import Song
from sepkit.inference import separate
from sepkit.separator import Separator


def excerpt_of(song: Song, sources: Sequence[str], n_frames: int | None) -> tuple[Tensor, Tensor]:
    """Read the middle of a song: mixture (C, T) and targets (S, C, T).

    Args:
        song: which one.
        sources: names of the targets.
        n_frames: samples; None: the whole song.
    """
    n_frames = song.n_frames if n_frames is None else min(n_frames, song.n_frames)
    start = (song.n_frames - n_frames) // 2 // song.quantum * song.quantum
    targets = torch.stack([song.read_stem(name, start, n_frames) for name in sources])
    return song.read_mixture(start, n_frames), targets


def validate(
    separator: Separator, songs: Sequence[Song], excerpt: float | None, batch_size: int
) -> dict[str, float]:
    """Score a separator: per source the median over the songs of the median SDR over frames of a second.

    Args:
        separator: what is scored.
        songs: on what.
        excerpt: seconds from the middle of each song; None: whole songs.
        batch_size: chunks that the network sees at once.

    Returns:
        dB by source; NaN where no song has a frame that can be scored.
    """
    rate = separator.sample_rate
    n_frames = None if excerpt is None else round(excerpt * rate)
    medians = []
    for song in songs:
        mixture, targets = excerpt_of(song, separator.sources, n_frames)
        estimates = separate(separator, mixture, stems=separator.sources, batch_size=batch_size)
        scores = metrics.framewise_sdr(torch.stack(list(estimates.values())), targets, rate, rate)
        medians.append(scores.nanmedian(-1).values)
    scores = torch.stack(medians).nanquantile(0.5, dim=0)  # one nearly silent stem would decide a mean
    return dict(zip(separator.sources, scores.tolist(), strict=True))
