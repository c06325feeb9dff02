"""How the learning rate moves during training.

A schedule has two methods: `factor(progress)`, by which the learning rate is multiplied at a share of the
training, above 0 and below 1, and `observe(score)`, called with the score of each validation. Its attributes are its
state.
"""

import math

from sepkit.arguments import is_number, is_whole


class Constant:
    """Keep the learning rate after the warm-up.

    Args:
        warmup: share of the training in which the rate rises from 0, [0, 1).
    """

    def __init__(self, warmup: float = 0.0) -> None:
        if not is_number(warmup) or not 0 <= warmup < 1:
            raise ValueError(f"warmup must lie in [0, 1), got {warmup}")
        self.warmup = warmup

    def factor(self, progress: float) -> float:
        """Return the factor at a share of the training, [0, 1]."""
        return _rise(progress, self.warmup)

    def observe(self, score: float) -> None:
        """Record a validation score, dB."""


class Cosine(Constant):
    """Reduce the learning rate along half a cosine.

    Args:
        warmup: share of the training in which the rate rises from 0, [0, 1).
        final: factor at the end, [0, 1].
    """

    def __init__(self, warmup: float = 0.0, final: float = 0.02) -> None:
        super().__init__(warmup)
        if not is_number(final) or not 0 <= final <= 1:
            raise ValueError(f"final must lie in [0, 1], got {final}")
        self.final = final

    def factor(self, progress: float) -> float:
        """Return the factor at a share of the training, [0, 1]."""
        if progress < self.warmup:
            return _rise(progress, self.warmup)
        fallen = min(1.0, (progress - self.warmup) / (1 - self.warmup))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * fallen)) / 2


class Plateau(Constant):
    """Reduce the learning rate when the score stops rising.

    Args:
        decay: factor at each plateau, (0, 1).
        patience: validations without a better score that make a plateau, >= 1.
        warmup: share of the training in which the rate rises from 0, [0, 1).
    """

    def __init__(self, decay: float = 0.3, patience: int = 5, warmup: float = 0.0) -> None:
        super().__init__(warmup)
        if not (is_number(decay) and 0 < decay < 1 and is_whole(patience) and patience >= 1):
            raise ValueError(f"decay must lie in (0, 1) and patience be at least 1, got {decay} and {patience}")
        self.decay, self.patience = decay, patience
        self.level, self.best, self.waited = 1.0, -math.inf, 0

    def factor(self, progress: float) -> float:
        """Return the factor at a share of the training, [0, 1]."""
        return self.level * _rise(progress, self.warmup)

    def observe(self, score: float) -> None:
        """Record a validation score, dB."""
        self.waited = 0 if score > self.best else self.waited + 1
        self.best = max(self.best, score)
        if self.waited >= self.patience:
            self.level, self.waited = self.level * self.decay, 0


def _rise(progress: float, warmup: float) -> float:
    return min(1.0, progress / warmup) if warmup else 1.0
