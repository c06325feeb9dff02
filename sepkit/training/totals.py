"""What the steps of an epoch add up to, from which its means follow."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from sepkit.processes import Processes


class Totals:
    """Sums by name, and the counts of what was summed; a name without a count is a total.

    Args:
        processes: over which means are taken; all of them ask for means and states at the same time.
    """

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.clear()

    def clear(self) -> None:
        """Start at zero."""
        self.sums: dict[str, float | Tensor] = {}
        self.counts: dict[str, float] = {}

    def add(self, sums: Mapping[str, float | Tensor], counts: Mapping[str, float] = MappingProxyType({})) -> None:
        """Add sums, on any device, and their counts."""
        for own, others in ((self.sums, sums), (self.counts, counts)):
            for name, value in others.items():
                own[name] = own.get(name, 0) + value

    def means(self) -> dict[str, float]:
        """Divide the sums of all processes by their counts; what was never counted is 0."""
        summed = self.state_dict()
        return {name: value / max(1, summed["counts"].get(name, 1)) for name, value in summed["sums"].items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums and counts of all processes as numbers."""
        own = {"sums": {name: float(value) for name, value in self.sums.items()}, "counts": dict(self.counts)}
        shares = self.processes.gather([own])
        return {kind: _add([share[kind] for share in shares]) for kind in own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore sums and counts, which one process holds for all."""
        self.clear()
        if self.processes.is_main:
            self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


def _add(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for share in shares for name in share)
    return {name: sum(share.get(name, 0) for share in shares) for name in names}
