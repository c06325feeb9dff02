"""Waveforms that networks of this package are handed."""

from torch import Tensor, nn

from sepkit.arguments import check_waveform


def check_mixture(mixture: Tensor, network: nn.Module) -> None:
    """Refuse what is no waveform (B, C, T) in the type of a network's weights and on their device.

    Args:
        mixture: (B, C, T).
        network: with at least one weight.

    Raises:
        TypeError: it is no tensor.
        ValueError: its shape, type or device is not the network's.
    """
    check_waveform(mixture, "mixture", "(B, C, T)")
    weights = next(network.parameters())
    if (weights.dtype, weights.device) != (mixture.dtype, mixture.device):
        raise ValueError(
            f"mixture must be of the weights' type and on their device, {weights.dtype} on {weights.device}, got "
            f"{mixture.dtype} on {mixture.device}: convert one with .to(), and compute in halves under autocast"
        )
