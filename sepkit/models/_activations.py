"""What turns the last layer's values into masks."""

import torch
from torch import Tensor


def softmax_with_rest(logits: Tensor, dim: int = 1) -> Tensor:
    """Share (B, S, ...), or with the sources in dimension `dim`, among the sources and a rest whose logit is 0."""
    rest = torch.zeros_like(logits.narrow(dim, 0, 1))
    return torch.softmax(torch.cat([logits, rest], dim), dim).narrow(dim, 0, logits.shape[dim])
