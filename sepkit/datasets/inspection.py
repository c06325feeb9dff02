"""Ten seconds of a song: whether the mixture is the sum of its parts, what is silent, what is there twice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from sepkit.datasets.roles import is_sum

if TYPE_CHECKING:
    from sepkit.datasets.songs import Song

ALIKE = 0.95  # correlation from which parts count as alike
COPY = 0.9999  # correlation
REPORTED = -30.0  # dB, of a mixture without the sum of its parts
_PIECES, _SECONDS = 5, 2.0  # parts of a song that are read, and how long they are
_SILENT = 1e-6  # root mean square below which a stem counts as silent: -120 dB re full scale
_MOVING_ALIKE = 0.8  # correlation of their energies in time, above which a delay is searched
_EVERY = 4  # samples, of which one is enough where stems are compared
_FRAME = 2048  # of those, whose energy is compared
_NEAR = -10.0  # dB below which a sum is taken for one that was changed
_EXACT = -40.0  # dB below which a difference is none
_MENDED = 3.0  # dB that undoing a delay must bring
_CONTENT = -10.0  # dB re mixture, above which its residual may be another part
_EXPLAINED = 0.3  # share of it above which it is made of the parts
_WINDOW = 4096  # samples of the spectra in which that is measured


class Copy(NamedTuple):
    """Two parts that are one sound: scaled, inverted, or late."""

    first: str
    second: str
    correlation: float
    delay: int


class Mixing(NamedTuple):
    """How a recorded mixture differs from the sum of its parts.

    Attributes:
        residual: mixture minus sum, dB re mixture.
        factor: of the sum in the mixture, at the best delay; negative where it is inverted, 0 where the mixture
            is silent.
        delay: samples by which the mixture is late.
        aligned: the residual where delay and factor are undone, dB re mixture.
        apart: whether the residual is something of its own, not made of the parts.
    """

    residual: float
    factor: float = 1.0
    delay: int = 0
    aligned: float = -math.inf
    apart: bool = False


@dataclass(frozen=True)
class Inspection:
    """The findings in ten seconds of a song.

    Attributes:
        silent: stems without a sound in them.
        mixing: of a recorded mixture; None: there is none, or it or its parts are silent.
        copies: pairs of parts that are alike.
        doubles: by part, the other parts whose sum it is.
        nearly: the same, where the sum was changed: coded with loss, mastered.
        uncovered: by sum that is not added, what of it no part holds, dB re the sum.
    """

    silent: tuple[str, ...]
    mixing: Mixing | None
    copies: tuple[Copy, ...]
    doubles: Mapping[str, tuple[str, ...]]
    nearly: Mapping[str, tuple[str, ...]]
    uncovered: Mapping[str, float]

    @property
    def holds_another_part(self) -> bool:
        """Return whether the residual of the mixture is something of its own, no trace of the parts."""
        return self.mixing is not None and self.mixing.apart


def inspect_song(song: "Song") -> Inspection:
    """Read five times two seconds of all files of a song, and compare them.

    Args:
        song: of any length; a shorter one is read whole.
    """
    names = [*song.parts, *(name for name in song.stems if name in song.apart)]
    starts, n_samples = _choose_pieces(song)
    read = [song.stems[name] for name in names] + ([song.mixture] if song.mixture else [])
    waveforms = torch.empty(len(read), len(starts), song.n_channels, n_samples)  # (K, pieces, C, T)
    for stem, pieces in zip(read, waveforms, strict=True):
        for start, piece in zip(starts, pieces, strict=True):
            stem.read_into(piece, start)
    stems, thinned = waveforms[: len(names)], waveforms[..., ::_EVERY].contiguous()
    level = torch.linalg.vector_norm(thinned.flatten(1), dim=1) / math.sqrt(thinned[0].numel())
    sounding, gram = level > _SILENT, _scaled_gram(thinned[: len(names)])
    parts = [k for k, name in enumerate(names) if name not in song.apart and sounding[k]]
    apart = [k for k, name in enumerate(names) if name in song.apart and sounding[k]]
    sums = [k for k in apart if is_sum(names[k])]
    finer = [k for k in apart if k not in sums]
    mixing = None
    if song.mixture and parts:
        mixing = _compare(waveforms[-1], stems[parts].sum(0)) if sounding[-1] else Mixing(0.0, factor=0.0, aligned=0.0)
    sums_of = {} if mixing and mixing.residual < _EXACT else _find_sums(gram, parts)
    return Inspection(
        tuple(name for name, sounds in zip(names, sounding.tolist(), strict=False) if not sounds),
        mixing,
        tuple(Copy(names[i], names[j], *how) for i, j, *how in _find_copies(stems, thinned, gram, parts)),
        {names[k]: tuple(names[i] for i in used) for k, (used, missing) in sums_of.items() if missing < _EXACT},
        {names[k]: tuple(names[i] for i in used) for k, (used, missing) in sums_of.items() if missing >= _EXACT},
        {names[k]: _decibels(_explain(gram, k, [*parts, *finer])[1]) for k in sums},
    )


def _choose_pieces(song: "Song") -> tuple[list[int], int]:
    """Choose the first samples of the pieces and their length."""
    rate = next(iter(song.stems.values())).sample_rate
    n_samples = int(_SECONDS * rate)
    if song.n_samples <= _PIECES * n_samples:
        return [0], song.n_samples
    last = (song.n_samples - n_samples) / (_PIECES - 1)
    return [int(i * last) // song.position_step * song.position_step for i in range(_PIECES)], n_samples


def _decibels(ratio: float) -> float:
    return 10 * math.log10(max(float(ratio), 1e-12))


def _scaled_gram(stems: Tensor) -> Tensor:
    """Correlate all stems (K, ...), (K, K); silent ones with nothing."""
    flat = stems.flatten(1)
    gram = (flat @ flat.mT).double()
    norm = gram.diagonal().sqrt().clamp_min(1e-30)
    return gram / norm / norm[:, None]


def _find_copies(
    stems: Tensor, thinned: Tensor, gram: Tensor, parts: Sequence[int]
) -> list[tuple[int, int, float, int]]:
    """Find pairs of parts that are alike, where one may be late.

    A delay is searched where the energies of two move alike, which costs less than everywhere.
    """
    n_samples = thinned.shape[-1] // _FRAME
    frames = thinned[: len(stems), :, 0, : n_samples * _FRAME].unflatten(-1, (n_samples, _FRAME))
    energy = frames.square().sum(-1).flatten(1)  # (K, frames)
    moving = _scaled_gram(energy - energy.mean(1, keepdim=True)) if n_samples else torch.zeros_like(gram)
    copies = []
    for i, j in ((i, j) for a, i in enumerate(parts) for j in parts[a + 1 :]):
        correlation, delay = float(gram[i, j]), 0
        if abs(correlation) <= ALIKE and moving[i, j] > _MOVING_ALIKE:
            delay = _find_delay(stems[j], stems[i])
            late, early = _overlap(stems[j], stems[i], delay)
            correlation = float(_scaled_gram(torch.stack([late, early]))[0, 1])
        if abs(correlation) > ALIKE:
            copies.append((i, j, correlation, delay))
    return copies


def _find_delay(late: Tensor, early: Tensor) -> int:
    """Find the samples, at most half a piece, by which one of two (pieces, C, T) is later than the other."""
    n_samples = late.shape[-1]
    spectra = [torch.fft.rfft(waveform, 2 * n_samples) for waveform in (late, early)]
    correlation = torch.fft.irfft((spectra[0] * spectra[1].conj()).sum((0, 1)), 2 * n_samples)
    lags = torch.cat([correlation[-(n_samples // 2) :], correlation[: n_samples // 2 + 1]])
    return int(lags.abs().argmax()) - n_samples // 2


def _overlap(late: Tensor, early: Tensor, delay: int) -> tuple[Tensor, Tensor]:
    """Cut two (..., T) to what they share where a delay is undone."""
    if delay < 0:
        return _overlap(early, late, -delay)[::-1]
    return late[..., delay:], early[..., : early.shape[-1] - delay]


def _find_sums(gram: Tensor, parts: Sequence[int]) -> dict[int, tuple[list[int], float]]:
    """Find parts that are the sum of several others, and what is missing, in dB; of what is not exact, the nearest."""
    sums = {}
    for k in parts:
        others = [i for i in parts if i != k]
        weights, unexplained = _explain(gram, k, others)
        used = [i for i, weight in zip(others, weights.tolist(), strict=True) if abs(weight) > 0.03]
        positive = all(weight > -0.03 for weight in weights.tolist())
        if len(used) > 1 and positive and _decibels(unexplained) < _NEAR:
            sums[k] = used, _decibels(unexplained)
    nearest = min(sums, key=lambda k: sums[k][1], default=None)
    return {k: entry for k, entry in sums.items() if entry[1] < _EXACT or k == nearest}


def _explain(gram: Tensor, k: int, others: Sequence[int]) -> tuple[Tensor, float]:
    """Fit other stems to one, all at one level; return their weights and the share that is missing."""
    if not others:
        return gram.new_zeros(0), 1.0
    weights = torch.linalg.pinv(gram[others][:, others], rtol=1e-5, hermitian=True) @ gram[others, k]
    return weights, max(0.0, float(1 - weights @ gram[others, k]))


def _compare(mixture: Tensor, total: Tensor) -> Mixing:
    """Compare a mixture with the sum of its parts, both (pieces, C, T)."""
    difference = mixture - total
    residual = _decibels(difference.square().sum() / float(mixture.square().sum()))
    if residual < REPORTED:
        return Mixing(residual)
    fits = {delay: _match(*_overlap(mixture, total, delay)) for delay in (0, _find_delay(mixture, total))}
    delay = min(fits, key=lambda delay: fits[delay][1] + _MENDED * (delay != 0))
    factor, aligned = fits[delay]
    apart = delay == 0 and residual > _CONTENT and _explained_share(difference, total) < _EXPLAINED
    return Mixing(residual, factor, delay, aligned, apart)


def _match(mixture: Tensor, total: Tensor) -> tuple[float, float]:
    """Fit the sum to the mixture; return its factor and the residual, dB re mixture."""
    factor = float((mixture * total).sum() / total.square().sum().clamp_min(1e-30))
    residual = (mixture - factor * total).square().sum() / mixture.square().sum().clamp_min(1e-30)
    return factor, _decibels(residual)


def _explained_share(residual: Tensor, total: Tensor) -> float:
    """Measure the share of a residual that follows from the sum, by a filter or by a gain that changes in time."""
    n_window = min(_WINDOW, 2 ** int(math.log2(max(16, residual.numel() // 32))), residual.shape[-1])
    n_samples = residual.shape[-1] // n_window * n_window
    blocks = [part[..., :n_samples].unflatten(-1, (-1, n_window)) for part in (residual, total)]
    power = blocks[0].square().sum().clamp_min(1e-30)
    in_time = (blocks[0] * blocks[1]).sum(-1).square() / blocks[1].square().sum(-1).clamp_min(1e-20)
    spectra = [torch.fft.rfft(block * torch.hann_window(n_window), dim=-1).flatten(0, -2) for block in blocks]
    cross = (spectra[0] * spectra[1].conj()).sum(0).abs().square() / spectra[1].abs().square().sum(0).clamp_min(1e-20)
    return max(float(in_time.sum() / power), float(cross.sum() / spectra[0].abs().square().sum().clamp_min(1e-20)))
