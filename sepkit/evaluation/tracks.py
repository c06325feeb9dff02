"""The tracks that are scored: separated by a model, or read from files."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from sepkit import audio
from sepkit.chunking import Chunking
from sepkit.datasets import Song
from sepkit.datasets.check import describe_inspections
from sepkit.evaluation.measure import TrackAudio
from sepkit.evaluation.settings import WITH_MIXTURE
from sepkit.evaluation.targets import Targets
from sepkit.inference import StreamSeparator, measure_statistics
from sepkit.separator import Separator

_BLOCK = 1 << 16  # samples that go into the model at a time
_SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class Track:
    """A song and what is scored of it, in memory only while it is scored.

    Attributes:
        song: the recordings.
        scored: what is scored where the mixture is known.
    """

    song: Song
    scored: Targets

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return self.song.name

    @cached_property
    def mixed(self) -> bool:
        """Return whether the mixture is known; of one recorded stem alone it is not."""
        return self.song.mixture is not None or len(self.song.parts) > 1

    @cached_property
    def targets(self) -> Targets:
        """Return what is scored: without mixture no residual that has no recording."""
        unknown = not self.mixed and self.scored.residual not in (None, *self.song.stems)
        return Targets(self.scored.stems) if unknown else self.scored

    @property
    def sample_rate(self) -> int:
        """Return the rate of all its waveforms, Hz."""
        return next(iter(self.song.stems.values())).sample_rate

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (S, C, T) of the targets."""
        return len(self.targets.names), self.song.n_channels, self.song.n_samples

    @property
    def files(self) -> tuple[audio.AudioInfo, ...]:
        """List the files from which it is read."""
        recorded = [*self.song.stems.values(), *([self.song.mixture] if self.song.mixture else [])]
        return tuple(file.info for stem in recorded for file in stem.files)

    def read(self) -> TrackAudio:
        """Read the mixture and the references, and read or separate the estimates."""
        mixture = self.song.read_mixture(0, self.song.n_samples)
        reference, estimate = self.reference(mixture), self.estimate(mixture)
        return TrackAudio(mixture if self.mixed else None, reference, estimate, self.targets.names)

    def reference(self, mixture: Tensor) -> Tensor:
        """Read the references (S, C, T)."""
        targets, song = self.targets, self.song
        rows = mixture.new_empty(self.shape)
        for row, name in zip(rows, targets.stems, strict=False):
            row.copy_(song.read_stem(name, 0, song.n_samples))
        if targets.residual:
            names = targets.recorded_residual(song.stems, song.parts)
            parts = (song.read_stem(name, 0, song.n_samples) for name in names)
            rows[-1] = sum(parts) if names else mixture - rows[0]
        return rows


@dataclass(frozen=True)
class ModelTrack(Track):
    """A track that a model separates.

    Attributes:
        model: at the song's rate.
        chunking: how songs are cut into chunks.
    """

    model: Separator
    chunking: Chunking

    def estimate(self, mixture: Tensor) -> Tensor:
        """Separate the mixture (C, T) into the estimates (S, C, T)."""
        names = self.targets.estimated(self.model.sources)
        stems = [name for name in self.model.sources if name in names]
        places, done = [names.index(name) for name in stems], 0
        rows = mixture.new_empty(self.shape)
        rate, blocks = self.model.sample_rate, mixture.split(_BLOCK, -1)
        statistics = measure_statistics(self.model, blocks, rate, len(mixture))
        stream = StreamSeparator(self.model, rate, len(mixture), stems, self.chunking, statistics)
        for block in stream.run(blocks):
            rows[places, :, done : done + block.shape[-1]] = block
            done += block.shape[-1]
        return _fill_residual(rows, mixture, len(names))


@dataclass(frozen=True)
class FileTrack(Track):
    """A track whose estimates are files.

    Attributes:
        estimates: of the targets, in their order; of the residual, there may be none.
    """

    estimates: tuple[audio.AudioInfo, ...]

    @property
    def files(self) -> tuple[audio.AudioInfo, ...]:
        """List the files from which it is read."""
        return (*self.estimates, *super().files)

    def estimate(self, mixture: Tensor) -> Tensor:
        """Read the estimates (S, C, T) beside a mixture (C, T)."""
        rows = mixture.new_empty(self.shape)
        for row, info in zip(rows, self.estimates, strict=False):
            row.copy_(audio.read(info.path, info=info)[0])
        return _fill_residual(rows, mixture, len(self.estimates))


def describe_tracks(tracks: Sequence[Track]) -> list[str]:
    """Describe what ten seconds of the recorded stems show, and what is left out where no mixture is known."""
    targets = {name for track in tracks for name in track.targets.stems}
    shown, refused = describe_inspections([track.song for track in tracks], targets)
    unmixed = [track.name for track in tracks if not track.mixed]
    if not unmixed:
        return [*shown, *refused]
    more = f" and {len(unmixed) - _SHOWN} more" if len(unmixed) > _SHOWN else ""
    left_out = f"{', '.join(WITH_MIXTURE)}, mixture and oracle are left out, and what is beside the stem"
    return [*shown, *refused, f"no mixture is known of {', '.join(unmixed[:_SHOWN])}{more}: {left_out}"]


def _fill_residual(rows: Tensor, mixture: Tensor, n_estimated: int) -> Tensor:
    """Fill the last row, where it is not estimated, with the mixture minus the first."""
    if n_estimated < len(rows):
        rows[-1] = mixture - rows[0]
    return rows
