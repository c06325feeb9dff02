"""Processes: what they need to start, how those that load or score are set up, and those that train together."""

import ctypes
import getpass
import multiprocessing
import os
import pickletools
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GUARD = (
    'on macOS and Windows, whose start method is spawn, a script calls train() and evaluate() below `if __name__ == "'
    '__main__":`, since each process that loads or scores runs the script once more'
)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
_STARTING = "SEPKIT_STARTING"  # in the environment of processes that are started here: by whom


def name_user() -> None:
    """Name a user without a name, as containers have, in a way that torch finds: it names a folder after it."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"user{os.getuid()}" if hasattr(os, "getuid") else "user"


@contextmanager
def starting_processes() -> Iterator[None]:
    """Mark the processes that are started meanwhile by who started them."""
    former = os.environ.get(_STARTING)
    os.environ[_STARTING] = str(os.getpid())
    try:
        yield
    finally:
        if former is None:
            del os.environ[_STARTING]
        else:
            os.environ[_STARTING] = former


def end_if_spawned() -> None:
    """End a process that is just being spawned: it came here by running the caller's script again.

    It is silent where the process that started it, within `starting_processes`, reports it.
    """
    if not getattr(multiprocessing.current_process(), "_inheriting", False):
        return
    is_ours = os.environ.get(_STARTING) == str(os.getppid())  # multiprocessing knows its parent only later
    _read_job()
    sys.exit(1 if is_ours else f"sepkit: {GUARD}")


def _read_job() -> None:
    """Read what this process was to do, since its parent waits until a pipe has taken all of it."""
    frame = sys._getframe()
    while frame is not None and "from_parent" not in frame.f_locals:  # of `multiprocessing.spawn._main`
        frame = frame.f_back
    if frame is not None:
        pipe = frame.f_locals["from_parent"]  # which the parent leaves open: only the pickle marks its end
        for _ in pickletools.genops(SimpleNamespace(read=pipe.read, readline=pipe.readline)):
            pass


def init_worker(_number: int) -> None:
    """Set up a loading process: one thread, and all signals to stop or save are left to the training process."""
    import torch

    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_end_for_parent, args=(os.getppid(),), daemon=True).start()


def _end_for_parent(parent: int) -> None:
    """Wait for SIGTERM of the parent process, by which multiprocessing ends a worker, or of nobody's, if it died.

    Whoever stops a whole group of processes means the parent, which needs its workers up to its next step.
    """
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid not in (0, parent) and os.getppid() == parent:
        pass
    os._exit(0)


def retain_freed_memory() -> None:
    """Keep freed blocks in the C library for the next step, on Linux with glibc.

    By default it gives every block above 32 MB back to the system and has it zeroed when it is asked for again,
    which costs a training step on the CPU about a third of its time.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 512 << 20)


class Processes:
    """The processes that train one model together: this one alone, which exchanges nothing.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
    """

    rank, world = 0, 1

    @property
    def is_main(self) -> bool:
        """Return whether this process writes files and lines for the user."""
        return self.rank == 0

    def all_sum(self, values: "Tensor") -> "Tensor":
        """Sum a tensor over the processes."""
        return values

    def gather(self, rows: list) -> list:
        """Join the lists of the processes, in the order of their ranks."""
        return rows

    def broadcast(self, values: tuple) -> tuple:
        """Return the values of the main process."""
        return values
