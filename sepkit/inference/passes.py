"""Several separations of one stream at the same time, each delayed or by another model, and their mean."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sepkit.bag import Bag
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
        members: separators of the same sources, and the weights of each, (S,).
        n_channels: C of the blocks, as in `OverlapAdd`.
        chunking: how chunks are cut, and how many delayed separations there are by each member.
        normalized: the blocks are normalised already, and silence is estimated as such.
        wanted: numbers of the sources that are asked for; a member without weight for any of them is not run.
    """

    def __init__(
        self,
        members: Sequence[tuple[Separates, Tensor]],
        n_channels: int,
        chunking: Chunking,
        normalized: bool,
        wanted: Sequence[int],
    ) -> None:
        first = members[0][0]
        self._shape, self._passes = (len(first.sources), n_channels), []
        n_rows, generator = len(first.sources) * n_channels, torch.Generator().manual_seed(int(chunking.seed))
        for member, weight in members:
            for delay in draw_delays(chunking, first.sample_rate, generator):
                if weight[list(wanted)].any():
                    chunks = OverlapAdd(member, n_channels, chunking, normalized)
                    self._passes.append(_Pass(chunks, weight, n_rows, n_channels, delay))
        total = sum(one.weight for one in self._passes)
        self._total = torch.where(total > 0, total, 1.0)[:, None, None]

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
        summed = torch.zeros(*self._shape, n_samples)
        for one in self._passes:
            summed += one.weight[:, None, None] * one.finished.first(n_samples).unflatten(0, self._shape)
            one.finished.drop(n_samples)
        return summed / self._total


def open_passes(
    model: Separates, n_channels: int, chunking: Chunking, normalized: bool, wanted: Sequence[int]
) -> OverlapAdd | Passes:
    """Open what a stream is separated with: see `Passes`, which a single separation without delay does not need."""
    network = getattr(model, "network", None)
    if isinstance(network, Bag):
        members = list(zip(network.members, network.weights.cpu(), strict=True))
    elif chunking.shifts:
        members = [(model, torch.ones(len(model.sources)))]
    else:
        return OverlapAdd(model, n_channels, chunking, normalized)
    return Passes(members, n_channels, chunking, normalized, wanted)


def draw_delays(chunking: Chunking, sample_rate: int, generator: torch.Generator) -> list[int]:
    """Draw by how many samples each separation is delayed; without shifts, one is by none."""
    longest = int(_LONGEST_DELAY * sample_rate)
    draws = (int(torch.randint(longest + 1, (), generator=generator)) for _ in range(int(chunking.shifts)))
    return [longest - draw for draw in draws] or [0]
