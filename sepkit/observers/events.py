"""The files that TensorBoard reads, written at the cost of a copy.

TensorBoard's own writer computes checksums byte by byte in Python, 0.2 s for four seconds of stereo audio, and cannot
take over what an earlier one wrote.
"""

import io
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import google_crc32c
import numpy as np
import soundfile
import torch
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from torch import Tensor

from sepkit.files import atomic_file, readable

_VERSION = "brain.Event:2"
_BINS = 60


class EventFile:
    """A file of events that takes over those of its predecessors, so that a training that goes on leaves no gap.

    Args:
        folder: where it lies.
        suffix: end of its name, by which its predecessors are known; they are removed.
        before: their values from this step on are dropped, since they will come again.
        backlog: values by step, of which those that the predecessors lack are written.
    """

    def __init__(
        self,
        folder: Path,
        suffix: str,
        before: int,
        backlog: Mapping[int, Iterable[Summary.Value]] | None = None,
    ) -> None:
        former = sorted(folder.glob(f"events.out.tfevents.*{suffix}"))
        taken = {
            (event.step, value.tag): (event.wall_time, value)
            for path in former
            for event in read_events(path)
            for value in event.summary.value
            if event.step < before
        }
        for step, values in (backlog or {}).items():
            for value in values:
                taken.setdefault((step, value.tag), (time.time(), value))
        self.path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}{suffix}"
        # What is half written has a name that TensorBoard does not read.
        with atomic_file(self.path, durable=False) as temporary, temporary.open("wb") as file:
            file.write(_record(Event(wall_time=time.time(), file_version=_VERSION)))
            for (step, _), (written, value) in sorted(taken.items(), key=lambda item: item[0][0]):
                file.write(_record(Event(wall_time=written, step=step, summary=Summary(value=[value]))))
        for path in former:
            path.unlink()

    def add(self, step: int, values: Iterable[Summary.Value]) -> None:
        """Write values, of a step that is not before any in the file."""
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        if event.summary.value:
            with self.path.open("r+b") as file:  # of another that took it over nothing is left to go on with
                file.seek(0, os.SEEK_END)
                file.write(_record(event))


def number(name: str, value: float) -> Summary.Value:
    """Make a point of a curve."""
    return Summary.Value(tag=readable(name), simple_value=float(value))


def sound(name: str, waveform: Tensor, sample_rate: int) -> Summary.Value:
    """Make a recording (C, T) that can be played."""
    file = io.BytesIO()
    soundfile.write(file, waveform.T.clamp(-1, 1).numpy(), sample_rate, format="WAV", subtype="PCM_16")
    audio = Summary.Audio(
        sample_rate=sample_rate,
        num_channels=len(waveform),
        length_frames=waveform.shape[-1],
        encoded_audio_string=file.getvalue(),
        content_type="audio/wav",
    )
    return Summary.Value(tag=readable(name), audio=audio)


def picture(name: str, png: bytes) -> Summary.Value:
    """Make a picture of the bytes of a PNG file."""
    width, height = struct.unpack(">II", png[16:24])
    image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
    return Summary.Value(tag=readable(name), image=image)


def histogram(name: str, values: Tensor) -> Summary.Value:
    """Count values, of any shape; those that are not finite are left out."""
    values = values.detach().float().flatten()
    values = values[values.isfinite()].cpu()
    if not values.numel():
        values = torch.zeros(1)
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 1e-6, high + 1e-6
    double = values.double()
    counted = HistogramProto(
        min=low,
        max=high,
        num=len(values),
        sum=float(double.sum()),
        sum_squares=float(double.square().sum()),
        bucket_limit=np.linspace(low, high, _BINS + 1)[1:].tolist(),
        bucket=torch.histc(values, _BINS, low, high).tolist(),
    )
    return Summary.Value(tag=readable(name), histo=counted)


def read_events(path: Path) -> Iterator[Event]:
    """Read a file up to its end, or to where its writer was killed."""
    with path.open("rb") as file:
        while len(header := file.read(12)) == 12:
            length = struct.unpack("<Q", header[:8])[0]
            content = file.read(length)
            if len(content) < length or len(file.read(4)) < 4:
                return
            yield Event.FromString(content)


def _record(event: Event) -> bytes:
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return b"".join((length, _masked(length), content, _masked(content)))


def _masked(content: bytes) -> bytes:
    checksum = google_crc32c.value(content)
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)
