"""The global random generators that weights, networks and losses draw from: Python's, numpy's and torch's."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np
import torch


def seed_generators(seed: int, device: torch.device) -> None:
    """Set the generators of the process, and torch's of one device, to a seed."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    backend = _backend(device)
    if backend:
        with backend.device(device) if hasattr(backend, "device") else nullcontext():
            backend.manual_seed(seed)


def get_generators(device: torch.device) -> dict[str, Any]:
    """Return the states of the generators as tensors and plain data, that of the device under its type."""
    name, keys, *rest = np.random.get_state()
    numpy_state = (name, torch.from_numpy(keys.astype(np.int64)), *rest)
    states = {"python": random.getstate(), "numpy": numpy_state, "cpu": torch.get_rng_state()}
    backend = _backend(device)
    if backend:
        states[device.type] = backend.get_rng_state(*_which(device))
    return states


def set_generators(states: Mapping[str, Any], device: torch.device) -> None:
    """Restore states that `get_generators` returned; a generator without one stays as it is."""
    if "python" in states:
        random.setstate(states["python"])
        name, keys, *rest = states["numpy"]
        np.random.set_state((name, keys.numpy(), *rest))
    torch.set_rng_state(states["cpu"])
    if device.type in states and device.type != "cpu":
        _backend(device).set_rng_state(states[device.type], *_which(device))


@contextmanager
def borrowed_generators(device: torch.device) -> Iterator[None]:
    """Restore the generators, when the context ends, to where they were when it began."""
    states = get_generators(device)
    try:
        yield
    finally:
        set_generators(states, device)


def _backend(device: torch.device) -> ModuleType | None:
    """Find torch's module of a device that has a generator of its own: torch.cuda, torch.mps."""
    return None if device.type == "cpu" else getattr(torch, device.type)


def _which(device: torch.device) -> tuple[torch.device, ...]:
    """Name the device where there can be several of its type."""
    return () if device.type == "mps" else (device,)
