"""What to compute on, in which precision, and how much memory it took."""

import os
import re
import sys
from pathlib import Path

import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16", "float64")
HALVES = (torch.bfloat16, torch.float16)  # in which the arithmetic of a network alone is done, under autocast


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
        name: "float32", "bfloat16", "float16" or "float64"; "auto" is bfloat16 on CUDA where it is native, float16 on
            older CUDA, else float32.
        device: where it computes.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    if name == "float64" and device.type == "mps":
        raise ValueError(f"precision float64 is nothing that {device} can compute: choose float32, or the CPU")
    if name != "auto":
        return getattr(torch, name)
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def available_cores() -> int:
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def total_memory(device: torch.device) -> int | None:
    """Return how much memory there is, bytes: of the device on CUDA, else of the machine; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def peak_memory(device: torch.device) -> int | None:
    """Return the largest memory so far, bytes: of the device on CUDA, else of the process; None where unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform.startswith("linux"):  # the counter of `resource` starts with what the parent process had
        try:
            status = Path("/proc/self/status").read_text()
        except OSError:
            return None
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(peak[1]) * 1024 if peak else None
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
