"""Optimizers of a recipe: the fastest form of torch's own, and what others keep, tried before a training begins."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from sepkit.instantiate import instantiate, resolve_class

_FORMS = ("fused", "foreach", "capturable", "differentiable")  # arguments that choose how an optimizer computes


def make_optimizer(
    config: Mapping[str, Any], parameters: Iterable[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """Build an optimizer; on CUDA the fused form where the class has one and the recipe chooses none.

    Args:
        config: class mapping, from torch.optim.
        parameters: that it moves.
        device: where they lie.
    """
    known = inspect.signature(resolve_class(config["class"], "torch.optim")).parameters
    fused = device.type == "cuda" and "fused" in known and not any(config.get(form) is not None for form in _FORMS)
    return instantiate({**config, **({"fused": True} if fused else {})}, "torch.optim", {"params": parameters})


def try_optimizer(config: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return the state that an optimizer has after a step of one small matrix; none of torch's own, which is plain.

    Args:
        config: class mapping.
        device: where it steps.
    """
    weight = nn.Parameter(torch.zeros(64, 64, device=device))
    optimizer = make_optimizer(config, [weight], device)
    if type(optimizer).__module__.startswith("torch.optim."):
        return {}
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    return optimizer.state_dict()
