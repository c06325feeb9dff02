"""Which weights of a base a network for other sources keeps, told by the shapes that depend on how many there are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Share:
    """What a weight has from a base.

    Attributes:
        name: of the weight of the base.
        dim: dimension in which the sources lie one after the other; None: the whole weight is taken.
        own: first row of this weight.
        base: first row of the base's weight.
        n_rows: of a source.
    """

    name: str
    dim: int | None = None
    own: int = 0
    base: int = 0
    n_rows: int = 0

    def copy(self, own: Tensor, base: Tensor) -> None:
        """Copy what is shared."""
        if self.dim is not None:
            own, base = own.narrow(self.dim, self.own, self.n_rows), base.narrow(self.dim, self.base, self.n_rows)
        own.copy_(base)


@dataclass(frozen=True)
class Inheritance:
    """What a network has from a base, and what of it is new.

    Attributes:
        shares: of each weight that is not wholly new, by its name.
        new: the sources for which a weight is new, wholly or in part, by its name.
    """

    shares: Mapping[str, Sequence[Share]]
    new: Mapping[str, Sequence[str]]

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> None:
        """Copy what is shared into weights, by name, from those of the base."""
        for name, shares in self.shares.items():
            for share in shares:
                share.copy(weights[name], base[share.name])


def inherit_all(shapes: Shapes) -> Inheritance:
    """Keep every weight."""
    return Inheritance({name: [Share(name)] for name in shapes}, {})


def inherit(
    sources: Sequence[str],
    shapes: Shapes,
    base_sources: Sequence[str],
    base: Shapes,
    more: Shapes,
    ordered: bool,
) -> Inheritance:
    """Keep what no source decides on, and what belongs to sources that the base has, too.

    A part of a network that is there for each source is told by its number, a row of a weight by its place.

    Args:
        sources: of the network.
        shapes: of its weights.
        base_sources: of the base, in its order.
        base: shapes of its weights.
        more: shapes that its weights have with one source more.
        ordered: the sources are known to lie in the order of their names; else nothing that depends on them is kept.

    Raises:
        ValueError: no weight depends on the sources, or none would be kept.
    """
    n_base = len(base_sources)
    places = _numbered_places(base, more, n_base)
    shares: dict[str, list[Share]] = {}
    new: dict[str, list[str]] = {}
    for name, shape in shapes.items():
        if (found := _of_one_source(name, places)) is not None:
            source = sources[found[1]]
            kept = ordered and source in base_sources
            place = base_sources.index(source) if kept else 0
            shares[name] = [Share(found[0].format(place))] if kept else []
            new[name] = [] if kept else [source]
        elif base[name] == more[name]:
            shares[name], new[name] = [Share(name)], []
        else:
            rows = _rows(shape, len(sources), base[name], more[name], n_base) if ordered else None
            shares[name] = list(_row_shares(name, rows, sources, base_sources))
            new[name] = [source for source in sources if rows is None or source not in base_sources]
    if base == more:
        raise ValueError("no weight of the network depends on the sources")
    if not any(shares.values()):
        raise ValueError("every weight of the network depends on the sources, so that none would be kept")
    return Inheritance({n: s for n, s in shares.items() if s}, {n: s for n, s in new.items() if s})


def _numbered_places(base: Shapes, more: Shapes, n_base: int) -> set[str]:
    """List the names, with a gap for the source's number, of weights of which there is one for each source."""
    places = set()
    for name in more.keys() - base.keys():
        parts = name.split(".")
        for position in [position for position, part in enumerate(parts) if part == str(n_base)]:
            place = ".".join([*parts[:position], "{}", *parts[position + 1 :]])
            if all(place.format(number) in base for number in range(n_base)):
                places.add(place)
    return places


def _of_one_source(name: str, places: set[str]) -> tuple[str, int] | None:
    """Return the place that a name fills, and its number; None where it fills none."""
    parts = name.split(".")
    for position, part in enumerate(parts):
        place = ".".join([*parts[:position], "{}", *parts[position + 1 :]])
        if part.isdecimal() and place in places:
            return place, int(part)
    return None


def _rows(
    shape: Sequence[int], n_sources: int, base: Sequence[int], more: Sequence[int], n_base: int
) -> tuple[int, int] | None:
    """Return the dimension in which the sources lie, and how many rows each has; None where that cannot be told."""
    grown = [dim for dim, (size, larger) in enumerate(zip(base, more, strict=True)) if size != larger]
    if len(grown) != 1:
        return None
    (dim,) = grown
    n_rows = more[dim] - base[dim]
    return (dim, n_rows) if base[dim] == n_base * n_rows and shape[dim] == n_sources * n_rows else None


def _row_shares(
    name: str, rows: tuple[int, int] | None, sources: Sequence[str], base_sources: Sequence[str]
) -> Iterator[Share]:
    """List the rows of the sources that the base has, too."""
    if rows is not None:
        dim, n_rows = rows
        for number, source in enumerate(sources):
            if source in base_sources:
                yield Share(name, dim, number * n_rows, base_sources.index(source) * n_rows, n_rows)
