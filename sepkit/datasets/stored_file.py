"""One decoded file of the store: planar samples behind a header, written whole or not at all, mapped into memory."""

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sepkit import audio
from sepkit.datasets.readers import SCALE, convert
from sepkit.datasets.stems import StemFile
from sepkit.files import atomic_file

FORMAT = 1  # of the files; others are written anew
_HEADER = 4096  # bytes before the samples
_BLOCK = 1 << 16  # samples that are decoded at a time
_LOSSY = (
    "vorbis", "opus", "mpeg_layer", "mp1", "mp2", "mp3", "aac", "ac3", "eac3", "dts", "wma", "amr", "gsm", "adpcm",
    "speex", "atrac", "cook", "ra_", "qdm", "nellymoser", "g72", "musepack",
)  # fmt: skip
_SHORT = ("pcm_16", "pcm_s16", "pcm_s8", "pcm_u8", "ulaw", "alaw", "pcm_alaw", "pcm_mulaw")  # 16 bits hold all of it


class StopBuildingError(Exception):
    """The training ends while a file is decoded."""


class Key(NamedTuple):
    """What the samples of an entry depend on, but for the version of the file.

    Attributes:
        path: of the file.
        sample_rate: of the entry, Hz.
        part: first sample and end of what is resampled; None: all of the file, at its own rate.
        allow_damaged: whether what decodes of a damaged file was taken.
    """

    path: str
    sample_rate: int
    part: tuple[int, int] | None
    allow_damaged: bool


def make_key(file: StemFile, sample_rate: int) -> Key:
    """Return the key of a file at a rate, Hz; parts of a file that is not resampled share one entry."""
    resampled = file.info.sample_rate != sample_rate
    part = (file.start, file.stop) if resampled else None
    return Key(file.info.path, sample_rate, part, file.allow_damaged and bool(file.info.complaint))


def is_lossy(info: audio.AudioInfo) -> bool:
    """Return whether a file was coded with loss, so that 16 bits hold what is known of it."""
    return info.subtype.lower().startswith(_LOSSY)


def needs_float(info: audio.AudioInfo) -> bool:
    """Return whether 16 bits do not hold a file."""
    return not is_lossy(info) and not info.subtype.lower().startswith(_SHORT)


def count_samples(file: StemFile, sample_rate: int) -> int:
    """Return how many samples per channel the entry of a file at a rate, Hz, has."""
    return file.info.n_samples if file.info.sample_rate == sample_rate else file.n_samples(sample_rate)


def count_bytes(file: StemFile, sample_rate: int) -> int:
    """Return the size of the entry of a file at a rate, Hz."""
    itemsize = 4 if needs_float(file.info) else 2
    return _HEADER + itemsize * file.info.n_channels * count_samples(file, sample_rate)


class StoredReader:
    """Read an entry of the store.

    Args:
        info: of the file that was decoded, which is compared with it on each reading.
        samples: (C', T), int16 or float32.
        scale: of int16 samples, full scale is 32768 / scale.
        first: sample at which position 0 lies.
    """

    def __init__(self, info: audio.AudioInfo, samples: Tensor, scale: float, first: int) -> None:
        self.info, self.samples, self.scale, self.first = info, samples, scale, first

    def read_into(self, out: Tensor, start: int, factor: float = 1.0, swap: bool = False) -> None:
        """Fill out (C, T) as `Reader.read_into` does."""
        audio.check_unchanged(self.info)
        first = self.first + start
        convert(self.samples[:, first : first + out.shape[-1]], out, self.scale * factor, swap)


