"""Overlap-add: a stream of any length through a separator, chunk by chunk, without seams."""

import math
from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor

from sepkit.separator import Separator, evaluating

_PIECE = 1 << 15  # samples that are handed on at a time


def overlap_add(separator: Separator, blocks: Iterable[Tensor], batch_size: int, overlap: float) -> Iterator[Tensor]:
    """Separate chunks of the model's segment and cross-fade them.

    Args:
        separator: the model.
        blocks: (C, t) each, at the model's sample rate; C as `separate_chunks` takes it.
        batch_size: chunks that the network sees at once, >= 1; the result does not depend on it.
        overlap: share of a chunk that the next one covers again, in [0, 0.9].

    Yields:
        (S, C, t), in all as many samples as came in.
    """
    chunks = _OverlapAdd(separator, batch_size, overlap)
    for block in blocks:
        yield from chunks.push(block)
    yield from chunks.finish()


class Queue:
    """Samples that wait, in one buffer: small tensors that lived on between large ones would break up the memory."""

    def __init__(self) -> None:
        self.buffer = torch.zeros(0, 0)
        self.n_samples = 0

    def push(self, block: Tensor) -> None:
        """Add samples (C, t) at the end."""
        if not block.shape[-1]:
            return
        end = self.n_samples + block.shape[-1]
        if end > self.buffer.shape[-1]:
            former = [self.first(self.n_samples)] if self.n_samples else []
            self.buffer = torch.cat([*former, block.new_zeros(len(block), 2 * end - self.n_samples)], -1)
        self.buffer[:, self.n_samples : end] = block
        self.n_samples = end

    def first(self, n_samples: int) -> Tensor:
        """View the oldest samples (C, <= n_samples)."""
        return self.buffer[:, : min(n_samples, self.n_samples)]

    def drop(self, n_samples: int) -> None:
        """Remove the oldest samples."""
        rest = self.buffer[:, n_samples : self.n_samples].clone()
        self.n_samples = rest.shape[-1]
        self.buffer[:, : self.n_samples] = rest


class _OverlapAdd:
    """Chunk k covers the samples from k * hop to k * hop + length, whatever the batch size.

    What is summed stays in one buffer, because fresh memory of this size has to be zeroed by the system each time.
    """

    def __init__(self, separator: Separator, batch_size: int, overlap: float) -> None:
        self.separator, self.batch_size = separator, batch_size
        self.length = max(1, round(separator.segment * separator.sample_rate))
        self.hop = max(1, round(self.length * (1 - overlap)))
        self.fade = _fade(self.length, self.length - self.hop)
        self.held = Queue()  # samples from the next chunk's first on
        self.summed: Tensor | None = None  # (S, C, span), weighted; begins where the next chunk does
        self.weight = torch.zeros((batch_size - 1) * self.hop + self.length)

    def push(self, block: Tensor) -> Iterator[Tensor]:
        """Take samples (C, t) and give those that are finished."""
        self.held.push(block)
        while self.held.n_samples >= len(self.weight):
            yield from self._run(self.batch_size)

    def finish(self) -> Iterator[Tensor]:
        """Give all samples that are left; the last chunk is filled with zeros."""
        left = self.held.n_samples
        covered = 0 if self.summed is None else self.length - self.hop
        n_chunks = math.ceil(max(0, left - covered) / self.hop)
        if self.summed is None and left:
            n_chunks = max(1, math.ceil((left - self.length) / self.hop) + 1)
        for start in range(0, n_chunks, self.batch_size):
            yield from self._run(min(self.batch_size, n_chunks - start))
        yield from self._finished(self.held.n_samples)

    def _run(self, n_chunks: int) -> Iterator[Tensor]:
        """Separate the next chunks, give what no later chunk reaches and keep the rest."""
        span, done = (n_chunks - 1) * self.hop + self.length, n_chunks * self.hop
        mixture = self.held.first(span)
        if mixture.shape[-1] < span:
            mixture = torch.nn.functional.pad(mixture, (0, span - mixture.shape[-1]))
        chunks = mixture.unfold(-1, self.length, self.hop).transpose(0, 1)  # (n, C, L)
        self._add(separate_chunks(self.separator, chunks))
        yield from self._finished(min(done, self.held.n_samples))
        self.held.drop(done)
        for buffer in (self.summed, self.weight):
            rest = buffer[..., done:span].clone()
            buffer.zero_()[..., : rest.shape[-1]] = rest

    def _finished(self, n_samples: int) -> Iterator[Tensor]:
        """Give the first samples in pieces (S, C, t) that fit into the processor's cache."""
        for start in range(0, n_samples, _PIECE):
            piece = slice(start, min(start + _PIECE, n_samples))
            yield self.summed[..., piece] / self.weight[piece]

    def _add(self, estimates: Tensor) -> None:
        """Add the chunks (n, S, C, L) at their places."""
        if self.summed is None:
            self.summed = torch.zeros(*estimates.shape[1:3], len(self.weight))
        for i, estimate in enumerate(estimates):
            place = slice(i * self.hop, i * self.hop + self.length)
            self.summed[..., place].addcmul_(estimate, self.fade)
            self.weight[place] += self.fade


def _fade(length: int, overlap: int) -> Tensor:
    """Weigh the samples of a chunk: straight ramps where chunks overlap."""
    ramp = torch.arange(1, length + 1) / (min(overlap, length // 2) + 1)
    return torch.minimum(ramp, ramp.flip(0)).clamp(max=1.0)


@torch.inference_mode(False)  # a table that the network builds now and keeps must serve a training, too
@torch.no_grad()
def separate_chunks(separator: Separator, chunks: Tensor) -> Tensor:
    """Separate chunks in evaluation mode.

    Args:
        separator: the model.
        chunks: (n, C, L) on any device. C may be the model's number of channels, a multiple of it, whose groups are
            separated one by one, or one more than that: a channel that is left over is copied to all of the model's,
            and their estimates are averaged.

    Returns:
        (n, S, C, L), float32 on the CPU.
    """
    device = next(chain(separator.parameters(), separator.buffers()), chunks).device
    found = []
    with evaluating(separator):
        for group in chunks.split(separator.n_channels, 1):
            given = group.shape[1]  # 1, where a channel is left over, or all
            estimate = separator(group.expand(-1, separator.n_channels, -1).to(device)).float().cpu()
            found.append(estimate if given == separator.n_channels else estimate.mean(2, keepdim=True))
    return torch.cat(found, 2) if len(found) > 1 else found[0]
