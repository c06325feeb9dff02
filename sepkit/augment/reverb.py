"""Rooms."""

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import check_range, check_waveform
from sepkit.augment._arguments import check_probability, check_span, draw_choice, draw_factors
from sepkit.augment._filtering import filter_chosen

_SEEDS = 1 << 24  # up to which float32 holds whole numbers


class Reverb:
    """Put some stems into a short reverb of noise that dies away, another in each channel.

    A stem becomes as it would have been recorded there, so that its target has the reverb, too. The energy of noise is
    kept.

    Args:
        sample_rate: Hz; a recipe's separator gives it.
        low: least time in which the reverb falls by 60 dB, s, > 0.
        high: greatest time, s.
        low_db: least level of the reverb below a stem's, dB.
        high_db: greatest level, dB.
        delay: after which it begins, s, >= 0.
        probability: of a changed stem, [0, 1].

    Source:
        J. A. Moorer, About this reverberation business, 1979: white noise under an exponential envelope; the same
        envelope at all frequencies.
    """

    def __init__(
        self,
        sample_rate: int,
        low: float = 0.1,
        high: float = 0.4,
        low_db: float = -20.0,
        high_db: float = -8.0,
        delay: float = 0.005,
        probability: float = 0.3,
    ) -> None:
        check_range("sample_rate", sample_rate, 0, above=True)
        check_range("low", low, 0, above=True)
        check_range("high", high, low, 10)
        check_range("delay", delay, 0, 1)
        self.sample_rate, self.low, self.high, self.delay = sample_rate, low, high, delay
        self.low_db, self.high_db = check_span(low_db, high_db)
        self.probability = check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw the noise's seed, the time in s and the factor of the reverb (K, 3), 0 where there is none."""
        seeds = generator.integers(_SEEDS, size=n_stems)
        times = np.exp(generator.uniform(np.log(self.low), np.log(self.high), n_stems))
        factors = draw_factors(generator, (self.low_db, self.high_db), n_stems)
        return np.stack([seeds, times, factors * draw_choice(generator, self.probability, n_stems)], 1)

    @torch.no_grad()
    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Put the stems (..., K, C, T) into reverbs of parameters (..., K, 3)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        rows, n_channels = parameters.reshape(-1, 3).tolist(), stems.shape[-2]
        chosen = [factor != 0 for _, _, factor in rows]

        def kernels(places: list[int]) -> Tensor:
            return torch.from_numpy(np.stack([self._kernel(n_channels, *rows[place]) for place in places]))

        return filter_chosen(stems, chosen, kernels)

    def _kernel(self, n_channels: int, seed: float, time: float, factor: float) -> np.ndarray:
        """Make an impulse response (C, L), of the greatest time's length."""
        first = 1 + round(self.delay * self.sample_rate)
        length = first + max(1, round(self.high * self.sample_rate))
        noise = np.random.default_rng(int(seed)).standard_normal((n_channels, length), np.float32)
        noise *= 10 ** (-3 * np.arange(-first, length - first, dtype=np.float32) / (time * self.sample_rate))
        noise[:, :first] = 0
        noise *= factor / np.linalg.norm(noise, axis=1, keepdims=True)
        noise[:, 0] = 1
        return noise / (1 + factor**2) ** 0.5
