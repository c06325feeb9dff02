"""A few seconds of a song to look at and listen to."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Excerpt:
    """What was mixed, what was wanted and what came out.

    Attributes:
        track: name of the song.
        sources: names, S of them.
        sample_rate: Hz.
        start: where the excerpt begins in the song, in s.
        mixture: (C, T).
        estimates: (S, C, T).
        targets: (S, C, T); None where nobody knows them.
    """

    track: str
    sources: tuple[str, ...]
    sample_rate: int
    start: float
    mixture: Tensor
    estimates: Tensor
    targets: Tensor | None = None
