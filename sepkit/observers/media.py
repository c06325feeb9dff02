"""What is shown of a training, and when: one source for TensorBoard, Weights & Biases and the files of the run."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sepkit.excerpts import Excerpt
from sepkit.files import atomic_file
from sepkit.observers.pictures import picture_file
from sepkit.observers.training_view import TrainingView

BEST = Path("training") / "best_excerpts.safetensors"  # in the run folder
_INTERVALS = 9  # parts of a training at whose ends something is shown, as after the first validation


@dataclass(frozen=True)
class Media:
    """What is shown of an epoch with its numbers.

    Attributes:
        epoch: which one.
        sounds: (C, T) at `sample_rate`, by name.
        sample_rate: Hz.
        pictures: PNG files, by name.
    """

    epoch: int
    sounds: dict[str, Tensor]
    sample_rate: int
    pictures: dict[str, Path]


class MediaSchedule:
    """Choose what is shown of a training: the first validation, nine more on the way, and the best."""

    def __init__(self) -> None:
        self._latest: tuple[Excerpt, ...] = ()
        self._shown: set[int] = set()
        self._drawing = True

    def after_epoch(self, view: TrainingView) -> Iterator[Media]:
        """Show what is due after an epoch."""
        if not view.excerpts:
            return
        self._latest = view.excerpts
        if view.row.get("best") and not is_due(view):
            _keep(view)
        if is_due(view):
            self._shown.add(view.epoch)
            first = not any("SDR" in row for row in view.history[:-1])
            for number, excerpt in enumerate(view.excerpts, 1):
                sounds = sounds_of(excerpt, excerpt.track, first)
                pictures = self._draw(view.folder, "epoch", view.epoch, number, excerpt, excerpt.track)
                yield Media(view.epoch, sounds, excerpt.sample_rate, pictures)

    def at_end(self, view: TrainingView) -> Iterator[Media]:
        """Show the best epoch of a finished training, unless it has been shown."""
        epoch = next((row["epoch"] for row in reversed(view.history) if row.get("best")), 0)
        if not view.finished or epoch in self._shown or _was_due(view, epoch):
            return
        for number, excerpt in enumerate(_kept(view, epoch, self._latest), 1):
            name = f"{excerpt.track}, best epoch"
            pictures = self._draw(view.folder, "best", epoch, number, excerpt, name)
            yield Media(epoch, sounds_of(excerpt, name, False), excerpt.sample_rate, pictures)

    def _draw(self, folder: Path, kind: str, epoch: int, number: int, excerpt: Excerpt, name: str) -> dict[str, Path]:
        """Draw an excerpt, whose number is in the name of the file; numbers and sounds are not lost with it."""
        label = f"{kind}_{epoch:04d}" + (f"-{number}" if number > 1 else "")  # a track may begin with "2_"
        if self._drawing:
            try:
                return {f"{name}/picture": picture_file(folder, label, excerpt)}
            except Exception as error:
                self._drawing = False
                reason = f"{type(error).__name__}: {error}"
                warnings.warn(f"pictures fail and are left out from now on ({reason})", stacklevel=2)
        return {}


def _keep(view: TrainingView) -> None:
    """Write what the best so far separated, since a training may go on without this process."""
    estimates = {str(number): excerpt.estimates.contiguous() for number, excerpt in enumerate(view.excerpts)}
    (view.folder / BEST).parent.mkdir(exist_ok=True)
    with atomic_file(view.folder / BEST) as path:
        save_file(estimates, path, {"epoch": str(view.epoch)})


def _kept(view: TrainingView, epoch: int, excerpts: Sequence[Excerpt]) -> list[Excerpt]:
    """Return the same excerpts as the best separated them; none where that was not written down."""
    try:
        with safe_open(view.folder / BEST, "pt") as file:
            if (file.metadata() or {}).get("epoch") != str(epoch):
                return []
            kept = [file.get_tensor(str(number)) for number in range(len(excerpts))]
    except (OSError, SafetensorError):
        return []
    return [replace(excerpt, estimates=estimates) for excerpt, estimates in zip(excerpts, kept, strict=True)]


def _was_due(view: TrainingView, epoch: int) -> bool:
    """Return whether an earlier epoch was one of those that are shown."""
    history = tuple(row for row in view.history if row["epoch"] <= epoch)
    return bool(history) and is_due(replace(view, epoch=epoch, row=history[-1], history=history, finished=None))


def is_due(view: TrainingView) -> bool:
    """Return whether an epoch is one of the ten that are shown; it depends on the history alone."""
    former = [row for row in view.history[:-1] if "SDR" in row]
    if not former or view.finished:
        return True
    shares = [_share(row, view.recipe["training"]) for row in (former[-1], view.row)]
    return int(_INTERVALS * shares[0]) < int(_INTERVALS * shares[1])


def _share(row: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the share of the training that is done after an epoch, in epochs, or in time where that is further."""
    limit = settings["max_minutes"]
    return max(row["epoch"] / settings["epochs"], row["total_seconds"] / (60 * limit) if limit else 0.0)


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """List what is a curve over the epochs."""
    return {name: float(value) for name, value in row.items() if name != "epoch"}


def sounds_of(excerpt: Excerpt, prefix: str, fixed: bool) -> dict[str, Tensor]:
    """List the sounds of an excerpt: per source the estimate, and the residual without it.

    Args:
        excerpt: with targets.
        prefix: of the names.
        fixed: list the mixture and the targets too, which are the same in every epoch.
    """
    sounds = {f"{prefix}/mixture": excerpt.mixture} if fixed else {}
    for source, estimate, target in zip(excerpt.sources, excerpt.estimates, excerpt.targets, strict=True):
        sounds[f"{prefix}/{source}/estimate"] = estimate
        sounds[f"{prefix}/{source}/residual"] = excerpt.mixture - estimate
        if fixed:
            sounds[f"{prefix}/{source}/target"] = target
    return sounds


def parameters_of(view: TrainingView) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """List the weights that are trained by name, with the last step's gradient, unscaled and clipped."""
    for name, weights in view.trained.named_parameters():
        if weights.requires_grad:
            yield name, weights, weights.grad
