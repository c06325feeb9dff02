"""Pitch and tempo of waveforms, block by block, all channels alike."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

_SAME = 1e-6  # beyond which a factor changes something


class Stretcher:
    """Change pitch and tempo; what is added up before and after is the same, whatever it is.

    All channels are cut and joined at the same samples, so that stems that are stretched together remain stems of
    their sum, which is stretched, too. Nothing of it is drawn.

    Args:
        sample_rate: Hz.
        n_channels: of all stems together.
        pitch: semitones.
        tempo: factor.

    Source:
        Pitch by soxr's HQ resampler; then the length by ffmpeg's `atempo`, a waveform-similarity overlap-add as in
        W. Verhelst, M. Roelands, An overlap-add technique based on waveform similarity, 1993, that compares the
        channels' sum.
    """

    def __init__(self, sample_rate: int, n_channels: int, pitch: float, tempo: float) -> None:
        import av
        import soxr

        ratio = 2 ** (pitch / 12)
        self.sample_rate, self.n_channels, self._n_pushed = sample_rate, n_channels, 0
        self._resampler = self._graph = None
        if abs(ratio - 1) > _SAME:
            rates = sample_rate * ratio, sample_rate
            self._resampler = soxr.ResampleStream(*rates, n_channels, dtype="float32", quality="HQ")
        if abs(tempo / ratio - 1) > _SAME:
            self._graph, self._layout = av.filter.Graph(), f"{n_channels}C"
            places = f"sample_rate={sample_rate}:sample_fmt=flt:channel_layout={self._layout}:time_base=1/{sample_rate}"
            nodes = [
                self._graph.add("abuffer", places),
                self._graph.add("atempo", f"{tempo / ratio:.9f}"),
                self._graph.add("abuffersink"),
            ]
            for node, following in pairwise(nodes):
                node.link_to(following)
            self._graph.configure()

    def push(self, block: Tensor) -> Iterator[Tensor]:
        """Take a block (C, t), float32, and yield what is finished by then, (C, any number)."""
        yield from self._push(np.ascontiguousarray(block.numpy().T), last=False)

    def flush(self) -> Iterator[Tensor]:
        """Yield the rest after the last block; the stretcher is used up then."""
        yield from self._push(np.zeros((0, self.n_channels), np.float32), last=True)
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()

    def _push(self, samples: np.ndarray, last: bool) -> Iterator[Tensor]:
        """Take (t, C)."""
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        if not len(samples):
            return
        if self._graph is None:
            yield torch.from_numpy(np.ascontiguousarray(samples.T))
            return
        self._graph.push(self._frame(samples))
        yield from self._pull()

    def _frame(self, samples: np.ndarray):
        import av

        frame = av.AudioFrame(format="flt", layout=self._layout, samples=len(samples))
        plane = frame.planes[0]
        plane.update(samples.tobytes().ljust(plane.buffer_size, b"\0"))
        frame.sample_rate, frame.pts = self.sample_rate, self._n_pushed
        self._n_pushed += len(samples)
        return frame

    def _pull(self) -> Iterator[Tensor]:
        while True:
            try:
                frame = self._graph.pull()
            except (BlockingIOError, EOFError):  # nothing yet, or nothing more
                return
            samples = frame.to_ndarray().reshape(-1, self.n_channels)
            yield torch.from_numpy(np.ascontiguousarray(samples.T))
