"""Averaged weights, which are validated and saved where a recipe asks for them."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sepkit.training.rows import own_values


class WeightAverage:
    """An exponential moving average of the weights of a module.

    It warms up: after n steps the decay is at most (1 + n) / (10 + n), so that the first weights are soon forgotten.

    Args:
        module: whose weights are averaged.
        decay: (0, 1).

    Attributes:
        averaged: a copy of the module with the averaged weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.averaged = module, decay, copy.deepcopy(module)
        self._own: list[Tensor] | None = None  # rows of weights that are kept here; None: all of them
        self._gather: Callable[[Tensor, Tensor], object] | None = None

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights of the module after a step, counted from 0, and copy its buffers."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = list(self.averaged.parameters()) if self._own is None else self._own
        if weights:
            torch._foreach_lerp_(weights, [own_values(weight) for weight in self.module.parameters()], 1 - decay)
        buffers = dict(self.averaged.named_buffers())
        for name, new in self.module.named_buffers():
            own = buffers.get(name)  # tables that a network makes when it first runs, or lengthens, it makes again
            if own is not None and own.shape == new.shape:
                own.copy_(new)

    def reset(self) -> None:
        """Start from the weights that the module has now."""
        self.averaged.load_state_dict(self.module.state_dict())

    @torch.no_grad()
    def shard(self, cut: Callable[[Tensor], Tensor], gather: Callable[[Tensor, Tensor], object]) -> None:
        """Move the rows alone that this process has, since the module is sharded from now on.

        Args:
            cut: returns the own rows of a weight, a view.
            gather: fills a weight with the rows of all processes, given the own ones and the weight.
        """
        self._own, self._gather = [cut(weight) for weight in self.averaged.parameters()], gather

    @torch.no_grad()
    def complete(self) -> None:
        """Fill the averaged weights with the rows of all processes, which do so at the same time."""
        for rows, weight in zip(self._own or (), self.averaged.parameters(), strict=self._own is not None):
            self._gather(rows, weight)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights."""
        self.complete()
        return self.averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore averaged weights."""
        self.averaged.load_state_dict(state)


class WeightAverages:
    """Averages of several decays, of which one is validated best.

    Args:
        module: whose weights are averaged.
        decays: (0, 1) each.

    Attributes:
        averages: by the decay as text.
        best: the key of the one that is saved.
    """

    def __init__(self, module: nn.Module, decays: Sequence[float]) -> None:
        self.averages = {str(decay): WeightAverage(module, decay) for decay in decays}
        self.best = next(iter(self.averages))

    @property
    def averaged(self) -> nn.Module:
        """Return the copy of the module with the best averaged weights."""
        return self.averages[self.best].averaged

    def update(self, step: int) -> None:
        """Move the averages as `WeightAverage` does."""
        for average in self.averages.values():
            average.update(step)

    def reset(self) -> None:
        """Start from the weights that the module has now."""
        for average in self.averages.values():
            average.reset()

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights by decay, and which are the best."""
        return {"best": self.best, "averages": {name: each.state_dict() for name, each in self.averages.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore averaged weights."""
        self.best = state["best"]
        for name, average in self.averages.items():
            average.load_state_dict(state["averages"][name])


def make_average(module: nn.Module, ema: float | Sequence[float] | None) -> WeightAverage | WeightAverages | None:
    """Make what averages the weights of a module.

    Args:
        module: whose weights are averaged.
        ema: a decay, several, or None for no averaging.
    """
    if ema is None:
        return None
    return WeightAverage(module, ema) if isinstance(ema, float | int) else WeightAverages(module, ema)


def list_averaged(ema: WeightAverage | WeightAverages | None) -> list[nn.Module]:
    """List the copies of a module that have averaged weights."""
    if ema is None:
        return []
    return [ema.averaged] if isinstance(ema, WeightAverage) else [each.averaged for each in ema.averages.values()]
