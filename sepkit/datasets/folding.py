"""Augmentations that cost no pass of their own: what scales stems and swaps channels happens while they are read."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Folded(NamedTuple):
    """What the leading augmentations do to the stems, all in one.

    Attributes:
        factors: (K,), of each stem.
        swapped: bool (K,), whether the channels of each stem are reversed.
    """

    factors: np.ndarray
    swapped: np.ndarray


def count_folded(augment: Sequence[Any]) -> int:
    """Count the leading augmentations that have `fold`, and so only scale stems and reverse their channels.

    `fold(parameters)` returns the factors (K,) and the swapped stems (K,), either None where it changes nothing of
    the kind.

    Args:
        augment: augmentations, in order.
    """
    return next((n for n, step in enumerate(augment) if not hasattr(step, "fold")), len(augment))


def fold(augment: Sequence[Any], parameters: Sequence[np.ndarray], n_stems: int) -> Folded:
    """Join augmentations that have `fold`.

    Args:
        augment: augmentations, in order.
        parameters: of each.
        n_stems: K.
    """
    factors, swapped = np.ones(n_stems), np.zeros(n_stems, dtype=bool)
    for step, drawn in zip(augment, parameters, strict=True):
        scaled, reversed_ = step.fold(drawn)
        if scaled is not None:
            factors = factors * np.asarray(scaled, dtype=np.float64)
        if reversed_ is not None:
            swapped = swapped ^ np.asarray(reversed_, dtype=bool)
    return Folded(factors, swapped)
