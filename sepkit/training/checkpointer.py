"""The state of a run: all that decides how a stopped training goes on."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from sepkit.generators import get_generators, set_generators
from sepkit.training.plain_state import flatten
from sepkit.training.run_folder import RunFolder

_EARLIER = {"plan": {"version": 1, "songs": None}, "guard": {"in_row": 0}}  # of states that do not hold it
_OTHERS = {"separator": "the network is not what it was", "objective": "the losses are not what they were"}


class Attributes:
    """Attributes of an object as its state: those that are named, or all."""

    def __init__(self, owner: object, names: Sequence[str] | None = None) -> None:
        self.owner, self.names = owner, names

    def state_dict(self) -> dict[str, Any]:
        """Return the attributes by name."""
        attributes = vars(self.owner)
        return {name: attributes[name] for name in (attributes if self.names is None else self.names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the attributes."""
        vars(self.owner).update(state)


class Generators:
    """The global random generators of the process, and of a device, as a part of a training."""

    def __init__(self, device: torch.device) -> None:
        self.state_dict = partial(get_generators, device)
        self.load_state_dict = partial(set_generators, device=device)


class Checkpointer:
    """Save and restore a training by its parts.

    Args:
        parts: what has `state_dict`, of tensors and plain data, and `load_state_dict`, by name.
        folder: of the run; None: nothing is written.
        minutes: after which the next one is due; None: never.
    """

    def __init__(self, parts: Mapping[str, Any], folder: RunFolder | None, minutes: float | None = None) -> None:
        self.parts, self.folder, self.minutes = dict(parts), folder, minutes
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the time since the last checkpoint is up."""
        return self.minutes is not None and time.monotonic() - self._saved >= 60 * self.minutes

    def state(self) -> dict[str, Any]:
        """Return the states of all parts by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the states of all parts.

        Raises:
            ValueError: it is the state of another network, of other losses, or of another order of draws.
        """
        state = {**_EARLIER, **state}
        for name, part in self.parts.items():
            if name == "scaler" and not state[name]:  # it was off, in another precision
                continue
            try:
                part.load_state_dict(state[name])
            except RuntimeError as error:
                if name not in _OTHERS:
                    raise
                remedy = "bring the code back, or start with --restart"
                raise ValueError(f"{_OTHERS[name]} when this run began: {remedy}") from error

    def save(self) -> None:
        """Write the state into the run folder."""
        if self.folder:
            self.folder.save(self.state())
        self._saved = time.monotonic()


def check_readable(states: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse states, by name of the part, that cannot be written down: ValueError names the part."""
    for name, state in states.items():
        try:
            flatten(state)
        except ValueError as error:
            raise ValueError(
                f"the state of {name} must be of tensors, numbers, strings, and lists or mappings of these, so "
                "that a stopped training can go on: change what its attributes or its get_extra_state hold, or take "
                "another"
            ) from error
