"""Which stems are scored, which together, and the residual beside them."""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sepkit.evaluation.measure import EVERYTHING, Group
from sepkit.instantiate import did_you_mean

ACCOMPANIMENT, VOCALS = "accompaniment", "vocals"
RESIDUAL_NAMES = (ACCOMPANIMENT, "residual")  # of the mixture without one stem
_MUSDB = (VOCALS, "drums", "bass", "other", ACCOMPANIMENT)  # museval's order


class Targets(NamedTuple):
    """The targets of a track.

    Attributes:
        stems: those with a recording and an estimate of their own, in order.
        residual: the last target, the mixture without the first stem; None: there is none.
        summed: the residual's reference is the recorded one, else the sum of all parts but the vocals.
        groups: which are scored together.
    """

    stems: tuple[str, ...]
    residual: str | None = None
    summed: bool = False
    groups: Sequence[Group] = EVERYTHING

    @property
    def names(self) -> tuple[str, ...]:
        """Return all targets, S names, in the order of all rows."""
        return (*self.stems, self.residual) if self.residual else self.stems

    @property
    def overlapping(self) -> bool:
        """Return whether the residual holds other targets, too."""
        return self.residual is not None and len(self.stems) > 1

    def estimated(self, available: Collection[str]) -> tuple[str, ...]:
        """List the targets that a model estimates itself: the first rows."""
        own = self.residual if self.summed and self.residual in available else None
        return (*self.stems, own) if own else self.stems

    def recorded_residual(self, stems: Collection[str], parts: Collection[str]) -> list[str]:
        """List the stems whose sum is the residual; none: it is the mixture without the first stem."""
        if not self.summed:
            return []
        return [self.residual] if self.residual in stems else [name for name in parts if name != VOCALS]


def choose_targets(available: Iterable[str], chosen: Sequence[str] | None, protocol: str) -> Targets:
    """Choose what is scored.

    Args:
        available: stems that are estimated.
        chosen: one or some of them, in any order, or the residual beside one; None: all.
        protocol: "sepkit": all are scored together, one stem alone beside the residual. "musdb": as
            museval.eval_mus_track does, vocals and accompaniment together, all but the accompaniment together; without
            vocals all together.

    Raises:
        ValueError: a name is unknown, or the protocol does not score such targets.
    """
    available, chosen = tuple(available), [chosen] if isinstance(chosen, str) else chosen
    possible = (*available, *((ACCOMPANIMENT,) if "vocals" in available and ACCOMPANIMENT not in available else ()))
    unknown = [name for name in chosen or () if name not in possible]
    if unknown:
        hint = did_you_mean(unknown[0], possible)
        raise ValueError(f"targets must be among {', '.join(possible)}, got {', '.join(unknown)}{hint}")
    names = tuple(name for name in possible if name in (chosen or available))
    return _musdb_targets(names) if protocol == "musdb" else _joint_targets(names, available)


def _joint_targets(names: tuple[str, ...], available: tuple[str, ...]) -> Targets:
    if len(names) == 1 and names[0] in available:
        return Targets(names, next(name for name in RESIDUAL_NAMES if name not in names))
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
    residual = ACCOMPANIMENT if ACCOMPANIMENT in names or stems == (VOCALS,) else None
    if residual is None or len(stems) == 1 or VOCALS not in stems:
        return Targets(stems, residual, summed=True)
    last = len(stems)
    groups = (Group(slice(0, last), slice(1, None)), Group(slice(0, last + 1, last)))
    return Targets(stems, residual, True, groups)
