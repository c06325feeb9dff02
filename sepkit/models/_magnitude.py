"""What networks of this package are handed."""

import torch
from torch import Tensor, nn

from sepkit.arguments import check_is_tensor
from sepkit.transforms import absolute


def magnitude_of(spectrogram: Tensor, n_channels: int, n_bins: int, network: nn.Module) -> Tensor:
    """Take the magnitude, (B, C, F, N), of a spectrogram that fits a network; see `parts_of`."""
    _check(spectrogram, n_channels, n_bins, network)
    return absolute(spectrogram)


def check_magnitude(magnitude: Tensor, n_channels: int, n_bins: int, network: nn.Module) -> None:
    """Refuse what is no magnitude (B, C, F, N) that fits a network; see `parts_of`."""
    check_is_tensor(magnitude, "magnitude")
    shape = tuple(magnitude.shape)
    if magnitude.is_complex() or len(shape) != 4 or shape[1:3] != (n_channels, n_bins) or 0 in shape:
        wanted = f"real (B, {n_channels}, {n_bins}, N) with at least one frame"
        raise ValueError(f"magnitude must be {wanted}, got {magnitude.dtype} {shape}")
    _check_type(magnitude, magnitude.dtype, network, "magnitude")


def parts_of(spectrogram: Tensor, n_channels: int, n_bins: int, network: nn.Module, frame_multiple: int = 1) -> Tensor:
    """Take real and imaginary parts, (B, C, F, N, 2), of a spectrogram that fits a network.

    Args:
        spectrogram: complex (B, C, F, N).
        n_channels: C.
        n_bins: F.
        network: whose weights are of the spectrogram's type, and on its device.
        frame_multiple: what N must be a multiple of.

    Raises:
        TypeError: it is no tensor.
        ValueError: its shape, type or device is not the network's.
    """
    _check(spectrogram, n_channels, n_bins, network)
    if spectrogram.shape[-1] % frame_multiple:
        wanted = f"a multiple of {frame_multiple} frames, as a Separator pads it"
        raise ValueError(f"spectrogram must have {wanted}, got {spectrogram.shape[-1]}")
    return torch.view_as_real(spectrogram)


def _check(spectrogram: Tensor, n_channels: int, n_bins: int, network: nn.Module) -> None:
    check_is_tensor(spectrogram, "spectrogram")
    shape = tuple(spectrogram.shape)
    if not spectrogram.is_complex() or len(shape) != 4 or shape[1:3] != (n_channels, n_bins) or 0 in shape:
        wanted = f"complex (B, {n_channels}, {n_bins}, N) with at least one frame"
        raise ValueError(f"spectrogram must be {wanted}, got {spectrogram.dtype} {shape}")
    _check_type(spectrogram, spectrogram.real.dtype, network, "spectrogram")


def _check_type(tensor: Tensor, dtype: torch.dtype, network: nn.Module, name: str) -> None:
    weights = next(network.parameters())
    if (weights.dtype, weights.device) != (dtype, tensor.device):
        raise ValueError(
            f"{name} must be of the weights' type and on their device, {weights.dtype} on {weights.device}, got "
            f"{dtype} on {tensor.device}: convert one with .to(), and compute in halves under autocast"
        )
