"""The tracks of a catalogue as they are wanted: stems by the names that are asked for, each with its files."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from sepkit.datasets.catalogue import Catalogue
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.manifest import Row
from sepkit.datasets.roles import Roles, sort_stems
from sepkit.datasets.stems import Stem, StemFile

_PADDED = ("manifest", "moisesdb")  # layouts whose stems have lengths of their own
StemMap = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Wanted:
    """What songs are wanted of a set.

    Attributes:
        split: "train", "valid" or "test".
        targets: stems that songs must have.
        sample_rate: Hz.
        n_channels: C.
        resample: accept files of other sample rates, and resample them.
        allow_damaged: take what decodes of truncated and damaged files.
        allow_missing: take songs that lack targets, though not all of them.
        stems: by name of a stem, the stems of the set whose sum it is; others keep their names.
        elsewhere: targets that other sets have.
    """

    split: str
    targets: tuple[str, ...]
    sample_rate: int
    n_channels: int
    resample: bool = False
    allow_damaged: bool = False
    allow_missing: bool = False
    stems: StemMap = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Candidate:
    """A track, usable or not.

    Attributes:
        track: its name.
        place: how findings name it.
        files: what can be read, the mixture included, by stem: how findings name each file, and the file.
        names: of all stems but the mixture, those that cannot be read among them.
        findings: what is wrong with the names of its stems, or with the parts that rows ask for.
        rows: of the manifest.
        wanted: what is wanted.
        padded: whether its stems may have different lengths.
    """

    track: str
    place: Path
    files: dict[str, list[tuple[Path, StemFile]]]
    names: frozenset[str]
    findings: tuple[Finding, ...]
    rows: tuple[Row, ...]
    wanted: Wanted
    padded: bool

    @cached_property
    def stems(self) -> dict[str, Stem]:
        """Return the stems that can be read."""
        shape = self.wanted.sample_rate, self.wanted.n_channels
        return {name: Stem(tuple(file for _, file in files), *shape) for name, files in self.files.items()}

    @property
    def roles(self) -> Roles:
        """Return what its stems are."""
        return sort_names(tuple(self.files), self.wanted.targets)


@lru_cache(maxsize=1024)
def sort_names(names: tuple[str, ...], targets: tuple[str, ...]) -> Roles:
    """Sort stems as `sort_stems` does, of which sets ask the same many times."""
    return sort_stems(names, targets)


def list_candidates(catalogue: Catalogue, wanted: Wanted, spellings: tuple[str, ...] | None = None) -> list[Candidate]:
    """List the tracks of a split.

    Args:
        catalogue: of the set.
        wanted: of it.
        spellings: see `choose_spellings`; None: those of the set.
    """
    manifest = catalogue.manifest
    spellings = choose_spellings(manifest.rows) if spellings is None else spellings
    return [
        _make_candidate(catalogue, wanted, track, rows, spellings)
        for (split, track), rows in manifest.tracks().items()
        if split == wanted.split
    ]


def choose_spellings(rows: Iterable[Row]) -> tuple[str, ...]:
    """Name stems that tracks spell in upper and lower case: as most do.

    Args:
        rows: of one or several sets.
    """
    counts = Counter(row.stem for row in rows)
    spelled: dict[str, list[str]] = {}
    for name in sorted(counts, reverse=True):  # lower case first, of those that are as frequent
        spelled.setdefault(name.casefold(), []).append(name)
    return tuple(max(names, key=counts.__getitem__) for names in spelled.values() if len(names) > 1)


def _make_candidate(
    catalogue: Catalogue, wanted: Wanted, track: str, rows: Sequence[Row], spellings: tuple[str, ...]
) -> Candidate:
    raw = tuple(dict.fromkeys(row.stem for row in rows))
    names, faults = rename_stems(raw, wanted.targets, freeze(wanted.stems), spellings)
    place = _place(catalogue.manifest.root, rows)
    findings = [Finding(Severity.ERROR, "names", message, place, remedy=remedy) for message, remedy in faults]
    files: dict[str, list[tuple[Path, StemFile]]] = {}
    for row in rows:
        info = catalogue.info(row)
        if info is None:
            continue
        shown = row.path / f"{row.stem}.wav" if row.sound[1] else row.path
        start = round(row.start * info.sample_rate)
        end = None if row.end is None else round(row.end * info.sample_rate)
        fault = _find_fault(row, info.sample_rate, info.n_samples, start, end)
        if fault:
            findings.append(Finding(Severity.ERROR, "manifest", fault, shown, remedy="correct the manifest"))
            continue
        file = StemFile(info, start, end, 10 ** (row.gain / 20), wanted.allow_damaged)
        files.setdefault(names[row.stem], []).append((shown, file))
    padded = catalogue.manifest.layout in _PADDED
    return Candidate(
        track, place, files, frozenset(names.values()) - {"mixture"}, tuple(findings), tuple(rows), wanted, padded
    )


def _place(root: Path, rows: Sequence[Row]) -> Path:
    """Return the folder or file of a track; where it has no own one, its name in the root."""
    first = rows[0]
    if first.sound[1]:
        return first.path
    folder = os.path.dirname(first.path)
    is_own = os.path.basename(folder) == first.track and all(os.path.dirname(row.path) == folder for row in rows)
    return Path(folder) if is_own else root / first.track


def _find_fault(row: Row, rate: int, n_samples: int, start: int, end: int | None) -> str:
    """Describe how a file is not what its row says; "": it is."""
    if row.rate is not None and row.rate != rate:
        return f"has {rate} Hz, its manifest says {row.rate}"
    if start >= n_samples or (end is not None and end > n_samples):
        part = f"from {row.start:g} s" + ("" if row.end is None else f" to {row.end:g} s")
        return f"has {n_samples / rate:g} s, its manifest says {part}"
    return ""


def freeze(stems: StemMap) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return a stem map as what can be a key."""
    return tuple((name, tuple(held)) for name, held in stems.items())


