"""How good a separator is on the same excerpts, all through a training."""

from collections.abc import Callable, Sequence

import torch

from sepkit import metrics
from sepkit.datasets import Song
from sepkit.excerpts import Excerpt, shorten
from sepkit.inference import separate
from sepkit.separator import Separator

_SHOWN_SECONDS = 4.0


def separate_excerpt(separator: Separator, song: Song, n_frames: int | None, batch_size: int = 1) -> Excerpt:
    """Separate the middle of a song.

    Args:
        separator: what separates.
        song: which one.
        n_frames: samples; None: the whole song.
        batch_size: chunks that the network sees at once.
    """
    n_frames = song.n_frames if n_frames is None else min(n_frames, song.n_frames)
    start = (song.n_frames - n_frames) // 2 // song.quantum * song.quantum
    sources, rate = separator.sources, separator.sample_rate
    targets = torch.stack([song.read_stem(name, start, n_frames) for name in sources])
    mixture = song.read_mixture(start, n_frames)
    estimates = separate(separator, mixture, stems=sources, batch_size=batch_size)
    together = torch.stack(list(estimates.values()))
    return Excerpt(song.name, tuple(sources), rate, start / rate, mixture, together, targets)


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
        part = separate_excerpt(separator, song, n_frames, batch_size)
        if look and not medians:
            look(shorten(part, _SHOWN_SECONDS))
        scores = metrics.framewise_sdr(part.estimates, part.targets, rate, rate)
        medians.append(scores.nanmedian(-1).values)
    scores = torch.stack(medians).nanquantile(0.5, dim=0)  # one nearly silent stem would decide a mean
    return dict(zip(separator.sources, scores.tolist(), strict=True))
