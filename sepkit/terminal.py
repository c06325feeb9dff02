"""What may happen to a command's terminal and pipes, which bars are shown there, and how a command is asked to end."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import FrameType
from typing import Any, TextIO

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
HANGUP = getattr(signal, "SIGHUP", None)  # not on Windows; shells and the system send it twice

_hidden: ContextVar[bool] = ContextVar("hidden", default=False)


@contextmanager
def hiding_bars(are_hidden: bool = True) -> Iterator[None]:
    """Show no progress bar meanwhile, whoever would; False: as around it."""
    token = _hidden.set(are_hidden or _hidden.get())
    try:
        yield
    finally:
        _hidden.reset(token)


def bar_option(progress: bool = True) -> bool | None:
    """Return what tqdm takes as `disable`: None, so that it shows a bar on a terminal; True where it is not to."""
    return None if progress and not _hidden.get() else True


def is_wanted(number: int) -> bool:
    """Return whether a signal may be handled: not where `nohup`, or a shell for jobs in the background, ignores it."""
    return signal.getsignal(number) not in (signal.SIG_IGN, None)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception that ends the command, so that what is half written is removed.

    The exit code is 128 and the signal's number.
    """
    former = {}
    if threading.current_thread() is threading.main_thread():
        for number in STOPPING:
            if number != signal.SIGINT and is_wanted(number):
                former[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    if number == HANGUP:
        signal.signal(number, signal.SIG_IGN)  # the second one would end the cleaning
    sys.exit(128 + number)


@contextmanager
def surviving_streams() -> Iterator[None]:
    """Guard the work against what becomes of stdout and stderr: a closed pipe or terminal, a log on a full disk."""
    _open_closed()
    former = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Survivor(stream) for stream in former)
    try:
        yield
    finally:
        survivors = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = former
        for survivor in survivors:
            if isinstance(survivor, _Survivor):
                survivor.settle()


def _open_closed() -> None:
    """Connect what was closed before the start to the null device, lest the next open file takes its place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)


class _Survivor:
    """A text stream whose reader may go.

    Args:
        stream: where the text goes; None where there was none at the start.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        with suppress(OSError):
            self._stream.flush()

    def settle(self) -> None:
        """Drop what could not be written, of which Python would complain in the end with an exit code of its own."""
        try:
            self._stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
                self._stream.flush()
