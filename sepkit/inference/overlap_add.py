"""Overlap-add: a stream of any length through a model, chunk by chunk, without seams."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import torch
from torch import Tensor

from sepkit.arguments import check_count, check_range
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


@dataclass(frozen=True)
class Chunking:
    """How a recording is cut into chunks of the model's segment.

    Attributes:
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].

    Raises:
        ValueError: one is out of range.
    """

    batch_size: int = 1
    overlap: float = 0.25

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_range("overlap", self.overlap, 0, 0.9)


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
    """

    def __init__(self, model: Separates, n_channels: int, chunking: Chunking) -> None:
        self._model, self._batch_size = model, int(chunking.batch_size)
        self._length = max(1, round(model.segment * model.sample_rate))
        self._hop = max(1, round(self._length * (1 - chunking.overlap)))
        self._fade = _fade(self._length, self._length - self._hop)
        span = (self._batch_size - 1) * self._hop + self._length
        self._held = Queue(n_channels)  # samples from the next chunk's first on
        self._summed = torch.zeros(len(model.sources), n_channels, span)  # weighted; begins where the next chunk does
        self._weight = torch.zeros(span)

    def push(self, block: Tensor) -> Tensor:
        """Take samples (C, t) at the model's rate and return the estimates (S, C, any number) that are finished."""
        self._held.push(block)
        finished = []
        while self._held.n_samples >= len(self._weight):
            finished.append(self._run(self._batch_size))
        return self._join(finished)

    def finish(self) -> Tensor:
        """Return the estimates of all samples that wait; the last chunk is filled with zeros."""
        n_waiting = self._held.n_samples
        n_least = int(n_waiting > 0 and self._weight[0] == 0)  # of what no chunk has covered
        n_chunks = max(n_least, math.ceil((n_waiting - self._length) / self._hop) + 1)
        starts = range(0, n_chunks, self._batch_size)
        finished = [self._run(min(self._batch_size, n_chunks - start)) for start in starts]
        return self._join([*finished, self._average(self._held.n_samples)])

    def _run(self, n_chunks: int) -> Tensor:
        """Separate the next chunks and return what no later chunk reaches."""
        span, n_done = (n_chunks - 1) * self._hop + self._length, n_chunks * self._hop
        mixture = self._held.first(span)
        if mixture.shape[-1] < span:
            mixture = torch.nn.functional.pad(mixture, (0, span - mixture.shape[-1]))
        chunks = mixture.unfold(-1, self._length, self._hop).transpose(0, 1)  # (n, C, L)
        for i, estimate in enumerate(_separate_chunks(self._model, chunks)):
            place = slice(i * self._hop, i * self._hop + self._length)
            self._summed[..., place].addcmul_(estimate, self._fade)
            self._weight[place] += self._fade
        finished = self._average(min(n_done, self._held.n_samples))
        self._held.drop(n_done)
        for buffer in (self._summed, self._weight):
            later = buffer[..., n_done:span].clone()
            buffer.zero_()[..., : later.shape[-1]] = later
        return finished

    def _average(self, n_samples: int) -> Tensor:
        return self._summed[..., :n_samples] / self._weight[:n_samples]

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        return parts[0] if len(parts) == 1 else torch.cat([self._summed[..., :0], *parts], -1)


def _fade(length: int, overlap: int) -> Tensor:
    """Return the weights of a chunk's samples: straight ramps where chunks overlap."""
    ramp = torch.arange(1, length + 1) / (min(overlap, length // 2) + 1)
    return torch.minimum(ramp, ramp.flip(0)).clamp(max=1.0)


@torch.inference_mode(False)  # a table that the network builds now and keeps must serve a training, too
@torch.no_grad()
def _separate_chunks(model: Separates, chunks: Tensor) -> Tensor:
    """Separate chunks (n, C, L) on any device in evaluation mode into (n, S, C, L), float32 on the CPU."""
    device = next(chain(model.parameters(), model.buffers()), chunks).device
    estimates = []
    with evaluating(model):
        for group in chunks.split(model.n_channels, 1):
            n_present = group.shape[1]  # 1, where a channel is single, or all
            estimate = model(group.expand(-1, model.n_channels, -1).to(device)).float().cpu()
            estimates.append(estimate if n_present == model.n_channels else estimate.mean(2, keepdim=True))
    return torch.cat(estimates, 2) if len(estimates) > 1 else estimates[0]
