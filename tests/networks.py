"""Networks for tests that need a separator whose output is known, or that does something to its process."""

import os
import signal
import time
from pathlib import Path

from torch import Tensor, nn


class Constant(nn.Module):
    """Give source s the mask `gains[s]` everywhere."""

    def __init__(self, gains: list[float]) -> None:
        super().__init__()
        self.gains = gains

    def forward(self, spectrogram: Tensor) -> Tensor:
        gains = spectrogram.real.new_tensor(self.gains)[None, :, None, None, None]
        return gains.expand(len(spectrogram), -1, *spectrogram.shape[1:])


class Stuck(Constant):
    """Say in a folder which process is here, and never come to an end."""

    def __init__(self, gains: list[float], folder: str) -> None:
        super().__init__(gains)
        self.folder = folder

    def forward(self, _spectrogram: Tensor) -> Tensor:
        Path(self.folder, str(os.getpid())).touch()
        while True:
            time.sleep(1)


class Dying(Constant):
    """Take its process along, once a folder holds as many files of tracks as are let live."""

    def __init__(self, gains: list[float], folder: str, n_tracks: int) -> None:
        super().__init__(gains)
        self.folder, self.n_tracks = folder, n_tracks

    def forward(self, spectrogram: Tensor) -> Tensor:
        if len(list(Path(self.folder).glob("tracks/*/*.json"))) >= self.n_tracks:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(spectrogram)
