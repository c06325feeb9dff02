"""What is printed of a training: a line an epoch, in columns that are named and formed as in `history.csv`."""

from collections.abc import Mapping, Sequence
from typing import Any

_FORMATS = {"seconds": ".1f", "data_wait": ".1f", "overhead": ".1%", "lr": ".2e", "grad_norm": ".3g", "memory": "d"}
_NARROWEST = 8
_EMPTY = "-"


class EpochTable:
    """Format epochs in fixed columns.

    Args:
        n_epochs: of the training.
        sources: names of the targets.
        terms: columns of the loss's terms, which are printed with the rate, the gradient's norm and the memory;
            None: without these.
    """

    def __init__(self, n_epochs: int, sources: Sequence[str], terms: Sequence[str] | None = None) -> None:
        self.n_epochs = n_epochs
        scores = ["SDR", *(f"SDR/{source}" for source in sources if len(sources) > 1)]
        details = [] if terms is None else [*terms, "lr", "grad_norm", "memory"]
        names = ["epoch", "loss", *scores, "best", "seconds", "data_wait", "overhead", *details]
        self._widths = {name: max(len(name), _NARROWEST) for name in names}
        self._widths["epoch"] = max(len("epoch"), 2 * len(str(n_epochs)) + 1)
        self._widths["best"] = len("best")

    def header(self) -> str:
        """Name the columns."""
        return "  ".join(f"{name:>{width}}" for name, width in self._widths.items())

    def line(self, row: Mapping[str, Any]) -> str:
        """Format an epoch; a missing value is a dash, and the best so far has a star."""
        return "  ".join(f"{self._cell(name, row):>{width}}" for name, width in self._widths.items()).rstrip()

    def _cell(self, name: str, row: Mapping[str, Any]) -> str:
        if name == "epoch":
            return f"{row['epoch']}/{self.n_epochs}"
        if name == "best":
            return "*" if row.get("best") else ""
        if name not in row:
            return _EMPTY
        return format(row[name], _FORMATS.get(name, ".2f" if name.startswith("SDR") else ".4f"))


def term_columns(row: Mapping[str, Any], terms: Sequence[str]) -> list[str]:
    """List the columns of an epoch that belong to terms of the loss."""
    return [name for name in row if name in terms or name.startswith(tuple(f"{term}/" for term in terms))]
