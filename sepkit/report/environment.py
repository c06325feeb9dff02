"""Where something ran, and what it cost."""

import os
import platform
import time
from pathlib import Path

import torch

from sepkit import __version__
from sepkit.devices import available_cores, peak_memory
from sepkit.report.page import Section, duration, facts, size


class Stopwatch:
    """Measure, from its making on, wall time, and the CPU time of this process and of those that it started."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    def read(self) -> dict[str, str]:
        """Give both times, in words."""
        wall, cpu = time.perf_counter() - self._wall, _cpu_seconds() - self._cpu
        return {"wall time": duration(wall), "CPU time": duration(cpu)}


def _cpu_seconds() -> float:
    return sum(os.times()[:4])  # of children, once they ended


def cost_section(cost: dict[str, object], device: torch.device) -> Section:
    """Say what it cost, and where it ran.

    Args:
        cost: names and values.
        device: on which it was computed.
    """
    peak = peak_memory(device)
    owner = "the GPU" if device.type == "cuda" else "this process"
    memory = {"peak memory": f"{size(peak)}, of {owner}" if peak else None}
    return Section("Cost and environment", facts({**cost, **memory, **_environment(device)}))


def _environment(device: torch.device) -> dict[str, object]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": f"{_processor()}, {available_cores()} cores",
        "system": platform.platform(),
        "sepkit": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }


def _processor() -> str:
    """Name the processor as the system knows it."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine()
