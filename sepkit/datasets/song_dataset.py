"""SongDataset: examples from songs on disk, read as they are needed."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sepkit.arguments import is_number
from sepkit.audio import AudioError
from sepkit.datasets.folding import check_augmentations, count_folded, fold
from sepkit.datasets.matching import Remix
from sepkit.datasets.opening import check_targets
from sepkit.datasets.plan import Number, Plan, check_number, plan_songs
from sepkit.datasets.sampling import SamplingRules
from sepkit.datasets.songs import RESIDUAL, Song, stem_names
from sepkit.datasets.stems import Store

ON_ERROR = ("stop", "skip")
_MOST_FAILURES = 20  # examples in a row that cannot be read, after which the next is not tried
_MOST_DRAWS = 1000  # of an example that has the same targets as one that cannot be read


class Example(NamedTuple):
    """An example before it is augmented and mixed.

    Attributes:
        stems: (K, C, T) as recorded, the targets first; zeros where absent.
        parameters: of each augmentation (K, ...).
        present: bool (S,), which targets the example has; what is absent may sound in the mixture.
    """

    stems: Tensor
    parameters: tuple[Tensor, ...]
    present: Tensor


class Filled(NamedTuple):
    """The facts of an example whose stems were read.

    Attributes:
        parameters: of each augmentation that is still to be applied, an array (K, ...).
        present: bool (S,), which targets the example has; what is absent may sound in the mixture.
        failures: why examples that were drawn before it could not be read, a sentence each.
    """

    parameters: tuple[np.ndarray, ...]
    present: np.ndarray
    failures: tuple[str, ...] = ()


class SongDataset(Dataset):
    """Examples from songs, each decided by (seed, epoch, i) alone.

    The residual of a recorded mixture, which is no part of its song, stays out of remixed examples, unless the song has
    one part alone and ten seconds show that the residual is another, no trace of a mixture that is late or mastered.

    Args:
        songs: what examples are drawn from.
        targets: names of the S stems that an example returns; every song has at least one of them, but for tracks of
            one stem alone.
        n_samples: length of an example.
        n_items: examples per epoch; None: as many as the songs are long.
        remix: share of the examples whose stems come from different songs, [0, 1], or which songs go together, too.
        augment: augmentations of `sepkit.augment`, applied in order to all stems before they are summed.
        seed: the same seed gives the same examples.
        sampling: how songs and positions are drawn; None: in proportion to the length of the songs.
        on_error: what a file does that cannot be read: "stop" raises its error; "skip" draws another example, the same
            one on every run, with the same targets.
        store: of decoded files, where there are some; None: files are read as they are.
    """

    def __init__(
        self,
        songs: Sequence[Song],
        targets: Sequence[str],
        n_samples: int,
        n_items: int | None = None,
        remix: float | Remix = 0.0,
        augment: Sequence[Any] = (),
        seed: int = 0,
        sampling: SamplingRules | None = None,
        on_error: str = "stop",
        store: Store | None = None,
    ) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        if n_samples < 1 or (n_items is not None and n_items < 1):
            raise ValueError(
                f"an example and an epoch must not be empty, got {n_samples} samples and {n_items} examples"
            )
        check_targets(targets)
        if not targets or len(set(targets)) < len(targets):
            raise ValueError(f"targets must name at least one stem, each once, got {list(targets)}")
        inside = [f"{song.name}: {name}" for song in songs for name in targets if name in song.apart]
        if inside:
            raise ValueError(f"no target may be part of another, as by their names these are: {', '.join(inside)}")
        lacking = [song.name for song in songs if not any(map(song.has, targets))]
        if len(lacking) < len(songs):  # tracks of one other stem alone sound beside the targets of remixed examples
            lacking = [song.name for song in songs if song.aligned and not any(map(song.has, targets))]
        if lacking or not songs:
            of = f"have none of {', '.join(targets)}: {', '.join(lacking)}" if lacking else "is missing: the songs"
            raise ValueError(f"every song must have at least one of the targets, {of}")
        self.songs, self.targets, self.n_samples = list(songs), list(targets), n_samples
        self.n_items = n_items or max(1, sum(song.n_samples for song in songs) // n_samples)
        self.stems = stem_names(songs, targets)
        check_augmentations(augment, len(self.stems))
        self.augment, self.n_folded = list(augment), count_folded(augment)
        self.on_error, self.store = on_error, store
        self.planner = plan_songs(songs, self.stems, len(self.targets), n_samples, remix, augment, seed, sampling)

    def __len__(self) -> int:
        return self.n_items

    @property
    def n_channels(self) -> int:
        """Return C."""
        return self.songs[0].n_channels

    def plan(self, number: Number) -> Plan:
        """Return the songs, positions and augmentations of example (epoch, i) without reading."""
        return self.planner.plan(number)

    def presence(self, numbers: Sequence[Number]) -> Tensor:
        """Return which targets examples have, bool (B, S) on the CPU, without reading them."""
        n_targets = len(self.targets)
        if self.planner.sampling.table.lends[:, :n_targets].all():  # so each song has them, and none is planned
            return torch.ones(len(numbers), n_targets, dtype=torch.bool)
        return torch.tensor([self.plan(number).present[:n_targets] for number in numbers])

    @property
    def steps(self) -> list[Any]:
        """Return the augmentations that are applied to stems that were read: all behind those that can be folded."""
        return self.augment[self.n_folded :]

    def read(self, number: Number) -> Example:
        """Read example (epoch, i) as it was recorded."""
        plan = self.plan(number)
        stems = torch.empty(len(self.stems), self.n_channels, self.n_samples)
        self._fill(plan, stems)
        parameters = tuple(torch.as_tensor(drawn, dtype=torch.float32) for drawn in plan.parameters)
        return Example(stems, parameters, torch.tensor(plan.present[: len(self.targets)]))

    def read_into(self, number: Number, out: Tensor, mixture: Tensor | None = None, plan: Plan | None = None) -> Filled:
        """Fill out with the stems of example (epoch, i); augmentations that can be folded are applied.

        Args:
            number: (epoch, i).
            out: (K, C, T) float32, filled.
            mixture: (C, T) float32, filled with the sum of the stems; None: they are not summed.
            plan: what `plan` returned for the number; None: it is decided here.

        Raises:
            sepkit.audio.AudioError: a file cannot be read; where those are skipped, twenty in a row cannot.
        """
        plan, failures = plan or self.plan(number), []
        while True:
            try:
                folded = fold(self.augment[: self.n_folded], plan.parameters[: self.n_folded], len(self.stems))
                self._fill(plan, out, mixture, folded.factors.tolist(), folded.swapped.tolist())
                break
            except AudioError as error:
                if self.on_error == "stop":
                    raise
                failures.append(str(error))
                if len(failures) == _MOST_FAILURES:
                    raise AudioError(
                        f"{_MOST_FAILURES} examples in a row cannot be read, of which the last is: {error}"
                    ) from error
                plan = self._draw_again(number, plan, len(failures))
        present = np.array(plan.present[: len(self.targets)])
        return Filled(plan.parameters[self.n_folded :], present, tuple(failures))

    def _draw_again(self, number: Number, failed: Plan, n_failures: int) -> Plan:
        """Draw another example in place of one that cannot be read, with the targets that the losses count on."""
        n_targets, wanted = len(self.targets), self.plan(number).present
        for attempt in range(_MOST_DRAWS):
            plan = self.planner.plan((*number, n_failures, attempt))
            same_place = (plan.songs, plan.positions) == (failed.songs, failed.positions)
            if plan.present[:n_targets] == wanted[:n_targets] and not same_place:
                return plan
        names = ", ".join(name for name, there in zip(self.targets, wanted, strict=False) if there)
        raise AudioError(f"no other example with the stems {names} can take the place of one that cannot be read")

    def _fill(
        self,
        plan: Plan,
        out: Tensor,
        mixture: Tensor | None = None,
        factors: Sequence[float] | None = None,
        swapped: Sequence[bool] | None = None,
    ) -> None:
        """Read the stems of a plan into out (K, C, T), and sum them into a mixture (C, T)."""
        whole = None if plan.remixed else self.songs[next(song for song in plan.songs if song is not None)]
        if whole and whole.mixture and RESIDUAL in self.stems:  # the residual takes all of them
            whole.read_into(out, self.stems, plan.positions[0], factors, swapped, self.store)
            if mixture is not None:
                torch.sum(out, 0, out=mixture)
            return
        for k, (song, position) in enumerate(zip(plan.songs, plan.positions, strict=True)):
            one = slice(k, k + 1)
            if song is None:
                out[k].zero_()
            else:
                changes = (factors and factors[one], swapped and swapped[one])
                self.songs[song].read_into(out[one], self.stems[one], position, *changes, self.store)
            if mixture is not None:
                _sum_alongside(out, mixture, k)

    def __getitem__(self, number: int | Number) -> tuple[Tensor, Tensor]:
        """Get an example.

        Args:
            number: (epoch, i), or i alone, which is of epoch 0.

        Returns:
            mixture (C, T), the sum of all stems, and targets (S, C, T), zeros where the example lacks one.
        """
        stems = torch.empty(len(self.stems), self.n_channels, self.n_samples)
        filled = self.read_into(check_number(number, self.n_items), stems)
        parameters = [torch.as_tensor(drawn, dtype=torch.float32) for drawn in filled.parameters]
        return augment_and_mix(stems, parameters, self.steps, len(self.targets))


def _sum_alongside(stems: Tensor, mixture: Tensor, k: int) -> None:
    """Sum stems (K, C, T) into a mixture (C, T), bit for bit as `Tensor.sum` does, when the stem k was read.

    A stem that was just read is still in the processor's cache. Beyond four, torch sums in another order.
    """
    n_stems = stems.shape[0]
    if n_stems > 4:
        if k == n_stems - 1:
            torch.sum(stems, 0, out=mixture)
    elif n_stems == 1:
        mixture.copy_(stems[0])
    elif k == 1:
        torch.add(stems[0], stems[1], out=mixture)
    elif k > 1:
        mixture.add_(stems[k])


def augment_and_mix(
    stems: Tensor, parameters: Sequence[Tensor], augment: Sequence[Any], n_targets: int
) -> tuple[Tensor, Tensor]:
    """Augment the stems of examples and sum them.

    Args:
        stems: (..., K, C, T), the targets first.
        parameters: for each augmentation (..., K, ...).
        augment: the augmentations, in order.
        n_targets: S.

    Returns:
        mixture (..., C, T) and targets (..., S, C, T).

    Raises:
        ValueError: an augmentation does not return stems as it got them.
    """
    for step, drawn in zip(augment, parameters, strict=True):
        augmented = step(stems, drawn)
        if not isinstance(augmented, Tensor) or (augmented.shape, augmented.dtype) != (stems.shape, stems.dtype):
            wanted, got = _describe(stems), _describe(augmented)
            raise ValueError(f"{type(step).__name__} must return stems as it gets them, {wanted}, got {got}")
        stems = augmented
    return stems.sum(-3), stems[..., :n_targets, :, :]


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def count_samples(seconds: float, sample_rate: int) -> int:
    """Convert the length of an example to samples.

    Raises:
        ValueError: it is no finite number of seconds above 0.
    """
    if not is_number(seconds) or not 0 < seconds < math.inf:
        raise ValueError(f"the length of an example must be a finite number of seconds above 0, got {seconds}")
    return round(seconds * sample_rate)
