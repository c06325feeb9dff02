"""The state of a run: all that decides how a stopped training goes on."""

import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sepkit.generators import get_generators, seed_generators, set_generators
from sepkit.processes import Processes
from sepkit.training.plain_state import flatten
from sepkit.training.run_folder import RunFolder

_EARLIER = {"plan": {"version": 1, "songs": None}, "guard": {"in_row": 0}}  # of states that do not hold it
_RANKS = "ranks"  # key of the states of all processes but the main one
_STRIDE = 0x9E3779B97F4A7C15  # between the seeds of processes
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
    """The global random generators of the process, and of a device, as a part of a training; each process has its own.

    Those of devices on which it ran before are kept for when it runs there again.

    Args:
        device: whose generator counts, too.
        processes: which train together.
    """

    def __init__(self, device: torch.device, processes: Processes) -> None:
        self.device, self.processes, self._elsewhere = device, processes, {}

    def seed(self, seed: int) -> None:
        """Set the generators of all processes but the main one, whose are set before weights are drawn."""
        if self.processes.rank:
            seed_generators((seed + self.processes.rank * _STRIDE) % 2**63, self.device)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the main process, and among them those of the others."""
        own, *others = self.processes.gather([{**self._elsewhere, **get_generators(self.device)}])
        return {**own, _RANKS: others} if others else own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the states; where there are more processes than before, the new ones draw from new generators."""
        states = [state, *state.get(_RANKS, [])]
        rank = self.processes.rank
        if rank < len(states):
            set_generators(states[rank], self.device)
            here = {*get_generators(self.device), _RANKS}
            self._elsewhere = {name: value for name, value in states[rank].items() if name not in here}
        else:
            self.seed(zlib.crc32(states[0]["cpu"].numpy().tobytes()))


class Checkpointer:
    """Save and restore a training by its parts.

    Args:
        parts: what has `state_dict`, of tensors and plain data, and `load_state_dict`, by name.
        folder: of the run; None: nothing is written.
        minutes: after which the next one is due; None: never.
        processes: which train together.
    """

    def __init__(
        self,
        parts: Mapping[str, Any],
        folder: RunFolder | None,
        minutes: float | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes()
        self.parts, self.folder, self.minutes = dict(parts), folder, minutes
        self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the time since the last checkpoint is up."""
        return self.minutes is not None and time.monotonic() - self._saved >= 60 * self.minutes

    def refuse_others(self, state: Mapping[str, Any], moved: Sequence[str]) -> None:
        """Refuse a state of other songs, where their paths are others: `Drawing.refuse_others`."""
        self.parts["plan"].refuse_others({**_EARLIER, **state}["plan"], moved)

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
        """Write the state into the run folder, which the main process has; all of them are asked for theirs."""
        state = self.state() if self.folder or self.processes.world > 1 else {}
        if self.folder:
            self.folder.save(state)
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
