"""Networks for tests that need a separator whose output is known."""

from torch import Tensor, nn


class Constant(nn.Module):
    """Give source s the mask `gains[s]` everywhere."""

    def __init__(self, gains: list[float]) -> None:
        super().__init__()
        self.gains = gains

    def forward(self, spectrogram: Tensor) -> Tensor:
        gains = spectrogram.real.new_tensor(self.gains)[None, :, None, None, None]
        return gains.expand(len(spectrogram), -1, *spectrogram.shape[1:])
