"""How examples are loaded: by how many processes, and what it means when one of them fails."""

import errno
import multiprocessing
import pickle
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sepkit.audio import AudioError
from sepkit.datasets.loader import AHEAD, Loader
from sepkit.devices import available_cores
from sepkit.disk import FULL, OutputError, explain
from sepkit.processes import GUARD, LostProcessError, starting_processes
from sepkit.training.signals import TrainingError

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer

_SHARED_MEMORY = Path("/dev/shm")  # through which processes hand over batches, on Linux
_MORE_SHARED_MEMORY = "give the container more with --shm-size=1g, or set data.workers=0"


def make_loader(trainer: "Trainer", n_workers: int | None = None, n_kept: int | None = None) -> Loader:
    """Make a loader of batches for a training.

    Args:
        trainer: whose sampler, songs and device.
        n_workers: processes that load; None: as many as the recipe asks for, if there are cores and shared memory.
        n_kept: batches that stay valid; None: as many as a training needs.
    """
    n_workers = _choose_workers(trainer) if n_workers is None else n_workers
    return Loader(trainer.dataset, trainer.sampler, n_workers, trainer.device, n_kept or _count_kept(trainer))


def _count_kept(trainer: "Trainer") -> int:
    """Return how many batches stay valid: another one is filled while a device reads the last."""
    return 1 if trainer.device.type == "cpu" else 2


def _choose_workers(trainer: "Trainer") -> int:
    processes = trainer.processes
    wanted = min(trainer.recipe.data.workers, processes.share(available_cores()))
    if not wanted or not _SHARED_MEMORY.is_dir():
        return wanted
    separator, free = trainer.separator, shutil.disk_usage(_SHARED_MEMORY).free // processes.local_world
    n_values = (
        separator.n_channels * round(separator.segment * separator.sample_rate) * (len(trainer.dataset.stems) + 1)
    )
    n_own = -(-trainer.sampler.batch_size // processes.world)
    needed = [(AHEAD * n + _count_kept(trainer)) * 4 * n_own * n_values for n in range(wanted + 1)]  # bytes
    chosen = max([0, *(n for n in range(1, wanted + 1) if needed[n] <= free)])
    if chosen < wanted:
        warnings.warn(
            f"{_SHARED_MEMORY} has {free / 2**20:.0f} MB free, where {wanted} workers may need "
            f"{needed[wanted] / 2**20:.0f} MB: {chosen or 'none'} of them load examples; {_MORE_SHARED_MEMORY}",
            stacklevel=3,
        )
    return chosen


@contextmanager
def loading(trainer: "Trainer") -> Iterator[None]:
    """Turn what ends a loading process, or the reading of a file, into a sentence with a remedy.

    Raises:
        AudioError: a file does not decode.
        TrainingError: loading failed.
        OutputError: the run folder cannot be written to.
    """
    first, folder = trainer.step, trainer.folder
    try:
        with starting_processes():
            yield
    except AudioError as error:  # a worker's has a traceback before its sentence
        sentence = str(error).strip().splitlines()[-1]
        raise AudioError(sentence.rpartition("AudioError: ")[2]) from error
    except OutputError as error:  # the store's, in a worker, too
        sentence = str(error).strip().splitlines()[-1].rpartition("OutputError: ")[2]
        raise OutputError(sentence) from error
    except (TrainingError, LostProcessError):
        raise
    except Exception as error:
        if folder and _is_output_error(error, folder.path):
            reason = explain(error, folder.path)
            raise OutputError(f"{folder.path} cannot be written to: {reason}; {folder.way_on()}") from error
        is_unstarted = isinstance(error, BrokenPipeError | EOFError) or "exited unexpectedly" in str(error)
        if trainer.step == first and is_unstarted and multiprocessing.get_start_method() != "fork":
            sentence = f"a loading process ended as it started; {GUARD}; data.workers=0 does without processes"
            raise TrainingError(sentence) from None  # torch's traceback leads nowhere
        sentence = _explain(error)
        if sentence is None:
            raise
        raise TrainingError(f"{sentence}; {folder.way_on()}" if folder else sentence) from error


def _is_output_error(error: Exception, folder: Path) -> bool:
    """Return whether an error comes from writing into the run folder."""
    if not isinstance(error, OSError) or "DataLoader worker" in str(error):
        return False
    return error.errno in (*FULL, errno.EROFS) or (
        error.filename is not None and folder.absolute() in Path(error.filename).absolute().parents
    )


def _explain(error: Exception) -> str | None:
    """Describe what ended the loading; None where it was something else."""
    own = str(error).strip()
    last = re.sub(r"^\w+: ", "", own.splitlines()[-1]) if own else type(error).__name__
    message = f"{own}\n{error.__cause__}"  # torch names the signal that killed a process in the first of two errors
    if "Too many open files" in message or "of ancdata" in message:  # through which torch hands over open ones
        return "no more files may be open at once: `ulimit -n` allows more, or set data.workers=0"
    if re.search("shared memory|Bus error|file </torch_", message):
        return f"{_SHARED_MEMORY}, through which loading processes hand over examples, is full: {_MORE_SHARED_MEMORY}"
    if "killed by signal" in message and "DataLoader worker" in message:
        name = re.search(r"killed by signal: ([\w ]+)", message)[1].strip()
        why = "as the system does where memory is short" if name == "Killed" else f"by the signal {name}"
        return f"a loading process was killed, {why}: lower data.workers or training.batch_size"
    of_socket = isinstance(error, FileNotFoundError) and "'" not in last  # of no file that has a name
    if of_socket or isinstance(error, ConnectionError | EOFError):
        return f"a loading process ended ({last}): see what ended it, or set data.workers=0"
    if isinstance(error, MemoryError) or re.search("allocate memory|not enough memory", message):
        return "there is not enough memory to load examples: lower data.workers or training.batch_size"
    if isinstance(error, pickle.PicklingError) or "pickle" in message:
        return f"examples cannot be handed to loading processes ({last}): set data.workers=0"
    if isinstance(error, OSError):
        return f"a file cannot be read any more ({last}): bring it back"
    if "DataLoader worker" in message:
        return f"a loading process failed ({last}): with data.workers=0, --debug shows where"
    return None
