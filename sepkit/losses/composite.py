"""The base of losses that are made of several terms."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from sepkit.losses._numeric import full_precision, reduce


class CompositeLoss(nn.Module):
    """Add up several terms, and return each one by name, too.

    A subclass sets `reduction` (mean, sum or none) and has `terms(...)`, whose arguments name the quantities that it
    compares. It returns the weighted terms by name: a value for each item, or a scalar. `forward` and `parts` take
    what `terms` takes.
    """

    reduction: str

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "terms" in vars(cls):
            for name in {"forward", "parts"} - set(vars(cls)):
                setattr(cls, name, _with_arguments_of(cls.terms, getattr(cls, name)))

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the weighted terms by name, before they are reduced."""
        raise NotImplementedError(f"{type(self).__name__} must have terms(...), which returns its weighted terms")

    @full_precision
    def parts(self, *quantities: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms by name, each reduced like the loss; they add up to it."""
        return {name: reduce(term, self.reduction) for name, term in self.terms(*quantities, **named).items()}

    @full_precision
    def forward(self, *quantities: Tensor, **named: Tensor) -> Tensor:
        """Compare; returns a scalar, or one value per item for reduction none."""
        first, *others = self.terms(*quantities, **named).values()
        return reduce(sum(others, first), self.reduction)


def _with_arguments_of(terms: Callable, method: Callable) -> Callable:
    """Wrap a method so that it shows the arguments of `terms`, by whose names an objective feeds a loss."""

    @functools.wraps(method)
    def shown(self: CompositeLoss, *quantities: Tensor, **named: Tensor) -> Any:
        return method(self, *quantities, **named)

    shown.__signature__ = inspect.signature(terms).replace(
        return_annotation=inspect.signature(method).return_annotation
    )
    return shown
