"""The files that TensorBoard reads, written at the cost of a copy.

TensorBoard's own writer computes checksums byte by byte in Python, 0.2 s for four seconds of stereo audio.
"""

import io
import os
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path

import google_crc32c
import numpy as np
import soundfile
import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from torch import Tensor

from sepkit.files import readable

_VERSION = "brain.Event:2"
_BINS = 60


class EventFile:
    """A new file of events, which TensorBoard reads after those that are there.

    Args:
        folder: where it lies.
        suffix: end of its name, which keeps apart the files of several observers.
        purge_from: step from which TensorBoard drops what it read before, since a training that goes on repeats it;
            None: nothing is repeated.
    """

    def __init__(self, folder: Path, suffix: str, purge_from: int | None = None) -> None:
        now = time.time()
        self.path = folder / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}{suffix}"
        events = [Event(wall_time=now, file_version=_VERSION)]
        if purge_from is not None:
            events.append(Event(wall_time=now, step=purge_from, session_log=SessionLog(status=SessionLog.START)))
        self.path.write_bytes(b"".join(map(_record, events)))

    def add(self, step: int, values: Iterable[Summary.Value]) -> None:
        """Append values of a step."""
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        if event.summary.value:
            with self.path.open("ab") as file:
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


def _record(event: Event) -> bytes:
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return b"".join((length, _masked(length), content, _masked(content)))


def _masked(content: bytes) -> bytes:
    checksum = google_crc32c.value(content)
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)
