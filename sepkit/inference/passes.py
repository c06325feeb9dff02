"""Several separations of one stream at the same time, each delayed or by another model, and their mean."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sepkit.chunking import Chunking
from sepkit.inference.overlap_add import OverlapAdd, Queue, Separates

_LONGEST_DELAY = 0.5  # s


class _Pass:
    """One separation of the stream, behind a number of zeros whose estimates are dropped."""

    def __init__(self, chunks: OverlapAdd, weight: Tensor, n_rows: int, n_channels: int, delay: int) -> None:
        self.chunks, self.weight, self.n_early = chunks, weight, delay
        self.finished = Queue(n_rows)
        self.keep(chunks.push(torch.zeros(n_channels, delay)))

    def keep(self, estimates: Tensor) -> None:
        """Keep finished estimates (S, C, t)."""
        early = min(self.n_early, estimates.shape[-1])
        self.n_early -= early
        self.finished.push(estimates[..., early:].flatten(0, 1))


class Passes:
    """The mean of several separations of a stream.

    Args:
        model: which separates.
        n_channels: C of the blocks, as in `OverlapAdd`.
        chunking: how chunks are cut, and how many delayed separations there are.
        normalized: the blocks are normalised already, and silence is estimated as such.
    """

    def __init__(self, model: Separates, n_channels: int, chunking: Chunking, normalized: bool = False) -> None:
        self._shape, self._passes = (len(model.sources), n_channels), []
        generator = torch.Generator().manual_seed(int(chunking.seed))
        for delay in draw_delays(chunking, model.sample_rate, generator):
            chunks = OverlapAdd(model, n_channels, chunking, normalized)
            weight = torch.ones(len(model.sources), 1)
            self._passes.append(_Pass(chunks, weight, len(model.sources) * n_channels, n_channels, delay))

    def push(self, block: Tensor) -> Tensor:
        """Take samples (C, t) at the model's rate and return the estimates (S, C, any number) that are finished."""
        for one in self._passes:
            one.keep(one.chunks.push(block))
        return self._take()

    def finish(self) -> Tensor:
        """Return the estimates of all samples that wait."""
        for one in self._passes:
            one.keep(one.chunks.finish())
        return self._take()

    def _take(self) -> Tensor:
        """Return the weighted mean of what all separations have finished."""
        n_samples = min(one.finished.n_samples for one in self._passes)
        weights = torch.stack([one.weight for one in self._passes])
        shares = weights / weights.sum(0)
        mean = torch.zeros(*self._shape, n_samples)
        for one, share in zip(self._passes, shares, strict=True):
            mean += share.unsqueeze(-1) * one.finished.first(n_samples).unflatten(0, self._shape)
            one.finished.drop(n_samples)
        return mean


def open_passes(
    model: Separates, n_channels: int, chunking: Chunking, normalized: bool = False
) -> "OverlapAdd | Passes":
    """Open what a stream is separated with: see `Passes`, which one separation without delay does not need."""
    return (Passes if chunking.shifts else OverlapAdd)(model, n_channels, chunking, normalized)


def draw_delays(chunking: Chunking, sample_rate: int, generator: torch.Generator) -> Sequence[int]:
    """Draw by how many samples each separation is delayed; without shifts, one is by none."""
    longest = int(_LONGEST_DELAY * sample_rate)
    return [
        longest - int(torch.randint(longest + 1, (), generator=generator)) for _ in range(int(chunking.shifts))
    ] or [0]
