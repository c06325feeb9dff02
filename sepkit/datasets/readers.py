"""16-bit WAV straight from the disk into a tensor, without a decoder between them."""

import numpy as np
import torch
from torch import Tensor

from sepkit import audio
from sepkit.audio.pcm import locate_samples

_SCALE = np.float32(1 / 32768)  # a power of two: the product is exact, equal to what the decoder returns


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


def _read_pcm16(info: audio.AudioInfo, offset: int, start: int, out: Tensor) -> None:
    """Fill out (C, T), which has the file's channels, from a sample on."""
    n_channels, n_samples = out.shape
    samples = np.empty((n_samples, n_channels), "<i2")
    try:
        with open(info.path, "rb", buffering=0) as file:
            audio.check_unchanged(info, file.fileno())
            file.seek(offset + samples.itemsize * n_channels * start)
            n_bytes = file.readinto(samples)
    except OSError as error:
        raise audio.vanished(info.path, error) from error
    if n_bytes < samples.nbytes:  # cut since it was opened
        raise audio.changed(info.path)
    np.multiply(samples.T, _SCALE, out=out.numpy())


def read_into(
    info: audio.AudioInfo, pcm_offset: int | None, start: int, out: Tensor, allow_damaged: bool = False
) -> None:
    """Fill out (C, T) from a sample on, with the file's channels adapted to C.

    Args:
        info: what the probe found; the file holds the samples start to start + T.
        pcm_offset: what `locate_pcm16` found.
        start: first sample.
        out: filled.
        allow_damaged: take what decodes of a truncated or damaged file.

    Raises:
        AudioError: the file cannot be read, or is another one than was probed.
    """
    n_channels, n_samples = out.shape
    if pcm_offset is not None:
        read = out if info.n_channels == n_channels else torch.empty(info.n_channels, n_samples)
        _read_pcm16(info, pcm_offset, start, read)
    else:
        read = audio.read(info.path, start, n_samples, allow_truncated=allow_damaged, info=info)[0]
    if read is not out:
        out.copy_(audio.adapt_channels(read, n_channels))
