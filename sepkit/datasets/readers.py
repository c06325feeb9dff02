"""From a file into a tensor: 16-bit WAV as it lies on the disk, everything else through a decoder."""

import math
import os
import sys
import threading
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from sepkit import audio
from sepkit.audio.packed import read_packed
from sepkit.audio.pcm import locate_samples

SCALE = 1 / 32768  # a power of two: the product is exact, equal to what the decoder returns
_PIECE = 1 << 19  # samples that are read at a time
_MARGIN = 2048  # samples around a segment that hide the edges of the resampler
_scratch = threading.local()


class Reader(Protocol):
    """A part of a file at the wanted rate, read from any position."""

    def read_into(self, out: Tensor, start: int, factor: float = 1.0, swap: bool = False) -> None:
        """Fill out (C, T) with samples of the file, its channels adapted to C.

        Args:
            out: float32, filled; all its samples lie in the file.
            start: first sample, at the wanted rate.
            factor: multiplies all samples.
            swap: reverse the order of the channels.

        Raises:
            AudioError: the file cannot be read, or is another one than was probed.
        """


def convert(samples: Tensor, out: Tensor, factor: float = 1.0, swap: bool = False) -> None:
    """Fill out with samples, scaled.

    Args:
        samples: (C', T) int16 or float32, C' = C or either 1.
        out: (C, T) float32, filled.
        factor: multiplies all samples; of int16, full scale is 32768 * factor.
        swap: reverse the order of the channels.
    """
    if samples.shape[0] not in (1, out.shape[0]):
        samples = audio.adapt_channels(samples.float(), out.shape[0])
    if swap and samples.shape[0] > 1:
        for channel, other in zip(out, samples.unbind()[::-1], strict=True):
            channel.copy_(other)
    else:
        out.copy_(samples)
    if factor != 1:
        out.mul_(factor)


def locate_pcm16(info: audio.AudioInfo) -> int | None:
    """Find the first byte of the samples in an undamaged little-endian 16-bit WAV; None for any other file."""
    if info.subtype != "PCM_16" or info.reader != "soundfile" or info.complaint:
        return None
    try:
        with open(info.path, "rb") as file:
            magic = file.read(4)
            samples = locate_samples(file) if magic in (b"RIFF", b"RF64", b"BW64") else None
            size = file.seek(0, 2)
    except OSError as error:
        raise audio.vanished(info.path, error) from error
    if samples is None:
        return None
    n_samples = min(samples.declared, size - samples.offset) // (2 * info.n_channels)
    return samples.offset if n_samples == info.n_samples else None


class Pcm16Reader:
    """Read 16-bit WAV without a decoder, through one small buffer.

    Args:
        info: what the probe found.
        offset: what `locate_pcm16` found.
        first: sample of the file at which position 0 lies.
    """

    def __init__(self, info: audio.AudioInfo, offset: int, first: int = 0) -> None:
        self.info, self.offset, self.first = info, offset, first

    def read_into(self, out: Tensor, start: int, factor: float = 1.0, swap: bool = False) -> None:
        """Fill out (C, T) as `Reader.read_into` does."""
        info, n_channels, (n_wanted, n_samples) = self.info, self.info.n_channels, out.shape
        try:
            with open(info.path, "rb", buffering=0) as file:
                audio.check_unchanged(info, file.fileno())
                file.seek(self.offset + 2 * n_channels * (self.first + start))
                for piece in (out,) if n_samples <= _PIECE else out.split(_PIECE, -1):
                    samples = _borrow(piece.shape[-1] * n_channels)
                    if _fill(file, memoryview(samples).cast("B")) < samples.nbytes:  # cut since it was opened
                        raise audio.changed(info.path)
                    if n_channels == n_wanted == 2 and sys.byteorder == "little":
                        _part_stereo(samples, piece, SCALE * factor, swap)
                    else:
                        read = torch.from_numpy(samples.view("<i2")).view(-1, n_channels).mT
                        convert(read, piece, SCALE * factor, swap)
        except OSError as error:
            raise audio.vanished(info.path, error) from error


