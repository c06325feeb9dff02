"""Songs and their stems, read from their files."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sepkit import audio
from sepkit.datasets.inspection import Inspection, inspect_song
from sepkit.datasets.readers import locate_pcm16, read_into
from sepkit.datasets.roles import Roles

RESIDUAL = "(residual)"  # name of a recorded mixture minus its parts
_MARGIN = 2048  # samples around a segment that hide the edges of the resampler


@dataclass(frozen=True)
class Stem:
    """One recorded stem of a song, read at the song's rate and number of channels."""

    info: audio.AudioInfo
    sample_rate: int
    n_channels: int
    allow_damaged: bool = False

    @cached_property
    def n_samples(self) -> int:
        """Return the length in samples at `sample_rate`."""
        return self.info.n_samples * self.sample_rate // self.info.sample_rate

    @property
    def position_step(self) -> int:
        """Return the factor of positions at `sample_rate` that are whole samples of the file."""
        return self.sample_rate // math.gcd(self.sample_rate, self.info.sample_rate)

    @cached_property
    def _pcm_offset(self) -> int | None:
        return locate_pcm16(self.info)

    def read(self, start: int, n_samples: int) -> Tensor:
        """Read (C, n_samples) from a position that is a multiple of `position_step`; zeros follow the end."""
        out = torch.empty(self.n_channels, n_samples)
        self.read_into(out, start)
        return out

    def read_into(self, out: Tensor, start: int) -> None:
        """Fill out (C, T) as `read` does."""
        n_samples = max(0, min(out.shape[-1], self.n_samples - start))
        out[:, n_samples:] = 0
        if n_samples and self.info.sample_rate == self.sample_rate:
            read_into(self.info, self._pcm_offset, start, out[:, :n_samples], self.allow_damaged)
        elif n_samples:
            out[:, :n_samples] = audio.adapt_channels(self._read_resampled(start, n_samples), self.n_channels)

    def _read_resampled(self, start: int, n_samples: int) -> Tensor:
        rate, file_rate = self.sample_rate, self.info.sample_rate
        margin = min(start, -(-_MARGIN // self.position_step) * self.position_step)
        first = (start - margin) * file_rate // rate
        wanted = min(-(-(n_samples + margin + _MARGIN) * file_rate // rate), self.info.n_samples - first)
        read = audio.read(self.info.path, first, wanted, allow_truncated=self.allow_damaged, info=self.info)[0]
        return audio.resample(read, file_rate, rate)[:, margin : margin + n_samples]


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
        return min(stem.n_samples for stem in self._recorded.values())

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

        The other parts of a song that lacks a target may hold that target: none of them is taken. The residual of a
        mixture is another part, no trace of the parts, only where ten seconds show it; it is taken only where without
        it one part would be alone.
        """
        if name not in targets and not all(map(self.has, targets)):
            return False
        if name == RESIDUAL:
            return self.has(name) and len(self.parts) == 1 and self.inspection.holds_another_part
        return self.has(name)

    def read_into(self, out: Tensor, names: Sequence[str], start: int) -> None:
        """Fill out (K, C, T) with the parts of these names, each read once; those that the song lacks with zeros.

        `RESIDUAL` is the recorded mixture minus all parts.
        """
        for waveform, name in zip(out, names, strict=True):
            if name in self.parts:
                self.stems[name].read_into(waveform, start)
            elif name == RESIDUAL and self.mixture:
                self.mixture.read_into(waveform, start)
            else:
                waveform.zero_()
        if self.mixture and RESIDUAL in names:
            residual = out[names.index(RESIDUAL)]
            for name in self.parts:
                residual -= out[names.index(name)] if name in names else self.stems[name].read(start, out.shape[-1])

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
