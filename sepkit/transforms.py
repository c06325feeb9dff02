"""Waveforms to spectrograms and back."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sepkit.arguments import check_count, check_is_tensor, check_range, check_waveform, is_integer, is_number
from sepkit.constant import Constant
from sepkit.lazy import lazy_names
from sepkit.mel import mel_bands

_WINDOWS = {
    "hann": torch.hann_window,
    "hamming": torch.hamming_window,
    "blackman": torch.blackman_window,
    "rectangular": lambda size, dtype: torch.ones(size, dtype=dtype),
}
_Window = Literal[tuple(_WINDOWS)]
_PadMode = Literal["reflect", "constant", "replicate"]
_Framing = Literal["samples", "hops", "late_hops"]


class STFT(nn.Module):
    """Short-time Fourier transform with an exact inverse.

    The end of the waveform is padded with zeros to a whole number of hops, so that every sample lies under
    enough windows to be recovered, unless `whole_hops` is False.

    Args:
        n_fft: samples per transformed frame, even, >= 2.
        hop_length: samples between frames, >= 1.
        window_size: samples under the window, <= n_fft; None: n_fft.
        window: "hann", "hamming", "blackman" or "rectangular", all periodic.
        normalized: divide the spectrogram by sqrt(n_fft), and multiply in the inverse; "window": by the norm of the
            window, as torchaudio does.
        center: frame n is centred on sample n * hop_length; False: it ends where hop n ends, so that no
            frame holds later samples.
        pad_mode: what stands before the first sample, and with `center` also after the last: "reflect",
            "constant" (zeros) or "replicate".
        whole_hops: pad the end to a whole number of hops; False, with `center` and hops of at most half a window:
            no frame is centred behind the last sample, as in `torch.stft`.
        framing: "samples": frames stand as `center` says. "hops": frame n is centred on the middle of hop n, one frame
            a hop, and `pad_mode` continues the last sample instead of the last hop; the inverse holds that all
            frames before the first and after the last are silent, so that (n_fft - hop_length) / 2 samples at both
            ends fade. "late_hops": the same, and the inverse is late by as many samples.

    Raises:
        ValueError: a size is out of range, or window and hop cannot be inverted.

    Source:
        The framing by hops is Demucs' of versions 3 and 4, the late one that of its first hybrid models of 2021.
    """

    def __init__(
        self,
        n_fft: int = 2048,
        hop_length: int = 1024,
        window_size: int | None = None,
        window: _Window = "hann",
        normalized: bool | Literal["window"] = False,
        center: bool = True,
        pad_mode: _PadMode = "reflect",
        whole_hops: bool = True,
        framing: _Framing = "samples",
    ) -> None:
        super().__init__()
        window_size = n_fft if window_size is None else window_size
        _check_sizes(n_fft, hop_length, window_size)
        if window not in _WINDOWS:
            raise ValueError(f"window must be one of {', '.join(_WINDOWS)}, got {window!r}")
        if pad_mode not in get_args(_PadMode):
            raise ValueError(f"pad_mode must be one of {', '.join(get_args(_PadMode))}, got {pad_mode!r}")
        if not whole_hops and not (center and 2 * hop_length <= window_size):
            raise ValueError("whole_hops must be true without center, or where a hop is longer than half the window")
        if framing not in get_args(_Framing):
            raise ValueError(f"framing must be one of {', '.join(get_args(_Framing))}, got {framing!r}")
        if framing != "samples" and ((n_fft - hop_length) % 2 or not (center and whole_hops)):
            raise ValueError(f"framing {framing} must go with center, whole_hops and an even hop_length")
        if isinstance(normalized, str) and normalized != "window":
            raise ValueError(f"normalized must be true, false or 'window', got {normalized!r}")
        self.n_fft, self.hop_length, self.window_size = n_fft, hop_length, window_size
        self.normalized, self.center, self.pad_mode = normalized, center, pad_mode
        self.whole_hops, self.framing = whole_hops, framing
        before = (n_fft - window_size) // 2
        shape = _WINDOWS[window](window_size, dtype=torch.float64)
        shape = F.pad(shape, (before, n_fft - window_size - before))
        if _lowest_overlap(shape, hop_length) < 1e-6:
            raise ValueError(
                f"window {window} of {window_size} samples and hop_length {hop_length} cannot be inverted: "
                "use a smaller hop_length"
            )
        self._window = Constant((shape / shape.norm() if normalized == "window" else shape).float())

    @property
    def window(self) -> Tensor:
        """Return the window that frames are multiplied by, with the zeros around it, (n_fft,) float32."""
        return self._window.values

    @property
    def n_bins(self) -> int:
        """Return the number of frequency bins F."""
        return self.n_fft // 2 + 1

    def n_frames(self, length: int) -> int:
        """Return the number of frames N of a waveform of `length` samples."""
        n_hops = check_count("length", length, 0) / self.hop_length
        return (max(1, math.ceil(n_hops)) if self.whole_hops else int(n_hops)) + self._extra_frames

    def padded_length(self, length: int, frame_multiple: int = 1) -> int:
        """Return the least length >= `length` of a multiple of `frame_multiple` frames, samples.

        It is one of whole hops, but where `whole_hops` is False, or frames stand by hops, and `length` has as many
        frames already.
        """
        n_frames = math.ceil(self.n_frames(length) / frame_multiple) * frame_multiple
        if (not self.whole_hops or self.framing != "samples") and n_frames == self.n_frames(length):
            return length
        return (n_frames - self._extra_frames) * self.hop_length

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform a waveform.

        Args:
            waveform: (..., T), T >= 1, a tensor; half precision is computed in float32.

        Returns:
            Complex (..., F, N).

        Raises:
            TypeError: it is no tensor.
            ValueError: there is no sample, or they are not floating point.
        """
        check_is_tensor(waveform, "waveform")
        if not waveform.numel():
            raise ValueError(f"waveform must hold at least one sample, got shape {tuple(waveform.shape)}")
        check_waveform(waveform, "waveform", "(..., T)")
        if waveform.dtype != torch.float64:
            waveform = waveform.float()
        flat = waveform.reshape(-1, waveform.shape[-1])
        spectrogram = torch.stft(
            self._pad(flat),
            self.n_fft,
            self.hop_length,
            window=self._window(flat),
            center=False,
            normalized=self.normalized is True,
            return_complex=True,
        )
        return spectrogram.reshape(*waveform.shape[:-1], *spectrogram.shape[-2:])

    def inverse(self, spectrogram: Tensor, length: int | None = None) -> Tensor:
        """Transform a spectrogram back: overlap-add, divided by the sum of the squared windows.

        Args:
            spectrogram: complex (..., F, N), with the frames of at least one hop.
            length: samples to return, >= 1; None: all the hops that the frames cover.

        Returns:
            (..., T).

        Raises:
            ValueError: the spectrogram is not this transform's, or the frames do not reach `length`.
        """
        check_is_tensor(spectrogram, "spectrogram")
        n_bins, n_frames = spectrogram.shape[-2:] if spectrogram.dim() > 1 else (0, 0)
        covered = (n_frames - self._extra_frames) * self.hop_length
        reached = covered if self.whole_hops else covered + self.hop_length - 1
        if not spectrogram.is_complex() or n_bins != self.n_bins or reached < 1 or not spectrogram.numel():
            wanted = f"complex (..., {self.n_bins}, N >= {self._extra_frames + self.whole_hops})"
            raise ValueError(f"spectrogram must be {wanted}, got {spectrogram.dtype} {tuple(spectrogram.shape)}")
        length = covered if length is None else length
        if not is_integer(length) or not 1 <= length <= reached:
            raise ValueError(f"length must be 1 to {reached}, what {n_frames} frames hold, got {length!r}")
        frames = torch.fft.irfft(spectrogram.mT, self.n_fft, norm="ortho" if self.normalized is True else None)
        window = self._window(frames)
        start = 0 if self.framing == "late_hops" else self._left
        n_silent = 0 if self.framing == "samples" else math.ceil(self._left / self.hop_length)  # at either end
        waveform = self._overlap_add(frames.reshape(-1, n_frames, self.n_fft), window, start, length)
        windows = window.expand(1, n_frames + 2 * n_silent, self.n_fft)
        envelope = self._overlap_add(windows, window, start + n_silent * self.hop_length, length)
        return waveform.div_(envelope.clamp(min=1e-11)).reshape(*spectrogram.shape[:-2], length)

    @property
    def _left(self) -> int:
        """Return the samples that are padded before the first one."""
        # Frame n covers the n_fft samples from n * hop - left on. Its middle is to be sample n * hop: left = n_fft / 2;
        # or its last sample is to be that of hop n, (n + 1) * hop - 1: left = n_fft - hop; or its middle that of hop n.
        if self.framing != "samples":
            return (self.n_fft - self.hop_length) // 2
        return self.n_fft // 2 if self.center else self.n_fft - self.hop_length

    @property
    def _extra_frames(self) -> int:
        """Return the number of frames beyond one per hop."""
        # T samples are T / hop hops. Frames centred on 0, hop, .., T are one more, and the last sample lies near the
        # middle of the last window. Frames that end with their hop taper off there: for the last sample to lie under as
        # many as any other, all that begin before T, n * hop - left < T, are taken: T / hop + ceil(left / hop).
        if self.framing != "samples":
            return 0
        return 1 if self.center else math.ceil(self._left / self.hop_length)

    def _pad(self, flat: Tensor) -> Tensor:
        """Fill the last hop with zeros and both sides by `pad_mode`."""
        # N frames cover (N - 1) * hop + n_fft samples: left + T + right, or fewer than a hop less where the last one is
        # not filled: then n_fft / 2 stand on both sides. To the right of frames that end with their hop
        # stand zeros in every mode, since a reflection would be an echo of what they have passed.
        padded_length, left = self.padded_length(flat.shape[-1]), self._left
        if self.framing != "samples":
            right = self.n_frames(padded_length) * self.hop_length + left - padded_length
            return _pad_ends(flat, left, right, self.pad_mode, near_end=True)
        flat = F.pad(flat, (0, padded_length - flat.shape[-1]))
        right = (self.n_frames(padded_length) - 1) * self.hop_length + self.n_fft - left - padded_length
        right = right if self.whole_hops else left
        if not self.center:
            return F.pad(_pad_ends(flat, left, 0, self.pad_mode), (0, right))
        return _pad_ends(flat, left, right, self.pad_mode)

    def _overlap_add(self, frames: Tensor, window: Tensor, start: int, length: int) -> Tensor:
        """Sum windowed (B, N, n_fft) at their places, hop by hop, and cut `length` samples out, from `start` on."""
        hop, n_frames = self.hop_length, frames.shape[1]
        n_parts = math.ceil(self.n_fft / hop)
        if self.n_fft % hop:
            frames, window = (F.pad(signal, (0, n_parts * hop - self.n_fft)) for signal in (frames, window))
        parts, windows = frames.unflatten(-1, (n_parts, hop)), window.unflatten(-1, (n_parts, hop))
        summed = frames.new_zeros(len(frames), n_frames + n_parts - 1, hop)
        for part in range(n_parts):
            summed[:, part : part + n_frames].addcmul_(parts[:, :, part], windows[part])
        return summed.flatten(1)[:, start : start + length]

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"n_fft={self.n_fft}, hop_length={self.hop_length}, window_size={self.window_size}"


