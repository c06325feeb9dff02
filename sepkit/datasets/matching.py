"""Remixes: how many examples are made of several songs, and which songs fit each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepkit.arguments import is_integer, is_number
from sepkit.datasets.keys import parse_key

_FIFTHS = 12  # steps of the circle
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Remix:
    """How many examples take their stems from different songs, and which songs go together.

    Attributes:
        share: of the examples, [0, 1].
        tempo: largest difference between tempi, as a share of them, [0, 0.5); half and double tempo are the same, so
            that 0.41 fits any; None: tempo plays no part.
        key: most steps between keys on the circle of fifths, 0 to 6; a major key and its relative minor are the same;
            None: key plays no part.
    """

    share: float
    tempo: float | None = None
    key: int | None = None

    def __post_init__(self) -> None:
        if not is_number(self.share) or not 0 <= self.share <= 1:
            raise ValueError(f"remix must lie in [0, 1], got {self.share}")
        if self.tempo is not None and (not is_number(self.tempo) or not 0 <= self.tempo < 0.5):
            raise ValueError(f"tempo must be a share in [0, 0.5), such as 0.04 for 4 %, got {self.tempo}")
        if self.key is not None and (not is_integer(self.key) or not 0 <= self.key <= _FIFTHS // 2):
            raise ValueError(f"key must be a number of steps on the circle of fifths, 0 to 6, got {self.key}")


class Partners:
    """Find the songs whose stems go together.

    A song whose tempo or key is asked for and unknown goes with no other.

    Args:
        remix: what is asked for.
        tempi: of each song, beats per minute; None: unknown.
        keys: of each song, as "A minor"; None: unknown.

    Raises:
        ValueError: no song has what is asked for.
    """

    def __init__(self, remix: Remix, tempi: Sequence[float | None], keys: Sequence[str | None]) -> None:
        asked = {"tempo": (remix.tempo, tempi), "key": (remix.key, keys)} if remix.share else {}
        for name, (_, known) in ((name, entry) for name, entry in asked.items() if entry[0] is not None):
            if all(value is None for value in known):
                raise ValueError(
                    f"remix by {name} needs songs whose {name} is known, of {len(known)} none is: add the column "
                    f"{name} to manifest.csv, or remove remix.{name}"
                )
        self._circles = []  # place of each song on a circle, its circumference, the largest distance
        if asked and remix.tempo is not None:
            octaves = [math.nan if tempo is None else math.log2(tempo) for tempo in tempi]
            self._circles.append((np.array(octaves), 1, math.log2(1 + remix.tempo)))
        if asked and remix.key is not None:
            self._circles.append((np.array(list(map(_place_on_circle, keys))), _FIFTHS, remix.key))

    @property
    def n_alone(self) -> int:
        """Count the songs that go with no other, because what is asked for is not known of them."""
        return int(np.any([np.isnan(places) for places, _, _ in self._circles], axis=0).sum()) if self._circles else 0

    @property
    def facts(self) -> bytes:
        """Return what is known of the songs, as far as it plays a part."""
        return b"".join(places.tobytes() for places, _, _ in self._circles)

    def find(self, song: int) -> np.ndarray | None:
        """Find the songs that go with one, bool (songs,), itself among them; None: all."""
        if not self._circles:
            return None
        fits = np.ones(len(self._circles[0][0]), dtype=bool)
        for places, around, farthest in self._circles:
            distance = np.abs(places - places[song]) % around
            fits &= np.minimum(distance, around - distance) <= farthest + _ROUNDING  # false where unknown
        fits[song] = True
        return fits


def _place_on_circle(key: str | None) -> float:
    """Return the steps of a key, or of its relative major, above C on the circle of fifths; NaN where unknown."""
    if key is None:
        return math.nan
    tonic, mode = parse_key(key)
    return 7 * (tonic + 3 * (mode == "minor")) % _FIFTHS
