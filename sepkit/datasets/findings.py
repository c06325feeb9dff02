"""Findings: what is wrong with data, or worth knowing of it, where, and what to do."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path


class Severity(IntEnum):
    """How much a finding matters.

    Attributes:
        NOTE: worth knowing.
        WARNING: numbers may be other than they seem.
        ERROR: numbers would be wrong, or the data cannot be read: nothing is trained on it.
    """

    NOTE = 0
    WARNING = 1
    ERROR = 2


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        severity: how much it matters.
        kind: short name of what was looked for, such as "clipping".
        message: what was found, with its numbers.
        file: where; None: it is about more than a file, which the message names.
        position: seconds from the file's beginning; None: all of it.
        remedy: what to do; "": nothing.
    """

    severity: Severity
    kind: str
    message: str
    file: Path | None = None
    position: float | None = None
    remedy: str = ""

    def __str__(self) -> str:
        place = "" if self.file is None or str(self.file) in self.message else f"{self.file}: "
        at = "" if self.position is None else f" at {self.position:.1f} s"
        return f"{place}{self.message}{at}" + (f"; {self.remedy}" if self.remedy else "")
