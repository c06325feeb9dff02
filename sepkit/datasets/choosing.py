"""Choose the songs of a split from a catalogue."""

from collections.abc import Sequence
from dataclasses import replace

from sepkit.datasets.candidates import Candidate, Wanted, list_candidates
from sepkit.datasets.catalogue import Catalogue
from sepkit.datasets.manifest import Manifest
from sepkit.datasets.songs import Song, make_song


def choose(
    catalogue: Catalogue, wanted: Wanted, weight: float = 1.0, candidates: Sequence[Candidate] | None = None
) -> list[Song]:
    """Choose the songs of a split.

    Args:
        catalogue: of a set.
        wanted: which songs; `check` found no error in them.
        weight: of the set.
        candidates: what `list_candidates` gave of both; None: it is called.
    """
    candidates = list_candidates(catalogue, wanted) if candidates is None else candidates
    aligned = catalogue.manifest.is_aligned(wanted.split)
    return [_make_song(candidate, catalogue.manifest, weight, aligned) for candidate in candidates]


def _make_song(candidate: Candidate, manifest: Manifest, weight: float, aligned: bool) -> Song:
    song = make_song(candidate.track, candidate.stems, candidate.roles)
    known = {name: [getattr(row, name) for row in candidate.rows] for name in ("tempo", "key", "licence")}
    tempo, key = (next((value for value in known[name] if value is not None), None) for name in ("tempo", "key"))
    licences = dict.fromkeys(licence for licence in known["licence"] if licence)
    return replace(
        song,
        root=str(manifest.root),
        split=candidate.wanted.split,
        tempo=tempo,
        key=key,
        licence=", ".join(licences) or None,
        weight=weight,
        aligned=aligned,
        padded=candidate.padded,
    )
