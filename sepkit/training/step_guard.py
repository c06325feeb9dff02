"""Steps whose loss or gradient is not finite: left out, counted, songs named; too many in a row end a training."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sepkit.objective import Judgement
from sepkit.training.signals import TrainingError

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer

_NAMED = 5  # songs
_REMEDY = "lower the learning rate, set training.clip, or choose precision float32"


class StepGuard:
    """Decide whether a step is taken.

    Args:
        module: what is trained; statistics that it measures are those of steps that were taken.
        limit: steps in a row that may be left out.

    Attributes:
        in_row: steps that were left out since one was taken.
        what: why the last one was left out.
    """

    def __init__(self, module: nn.Module, limit: int) -> None:
        self.limit, self.in_row, self.what = limit, 0, ""
        parts = [part for part in module.modules() if isinstance(part, _NormBase)]
        self._measured = [buffer for part in parts for buffer in part.buffers()]
        self._pinned = self._event = None
        self._before = [buffer.clone() for buffer in self._measured]

    def begin(self) -> None:
        """Keep what the step may spoil."""
        if self._measured:
            torch._foreach_copy_(self._before, self._measured)

    def allows(self, loss: Tensor, norm: Tensor, scaler: torch.amp.GradScaler) -> bool:
        """Return whether loss and gradient are finite, for which the device is waited for, once a step.

        Args:
            loss: ().
            norm: of the gradient, ().
            scaler: of the gradient; while it looks for its scale, it leaves out steps that are not counted.
        """
        values = self._read(torch.stack([loss.float(), norm.float()]))
        if all(map(math.isfinite, values)):
            self.in_row, self.what = 0, ""
            return True
        if self._measured:
            torch._foreach_copy_(self._measured, self._before)
        if math.isfinite(values[0]) and scaler.is_enabled() and scaler.get_scale() > 1:
            return False
        name, value = ("gradient", values[1]) if math.isfinite(values[0]) else ("loss", values[0])
        self.in_row, self.what = self.in_row + 1, f"the {name} became {value}"
        return False

    def _read(self, values: Tensor) -> list[float]:
        """Wait for numbers of a device."""
        if not values.is_cuda:
            return values.tolist()
        if self._pinned is None:
            self._pinned, self._event = torch.empty(len(values), pin_memory=True), torch.cuda.Event()
        self._pinned.copy_(values, non_blocking=True)
        self._event.record()
        self._event.synchronize()  # a wait that is meant, of which torch's search for others does not complain
        return self._pinned.tolist()

    def state_dict(self) -> dict[str, int]:
        """Return how many were left out in a row."""
        return {"in_row": self.in_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore how many were left out in a row."""
        self.in_row = state["in_row"]


def name_songs(trainer: "Trainer", items: Sequence[int]) -> str:
    """List the songs of examples of the current epoch, the first few by name.

    Args:
        trainer: whose examples.
        items: their numbers.
    """
    dataset = trainer.dataset
    plans = [dataset.plan((trainer.epoch, i)) for i in items]
    indices = dict.fromkeys(song for plan in plans for song in plan.songs if song is not None)
    named = [dataset.songs[song].name for song in indices]
    return ", ".join(named[:_NAMED]) + (f" and {len(named) - _NAMED} more" if named[_NAMED:] else "")


def report_skipped(trainer: "Trainer", items: Sequence[int], judged: Judgement, log: Callable[[str], object]) -> None:
    """Count and print a step that was left out.

    Args:
        trainer: whose guard left it out.
        items: numbers of its examples.
        judged: its losses.
        log: called with the line.

    Raises:
        TrainingError: there were too many in a row.
    """
    guard, sums = trainer.guard, judged.sums
    if trainer.processes.is_main:
        trainer.totals.add({"nonfinite": 1})
    terms = [term.name for term in trainer.objective.terms if not math.isfinite(float(sums.get(term.name, 0.0)))]
    which = ", ".join(terms) or "all terms are finite"
    log(f"step {trainer.step + 1} is left out: {guard.what} ({which}); its songs: {name_songs(trainer, items)}")
    if guard.in_row > guard.limit:
        raise diverged(trainer, which)


def diverged(trainer: "Trainer", which: str) -> TrainingError:
    """Return what to raise where a training cannot go on, in all processes at once.

    Args:
        trainer: whose guard left out steps.
        which: terms of the loss that are not finite.
    """
    in_row = trainer.guard.in_row
    (place,) = trainer.processes.broadcast((trainer.last_good,))
    steps = "" if in_row == 1 else f", {in_row} steps in a row"
    saved = f"the last good checkpoint is {place}" if place else "no checkpoint was written before it"
    return TrainingError(f"{trainer.guard.what} by step {trainer.step + 1} ({which}{steps}): {_REMEDY}; {saved}")
