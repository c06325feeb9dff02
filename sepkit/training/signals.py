"""Stop: between two steps, when the user or the system asks for it, or because it cannot go on."""

import signal
import threading
from collections.abc import Iterable
from types import FrameType

from sepkit.terminal import HANGUP, STOPPING, is_wanted

SAVING = getattr(signal, "SIGUSR1", None)  # not on Windows


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
    """Note the signals that ask for an end while the context lasts; a second one acts at once, unless it is SIGHUP.

    SIGUSR1, which clusters send ahead of a time limit, asks for a checkpoint alone.

    Attributes:
        requested: the signal's number; 0 as long as none came.
        save_requested: whether a checkpoint is asked for; who writes it sets it back.
    """

    def __init__(self) -> None:
        self.requested = 0
        self.save_requested = False
        self._former: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in filter(is_wanted, STOPPING):
                self._former[number] = signal.signal(number, self._note)
            if SAVING is not None and is_wanted(SAVING):
                self._former[SAVING] = signal.signal(SAVING, self._note_saving)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore(self._former)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.requested = self.requested or number
        self._restore([other for other in self._former if other not in (HANGUP, SAVING)])

    def _note_saving(self, _number: int, _frame: FrameType | None) -> None:
        self.save_requested = True

    def _restore(self, numbers: Iterable[int]) -> None:
        for number in list(numbers):
            signal.signal(number, self._former.pop(number))
