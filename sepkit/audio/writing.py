"""Write waveforms block by block; the file appears under its name only when it is complete."""

import os
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from torch import Tensor

from sepkit.arguments import as_tensor, is_turned, is_whole
from sepkit.audio.info import AudioError, nonfinite, path_text
from sepkit.audio.soundfile_source import last_part
from sepkit.files import atomic_file

SUBTYPES = {
    ".wav": ("FLOAT", "PCM_24", "PCM_16"),
    ".flac": ("PCM_24", "PCM_16"),
    ".ogg": ("VORBIS",),
    ".mp3": ("MPEG_LAYER_III",),
}  # the first is the default
ENCODER_BLOCK = 1 << 14  # libsndfile's Vorbis encoder keeps a block on the stack
_LARGEST = float(np.finfo(np.float32).max)  # finite ones are cut at full scale, or kept in floating point
VORBIS_LIMITS = (200000, 255)  # Hz and channels; beyond them the encoder crashes
RIFF_LIMIT = 0xFFFFFFFF  # bytes; longer files become RF64


class _WavSink:
    """Write WAV, and RF64 where it grows beyond 4 GB (EBU Tech 3306: a JUNK chunk keeps the place for ds64)."""

    def __init__(self, path: str, sample_rate: int, n_channels: int, subtype: str):
        width = {"FLOAT": 4, "PCM_24": 3, "PCM_16": 2}[subtype]
        self._frame_bytes = width * n_channels
        code = 3 if subtype == "FLOAT" else 1
        layout = struct.pack(
            "<HHIIHH", code, n_channels, sample_rate, sample_rate * self._frame_bytes, self._frame_bytes, 8 * width
        )
        self._layout = b"fmt " + struct.pack("<I", len(layout)) + layout
        self._width = width
        self._size = 0
        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115
        self._file.write(self._header())

    def _header(self) -> bytes:
        n_samples = self._size // self._frame_bytes
        fact = b"fact" + struct.pack("<II", 4, min(n_samples, 0xFFFFFFFF))
        riff_size = 4 + 36 + len(self._layout) + len(fact) + 8 + self._size + self._size % 2
        if riff_size > RIFF_LIMIT:
            sizes = (28, riff_size, self._size, n_samples, 0)
            start = struct.pack("<4sI4s4sIQQQI", b"RF64", 0xFFFFFFFF, b"WAVE", b"ds64", *sizes)
            return start + self._layout + fact + struct.pack("<4sI", b"data", 0xFFFFFFFF)
        start = struct.pack("<4sI4s4sI28x", b"RIFF", riff_size, b"WAVE", b"JUNK", 28)
        return start + self._layout + fact + struct.pack("<4sI", b"data", self._size)

    def write(self, samples: np.ndarray) -> None:
        """Append (t, C): float32, or int32 with the value in the upper bits."""
        raw = samples.astype("<i4" if samples.dtype.kind == "i" else "<f4", copy=False).view(np.uint8)
        if self._width < 4:
            raw = np.ascontiguousarray(raw.reshape(samples.size, 4)[:, 4 - self._width :])
        self._file.write(raw)
        self._size += raw.size

    def close(self) -> None:
        """Write the final header and close."""
        with self._file as file:
            file.write(b"\0" * (self._size % 2))
            file.seek(0)
            file.write(self._header())


class _LibsndfileSink:
    """Write FLAC, Vorbis and MP3."""

    def __init__(self, path: str, sample_rate: int, n_channels: int, subtype: str, suffix: str):
        best = {".mp3": {"bitrate_mode": "CONSTANT", "compression_level": 0.0}, ".ogg": {"compression_level": 0.2}}
        self._file = soundfile.SoundFile(
            path, "w", sample_rate, n_channels, subtype, format=suffix[1:].upper(), **best.get(suffix, {})
        )

    def write(self, samples: np.ndarray) -> None:
        """Append (t, C): float32, or int32 with the value in the upper bits."""
        for start in range(0, len(samples), ENCODER_BLOCK):
            self._file.write(samples[start : start + ENCODER_BLOCK])

    def close(self) -> None:
        """Write the end of the file and close."""
        self._file.close()


