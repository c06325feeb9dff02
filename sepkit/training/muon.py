"""Muon for a whole network: torch's for its matrices, AdamW for all else."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Make the steps of matrices orthogonal, and move all other weights by AdamW, at one rate.

    A recipe names it `{class: sepkit.training.muon.Muon, lr: 4.0e-3}`.

    Args:
        params: weights; those of two dimensions are matrices.
        lr: of both; the steps of matrices are scaled to the size that AdamW's have.
        momentum: of matrices, in [0, 1).
        weight_decay: of both, >= 0.

    Raises:
        ValueError: this torch has no Muon, as those before 2.9, or a number is out of its range.

    Source:
        K. Jordan, Muon: an optimizer for hidden layers in neural networks, 2024, as `torch.optim.Muon` has it; the size
        of steps is that of J. Liu et al., Muon is scalable for LLM training, 2025. Here the first and the last layer
        are matrices like others.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"Muon must be computed by torch 2.9 or later, got {torch.__version__}: choose AdamW")
        if not 0 <= momentum < 1:  # of which torch checks the lower bound alone, and that only where there is a matrix
            raise ValueError(f"momentum must be in [0, 1), got {momentum:g}")
        params, both = list(params), {"lr": lr, "weight_decay": weight_decay}
        matrices = [weight for weight in params if weight.dim() == 2]
        others = [weight for weight in params if weight.dim() != 2]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            self._parts.append(torch.optim.Muon(matrices, momentum=momentum, adjust_lr_fn="match_rms_adamw", **both))
        if others:
            self._parts.append(torch.optim.AdamW(others, **both))
        super().__init__([group for part in self._parts for group in part.param_groups], both)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the optimizer is made of."""
        return {**super().__getstate__(), "_parts": self._parts}

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Move all weights that have a gradient.

        Args:
            closure: computes gradients before, and returns their loss.

        Returns:
            The loss of the closure; None without one.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state  # which are others after a state is loaded
            part.step()
        return loss
