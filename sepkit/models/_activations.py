"""What turns the last layer's values into masks."""

import torch
from torch import Tensor


def softmax_with_residual(logits: Tensor, dim: int = 1) -> Tensor:
    """Divide (B, S, ...), or with the sources in dimension `dim`, among the sources and a residual whose logit is 0."""
    residual = torch.zeros_like(logits.narrow(dim, 0, 1))
    return torch.softmax(torch.cat([logits, residual], dim), dim).narrow(dim, 0, logits.shape[dim])
