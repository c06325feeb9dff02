"""What is shown to an observer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepkit.excerpts import Excerpt
from sepkit.separator import Separator


@dataclass(frozen=True)
class TrainingView:
    """What is shown to an observer, who must not change it.

    Attributes:
        epoch: epochs that are complete.
        step: optimizer steps that are done.
        row: after a step its loss terms and gradient norm, as tensors; else the latest line of the history.
        history: a line for each complete epoch, as in `history.csv`.
        averaged: the separator that is validated and saved, with averaged weights where the recipe asks for them.
        folder: of the run.
        recipe: as plain data.
        finished: why the training has ended; None as long as it has not.
        trained: the separator that the optimizer works on. After a step and after an epoch its parameters hold the
            gradients of the last step, unscaled and clipped; the norm before clipping is the row's `grad_norm`.
        excerpts: after a validation a few seconds of what it separated, the same ones all through the training;
            else empty.
    """

    epoch: int
    step: int
    row: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    averaged: Separator
    folder: Path
    recipe: Mapping[str, Any]
    finished: str | None
    trained: Separator
    excerpts: tuple[Excerpt, ...] = ()
