"""Permutation-invariant training: sources whose order is unknown are compared in the order that fits best."""

import inspect
from itertools import permutations

import numpy as np
import torch
from torch import Tensor, nn

from sepkit.losses._check import check_reduction, check_same_shape
from sepkit.losses._numeric import full_precision, item_mean, reduce

_ENUMERATED = 3
_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _best_order(costs: Tensor) -> Tensor:
    """Find for each item (B, S, S), estimate by target, the target of each estimate: (B, S)."""
    n_sources = costs.shape[1]
    if n_sources > _ENUMERATED:
        from scipy.optimize import linear_sum_assignment  # 0.2 s, and it works on the CPU only

        found = [linear_sum_assignment(_finite(cost))[1].tolist() for cost in costs.double().cpu().numpy()]
        return torch.tensor(found, device=costs.device)
    orders = torch.tensor(list(permutations(range(n_sources))), device=costs.device)  # (P, S)
    totals = costs[:, torch.arange(n_sources, device=costs.device), orders].sum(2)  # (B, P)
    return orders[totals.argmin(1)]


def _finite(cost: np.ndarray) -> np.ndarray:
    """Make costs (S, S) finite: what is no number costs least, so that it is chosen and handed on."""
    known = np.abs(cost[np.isfinite(cost)]).max(initial=0.0)
    beyond = 2.0 * len(cost) * known + 1.0
    return np.nan_to_num(cost, nan=-beyond, posinf=beyond, neginf=-beyond)


def _check_alone(loss: nn.Module) -> None:
    """Refuse a loss that does not compare two tensors, each item by itself."""
    parameters = inspect.signature(loss.forward).parameters.values()
    needed = [each.name for each in parameters if each.default is each.empty and each.kind not in _ANY_NUMBER]
    if len(needed) > 2:
        found = f"{type(loss).__name__}, which takes {', '.join(needed)}"
        raise ValueError(f"loss must be one that compares two tensors, got {found}: choose another")
    for module in loss.modules():
        if getattr(module, "sc_reduction", None) == "batch" and module.weights["spectral_convergence"]:
            raise ValueError(
                f'{type(module).__name__} must judge each item alone, got sc_reduction "batch", with which the order '
                'of one depends on the others: build it with sc_reduction="item"'
            )


class PermutationInvariantLoss(nn.Module):
    """Compare sources by another loss in the order that costs least, item by item.

    Up to three sources all orders are tried; beyond, the Hungarian algorithm finds the best on the CPU.

    Args:
        loss: a loss of two tensors, built with `reduction="none"`, and with `sc_reduction="item"` where it pools its
            batch otherwise.
        reduction: mean, sum or none, over items, of the mean over sources.

    Source:
        M. Kolbaek, D. Yu, Z. Tan, J. Jensen, Multitalker speech separation with utterance-level permutation
        invariant training, 2017.
    """

    # An objective must not hand over sources one by one.
    all_sources = True

    def __init__(self, loss: nn.Module, reduction: str = "mean") -> None:
        super().__init__()
        if not isinstance(loss, nn.Module) or getattr(loss, "reduction", None) != "none":
            raise ValueError(f'loss must be a loss object built with reduction="none", got {loss!r}')
        _check_alone(loss)
        check_reduction(reduction)
        self.loss, self.reduction = loss, reduction

    @full_precision
    def _costs(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare every estimate with every target: (B, S, S)."""
        check_same_shape(3, "(B, S, ...)", estimate=estimate, target=target)
        n_items, n_sources = estimate.shape[:2]
        shape = (n_items, n_sources, n_sources, *estimate.shape[2:])
        pairs = (estimate.unsqueeze(2).expand(shape), target.unsqueeze(1).expand(shape))
        return item_mean(self.loss(*(pair.flatten(0, 2) for pair in pairs))).view(shape[:3])

    def order(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Find which target each estimate is compared with: (B, S), numbers of targets."""
        with torch.no_grad():
            return _best_order(self._costs(estimate, target))

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Compare (B, S, ...), whatever `loss` compares from the third dimension on.

        Returns:
            A scalar, or (B,) for reduction none.
        """
        costs = self._costs(estimate, target)
        chosen = costs.gather(2, _best_order(costs.detach()).unsqueeze(2)).squeeze(2)
        return reduce(chosen.mean(1), self.reduction)
