"""MUSDB18: its examples, its facts, and its `.stem.mp4` files."""

from sepkit.lazy import lazy_names

__all__ = ["MUSDB18"]

__getattr__, __dir__ = lazy_names(__name__, {"MUSDB18": "sepkit.datasets.musdb.dataset"}, __all__)
