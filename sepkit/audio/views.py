"""A part of a file, or a file with other bytes in its header, as a file that decoders read from."""

import io
import os


class FileView(io.RawIOBase):
    """Read the bytes from `start` to `end` of a file, some of them replaced.

    Args:
        path: the file.
        start: first byte.
        end: byte behind the last; None: the end of the file.
        place: byte of the view at which `patch` stands in place of what the file holds.
        patch: these bytes.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: str, start: int = 0, end: int | None = None, place: int = 0, patch: bytes = b"") -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        size = os.fstat(self._file.fileno()).st_size
        self._start, self._length = start, (size if end is None else min(end, size)) - start
        self._place, self._patch, self._here = place, patch, 0

    def readable(self) -> bool:
        """Return True: it can be read."""
        return True

    def seekable(self) -> bool:
        """Return True: positions can be chosen."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte of the view."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._here, os.SEEK_END: self._length}[whence]
        self._here = max(0, origin + offset)
        return self._here

    def tell(self) -> int:
        """Return the byte that is read next."""
        return self._here

    def readinto(self, buffer) -> int:
        """Fill a buffer; return the number of bytes."""
        window = memoryview(buffer).cast("B")[: max(0, self._length - self._here)]
        self._file.seek(self._start + self._here)
        n_bytes = self._file.readinto(window)
        first = self._place - self._here
        for k in range(max(0, -first), min(len(self._patch), n_bytes - first)):
            window[first + k] = self._patch[k]
        self._here += n_bytes
        return n_bytes

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
