"""Call the observers of a training so that they can look and not change."""

import warnings
from collections.abc import Sequence

import torch

from sepkit.observers import View
from sepkit.overlap_add import evaluating

MOMENTS = ("on_step", "on_epoch", "on_end")


class Audience:
    """The observers of a training.

    Args:
        observers: objects with one or more of the methods `on_step`, `on_epoch` and `on_end`.
        device: whose random state is put back, beside the CPU's.

    Raises:
        ValueError: an object has none of the methods.
    """

    def __init__(self, observers: Sequence[object], device: torch.device) -> None:
        for observer in observers:
            if not any(callable(getattr(observer, moment, None)) for moment in MOMENTS):
                raise ValueError(f"an observer must have {' or '.join(MOMENTS)}, {type(observer).__name__} has none")
        self.observers = list(observers)
        self.devices = [device] if device.type == "cuda" else []

    def waits_for(self, moment: str) -> bool:
        """Say whether anybody looks at this moment."""
        return any(hasattr(observer, moment) for observer in self.observers)

    def call(self, moment: str, view: View) -> None:
        """Let everybody look; who raises is left out from now on."""
        for observer in [observer for observer in self.observers if hasattr(observer, moment)]:
            with (
                torch.no_grad(),
                torch.random.fork_rng(self.devices),
                evaluating(view.separator),
                evaluating(view.trained),
            ):
                try:
                    getattr(observer, moment)(view)
                    continue
                except Exception as error:
                    reason = f"{type(error).__name__}: {error}"
            self.observers.remove(observer)
            name = type(observer).__name__
            warnings.warn(f"observer {name} failed and is left out from now on ({reason})", stacklevel=2)
