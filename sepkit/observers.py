"""What looks on while a separator is trained.

An observer is any object with one or more of the methods `on_step(view)`, `on_epoch(view)`, after validation and
saving, and `on_end(view)`, once, whether the training is finished, was stopped or failed. It may look at everything
and change nothing: it is called without gradients, and the random state and the mode of every module are put back
afterwards. An observer that raises is reported in a warning and left out from then on; the training does not end for
it. A recipe names observers under `observers`, and `train(observers=[...])` takes objects.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepkit.separator import Separator

_SUFFIX = ".sepkit"  # of the names of the event files, by which they are told from others'


@dataclass(frozen=True)
class View:
    """What an observer sees.

    Attributes:
        epoch: epochs that are complete.
        step: optimizer steps that are done.
        row: after a step its loss terms and gradient norm, as tensors; else the latest line of the history.
        history: a line for each complete epoch, as in `history.csv`.
        separator: the one that is validated and saved, with averaged weights where the recipe asks for them.
        folder: of the run.
        recipe: as plain data.
        finished: why the training has ended; None as long as it has not.
    """

    epoch: int
    step: int
    row: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...]
    separator: Separator
    folder: Path
    recipe: Mapping[str, Any]
    finished: str | None


class TensorBoard:
    """Write every number of the history as a curve over the epochs, for `tensorboard --logdir runs`.

    A training that goes on writes its curves anew, so that no epoch is missing or there twice.
    """

    def __init__(self) -> None:
        self._writer = None

    def on_epoch(self, view: View) -> None:
        """Write an epoch, and at first those before it."""
        if self._writer is None:
            self._open(view.folder)
            self._write(view.history[:-1])
        self._write([view.row])
        self._writer.flush()

    def on_end(self, view: View) -> None:  # noqa: ARG002
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _open(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        former = list(folder.glob(f"events.out.tfevents.*{_SUFFIX}"))
        for path in former:
            path.unlink()
        # The purge makes a TensorBoard that is running forget what it read from the former files.
        self._writer = SummaryWriter(str(folder), purge_step=0 if former else None, filename_suffix=_SUFFIX)

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            for name, value in row.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, row["epoch"])