def open_stored(path: Path, file: StemFile, sample_rate: int) -> tuple[Tensor, float] | None:
    """Map the entry of a file; None where there is none, or one of another version of the file.

    Args:
        path: of the entry.
        file: whose entry it is.
        sample_rate: wanted, Hz.

    Returns:
        Samples (C', T), int16 or float32, and their scale.
    """
    try:
        with open(path, "rb") as stored:
            header = json.loads(stored.read(_HEADER).rstrip(b"\0 "))
            size = os.fstat(stored.fileno()).st_size
    except (OSError, ValueError):
        return None
    shape = [file.info.n_channels, count_samples(file, sample_rate)]
    is_float = needs_float(file.info)
    wanted = _describe(file, sample_rate)
    if any(header.get(name) != value for name, value in wanted.items()) or size != count_bytes(file, sample_rate):
        return None
    dtype = torch.float32 if is_float else torch.int16
    n_header, n_values = _HEADER // dtype.itemsize, math.prod(shape)
    samples = torch.from_file(str(path), shared=False, size=n_header + n_values, dtype=dtype)
    return samples[n_header:].view(shape), 1.0 if is_float else header["scale"] * SCALE


def _describe(file: StemFile, sample_rate: int) -> dict:
    """Return what the header of a file's entry says, but for the scale."""
    key = make_key(file, sample_rate)
    return {
        "format": FORMAT,
        "path": key.path,
        "version": list(file.info.version),
        "sample_rate": key.sample_rate,
        "part": key.part and list(key.part),
        "allow_damaged": key.allow_damaged,
        "float": needs_float(file.info),
    }


def write_stored(path: Path, file: StemFile, sample_rate: int, is_stopped: Callable[[], bool] = lambda: False) -> None:
    """Decode a file into its entry, which is there when it is complete.

    Samples of 16 bits are kept as they are. Where a lossy or resampled file goes beyond full scale, the entry is
    scaled down by a power of two and back on reading, so that nothing is clipped.

    Args:
        path: of the entry.
        file: to decode.
        sample_rate: of the entry, Hz.
        is_stopped: asked after each block.

    Raises:
        AudioError: the file does not decode.
        OSError: the disk does not take it.
        StopBuildingError: it was stopped.
    """
    scale = 1
    while True:
        try:
            with atomic_file(path) as temporary, open(temporary, "wb") as handle:
                _write(handle, file, sample_rate, scale, is_stopped)
            return
        except _TooLoudError:
            scale *= 2


class _TooLoudError(Exception):
    """Samples go beyond full scale."""


def _write(handle: BinaryIO, file: StemFile, sample_rate: int, scale: int, is_stopped: Callable[[], bool]) -> None:
    """Write an entry into an empty file."""
    n_samples, is_float = count_samples(file, sample_rate), needs_float(file.info)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle.fileno(), 0, count_bytes(file, sample_rate))  # a full disk shows at once
    position, itemsize = 0, 4 if is_float else 2
    for block in _decode(file, sample_rate):
        if is_stopped():
            raise StopBuildingError
        block = block[:, : n_samples - position]
        for channel, row in enumerate(block.numpy() if is_float else _quantize(block, scale)):
            handle.seek(_HEADER + itemsize * (channel * n_samples + position))
            handle.write(row.tobytes())
        position += block.shape[-1]
    header = json.dumps({**_describe(file, sample_rate), "scale": scale}).encode()
    if len(header) > _HEADER:
        raise audio.AudioError(f"{file.info.path}: its path is too long to be stored; move it, or set data.store: off")
    handle.truncate(count_bytes(file, sample_rate))
    handle.seek(0)
    handle.write(header.ljust(_HEADER))


def _quantize(block: Tensor, scale: int) -> np.ndarray:
    """Round samples to 16 bits."""
    values = torch.round(block * (32768 / scale))
    if values.numel() and float(values.abs().max()) > 32768:
        raise _TooLoudError
    return values.clamp_(max=32767).to(torch.int16).numpy()


def _decode(file: StemFile, sample_rate: int) -> Iterator[Tensor]:
    """Decode the part of a file that is stored, at the rate that is wanted, in blocks (C', t)."""
    info = file.info
    resampled = info.sample_rate != sample_rate
    with audio.AudioReader(info.path, allow_truncated=file.allow_damaged, info=info) as reader:
        resampler = audio.Resampler(info.sample_rate, sample_rate, info.n_channels)
        reader.seek(file.start if resampled else 0)
        end = file.stop if resampled else info.n_samples
        while reader.position < end:
            yield resampler.push(reader.read(min(_BLOCK, end - reader.position)))
        yield resampler.flush()
    audio.check_unchanged(info)
