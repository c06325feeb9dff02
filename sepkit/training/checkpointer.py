"""The state of a run: all that decides how a stopped training goes on."""

import io
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sepkit.datasets import SongDataset
from sepkit.datasets.plan import VERSION as PLAN_VERSION
from sepkit.generators import get_generators, set_generators
from sepkit.training.run_folder import RunFolder

_EARLIER = {"plan": {"version": 1, "songs": None}}  # of states that do not hold it
_EARLIER = {"plan": {"version": 1, "songs": None}}  # of states that do not hold it
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


class DrawnExamples:
    """The version of the order in which examples are drawn, and the songs of which they are."""

    def __init__(self, dataset: SongDataset) -> None:
        self.dataset = dataset

    def state_dict(self) -> dict[str, Any]:
        """Return the version, and a hash of what draws depend on."""
        return {"version": PLAN_VERSION, "songs": self.dataset.planner.sampling.fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with the state of a run that goes on: other songs are a warning.

        Raises:
            ValueError: the order of draws is another.
        """
        if state["version"] != PLAN_VERSION:
            raise ValueError(
                f"this run drew its examples by plan {state['version']}, and this sepkit draws by plan {PLAN_VERSION}, "
                "which gives other ones: go on with the sepkit that it began with, or start with --restart"
            )
        if state["songs"] not in (None, self.dataset.planner.sampling.fingerprint):
            warnings.warn(
                "the songs to train on, or their lengths, stems or weights, are not those that this run began with: "
                "from here on its examples are others than they would have been; bring the songs back, or start with "
                "--restart",
                stacklevel=2,
            )


class Checkpointer:
    """Save and restore a training by its parts.

    Args:
        parts: what has `state_dict`, of tensors and plain data, and `load_state_dict`, by name.
        folder: of the run; None: nothing is written.
    """

    def __init__(self, parts: Mapping[str, Any], folder: RunFolder | None) -> None:
        self.parts, self.folder = dict(parts), folder

    def state(self) -> dict[str, Any]:
        """Return the states of all parts by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the states of all parts.

        Raises:
            ValueError: it is the state of another network, of other losses, or of another order of draws.
        """
        state = {**_EARLIER, **state}
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


def check_readable(states: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse states, by name of the part, that could be written, but not be read again: ValueError names the part."""
    for name, state in states.items():
        written = io.BytesIO()
        try:
            torch.save({key: value for key, value in state.items() if not isinstance(value, Tensor)}, written)
            written.seek(0)
            torch.load(written, weights_only=True)
        except Exception as error:  # whatever pickle makes of a strange object
            raise ValueError(
                f"the state of {name} must be of tensors, numbers, strings, and lists or mappings of these, so "
                "that a stopped training can go on: change what its attributes or its get_extra_state hold"
            ) from error
