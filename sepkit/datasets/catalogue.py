"""The catalogue of a set: what its files hold, probed in parallel and remembered."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sepkit import audio
from sepkit.audio import AudioError, AudioInfo, Damage
from sepkit.datasets.findings import Finding, Severity
from sepkit.datasets.manifest import Manifest, Row
from sepkit.datasets.measuring import in_batches, remember
from sepkit.datasets.musdb.stem_files import STREAMS, check_stem_file, decode_stem_files
from sepkit.datasets.remembered import Remembered

VERSION = 1  # of what a probe finds
_PLAIN = tuple(field.name for field in fields(AudioInfo) if field.name not in ("path", "version", "damage"))
Sound = tuple[str, str]  # `Row.sound`


@dataclass(frozen=True)
class Catalogue:
    """A manifest, and what its files hold.

    Attributes:
        manifest: which files there are.
        infos: what the probe found, by `Row.sound`.
        findings: what cannot be read.
    """

    manifest: Manifest
    infos: Mapping[Sound, AudioInfo]
    findings: tuple[Finding, ...] = ()

    def info(self, row: Row) -> AudioInfo | None:
        """Return what the file of a row holds; None: it cannot be read."""
        return self.infos.get(row.sound)


def probe(manifest: Manifest, workers: int | None = None, progress: bool = True) -> Catalogue:
    """Find out what the files of a manifest hold; what is remembered of files that are the same is not looked for.

    Stems of a `.stem.mp4` are decoded into the cache first.

    Args:
        manifest: which files.
        workers: threads; None: the cores.
        progress: show a bar where it takes longer than a second.
    """
    rows = {row.sound: row for row in manifest.rows if row.sound not in manifest.known}
    places = {sound: sound[0] for sound in rows if not sound[1]}
    decoded, findings = _decode([row for sound, row in rows.items() if sound[1]])
    places.update(decoded)
    found = _probe_paths(list(dict.fromkeys(places.values())), workers, progress)
    infos = {row.sound: manifest.known[row.sound] for row in manifest.rows if row.sound in manifest.known}
    for sound, path in places.items():
        result = found[path]
        if isinstance(result, AudioInfo):
            infos[sound] = result
        else:
            findings.append(Finding(Severity.ERROR, "unreadable", result, rows[sound].path))
    return Catalogue(manifest, infos, tuple(findings))


def _decode(rows: Sequence[Row]) -> tuple[dict[Sound, str], list[Finding]]:
    """Decode stem files; return where each stem lies, and what went wrong."""
    error, findings, paths = Severity.ERROR, [], list(dict.fromkeys(row.path for row in rows))
    for row in rows:
        if row.stem not in STREAMS:
            message = f"has the stems {', '.join(STREAMS)}, none is called {row.stem!r}"
            findings.append(Finding(error, "missing", message, row.path, remedy="name one of them"))
    findings += [Finding(error, "unreadable", fault, path) for path in paths if (fault := check_stem_file(path))]
    if findings or not paths:
        return {}, findings
    folders, faults = decode_stem_files(paths)
    findings = [Finding(error, "unreadable", fault) for fault in faults]
    places = {row.sound: str(folders[row.path] / f"{row.stem}.wav") for row in rows}
    return ({} if findings else places), findings


def _probe_paths(paths: Sequence[str], workers: int | None, progress: bool) -> dict[str, AudioInfo | str]:
    """Probe files; of those that cannot be read, return what the probe says."""
    keys, versions, found = {}, {}, {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        versions[path] = (status.st_size, status.st_mtime_ns)
        keys[path] = _key(path, versions[path])
    store = Remembered(f"probed-{VERSION}")
    known = store.read(keys.values())
    for path, key in keys.items():
        if key in known:
            found[path] = _unpack(path, versions[path], known[key][0])
    missing = [path for path in paths if path not in found]
    for batch in in_batches(_probe, missing, workers, "looking at files", "file", progress):
        found.update(batch)
        same = [info for path, info in batch if isinstance(info, AudioInfo) and info.version == versions.get(path)]
        remember(store, {keys[info.path]: (_pack(info),) for info in same})
    return found


def _probe(path: str) -> AudioInfo | str:
    try:
        return audio.probe(path)
    except AudioError as error:
        return str(error)


def _key(path: str, version: tuple[int, int]) -> bytes:
    name = os.fsencode(os.path.abspath(path))
    return hashlib.sha256(b"%s\0%d %d" % (name, *version)).digest()


def _pack(info: AudioInfo) -> bytes:
    values: list[Any] = [getattr(info, name) for name in _PLAIN]
    return json.dumps([*values, [asdict(damage) for damage in info.damage]]).encode()


def _unpack(path: str, version: tuple[int, int], packed: bytes) -> AudioInfo:
    *values, damage = json.loads(packed)
    given = dict(zip(_PLAIN, values, strict=True))
    given["remarks"], given["starts"] = tuple(given["remarks"]), tuple(given["starts"])
    return AudioInfo(path=path, version=version, damage=tuple(Damage(**each) for each in damage), **given)


def list_infos(catalogues: Iterable[Catalogue]) -> dict[Path, AudioInfo]:
    """Return what was found in all readable files of catalogues, by path."""
    return {Path(info.path): info for catalogue in catalogues for info in catalogue.infos.values()}
