"""Checks of what several augmentations are made with."""

from sepkit.arguments import is_number


def check_probability(probability: float) -> float:
    """Return a probability.

    Raises:
        ValueError: it is no number in [0, 1].
    """
    if not is_number(probability) or not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    return probability
