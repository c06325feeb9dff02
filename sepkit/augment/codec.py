"""What coded recordings have lost."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sepkit.arguments import check_range, check_waveform
from sepkit.augment._arguments import check_probability, draw_choice
from sepkit.augment._filtering import filter_chosen

# Hz, by kbit/s: above which stereo music at 44.1 kHz is 20 dB and more below what was encoded.
BANDWIDTHS = {
    "mp3": {
        64: 10950, 80: 13100, 96: 15200, 112: 15250, 128: 16600, 160: 17300, 192: 18700, 224: 19400, 256: 19450,
        320: 20100,
    },
    "aac": {64: 12400, 80: 16500, 96: 16500, 112: 16550, 128: 17250, 160: 19050, 192: 19300},
}  # fmt: skip
_WIDTH, _DEPTH = 500.0, 80.0  # Hz from pass to stop, dB below


class CodecBandwidth:
    """Take from a whole example what MP3 or AAC at a rate does not keep: all above a frequency.

    All stems lose the same, so that the mixture does, and remains their sum. A codec that keeps the whole band of the
    sample rate changes nothing.

    Args:
        sample_rate: Hz; a recipe's separator gives it.
        codecs: which, "mp3" or "aac", drawn alike.
        rates: kbit/s, drawn alike; each codec's table has them.
        probability: of a changed example, [0, 1].

    Source:
        Bandwidths of 64 to 320 kbit/s, measured on what LAME (mp3) and ffmpeg (aac) make of noise that falls by 3 dB an
        octave; the filter is symmetric in time, falls from pass to stop within 500 Hz, and nothing else of what
        a codec does is done.
    """

    def __init__(
        self,
        sample_rate: int,
        codecs: Sequence[str] = ("mp3", "aac"),
        rates: Sequence[int] = (96, 128, 192),
        probability: float = 0.5,
    ) -> None:
        check_range("sample_rate", sample_rate, 0, above=True)
        self.sample_rate = sample_rate
        self.codecs, self.rates = _check_choices("codecs", codecs, BANDWIDTHS), list(rates)
        for codec in self.codecs:
            _check_choices("rates", self.rates, BANDWIDTHS[codec], f" of {codec}, in kbit/s,")
        self.probability = check_probability(probability)
        lowest = min(BANDWIDTHS[codec][rate] for codec in self.codecs for rate in self.rates)
        if not self._cuts(lowest):
            raise ValueError(
                f"sample_rate must be above {2 * lowest + _WIDTH:g} Hz for a codec to lose anything, got "
                f"{sample_rate:g}; leave CodecBandwidth out, or choose lower rates"
            )

    def _cuts(self, bandwidth: float) -> bool:
        return bandwidth + _WIDTH / 2 < self.sample_rate / 2

    def sample_parameters(self, generator: np.random.Generator, n_stems: int) -> np.ndarray:
        """Draw the frequency in Hz above which nothing is kept (K,), one for all stems; 0 where nothing changes."""
        codec = self.codecs[generator.integers(len(self.codecs))]
        bandwidth = BANDWIDTHS[codec][self.rates[generator.integers(len(self.rates))]]
        is_cut = draw_choice(generator, self.probability, 1) & self._cuts(bandwidth)
        return np.repeat(bandwidth * is_cut.astype(np.float64), n_stems)

    @torch.no_grad()
    def __call__(self, stems: Tensor, parameters: Tensor) -> Tensor:
        """Take what is above frequencies (..., K) from the stems (..., K, C, T)."""
        check_waveform(stems, "stems", "(..., K, C, T)")
        bandwidths = parameters.flatten().tolist()

        def kernels(places: list[int]) -> Tensor:
            return torch.from_numpy(np.stack([_low_pass(bandwidths[place], self.sample_rate) for place in places]))

        length = _n_taps(self.sample_rate)
        return filter_chosen(stems, [bandwidth != 0 for bandwidth in bandwidths], kernels, delay=length // 2)


def _check_choices(name: str, values: Sequence, choices: Sequence, of: str = "") -> list:
    """Return values that are all among the choices, without repetition."""
    right = not isinstance(values, str) and len(values) and all(value in choices for value in values)
    if not right or len(set(values)) < len(values):
        listed = ", ".join(map(str, choices))
        raise ValueError(f"{name}{of} must be a list of some of {listed}, each once, got {values!r}")
    return list(values)


def _n_taps(sample_rate: float) -> int:
    """Return the odd length of the filter."""
    from scipy.signal import kaiserord

    return kaiserord(_DEPTH, _WIDTH / (sample_rate / 2))[0] | 1


@lru_cache(maxsize=64)
def _low_pass(frequency: float, sample_rate: float) -> np.ndarray:
    """Make the symmetric impulse response (1, L) that stops above a frequency."""
    from scipy.signal import firwin, kaiser_beta

    n_taps = _n_taps(sample_rate)
    return firwin(n_taps, frequency, window=("kaiser", kaiser_beta(_DEPTH)), fs=sample_rate)[None].astype(np.float32)
