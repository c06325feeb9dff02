"""The distance of complex spectra at several resolutions, phases included: that of the RoFormers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sepkit.losses._check import check_flags, check_reduction, check_resolutions, check_transform, check_waveforms
from sepkit.losses._stft import ChunkSums, KernelSettings, Resolution, power, spectral_operator, total
from sepkit.losses._window import make_window
from sepkit.losses.composite import CompositeLoss


@spectral_operator("complex_distance", lambda _: (1, 0))
def _complex_distance(estimate: Tensor, target: Tensor, settings: KernelSettings) -> ChunkSums:
    """Sum the magnitudes of the error."""
    error = estimate - target
    magnitude = power(error).sqrt_()
    direction = error / torch.where(magnitude > 0, magnitude, 1.0)
    gradients = [[sign * direction] if need else [] for sign, need in zip((1.0, -1.0), settings.needs, strict=True)]
    return ChunkSums([total(magnitude)], [], gradients)


class MultiResolutionComplexSTFTLoss(CompositeLoss):
    """Add up the mean magnitudes of the error's complex spectra at several resolutions.

    Args:
        window_sizes: samples of the windows, one for each resolution.
        n_fft: least size of a Fourier transform; a longer window has one of its own length.
        hop_length: samples from frame to frame, at all resolutions.
        window: a window of torch or scipy.
        normalized: divide spectra by the root of the transform's size.
        reduction: mean, sum or none, over items.

    Source:
        W. Lu, J. Wang, Q. Kong, Y. Hung, Music source separation with band-split RoPE transformer, 2024, section 3.4,
        as in the widely used code of the RoFormers, there with `WaveformL1Loss`.
    """

    def __init__(
        self,
        window_sizes: Sequence[int] = (4096, 2048, 1024, 512, 256),
        n_fft: int = 2048,
        hop_length: int = 147,
        window: str | float | tuple = "hann_window",
        normalized: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_flags(normalized=normalized)
        check_reduction(reduction)
        window_sizes = [size for (size,) in check_resolutions(window_sizes=window_sizes)]
        check_transform(n_fft=n_fft, hop_length=hop_length, win_length=1)
        self.resolutions = nn.ModuleList(
            Resolution(max(size, n_fft), hop_length, make_window(window, size)) for size in window_sizes
        )
        self.names = [f"window_{size}" for size in window_sizes]
        self.normalized, self.reduction = normalized, reduction

    def terms(self, estimate: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compare (B, ..., T) at each resolution, window_4096 and so on: (B,) each."""
        check_waveforms(estimate, target, n_dims=2)
        rows = [signal.reshape(-1, signal.shape[-1]) for signal in (estimate, target)]
        terms = {}
        for name, resolution in zip(self.names, self.resolutions, strict=True):
            sums, _ = resolution.sums(_complex_distance, *rows)
            n_bins = resolution.n_frames(rows[0].shape[1]) * (resolution.n_fft // 2 + 1)
            scale = resolution.n_fft**-0.5 if self.normalized else 1.0
            terms[name] = (sums * (scale / n_bins)).view(len(estimate), -1).mean(1)
        return terms