class AudioWriter:
    """Write a file block by block; without an error in the `with` block, it appears complete, else not at all.

    16 and 24 bit round to the nearest step of 1/2^15 and 1/2^23 and saturate at full scale, so that samples read from
    a file of that width are written back unchanged. MP3 is 320 kbit/s, Vorbis quality 8.

    Args:
        path: the file; its suffix chooses the format: .wav, .flac, .ogg (Vorbis) or .mp3.
        sample_rate: Hz.
        n_channels: channels of every block.
        subtype: "FLOAT" (WAV only), "PCM_24" or "PCM_16"; None takes FLOAT for WAV and PCM_24 for FLAC.

    Raises:
        AudioError: the suffix or subtype is not known, the folder is missing, or the format refuses rate or channels.
    """

    def __init__(self, path: str | os.PathLike, sample_rate: int, n_channels: int, subtype: str | None = None):
        self._path = Path(path_text(path))
        self._suffix = self._path.suffix.lower()
        if self._suffix not in SUBTYPES:
            raise AudioError(f"Cannot write {self._path}: its name must end with one of {', '.join(SUBTYPES)}.")
        known = SUBTYPES[self._suffix]
        if subtype is not None and subtype not in known:
            raise AudioError(f"Cannot write {self._path} as {subtype}: {self._suffix} takes {' or '.join(known)}.")
        max_rate, max_channels = VORBIS_LIMITS if self._suffix == ".ogg" else ((1 << 31) - 1, (1 << 16) - 1)
        whole = is_whole(sample_rate) and is_whole(n_channels)
        if not (whole and 0 < sample_rate <= max_rate and 0 < n_channels <= max_channels):
            raise AudioError(
                f"Cannot write {self._path} with {n_channels} channels at {sample_rate} Hz: {self._suffix} takes "
                f"1 to {max_channels} channels at 1 to {max_rate} Hz."
            )
        if not self._path.parent.is_dir():
            raise AudioError(f"Cannot write {self._path}: the folder is missing; create it.")
        self.sample_rate = int(sample_rate)
        self.n_channels = int(n_channels)
        self.subtype = subtype or known[0]
        self.n_samples = 0
        self._file = ExitStack()

    def __enter__(self) -> "AudioWriter":
        with ExitStack() as file:
            part = file.enter_context(atomic_file(self._path, durable=False))
            try:
                layout = (str(part), self.sample_rate, self.n_channels, self.subtype)
                self._sink = _WavSink(*layout) if self._suffix == ".wav" else _LibsndfileSink(*layout, self._suffix)
            except (soundfile.SoundFileRuntimeError, OSError, ValueError, struct.error) as error:
                raise AudioError(
                    f"Cannot write {self._path} with {self.n_channels} channels at {self.sample_rate} Hz: "
                    f"{last_part(error)}; choose another format or folder."
                ) from error
            self._file = file.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._attempt(self._sink.close)
            if exception[0] is None and not self.n_samples:
                raise AudioError(f"Cannot write {self._path}: no samples came; write at least one.")
        except BaseException as error:
            exception = (type(error), error, error.__traceback__)
            raise
        finally:
            self._attempt(self._file.__exit__, *exception)

    def write(self, block: Tensor | np.ndarray) -> None:
        """Append a block (C, t) of finite samples in floating point, a tensor or a numpy array."""
        block = as_tensor(block, "block")
        if not block.is_floating_point():
            raise AudioError(
                f"{self._path} takes blocks in floating point, 1 at full scale, got {block.dtype}; scale the block."
            )
        if block.ndim != 2 or block.shape[0] != self.n_channels:
            raise AudioError(
                f"{self._path} takes blocks ({self.n_channels}, T), got {tuple(block.shape)}; reshape the block."
            )
        samples = _interleaved(block.detach().cpu().float().numpy())
        if (found := nonfinite(samples, self.n_samples, _LARGEST)) is not None:
            raise AudioError(f"Cannot write {self._path}: the waveform holds {found}; find out where that comes from.")
        self._attempt(self._sink.write, _quantize(samples, self.subtype))
        self.n_samples += len(samples)

    def _attempt(self, action, *arguments) -> None:
        try:
            action(*arguments)
        except (soundfile.SoundFileRuntimeError, AssertionError, OSError) as error:
            raise AudioError(f"Cannot write {self._path}: {error}; check the disk's space and permissions.") from error


def _interleaved(block: np.ndarray) -> np.ndarray:
    """Copy (C, t) into contiguous (t, C), channel by channel: faster than a transposed copy, where C is small."""
    samples = np.empty(block.shape[::-1], block.dtype)
    for channel, values in enumerate(block):
        samples[:, channel] = values
    return samples


def _quantize(samples: np.ndarray, subtype: str) -> np.ndarray:
    """Round to the steps of the subtype; integers come with their value in the upper bits."""
    if not subtype.startswith("PCM"):
        return samples
    bits = int(subtype[4:])
    top = 1 << bits - 1
    return np.rint(samples.clip(-1, 1) * np.float32(top)).clip(max=top - 1).astype(np.int32) << 32 - bits


def write(path: str | os.PathLike, waveform: Tensor | np.ndarray, sample_rate: int, subtype: str | None = None) -> None:
    """Write a waveform (C, T) in floating point, of at most 64 channels, to a file; see `AudioWriter`.

    Raises:
        TypeError: the waveform is neither a tensor nor a numpy array.
        AudioError: it is no waveform (C, T), or cannot be written.
    """
    waveform = as_tensor(waveform, "waveform")
    if waveform.ndim != 2 or is_turned(waveform.shape):
        remedy = "transpose it" if waveform.ndim == 2 else "reshape it"
        raise AudioError(f"{path_text(path)} takes a waveform (C, T), got {tuple(waveform.shape)}; {remedy}.")
    with AudioWriter(path, sample_rate, waveform.shape[0], subtype) as writer:
        writer.write(waveform)
