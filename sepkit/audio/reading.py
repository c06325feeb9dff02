"""Read waveforms: whole files, segments at a sample position, blocks of files of any length."""

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import check_count, is_whole
from sepkit.audio.av_source import AvSource
from sepkit.audio.info import (
    AudioError,
    AudioInfo,
    Damage,
    DecodeError,
    check_unchanged,
    nonfinite,
    path_text,
    vanished,
)
from sepkit.audio.packed import PackedInfo, PackedSource
from sepkit.audio.probing import probe
from sepkit.audio.soundfile_source import SoundfileSource

BLOCK = 1 << 16
PIECE = 1 << 18  # samples decoded at a time, so that a long file is not held twice


class AudioReader:
    """Read one audio stream of a file from any position; open one reader per thread.

    Args:
        path: the file.
        stream: which of the file's audio streams.
        allow_truncated: read what decodes of a file whose end is missing or that is damaged otherwise, as players do;
            `info` has how much that is, `damage` what was passed over or replaced by silence.
        info: what `probe` found earlier; saves probing again.
        allow_nonfinite: hand out NaN, infinity and samples beyond 1e10 as they are.

    Raises:
        AudioError: the file cannot be read, is another one than `info` describes, or is truncated or damaged and that
            is not allowed.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        stream: int = 0,
        allow_truncated: bool = False,
        info: AudioInfo | None = None,
        allow_nonfinite: bool = False,
    ):
        self.info = info or probe(path, stream)
        self._nonfinite = allow_nonfinite
        self.position = 0
        self._path = path_text(path)
        self._tolerant = allow_truncated
        self._replaced: list[Damage] = []
        check_unchanged(self.info)
        if self.info.complaint and not allow_truncated:
            raise AudioError(
                f"{self._path} {self.info.complaint}; get the whole file, or allow truncated and damaged files to use "
                "what there is."
            )
        try:
            if isinstance(self.info, PackedInfo):
                self._source = PackedSource(self.info)
            elif self.info.reader == "soundfile":
                self._source = SoundfileSource(self.info.path, self.info.corrected, allow_truncated, self.info.seekable)
            else:
                sequential = self.info.seekable == 0
                self._source = AvSource(self.info.path, stream, self.info.starts, sequential, allow_truncated)
        except (DecodeError, OSError) as error:
            check_unchanged(self.info)  # which went between the two looks at it
            raise AudioError(f"Cannot open {self._path}: {error}; check that it is still there.") from error

    def __enter__(self) -> "AudioReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Return what was found to be wrong, by the probe or, where it could not know, by reading until now."""
        return self.info.damage or tuple(self._source.damage[place] for place in sorted(self._source.damage)) + tuple(
            self._replaced
        )

    def seek(self, position: int) -> None:
        """Move to a sample, 0 <= position <= info.n_samples."""
        if not is_whole(position) or not 0 <= position <= self.info.n_samples:
            raise AudioError(
                f"{self._path} has {self.info.n_samples} samples, position {position} was wanted; stay within."
            )
        position = int(position)
        if position != self.position:
            check_unchanged(self.info)
            self._decode("seek", position)
            self.position = position

    def read(self, n_samples: int | None = None) -> Tensor:
        """Read the next samples.

        Args:
            n_samples: at most so many; None reads all that are left.

        Returns:
            (C, T) float32, values beyond 1 kept; shorter than wanted only at the end.

        Raises:
            AudioError: a sample is NaN, infinite or beyond 1e10 where that is not allowed, or the file breaks off
                before its end.
        """
        left = self.info.n_samples - self.position
        wanted = left if n_samples is None else min(check_count("n_samples", n_samples, 0), left)
        waveform = np.empty((self.info.n_channels, wanted), np.float32)
        for start in range(0, wanted, PIECE):
            piece = waveform[:, start : start + PIECE]
            piece[:] = self._next(piece.shape[1]).T
        return torch.from_numpy(waveform)

    def _next(self, n_samples: int) -> np.ndarray:
        samples = self._decode("read", n_samples)
        if len(samples) < n_samples:
            samples = self._fill(samples, n_samples)
        if not self._nonfinite and (found := nonfinite(samples, self.position)) is not None:
            raise AudioError(f"{self._path} holds {found}; repair the file.")
        self.position += n_samples
        return samples

    def _fill(self, samples: np.ndarray, n_samples: int) -> np.ndarray:
        """Put silence in place of what the file does not give, where that is allowed."""
        check_unchanged(self.info)
        end = self.position + len(samples)
        if not self._tolerant:
            raise AudioError(
                f"{self._path} breaks off at sample {end} of {self.info.n_samples}: it is damaged; export or download "
                "it again."
            )
        missing = n_samples - len(samples)
        self._replaced.append(Damage(end, n_filled=missing))
        return np.concatenate([samples, np.zeros((missing, samples.shape[1]), np.float32)])

    def blocks(self, n_samples: int = BLOCK) -> Iterator[Tensor]:
        """Yield the samples from here to the end as (C, <= n_samples)."""
        check_count("n_samples", n_samples)
        while self.position < self.info.n_samples:
            yield self.read(n_samples)

    def _decode(self, action: str, argument: int) -> np.ndarray:
        try:
            return getattr(self._source, action)(argument)
        except DecodeError as error:
            check_unchanged(self.info)
            raise AudioError(
                f"{self._path} does not decode near sample {self.position}: {error}; export or download it again."
            ) from error
        except OSError as error:
            raise vanished(self._path, error) from error


