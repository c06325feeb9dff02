"""LSTM that keeps the inside of no more than its last layer for the backward pass, in training on x86 CPUs."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sepkit.models._products import multiplies


class LSTM(nn.LSTM):
    """Compute what `torch.nn.LSTM` does, bit by bit; in training by oneDNN in a third of the memory.

    What oneDNN keeps of a layer for its gradients takes ten times the memory of the layer's output. It is kept of the
    last layer alone, whose gradients come first; the others are run again in the backward pass, one at a time, which
    makes the recurrence a fifth slower.

    Attributes:
        recomputes: whether the last layer is run again, too.
    """

    recomputes = False

    def forward(self, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Run over (B, N, D), or (N, B, D), as torch's own class; layer by layer, it returns None as the state."""
        if not torch.is_grad_enabled() or state is not None:
            return super().forward(features, state)
        if multiplies(features) and features.dim() == 3 and not self.proj_size:
            self._update_flat_weights()  # as torch does: functional_call, for one, puts others in their place
            self.check_input(features, None)  # oneDNN reads past the end of what is too narrow
            return self._run_layers(features), None
        if self.recomputes:
            return checkpoint(super().forward, features, use_reentrant=False)
        return super().forward(features)

    def _run_layers(self, features: Tensor) -> Tensor:
        features = features.transpose(0, 1) if self.batch_first else features  # in this order torch drops features
        for layer, weights in enumerate(self._weights_by_layer()):
            if layer and self.dropout:
                features = F.dropout(features, self.dropout, self.training)
            if layer < self.num_layers - 1 or self.recomputes:
                features = checkpoint(self._run, features, weights, use_reentrant=False, preserve_rng_state=False)
            else:
                features = self._run(features, weights)
        return features.transpose(0, 1) if self.batch_first else features

    def _weights_by_layer(self) -> Iterator[list[Tensor]]:
        n_each = len(self._flat_weights) // self.num_layers
        for first in range(0, len(self._flat_weights), n_each):
            yield self._flat_weights[first : first + n_each]

    def _run(self, features: Tensor, weights: list[Tensor]) -> Tensor:
        """Run a layer over (N, B, D)."""
        n_directions = 2 if self.bidirectional else 1
        silent = features.new_zeros(n_directions, features.shape[1], self.hidden_size)
        state = (silent, silent)
        return torch.lstm(features, state, weights, self.bias, 1, 0.0, self.training, self.bidirectional, False)[0]
