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


def check_augmentations(augment: Sequence[Any], n_stems: int) -> None:
    """Refuse what cannot augment the stems of examples, as `sepkit.augment` says.

    Args:
        augment: augmentations, in order.
        n_stems: K.

    Raises:
        ValueError: one lacks a method, or draws no array for the stems, or not from its generator alone.
    """
    for step in augment:
        name = type(step).__name__
        if not callable(step) or not callable(getattr(step, "sample_parameters", None)):
            raise ValueError(
                f"{name} is no augmentation: it needs sample_parameters(generator, n_stems) and __call__(stems, "
                "parameters)"
            )
        drawn, again = (step.sample_parameters(np.random.default_rng(0), n_stems) for _ in range(2))
        for array in (drawn, again):
            if not isinstance(array, np.ndarray) or array.shape[:1] != (n_stems,) or array.dtype.kind not in "bifu":
                got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise ValueError(
                    f"{name}.sample_parameters must return an array of numbers whose first dimension is the {n_stems} "
                    f"stems, got {got}"
                )
        if not np.array_equal(drawn, again, equal_nan=True):
            raise ValueError(
                f"{name}.sample_parameters must draw from its generator alone, with equal ones it returned others: use "
                "generator.random() and the like"
            )
        if hasattr(step, "fold"):
            _check_folded(name, step.fold(drawn), n_stems)


def _check_folded(name: str, folded: Any, n_stems: int) -> None:
    right = isinstance(folded, tuple) and len(folded) == 2
    if not right or not all(each is None or np.shape(each) == (n_stems,) for each in folded):
        raise ValueError(
            f"{name}.fold must return the factors and the swapped stems, each ({n_stems},) or None, got "
            f"{tuple(map(np.shape, folded)) if right else type(folded).__name__}"
        )


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
