"""What is known of an audio file, and the one error that reading and writing raise."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_LARGEST = 1e10  # sample, of full scale; the squares of larger ones leave the range of float32 in sums and spectra
SKIP_BLOCK = 1 << 16  # samples decoded at a time where a position is reached by decoding up to it


class AudioError(ValueError):
    """Name in one sentence the file, its problem and what to do."""


class DecodeError(Exception):
    """Carry a decoder's complaint to where the file's name and the remedy are known."""


class FormatChangeError(DecodeError):
    """Report that the rate or the channels are not the same throughout."""


@dataclass(frozen=True)
class Damage:
    """State what is wrong at one place of a file.

    Args:
        position: sample at which the audio behind that place begins.
        n_filled: samples of silence that stand for what does not decode.
        n_lost: samples that are left out: by the file's time stamps they belong there.
        n_bytes: bytes that were passed over.
        change: how the rate or the channels change there; what follows is converted.
    """

    position: int
    n_filled: int = 0
    n_lost: int = 0
    n_bytes: int = 0
    change: str = ""

    def __add__(self, other: "Damage") -> "Damage":
        """Add up what is wrong; the position is the first."""
        return Damage(
            self.position,
            self.n_filled + other.n_filled,
            self.n_lost + other.n_lost,
            self.n_bytes + other.n_bytes,
            self.change or other.change,
        )


def describe_damage(damage: Iterable[Damage], sample_rate: int) -> str:
    """Describe where a file is damaged, and how much; "" where nothing is wrong."""
    places = list(damage)
    if not places:
        return ""
    total = sum(places[1:], places[0])
    how_much = [
        f"{total.n_filled} samples replaced by silence" if total.n_filled else "",
        f"{total.n_lost} samples missing" if total.n_lost else "",
        f"{total.n_bytes} bytes passed over" if total.n_bytes else "",
        total.change,
    ]
    more = f" and at {len(places) - 1} more places" if len(places) > 2 else " and at another place" * (len(places) - 1)
    where = f"near sample {total.position} ({total.position / sample_rate:.2f} s){more}"
    return f"is damaged {where}: {', '.join(filter(None, how_much))}"


@dataclass(frozen=True)
class AudioInfo:
    """State what one audio stream of a file holds.

    Args:
        path: the file.
        sample_rate: Hz.
        n_channels: channels of the stream.
        n_samples: samples per channel that are read, silence in place of what does not decode included.
        n_declared: samples per channel that the header announces; None where it announces nothing.
        format: the container, as the reader calls it: "WAV", "FLAC", "OGG", "MP3", "mov", ..
        subtype: the coding, as the reader calls it: "PCM_16", "FLOAT", "VORBIS", "aac", ..
        n_streams: audio streams in the file.
        reader: the library that decodes it, "soundfile" or "av".
        truncated: whether audio is missing at the end.
        version: size in bytes and time of change in ns of the file that was probed.
        damage: what is wrong before the end, as far as it shows without decoding; decoding may find more.
        remarks: what is odd about the file though no audio is known to be lost, a clause each.
        starts: bytes at which the files begin that are joined in it.
        corrected: whether it is read as if its header declared the audio that is there.
        seekable: the last position that is found without decoding, from which those behind it are reached; None: all.
    """

    path: str
    sample_rate: int
    n_channels: int
    n_samples: int
    n_declared: int | None
    format: str
    subtype: str
    n_streams: int
    reader: str
    truncated: bool
    version: tuple[int, int]
    damage: tuple[Damage, ...] = ()
    remarks: tuple[str, ...] = ()
    starts: tuple[int, ...] = (0,)
    corrected: bool = False
    seekable: int | None = None

    @property
    def place(self) -> str | None:
        """Return the file of this machine that holds the stream; None: it lies elsewhere."""
        return self.path

    @property
    def duration(self) -> float:
        """Return the seconds of audio that can be decoded."""
        return self.n_samples / self.sample_rate

    @property
    def undeclared(self) -> int:
        """Return the number of samples beyond those that the header announces."""
        return 0 if self.n_declared is None else max(0, self.n_samples - self.n_declared)

    @property
    def complaint(self) -> str:
        """Describe the faults of the file: "is truncated: ..", "is damaged near ..", both; "" for none."""
        declared = "an unknown number of" if self.n_declared is None else self.n_declared
        cut = f"is truncated: {self.n_samples} of {declared} samples are there" if self.truncated else ""
        return " and ".join(filter(None, (cut, describe_damage(self.damage, self.sample_rate))))


def path_text(path: str | os.PathLike) -> str:
    """Return the path as text."""
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"a file must be named by text or a Path, got {type(path).__name__}: write it to a file first")
    return os.fsdecode(os.fspath(path))


def file_version(status: os.stat_result) -> tuple[int, int]:
    """Return the size and the time of change of a file, in which a later one of the same name differs."""
    return status.st_size, status.st_mtime_ns


def check_unchanged(info: AudioInfo, handle: int | None = None) -> None:
    """Refuse a file of this machine that is gone or another one since it was probed.

    Args:
        info: what the probe found.
        handle: of the open file; None: it is found by its path.

    Raises:
        AudioError: it is.
    """
    if info.place is None:
        return
    try:
        version = file_version(os.stat(info.place if handle is None else handle))
    except OSError as error:
        raise vanished(info.path, error) from error
    if version != info.version:
        raise changed(info.path)


def changed(path: str) -> AudioError:
    """Return what to raise where a file is another one than was checked."""
    return AudioError(f"{path} was changed after it was checked: start again, or probe it again.")


def vanished(path: str, error: OSError) -> AudioError:
    """Return what to raise where a file that was checked cannot be opened or read any more."""
    return AudioError(f"Cannot read {path}: {error.strerror or error}; check that it is still there.")


def is_sound(samples: np.ndarray, largest: float = _LARGEST) -> np.ndarray:
    """Return which samples can be sound: none that is NaN, infinite, or so large that powers of it are."""
    return np.abs(samples) <= largest


def nonfinite(samples: np.ndarray, position: int, largest: float = _LARGEST) -> str | None:
    """Name the first of samples (n, C) that cannot be sound, where they begin at a position; None without one."""
    found = is_sound(samples, largest)
    if found.all():
        return None
    offset, channel = np.argwhere(~found)[0]
    return f"{samples[offset, channel]} at sample {position + offset} of channel {channel}"
