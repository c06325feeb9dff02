"""Call the observers of a training so that they can look and not change."""

import warnings
from collections.abc import Sequence

import torch

from sepkit.generators import borrowed_generators
from sepkit.observers import TrainingView
from sepkit.separator import evaluating
from sepkit.training.signals import TrainingError

MOMENTS = ("on_step", "on_epoch", "on_end")


class ObserverList:
    """The observers of a training.

    Args:
        observers: objects with one or more of the methods `on_step`, `on_epoch` and `on_end`.
        device: whose random generator is put back, beside those of the process.

    Raises:
        ValueError: an object has none of the methods, or two write the same.
    """

    def __init__(self, observers: Sequence[object], device: torch.device) -> None:
        for observer in observers:
            if not any(callable(getattr(observer, moment, None)) for moment in MOMENTS):
                raise ValueError(f"an observer must have {' or '.join(MOMENTS)}, {type(observer).__name__} has none")
        _check_different(observers)
        self.observers, self.device = list(observers), device

    def waits_for(self, moment: str) -> bool:
        """Say whether anybody looks at this moment."""
        return any(hasattr(observer, moment) for observer in self.observers)

    def call(self, moment: str, view: TrainingView) -> None:
        """Let everybody look; who raises is left out from now on.

        Raises:
            TrainingError: an observer changed what is trained.
        """
        with torch.no_grad(), borrowed_generators(self.device):
            for observer in [observer for observer in self.observers if hasattr(observer, moment)]:
                self._call(observer, moment, view)

    def _call(self, observer: object, moment: str, view: TrainingView) -> None:
        before, name = _state(view), type(observer).__name__
        try:
            with evaluating(view.separator), evaluating(view.trained):
                getattr(observer, moment)(view)
        except Exception as error:
            self.observers.remove(observer)
            reason = f"{type(error).__name__}: {error}"
            warnings.warn(f"observer {name} failed and is left out from now on ({reason})", stacklevel=3)
        if _state(view) != before:
            self.observers = [other for other in self.observers if other is not observer]
            raise TrainingError(f"observer {name} changed the separator in {moment}: it may only look, leave it out")


def _check_different(observers: Sequence[object]) -> None:
    """Refuse observers that would take the same file from each other."""
    written: set[str] = set()
    for observer in observers:
        what = getattr(observer, "writes", None)
        if what in written:
            raise ValueError(
                f"two observers {type(observer).__name__} write {what}: leave one out; observers=[] leaves out those "
                "of the recipe, which are TensorBoard unless it says otherwise"
            )
        written |= {what} - {None}


def _state(view: TrainingView) -> list[tuple]:
    """Note what shows whether weights were written, or will be trained otherwise."""
    found = (view.separator, view.trained)
    tensors = [tensor for separator in found for tensor in (*separator.parameters(), *separator.buffers())]
    return [(id(tensor), tensor._version, tensor.dtype, tensor.requires_grad) for tensor in tensors]
