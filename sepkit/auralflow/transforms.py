"""AudioTransform: auralflow's STFT with mel bands and decibels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.arguments import check_is_tensor, check_waveform
from sepkit.constant import Constant
from sepkit.transforms import STFT, mel_filters

_TOP_DB = 80.0  # dynamic range of a decibel spectrogram


class AudioTransform(nn.Module):
    """An STFT with mel bands and decibels, as pictures show them.

    Args:
        num_fft: samples per transformed frame, even.
        hop_length: samples between frames.
        window_size: samples under the periodic Hann window, <= num_fft.
        sample_rate: Hz.
        device: where the constants live.

    Raises:
        ValueError: a size is out of range, or a mel band would hold no bin.
    """

    def __init__(
        self,
        num_fft: int,
        hop_length: int,
        window_size: int,
        sample_rate: int = 44100,
        device: str | torch.device = "cpu",
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.stft = STFT(num_fft, hop_length, window_size)
        highest = min(16384.0, sample_rate / 2)
        n_mels = _most_bands(self.stft.n_bins, highest, sample_rate)
        filters = mel_filters(self.stft.n_bins, n_mels, sample_rate, 1.0, highest)
        self._filters = Constant(filters)
        self.to(device)

    @property
    def filters(self) -> Tensor:
        """Return the mel filters, (M, F) float32."""
        return self._filters.values

    def to_spectrogram(self, audio: Tensor, use_padding: bool = True) -> Tensor:
        """Transform a waveform.

        Args:
            audio: (..., T).
            use_padding: let the last, incomplete hop count, filled with zeros; False: drop it.

        Returns:
            Complex (..., F, N).
        """
        check_waveform(audio, "audio", "(..., T)")
        if not use_padding:
            hop = self.stft.hop_length
            audio = audio[..., : max(1, audio.shape[-1] // hop) * hop]
        return self.stft(audio)

    def to_audio(self, complex_spec: Tensor, length: int | None = None) -> Tensor:
        """Transform a spectrogram (..., F, N) back to a waveform of `length` samples (None: whole hops)."""
        return self.stft.inverse(complex_spec, length)

    def to_mel_scale(self, spectrogram: Tensor, to_db: bool = True) -> Tensor:
        """Sum a magnitude spectrogram into mel bands.

        Args:
            spectrogram: magnitudes (..., F, N), linear.
            to_db: return decibels below the loudest band instead of magnitudes.

        Returns:
            (..., M, N) with 64 mel bands (fewer where the bins are too coarse for 64), 1 Hz to 16384 Hz or
            the Nyquist frequency, HTK scale, no area normalisation.

        Raises:
            ValueError: the spectrogram is complex, or its bins are not this transform's.
        """
        _check_magnitudes(spectrogram, self.stft.n_bins)
        mel = self._filters(spectrogram) @ spectrogram  # (..., M, N)
        return self.to_decibel(mel) if to_db else mel

    def to_decibel(self, spectrogram: Tensor) -> Tensor:
        """Convert magnitudes to dB below the loudest value of each (F, N) spectrogram.

        Args:
            spectrogram: magnitudes (..., F, N), >= 0.

        Returns:
            (..., F, N) in [-80, 0] dB; a silent spectrogram is -80 dB throughout.
        """
        _check_magnitudes(spectrogram, None)
        loudest = spectrogram.amax(dim=(-2, -1), keepdim=True)
        tiny = torch.finfo(spectrogram.dtype).tiny
        relative = spectrogram / loudest.clamp(min=tiny)
        return 20 * torch.log10(relative.clamp(min=10 ** (-_TOP_DB / 20)))

    def audio_to_mel(self, audio: Tensor, to_db: bool = True) -> Tensor:
        """Transform a waveform (..., T) into mel bands (..., M, N), in dB or linear."""
        return self.to_mel_scale(self.to_spectrogram(audio).abs(), to_db)

    def pad_audio(self, audio: Tensor) -> Tensor:
        """Fill the last hop of a waveform (..., T) with zeros; whole hops stay as they are."""
        check_waveform(audio, "audio", "(..., T)")
        return F.pad(audio, (0, self.stft.padded_length(audio.shape[-1]) - audio.shape[-1]))


def _most_bands(n_bins: int, highest: float, sample_rate: int) -> int:
    """Find the largest number of mel bands, at most 64, none of which is empty."""
    for n_mels in range(64, 0, -1):
        if (mel_filters(n_bins, n_mels, sample_rate, 1.0, highest).sum(1) > 0).all():
            return n_mels
    raise ValueError(f"num_fft must give a mel band at least one bin, got {n_bins} bins")


def _check_magnitudes(spectrogram: Tensor, n_bins: int | None) -> None:
    check_is_tensor(spectrogram, "spectrogram")
    fits = spectrogram.is_floating_point() and spectrogram.dim() > 1 and spectrogram.numel()
    if not fits or n_bins not in (None, spectrogram.shape[-2]):
        found = f"{spectrogram.dtype} {tuple(spectrogram.shape)}"
        raise ValueError(f"spectrogram must hold magnitudes (..., {n_bins or 'F'}, N), got {found}: take abs()")
