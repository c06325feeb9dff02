"""Where something ran, and what it cost."""

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from sepkit import __version__
from sepkit.devices import available_cores, peak_memory
from sepkit.disk import format_size
from sepkit.report.page import Section, build_section, duration


class Stopwatch:
    """Measure wall time, and the CPU time of this process and of ended children, from its creation on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), sum(os.times()[:4])

    def read(self) -> dict[str, str]:
        """Format both times."""
        wall, cpu = time.perf_counter() - self._wall, sum(os.times()[:4]) - self._cpu
        return {"wall time": duration(wall), "CPU time": duration(cpu)}


def cost_section(cost: Mapping[str, object] | None, device: torch.device) -> Section:
    """Build the section of costs, and of where they arose."""
    peak = peak_memory(device)
    owner = "the GPU" if device.type == "cuda" else "this process"
    environment = {
        "peak memory": f"{format_size(peak)}, of {owner}" if peak else None,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processor": f"{processor()}, {available_cores()} cores",
        "system": platform.platform(),
        "sepkit": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }
    return build_section("Cost and environment", "summary", facts={**(cost or {}), **environment})


def processor() -> str:
    """Name the processor as the system knows it."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine()
