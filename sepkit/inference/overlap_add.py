"""Overlap-add: a stream of any length through a model, chunk by chunk, without seams."""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor

from sepkit.chunking import Chunking
from sepkit.normalization import NORMALIZED
from sepkit.separator import evaluating


class Separates(Protocol):
    """What is asked of a model, a torch module: `Separator` has it.

    Attributes:
        sources: names of the S sources.
        sample_rate: Hz.
        n_channels: C.
        segment: seconds of audio that it separates at a time.
    """

    sources: list[str]
    sample_rate: int
    n_channels: int
    segment: float

    def __call__(self, mixture: Tensor) -> Tensor:
        """Separate a mixture (B, C, T) into (B, S, C, T)."""


class Queue:
    """Samples that wait, in one buffer: small tensors that lived on between large ones would break up the memory."""

    def __init__(self, n_channels: int) -> None:
        self.buffer = torch.zeros(n_channels, 0)
        self.n_samples = 0

    def push(self, block: Tensor) -> None:
        """Append samples (C, t)."""
        end = self.n_samples + block.shape[-1]
        if end > self.buffer.shape[-1]:
            room = block.new_zeros(len(block), 2 * end - self.n_samples)
            self.buffer = torch.cat([self.first(self.n_samples), room], -1)
        self.buffer[:, self.n_samples : end] = block
        self.n_samples = end

    def first(self, n_samples: int) -> Tensor:
        """View the oldest samples (C, <= n_samples)."""
        return self.buffer[:, : min(n_samples, self.n_samples)]

    def drop(self, n_samples: int) -> None:
        """Remove the oldest samples."""
        later = self.buffer[:, n_samples : self.n_samples].clone()
        self.n_samples = later.shape[-1]
        self.buffer[:, : self.n_samples] = later


class OverlapAdd:
    """Separate chunks of the model's segment and cross-fade them.

    Chunk k covers the samples from k * hop to k * hop + length, whatever the batch size. What is summed stays in one
    buffer, because fresh memory of this size has to be zeroed by the system each time.

    Args:
        model: which separates.
        n_channels: C of the blocks: the model's, a multiple of it, whose groups are separated one by one, or one more
            than that; this one channel is copied to all of the model's, and their estimates are averaged.
        chunking: how chunks are cut.
        normalized: the blocks are normalised already, and silence is estimated as such.
    """

    def __init__(self, model: Separates, n_channels: int, chunking: Chunking, normalized: bool = False) -> None:
        self._model, self._normalized = model, normalized
        self._batch_size, self._last = int(chunking.batch_size), chunking.last
        self._valid_length = getattr(model, "valid_length", int)
        self._length = max(1, round(model.segment * model.sample_rate))
        self._hop, self._window = chunking.hop(self._length), chunking.weights(self._length)
        filled = self._valid_length(1) > 1
        self._n_past = self._valid_length(self._length) // 2 if filled else 0  # more than any chunk is given
        span = (self._batch_size - 1) * self._hop + self._length
        self._held = Queue(n_channels)  # samples from `n_past` before the next chunk's first on
        self._held.push(torch.zeros(n_channels, self._n_past))
        self._summed = torch.zeros(len(model.sources), n_channels, span)  # weighted; begins where the next chunk does
        self._weight = torch.zeros(span)

    @property
    def _n_waiting(self) -> int:
        return max(0, self._held.n_samples - self._n_past)

    def push(self, block: Tensor) -> Tensor:
        """Take samples (C, t) at the model's rate and return the estimates (S, C, any number) that are finished."""
        self._held.push(block)
        first, size = self._seen(self._length)
        needed = len(self._weight) - self._length + first + size
        finished = []
        while self._held.n_samples >= needed:
            finished.append(self._run(self._batch_size, self._length))
        return self._join(finished)

    def finish(self) -> Tensor:
        """Return the estimates of all samples that wait."""
        if self._last == "filled":
            n_least = int(self._n_waiting > 0 and self._weight[0] == 0)  # of what no chunk has covered
            n_chunks = max(n_least, math.ceil((self._n_waiting - self._length) / self._hop) + 1)
        else:
            n_chunks = max(0, (self._n_waiting - self._length) // self._hop + 1)
        starts = range(0, n_chunks, self._batch_size)
        finished = [self._run(min(self._batch_size, n_chunks - start), self._length) for start in starts]
        while self._last == "short" and self._n_waiting:
            finished.append(self._run(1, self._n_waiting))
        return self._join([*finished, self._average(self._n_waiting)])

    def _seen(self, length: int) -> tuple[int, int]:
        """Return where among the held samples begins what is given for a chunk of `length`, and how much it is."""
        size = self._valid_length(length)
        return self._n_past - (size - length) // 2, size

    def _run(self, n_chunks: int, length: int) -> Tensor:
        """Separate the next chunks and return what no later chunk reaches."""
        (first, size), n_done = self._seen(length), n_chunks * self._hop
        span = (n_chunks - 1) * self._hop + size
        mixture = self._held.first(first + span)[:, first:]
        if mixture.shape[-1] < span:
            mixture = torch.nn.functional.pad(mixture, (0, span - mixture.shape[-1]))
        chunks = mixture.unfold(-1, size, self._hop).transpose(0, 1)  # (n, C, V)
        estimates = _separate_chunks(self._model, chunks, self._normalized)
        before = self._n_past - first
        for i, estimate in enumerate(estimates[..., before : before + length]):
            place = slice(i * self._hop, i * self._hop + length)
            self._summed[..., place].addcmul_(estimate, self._window[:length])
            self._weight[place] += self._window[:length]
        finished = self._average(min(n_done, self._n_waiting))
        self._held.drop(n_done)
        for buffer in (self._summed, self._weight):
            later = buffer[..., n_done:].clone()
            buffer.zero_()[..., : later.shape[-1]] = later
        return finished

    def _average(self, n_samples: int) -> Tensor:
        return self._summed[..., :n_samples] / self._weight[:n_samples]

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.cat([self._summed[..., :0], *parts], -1)


@torch.inference_mode(False)  # a table that the network builds now and keeps must serve a training, too
@torch.no_grad()
def _separate_chunks(model: Separates, chunks: Tensor, normalized: bool) -> Tensor:
    """Separate chunks (n, C, V) on any device in evaluation mode into (n, S, C, V), float32 on the CPU."""
    statistics = {"statistics": NORMALIZED} if getattr(model, "normalize", None) else {}
    device = next(chain(model.parameters(), model.buffers()), chunks).device
    weights = next(model.parameters(), chunks)
    dtype = torch.float64 if weights.dtype is torch.float64 else chunks.dtype  # of a model that is trained in it
    estimates = []
    with evaluating(model):
        for group in chunks.split(model.n_channels, 1):
            n_present = group.shape[1]  # 1, where a channel is single, or all
            estimate = model(group.expand(-1, model.n_channels, -1).to(device, dtype), **statistics).float().cpu()
            if normalized:  # silence is 0 exactly, which networks may answer with something else
                estimate *= group.flatten(1).any(1)[:, None, None, None]
            estimates.append(estimate if n_present == model.n_channels else estimate.mean(2, keepdim=True))
    return torch.cat(estimates, 2) if len(estimates) > 1 else estimates[0]
