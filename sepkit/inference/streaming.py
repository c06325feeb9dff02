"""Separate a stream: blocks of a recording in, blocks of its stems out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor

from sepkit import audio
from sepkit.chunking import Chunking
from sepkit.inference.overlap_add import Queue, Separates
from sepkit.inference.passes import open_passes
from sepkit.inference.stems import choose_stems
from sepkit.normalization import RunningStatistics, as_statistics, normalize, restore

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
        chunking: how the stream is cut into chunks; None: the model's.
        statistics: where the model's `normalize` is "recording", mean and standard deviation of the whole recording at
            the model's rate, (2,) or (G, 2) for G groups of channels, as `measure_statistics` measures them; of a
            stream without end, what is known of its level.

    Raises:
        sepkit.audio.AudioError: the channels do not fit the model's.
        ValueError: the sample rate is not positive, or the stems are others, or in another order, or statistics are
            missing, or given to a model that does not use them.
    """

    def __init__(
        self,
        model: Separates,
        sample_rate: int,
        n_channels: int,
        stems: Sequence[str],
        chunking: Chunking | None = None,
        statistics: Tensor | Sequence[float] | None = None,
    ) -> None:
        check_channels("the recording", n_channels, model)
        self._statistics = _by_channel(model, n_channels, statistics)
        if stems is None or list(stems) != choose_stems(model.sources, stems, False, getattr(model, "residual", None)):
            raise ValueError(f"stems must be a list in the order that choose_stems gives, got {stems!r}")
        self._sample_rate, self._shape = sample_rate, (len(model.sources), n_channels)
        self._chosen = [model.sources.index(name) for name in stems if name in model.sources]
        self._has_residual = len(stems) > len(self._chosen)
        self._resampler = audio.Resampler(sample_rate, model.sample_rate, n_channels)
        self._back = audio.Resampler(model.sample_rate, sample_rate, len(model.sources) * n_channels)
        chunking = choose_chunking(model) if chunking is None else chunking
        wanted = range(len(model.sources)) if self._has_residual else self._chosen
        self._chunks = open_passes(model, n_channels, chunking, self._statistics is not None, wanted)
        self._mixture = Queue(n_channels)  # samples whose estimates are not finished

    def push(self, block: Tensor) -> Tensor:
        """Take a block (C, t) and return the stems (stems, C, any number) that are finished."""
        self._mixture.push(block)
        estimates = self._restore(self._chunks.push(self._normalize(self._resampler.push(block))))
        return self._select(self._back.push(estimates)[:, : self._mixture.n_samples])

    def finish(self) -> Tensor:
        """Return the stems of all samples that wait."""
        estimates = [self._chunks.push(self._normalize(self._resampler.flush())), self._chunks.finish()]
        estimates = [*(self._back.push(self._restore(part)) for part in estimates), self._back.flush()]
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

    def _normalize(self, block: Tensor) -> Tensor:
        return block if self._statistics is None else normalize(block, self._statistics)

    def _restore(self, estimates: Tensor) -> Tensor:
        """Scale estimates (S, C, t) back to the recording's level, as (S * C, t)."""
        if self._statistics is not None:
            estimates = restore(estimates.transpose(0, 1), self._statistics).transpose(0, 1)
        return estimates.flatten(0, 1)

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


def measure_statistics(model: Separates, blocks: Iterable[Tensor], sample_rate: int, n_channels: int) -> Tensor | None:
    """Measure mean and standard deviation of a recording, as a model that normalises by them wants them.

    Args:
        model: which separates.
        blocks: of the recording, (C, t) each.
        sample_rate: of the blocks, Hz.
        n_channels: C of the blocks.

    Returns:
        (G, 2) of the G groups of channels that are separated, in float64; None where the model does not normalise.
    """
    if getattr(model, "normalize", None) is None:
        return None
    resampler = audio.Resampler(sample_rate, model.sample_rate, n_channels)
    running = RunningStatistics(model.n_channels)
    for block in blocks:
        running.push(resampler.push(block))
    running.push(resampler.flush())
    return running.measure()


def choose_chunking(model: Separates, **given: float | None) -> Chunking:
    """Return the model's own chunking, but for what is given and not None."""
    return replace(
        getattr(model, "chunking", Chunking()), **{name: value for name, value in given.items() if value is not None}
    )


def _by_channel(model: Separates, n_channels: int, statistics: Tensor | Sequence[float] | None) -> Tensor | None:
    """Return the statistics of the group that each channel is of, (C, 2)."""
    if getattr(model, "normalize", None) is None:
        if statistics is not None:
            raise ValueError("statistics are for a model whose normalize is 'recording': leave them out")
        return None
    if statistics is None:
        raise ValueError(
            "statistics must be given, because the model normalises by the whole recording: measure_statistics takes "
            "them from its blocks"
        )
    statistics = as_statistics(statistics, -(-n_channels // model.n_channels))
    return statistics.repeat_interleave(model.n_channels, 0)[:n_channels]


def check_channels(recording: str, n_channels: int, model: Separates) -> None:
    """Refuse a number of channels that a model cannot take."""
    wanted = model.n_channels
    if n_channels % wanted > 1:
        raise audio.AudioError(
            f"{recording} has {n_channels} channels, a model of {wanted} takes 1, a multiple of {wanted}, or one more "
            "than that: mix the recording down first"
        )
