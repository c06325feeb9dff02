"""The built-in songs: four stems made by arithmetic alone, written once into the user's cache."""

from sepkit.datasets.demo.song import STEMS
from sepkit.datasets.demo.songs import demo_root, demo_song, make_song

__all__ = ["STEMS", "demo_root", "demo_song", "make_song"]
