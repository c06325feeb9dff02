"""Stop: between two steps, when the user or the system asks for it, or because it cannot go on."""

import signal
import threading
from types import FrameType


class TrainingError(RuntimeError):
    """A training cannot go on."""


class TrainingInterrupted(KeyboardInterrupt):
    """A training was stopped by a signal, after its state had been saved.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class StopRequest:
    """Note SIGINT and SIGTERM while the context lasts; a second signal acts at once.

    Attributes:
        requested: the signal's number; 0 as long as none came.
    """

    def __init__(self) -> None:
        self.requested = 0
        self._former: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.requested = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former = {}
