"""What processes that train together exchange: gradients in a step, the state of a run, the buffers of a network."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from sepkit.objective import Judgement
from sepkit.processes import Processes
from sepkit.training.plain_state import flatten, restore
from sepkit.training.rows import is_sharded

_BUCKET = 2**23  # values that are sent at once


def sum_gradients(processes: Processes, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Sum the gradients of all processes, in place, and return the sum of their losses.

    A parameter without a gradient in any of them stays without one, as optimizers treat it.

    Args:
        processes: each with its share of the batch.
        parameters: in the same order in all.
        loss: (), of the own share.
    """
    if processes.world == 1:
        return loss
    exchanged = loss.detach().clone()
    processes.all_sum(exchanged)
    for bucket in _split(each for each in parameters if not is_sharded(each)):  # which sum theirs backward
        _sum_bucket(processes, bucket)
    return exchanged


def _split(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Split parameters into groups of one type and device, of about as many values."""
    buckets: list[list[nn.Parameter]] = []
    kind, size = None, 0
    for parameter in parameters:
        if (parameter.dtype, parameter.device) != kind or size + parameter.numel() > _BUCKET:
            kind, size = (parameter.dtype, parameter.device), 0
            buckets.append([])
        buckets[-1].append(parameter)
        size += parameter.numel()
    return buckets


def _sum_bucket(processes: Processes, parameters: Sequence[nn.Parameter]) -> None:
    """Sum the gradients of a few parameters, and in how many processes each has one, at once."""
    absent = [parameter.grad is None for parameter in parameters]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    values = [torch.view_as_real(grad) if grad.is_complex() else grad for grad in grads]
    real = values[0].dtype
    counts = torch.tensor([not missing for missing in absent], dtype=real).to(values[0].device)
    flat = torch.cat([*(value.detach().reshape(-1) for value in values), counts])
    processes.all_sum(flat)
    *summed, counts = flat.split([*(value.numel() for value in values), len(parameters)])
    found = counts.tolist() if any(absent) or _is_cheap(flat) else [1.0] * len(absent)
    for parameter, value, grad, total, count in zip(parameters, values, grads, summed, found, strict=True):
        if count:
            value.copy_(total.view_as(value))
            parameter.grad = grad


def _is_cheap(values: Tensor) -> bool:
    """Return whether numbers can be read without a wait for a device."""
    return values.device.type == "cpu"


def sum_judgement(processes: Processes, judged: Judgement) -> Judgement:
    """Add up what the processes found in their shares of a batch."""
    if processes.world == 1:
        return judged
    plain = Judgement({name: float(total) for name, total in judged.sums.items()}, judged.counts)
    shares = processes.gather([plain])
    names = dict.fromkeys(name for share in shares for name in share.sums)
    sums = {name: torch.tensor(sum(share.sums.get(name, 0.0) for share in shares)) for name in names}
    return Judgement(sums, {name: sum(share.counts.get(name, 0) for share in shares) for name in names})


def share_state(processes: Processes, state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Send the state of a run to all processes.

    Args:
        processes: of which the main one has read it.
        state: what it read; None in the others, and where there is none.
    """
    if processes.world == 1:
        return state
    document, tensors = (None, {}) if state is None else flatten(state)
    facts = [(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()]
    document, facts = processes.broadcast((document, facts))
    if document is None:
        return None
    held = {n: tensors[n].contiguous() if n in tensors else torch.empty(s, dtype=d) for n, d, s in facts}
    bytewise = [tensor.view(-1).view(torch.uint8) for tensor in held.values() if tensor.numel()]
    processes.broadcast_tensors(bytewise)
    return restore(document, held)


def share_weights(processes: Processes, *modules: nn.Module) -> None:
    """Set the states of modules, in place, to those of the main process."""
    if processes.world > 1:
        processes.broadcast_tensors(_list_state(modules))


def share_buffers(processes: Processes, modules: Iterable[nn.Module]) -> None:
    """Set what modules have measured, in place, to what those of the main process have."""
    if processes.world > 1:
        processes.broadcast_tensors(v for v in _list_state(modules) if not isinstance(v, nn.Parameter))


def _list_state(modules: Iterable[nn.Module]) -> list[Tensor]:
    """List what is saved of modules; tables that are not may differ between processes."""
    states = [module.state_dict(keep_vars=True).values() for module in modules]
    return [value for state in states for value in state if isinstance(value, Tensor)]


def list_batch_statistics(module: nn.Module) -> list[str]:
    """List the parts of a network that look at the other items of a batch, by name."""
    return [
        name
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) and not isinstance(part, SyncBatchNorm) and part.training
    ]
