"""Validation: scores of a separator on the same excerpts, all through a training."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from sepkit import metrics
from sepkit.baselines import baseline_estimates
from sepkit.datasets import Song
from sepkit.excerpts import Excerpt, shorten
from sepkit.inference import separate
from sepkit.metrics.bootstrap import median
from sepkit.processes import Processes
from sepkit.separator import Separator

_SHOWN_SECONDS = 4.0


def choose_excerpt(song: Song, n_samples: int | None) -> tuple[int, int]:
    """Return the first sample and the length of the middle of a song; None: of the whole song."""
    n_samples = song.n_samples if n_samples is None else min(n_samples, song.n_samples)
    return (song.n_samples - n_samples) // 2 // song.position_step * song.position_step, n_samples


def separate_songs(
    separator: Separator, songs: Iterable[Song], excerpt: float | None, batch_size: int
) -> Iterator[Excerpt]:
    """Separate the middle of each song, one after the other, into the sources that it has.

    Args:
        separator: that is scored.
        songs: with at least one of the sources each.
        excerpt: seconds; None: whole songs.
        batch_size: chunks that the network sees at once.
    """
    rate = separator.sample_rate
    for song in songs:
        sources = [name for name in separator.sources if song.has(name)]
        start, n_samples = choose_excerpt(song, None if excerpt is None else round(excerpt * rate))
        targets = torch.stack([song.read_stem(name, start, n_samples) for name in sources])
        mixture = song.read_mixture(start, n_samples)
        stems = separate(separator, mixture, stems=sources, batch_size=batch_size)
        estimates = torch.stack([stems[name] for name in sources])
        yield Excerpt(song.name, tuple(sources), rate, start / rate, mixture, estimates, targets)


def median_sdr(excerpt: Excerpt, estimates: Tensor) -> list[float]:
    """Take the median SDR over frames of a second, as `sepkit.evaluation` does.

    Args:
        excerpt: with targets; one alone is scored with the residual of the mixture, so that the same frames count.
        estimates: (S, C, T), in place of the excerpt's own.

    Returns:
        dB by source; NaN without any frame that can be scored.
    """
    rate, n_sources = excerpt.sample_rate, len(excerpt.sources)
    pair = (estimates, excerpt.targets)
    if n_sources == 1:
        pair = (torch.cat([stem, excerpt.mixture - stem]) for stem in pair)
    return median(metrics.framewise_sdr(*pair, rate, rate)[:n_sources]).tolist()


def n_shown(separator: Separator) -> int:
    """Count the songs of which excerpts are shown: two, or one where there are many sources to show of each."""
    return 2 if len(separator.sources) < 3 else 1


def validate(
    separator: Separator,
    songs: Sequence[Song],
    excerpt: float | None,
    batch_size: int,
    on_excerpt: Callable[[Excerpt], object] | None = None,
    processes: Processes | None = None,
) -> dict[str, float]:
    """Score a separator: per source the median over the songs of the median SDR over frames of a second.

    Args:
        separator: what is scored.
        songs: on what; a source that a song lacks is not scored there.
        excerpt: seconds from the middle of each song; None: whole songs.
        batch_size: chunks that the network sees at once.
        on_excerpt: called with the loudest seconds of each of the `n_shown` first songs.
        processes: which share the songs.

    Returns:
        dB by source; NaN where no song has a frame that can be scored.
    """
    processes = processes or Processes()
    medians: list[dict[str, float]] = []
    for part in separate_songs(separator, songs[processes.rank :: processes.world], excerpt, batch_size):
        if on_excerpt and len(medians) < n_shown(separator):
            on_excerpt(shorten(part, _SHOWN_SECONDS))
        medians.append(dict(zip(part.sources, median_sdr(part, part.estimates), strict=True)))
    medians = processes.gather(medians)
    # Not the mean over the songs, which one nearly silent stem would decide.
    return {name: float(median([song[name] for song in medians if name in song])) for name in separator.sources}


def score_songs(
    separator: Separator, songs: Sequence[Song], excerpt: float | None, batch_size: int, seconds: float
) -> tuple[list[tuple[str, str, str, str, float]], list[Excerpt]]:
    """Score a separator as `validate` does, and baselines in the bins of its transform.

    Args:
        separator: what is scored.
        songs: on what.
        excerpt: seconds from the middle of each song; None: whole songs.
        batch_size: chunks that the network sees at once.
        seconds: of an excerpt to show.

    Returns:
        Rows of system, song, source, "SDR" and dB; and the loudest seconds of the `n_shown` first songs.
    """
    rows, shown = [], []
    for part in separate_songs(separator, songs, excerpt, batch_size):
        if len(shown) < n_shown(separator):
            shown.append(shorten(part, seconds))
        baselines = baseline_estimates(part.mixture, part.targets, separator.transform, part.sample_rate)
        for system, estimates in (("model", part.estimates), *baselines):
            scores = zip(part.sources, median_sdr(part, estimates), strict=True)
            rows += [(system, part.track, source, "SDR", score) for source, score in scores]
    return rows, shown