@lru_cache(maxsize=1024)
def rename_stems(
    raw: tuple[str, ...],
    targets: tuple[str, ...],
    stems: tuple[tuple[str, tuple[str, ...]], ...],
    spellings: tuple[str, ...] = (),
) -> tuple[dict[str, str], tuple[tuple[str, str], ...]]:
    """Name stems as they are wanted: by the stem map, or as the one that differs in upper and lower case alone.

    Args:
        raw: names of a track's stems.
        targets: stems that are wanted.
        stems: a frozen stem map.
        spellings: of other stems that the set spells in several ways.

    Returns:
        The name by raw name, and what is wrong: message and remedy.
    """
    held = {part.casefold(): name for name, parts in stems for part in parts}
    called = {name.casefold(): name for name in [*spellings, *(name for name, _ in stems), *targets, "mixture"]}
    names, faults = {}, []
    mapped = {name: held[name.casefold()] for name in raw if name.casefold() in held}
    for name in raw:
        names[name] = mapped.get(name) or (name if name in called.values() else called.get(name.casefold(), name))
        others = [other for other in raw if other != name and names.get(other) == names[name]]
        same = [other for other in others if other.casefold() == name.casefold()]
        if same:
            faults.append((f"{same[0]!r} and {name!r} are one stem in upper and lower case", "keep one"))
        elif (name not in mapped and others) or (name in mapped and any(other not in mapped for other in others)):
            parts = ", ".join(other for other, target in mapped.items() if target == names[name])
            stated = f"data.stems makes {names[name]!r} of {parts}, and there is a stem {names[name]!r}, too"
            faults.append((stated, f"list {names[name]!r} there to add it, or remove it"))
    return names, tuple(faults)


def known_names(candidates: Iterable[Candidate]) -> set[str]:
    """Return the names of all stems of candidates."""
    return {name for candidate in candidates for name in candidate.names}


def find_unknown(stems: StemMap, raw: Collection[str]) -> list[tuple[str, int, str]]:
    """Find what a stem map names and no track has: the stem, the position in its list, and the name."""
    there = {name.casefold() for name in raw}
    return [
        (name, k, part) for name, parts in stems.items() for k, part in enumerate(parts) if part.casefold() not in there
    ]
