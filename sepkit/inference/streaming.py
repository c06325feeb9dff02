"""Separate a stream: blocks of a recording in, blocks of its stems out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor

from sepkit import audio
from sepkit.inference.overlap_add import Chunking, OverlapAdd, Queue, Separates
from sepkit.inference.stems import choose_stems

BLOCK = 1 << 16  # samples of a recording that are pushed at a time
Progress = Callable[[float], object]  # called with the seconds of audio that were finished since its last call


class StreamSeparator:
    """Separate a stream block by block, holding no more of it than a batch of chunks.

    One channel is copied to the model's and averaged back, more are separated in consecutive groups. The model has
    the stream's sample rate or the blocks are resampled to its own, and the stems back.

    Args:
        model: which separates.
        sample_rate: of the blocks, Hz.
        n_channels: C of the blocks.
        stems: what is returned, as `choose_stems` lists it.
        chunking: how the stream is cut into chunks; None: the defaults.

    Raises:
        sepkit.audio.AudioError: the channels do not fit the model's.
        ValueError: the sample rate is not positive, or the stems are others, or in another order.
    """

    def __init__(
        self,
        model: Separates,
        sample_rate: int,
        n_channels: int,
        stems: Sequence[str],
        chunking: Chunking | None = None,
    ) -> None:
        check_channels("the recording", n_channels, model)
        if stems is None or list(stems) != choose_stems(model.sources, stems, residual=False):
            raise ValueError(f"stems must be a list in the order that choose_stems gives, got {stems!r}")
        self._sample_rate, self._shape = sample_rate, (len(model.sources), n_channels)
        self._chosen = [model.sources.index(name) for name in stems if name in model.sources]
        self._has_residual = len(stems) > len(self._chosen)
        self._resampler = audio.Resampler(sample_rate, model.sample_rate, n_channels)
        self._back = audio.Resampler(model.sample_rate, sample_rate, len(model.sources) * n_channels)
        self._chunks = OverlapAdd(model, n_channels, chunking or Chunking())
        self._mixture = Queue(n_channels)  # samples whose estimates are not finished

    def push(self, block: Tensor) -> Tensor:
        """Take a block (C, t) and return the stems (stems, C, any number) that are finished."""
        self._mixture.push(block)
        estimates = self._chunks.push(self._resampler.push(block)).flatten(0, 1)
        estimates = self._back.push(estimates)[:, : self._mixture.n_samples]
        return self._select(estimates)

    def finish(self) -> Tensor:
        """Return the stems of all samples that wait."""
        estimates = [self._chunks.push(self._resampler.flush()), self._chunks.finish()]
        estimates = [*(self._back.push(part.flatten(0, 1)) for part in estimates), self._back.flush()]
        estimates = torch.cat(estimates, -1)[:, : self._mixture.n_samples]
        n_missing = self._mixture.n_samples - estimates.shape[-1]  # a resampler may return some samples less
        return self._select(torch.nn.functional.pad(estimates, (0, n_missing)) if n_missing else estimates)

    def run(self, blocks: Iterable[Tensor], progress: Progress | None = None) -> Iterator[Tensor]:
        """Separate the whole stream.

        Args:
            blocks: (C, t) each.
            progress: called with the seconds of audio that were finished since its last call.

        Yields:
            (stems, C, t), in all as many samples as the blocks have.
        """
        for block in chain(blocks, [None]):
            stems = self.finish() if block is None else self.push(block)
            if stems.shape[-1]:
                yield stems
                if progress:
                    progress(stems.shape[-1] / self._sample_rate)

    def _select(self, estimates: Tensor) -> Tensor:
        """Return the chosen ones of the estimates (S * C, t), and the mixture minus all of them."""
        estimates = estimates.unflatten(0, self._shape)  # (S, C, t)
        stems = estimates
        if self._has_residual or self._chosen != list(range(len(estimates))):
            mixture = self._mixture.first(estimates.shape[-1])
            residual = [mixture - estimates.sum(0)] if self._has_residual else []
            stems = torch.stack([*(estimates[i] for i in self._chosen), *residual])
        self._mixture.drop(estimates.shape[-1])
        return stems


def check_channels(recording: str, n_channels: int, model: Separates) -> None:
    """Refuse a number of channels that a model cannot take."""
    wanted = model.n_channels
    if n_channels % wanted > 1:
        raise audio.AudioError(
            f"{recording} has {n_channels} channels, a model of {wanted} takes 1, a multiple of {wanted}, or one more "
            "than that: mix the recording down first"
        )
