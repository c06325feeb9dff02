"""Songs and their stems, read from their files."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sepkit.datasets.inspection import Inspection, inspect_song
from sepkit.datasets.roles import Roles
from sepkit.datasets.stems import Stem, Store

RESIDUAL = "(residual)"  # name of a recorded mixture minus its parts


@dataclass(frozen=True)
class Song:
    """A song and its stems, and its mixture where that is recorded.

    Attributes:
        name: the folder's.
        stems: by name.
        mixture: as recorded; None: the sum of the parts.
        apart: stems that are not added to the mixture, because parts hold the same.
        root: the folder of the set that it belongs to, as it was given.
        split: "train", "valid" or "test".
        tempo: beats per minute; None: unknown.
        key: musical key as `sepkit.datasets.keys.normalize_key` spells it, "A minor"; None: unknown.
        licence: of its files; None: unknown.
        weight: of the set that it belongs to: how often its songs are drawn, for their length.
        aligned: whether its parts sound together; False: it has one, of a set that is there to be remixed.
        padded: whether shorter stems count as silent to the end of the longest; False: the song ends with the shortest.
    """

    name: str
    stems: dict[str, Stem]
    mixture: Stem | None = None
    apart: frozenset[str] = frozenset()
    root: str = ""
    split: str = ""
    tempo: float | None = None
    key: str | None = None
    licence: str | None = None
    weight: float = 1.0
    aligned: bool = True
    padded: bool = False

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return root, split and name, which no other song has in common with it."""
        return self.root, self.split, self.name

    @cached_property
    def parts(self) -> list[str]:
        """Name the stems whose sum is the mixture, but for the residual of a recorded one."""
        return [name for name in self.stems if name not in self.apart]

    @property
    def _recorded(self) -> dict[str, Stem]:
        return {**self.stems, **({"mixture": self.mixture} if self.mixture else {})}

    @cached_property
    def n_samples(self) -> int:
        """Return the length in samples."""
        return (max if self.padded else min)(stem.n_samples for stem in self._recorded.values())

    @cached_property
    def position_step(self) -> int:
        """Return the factor of positions that are whole samples in every file."""
        return math.lcm(*(stem.position_step for stem in self._recorded.values()))

    @property
    def n_channels(self) -> int:
        """Return C."""
        return next(iter(self._recorded.values())).n_channels

    def has(self, name: str) -> bool:
        """Return whether the mixture has a part of this name."""
        return name in self.parts or (name == RESIDUAL and self.mixture is not None)

    def lends(self, name: str, targets: Sequence[str]) -> bool:
        """Return whether remixed examples may take this part.

        The other parts of a song that lacks a target may hold that target: none of them is taken, but for tracks that
        are one part alone. The residual of a
        mixture is another part, no trace of the parts, only where ten seconds show it; it is taken only where without
        it one part would be alone.
        """
        if self.aligned and name not in targets and not all(map(self.has, targets)):
            return False
        if name == RESIDUAL:
            return self.has(name) and len(self.parts) == 1 and self.inspection.holds_another_part
        return self.has(name)

    def read_into(
        self,
        out: Tensor,
        names: Sequence[str],
        start: int,
        factors: Sequence[float] | None = None,
        swapped: Sequence[bool] | None = None,
        store: Store | None = None,
    ) -> None:
        """Fill with parts, each read once; `RESIDUAL` is the recorded mixture minus all parts.

        Args:
            out: (K, C, T) float32, filled.
            names: of the K parts; those that the song lacks are zeros.
            start: first sample, a multiple of `position_step`.
            factors: of each part; None: 1.
            swapped: of each part, whether the order of its channels is reversed; None: of none.
            store: read what it has there; None: read the files themselves.
        """
        if self.mixture and RESIDUAL in names:
            self._subtract_parts(out, names, start, store)
            _change(out, factors, swapped)
            return
        for k, (waveform, name) in enumerate(zip(out, names, strict=True)):
            if name in self.parts:
                factor = 1.0 if factors is None else factors[k]
                self.stems[name].read_into(waveform, start, factor, swapped is not None and swapped[k], store)
            else:
                waveform.zero_()

    def _subtract_parts(self, out: Tensor, names: Sequence[str], start: int, store: Store | None) -> None:
        """Fill out with parts as they are, the residual among them."""
        residual = out[names.index(RESIDUAL)]
        self.mixture.read_into(residual, start, store=store)
        for waveform, name in zip(out, names, strict=True):
            if name in self.parts:
                self.stems[name].read_into(waveform, start, store=store)
            elif name != RESIDUAL:
                waveform.zero_()
        other = None
        for name in self.parts:
            if name not in names and other is None:
                other = torch.empty_like(residual)
            part = out[names.index(name)] if name in names else other
            if name not in names:
                self.stems[name].read_into(part, start, store=store)
            residual -= part

    def read_stem(self, name: str, start: int, n_samples: int) -> Tensor:
        """Read (C, n_samples) of a stem or of `RESIDUAL`; zeros follow the end."""
        if name in self.stems:
            return self.stems[name].read(start, n_samples)
        out = torch.empty(1, self.n_channels, n_samples)
        self.read_into(out, [name], start)
        return out[0]

    def read_mixture(self, start: int, n_samples: int) -> Tensor:
        """Read (C, n_samples) of the mixture: the recorded one, else the sum of all parts."""
        if self.mixture:
            return self.mixture.read(start, n_samples)
        return sum(self.stems[name].read(start, n_samples) for name in self.parts)

    @cached_property
    def inspection(self) -> Inspection:
        """Return the findings in ten seconds of all files."""
        return inspect_song(self)


def _change(out: Tensor, factors: Sequence[float] | None, swapped: Sequence[bool] | None) -> None:
    """Scale waveforms (K, C, T) and reverse their channels, in place."""
    for k, waveform in enumerate(out):
        if swapped is not None and swapped[k]:
            waveform.copy_(waveform.flip(0))
        if factors is not None and factors[k] != 1:
            waveform.mul_(factors[k])


def make_song(name: str, stems: dict[str, Stem], roles: Roles) -> Song:
    """Make a song of its files.

    Args:
        name: of the song.
        stems: all files that can be read, by name of the stem.
        roles: what they are.
    """
    others = {stem_name: stem for stem_name, stem in stems.items() if stem_name != roles.mixture}
    return Song(name, others, stems.get(roles.mixture), frozenset(others) - set(roles.parts))


def stem_names(songs: Iterable[Song], targets: Sequence[str]) -> list[str]:
    """Name all that mixtures are made of: the targets, the other parts, and `RESIDUAL` where a mixture is recorded."""
    songs = list(songs)
    others = {name for song in songs for name in song.parts} - set(targets)
    residual = [RESIDUAL] if any(song.mixture for song in songs) else []
    return [*targets, *sorted(others), *residual]
