"""How the learning rate moves during training.

A schedule has two methods: `factor(progress)`, by which the learning rate is multiplied at a share of the
training, above 0 and below 1, and `observe(score)`, called with the score of each validation. Its attributes are its
state. One whose attribute `unit` is "steps" or "minutes" is asked at the step's number, from 1, or at the minutes of
training in place of the share; it stays where it is when a training is made longer.
"""

import math

from sepkit.arguments import is_number, is_whole

UNITS = ("training", "steps", "minutes")


class Constant:
    """Keep the learning rate after the warm-up.

    Args:
        warmup: in which the rate rises from 0, in `unit`; of a share, [0, 1).
        unit: "training" for shares of it, "steps" or "minutes".
    """

    def __init__(self, warmup: float = 0.0, unit: str = "training") -> None:
        if unit not in UNITS:
            raise ValueError(f"unit must be {', '.join(UNITS[:-1])} or {UNITS[-1]}, got {unit}")
        if not is_number(warmup) or not 0 <= warmup < (1 if unit == "training" else math.inf):
            bounds = "lie in [0, 1)" if unit == "training" else f"be a number of {unit} >= 0"
            raise ValueError(f"warmup must {bounds}, got {warmup}")
        self.warmup, self.unit = warmup, unit

    def factor(self, progress: float) -> float:
        """Return the factor at a place in the training, in the unit."""
        return _rise(progress, self.warmup)

    def observe(self, score: float) -> None:
        """Record a validation score, dB."""


class Cosine(Constant):
    """Reduce the learning rate along half a cosine, after which it stays.

    Args:
        warmup: in which the rate rises from 0, in `unit`; of a share, [0, 1).
        final: factor at the end, [0, 1].
        end: where it is reached, in `unit`, above `warmup`; None: at the end of the training.
        unit: "training" for shares of it, "steps" or "minutes".
    """

    def __init__(
        self, warmup: float = 0.0, final: float = 0.02, end: float | None = None, unit: str = "training"
    ) -> None:
        super().__init__(warmup, unit)
        _check_final(final)
        if end is None and unit != "training":
            raise ValueError(f"end must be given in {unit}: where the rate has fallen")
        end = 1.0 if end is None else end
        if not is_number(end) or not warmup < end < math.inf:
            raise ValueError(f"end must lie above warmup, {warmup}, got {end}")
        self.final, self.end = final, end

    def factor(self, progress: float) -> float:
        """Return the factor at a place in the training, in the unit."""
        if progress < self.warmup:
            return _rise(progress, self.warmup)
        return _fall((progress - self.warmup) / (self.end - self.warmup), self.final)


class WarmRestarts(Constant):
    """Reduce the learning rate along half a cosine again and again.

    Args:
        period: length of the first fall, in `unit`, > 0.
        growth: by which each fall is longer than the one before, >= 1.
        final: factor at the end of a fall, [0, 1].
        warmup: before the first fall, in which the rate rises from 0, in `unit`; of a share, [0, 1).
        unit: "training" for shares of it, "steps" or "minutes".

    Source:
        Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm restarts, 2017, eq. 5; T_i is `period`,
        T_mult is `growth`, and the warm-up is added.
    """

    def __init__(
        self, period: float, growth: float = 1.0, final: float = 0.02, warmup: float = 0.0, unit: str = "training"
    ) -> None:
        super().__init__(warmup, unit)
        _check_final(final)
        if not (is_number(period) and 0 < period < math.inf and is_number(growth) and 1 <= growth < math.inf):
            raise ValueError(f"period must be above 0 and growth at least 1, got {period} and {growth}")
        self.period, self.growth, self.final = period, growth, final

    def factor(self, progress: float) -> float:
        """Return the factor at a place in the training, in the unit."""
        if progress < self.warmup:
            return _rise(progress, self.warmup)
        place, length = progress - self.warmup, self.period
        if self.growth == 1:
            place %= length
        while place >= length:
            place, length = place - length, length * self.growth
        return _fall(place / length, self.final)


class Plateau(Constant):
    """Reduce the learning rate when the score stops rising.

    Args:
        decay: factor at each plateau, (0, 1).
        patience: validations without a better score that make a plateau, >= 1.
        warmup: in which the rate rises from 0, in `unit`; of a share, [0, 1).
        unit: "training" for shares of it, "steps" or "minutes".
    """

    def __init__(self, decay: float = 0.3, patience: int = 5, warmup: float = 0.0, unit: str = "training") -> None:
        super().__init__(warmup, unit)
        if not (is_number(decay) and 0 < decay < 1 and is_whole(patience) and patience >= 1):
            raise ValueError(f"decay must lie in (0, 1) and patience be at least 1, got {decay} and {patience}")
        self.decay, self.patience = decay, patience
        self.level, self.best, self.waited = 1.0, -math.inf, 0

    def factor(self, progress: float) -> float:
        """Return the factor at a place in the training, in the unit."""
        return self.level * _rise(progress, self.warmup)

    def observe(self, score: float) -> None:
        """Record a validation score, dB."""
        self.waited = 0 if score > self.best else self.waited + 1
        self.best = max(self.best, score)
        if self.waited >= self.patience:
            self.level, self.waited = self.level * self.decay, 0


def _rise(progress: float, warmup: float) -> float:
    return min(1.0, progress / warmup) if warmup else 1.0


def _fall(share: float, final: float) -> float:
    return final + (1 - final) * (1 + math.cos(math.pi * min(1.0, share))) / 2


def _check_final(final: float) -> None:
    if not is_number(final) or not 0 <= final <= 1:
        raise ValueError(f"final must lie in [0, 1], got {final}")
