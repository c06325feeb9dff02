"""Masks of mixtures, ideal masks from known sources, and the multichannel Wiener filter.

Sources stand in their own dimension: targets (B, S, C, F, N) against a mixture (B, C, F, N), both complex.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sepkit.arguments import check_count, check_is_tensor, check_range, check_same_device, is_integer

_SILENCE, _REGULARISATION = 1e-10, 1e-5  # what is added to energies that are divided by; to covariances, inverted
_BLOCK = 2**16  # values that are filtered at a time, which a cache holds


def apply_mask(mask: Tensor, mixture_spectrogram: Tensor) -> Tensor:
    """Mask a mixture, once per source.

    The product lies frame by frame in memory, as the STFT gives spectrograms and its inverse reads them, whatever the
    layout of the mask; of a real mask no more than one item's is made complex at a time.

    Args:
        mask: real or complex (B, S, C, F, N).
        mixture_spectrogram: complex (B, C, F, N).

    Returns:
        Complex (B, S, C, F, N).

    Raises:
        TypeError: one is no tensor.
        ValueError: a shape or a type is off.
    """
    check_is_tensor(mask, "mask")
    check_is_tensor(mixture_spectrogram, "mixture_spectrogram")
    shape = tuple(mask.shape)
    if len(shape) != 5 or not (mask.is_floating_point() or mask.is_complex()):
        raise ValueError(f"mask must be real or complex (B, S, C, F, N), got {mask.dtype} {shape}")
    wanted = (shape[0], *shape[2:])
    if mixture_spectrogram.shape != wanted or not mixture_spectrogram.is_complex():
        came = f"{mixture_spectrogram.dtype} {tuple(mixture_spectrogram.shape)}"
        raise ValueError(f"mixture must be complex {wanted} for this mask, got {came}")
    check_same_device(mask=mask, mixture=mixture_spectrogram)
    if mask.is_complex():
        return mask * mixture_spectrogram.unsqueeze(1)
    return _RealMask.apply(mask, mixture_spectrogram)


class _RealMask(torch.autograd.Function):
    """The product of a real mask and a complex mixture, with a gradient that needs no complex copy of the mask.

    Torch's own product makes a step of the BLSTM 10 to 20 % longer.
    """

    @staticmethod
    def forward(ctx: Any, mask: Tensor, mixture: Tensor) -> Tensor:
        ctx.save_for_backward(mask, mixture)
        n_items, n_sources, n_channels, n_bins, n_frames = mask.shape
        masked = mixture.new_empty(n_items, n_sources, n_channels, n_frames, n_bins)
        for product, gains, item in zip(masked, mask.mT, mixture.mT, strict=True):
            torch.mul(item, gains.to(item.real.dtype), out=product)  # torch makes the gains complex: one item's
        return masked.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        mask, mixture = ctx.saved_tensors
        to_mask = to_mixture = None
        if ctx.needs_input_grad[0]:
            parts = torch.view_as_real(gradient.mT.resolve_conj())  # (B, S, C, N, F, 2)
            own = torch.view_as_real(mixture.mT.resolve_conj()).unsqueeze(1)
            to_mask = torch.addcmul(parts[..., 0] * own[..., 0], parts[..., 1], own[..., 1]).mT.to(mask.dtype)
        if ctx.needs_input_grad[1]:
            to_mixture = (gradient * mask.to(mixture.real.dtype)).sum(1)
        return to_mask, to_mixture


def ideal_ratio_mask(
    target_spectrogram: Tensor, residual_spectrogram: Tensor | None = None, power: float = 1.0
) -> Tensor:
    """Divide the magnitudes of each source by those of all.

    Args:
        target_spectrogram: complex (B, S, C, F, N).
        residual_spectrogram: complex (B, C, F, N), the mixture minus all targets; None: silence.
        power: exponent of the magnitudes, > 0; 2 gives the Wiener-like mask.

    Returns:
        (B, S, C, F, N) in [0, 1]; equal shares where everything is silent.

    Raises:
        ValueError: a shape or the power is off.

    Source:
        D. Wang, J. Chen, Supervised Speech Separation Based on Deep Learning, 2018, section III.B, with
        beta = 1 and the exponent inside the sum.
    """
    check_range("power", power, 0, above=True)
    powers = _check_targets(target_spectrogram).abs() ** power
    total = powers.sum(1, keepdim=True)
    n_shares = powers.shape[1]
    if residual_spectrogram is not None:
        total = total + _check_mixture(target_spectrogram, residual_spectrogram, "residual").abs() ** power
        n_shares += 1
    silent = total <= torch.finfo(total.dtype).tiny
    return torch.where(silent, 1 / n_shares, powers / total.masked_fill(silent, 1.0))


def ideal_binary_mask(target_spectrogram: Tensor, mixture_spectrogram: Tensor) -> Tensor:
    """Keep the bins in which a source is louder than the sum of all others.

    Args:
        target_spectrogram: complex (B, S, C, F, N).
        mixture_spectrogram: complex (B, C, F, N).

    Returns:
        (B, S, C, F, N) of 0 and 1, real.

    Source:
        D. Wang, On Ideal Binary Mask as the Computational Goal of Auditory Scene Analysis, 2005, criterion 0 dB.
    """
    mixture = _check_mixture(target_spectrogram, mixture_spectrogram)
    target_magnitude = target_spectrogram.abs()
    return (target_magnitude > (mixture - target_spectrogram).abs()).to(target_magnitude.dtype)


def phase_sensitive_mask(target_spectrogram: Tensor, mixture_spectrogram: Tensor) -> Tensor:
    """Find the best real mask: the part of the source that lies in the mixture's phase.

    Args:
        target_spectrogram: complex (B, S, C, F, N).
        mixture_spectrogram: complex (B, C, F, N).

    Returns:
        (B, S, C, F, N), real, cut to [0, 1]; 0 where the mixture is silent.

    Source:
        H. Erdogan et al., Phase-Sensitive and Recognition-Boosted Speech Separation, 2015, eq. 12.
    """
    return ideal_complex_mask(target_spectrogram, mixture_spectrogram).real.clamp(0, 1)


def ideal_complex_mask(target_spectrogram: Tensor, mixture_spectrogram: Tensor) -> Tensor:
    """Divide each source by the mixture: the mask that restores it exactly.

    Args:
        target_spectrogram: complex (B, S, C, F, N).
        mixture_spectrogram: complex (B, C, F, N).

    Returns:
        Complex (B, S, C, F, N), unbounded; 0 where the mixture is silent.

    Source:
        D. Williamson et al., Complex Ratio Masking for Monaural Speech Separation, 2016, eq. 9-10, uncompressed.
    """
    mixture = _check_mixture(target_spectrogram, mixture_spectrogram)
    silent = mixture.abs() < 1e-12
    return (target_spectrogram / mixture.masked_fill(silent, 1.0)).masked_fill(silent, 0.0)


def wiener(
    estimate_spectrogram: Tensor, mixture_spectrogram: Tensor, iterations: int = 1, window: int | None = 300
) -> Tensor:
    """Filter the mixture by a multichannel Wiener filter, which expectation-maximisation fits to estimates.

    The estimates must explain the whole mixture: add the residual as a source of its own, as `WienerFilter` does.

    Args:
        estimate_spectrogram: complex (B, S, C, F, N), S >= 2.
        mixture_spectrogram: complex (B, C, F, N).
        iterations: rounds of expectation-maximisation, >= 1.
        window: frames that share one spatial model, >= 1; None: all.

    Returns:
        Complex (B, S, C, F, N).

    Raises:
        ValueError: there are not at least two sources, or shapes or ranges are off.

    Source:
        A. Nugraha, A. Liutkus, E. Vincent, Multichannel Audio Source Separation with Deep Neural Networks, 2016,
        section III; the constants 1e-10 and 1e-5, and the scaling to a maximum of 10, are Open-Unmix's.
    """
    mixture = _check_mixture(estimate_spectrogram, mixture_spectrogram)[:, 0]
    if estimate_spectrogram.shape[1] < 2:
        raise ValueError("wiener needs at least two sources: add mixture minus estimate as the second")
    window = mixture.shape[-1] if window is None else window
    if not all(is_integer(number) and number >= 1 for number in (iterations, window)):
        raise ValueError(f"iterations and window must be at least 1, got {iterations} and {window}")
    dtype = torch.promote_types(estimate_spectrogram.dtype, mixture.dtype)
    items = zip(estimate_spectrogram.to(dtype).resolve_conj(), mixture.to(dtype), strict=True)
    return torch.stack([_filter_item(*item, int(iterations), int(window)) for item in items]).mT


class WienerFilter(nn.Module):
    """Refine the estimates of all sources together by `wiener`, the `postfilter` of a Separator.

    Args:
        n_sources: S.
        iterations: rounds of expectation-maximisation; 0, with `softmask` alone: none.
        window: frames that share one spatial model, >= 1; None: all of a segment.
        softmask: divide the mixture among the sources in proportion to their magnitudes first.
        residual: let what the estimates leave of the mixture be a source of its own. It is not returned; `separate`
            gives what is left after the filter, `residual=True`.

    Raises:
        ValueError: a number is out of range, or nothing would be filtered.

    Source:
        F. Stöter et al., Open-Unmix, 2019, where the filtered residual is returned too: the mixture minus the
            estimates but for what the filter's regularisation takes, and to that `separate` adds up exactly.
    """

    def __init__(
        self,
        n_sources: int,
        iterations: int = 1,
        window: int | None = 300,
        softmask: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        iterations = check_count("iterations", iterations, 0)
        window = None if window is None else check_count("window", window)
        if not (iterations or softmask):
            raise ValueError("iterations must be at least 1 without softmask: leave the filter out to filter nothing")
        if iterations and n_sources < 2 and not residual:
            raise ValueError("residual must be true where there is one source: a filter needs two to tell apart")
        self.n_sources, self.iterations, self.window = n_sources, iterations, window
        self.softmask, self.residual = softmask, residual

    def forward(self, estimate_spectrogram: Tensor, mixture_spectrogram: Tensor) -> Tensor:
        """Filter estimates, item by item.

        Args:
            estimate_spectrogram: complex (B, S, C, F, N).
            mixture_spectrogram: complex (B, C, F, N).

        Returns:
            Complex (B, S, C, F, N).
        """
        mixture = _check_mixture(estimate_spectrogram, mixture_spectrogram)
        items = zip(estimate_spectrogram.split(1), mixture.split(1), strict=True)
        return torch.cat([self._filter(*item).mT for item in items]).mT

    def _filter(self, estimate: Tensor, mixture: Tensor) -> Tensor:
        if self.softmask:
            magnitude = estimate.abs()
            estimate = magnitude / (_SILENCE + magnitude.sum(1, keepdim=True)) * mixture
        if not self.iterations:
            return estimate
        if self.residual:
            estimate = torch.cat([estimate, mixture - estimate.sum(1, keepdim=True)], 1)
        return wiener(estimate, mixture[:, 0], self.iterations, self.window)[:, : self.n_sources]

    def extra_repr(self) -> str:
        """Show the arguments."""
        return f"iterations={self.iterations}, window={self.window}, softmask={self.softmask}, residual={self.residual}"


def _filter_item(estimate: Tensor, mixture: Tensor, iterations: int, window: int) -> Tensor:
    """Filter (S, C, F, N) window by window, and some bins at a time: (S, C, N, F)."""
    n_bins = max(1, _BLOCK // (len(estimate) * len(mixture) * min(window, mixture.shape[-1])))
    # Of channels that are nearly the same, as they often are, float32 leaves too few digits of the difference: on
    # recordings with one sound in both channels the estimates would be up to 20 % off.
    precise = mixture.dtype if mixture.device.type == "mps" else torch.complex128
    filtered = []
    for estimates, frames in zip(estimate.split(window, -1), mixture.split(window, -1), strict=True):
        scale = (frames.abs().amax() / 10).clamp(min=1)
        parts = zip(estimates.split(n_bins, -2), frames.split(n_bins, -2), strict=True)
        scaled = ([part.to(precise) / scale for part in pair] for pair in parts)
        refined = (_expectation_maximisation(*pair, iterations).mT * scale for pair in scaled)
        filtered.append(torch.cat([part.to(mixture.dtype) for part in refined], -1))
    return torch.cat(filtered, -2)


def _expectation_maximisation(estimate: Tensor, mixture: Tensor, iterations: int) -> Tensor:
    """Refine estimates (S, C, F, N) of a mixture (C, F, N)."""
    n_sources, n_channels = estimate.shape[:2]
    estimate, mixture = estimate.movedim(2, 0), mixture.movedim(1, 0)  # (F, S, C, N) and (F, C, N): bins apart
    for _ in range(iterations):
        psd = torch.view_as_real(estimate).square().sum(-1).mean(2)  # (F, S, N)
        covariance = estimate @ estimate.mH / (psd.sum(-1) + _SILENCE)[..., None, None]  # (F, S, C, C)
        parts = torch.view_as_real(covariance).flatten(2)  # (F, S, C * C * 2)
        mixed = torch.view_as_complex((psd.mT @ parts).unflatten(-1, (n_channels, n_channels, 2)))  # (F, N, C, C)
        whitened = _whiten(mixed, mixture.mT)  # (F, N, C)
        directed = covariance.flatten(1, 2) @ whitened.mT  # (F, S * C, N)
        estimate = directed.unflatten(1, (n_sources, n_channels)) * psd.unsqueeze(2)
    return estimate.movedim(0, 2)


def _whiten(covariance: Tensor, mixture: Tensor) -> Tensor:
    """Multiply (..., C) by the inverse of Hermitian (..., C, C), to whose diagonal a little is added."""
    n_channels = mixture.shape[-1]
    if n_channels == 1:
        return mixture / (covariance[..., 0].real + _REGULARISATION)
    if n_channels > 2:
        eye = _REGULARISATION * torch.eye(n_channels, dtype=mixture.dtype, device=mixture.device)
        return torch.linalg.solve(covariance + eye, mixture)
    left, right, across = covariance[..., 0, 0].real, covariance[..., 1, 1].real, covariance[..., 0, 1]
    # So that it is above zero where both channels are the same, and rounding would leave nothing of the difference.
    determinant = (left * right - torch.view_as_real(across).square().sum(-1)).clamp(min=0)
    determinant = determinant + _REGULARISATION * (left + right + _REGULARISATION)
    first = (right + _REGULARISATION) * mixture[..., 0] - across * mixture[..., 1]
    second = (left + _REGULARISATION) * mixture[..., 1] - across.conj() * mixture[..., 0]
    return torch.stack([first, second], -1) / determinant.unsqueeze(-1)


def _check_targets(target_spectrogram: Tensor) -> Tensor:
    check_is_tensor(target_spectrogram, "sources")
    if target_spectrogram.dim() != 5 or not target_spectrogram.is_complex():
        raise ValueError(
            f"sources must be complex (B, S, C, F, N), got {target_spectrogram.dtype} {tuple(target_spectrogram.shape)}"
        )
    return target_spectrogram


def _check_mixture(target_spectrogram: Tensor, mixture_spectrogram: Tensor, name: str = "mixture") -> Tensor:
    """Check that the two belong together and give the mixture as (B, 1, C, F, N)."""
    _check_targets(target_spectrogram)
    check_is_tensor(mixture_spectrogram, name)
    wanted = target_spectrogram.shape[:1] + target_spectrogram.shape[2:]
    if mixture_spectrogram.shape != wanted:
        raise ValueError(f"{name} must be {tuple(wanted)}, got {tuple(mixture_spectrogram.shape)}")
    if not mixture_spectrogram.is_complex():
        raise ValueError(f"{name} must be complex, got {mixture_spectrogram.dtype}")
    check_same_device(**{"sources": target_spectrogram, name: mixture_spectrogram})
    return mixture_spectrogram.unsqueeze(1)
