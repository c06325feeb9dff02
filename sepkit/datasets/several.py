"""Open the songs of several sets at once, each for itself and all for the stems that are wanted."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sepkit.datasets.candidates import (
    Candidate,
    StemMap,
    Wanted,
    choose_spellings,
    find_unknown,
    known_names,
    list_candidates,
)
from sepkit.datasets.catalogue import Catalogue, probe
from sepkit.datasets.choosing import choose
from sepkit.datasets.faults import check
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.manifest import Manifest
from sepkit.datasets.opening import explain_empty, keep_splits, warn_of
from sepkit.datasets.songs import Song
from sepkit.datasets.sources import describe_layout, find, set_aside

TRAINED = ("train", "valid")


@dataclass(frozen=True)
class Source:
    """A set of songs, as a recipe names it.

    Attributes:
        root: folder, manifest or list; "demo": the built-in songs.
        layout: see `sepkit.datasets.sources.find`; None: as its shape shows.
        stems: by name of a stem, the stems of the set whose sum it is.
        weight: how often its songs are drawn, for their length.
    """

    root: str | Path
    layout: str | None = None
    stems: StemMap = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True)
class Opened:
    """What was opened of sets to train on.

    Attributes:
        songs: by split, "train" and "valid"; empty where there are errors.
        stems: by split, the names of all stems.
        errors: what keeps songs from being used.
        unknown: what stem maps name and no set has: the index of the source, the stem, the position in its list, the
            name.
        raw: the names of all stems as the sets call them.
        lines: on each set, for the user.
    """

    songs: dict[str, list[Song]]
    stems: dict[str, set[str]]
    errors: list[str]
    unknown: list[tuple[int, str, int, str]]
    raw: set[str]
    lines: list[str]


@dataclass(frozen=True)
class _Set:
    source: Source
    catalogue: Catalogue
    candidates: dict[str, list[Candidate]]  # by split

    @property
    def manifest(self) -> Manifest:
        return self.catalogue.manifest

    @property
    def raw(self) -> set[str]:
        return {row.stem for row in self.manifest.rows}


def open_sources(sources: Sequence[Source], wanted: Wanted) -> Opened:
    """Open the songs of sets to train and to validate on.

    Where no set has tracks of valid, a share of the train of each is set aside.

    Args:
        sources: the sets.
        wanted: of each; its split does not matter.

    Raises:
        DatasetError: a root is no set.
    """
    with _collecting_later():
        return _open(sources, wanted)


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Hold the garbage collector back, which would look through hundreds of thousands of rows again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _open(sources: Sequence[Source], wanted: Wanted) -> Opened:
    sets = _find_sets(sources, wanted)
    known = {split: [known_names(each.candidates[split]) for each in sets] for split in TRAINED}
    songs: dict[str, list[Song]] = {split: [] for split in TRAINED}
    errors: list[str] = []
    warned: list[tuple[_Set, str, list[Finding]]] = []
    for i, each in enumerate(sets):
        for split in TRAINED:
            others = frozenset().union(*known[split][:i], *known[split][i + 1 :])
            asked = replace(wanted, split=split, stems=each.source.stems, elsewhere=others)
            findings = check(each.catalogue, asked, each.candidates[split])
            errors += [str(finding) for finding in findings if finding.severity == Severity.ERROR]
            warned.append((each, split, findings))
    errors = list(dict.fromkeys(errors))
    for split in TRAINED if not errors else ():
        if not any(each.candidates[split] for each in sets):
            errors.append(_explain_lack(sets, split))
    for each, split, findings in warned if not errors else ():
        warn_of(each.manifest.root, split, findings, each.candidates[split])
        asked = replace(wanted, split=split, stems=each.source.stems)
        songs[split] += choose(each.catalogue, asked, each.source.weight, each.candidates[split])
    stems = {split: set().union(*known[split]) for split in TRAINED}
    raw = set().union(*(each.raw for each in sets))
    return Opened(songs, stems, errors, _list_unknown(sets), raw, [_describe(each) for each in sets])


def _find_sets(sources: Sequence[Source], wanted: Wanted) -> list[_Set]:
    """Find and probe sets, and set tracks aside for valid."""
    required = len(sources) == 1
    manifests = [find(source.root, source.layout, TRAINED, wanted.targets, required) for source in sources]
    if not any("valid" in manifest.splits for manifest in manifests):
        manifests = [set_aside(manifest) for manifest in manifests]
    catalogues = [probe(keep_splits(manifest, TRAINED)) for manifest in manifests]
    spellings = choose_spellings(row for catalogue in catalogues for row in catalogue.manifest.rows)
    sets = []
    for source, catalogue in zip(sources, catalogues, strict=True):
        asked = {split: replace(wanted, split=split, stems=source.stems) for split in TRAINED}
        candidates = {split: list_candidates(catalogue, each, spellings) for split, each in asked.items()}
        sets.append(_Set(source, catalogue, candidates))
    return sets


def _explain_lack(sets: Sequence[_Set], split: str) -> str:
    if len(sets) == 1:
        return explain_empty(sets[0].manifest, split)
    return f"no root has songs of {split}; add some to one of them, or another root"


def _list_unknown(sets: Sequence[_Set]) -> list[tuple[int, str, int, str]]:
    """List what stem maps name and no set that has the same map knows."""
    unknown = []
    for i, each in enumerate(sets):
        raw = set().union(*(other.raw for other in sets if other.source.stems == each.source.stems))
        unknown += [(i, *found) for found in find_unknown(each.source.stems, raw)]
    return unknown


def _describe(each: _Set) -> str:
    n_train, n_valid = (len(each.candidates[split]) for split in TRAINED)
    layout = describe_layout(each.manifest)
    return f"{each.source.root}: {layout}, {n_train} tracks to train on, {n_valid} to validate on"


def name_sources(sources: Sequence[Source]) -> str:
    """Name sets in one line, for messages."""
    return ", ".join(str(source.root) for source in sources)


def refuse(sources: Sequence[Source], opened: Opened) -> None:
    """Refuse sets that cannot be used.

    Raises:
        DatasetError: there are errors.
    """
    if opened.errors:
        raise DatasetError(name_sources(sources), opened.errors, set().union(*opened.stems.values()))
