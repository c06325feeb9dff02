"""Songs with stems: folders, memory, MUSDB18, and the songs that come built in."""

from sepkit.datasets.check import check_songs
from sepkit.datasets.folder import AudioFolder, SongDataset, create_audio_folder, finish
from sepkit.datasets.memory import AudioDataset, create_audio_dataset, load_stems, verify_dataset
from sepkit.datasets.musdb import MUSDB18
from sepkit.datasets.plan import EpochSampler, Plan, Planner
from sepkit.datasets.songs import DatasetError, Song, open_songs

__all__ = [
    "MUSDB18",
    "AudioDataset",
    "AudioFolder",
    "DatasetError",
    "EpochSampler",
    "Plan",
    "Planner",
    "Song",
    "SongDataset",
    "check_songs",
    "create_audio_dataset",
    "create_audio_folder",
    "finish",
    "load_stems",
    "open_songs",
    "verify_dataset",
]
