"""The stems of a song side by side: the mixture and their sum, what leaks, the fingerprint."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from sepkit.audio import AudioReader, describe_damage
from sepkit.datasets.fingerprint import Fingerprinter
from sepkit.datasets.leakage import Leak, LeakMeter
from sepkit.datasets.measurement import BLOCK_SECONDS, Measurement, Meter, frame_edges
from sepkit.datasets.songs import Song
from sepkit.datasets.stems import Stem

_LOUDEST = 8  # stems of a song that are compared with each other


@dataclass(frozen=True, eq=False)
class SongComparison:
    """Figures of the files of a song side by side.

    Attributes:
        sample_rate: Hz.
        n_samples: of the longest stem.
        fingerprint: (n,) uint32 of the recorded mixture, else of the sum.
        residual: (N,) mean square of the recorded mixture minus the sum, each 100 ms; empty: there is none.
        mixture: (N,) mean square of the recorded mixture, else of the sum, each 100 ms.
        leaks: what parts hold of each other, by numbers of `parts`.
        parts: names.
    """

    sample_rate: int
    n_samples: int
    fingerprint: np.ndarray
    residual: np.ndarray
    mixture: np.ndarray
    leaks: tuple[Leak, ...]
    parts: tuple[str, ...]


def compare_song(
    song: Song, levels: Mapping[str, float] | None = None
) -> tuple[SongComparison, dict[str, Measurement]]:
    """Read a song from its beginning to its end, and compare its stems.

    Args:
        song: which.
        levels: mean square of its parts, if known: of many, the loudest are searched for leaks.

    Returns:
        The comparison, and the measurements of what was read as it is in the file, by path.

    Raises:
        AudioError: a file cannot be read.
    """
    parts = list(song.parts)
    read = {name: song.stems[name] for name in song.stems} | ({"(mixture)": song.mixture} if song.mixture else {})
    rate = next(iter(read.values())).sample_rate
    loudest = sorted(parts, key=lambda name: -(levels or {}).get(name, 0.0))[:_LOUDEST]
    searched = [parts.index(name) for name in parts if name in loudest]
    leaks, prints = LeakMeter(rate, len(searched)), Fingerprinter(rate)
    meters = {name: Meter(rate, stem.n_channels) for name, stem in read.items() if _is_raw(stem)}
    residual, mixture = [], []
    with ExitStack() as stack:
        decoders = {name: stack.enter_context(_decode(read[name])) for name in meters if not read[name].is_direct}
        for blocks in _read_blocks(read, meters, decoders):
            stems = np.stack([blocks[name] for name in parts]) if parts else np.zeros((0, *blocks["(mixture)"].shape))
            total = stems.sum(0)
            prints.push(blocks.get("(mixture)", total).mean(0))
            leaks.push(stems[searched])
            if song.mixture:
                residual.append(_levels(blocks["(mixture)"] - total, rate))
            mixture.append(_levels(blocks.get("(mixture)", total), rate))
        damage = {name: describe_damage(decoder.damage, rate) for name, decoder in decoders.items()}
    found = tuple(leak._replace(source=searched[leak.source], holder=searched[leak.holder]) for leak in leaks.finish())
    n_samples = max(stem.n_samples for stem in read.values())
    joined = [np.concatenate([np.zeros(0, np.float32), *rows]) for rows in (residual, mixture)]
    comparison = SongComparison(rate, n_samples, prints.finish(), *joined, found, tuple(parts))
    return comparison, {read[name].info.path: meter.finish(damage.get(name, "")) for name, meter in meters.items()}


def _is_raw(stem: Stem) -> bool:
    """Return whether what a stem gives is what its one file holds."""
    file, info = stem.files[0], stem.info
    whole = len(stem.files) == 1 and file.start == 0 and file.stop == info.n_samples and file.gain == 1
    return whole and info.sample_rate == stem.sample_rate and info.n_channels == stem.n_channels


def _decode(stem: Stem) -> AudioReader:
    """Open the one file of a stem, which tells what of it does not decode."""
    return AudioReader(stem.info.path, allow_truncated=True, info=stem.info)


def _read_blocks(
    stems: Mapping[str, Stem], meters: Mapping[str, Meter], decoders: Mapping[str, AudioReader]
) -> Iterator[dict[str, np.ndarray]]:
    """Read all stems in step, (C, T) each, silence behind the shorter ones; measure what is read."""
    rate = next(iter(stems.values())).sample_rate
    end, block = max(stem.n_samples for stem in stems.values()), BLOCK_SECONDS * rate
    for start in range(0, end, block):
        blocks = {}
        for name, stem in stems.items():
            n_samples = min(block, end - start)
            own = max(0, min(n_samples, stem.n_samples - start))
            if name in decoders:
                blocks[name] = np.pad(decoders[name].read(own).numpy(), ((0, 0), (0, n_samples - own)))
            else:
                blocks[name] = stem.read(start, n_samples).numpy()
            if name in meters and own:
                meters[name].push(blocks[name][:, :own])
        yield blocks


def _levels(waveform: np.ndarray, sample_rate: int) -> np.ndarray:
    edges = frame_edges(sample_rate, waveform.shape[1])
    sums = np.add.reduceat(np.square(waveform).mean(0), edges[:-1], dtype=np.float64)
    return (sums / np.diff(edges)).astype(np.float32)


def loud_pieces(levels: Sequence[float] | np.ndarray, n_pieces: int, n_frames: int) -> list[int]:
    """Choose the first frames of pieces in which levels are highest, apart from each other.

    Args:
        levels: (N,) of frames.
        n_pieces: at most.
        n_frames: of a piece.
    """
    sums = np.convolve(np.asarray(levels, np.float64), np.ones(min(n_frames, max(1, len(levels)))), "valid")
    chosen = []
    for _ in range(n_pieces):
        if not len(sums) or sums.max() <= 0:
            break
        chosen.append(int(sums.argmax()))
        sums[max(0, chosen[-1] - n_frames + 1) : chosen[-1] + n_frames] = 0
    return sorted(chosen)
