"""What lies in a folder, without the litter of systems; what an adapter found in it."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepkit import audio
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.manifest import Row
from sepkit.plain import parse_json, parse_yaml

SPLIT_FOLDERS = {
    "train": ("train", "training", "trainset", "tr"),
    "valid": ("valid", "val", "validation", "dev", "cv"),
    "test": ("test", "testing", "testset", "tt", "eval", "evaluation"),
}
_LITTER = ("__macosx", "__pycache__", "@eadir", "$recycle.bin", "lost+found", "system volume information")
_LARGEST = 16 << 20  # bytes of a description beside the audio of a track


@dataclass
class Found:
    """What an adapter found in a root.

    Attributes:
        rows: the files.
        findings: what was passed over or taken by mistake.
    """

    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def pass_over(self, path: Path, why: str, remedy: str = "", severity: Severity = Severity.NOTE) -> None:
        """Record what is not read, and why."""
        self.findings.append(Finding(severity, "layout", why, path, remedy=remedy))


def visible(folder: Path) -> list[Path]:
    """List a folder in order, without hidden files and the litter of systems.

    Raises:
        AudioError: it cannot be listed.
    """
    return [folder / entry.name for entry in scan(folder)]


def scan(folder: str | Path) -> list[os.DirEntry]:
    """List a folder as `visible` does, with what the system knows of each entry."""
    try:
        with os.scandir(folder) as entries:
            kept = [each for each in entries if not each.name.startswith(".") and each.name.casefold() not in _LITTER]
    except OSError as error:
        raise audio.AudioError(f"Cannot list {folder}: {error.strerror or error}; check its permissions.") from error
    return sorted(kept, key=lambda entry: entry.name)


def folders_in(folder: Path) -> Iterator[Path]:
    """Yield the folders in a folder, in order."""
    return (folder / entry.name for entry in scan(folder) if entry.is_dir())


def audio_in(folder: Path) -> list[Path]:
    """List the files in a folder that are called like audio."""
    return [folder / entry.name for entry in audio_entries(scan(folder))]


def audio_entries(entries: Iterable[os.DirEntry]) -> list[os.DirEntry]:
    """Return those entries that are files called like audio, links to what is not there among them."""
    return [entry for entry in entries if audio.is_audio_name(entry.name) and (entry.is_file() or leads_nowhere(entry))]


def leads_nowhere(entry: os.DirEntry) -> bool:
    """Return whether an entry is a link to what is not there."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def audio_below(folder: Path, depth: int = 3) -> Iterator[Path]:
    """Yield files called like audio in the folders of a folder.

    Args:
        folder: whose own files are left out.
        depth: of the folders.
    """
    for inner in folders_in(folder):
        yield from audio_in(inner)
        if depth > 1:
            yield from audio_below(inner, depth - 1)


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of a root that are called like a split, by split."""
    by_name = {folder.name.casefold(): folder for folder in folders_in(root)}
    found = {}
    for split, names in SPLIT_FOLDERS.items():
        for name in names:
            if name in by_name:
                found.setdefault(split, by_name[name])
    return found


def read_description(path: Path) -> tuple[Any, str]:
    """Read the JSON or YAML that describes a track; return it, None where that cannot be, and why not."""
    try:
        if path.stat().st_size > _LARGEST:
            return None, f"it is larger than {_LARGEST >> 20} MB"
        text = path.read_bytes().decode("utf-8-sig")
        return (parse_yaml if path.suffix in (".yaml", ".yml") else parse_json)(text), ""
    except (OSError, ValueError, json.JSONDecodeError) as error:
        return None, getattr(error, "strerror", None) or str(error)


def is_text(value: Any) -> bool:
    """Return whether a value of a description is a name."""
    return isinstance(value, str) and bool(value.strip())


def unique_names(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return names, each with another name behind it where it occurs more than once.

    Args:
        names: of tracks, as people say them.
        others: names that no two tracks have in common.
    """
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [name if counts[name] == 1 else f"{name} ({other})" for name, other in zip(names, others, strict=True)]
