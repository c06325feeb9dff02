"""The processes that torchrun starts, joined for a training: by gloo on the CPU, by NCCL on GPUs."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from sepkit.devices import choose_device
from sepkit.processes import LostProcessError, Processes

_GIVEN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # in the environment, by torchrun
_PATIENCE = timedelta(hours=12)  # one process may read all songs, while the others wait
_GRACE = 5.0  # s, in which torchrun ends a process that lost another one
_stores: list[dist.Store] = []  # of the job this process belongs to, if any: one a training


def is_main() -> bool:
    """Return whether this process is the first of its job, or alone."""
    return int(os.environ.get("RANK", 0)) == 0 or not is_job()


def is_job() -> bool:
    """Return whether this process is one of several that torchrun started."""
    return all(os.environ.get(name) for name in _GIVEN) and int(os.environ["WORLD_SIZE"]) > 1


@contextmanager
def joined(device: str = "auto") -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes of a job, if this is one of several, while the context lasts.

    Args:
        device: as `choose_device` takes it; of CUDA, each process of a machine takes the GPU of its number.

    Returns:
        As context: the processes, and what this one computes on.

    Raises:
        ValueError: there is no such device, or not one for each process.
        LostProcessError: another process has ended.
    """
    if not is_job():
        yield Processes(), choose_device(device)
        return
    processes = _read_environment()
    store = _make_store(processes)
    _stores.append(store)
    chosen = _choose(device, processes)
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=processes.rank, world_size=processes.world, timeout=_PATIENCE)
    try:
        yield processes, chosen
        processes.wait()  # orderly: none takes away a connection that another one still uses
    except LostProcessError:
        time.sleep(_GRACE)  # so that who ended first is named as the cause
        raise
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _read_environment() -> Processes:
    names = {"rank": "RANK", "world": "WORLD_SIZE", "local_rank": "LOCAL_RANK", "local_world": "LOCAL_WORLD_SIZE"}
    alone = {"LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    return Processes(**{key: int(os.environ.get(name, alone.get(name))) for key, name in names.items()})


def _make_store(processes: Processes) -> dist.Store:
    """Connect to the store of the job, under names of this start and this training: others left theirs there."""
    is_hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    libuv = os.environ.get("USE_LIBUV", "1") == "1"  # which torch on Windows lacks
    begins = processes.is_main and not is_hosted and not _stores
    store = dist.TCPStore(host, port, processes.world, begins, timeout=_PATIENCE, multi_tenant=True, use_libuv=libuv)
    return dist.PrefixStore(f"sepkit/{_attempt()}/{len(_stores)}", store)


def _attempt() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def _choose(device: str, processes: Processes) -> torch.device:
    """Choose the device of this process."""
    chosen = choose_device(device)
    if chosen.type == "mps":
        raise ValueError("several processes train on CUDA or the CPU, not on MPS: start one, or choose --device cpu")
    if chosen.type == "cpu":
        return chosen
    n_processes, n_devices = processes.local_world, torch.cuda.device_count()
    if chosen.index is not None:
        raise ValueError(f"{n_processes} processes take a GPU each, got the one {device}: leave out its number")
    if n_devices < n_processes:
        raise ValueError(
            f"{n_processes} processes need a GPU each, and here are {n_devices}: start as many with --nproc-per-node, "
            "or choose --device cpu"
        )
    chosen = torch.device("cuda", processes.local_rank)
    torch.cuda.set_device(chosen)
    return chosen


def may_say(sentence: str, error: Exception | None = None) -> bool:
    """Return whether this process is the first of its job to say something to the user, or alone.

    Args:
        sentence: what.
        error: that ends this process, of which it is said; LostProcessError is, where the other process could not say
            why it ended.
    """
    if not _stores:
        return True
    is_echo = isinstance(error, LostProcessError)
    try:
        n_failed = _stores[-1].add("failed", int(error is not None and not is_echo))
        if is_echo:
            return n_failed == 0 and is_main()
        return _stores[-1].add(f"said/{hashlib.sha256(sentence.encode()).hexdigest()}", 1) == 1
    except (RuntimeError, ValueError):  # it went with the process that held it
        return not is_echo


def mark_begun() -> None:
    """Mark this job as one that has begun its training, for its later starts by `torchrun --max-restarts`."""
    if (place := _place_of_job()) is not None:
        with suppress(OSError):
            place.touch()


def has_begun() -> bool:
    """Return whether an earlier start of this job has begun its training."""
    place = _place_of_job()
    return _attempt() > 0 and place is not None and place.exists()


def _place_of_job() -> Path | None:
    """Find a file that all starts of a job share: beside the folders in which torchrun has their errors."""
    errors = os.environ.get("TORCHELASTIC_ERROR_FILE")  # job/attempt_0/0/error.json
    return Path(errors).parents[2] / "sepkit_begun" if errors and len(Path(errors).parents) > 2 else None