def read(
    path: str | os.PathLike,
    start: int = 0,
    n_samples: int | None = None,
    stream: int = 0,
    allow_truncated: bool = False,
    info: AudioInfo | None = None,
) -> tuple[Tensor, int]:
    """Read a file or a segment of it.

    The same samples come whether the segment or the whole file is read, also of damaged files; in AAC up to the
    decoder's noise substitution, which depends on where decoding began.

    Args:
        path: the file.
        start: first sample.
        n_samples: number of samples; None reads to the end.
        stream: which of the file's audio streams.
        allow_truncated: read what decodes of a file whose end is missing or that is damaged otherwise.
        info: what `probe` found earlier; saves probing again, for many segments of the same file.

    Returns:
        (C, T) float32, values beyond 1 kept, and the sample rate in Hz.

    Raises:
        AudioError: the file cannot be read, is truncated or damaged, ends before the segment, or holds NaN, infinity
            or a sample beyond 1e10.
    """
    with AudioReader(path, stream, allow_truncated, info) as reader:
        reader.seek(start)
        if n_samples is not None and not 0 <= check_count("n_samples", n_samples, 0) <= reader.info.n_samples - start:
            raise AudioError(
                f"{path_text(path)} has {reader.info.n_samples} samples, {start} to {start + n_samples} were wanted; "
                "shorten the segment or move it."
            )
        return reader.read(n_samples), reader.info.sample_rate


def stream_blocks(
    path: str | os.PathLike, block: int = BLOCK, stream: int = 0, allow_truncated: bool = False
) -> Iterator[Tensor]:
    """Yield a file of any length as blocks (C, <= block), in memory for one block; see `AudioReader`."""
    with AudioReader(path, stream, allow_truncated) as reader:
        yield from reader.blocks(block)


def read_streams(
    path: str | os.PathLike, start: int = 0, n_samples: int | None = None, allow_truncated: bool = False
) -> tuple[list[Tensor], int]:
    """Read all audio streams of a file, for instance the mixture and the stems of a `.stem.mp4`.

    Args:
        path: the file.
        start: first sample.
        n_samples: number of samples; None reads each stream to its end.
        allow_truncated: read what decodes of a file whose end is missing or that is damaged otherwise.

    Returns:
        One (C, T) float32 for each stream, and their sample rate in Hz.

    Raises:
        AudioError: as of `read`, or the streams differ in rate.
    """
    n_streams = probe(path).n_streams
    waveforms, rates = zip(
        *(read(path, start, n_samples, stream, allow_truncated) for stream in range(n_streams)), strict=True
    )
    if len(set(rates)) > 1:
        raise AudioError(f"The streams of {path_text(path)} have the rates {rates} Hz; read them one by one.")
    return list(waveforms), rates[0]
