"""How many steps a run has taken, on disk after each of them, so that one that was killed can say what it repeats."""

from contextlib import suppress
from pathlib import Path

FILE = "steps"
_WIDTH = 20


class StepRecord:
    """The number of steps of a run, which survives it.

    Nothing depends on it but what is printed: a disk that refuses it is no error.

    Args:
        folder: in which its file lies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._file = None

    def read(self) -> int:
        """Read the number; 0 where there is none."""
        try:
            return int(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def open(self) -> None:
        """Open the file, into which numbers are written from now on."""
        with suppress(OSError):
            self._file = self.path.open("wb", buffering=0)

    def write(self, step: int) -> None:
        """Write the number over the one before, if the file is open."""
        if self._file is not None:
            with suppress(OSError):
                self._file.seek(0)
                self._file.write(f"{step:{_WIDTH}}".encode())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
