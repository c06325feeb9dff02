"""Processes: what they need to start, how those that load or score are set up, and those that train together."""

import ctypes
import getpass
import multiprocessing
import os
import pickletools
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
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


def thread_pool(workers: int) -> ThreadPoolExecutor:
    """Make a pool of threads that may compute with torch, in a forked process too.

    Threads that are the first of such a process to compute, several at once, set up torch's own pool anew in a race, in
    which they fail with "Invalid thread pool!": it is set up here, before there are any.
    """
    import torch

    torch.set_num_threads(torch.get_num_threads())
    return ThreadPoolExecutor(workers)


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


class LostProcessError(RuntimeError):
    """Another process, with which this one trains, has ended."""


class Processes:
    """The processes that train one model together; one alone exchanges nothing.

    Every method but `is_main` and `share` is called by all of them in the same order, and raises LostProcessError where
    one of them has ended.

    Args:
        rank: number of this process, from 0.
        world: number of processes, which torch's process group joins where it is above 1.
        local_rank: number of this process among those of its machine.
        local_world: number of processes on this machine.
    """

    def __init__(self, rank: int = 0, world: int = 1, local_rank: int = 0, local_world: int = 1) -> None:
        self.rank, self.world, self.local_rank, self.local_world = rank, world, local_rank, local_world

    @property
    def is_main(self) -> bool:
        """Return whether this process writes files and lines for the user."""
        return self.rank == 0

    def share(self, n: int) -> int:
        """Return what each process of this machine gets of n cores, or the like; at least 1."""
        return max(1, n // self.local_world)

    def all_sum(self, values: "Tensor") -> "Tensor":
        """Sum a tensor over the processes, in place."""
        if self.world > 1:
            with _watched():
                _group().all_reduce(values)
        return values

    def gather(self, rows: list) -> list:
        """Join the lists of the processes, in the order of their ranks."""
        if self.world == 1:
            return rows
        lists: list[list] = [[] for _ in range(self.world)]
        with _watched():
            _group().all_gather_object(lists, rows)
        return [row for each in lists for row in each]

    def broadcast(self, values: tuple) -> tuple:
        """Return the values of the main process."""
        if self.world == 1:
            return values
        held = [values]
        with _watched():
            _group().broadcast_object_list(held, 0)
        return held[0]

    def broadcast_tensors(self, tensors: Iterable["Tensor"]) -> None:
        """Set tensors, in place, to those of the main process."""
        if self.world > 1:
            with _watched():
                for tensor in tensors:
                    contiguous = tensor.detach().contiguous()
                    _group().broadcast(contiguous, 0)
                    tensor.detach().copy_(contiguous)

    def largest(self, *values: float) -> tuple[float, ...]:
        """Return the largest of each value that a process has."""
        if self.world == 1:
            return values
        import torch

        found = torch.tensor(values, dtype=torch.float64)
        with _watched():
            _group().all_reduce(found, _group().ReduceOp.MAX)
        return tuple(found.tolist())

    def wait(self) -> None:
        """Wait for all processes."""
        self.largest(0.0)

    @contextmanager
    def first_here(self) -> Iterator[None]:
        """Order the processes of each machine: one does what it leaves in a cache before the others do it."""
        if self.local_rank > 0:
            self.wait()
        yield
        if self.local_rank == 0:
            self.wait()


def _group():
    import torch.distributed

    return torch.distributed


@contextmanager
def _watched() -> Iterator[None]:
    """Turn what torch says of a process that has ended into LostProcessError."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(f"another process of this training has ended ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
