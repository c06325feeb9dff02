"""Devices and precisions are found by name, or refused."""

import os
import subprocess
import sys

import pytest
import torch

from sepkit import processes
from sepkit.devices import available_cores, choose_device, choose_precision, peak_memory, total_memory


def _pretend(monkeypatch: pytest.MonkeyPatch, n_cuda: int = 0, mps: bool = False, capability: int = 8) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (capability, 0))


@pytest.mark.parametrize(
    ("n_cuda", "mps", "name", "found"),
    [
        (0, False, "auto", "cpu"),
        (1, False, "auto", "cuda"),
        (0, True, "auto", "mps"),
        (2, False, "cuda:1", "cuda:1"),
        (1, True, "mps", "mps"),
        (2, True, "cpu", "cpu"),
    ],
)
def test_a_device_is_found_by_name(monkeypatch, n_cuda, mps, name, found):
    _pretend(monkeypatch, n_cuda, mps)
    assert choose_device(name) == torch.device(found)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu", "device must be one of auto, cpu, cuda, mps, or such as cuda:1, got 'tpu'"),
        ("auto:1", "device must be one of auto, .* got 'auto:1'"),
        ("cuda:", "device must be one of auto, .* got 'cuda:'"),
        ("cuda:x", "device must be one of auto, .* got 'cuda:x'"),
        ("cuda:1", "there is no device cuda:1 here: choose auto or cpu"),
        ("mps", "there is no device mps here: choose auto or cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, name, message):
    _pretend(monkeypatch, n_cuda=1)
    with pytest.raises(ValueError, match=message):
        choose_device(name)


@pytest.mark.parametrize(
    ("name", "device", "capability", "dtype"),
    [
        ("auto", "cpu", 8, torch.float32),
        ("auto", "mps", 8, torch.float32),
        ("auto", "cuda", 9, torch.bfloat16),
        ("auto", "cuda", 7, torch.float16),
        ("bfloat16", "cpu", 8, torch.bfloat16),
        ("float16", "cuda", 8, torch.float16),
        ("float32", "cuda", 8, torch.float32),
    ],
)
def test_a_precision_is_what_the_device_is_good_at(monkeypatch, name, device, capability, dtype):
    _pretend(monkeypatch, n_cuda=1, capability=capability)
    assert choose_precision(name, torch.device(device)) is dtype


def test_an_unknown_precision_is_refused():
    known = "auto, float32, bfloat16, float16, float64"
    with pytest.raises(ValueError, match=f"precision must be one of {known}, got 'half'"):
        choose_precision("half", torch.device("cpu"))


def test_there_is_a_core_and_memory_in_use():
    assert 1 <= available_cores() <= os.cpu_count()
    assert 1 << 24 < peak_memory(torch.device("cpu")) < 1 << 40
    assert peak_memory(torch.device("cpu")) < total_memory(torch.device("cpu")) < 1 << 50


def test_a_loading_process_has_one_thread_and_keeps_running_at_ctrl_c():
    code = (
        "import os, signal, torch; from sepkit.processes import init_worker, retain_freed_memory; "
        "retain_freed_memory(); init_worker(0); os.kill(os.getpid(), signal.SIGINT); print(torch.get_num_threads())"
    )
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


def test_other_systems_keep_their_memory_as_they_like(monkeypatch):
    monkeypatch.setattr(processes.sys, "platform", "darwin")
    monkeypatch.setattr(processes.ctypes, "CDLL", None)
    processes.retain_freed_memory()
