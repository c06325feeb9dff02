"""What is shown of a training, and when: one source for TensorBoard, Weights & Biases and the files of the run."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sepkit.excerpts import Excerpt
from sepkit.observers.pictures import picture_file
from sepkit.observers.training_view import TrainingView

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
        self._best: tuple[int, tuple[Excerpt, ...]] = (0, ())
        self._shown: set[int] = set()
        self._drawing = True

    def after_epoch(self, view: TrainingView) -> Iterator[Media]:
        """Show what is due after an epoch."""
        if not view.excerpts:
            return
        if view.row.get("best"):
            self._best = (view.epoch, view.excerpts)
        if is_due(view):
            self._shown.add(view.epoch)
            first = not any("SDR" in row for row in view.history[:-1])
            for number, excerpt in enumerate(view.excerpts, 1):
                sounds = sounds_of(excerpt, excerpt.track, first)
                pictures = self._draw(view.folder, "epoch", view.epoch, number, excerpt, excerpt.track)
                yield Media(view.epoch, sounds, excerpt.sample_rate, pictures)

    def at_end(self, view: TrainingView) -> Iterator[Media]:
        """Show the best epoch of a finished training, unless it has been shown."""
        epoch, excerpts = self._best
        if not view.finished or epoch in self._shown:
            return
        for number, excerpt in enumerate(excerpts, 1):
            name = f"{excerpt.track}, best epoch"
            pictures = self._draw(view.folder, "best", epoch, number, excerpt, name)
            yield Media(epoch, sounds_of(excerpt, name, False), excerpt.sample_rate, pictures)

    def _draw(self, folder: Path, kind: str, epoch: int, number: int, excerpt: Excerpt, name: str) -> dict[str, Path]:
        """Draw an excerpt, whose number is in the name of the file; numbers and sounds are not lost with it."""
        label = f"{kind}_{epoch:04d}" + (f"_{number}" if number > 1 else "")
        if self._drawing:
            try:
                return {f"{name}/picture": picture_file(folder, label, excerpt)}
            except Exception as error:
                self._drawing = False
                reason = f"{type(error).__name__}: {error}"
                warnings.warn(f"pictures fail and are left out from now on ({reason})", stacklevel=2)
        return {}


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
