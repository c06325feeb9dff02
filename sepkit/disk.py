"""Errors of the disk in a sentence: which folder, how much is free there, what to do."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import soundfile

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SPARE = 1 << 26  # bytes of the disk that are left free


class OutputError(OSError):
    """A folder cannot be written to."""


@contextmanager
def writing(folder: str | os.PathLike, remedy: str) -> Iterator[None]:
    """Turn what the disk refuses to write into a sentence.

    Args:
        folder: into which is written.
        remedy: ends the sentence: what is safe, and what to do.

    Raises:
        OutputError: of any OSError, and of what soundfile and torch make of one, without its reason.
    """
    try:
        yield
    except OutputError:
        raise
    except (OSError, soundfile.SoundFileRuntimeError, RuntimeError) as error:
        reason = explain(error, folder)
        if reason is None:
            raise
        raise OutputError(f"{folder} cannot be written to: {reason}; {remedy}") from error


@contextmanager
def not_left_empty(folder: Path) -> Iterator[None]:
    """Make a folder and those around it; which of them are made here and empty in the end are removed again."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):  # not empty, and so are those around it
            for place in made:
                place.rmdir()


def is_there(folder: Path) -> bool:
    """Return whether there is something where a folder is wanted.

    Raises:
        ValueError: no folder can have its name.
    """
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):  # of which writing tells the latter
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{str(folder)[:100]} cannot be a folder: {reason}, give another by --output") from error
    return True


def explain(error: BaseException, folder: str | os.PathLike) -> str | None:
    """Describe why a folder cannot be written to; None where it is not for the disk.

    Args:
        error: an OSError, or what a library made of one.
        folder: into which was written.
    """
    cause = next((each for each in _chain(error) if isinstance(each, OSError)), None)
    if cause is not None and cause.errno in (errno.EMFILE, errno.ENFILE):
        return "no more files may be open at once (`ulimit -n` allows more)"
    free = free_space(folder)
    room = "" if free is None else f" ({format_size(free)} are free)"
    if cause is None:
        return f"its disk is full, or fails{room}" if isinstance(error, soundfile.SoundFileRuntimeError) else None
    if cause.errno in FULL:
        large = "a file may not be so large by `ulimit -f` or"
        return f"{large if cause.errno == errno.EFBIG else 'no space is left'} on its disk{room}"
    reason = cause.strerror or str(cause)
    return reason if cause.filename is None else f"{reason}: '{cause.filename}'"


def free_space(folder: str | os.PathLike) -> int | None:
    """Return the bytes that are free where a folder is, or would be; None where the system does not know."""
    path = Path(os.path.abspath(folder))
    for place in (path, *path.parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None


def format_size(n_bytes: float) -> str:
    """Format a number of bytes, in powers of ten."""
    if n_bytes < 999.5e3:  # which would be rounded to 1000
        return f"{n_bytes / 1e3:.0f} kB"
    if n_bytes < 999.5e6:
        return f"{n_bytes / 1e6:.{0 if n_bytes >= 9.95e6 else 1}f} MB"
    return f"{n_bytes / 1e9:.2f} GB"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
