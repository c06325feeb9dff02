"""Checks of what augmentations are made with."""

import math

import numpy as np

from sepkit.arguments import is_number


def check_probability(probability: float) -> float:
    """Return a probability.

    Raises:
        ValueError: it is no number in [0, 1].
    """
    if not is_number(probability) or not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    return probability


def check_span(low_db: float, high_db: float) -> tuple[float, float]:
    """Return bounds in decibels.

    Raises:
        ValueError: they are no finite numbers in order.
    """
    if not all(map(is_number, (low_db, high_db))) or not -math.inf < low_db <= high_db < math.inf:
        raise ValueError(f"low_db must not exceed high_db, got {low_db} and {high_db}")
    return low_db, high_db


def draw_factors(generator: np.random.Generator, span_db: tuple[float, float], size: int | tuple) -> np.ndarray:
    """Draw factors uniformly in decibels."""
    return 10 ** (generator.uniform(*span_db, size) / 20)


def draw_choice(generator: np.random.Generator, probability: float, size: int | tuple) -> np.ndarray:
    """Draw where something is done, bool."""
    return generator.random(size) < probability
