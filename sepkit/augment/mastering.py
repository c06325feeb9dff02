"""What mastering does to a mixture, done to its stems: each gets the gain that the mixture gets at that moment."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sepkit.arguments import check_range, check_waveform, is_number
from sepkit.augment._arguments import check_probability, check_span, draw_choice, draw_factors

_RELEASED = 6.0  # dB, in the time that is called release
_SMALL = 1e-3  # where tanh(u) / u is 1 to the last digit of float32


def _check_ceiling(ceiling_db: float) -> float:
    """Return the factor of a ceiling in dB."""
    if not is_number(ceiling_db) or math.isinf(ceiling_db):
        raise ValueError(f"ceiling_db must be a finite number, got {ceiling_db}")
    return 10 ** (ceiling_db / 20)


def _draw_drive(
    generator: np.random.Generator, span_db: tuple[float, float], probability: float, n_stems: int
) -> np.ndarray:
    """Draw the factor before the limit (K,), one for all stems; 0 where nothing is changed."""
    factor = draw_factors(generator, span_db, 1)
    return np.repeat(factor * draw_choice(generator, probability, 1), n_stems)


def _limit(stems: Tensor, parameters: Tensor, find_gain: Callable[[Tensor], Tensor]) -> Tensor:
    """Scale the stems (..., K, C, T) by factors (..., K), then by the gain (..., 1 or C, T) that their sum needs."""
    check_waveform(stems, "stems", "(..., K, C, T)")
    if not parameters.any():
        return stems
    drive = parameters[..., :1, None].to(stems, non_blocking=True)  # (..., 1, 1)
    gain = drive * find_gain(stems.sum(-3) * drive)
    return stems * torch.where(drive > 0, gain, 1.0).unsqueeze(-3)


class Limiter:
    """Make some examples louder, as a limiter does: their sum is held below a ceiling by a gain that moves.

    The gain falls within `attack` ahead of a peak and rises again linearly in decibels. It is the same for both
    channels and all stems, so that the mixture remains the sum of its stems.

    Args:
        sample_rate: Hz; a recipe's separator gives it.
        low_db: least gain before the limit, dB.
        high_db: greatest gain, dB.
        ceiling_db: which no sample of the mixture exceeds, dB.
        attack: s, > 0.
        release: in which the gain rises by 6 dB, s, > 0.
        probability: of a changed example, [0, 1].

    Source:
        C.-B. Jeon, K. Lee, Towards robust music source separation on loud commercial music, 2022: a limiter within
        training, and stems that get the ratio of the limited mixture to that before, as in musdb-XL; here by a gain
        drawn before the limit, instead of a loudness to reach.
    """

    def __init__(
        self,
        sample_rate: int,
        low_db: float = 0.0,
        high_db: float = 12.0,
        ceiling_db: float = -0.3,
        attack: float = 0.002,
        release: float = 0.1,
        probability: float = 0.5,
    ) -> None:
        self.low_db, self.high_db = check_span(low_db, high_db)
        self.ceiling, self.probability = _check_ceiling(ceiling_db), check_probability(probability)
        check_range("sample_rate", sample_rate, 0, above=True)
        check_range("attack", attack, 0, 1, above=True)
        check_range("release", release, 0, 100, above=True)
        self.sample_rate, self.attack, self.release = sample_rate, attack, release

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw the factor before the limit (K,), one for all stems; 0 where nothing is changed."""
        return _draw_drive(generator, (self.low_db, self.high_db), self.probability, n_stems)

    @torch.no_grad()
    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Limit the sum of the stems (..., K, C, T) after factors (..., K), by gains that all stems get."""
        return _limit(stems, parameters, self._find_gain)

    def _find_gain(self, mixture: Tensor) -> Tensor:
        """Return the gain (..., 1, T) that holds a mixture (..., C, T) below the ceiling."""
        n_samples, size = mixture.shape[-1], max(1, round(self.attack * self.sample_rate))
        peaks = F.pad(mixture.abs().amax(-2), (0, -n_samples % size)).unflatten(-1, (-1, size)).amax(-1)  # (..., N)
        reductions = 20 * (peaks.float() / self.ceiling).clamp_min(1).log10()  # dB
        # In a straight line down from each: max over s <= n of r(s) - slope (n - s).
        falls = torch.arange(peaks.shape[-1], device=peaks.device) * (
            _RELEASED * size / self.sample_rate / self.release
        )
        reductions = (reductions + falls).cummax(-1).values - falls
        gains = 10 ** (-F.pad(reductions, (1, 1)) / 20)
        # Between blocks the smaller gain of both, within them a straight line: nowhere above what the block needs.
        corners = torch.minimum(gains[..., 1:], gains[..., :-1]).to(mixture)
        ramp = torch.arange(size, device=mixture.device) / size
        lines = torch.lerp(corners[..., :-1, None], corners[..., 1:, None], ramp.to(mixture))  # (..., N, size)
        return lines.flatten(-2)[..., None, :n_samples]


class SoftClip:
    """Make some examples louder and bend their peaks: the mixture m becomes c tanh(m / c) for the ceiling c.

    At each sample all stems get the gain that the mixture gets there, so that it remains their sum. What that adds to a
    stem depends on the others, as in a mastered recording's.

    Args:
        low_db: least gain before the curve, dB.
        high_db: greatest gain, dB.
        ceiling_db: towards which samples of the mixture are bent, dB.
        probability: of a changed example, [0, 1].

    Source:
        As `Limiter`, of a curve without memory, which is not oversampled.
    """

    def __init__(
        self, low_db: float = 0.0, high_db: float = 6.0, ceiling_db: float = 0.0, probability: float = 0.5
    ) -> None:
        self.low_db, self.high_db = check_span(low_db, high_db)
        self.ceiling, self.probability = _check_ceiling(ceiling_db), check_probability(probability)

    sample_parameters = Limiter.sample_parameters
    __call__ = Limiter.__call__  # by the gain that is found below

    def _find_gain(self, mixture: Tensor) -> Tensor:
        """Return the gain (..., C, T) that bends a mixture (..., C, T)."""
        level = mixture / self.ceiling
        is_small = level.abs() < _SMALL
        return torch.where(is_small, 1.0, level.tanh() / torch.where(is_small, 1.0, level))
