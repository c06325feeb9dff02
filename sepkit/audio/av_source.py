"""Samples of a file through PyAV (FFmpeg), for what libsndfile cannot read."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from sepkit.audio.conversion import Resampler, adapt_channels
from sepkit.audio.info import SKIP_BLOCK, Damage, DecodeError, FormatChangeError
from sepkit.audio.mpeg import ac3_frame
from sepkit.audio.tags import MAX_RUBBISH, TAG_MAGICS, is_padding, skip_tags
from sepkit.audio.views import FileView

PREROLL = 1 << 14  # samples decoded before a sought position: AAC's overlap, MP3's bit reservoir
FILLED = ("mov", "mp3", "wv", "tta", "ape")  # containers that place each packet
CONTIGUOUS = ("mp3", "aac", "ac3", "eac3", "dts", "truehd", "mlp")  # nothing lies between packets
CHECKED = {"flac", "tta", "wavpack"}  # lossless codecs whose decoders compare checksums only on request
STAMPED = ("ogg", "matroska", "asf", "flac")  # containers whose time stamps show that audio is missing
GAP = 0.005  # seconds between time stamps above which audio is missing: they are rounded to ms and less
_LAYOUTS = 8  # channels that are believed of a frame; PyAV crashes on some that damaged AAC announces


class AvSource:
    """Read samples of one audio stream through PyAV (FFmpeg).

    Args:
        path: the file.
        stream: which of its audio streams.
        starts: bytes at which the files begin that are joined in it.
        sequential: reach every position by decoding from the start, as in a file that is known to be damaged.
        tolerant: go on behind what does not decode, as players do, convert what changes its rate or channels, and
            note each in `damage`; containers that place each packet get silence in its stead.
        marks: byte and number of bytes of what is known to be damaged.
    """

    reader = "av"

    def __init__(
        self,
        path: str,
        stream: int = 0,
        starts: Sequence[int] = (0,),
        sequential: bool = False,
        tolerant: bool = False,
        marks: Sequence[tuple[int, int]] = (),
    ):
        self._path, self._index, self._starts = path, stream, tuple(starts)
        self._sequential, self._tolerant, self._marks = sequential or len(starts) > 1, tolerant, list(marks)
        self.damage: dict[int, Damage] = {}
        self._container = self._last = None
        self._open_part(0)
        codec = self._stream.codec_context
        self.sample_rate = codec.sample_rate
        self.n_channels = len(codec.layout.channels)
        self.format = self._container.format.name.split(",")[0]
        self._restart(self._decode())
        self.subtype = codec.name
        self.n_streams = len(self._container.streams.audio)
        self.n_declared = None  # the length that the container announces, which may be an estimate
        if self._stream.duration is not None:
            self.n_declared = self._to_samples(self._stream.duration)
        elif self._container.duration is not None:
            self.n_declared = round(self._container.duration * self.sample_rate / 1_000_000)

    def _open_part(self, part: int) -> None:
        """Open one of the joined files."""
        import av

        self.close()
        self._offset, self._size = self._starts[part], self._part_size(part)
        whole = self._starts == (0,)
        try:
            self._container = av.open(
                self._path if whole else FileView(self._path, self._offset, self._offset + self._size)
            )
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
        if self._stream.codec_context.name in CHECKED:
            self._stream.codec_context.options = {"err_detect": "crccheck+explode"}
        self._byte, self._time = 0, None  # behind the last packet; of the next frame, in samples

    def _part_size(self, part: int) -> int:
        ends = (*self._starts[1:], os.path.getsize(self._path))
        return ends[part] - self._starts[part]

    def _restart(self, frames: Iterator[np.ndarray], position: int | None = 0) -> None:
        self._frames = frames  # (n, C) each
        self._buffer = None  # (n, C), decoded and not yet handed out
        self._fault = None
        self._position = position  # sample that is decoded next; None: that of the next frame's time stamp
        self._failed = False  # whether a packet failed since the last frame
        self._layout = (self.sample_rate, self.n_channels)
        self._resampler = None
        self._noted: dict[int, Damage] = {}  # since decoding began here

    def _to_samples(self, timestamp: int) -> int:
        return round(timestamp * self._stream.time_base * self.sample_rate)

    @property
    def indexed(self) -> bool:
        """Return whether seeking finds the exact packet without decoding."""
        return self.format in ("mov", "mp3") and not self._sequential

    @property
    def _fills(self) -> bool:
        """Return whether what does not decode is replaced, so that all behind it stays in its place."""
        return self.format in FILLED and not (self.format == "mp3" and self._sequential)

    def seek(self, position: int) -> None:
        """Move to a sample; decode up to it where the container has no index."""
        if self.indexed and position > PREROLL and self._seek_container(position):
            return
        self._open_part(0)
        self._restart(self._decode())
        self._skip(position)

    def _seek_container(self, position: int) -> bool:
        import av

        target = (position - PREROLL) / self.sample_rate / self._stream.time_base
        try:
            self._container.seek((self._stream.start_time or 0) + int(target), stream=self._stream)
        except av.FFmpegError as error:
            raise DecodeError(_first_part(error)) from error
        self._restart(self._decode_part(), None)
        self._buffer = self._next_frame(0)
        if self._buffer is None or self._position is None or self._position - len(self._buffer) > position:
            return False
        self._skip(position - (self._position - len(self._buffer)))
        return True

    def _skip(self, n_samples: int) -> None:
        while n_samples > 0:
            skipped = len(self.read(min(n_samples, SKIP_BLOCK)))
            if not skipped:
                return
            n_samples -= skipped

    def read(self, n_samples: int) -> np.ndarray:
        """Return the next (<= n_samples, C) float32; fewer only at the end."""
        parts = [] if self._buffer is None else [self._buffer]
        held = sum(map(len, parts))
        while held < n_samples and (frame := self._next_frame(held)) is not None:
            parts.append(frame)
            held += len(frame)
        joined = np.concatenate(parts) if parts else np.zeros((0, self.n_channels), np.float32)
        self._buffer = joined[n_samples:] if len(joined) > n_samples else None
        return joined[:n_samples]

    def _next_frame(self, held: int) -> np.ndarray | None:
        """Decode a frame; None at the end, and at a fault as long as samples from before it are held."""
        if self._fault is None:
            try:
                return next(self._frames, None)
            except DecodeError as error:
                self._fault = error
        if held:
            return None
        raise self._fault

    def _decode(self) -> Iterator[np.ndarray]:
        """Decode all files that are joined in this one."""
        for part in range(len(self._starts)):
            try:
                if part:
                    self._open_part(part)
                yield from self._decode_part()
            except FormatChangeError:
                raise
            except DecodeError as error:
                self._fail(error, self._part_size(part) if part else 0)
        if self._resampler:
            yield self._resampler.flush().numpy().T

    def _decode_part(self) -> Iterator[np.ndarray]:
        """Decode from where the container stands to its end."""
        import av

        for packet in self._packets():
            try:
                frames = packet.decode()
            except (av.FFmpegError, ValueError) as error:
                if skip_tags(bytes(packet), 0) < packet.size:
                    self._fail(DecodeError(_first_part(error)), packet.size)
                continue
            for frame in frames:
                n_channels = len(frame.layout.channels)  # which takes as long as all else here
                if n_channels > max(_LAYOUTS, self.n_channels):
                    self._fail(DecodeError(f"a frame announces {n_channels} channels"), packet.size)
                    continue
                if self._tolerant or self._position is None:
                    yield from self._advance(self._gap_before(frame))
                yield from self._advance(self._convert(frame, n_channels))

    def _advance(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        if self._position is not None:
            self._position += len(samples)
        if len(samples):
            yield samples

    def _packets(self) -> Iterator:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                if not self._is_legal_end(self._byte):
                    self._fail(DecodeError(_first_part(error)), self._size - self._byte)
                return
            if packet is None:
                break
            if packet.pos is not None and packet.size:
                self._follow(packet.pos, packet.size)
                self._last = packet
            yield packet
        if self._tolerant:
            self._follow(self._size, 0)

    def _fail(self, error: DecodeError, n_bytes: int) -> None:
        """Record what does not decode; raise the error where that is not tolerated."""
        if not self._tolerant:
            raise error
        self._failed = True
        self._note(n_bytes=n_bytes)

    def _note(self, **found: int | str) -> None:
        if self._position is None:
            return
        damage, former = Damage(self._position, **found), self._noted.get(self._position)
        self.damage[self._position] = self._noted[self._position] = former + damage if former else damage

    def _follow(self, place: int, n_bytes: int) -> None:
        """Record the bytes between the packets, and the known damage that is reached."""
        between = place - self._byte
        counts = self._tolerant and between > 0 and self.format in CONTIGUOUS and self._byte
        if counts and not self._is_legal(self._byte):
            self._note(n_bytes=between)
        while self._marks and self._marks[0][0] <= self._offset + place:
            self._note(n_bytes=self._marks.pop(0)[1])
        self._byte = max(self._byte, place + n_bytes)

    def _is_legal(self, place: int) -> bool:
        """Return whether a tag stands between the packets here, or the padding of the end."""
        around, here = self._around(place, MAX_RUBBISH + 33)
        return around.startswith(TAG_MAGICS, here) or is_padding(around, here)

    def _is_legal_end(self, place: int) -> bool:
        """Return whether nothing but tags and padding stands between here and the end."""
        around, here = self._around(place)
        return is_padding(around, skip_tags(around, here))

    def _around(self, place: int, n_bytes: int = -1) -> tuple[bytes, int]:
        """Read bytes from 32 before a place on, and return at which of them that place is."""
        first = max(0, self._offset + place - 32)
        with open(self._path, "rb") as file:
            file.seek(first)
            return file.read(n_bytes), self._offset + place - first

    def _gap_before(self, frame) -> np.ndarray:
        """Compare time stamps: return the silence that stands for what failed, and note what is missing."""
        silence = np.zeros((0, self.n_channels), np.float32)
        if frame.pts is None:
            return silence
        seconds = frame.pts * frame.time_base - (self._stream.start_time or 0) * self._stream.time_base
        here = round(seconds * self.sample_rate)
        if self._position is None:
            if self._failed:  # the frame may depend on what failed: its position stays open, which ends seeking
                return silence
            self._position = here
        expected = self._position if self._fills else self._time
        missing = 0 if expected is None else here - expected
        slack = 0 if self._fills and self._failed else GAP * self.sample_rate
        self._time, self._failed = here + frame.samples * self.sample_rate // frame.sample_rate, False
        if missing <= slack or (slack and self.format not in (*STAMPED, "mov")):
            return silence
        self._note(**{"n_filled" if self._fills else "n_lost": missing})
        return np.zeros((missing, self.n_channels), np.float32) if self._fills else silence

    def _convert(self, frame, n_channels: int) -> np.ndarray:
        layout = (frame.sample_rate, n_channels)
        samples = frame.to_ndarray()
        samples = _to_float(samples.T if frame.format.is_planar else samples.reshape(-1, layout[1]))
        if layout == self._layout == (self.sample_rate, self.n_channels):
            return samples
        return self._adapt(samples, layout)

    def _adapt(self, samples: np.ndarray, layout: tuple[int, int]) -> np.ndarray:
        """Convert samples whose rate or channels are not those at the start."""
        former = np.zeros((0, self.n_channels), np.float32)
        if layout != self._layout:
            change = "changes from {1} channels at {0} Hz to {3} channels at {2} Hz".format(*self._layout, *layout)
            if not self._tolerant or (self.format == "flac" and layout[1] > self.n_channels):
                raise FormatChangeError(f"it {change}")  # of FLAC it is certain; others may only seem to, at a damage
            self._note(change=change)
            former = self._resampler.flush().numpy().T if self._resampler else former
            self._resampler = Resampler(layout[0], self.sample_rate, self.n_channels)
            self._layout = layout
        waveform = torch.from_numpy(np.ascontiguousarray(samples.T))
        if min(layout[1], self.n_channels) > 1 and layout[1] != self.n_channels:  # which belongs to which is not known
            waveform = adapt_channels(waveform, 1)
        waveform = adapt_channels(waveform, self.n_channels)
        return np.concatenate([former, self._resampler.push(waveform).numpy().T])

    def ends_within_frame(self) -> bool:
        """Return whether the last packet that was decoded is known to be shorter than its header declares."""
        if self._last is None or self.format not in ("ac3", "eac3"):
            return False
        return self._last.size < ac3_frame(bytes(self._last)[:6])

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
        if self._container:
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
