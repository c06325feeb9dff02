"""Correlations at short lags between references and estimates, of any stretch of a recording, in bounded memory."""

import torch
from torch import Tensor

# Spectra of as many blocks at a time, so that they stay in cache.
_SPECTRA_BYTES = 2**21


class Correlator:
    """Correlate stretches of a recording; one object is used for all of them, since it keeps its work space.

    With R references x and R estimates, M = R * C channels each, and z the references, then the estimates, the
    lags are `lags[i, k, l] = sum_n x_i[n] z_k[n + l]`, (M, 2 M, L).

    Args:
        estimates: R waveforms (C, T).
        targets: R waveforms (C, T).
        n_lags: L, >= 1.
    """

    def __init__(self, estimates: list[Tensor], targets: list[Tensor], n_lags: int) -> None:
        self.waveforms, self.n_lags = [*targets, *estimates], n_lags
        self.n_channels, length = targets[0].shape
        self.n_references, self.device = len(targets) * self.n_channels, targets[0].device
        self.n_fft = max(64, 2 ** (3 * n_lags - 1).bit_length())
        self.block = self.n_fft - n_lags + 1
        channels = 2 * self.n_references
        n_cached = _SPECTRA_BYTES // (8 * channels * self.n_fft)
        self.n_blocks = max(2, min(n_cached, -(-(length + n_lags - 1) // self.block)))
        row = self.n_blocks * self.block
        like = {"dtype": torch.float64, "device": targets[0].device}
        self._flat = torch.zeros(channels * row + self.n_fft, **like)
        self._rows = self._flat[: channels * row].view(channels, row)
        self._padded = torch.zeros((channels // 2, self.n_blocks, self.n_fft), **like)
        self._by_waveform = self._rows.split(self.n_channels)

    def stretch(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Correlate samples start .. stop - 1: lags (M, 2 M, L), and the energies of the estimates (M,)."""
        spectra, energies = None, self._rows.new_zeros(self.n_references)
        step = self._rows.shape[1] - self.n_lags + 1
        for begin in range(start, stop, step):
            n_own = min(step, stop - begin)
            self._load(begin, min(begin + self._rows.shape[1], stop))
            self._pad(n_own)
            spectra = self._accumulate(spectra, -(-n_own // self.block))
            energies += self._rows[self.n_references :, :n_own].square().sum(1)
        return self._lags(spectra), energies

    def borders(self, cuts: list[int]) -> Tensor:
        """Sum what correlates across the cuts: (M, 2 M, L); cuts are at least L - 1 samples apart."""
        spectra, reach = None, self.n_lags - 1
        for first in range(0, len(cuts), self.n_blocks):
            some = cuts[first : first + self.n_blocks]
            self._flat.zero_()
            self._padded.zero_()
            blocks = self._rows.view(len(self._rows), self.n_blocks, self.block)
            for place, cut in enumerate(some):
                for waveform, rows in zip(self.waveforms, blocks.split(self.n_channels), strict=True):
                    after = waveform[:, cut : cut + reach]
                    rows[:, place, reach : reach + after.shape[1]] = after
                for waveform, rows in zip(self.waveforms, self._padded.split(self.n_channels), strict=False):
                    rows[:, place, :reach] = waveform[:, cut - reach : cut]
            spectra = self._accumulate(spectra, len(some))
        if spectra is None:
            return self._rows.new_zeros((len(self._rows) // 2, len(self._rows), self.n_lags))
        return self._lags(spectra)

    def _load(self, start: int, stop: int) -> None:
        for waveform, rows in zip(self.waveforms, self._by_waveform, strict=True):
            rows[:, : stop - start] = waveform[:, start:stop]
        self._rows[:, stop - start :] = 0

    def _pad(self, n_own: int) -> None:
        """Copy the references' first samples into blocks that end in zeros."""
        n_whole, n_left = divmod(n_own, self.block)
        blocks = self._rows[: len(self._padded)].view(len(self._padded), self.n_blocks, self.block)
        self._padded[:, :n_whole, : self.block] = blocks[:, :n_whole]
        if n_left:
            self._padded[:, n_whole, :n_left] = blocks[:, n_whole, :n_left]
            self._padded[:, n_whole, n_left:] = 0

    def _accumulate(self, spectra: Tensor | None, n_blocks: int) -> Tensor:
        """Add the cross spectra of the first blocks: (K, M, 2 M)."""
        channels, row = self._rows.shape
        extended = self._flat.as_strided((channels, n_blocks, self.n_fft), (row, self.block, 1))
        padded = _frequency_first(torch.fft.rfft(self._padded[:, :n_blocks])).conj_physical_()
        extended = _frequency_first(torch.fft.rfft(extended)).mT
        return torch.bmm(padded, extended) if spectra is None else spectra.baddbmm_(padded, extended)

    def _lags(self, spectra: Tensor) -> Tensor:
        n_bins, n_from, n_to = spectra.shape
        spectra = spectra.view(n_bins, -1).T.contiguous()
        return torch.fft.irfft(spectra, n=self.n_fft)[:, : self.n_lags].reshape(n_from, n_to, self.n_lags)


def _frequency_first(spectra: Tensor) -> Tensor:
    """Move the bins first: (channels, blocks, K) -> (K, channels, blocks), contiguous."""
    channels, n_blocks, n_bins = spectra.shape
    return spectra.view(-1, n_bins).T.contiguous().view(n_bins, channels, n_blocks)
