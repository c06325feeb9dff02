"""Which stems are scored, which together, and what is left beside them."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from sepkit.evaluation.measure import EVERYTHING, Group

ACCOMPANIMENT, VOCALS = "accompaniment", "vocals"
REST_NAMES = (ACCOMPANIMENT, "residual")  # what is left beside one stem
_MUSDB = (VOCALS, "drums", "bass", "other", ACCOMPANIMENT)  # museval's order


class Targets(NamedTuple):
    """The targets of a track.

    Attributes:
        stems: those with a recording and an estimate of their own, in order.
        rest: the last target, what is left beside the first stem; None: there is none.
        summed: the rest's reference is the recorded one, else the sum of all parts but the vocals; not summed, it is
            the mixture without the first stem.
        groups: which are scored together.
    """

    stems: tuple[str, ...]
    rest: str | None = None
    summed: bool = False
    groups: Sequence[Group] = EVERYTHING

    @property
    def names(self) -> tuple[str, ...]:
        """All targets, S names."""
        return (*self.stems, self.rest) if self.rest else self.stems

    @property
    def overlapping(self) -> bool:
        """Tell whether the rest holds other targets, too."""
        return self.rest is not None and len(self.stems) > 1


def choose_targets(available: Iterable[str], chosen: Sequence[str] | None, protocol: str) -> Targets:
    """Choose what is scored.

    Args:
        available: stems that are estimated.
        chosen: one or some of them, in any order, or what is left beside one; None: all.
        protocol: "sepkit": all are scored together, one stem alone beside what is left of the mixture. "musdb": as
            museval.eval_mus_track does, vocals and accompaniment together, all but the accompaniment together; without
            vocals all together.

    Raises:
        ValueError: a name is unknown, or the protocol does not score such targets.
    """
    available, chosen = tuple(available), [chosen] if isinstance(chosen, str) else chosen
    possible = (*available, *((ACCOMPANIMENT,) if "vocals" in available and ACCOMPANIMENT not in available else ()))
    unknown = [name for name in chosen or () if name not in possible]
    if unknown:
        nearest = get_close_matches(unknown[0], possible, 1)
        hint = f", nearest is {nearest[0]}" if nearest else ""
        raise ValueError(f"targets must be among {', '.join(possible)}, got {', '.join(unknown)}{hint}")
    names = tuple(name for name in possible if name in (chosen or available))
    return _musdb_targets(names) if protocol == "musdb" else _joint_targets(names, available)


def _joint_targets(names: tuple[str, ...], available: tuple[str, ...]) -> Targets:
    if len(names) == 1 and names[0] in available:
        return Targets(names, next(name for name in REST_NAMES if name not in names))
    if ACCOMPANIMENT in names and ACCOMPANIMENT not in available:
        if len(names) == 2 and "vocals" in names:
            return Targets(("vocals",), ACCOMPANIMENT)
        raise ValueError(
            f"accompaniment stands beside vocals alone, got {', '.join(names)}: choose other targets, or protocol musdb"
        )
    return Targets(names)


def _musdb_targets(names: tuple[str, ...]) -> Targets:
    unknown = [name for name in names if name not in _MUSDB]
    if unknown:
        raise ValueError(f"protocol musdb knows the targets {', '.join(_MUSDB)}, got {', '.join(unknown)}: choose some")
    stems = tuple(name for name in _MUSDB[:-1] if name in names)
    if VOCALS not in stems and len(names) < 2:
        raise ValueError(
            f"protocol musdb needs vocals, or two targets, got {', '.join(names)}: choose others, or no protocol"
        )
    rest = ACCOMPANIMENT if ACCOMPANIMENT in names or stems == (VOCALS,) else None
    if rest is None or len(stems) == 1 or VOCALS not in stems:
        return Targets(stems, rest, summed=True)
    last = len(stems)
    groups = (Group(slice(0, last), slice(1, None)), Group(slice(0, last + 1, last)))
    return Targets(stems, rest, True, groups)
