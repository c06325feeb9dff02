"""The two decoders behind one interface: libsndfile, and PyAV for what libsndfile cannot read."""

import os
from collections.abc import Iterator

import numpy as np
import soundfile

SKIP_BLOCK = 1 << 16  # samples decoded at a time where a position is reached by decoding up to it
PREROLL = 1 << 14  # samples decoded before a sought position: AAC's overlap, MP3's bit reservoir


class DecodeError(Exception):
    """Carry a decoder's complaint to where the file's name and the remedy are known."""


class FormatChangeError(DecodeError):
    """Report that the rate or the channels are not the same throughout."""


class SoundfileSource:
    """Read samples through libsndfile."""

    reader = "soundfile"

    def __init__(self, path: str):
        try:
            self._file = soundfile.SoundFile(path)
        except (soundfile.SoundFileRuntimeError, TypeError, ValueError, OSError) as error:
            raise DecodeError(last_part(error)) from error
        self.sample_rate = self._file.samplerate
        self.n_channels = self._file.channels
        self.n_declared = self._file.frames if self._file.frames < 1 << 62 else None
        self.format = self._file.format
        self.subtype = self._file.subtype

    def seek(self, position: int) -> None:
        """Go to a sample."""
        try:
            self._file.seek(position)
        except soundfile.SoundFileRuntimeError as error:
            raise DecodeError(last_part(error)) from error

    def read(self, n_frames: int) -> np.ndarray:
        """Return the next (<= n_frames, C) float32; fewer only at the end."""
        try:
            return self._file.read(n_frames, dtype="float32", always_2d=True)
        except soundfile.SoundFileRuntimeError as error:
            raise DecodeError(last_part(error)) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def last_part(error: Exception) -> str:
    """Return what libsndfile says, without its prefixes."""
    return str(error).rsplit(": ", 1)[-1].strip(" .")


class AvSource:
    """Read samples of one audio stream through PyAV (FFmpeg)."""

    reader = "av"

    def __init__(self, path: str, stream: int = 0):
        self._path = path
        self._index = stream
        self._open()
        codec = self._stream.codec_context
        self.sample_rate = codec.sample_rate
        self.n_channels = len(codec.layout.channels)
        self.format = self._container.format.name.split(",")[0]
        self.subtype = codec.name
        self.n_streams = len(self._container.streams.audio)
        duration = self._stream.duration
        self.n_declared = None if duration is None else self._to_samples(duration)

    def _open(self) -> None:
        import av

        try:
            self._container = av.open(self._path)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise DecodeError(_first_part(error)) from error
        streams = self._container.streams.audio
        if not 0 <= self._index < len(streams):
            self.close()
            raise DecodeError(f"it has {len(streams)} audio streams, stream {self._index} was wanted")
        self._stream = streams[self._index]
        if self._stream.codec_context is None or not self._stream.codec_context.sample_rate:
            self.close()
            raise DecodeError("FFmpeg has no decoder for it")
        self._restart(self._container.decode(self._stream))

    def _restart(self, frames: Iterator) -> None:
        self._frames = frames
        self._buffer = None  # (n, C), decoded and not yet handed out
        self._fault = None

    def _to_samples(self, timestamp: int) -> int:
        return round(timestamp * self._stream.time_base * self.sample_rate)

    @property
    def indexed(self) -> bool:
        """Whether seeking finds the exact packet without decoding."""
        return self.format in ("mov", "mp3")

    def seek(self, position: int) -> None:
        """Go to a sample; decode up to it where the container has no index."""
        if self.indexed and position > PREROLL and self._seek_container(position):
            return
        self.close()
        self._open()
        self._skip(position)

    def _seek_container(self, position: int) -> bool:
        import av

        origin = self._stream.start_time or 0
        target = (position - PREROLL) / self.sample_rate / self._stream.time_base
        try:
            self._container.seek(origin + int(target), stream=self._stream)
            frames = self._container.decode(self._stream)
            first = next(frames, None)
        except av.FFmpegError as error:
            raise DecodeError(_first_part(error)) from error
        if first is None or first.pts is None or self._to_samples(first.pts - origin) > position:
            return False
        self._restart(frames)
        self._buffer = self._convert(first)
        self._skip(position - self._to_samples(first.pts - origin))
        return True

    def _skip(self, n_frames: int) -> None:
        while n_frames > 0:
            skipped = len(self.read(min(n_frames, SKIP_BLOCK)))
            if not skipped:
                return
            n_frames -= skipped

    def read(self, n_frames: int) -> np.ndarray:
        """Return the next (<= n_frames, C) float32; fewer only at the end."""
        parts = [] if self._buffer is None else [self._buffer]
        held = sum(map(len, parts))
        while held < n_frames and (frame := self._next_frame(held)) is not None:
            parts.append(frame)
            held += len(frame)
        joined = np.concatenate(parts) if parts else np.zeros((0, self.n_channels), np.float32)
        self._buffer = joined[n_frames:] if len(joined) > n_frames else None
        return joined[:n_frames]

    def _next_frame(self, held: int) -> np.ndarray | None:
        """Decode a frame; None at the end, and at a fault as long as samples from before it are held."""
        import av

        if self._fault is None:
            try:
                frame = next(self._frames, None)
                return None if frame is None else self._convert(frame)
            except (av.FFmpegError, ValueError) as error:
                self._fault = DecodeError(_first_part(error))
            except DecodeError as error:
                self._fault = error
        if held:
            return None
        raise self._fault

    def _convert(self, frame) -> np.ndarray:
        n_channels = len(frame.layout.channels)
        if (frame.sample_rate, n_channels) != (self.sample_rate, self.n_channels):
            raise FormatChangeError(
                f"it changes from {self.n_channels} channels at {self.sample_rate} Hz "
                f"to {n_channels} channels at {frame.sample_rate} Hz"
            )
        samples = frame.to_ndarray()
        samples = samples.T if frame.format.is_planar else samples.reshape(-1, n_channels)
        return _to_float(samples)

    def packet_end(self) -> int:
        """Return the sample at which the last packet ends, from the container's index, without decoding."""
        import av

        origin, end = self._stream.start_time or 0, 0
        try:
            if self._stream.duration:
                self._container.seek(origin + self._stream.duration, stream=self._stream)
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    raise DecodeError("a packet is incomplete")
                if packet.pts is not None:
                    end = max(end, self._to_samples(packet.pts + (packet.duration or 0) - origin))
        except av.FFmpegError as error:
            raise DecodeError(_first_part(error)) from error
        return end

    def close(self) -> None:
        """Close the file."""
        self._container.close()


def _first_part(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split(":")[0]


def _to_float(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which reading refuses
        return samples.astype(np.float32)


def open_source(path: str, reader: str, stream: int) -> SoundfileSource | AvSource:
    """Open a file with the decoder that was found to read it."""
    return SoundfileSource(path) if reader == "soundfile" else AvSource(path, stream)


def path_text(path: str | os.PathLike) -> str:
    """Return the path as text."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"a file must be named by text or a Path, got {type(path).__name__}: write it to a file first")
    return os.fsdecode(os.fspath(path))
