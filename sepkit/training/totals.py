"""What the steps of an epoch add up to, from which its means follow."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sepkit.processes import Processes


class Totals:
    """Sums by name, and the counts of what was summed; a name without a count is a total.

    Args:
        processes: over which means are taken.
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
        pairs = [(float(value), self.counts.get(name, 1)) for name, value in self.sums.items()]
        sums, counts = self.processes.all_sum(torch.tensor(pairs, dtype=torch.float64)).unbind(1)
        return dict(zip(self.sums, (sums / counts.clamp(min=1)).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return sums and counts as numbers."""
        return {"sums": {name: float(value) for name, value in self.sums.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore sums and counts."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
