"""Constant: a table of a module, such as a window or a filter bank, that no change of precision rounds."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """Hold a table that moves with its module and is never rounded.

    Args:
        values: float64 or float32, any shape.
        persistent: whether it enters checkpoints.
    """

    values: Tensor

    def __init__(self, values: np.ndarray | Tensor, persistent: bool = False) -> None:
        super().__init__()
        copied = values.clone() if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
        self.register_buffer("values", copied, persistent=persistent)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Constant":  # noqa: ARG002
        device = fn(self.values.new_empty(0, dtype=torch.float32)).device
        if device.type == "mps" and self.values.dtype == torch.float64:
            self.values = self.values.float()
        self.values = self.values.to(device)
        return self

    def forward(self, like: Tensor) -> Tensor:
        """Return the table in the type and on the device of another tensor."""
        return self.values.to(like.dtype).to(like.device)
