"""What to compute on, in which precision, and how much memory it took."""

import ctypes
import os
import resource
import signal
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """Find a device.

    Args:
        name: "auto" takes CUDA, else MPS, else the CPU.

    Raises:
        ValueError: the name is unknown, or there is no such device here.
    """
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, found in there.items() if found))
    if not there[kind]:
        raise ValueError(f"there is no {kind} device here: choose auto or cpu")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Translate a precision; "auto" is bfloat16 on CUDA where it is native, float16 on older CUDA, else float32."""
    if name != "auto":
        return getattr(torch, name)
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def available_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def quiet_worker(_number: int) -> None:
    """Set up a loading process: one thread, and Ctrl-C is left to the training process."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def peak_memory(device: torch.device) -> int:
    """Largest memory so far, bytes: of the device on CUDA, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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
