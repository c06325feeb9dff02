"""What is known of an audio file, and the one error that reading and writing raise."""

from dataclasses import dataclass

import numpy as np


class AudioError(ValueError):
    """Say in one sentence which file has which problem and what to do."""


@dataclass(frozen=True)
class AudioInfo:
    """State what one audio stream of a file holds.

    Args:
        path: the file.
        sample_rate: Hz.
        n_channels: channels of the stream.
        n_frames: samples per channel that can be decoded.
        n_declared: samples per channel that the header announces; None where it announces nothing.
        format: the container, as the reader calls it: "WAV", "FLAC", "OGG", "MP3", "mov", ..
        subtype: the coding, as the reader calls it: "PCM_16", "FLOAT", "VORBIS", "aac", ..
        n_streams: audio streams in the file.
        reader: the library that decodes it, "soundfile" or "av".
        truncated: whether audio is missing at the end.
    """

    path: str
    sample_rate: int
    n_channels: int
    n_frames: int
    n_declared: int | None
    format: str
    subtype: str
    n_streams: int
    reader: str
    truncated: bool

    @property
    def duration(self) -> float:
        """Seconds of audio that can be decoded."""
        return self.n_frames / self.sample_rate


def nonfinite(samples: np.ndarray, position: int) -> str | None:
    """Name the first NaN or infinity in samples (n, C), the first of which stands at a position; None without one."""
    finite = np.isfinite(samples)
    if finite.all():
        return None
    offset, channel = np.argwhere(~finite)[0]
    return f"{samples[offset, channel]} at sample {position + offset} of channel {channel}"
