"""Songs with a wide choice of singers, made by arithmetic alone."""

from sepkit.datasets.singing.songs import make_song, write_songs

__all__ = ["make_song", "write_songs"]
