"""What to compute on, in which precision, and how much memory it took."""

import ctypes
import os
import re
import signal
import sys
import threading
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def choose_device(name: str = "auto") -> torch.device:
    """Find a device.

    Args:
        name: "cpu", "cuda", "mps" or, of several, "cuda:1"; "auto" takes CUDA, else MPS, else the CPU.

    Raises:
        ValueError: the name is unknown, or there is no such device here.
    """
    if not isinstance(name, str) or not re.fullmatch(r"auto|(cpu|cuda|mps)(:\d+)?", name):
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, or such as cuda:1, got {name!r}")
    kind, _, number = name.partition(":")
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if kind == "auto":
        return torch.device(next(kind for kind, count in counts.items() if count))
    if int(number or 0) >= counts[kind]:
        raise ValueError(f"there is no device {name} here: choose auto or cpu")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Choose the type that a network computes in.

    Args:
        name: "float32", "bfloat16" or "float16"; "auto" is bfloat16 on CUDA where it is native, float16 on older
            CUDA, else float32.
        device: where it computes.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    if name != "auto":
        return getattr(torch, name)
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def available_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quiet_worker(_number: int) -> None:
    """Set up a loading process: one thread, and all signals to stop are left to the training process."""
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGHUP"):
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


def peak_memory(device: torch.device) -> int | None:
    """Largest memory so far, bytes: of the device on CUDA, else of the process; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform.startswith("linux"):  # the counter of `resource` starts with what the parent process had
        try:
            status = Path("/proc/self/status").read_text()
        except OSError:
            return None
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else None
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def keep_memory() -> None:
    """Let the C library keep freed blocks for the next step, on Linux with glibc.

    By default it gives every block above 32 MB back to the system and has it zeroed when it is asked for again,
    which costs a training step on the CPU about a third of its time.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 512 << 20)
