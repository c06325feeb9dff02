"""Stems: one file or the sum of several, read at one rate and number of channels."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from sepkit import audio
from sepkit.datasets.readers import DecodingReader, PackedReader, Pcm16Reader, Reader, ResamplingReader, locate_pcm16


@dataclass(frozen=True)
class StemFile:
    """A file, or a part of it, that belongs to a stem.

    Attributes:
        info: what the probe found.
        start: first sample that belongs to it, at the file's rate.
        end: the sample behind the last, at the file's rate; None: the file's end.
        gain: factor of its samples in the stem, not in dB.
        allow_damaged: take what decodes of a truncated or damaged file.
    """

    info: audio.AudioInfo
    start: int = 0
    end: int | None = None
    gain: float = 1.0
    allow_damaged: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop <= self.info.n_samples or not math.isfinite(self.gain):
            raise ValueError(
                f"{self.info.path} has {self.info.n_samples} samples: a part of it wants 0 <= start <= end within "
                f"them and a finite gain, got {self.start}, {self.end} and {self.gain}"
            )

    @property
    def stop(self) -> int:
        """Return the sample behind the last, at the file's rate."""
        return self.info.n_samples if self.end is None else self.end

    def n_samples(self, sample_rate: int) -> int:
        """Return the length in samples at a rate, Hz."""
        return (self.stop - self.start) * sample_rate // self.info.sample_rate

    @cached_property
    def pcm_offset(self) -> int | None:
        """Return the first byte of its samples where no decoder is needed; None where one is."""
        return locate_pcm16(self.info)

    @property
    def is_packed(self) -> bool:
        """Return whether it lies within a tar, of a set that may be larger than the disk."""
        return isinstance(self.info, audio.PackedInfo)

    def is_direct(self, sample_rate: int) -> bool:
        """Return whether it is read at a rate, Hz, without decoding or resampling, or is packed and stays there."""
        return self.is_packed or (self.info.sample_rate == sample_rate and self.pcm_offset is not None)

    def reader(self, sample_rate: int) -> Reader:
        """Return what reads it at a rate, Hz, from the file itself."""
        if self.info.sample_rate != sample_rate:
            return ResamplingReader(self.info, sample_rate, self.start, self.stop, self.allow_damaged)
        if self.is_packed and self.info.subtype == "PCM_16":
            return PackedReader(self.info, self.start)
        if self.pcm_offset is not None:
            return Pcm16Reader(self.info, self.pcm_offset, self.start)
        return DecodingReader(self.info, self.start, self.allow_damaged)


class Store(Protocol):
    """What has decoded files, or some of them."""

    def reader(self, file: StemFile, sample_rate: int) -> Reader | None:
        """Return what reads a file at a rate, Hz; None: the file itself is to be read."""

    def start(self) -> None:
        """Decode further files meanwhile, as this process may."""

    def stop(self) -> None:
        """End what `start` began."""

    def raise_error(self) -> None:
        """Return, unless `start` met an error, which is raised."""


@dataclass(frozen=True)
class Stem:
    """One recorded stem of a song, the sum of its files, read at the song's rate and number of channels.

    Attributes:
        files: at least one; a shorter one is followed by silence.
        sample_rate: Hz.
        n_channels: C; mono files are copied to C channels, and averaged to one if C is 1.
    """

    files: tuple[StemFile, ...]
    sample_rate: int
    n_channels: int

    def __post_init__(self) -> None:
        if not self.files:
            raise ValueError("a stem needs at least one file")

    @cached_property
    def n_samples(self) -> int:
        """Return the length in samples at `sample_rate`: that of the longest file."""
        return max(file.n_samples(self.sample_rate) for file in self.files)

    @cached_property
    def position_step(self) -> int:
        """Return the factor of positions at `sample_rate` that are whole samples of every file."""
        rates = (file.info.sample_rate for file in self.files)
        return math.lcm(*(self.sample_rate // math.gcd(self.sample_rate, rate) for rate in rates))

    @property
    def info(self) -> audio.AudioInfo:
        """Return what the probe found of the first file, which is all of a stem without others."""
        return self.files[0].info

    @property
    def is_direct(self) -> bool:
        """Return whether all files are read without decoding or resampling."""
        return all(file.is_direct(self.sample_rate) for file in self.files)

    @cached_property
    def _readers(self) -> tuple[Reader, ...]:
        return tuple(file.reader(self.sample_rate) for file in self.files)

    def read(self, start: int, n_samples: int) -> Tensor:
        """Read (C, n_samples) from a position that is a multiple of `position_step`; zeros follow the end."""
        out = torch.empty(self.n_channels, n_samples)
        self.read_into(out, start)
        return out

    def read_into(
        self, out: Tensor, start: int, factor: float = 1.0, swap: bool = False, store: Store | None = None
    ) -> None:
        """Fill out as `read` does, changed in the same pass.

        Args:
            out: (C, T) float32, filled.
            start: first sample, a multiple of `position_step`.
            factor: multiplies all samples.
            swap: reverse the order of the channels.
            store: read what it has there; None: read the files themselves.

        Raises:
            AudioError: a file cannot be read, or is another one than was probed.
        """
        self._read_file(0, out, start, factor, swap, store)
        for i in range(1, len(self.files)):
            n_samples = self._count(i, start, out.shape[-1])
            if n_samples:
                other = torch.empty(self.n_channels, n_samples)
                self._read_file(i, other, start, factor, swap, store)
                out[:, :n_samples] += other

    def _count(self, i: int, start: int, wanted: int) -> int:
        """Count the samples that a file has from a position on, at most those wanted."""
        return max(0, min(wanted, self.files[i].n_samples(self.sample_rate) - start))

    def _read_file(self, i: int, out: Tensor, start: int, factor: float, swap: bool, store: Store | None) -> None:
        n_samples = self._count(i, start, out.shape[-1])
        if n_samples < out.shape[-1]:
            out[:, n_samples:] = 0
            out = out[:, :n_samples]
        if n_samples:
            file = self.files[i]
            stored = store.reader(file, self.sample_rate) if store and not file.is_direct(self.sample_rate) else None
            (stored or self._readers[i]).read_into(out, start, factor * file.gain, swap)


def single(info: audio.AudioInfo, sample_rate: int, n_channels: int, allow_damaged: bool = False) -> Stem:
    """Make a stem of one whole file.

    Args:
        info: what the probe found.
        sample_rate: Hz.
        n_channels: C.
        allow_damaged: take what decodes of a truncated or damaged file.
    """
    return Stem((StemFile(info, allow_damaged=allow_damaged),), sample_rate, n_channels)
