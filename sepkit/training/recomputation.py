"""Recomputation: the inside of a network's blocks is computed again in the backward pass, instead of being kept."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sepkit.models._recurrence import LSTM
from sepkit.separator import Separator


def recompute_blocks(separator: Separator) -> int:
    """Set the blocks of a separator's network to keep their inputs alone for the backward pass; return their number.

    Args:
        separator: is changed in place; names and values of its weights stay.

    Raises:
        ValueError: its network declares no `blocks`, or holds none of them.
    """
    name, blocks = type(separator.network).__name__, outermost(separator.network, separator.facts.blocks)
    if not blocks:
        raise ValueError(
            f"training.recompute needs a network that declares its `blocks`, {name} has none: leave it out"
        )
    for block in blocks:
        if isinstance(block, LSTM) and "forward" not in vars(block):  # by which its own is replaced
            block.recomputes = True
        else:
            block.forward = partial(_recompute, block.forward)
    return len(blocks)


def outermost(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[nn.Module]:
    """List the parts of a module, itself included, of these types that are in no other such part."""
    if isinstance(module, kinds):
        return [module]
    return [found for part in module.children() for found in outermost(part, kinds)]


def _recompute(forward: Any, *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