def absolute(spectrogram: Tensor) -> Tensor:
    """Take the magnitude of a spectrogram.

    Its squares are summed: a quarter of the time of `abs`, which minds magnitudes below 1e-19 and above 1e19. The
    gradient at 0 is 0, as that of `abs`.

    Args:
        spectrogram: complex (..., N).

    Returns:
        (..., N), >= 0.

    Raises:
        TypeError: it is no tensor.
        ValueError: it is not complex, or a scalar.
    """
    check_is_tensor(spectrogram, "spectrogram")
    if not spectrogram.is_complex() or not spectrogram.ndim:
        raise ValueError(f"spectrogram must be complex (..., N), got {spectrogram.dtype} {tuple(spectrogram.shape)}")
    real, imaginary = torch.view_as_real(spectrogram.resolve_conj()).unbind(-1)
    power = real.square().addcmul_(imaginary, imaginary)
    if not spectrogram.requires_grad:
        return power.sqrt_()
    audible = power > 0
    return torch.where(audible, power, 1).sqrt() * audible


def mel_filters(n_bins: int, n_mels: int, sample_rate: int, lowest: float, highest: float) -> Tensor:
    """Build triangular mel filters on the HTK scale, without area normalisation.

    Args:
        n_bins: frequency bins F, from 0 Hz to the Nyquist frequency.
        n_mels: bands M.
        sample_rate: Hz.
        lowest: lower edge of the first band, Hz.
        highest: upper edge of the last band, Hz.

    Returns:
        (M, F).

    Raises:
        ValueError: the edges are not in order, or beyond the Nyquist frequency.

    Source:
        S. Young et al., The HTK Book, 2006, section 5.4.
    """
    n_bins, n_mels = check_count("n_bins", n_bins, 2), check_count("n_mels", n_mels)
    check_range("sample_rate", sample_rate, 0, above=True)
    if not all(map(is_number, (lowest, highest))) or not 0 <= lowest < highest <= sample_rate / 2:
        wanted = f"rise from 0 to at most half of sample_rate {sample_rate}"
        raise ValueError(f"lowest and highest must {wanted}, got {lowest} and {highest} Hz")
    frequencies = torch.linspace(0, sample_rate / 2, n_bins, dtype=torch.float64)
    return mel_bands(frequencies, n_mels, lowest=lowest, highest=highest)


