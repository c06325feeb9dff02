"""Samples that lie within a tar, here or at an address: read by their range, without decoding."""

import os
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sepkit.audio.info import AudioError, AudioInfo, Damage, changed, check_unchanged, vanished

TYPES = {"PCM_16": np.dtype("<i2"), "FLOAT": np.dtype("<f4")}  # of samples, by subtype
EXTRA = "pip install 'sepkit[shards]'"
_PAUSES = (1.0, 3.0)  # s before another try
_GONE = (FileNotFoundError, PermissionError, NotImplementedError, ImportError)  # for which there is none


@dataclass(frozen=True)
class PackedInfo(AudioInfo):
    """State what one file within a tar holds: samples, interleaved, 16 bit or 32-bit float, little-endian.

    Args:
        archive: path or address of the tar.
        offset: byte of the tar at which the samples begin.
        scale: of 16-bit samples, full scale is 32768 / scale.
    """

    archive: str = ""
    offset: int = 0
    scale: int = 1

    @property
    def place(self) -> str | None:
        """Return the file of this machine in which the samples lie; None: they lie elsewhere."""
        return None if is_address(self.archive) else self.archive


def is_address(text: object) -> bool:
    """Return whether a text is an address, such as s3://bucket/songs, and no path."""
    return isinstance(text, str) and "://" in text


class PackedSource:
    """Read samples from within a tar.

    Args:
        info: what the index of the tar says.
    """

    reader = "packed"

    def __init__(self, info: PackedInfo) -> None:
        self.info, self.position = info, 0
        self.damage: dict[int, Damage] = {}

    def seek(self, position: int) -> None:
        """Move to a sample."""
        self.position = position

    def read(self, n_samples: int) -> np.ndarray:
        """Read the next samples (n, C), float32."""
        n_samples = min(n_samples, self.info.n_samples - self.position)
        samples = read_packed(self.info, self.position, n_samples)
        self.position += n_samples
        return samples if samples.dtype.kind == "f" else samples * np.float32(self.info.scale / 32768)

    def close(self) -> None:
        """Close nothing: a range is read at a time."""


def read_packed(info: PackedInfo, start: int, n_samples: int) -> np.ndarray:
    """Read samples as they are stored, (n, C) int16 or float32.

    Args:
        info: of the file.
        start: first sample.
        n_samples: how many; the file has them.

    Raises:
        AudioError: the tar cannot be read, or is another one than was opened.
    """
    kind = TYPES[info.subtype]
    samples = np.empty((n_samples, info.n_channels), kind)
    first = info.offset + start * info.n_channels * kind.itemsize
    if not n_samples:
        return samples
    if info.place is None:
        received = _fetch(info, first, first + samples.nbytes)
        samples.view(np.uint8).reshape(-1)[:] = np.frombuffer(received, np.uint8)
        return samples
    try:
        with open(info.archive, "rb", buffering=0) as file:
            check_unchanged(info, file.fileno())
            file.seek(first)
            _fill(info, file, memoryview(samples).cast("B"))
    except OSError as error:
        raise vanished(info.path, error) from error
    return samples


def _fill(info: PackedInfo, file: Any, view: memoryview) -> None:
    """Read until a buffer is full, since one call may return less."""
    n_bytes = 0
    while n_bytes < len(view):
        n_read = file.readinto(view[n_bytes:])
        if not n_read:
            raise changed(info.path)
        n_bytes += n_read


def _fetch(info: PackedInfo, first: int, end: int) -> bytes:
    """Read bytes of a tar at an address, with a few tries."""
    for pause in (*_PAUSES, None):
        try:
            system, path = _opened(info.archive, info.version[0], os.getpid())
            received = system.cat_file(path, start=first, end=end)
            break
        except AudioError:
            raise
        except Exception as error:  # each kind of address has errors of its own
            if pause is None or isinstance(error, _GONE):
                reason = " ".join(str(error).split()) or type(error).__name__
                raise AudioError(f"Cannot read {info.path}: {reason}; check the network and the address.") from error
            time.sleep(pause)
    if len(received) != end - first:
        raise AudioError(
            f"{info.archive} gave {len(received)} bytes where {end - first} were asked for: it was changed, or its "
            "server sends no parts of files; pack it again, or choose another server."
        )
    return received


@lru_cache(maxsize=4096)
def _opened(archive: str, size: int, _process: int) -> tuple[Any, str]:
    """Find the file system of a tar, once a process, and refuse a tar of another size than the index says."""
    system, path = open_address(archive)
    there = system.size(path)
    if there is not None and there != size:
        raise AudioError(f"{archive} has {there} bytes, its index says {size}: it was changed; pack it again.")
    return system, path


def open_address(address: str) -> tuple[Any, str]:
    """Find what reads and writes files at an address, of fsspec, and the path there.

    Raises:
        AudioError: what is needed for it is not installed, or nothing reads such addresses.
    """
    kind = address.partition("://")[0]
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise AudioError(f"Cannot open {address}: addresses are opened by fsspec; {EXTRA}.") from None
    try:
        return url_to_fs(address)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise AudioError(f"Cannot open {address}: {reason}; install what {kind}:// needs.") from error
    except ValueError as error:
        raise AudioError(f"Cannot open {address}: {error}; write a path, or an address that fsspec knows.") from error
