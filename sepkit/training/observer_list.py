"""Call the observers of a training so that what they draw and switch leaves it as it was."""

import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from sepkit.generators import borrowed_generators
from sepkit.observers import TrainingView
from sepkit.separator import evaluating
from sepkit.training.sharding import whole_separator

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer

MOMENTS = ("on_step", "on_epoch", "on_end")


class ObserverList:
    """The observers of a training.

    Args:
        observers: objects with one or more of the methods `on_step`, `on_epoch` and `on_end`.
        device: whose random generator is restored, as those of the process are.

    Raises:
        ValueError: an object has none of the methods, or two write the same.
    """

    def __init__(self, observers: Sequence[object], device: torch.device) -> None:
        written: set[str] = set()
        for observer in observers:
            name, writes = type(observer).__name__, getattr(observer, "writes", None)
            if not any(callable(getattr(observer, moment, None)) for moment in MOMENTS):
                raise ValueError(f"an observer must have {' or '.join(MOMENTS)}, {name} has none")
            if writes in written:  # they would take the same file from each other
                raise ValueError(
                    f"two observers {name} write {writes}: leave one out; observers=[] leaves out those "
                    "of the recipe, which are TensorBoard unless it names others"
                )
            written |= {writes} - {None}
        self.observers, self.device = list(observers), device
        self._recipe: Mapping[str, Any] | None = None
        self._history: tuple[Mapping[str, Any], ...] = ()  # the same for all steps of an epoch

    def waits_for(self, moment: str) -> bool:
        """Return whether an observer is called at this moment."""
        return any(hasattr(observer, moment) for observer in self.observers)

    def notify(self, moment: str, trainer: "Trainer", row: Mapping[str, Any]) -> None:
        """Show a training to the observers, if it has a run folder; one that raises is left out from then on."""
        if not trainer.folder or not self.waits_for(moment):
            return
        self._recipe = self._recipe or MappingProxyType(trainer.recipe.to_dict())
        if len(self._history) != len(trainer.history):
            self._history = tuple(map(MappingProxyType, trainer.history))
        view = TrainingView(
            epoch=trainer.epoch,
            step=trainer.step,
            row=MappingProxyType(row),
            history=self._history,
            averaged=trainer.averaged,
            folder=trainer.folder.path,
            recipe=self._recipe,
            finished=trainer.finished,
            trained=whole_separator(trainer),
            excerpts=trainer.excerpts,
        )
        with torch.no_grad(), borrowed_generators(self.device):
            for observer in [observer for observer in self.observers if hasattr(observer, moment)]:
                try:
                    with evaluating(view.averaged), evaluating(view.trained):
                        getattr(observer, moment)(view)
                except Exception as error:
                    self.observers.remove(observer)
                    reason = f"{type(observer).__name__} failed and is left out from now on ({type(error).__name__}"
                    warnings.warn(f"observer {reason}: {error})", stacklevel=3)
