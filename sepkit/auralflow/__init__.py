"""The names of auralflow, an earlier package, with its arguments: what its users import goes on working.

Each is built on this package's own parts, and is also found where auralflow's users look for it
(`sepkit.datasets.AudioFolder`, `sepkit.transforms.AudioTransform`, `sepkit.losses.L1Loss`,
`sepkit.plots.spec_show_diff`).
"""

from sepkit.lazy import lazy_names

_NAMES = {
    "callbacks": (
        "AudioPlayerCallback",
        "LayersVisualCallback",
        "LossCallback",
        "SpectrogramVisualCallback",
        "WaveformVisualCallback",
    ),
    "datasets": (
        "AudioDataset",
        "AudioFolder",
        "create_audio_dataset",
        "create_audio_folder",
        "load_stems",
        "verify_dataset",
    ),
    "losses": ("L1Loss", "L2Loss", "LogL1Loss", "LogL2Loss", "RMSELoss", "si_sdr_loss"),
    "plots": ("spec_show_diff", "waveform_show_diff"),
    "transforms": ("AudioTransform",),
}
_SHARED = ("ComponentLoss", "KLDivergenceLoss", "MaskLoss", "component_loss", "kl_div_loss", "mask_loss")
_HOMES = dict.fromkeys(_SHARED, "sepkit.losses") | {
    name: f"sepkit.auralflow.{module}" for module, names in _NAMES.items() for name in names
}
__all__ = sorted(_HOMES)

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
