"""What processes need to start: a name of the user, and a script that does not run again in each of them."""

import getpass
import multiprocessing
import os
import pickletools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

GUARD = (
    'on macOS and Windows, whose start method is spawn, a script calls train() and evaluate() below `if __name__ == "'
    '__main__":`, since each process that loads or scores runs the script once more'
)
_STARTING = "SEPKIT_STARTING"  # in the environment of processes that are started here: by whom


def name_user() -> None:
    """Give a user without a name, as containers have, one that torch finds: it names a folder after it."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"user{os.getuid()}" if hasattr(os, "getuid") else "user"


@contextmanager
def starting_processes() -> Iterator[None]:
    """Tell the processes that are started meanwhile who started them."""
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

    It is silent where the process that started it, within `starting_processes`, says the sentence.
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
        pipe = frame.f_locals["from_parent"]  # which the parent leaves open: nothing but the pickle tells its end
        for _ in pickletools.genops(SimpleNamespace(read=pipe.read, readline=pipe.readline)):
            pass
