"""The names of auralflow, an earlier package, with its arguments: what its users import goes on working.

Each is built on this package's own parts, and is also found where auralflow's users look for it
(`sepkit.datasets.AudioFolder`, `sepkit.transforms.AudioTransform`, `sepkit.observers.LossCallback`,
`sepkit.plots.spec_show_diff`).
"""

from sepkit.auralflow.callbacks import (
    AudioPlayerCallback,
    LayersVisualCallback,
    LossCallback,
    SpectrogramVisualCallback,
    WaveformVisualCallback,
)
from sepkit.auralflow.datasets import (
    AudioDataset,
    AudioFolder,
    create_audio_dataset,
    create_audio_folder,
    load_stems,
    verify_dataset,
)
from sepkit.auralflow.plots import spec_show_diff, waveform_show_diff
from sepkit.auralflow.transforms import AudioTransform

__all__ = [
    "AudioDataset",
    "AudioFolder",
    "AudioPlayerCallback",
    "AudioTransform",
    "LayersVisualCallback",
    "LossCallback",
    "SpectrogramVisualCallback",
    "WaveformVisualCallback",
    "create_audio_dataset",
    "create_audio_folder",
    "load_stems",
    "spec_show_diff",
    "verify_dataset",
    "waveform_show_diff",
]
