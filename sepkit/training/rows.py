"""Rows of tensors that are spread over processes: cut along the first dimension, as `torch.chunk` cuts it."""

import math

import torch
from torch import Tensor

from sepkit.processes import Processes


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is torch's DTensor, of which this process has its rows."""
    return hasattr(tensor, "to_local")


def own_values(tensor: Tensor) -> Tensor:
    """Return the values of a tensor that are here: its rows, where it is sharded."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def own_rows(whole: Tensor, processes: Processes) -> Tensor:
    """Return the rows of a tensor that this process has, a view.

    Args:
        whole: (R, ...).
        processes: over which it is cut.
    """
    size = math.ceil(len(whole) / processes.world)
    return whole[processes.rank * size : (processes.rank + 1) * size]


def gather_rows(rows: Tensor, whole: Tensor, processes: Processes) -> Tensor:
    """Fill a tensor with the rows that all processes have, and return it.

    Args:
        rows: of this process.
        whole: (R, ...), is filled; it may be what `rows` is a view of.
        processes: over which it is cut.
    """
    size = math.ceil(len(whole) / processes.world)
    own = rows.new_zeros(size, *whole.shape[1:])
    own[: len(rows)] = rows
    parts = [torch.empty_like(own) for _ in range(processes.world)]
    torch.distributed.all_gather(parts, own)
    return whole.copy_(torch.cat(parts)[: len(whole)])


def gather_tensor(tensor: Tensor, processes: Processes) -> Tensor:
    """Return a sharded tensor whole; another one as it is.

    Args:
        tensor: (R, ...).
        processes: over which it is cut, all of which ask for it at the same time.
    """
    if not is_sharded(tensor):
        return tensor
    rows = tensor.detach().to_local()
    return gather_rows(rows, rows.new_empty(tensor.shape), processes)
