"""Open the songs of sets: found, probed, checked, chosen."""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path

from sepkit.arguments import check_path, is_integer
from sepkit.datasets.candidates import Candidate, StemMap, Wanted, find_unknown, known_names, list_candidates
from sepkit.datasets.catalogue import probe
from sepkit.datasets.choosing import choose
from sepkit.datasets.faults import check
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.layout import SUBSETS, DatasetError
from sepkit.datasets.manifest import Manifest
from sepkit.datasets.roles import describe_roles
from sepkit.datasets.songs import Song
from sepkit.datasets.sources import describe_findings, find, set_aside
from sepkit.problems import did_you_mean


def open_songs(
    root: str | Path,
    subset: str,
    targets: Sequence[str] | None,
    sample_rate: int,
    n_channels: int,
    resample: bool = False,
    valid_share: float = 0.1,
    split_seed: int = 0,
    valid_names: Collection[str] = (),
    allow_damaged: bool = False,
    allow_missing: bool = False,
    layout: str | None = None,
    stems: StemMap | None = None,
) -> list[Song]:
    """Find the songs of a subset and check everything about them that can be known before reading.

    The layout is `root/{train,valid,test}/song/{mixture,vocals,drums,...}.ext`; a flat `root/song/` counts as
    train. A song may also be a `song.stem.mp4` of MUSDB18's five streams, which ffmpeg decodes once into the
    cache. Other layouts are known by their shape, see `layout`. Where `valid` is absent, whole songs are taken from
    train for it, always the same ones: MUSDB18's 14 validation songs where train holds all of them, else a seeded
    share.

    Args:
        root: the folder, a manifest or a list; "demo": the built-in songs.
        subset: "train", "valid" or "test".
        targets: stems that every song must have; None: no stem in particular.
        sample_rate: Hz.
        n_channels: C; mono files are copied to C channels, and averaged to one if C is 1.
        resample: accept files of other sample rates, and resample them.
        valid_share: share of the songs of train that become valid where that is absent, [0, 1); 0: none, train is all.
        split_seed: which songs these are.
        valid_names: these songs instead.
        allow_damaged: take what decodes of truncated and damaged files, as players do, instead of refusing them.
        allow_missing: take songs that lack targets, though not all of them.
        layout: how files lie in the root: "manifest", "shards", "song_folders", "stem_folders", "flat_files",
            "moisesdb", "slakh", "dnr" or "msst_list"; None: as its shape shows.
        stems: by name of a stem, the stems of the set whose sum it is, `{"other": ["guitar", "piano"]}`; None: all
            keep their names.

    Raises:
        DatasetError: anything is wrong, with all findings.
    """
    check_targets(targets)
    if subset not in SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(SUBSETS)}, got {subset!r}")
    if not 0 <= valid_share < 1:
        raise ValueError(f"valid_share must lie in [0, 1), got {valid_share}")
    if not all(map(is_integer, (sample_rate, n_channels))) or sample_rate < 1 or n_channels < 1:
        raise ValueError(f"sample_rate and n_channels must be above 0, got {sample_rate} and {n_channels}")
    check_path(root, "root")
    wanted = Wanted(
        subset, tuple(targets or ()), sample_rate, n_channels, resample, allow_damaged, allow_missing, stems or {}
    )
    manifest = find(root, layout, (subset,), wanted.targets)
    manifest = keep_splits(set_aside(manifest, valid_share, split_seed, valid_names), (subset,))
    catalogue = probe(manifest)
    candidates = list_candidates(catalogue, wanted)
    findings = check(catalogue, wanted, candidates)
    errors = [str(finding) for finding in findings if finding.severity == Severity.ERROR]
    errors += _check_stem_map(manifest, wanted.stems, layout)
    if not candidates and not errors:
        errors = [explain_empty(manifest, subset)]
    if errors:
        raise DatasetError(manifest.root, errors, known_names(candidates))
    warn_of(manifest.root, subset, findings, candidates)
    return choose(catalogue, wanted, candidates=candidates)


def _check_stem_map(manifest: Manifest, stems: StemMap, layout: str | None) -> list[str]:
    """Describe what a stem map names like a stem of the set, and no track of it has, be it of another split."""
    if not find_unknown(stems, {row.stem for row in manifest.rows}):
        return []
    known = sorted({row.stem for row in find(manifest.root, layout, required=False).rows})
    return [
        f"no song has the stem {part!r}, of which stems makes {name!r} (there are: {', '.join(known)})"
        f"{did_you_mean(part, known)}"
        for name, _, part in find_unknown(stems, known)
        if did_you_mean(part, known)  # a set may lack what others have
    ]


def keep_splits(manifest: Manifest, splits: Collection[str]) -> Manifest:
    """Return a manifest without other splits."""
    return manifest.with_rows(row for row in manifest.rows if row.split in splits)


def explain_empty(manifest: Manifest, split: str) -> str:
    """Describe why a split of a manifest has no song, and what to do."""
    if split == "valid" and manifest.layout != "song_folders":
        return (
            "there is no track of valid, and none of train can be validated on: each has one stem alone; name another "
            "root beside it in data.root, with whole songs"
        )
    return f"train has no song that is for {split}; add songs, or a folder valid/"


def warn_of(root: Path, split: str, findings: Sequence[Finding], candidates: Sequence[Candidate]) -> None:
    """Warn of findings that are no errors, and of what names decided."""
    lines = describe_findings(findings)
    lines += [f"{root}, {split}: {line}" for line in describe_roles([candidate.roles for candidate in candidates])]
    for line in lines:
        warnings.warn(line, stacklevel=3)


def check_targets(targets: Sequence[str] | None) -> None:
    """Refuse targets that are no list of names; None is in order.

    Raises:
        ValueError: a name that is not in a list, or a list of other than names.
    """
    if targets is not None and (isinstance(targets, str) or not all(isinstance(name, str) for name in targets)):
        raise ValueError(f"targets must be a list of names, got {targets!r}")