def _part_stereo(samples: np.ndarray, out: Tensor, factor: float, swap: bool) -> None:
    """Fill out (2, T) with interleaved samples.

    A pair is one number of 32 bits, whose halves are parted by operations on whole registers, which is faster than to
    read every other sample. They lie where the floats come to lie, so that no other memory passes the cache.
    """
    pairs = torch.from_numpy(samples.view(np.int32))
    left, right = out.unbind()[::-1] if swap else out.unbind()
    left.copy_(torch.bitwise_left_shift(pairs, 16, out=left.view(torch.int32)))  # 65536 times the left sample
    right.copy_(torch.bitwise_and(pairs, -65536, out=right.view(torch.int32)))  # 65536 times the right one
    out.mul_(factor / 65536)


def _borrow(n_values: int) -> np.ndarray:
    """Return a buffer of this thread, int16, which the next call returns again."""
    buffer = getattr(_scratch, "samples", None)
    if buffer is None or len(buffer) < n_values:
        buffer = _scratch.samples = np.empty(n_values, np.int16)
    return buffer[:n_values]


def _fill(file, view: memoryview) -> int:
    """Read until a buffer is full or the file ends, since one call may return less; return the bytes."""
    n_bytes = 0
    while n_bytes < len(view) and (n_read := file.readinto(view[n_bytes:])):
        n_bytes += n_read
    return n_bytes


class PackedReader:
    """Read 16-bit samples from within a tar, by one range.

    Args:
        info: of the file in the tar.
        first: sample of the file at which position 0 lies.
    """

    def __init__(self, info: audio.PackedInfo, first: int = 0) -> None:
        self.info, self.first = info, first

    def read_into(self, out: Tensor, start: int, factor: float = 1.0, swap: bool = False) -> None:
        """Fill out (C, T) as `Reader.read_into` does."""
        samples = read_packed(self.info, self.first + start, out.shape[-1])
        convert(torch.from_numpy(samples).mT, out, SCALE * self.info.scale * factor, swap)


class DecodingReader:
    """Read any file through its decoder.

    Args:
        info: what the probe found.
        first: sample of the file at which position 0 lies.
        allow_damaged: take what decodes of a truncated or damaged file.
    """

    def __init__(self, info: audio.AudioInfo, first: int = 0, allow_damaged: bool = False) -> None:
        self.info, self.first, self.allow_damaged = info, first, allow_damaged

    def read_into(self, out: Tensor, start: int, factor: float = 1.0, swap: bool = False) -> None:
        """Fill out (C, T) as `Reader.read_into` does."""
        options = {"allow_truncated": self.allow_damaged, "info": self.info}
        read, _ = audio.read(self.info.path, self.first + start, out.shape[-1], **options)
        convert(read, out, factor, swap)


class ResamplingReader:
    """Read a part of a file at another rate than its own; positions are whole samples of the file.

    Args:
        info: what the probe found.
        sample_rate: wanted, Hz.
        first: sample of the file at which position 0 lies.
        end: sample of the file behind the last that is read.
        allow_damaged: take what decodes of a truncated or damaged file.
    """

    def __init__(
        self, info: audio.AudioInfo, sample_rate: int, first: int, end: int, allow_damaged: bool = False
    ) -> None:
        self.info, self.sample_rate, self.first, self.end = info, sample_rate, first, end
        self.allow_damaged = allow_damaged

    def read_into(self, out: Tensor, start: int, factor: float = 1.0, swap: bool = False) -> None:
        """Fill out (C, T) as `Reader.read_into` does."""
        rate, file_rate = self.sample_rate, self.info.sample_rate
        step = rate // math.gcd(rate, file_rate)
        margin = min(start, -(-_MARGIN // step) * step)
        first = self.first + (start - margin) * file_rate // rate
        n_wanted = min(-(-(out.shape[-1] + margin + _MARGIN) * file_rate // rate), self.end - first)
        options = {"allow_truncated": self.allow_damaged, "info": self.info}
        read, _ = audio.read(os.fspath(self.info.path), first, n_wanted, **options)
        convert(audio.resample(read, file_rate, rate)[:, margin : margin + out.shape[-1]], out, factor, swap)
