"""What turns the last layer's values into masks."""

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax_with_rest(logits: Tensor) -> Tensor:
    """Share (B, S, ...) among the sources and a rest whose logit is 0."""
    return torch.softmax(F.pad(logits.movedim(1, -1), (0, 1)), -1)[..., :-1].movedim(-1, 1)
