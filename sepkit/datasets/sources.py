"""Find the files of a set: by its layout, which its shape shows."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sepkit import audio
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.layout import DatasetError, find_root
from sepkit.datasets.layouts import (
    dnr,
    flat_files,
    moisesdb,
    msst_list,
    slakh,
    song_folders,
    stem_folders,
)
from sepkit.datasets.layouts.beside import tell_doubles, tell_unread
from sepkit.datasets.manifest import SPLITS, Manifest
from sepkit.datasets.manifest_files import FILES, read_manifest
from sepkit.datasets.musdb.stem_files import VALIDATION_SONGS, is_stem_file
from sepkit.datasets.shards import is_shards, open_shards
from sepkit.problems import did_you_mean

ADAPTERS = {  # in the order in which they are tried
    "msst_list": msst_list,
    "moisesdb": moisesdb,
    "slakh": slakh,
    "dnr": dnr,
    "stem_folders": stem_folders,
    "flat_files": flat_files,
    "song_folders": song_folders,
}
SHARDS = "shards"
LAYOUTS = ("manifest", SHARDS, *ADAPTERS)
_SUMMED = ("moisesdb", "slakh")  # layouts in which a stem has several files
_SHOWN = 5  # files of one kind of finding


def find(
    root: str | Path,
    layout: str | None = None,
    splits: Sequence[str] | None = None,
    targets: Sequence[str] = (),
    required: bool = True,
) -> Manifest:
    """Find the files of a set.

    Args:
        root: the folder, or a manifest or list itself; "demo": the built-in songs.
        layout: how the files lie, one of `LAYOUTS`; None: as its shape shows.
        splits: which are wanted, valid possibly as a part of train (`set_aside`); None: all.
        targets: stems that are wanted: by them a folder of songs is told from a song.
        required: refuse a set that lacks one of the splits.

    Returns:
        The manifest; its findings say what was passed over, or taken for something by mistake.

    Raises:
        DatasetError: it is no set, has another layout, or lacks a split.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}{did_you_mean(layout, LAYOUTS)}")
    needed = splits if required else ()
    if layout == SHARDS or (layout is None and is_shards(root)):
        return _limit(open_shards(root).manifest, needed)
    root = find_root(root)
    try:
        listed = _manifest_file(root, layout)
        if listed is not None:
            return _limit(replace(read_manifest(listed), root=root), needed)
        name = layout or next(name for name, adapter in ADAPTERS.items() if adapter.recognize(root))
        if name == "msst_list" or root.is_dir():
            return _limit(_find_by(name, root, splits, targets, required), needed)
    except audio.AudioError as error:
        raise DatasetError(root, [str(error)]) from error
    raise DatasetError(root, [f"the layout {name} wants a folder, this is a file; give the folder"])


def _manifest_file(root: Path, layout: str | None) -> Path | None:
    """Return the manifest of a root; None where it has another layout."""
    if layout not in (None, "manifest"):
        return None
    if root.is_file():
        return root if layout or not msst_list.recognize(root) else None
    there = [root / name for name in FILES if (root / name).is_file()]
    if len(there) > 1:
        raise DatasetError(root, [f"there are {' and '.join(FILES)}; keep one"])
    if layout and not there:
        raise DatasetError(root, [f"the layout manifest wants {' or '.join(FILES)} in it; write one"])
    return there[0] if there else None


def _find_by(name: str, root: Path, splits: Sequence[str] | None, targets: Sequence[str], required: bool) -> Manifest:
    wanted = set(SPLITS if splits is None else splits)
    if name == "song_folders":
        found = song_folders.find(root, wanted, targets, required and splits is not None)
    else:
        wanted |= {"train", "valid"} if wanted & {"train", "valid"} else set()
        found = ADAPTERS[name].find(root, wanted)
    tell_doubles(found, summed=name in _SUMMED)
    has_errors = any(finding.severity == Severity.ERROR for finding in found.findings)
    if not found.rows and not has_errors:
        nothing = f"nothing of the layout {name} was found in it; give another root, or set data.layout"
        raise DatasetError(root, [nothing, *describe_findings(found.findings)])
    if not has_errors and name != "msst_list":
        tell_unread(found, root, wanted)
    return Manifest(root, name, tuple(found.rows), tuple(found.findings))


def describe_layout(manifest: Manifest) -> str:
    """Name the layout of a manifest as its makers call it."""
    if manifest.known:
        return f"shards of {describe_layout(replace(manifest, known={}))}"
    if manifest.layout == "song_folders":
        places = [row.path for row in manifest.rows[:1]]
        names = {row.track for row in manifest.rows}
        if places and is_stem_file(places[0]):
            return "MUSDB18 (stem files)"
        return "MUSDB18-HQ" if names >= VALIDATION_SONGS else song_folders.TITLE
    return ADAPTERS[manifest.layout].TITLE if manifest.layout in ADAPTERS else "manifest"


def _limit(manifest: Manifest, splits: Sequence[str] | None) -> Manifest:
    """Refuse a manifest without a split that is wanted, unless its errors come with those of its songs."""
    present = manifest.splits
    if any(finding.severity == Severity.ERROR for finding in manifest.findings):
        return manifest
    for split in splits or ():
        if split not in present and not (split == "valid" and "train" in present):
            lacking = f"there is no track of {split} (found: {', '.join(present) or 'nothing'}); add some"
            raise DatasetError(manifest.root, [lacking, *describe_findings(manifest.findings)])
    return manifest


def set_aside(manifest: Manifest, share: float = 0.1, seed: int = 0, names: Collection[str] = ()) -> Manifest:
    """Move tracks of train to valid where a manifest has none of valid, and the set no folder for it.

    Args:
        manifest: of a set.
        share: of the tracks, [0, 1); 0: none. A single track stays in train.
        seed: which they are.
        names: these tracks instead.

    Returns:
        The manifest; unchanged where its tracks have one stem each, which cannot be validated on.
    """
    tracks = list(dict.fromkeys(row.track for row in manifest.rows if row.split == "train"))
    has_valid = "valid" in manifest.splits or _has_valid_folder(manifest)
    if has_valid or not tracks or not manifest.is_aligned("train"):
        return manifest
    taken = set(_choose(tracks, share, seed, names))
    move = lambda row: replace(row, split="valid") if row.split == "train" and row.track in taken else row  # noqa: E731
    return manifest.with_rows(map(move, manifest.rows))


def _has_valid_folder(manifest: Manifest) -> bool:
    return manifest.layout == "song_folders" and (manifest.root / "valid").is_dir()


def _choose(names: Sequence[str], share: float, seed: int, wanted: Collection[str]) -> Collection[str]:
    if wanted or not share:
        return wanted
    if set(names) >= VALIDATION_SONGS:
        return VALIDATION_SONGS
    n_valid = max(0, min(len(names) - 1, max(1, round(share * len(names)))))
    return {names[i] for i in np.random.default_rng(seed).permutation(len(names))[:n_valid]}


def describe_findings(findings: Sequence[Finding], below: Severity = Severity.ERROR) -> list[str]:
    """Describe findings that are less than errors, those of one kind in one sentence.

    Args:
        findings: of any severity.
        below: which are described.
    """
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.severity < below:
            kinds.setdefault((finding.message, finding.remedy), []).append(finding)
    described = []
    for same in kinds.values():
        more = [str(finding.file) for finding in same[1:_SHOWN]]
        rest = f" and {len(same) - _SHOWN} more" if len(same) > _SHOWN else ""
        described.append(str(same[0]) + (f" (so too: {', '.join(more)}{rest})" if more else ""))
    return described
