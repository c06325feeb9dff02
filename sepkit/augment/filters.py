"""Filters that colour stems."""

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import check_count, check_range, check_waveform, is_number, is_whole
from sepkit.augment._arguments import check_probability, draw_choice
from sepkit.augment._filtering import filter_chosen

_DECAY = 12.0  # time constants, after which a resonance is 100 dB down


class Filter:
    """Colour some stems by a short filter: a few delayed copies are added, and the energy of noise is kept.

    Args:
        n_taps: copies, >= 1.
        reach: longest delay in samples, >= 1.
        depth: standard deviation of the copies' factors, >= 0.
        probability: of a coloured stem, [0, 1].
    """

    def __init__(self, n_taps: int = 4, reach: int = 24, depth: float = 0.4, probability: float = 1.0) -> None:
        if not all(map(is_whole, (n_taps, reach))) or not is_number(depth) or min(n_taps, reach) < 1 or depth < 0:
            raise ValueError(
                f"n_taps and reach must be at least 1 and depth at least 0, got {n_taps}, {reach} and {depth}"
            )
        self.n_taps, self.reach, self.depth = n_taps, reach, depth
        self.probability = check_probability(probability)

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw delays and factors of the copies (K, 2, n_taps), all factors 0 where nothing changes."""
        delays = generator.integers(1, self.reach + 1, (n_stems, self.n_taps))
        factors = generator.normal(0.0, self.depth, (n_stems, self.n_taps))
        factors *= generator.random((n_stems, 1)) < self.probability
        return np.stack([delays, factors], 1)

    @torch.no_grad()
    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Filter the stems (..., K, C, T) by delays and factors (..., K, 2, n_taps)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        coloured = stems.clone(memory_format=torch.contiguous_format)
        shape = (-1, *stems.shape[-2:])
        for stem, sums, (delays, factors) in zip(
            stems.reshape(shape), coloured.view(shape), parameters.flatten(0, -3).tolist(), strict=True
        ):
            for delay, factor in zip(map(int, delays), factors, strict=True):
                if factor and delay < stem.shape[-1]:
                    sums[:, delay:].add_(stem[:, :-delay], alpha=factor)
            if any(factors):
                sums /= (1 + sum(factor**2 for factor in factors)) ** 0.5
        return coloured


class Equalizer:
    """Change the tone of some stems by a few bells, as a mixing engineer does.

    Args:
        sample_rate: Hz; a recipe's separator gives it.
        n_bands: bells for each stem, >= 1.
        depth_db: greatest boost or cut of one, drawn uniformly in dB, [0, 24].
        low_hz: least frequency of one, drawn uniformly in octaves, Hz, > 0.
        high_hz: greatest frequency, Hz, below half of the sample rate; None: 0.4 of the sample rate.
        q: frequency over bandwidth of each, (0, 10].
        probability: of a changed stem, [0, 1].

    Source:
        R. Bristow-Johnson, Cookbook formulae for audio equalizer biquad filter coefficients, 2005: peakingEQ; the
        impulse response is cut off 100 dB down.
    """

    def __init__(
        self,
        sample_rate: int,
        n_bands: int = 3,
        depth_db: float = 6.0,
        low_hz: float = 60.0,
        high_hz: float | None = None,
        q: float = 1.0,
        probability: float = 0.5,
    ) -> None:
        check_range("sample_rate", sample_rate, 0, above=True)
        self.n_bands = check_count("n_bands", n_bands)
        check_range("depth_db", depth_db, 0, 24)
        high_hz = 0.4 * sample_rate if high_hz is None else high_hz
        check_range("low_hz", low_hz, 0, sample_rate / 2, above=True)
        if not is_number(high_hz) or not low_hz <= high_hz < sample_rate / 2:
            raise ValueError(
                f"high_hz must be at least low_hz, {low_hz:g}, and below half of the sample rate, {sample_rate / 2:g}, "
                f"got {high_hz!r}"
            )
        check_range("q", q, 0, 10, above=True)
        self.sample_rate, self.depth_db, self.low_hz, self.high_hz, self.q = sample_rate, depth_db, low_hz, high_hz, q
        self.probability = check_probability(probability)
        slowest = q * 10 ** (depth_db / 40) * sample_rate / (np.pi * low_hz)  # time constant in samples
        self.length = 1 + int(np.ceil(_DECAY * slowest))

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw the frequency in Hz and the boost in dB of each bell (K, n_bands, 2), all 0 dB where nothing changes."""
        size = (n_stems, self.n_bands)
        frequencies = np.exp(generator.uniform(np.log(self.low_hz), np.log(self.high_hz), size))
        boosts = generator.uniform(-self.depth_db, self.depth_db, size)
        return np.stack([frequencies, boosts * draw_choice(generator, self.probability, (n_stems, 1))], -1)

    @torch.no_grad()
    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Filter the stems (..., K, C, T) by the bells of parameters (..., K, n_bands, 2)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        bells = parameters.reshape(-1, self.n_bands, 2).double().cpu().numpy()

        def kernels(places: list[int]) -> Tensor:
            return torch.from_numpy(np.stack([self._kernel(bells[place]) for place in places]))

        return filter_chosen(stems, bells[..., 1].any(-1).tolist(), kernels)

    def _kernel(self, bells: np.ndarray) -> np.ndarray:
        """Make the impulse response (1, L) of a stem's bells, one after another."""
        from scipy.signal import sosfilt

        angle, root = 2 * np.pi * bells[:, 0] / self.sample_rate, 10 ** (bells[:, 1] / 40)
        alpha, cosine = np.sin(angle) / (2 * self.q), -2 * np.cos(angle)
        sections = np.stack(
            [1 + alpha * root, cosine, 1 - alpha * root, 1 + alpha / root, cosine, 1 - alpha / root], axis=1
        )
        impulse = np.zeros((1, self.length))
        impulse[:, 0] = 1
        return sosfilt(sections / sections[:, 3:4], impulse)
