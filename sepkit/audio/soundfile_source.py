"""Samples of a file through libsndfile."""

import numpy as np
import soundfile

from sepkit.audio.flac import flac_block
from sepkit.audio.info import SKIP_BLOCK, Damage, DecodeError
from sepkit.audio.pcm import bare_view, corrected_view

PATIENCE = 1 << 12  # samples that are given up at a time where libsndfile does not decode


class SoundfileSource:
    """Read samples through libsndfile.

    Args:
        path: the file.
        corrected: read it as if its header declared what is really there.
        tolerant: give silence in place of what does not decode, and note it in `damage`.
        seekable: the last position that is found without decoding; None: all are.
    """

    reader = "soundfile"

    def __init__(self, path: str, corrected: bool = False, tolerant: bool = False, seekable: int | None = None):
        self._path, self._corrected, self._tolerant, self._seekable = path, corrected, tolerant, seekable
        self.damage: dict[int, Damage] = {}
        self._open()
        self.sample_rate = self._file.samplerate
        self.n_channels = self._file.channels
        self.n_declared = self._file.frames if self._file.frames < 1 << 62 else None
        self.format = self._format
        self.subtype = self._file.subtype

    def _open(self) -> None:
        self._view = corrected_view(self._path) if self._corrected else None
        try:
            self._file = soundfile.SoundFile(self._view or self._path)
            self._format = self._file.format
            if self._corrected and (bare := bare_view(self._path)):  # the header's place for their number is too small
                view, order = bare
                layout = (self._file.samplerate, self._file.channels, self._file.subtype)
                order = order if self._file.endian == "FILE" else self._file.endian
                self.close()
                self._view = view
                self._file = soundfile.SoundFile(view, "r", *layout, endian=order, format="RAW")
        except (soundfile.SoundFileRuntimeError, TypeError, ValueError, OSError) as error:
            raise DecodeError(last_part(error)) from error
        self._position = 0

    def seek(self, position: int) -> None:
        """Move to a sample."""
        found = position if self._seekable is None else min(position, self._seekable)
        try:
            self._file.seek(found)
            while found < position and (skipped := len(self._file.read(min(SKIP_BLOCK, position - found)))):
                found += skipped
        except soundfile.SoundFileRuntimeError as error:
            if not self._tolerant:
                raise DecodeError(last_part(error)) from error
        self._position = position

    def read(self, n_samples: int) -> np.ndarray:
        """Return the next (<= n_samples, C) float32; fewer only at the end."""
        start = self._position
        try:
            samples = self._file.read(n_samples, dtype="float32", always_2d=True)
            if len(samples) < n_samples and self._tolerant:
                samples = self._read_patiently(start, n_samples)
        except soundfile.SoundFileRuntimeError as error:
            if not self._tolerant:
                raise DecodeError(last_part(error)) from error
            samples = self._read_patiently(start, n_samples)
        self._position = start + len(samples)
        return samples

    def _read_patiently(self, start: int, n_samples: int) -> np.ndarray:
        """Read in pieces that begin at multiples of their size, each on its own: silence for those that fail."""
        end = min(start + n_samples, self.n_declared)
        size = (flac_block(self._path) if self.format == "FLAC" else 0) or PATIENCE
        samples = np.zeros((max(0, end - start), self.n_channels), np.float32)
        for place in range(start // size * size, end, size):
            first, last = max(place, start), min(place + size, end)
            piece = self._read_piece(place, min(size, self.n_declared - place), size)
            if piece is None:
                self.damage[place] = Damage(place, n_filled=min(size, self.n_declared - place))
            else:
                samples[first - start : last - start] = piece[first - place : last - place]
        self._reopen()
        self.seek(end)
        return samples

    def _read_piece(self, position: int, n_samples: int, size: int) -> np.ndarray | None:
        """Read a piece through a decoder that has seen no damage before; None where it does not decode."""
        for start in (position, max(0, position - 4 * size)):  # the search for a frame may fail near a damaged one
            piece = np.full((position - start + n_samples, self.n_channels), np.nan, np.float32)
            self._reopen()
            try:
                self._file.seek(start)
                self._file.read(out=piece)
            except soundfile.SoundFileRuntimeError:  # perhaps only that it cannot stand behind what it has read
                pass
            if not np.isnan(piece[-1]).any():
                return piece[position - start :]
        return None

    def _reopen(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._view:
            self._view.close()


def last_part(error: Exception) -> str:
    """Return the message of libsndfile, without its prefixes."""
    return str(error).rsplit(": ", 1)[-1].strip(" .")