def _check_sizes(n_fft: int, hop_length: int, window_size: int) -> None:
    for name, size in {"n_fft": n_fft, "hop_length": hop_length, "window_size": window_size}.items():
        if not is_integer(size):
            raise ValueError(f"{name} must be a whole number of samples, got {size!r}")
    if n_fft < 2 or n_fft % 2:
        raise ValueError(f"n_fft must be even and at least 2, got {n_fft}")
    if not 1 <= window_size <= n_fft:
        raise ValueError(f"window_size must be between 1 and n_fft {n_fft}, got {window_size}")
    if not 1 <= hop_length <= window_size:
        raise ValueError(f"hop_length must be between 1 and window_size {window_size}, got {hop_length}")


def _lowest_overlap(window: Tensor, hop_length: int) -> float:
    """Compute the smallest sum of squared windows that a sample can lie under."""
    padded = F.pad(window**2, (0, -len(window) % hop_length))
    return float(padded.reshape(-1, hop_length).sum(0).min())


def _pad_ends(flat: Tensor, left: int, right: int, mode: str, near_end: bool = False) -> Tensor:
    """Pad (B, T) at both ends; what a reflection cannot reach in a short signal is zero.

    These zeros stand outermost, or, `near_end`, follow the last sample and are reflected too.
    """
    missing = max(0, right + 1 - flat.shape[-1]) if near_end and mode == "reflect" else 0
    if missing:
        flat, right = F.pad(flat, (0, missing)), right - missing
    reach = flat.shape[-1] - 1 if mode == "reflect" else max(left, right)
    near = _pad_within(flat, min(left, reach), min(right, reach), mode)
    missing = max(0, left - reach), max(0, right - reach)
    return F.pad(near, missing) if any(missing) else near


def _pad_within(flat: Tensor, left: int, right: int, mode: str) -> Tensor:
    """Pad (B, T) by less than there is; of torch's own reflection no gradient repeats bit by bit on CUDA."""
    if mode != "reflect" or not torch.are_deterministic_algorithms_enabled():
        return F.pad(flat[:, None], (left, right), mode=mode)[:, 0]
    n_samples = flat.shape[-1]
    return torch.cat([flat[:, 1 : left + 1].flip(1), flat, flat[:, n_samples - right - 1 : n_samples - 1].flip(1)], 1)


__getattr__, __dir__ = lazy_names(__name__, {"AudioTransform": "sepkit.auralflow.transforms"}, tuple(globals()))
