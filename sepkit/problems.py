"""Problems of nested plain data, each at its place, in words that a user can act on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches


@dataclass(frozen=True)
class Problem:
    """What is wrong at one place of nested plain data.

    Attributes:
        path: keys and list positions down to the place; its end may be a key that is missing.
        message: what is wanted, what came, what to do.
        at_key: the key itself is wrong, not its value.
    """

    path: tuple[str | int, ...]
    message: str
    at_key: bool = False

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message

    def below(self, *outer: str | int) -> "Problem":
        """Return the same problem with its path from further outside."""
        return replace(self, path=(*outer, *self.path))


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as `losses.0.weight`."""
    return ".".join(map(str, path))


def did_you_mean(name: object, choices: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean '...'?" with the nearest right name, or "" where none is near.

    Args:
        name: what the user wrote; upper and lower case count as equal.
        choices: the right names.
        cutoff: likeness that is wanted, 0 to 1.
    """
    by_folded = {choice.casefold(): choice for choice in choices}
    nearest = get_close_matches(str(name).casefold(), by_folded, 1, cutoff)
    return f"; did you mean '{by_folded[nearest[0]]}'?" if nearest else ""


def show(value: object) -> str:
    """Return a value as one would write it in a recipe, shortened to 60 characters."""
    is_constant = value is None or isinstance(value, bool)
    try:
        text = {None: "null", True: "true", False: "false"}[value] if is_constant else repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return f"{type(value).__name__} with too many digits"
    return text if len(text) <= 60 else text[:57] + "..."
