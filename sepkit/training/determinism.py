"""Algorithms that give the same bits each time, where a recipe asks for them."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sepkit.training.signals import TrainingError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REPEATABLE = (":4096:8", ":16:8")  # by which cuBLAS, and the recurrences of cuDNN, repeat their sums
_REFUSED = re.compile(r"(\S+) does not have a deterministic implementation")


@contextmanager
def deterministic_algorithms(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """Limit torch to algorithms that repeat their results bit by bit, while the context lasts.

    The variable by which cuBLAS does so stays set, since it is read once in a process.

    Args:
        device: where is computed.
        wanted: False: everything stays as it is.

    Raises:
        ValueError: cuBLAS was set up otherwise before.
        TrainingError: an operation has no such algorithm.
    """
    if not wanted:
        yield
        return
    if device.type == "cuda":
        _set_workspace()
    former = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    chosen_by_time = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if not (refused := _REFUSED.search(str(error))):
            raise
        raise TrainingError(
            f"training.deterministic needs operations that repeat their results, and torch has no such {refused[1]} "
            f"on {device}: choose a network, loss or augmentation without it, or leave training.deterministic out"
        ) from error
    finally:
        torch.backends.cudnn.benchmark = chosen_by_time
        torch.use_deterministic_algorithms(former[0], warn_only=former[1])


def _set_workspace() -> None:
    """Set how cuBLAS works, unless it is set; too late where CUDA is in use."""
    found = os.environ.get(_WORKSPACE)
    if found in _REPEATABLE:
        return
    if found is not None or torch.cuda.is_initialized():
        state = f"{_WORKSPACE}={found}" if found is not None else "CUDA is in use without it"
        raise ValueError(
            f"training.deterministic needs {_WORKSPACE}={_REPEATABLE[0]} in the environment before CUDA is first used, "
            f"but {state}: set it before Python starts"
        )
    os.environ[_WORKSPACE] = _REPEATABLE[0]
