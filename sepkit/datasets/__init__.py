"""Songs with stems: folders, memory, MUSDB18, and the songs that come built in."""

from sepkit.datasets.activity import ActivityRules
from sepkit.datasets.check import check_songs
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.manifest import Manifest, Row
from sepkit.datasets.manifest_files import read_manifest, write_manifest
from sepkit.datasets.matching import Remix
from sepkit.datasets.musdb.dataset import MUSDB18
from sepkit.datasets.opening import open_songs
from sepkit.datasets.plan import EpochSampler, Plan, Planner
from sepkit.datasets.sampling import Sampling, SamplingRules, SongTable
from sepkit.datasets.song_dataset import Example, SongDataset, augment_and_mix
from sepkit.datasets.songs import Song
from sepkit.lazy import lazy_names

__all__ = [
    "MUSDB18",
    "ActivityRules",
    "AudioDataset",
    "AudioFolder",
    "DatasetError",
    "EpochSampler",
    "Example",
    "Manifest",
    "Plan",
    "Planner",
    "Remix",
    "Row",
    "Sampling",
    "SamplingRules",
    "Song",
    "SongDataset",
    "SongTable",
    "augment_and_mix",
    "check_songs",
    "create_audio_dataset",
    "create_audio_folder",
    "load_stems",
    "open_songs",
    "read_manifest",
    "verify_dataset",
    "write_manifest",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    dict.fromkeys(
        ("AudioDataset", "AudioFolder", "create_audio_dataset", "create_audio_folder", "load_stems", "verify_dataset"),
        "sepkit.auralflow.datasets",
    ),
    __all__,
)
