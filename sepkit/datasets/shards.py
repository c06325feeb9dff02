"""Shards: the songs of a set in tar files, with an index by which each is read where it lies, here or at an address."""

import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sepkit import audio
from sepkit.arguments import is_integer
from sepkit.audio.info import file_version
from sepkit.audio.packed import TYPES, is_address, open_address
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.manifest import Manifest, Row
from sepkit.problems import show

INDEX, FORMAT, VERSION = "index.json", "sepkit shards", 1
COUNTS = ("shard", "offset", "n_samples", "n_channels", "sample_rate", "scale")
NAMES = ("subtype", "member", "stem", "track", "split")
MORE = ("gain", "tempo", "key", "licence")  # of a `Row`, null where unknown
COLUMNS = (*COUNTS, *NAMES, *MORE)
_REMEDY = "pack the songs again with sepkit-data shard"
_LARGEST = 1 << 30  # bytes of an index


@dataclass(frozen=True)
class Shards:
    """A set of songs in shards.

    Attributes:
        root: folder or address of the index.
        layout: that the songs had when they were packed.
        rows: the files, in the order of the set that was packed.
        infos: what each holds, and where it lies, in the order of `rows`.
    """

    root: str
    layout: str
    rows: tuple[Row, ...]
    infos: tuple[audio.PackedInfo, ...]

    @property
    def manifest(self) -> Manifest:
        """Return the manifest of its songs, which knows what its files hold."""
        known = {row.sound: info for row, info in zip(self.rows, self.infos, strict=True)}
        return Manifest(Path(self.root), self.layout, self.rows, known=known)


def is_shards(root: object) -> bool:
    """Return whether a root is an address, or a folder of shards, or the index of one."""
    if is_address(root):
        return True
    place = Path(str(root))
    place = place / INDEX if place.is_dir() else place
    if place.name != INDEX or not place.is_file():
        return False
    with open(place, encoding="utf-8", errors="replace") as file:
        return FORMAT in file.read(200)


def open_shards(root: str | os.PathLike) -> Shards:
    """Read the index of a set of shards.

    Args:
        root: folder, or address that fsspec knows, of the shards, or of their `index.json`.

    Raises:
        DatasetError: there is none, it is not one, or a shard of this machine is another one.
    """
    place = str(root).removesuffix("/")
    place = place.removesuffix(INDEX).removesuffix("/") if place.endswith(f"/{INDEX}") or place == INDEX else place
    place = place if is_address(place) else os.path.abspath(place)  # of "", the current folder
    join = posixpath.join if is_address(place) else os.path.join
    index = _read_index(place, join(place, INDEX))
    findings: list[str] = []
    shards = [_check_shard(shard, i, findings) for i, shard in enumerate(index["shards"])]
    versions = [_find_version(place, shard, findings) for shard in shards if shard]
    rows, infos = [], []
    for i, values in enumerate(index["rows"] if not findings else ()):
        try:
            given = _check_row(values, shards)
            number = given["shard"]
            info = _make_info(join(place, shards[number].name), versions[number], given)
            rows.append(_make_row(info, given))
            infos.append(info)
        except ValueError as error:
            findings.append(f"row {i + 1}: {error}; {_REMEDY}")
    if findings:
        raise DatasetError(join(place, INDEX), findings)
    return Shards(place, index["layout"], tuple(rows), tuple(infos))


def _read_index(root: str, place: str) -> dict[str, Any]:
    """Read an index as far as its parts are of the right kind."""
    try:
        if is_address(place):
            system, path = open_address(place)
            content = system.cat_file(path, start=0, end=_LARGEST)
        else:
            content = Path(place).read_bytes()
    except audio.AudioError as error:
        raise DatasetError(root, [str(error)]) from None
    except Exception as error:  # each kind of address has errors of its own
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(root, [f"its {INDEX} cannot be read ({reason}); check the address, or {_REMEDY}"]) from error
    try:
        index = json.loads(content)
    except (ValueError, RecursionError):
        raise DatasetError(root, [f"its {INDEX} is no JSON; {_REMEDY}"]) from None
    if not isinstance(index, Mapping) or index.get("format") != FORMAT:
        raise DatasetError(root, [f"its {INDEX} is not that of shards; {_REMEDY}"])
    if index.get("version") != VERSION:
        wanted = f"version {VERSION} of shards is wanted, got {show(index.get('version'))}"
        raise DatasetError(root, [f"{wanted}; {_REMEDY}, or install a later sepkit"])
    lists = isinstance(index.get("shards"), list) and isinstance(index.get("rows"), list)
    if not lists or not isinstance(index.get("layout"), str) or index.get("columns") != list(COLUMNS):
        raise DatasetError(
            root, [f"its {INDEX} wants layout, shards, rows and columns {', '.join(COLUMNS)}; {_REMEDY}"]
        )
    return dict(index)


