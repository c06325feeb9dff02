"""What networks of this package are handed."""

from torch import Tensor, nn

from sepkit.arguments import check_is_tensor


def magnitude_of(spectrogram: Tensor, n_channels: int, n_bins: int, network: nn.Module) -> Tensor:
    """Take the magnitude of a spectrogram that fits a network.

    Args:
        spectrogram: complex (B, C, F, N).
        n_channels: C.
        n_bins: F.
        network: whose weights are of the spectrogram's type, and on its device.

    Raises:
        TypeError: it is no tensor.
        ValueError: its shape, type or device is not the network's.
    """
    check_is_tensor(spectrogram, "spectrogram")
    shape = tuple(spectrogram.shape)
    if not spectrogram.is_complex() or len(shape) != 4 or shape[1:3] != (n_channels, n_bins) or 0 in shape:
        wanted = f"complex (B, {n_channels}, {n_bins}, N) with at least one frame"
        raise ValueError(f"spectrogram must be {wanted}, got {spectrogram.dtype} {shape}")
    magnitude, weights = spectrogram.abs(), next(network.parameters())
    if (weights.dtype, weights.device) != (magnitude.dtype, magnitude.device):
        raise ValueError(
            f"spectrogram must be of the weights' type and on their device, {weights.dtype} on {weights.device}, got "
            f"{magnitude.dtype} on {magnitude.device}: convert one with .to(), and compute in halves under autocast"
        )
    return magnitude