class _Shard(NamedTuple):
    name: str
    size: int  # bytes
    sha256: str


def _check_shard(shard: Any, number: int, findings: list[str]) -> _Shard | None:
    """Return what the index says of a shard; None, and what is wrong, where that cannot be."""
    kinds = [type(value) for value in shard] if isinstance(shard, list) else []
    if kinds == [str, int, str] and re.fullmatch(r"[\w-][\w.-]*", shard[0]) and re.fullmatch("[0-9a-f]{64}", shard[2]):
        return _Shard(*shard)
    findings.append(f"shard {number + 1}: name, bytes and sha256 are wanted, got {show(shard)}; {_REMEDY}")
    return None


def _find_version(root: str, shard: _Shard, findings: list[str]) -> tuple[int, int]:
    """Return the version of a shard: by its time on this machine, by its hash elsewhere."""
    if is_address(root):
        return shard.size, int(shard.sha256[:15], 16)
    path = os.path.join(root, shard.name)
    try:
        version = file_version(os.stat(path))
    except OSError as error:
        findings.append(f"{path} cannot be read ({error.strerror}); bring it back, or {_REMEDY}")
        return 0, 0
    if version[0] != shard.size:
        bytes_there = f"{path} has {version[0]} bytes, the index says {shard.size}"
        findings.append(f"{bytes_there}; bring the right one back, or {_REMEDY}")
    return version


def _check_row(values: Any, shards: Sequence[_Shard]) -> dict[str, Any]:
    """Return the values of a row by column."""
    if not isinstance(values, list) or len(values) != len(COLUMNS):
        raise ValueError(f"{len(COLUMNS)} values are wanted, got {show(values)}")
    given = dict(zip(COLUMNS, values, strict=True))
    for problem in _find_problems(given, shards):
        raise ValueError(problem)
    return given


def _find_problems(given: Mapping[str, Any], shards: Sequence[_Shard]) -> Iterator[str]:
    for name in COUNTS:
        least = 0 if name in ("shard", "offset") else 1
        if not is_integer(given[name]) or given[name] < least:
            yield f"{name} must be a whole number >= {least}, got {show(given[name])}"
    for name in NAMES:
        if not isinstance(given[name], str) or not given[name]:
            yield f"{name} must be a name, got {show(given[name])}"
    if given["subtype"] not in TYPES:
        yield f"subtype must be one of {', '.join(TYPES)}, got {show(given['subtype'])}"
    if given["shard"] >= len(shards):
        yield f"shard must be below {len(shards)}, got {given['shard']}"
    n_bytes = given["n_samples"] * given["n_channels"] * TYPES[given["subtype"]].itemsize
    if given["offset"] + n_bytes > shards[given["shard"]].size:
        yield f"{given['member']} ends behind its shard's end"


def _make_info(archive: str, version: tuple[int, int], given: Mapping[str, Any]) -> audio.PackedInfo:
    return audio.PackedInfo(
        path=f"{archive}/{given['member']}",
        sample_rate=given["sample_rate"],
        n_channels=given["n_channels"],
        n_samples=given["n_samples"],
        n_declared=given["n_samples"],
        format="WAV",
        subtype=given["subtype"],
        n_streams=1,
        reader="packed",
        truncated=False,
        version=version,
        archive=archive,
        offset=given["offset"],
        scale=given["scale"],
    )


def _make_row(info: audio.PackedInfo, given: Mapping[str, Any]) -> Row:
    more = {name: given[name] for name in MORE if given[name] is not None}
    return Row(Path(info.path), given["stem"], given["track"], given["split"], **more)
