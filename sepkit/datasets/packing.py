"""Write the songs of a set as shards: tar files of WAV, as WebDataset reads them, and an index."""

import hashlib
import json
import math
import os
import posixpath
import struct
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from tqdm import tqdm

from sepkit import audio
from sepkit.arguments import check_path, is_number
from sepkit.audio.packed import TYPES, is_address, open_address
from sepkit.datasets.catalogue import Catalogue, probe
from sepkit.datasets.findings import Severity
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.manifest import Row
from sepkit.datasets.shards import COLUMNS, FORMAT, INDEX, VERSION
from sepkit.datasets.sources import find
from sepkit.datasets.stored_file import is_lossy, needs_float
from sepkit.devices import available_cores
from sepkit.disk import OutputError, format_size, writing
from sepkit.files import atomic_file, remove_abandoned, safe_name
from sepkit.processes import thread_pool
from sepkit.terminal import bar_option

_BLOCK = 1 << 18  # samples that are converted at a time
_PAD = 512  # bytes of which a tar is made
_LARGEST = (1 << 32) - (1 << 12)  # bytes of samples in a WAV file
_REMEDY = "make room, or choose another --output; nothing half written is used"


def write_shards(
    root: str | Path,
    output: str | Path,
    size: float = 1000.0,
    layout: str | None = None,
    log: Callable[[str], Any] = print,
    progress: bool = True,
) -> str:
    """Write a set of songs into tar files and an index, from which examples are read where they lie.

    A track lies in one shard, in the order of the set, with a WAV file for each file of it: 16 bit, 32-bit float where
    its source has more; sources that are lossy are decoded to 16 bit, scaled down where they go beyond full scale.
    Rates, channels, lengths and gains stay.

    Args:
        root: as `sepkit.datasets.sources.find` takes it.
        output: folder, or address that fsspec can write to, without shards.
        size: of a shard, in MB, which a track alone may exceed.
        layout: of the set; None: as its shape shows.
        log: called with each line meant for the user.
        progress: show a bar, on a terminal.

    Returns:
        Path or address of the index.

    Raises:
        DatasetError: the set has errors.
        ValueError: there are shards already, or the size is none.
        AudioError: a file does not decode.
        sepkit.disk.OutputError: the shards cannot be written.
    """
    check_path(output, "output")
    if not is_number(size) or not 0 < size < math.inf:
        raise ValueError(f"size must be a number of MB above 0, got {size}")
    place = _Local(str(output)) if not is_address(str(output)) else _Remote(str(output))
    if place.has(INDEX):
        raise ValueError(f"{output} has shards already: remove them, or choose another --output")
    catalogue = probe(find(root, layout), progress=progress)
    files = _list_files(catalogue)
    shards = _divide(files, size * 1e6)
    n_bytes = sum(file.n_bytes for file in files)
    n_tracks = len({file.number for file in files})
    log(f"{_count(len(shards), 'shard')} of {_count(n_tracks, 'track')}, {format_size(n_bytes)}")
    with place.writing(), _bar(n_bytes, progress) as bar:
        written = _write_all(place, shards, bar)
        rows = [row for _, some in written for row in some]
        index = {"format": FORMAT, "version": VERSION, "layout": catalogue.manifest.layout, "columns": COLUMNS}
        index |= {"shards": [shard for shard, _ in written], "rows": rows}
        place.write_text(INDEX, json.dumps(index, ensure_ascii=False))
    return place.join(INDEX)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


@dataclass
class _File:
    """A file of a track that is packed.

    Attributes:
        row: of the manifest.
        info: what it holds.
        start: first sample that counts.
        n_samples: that count.
        number: of the track in the set.
        member: its name in the tar.
        scale: by which its samples are divided, so that those beyond full scale fit into 16 bits; a power of two.
    """

    row: Row
    info: audio.AudioInfo
    start: int
    n_samples: int
    number: int
    member: str = ""
    scale: int = 1

    @property
    def subtype(self) -> str:
        """Return the coding of its samples in the tar."""
        return "FLOAT" if needs_float(self.info) else "PCM_16"

    @property
    def n_bytes(self) -> int:
        """Return the bytes of its samples."""
        return self.n_samples * self.info.n_channels * TYPES[self.subtype].itemsize

    def blocks(self) -> Iterator[Tensor]:
        """Yield its samples (t, C), as they are packed."""
        for block in self._decode():
            if self.subtype == "PCM_16":
                block = (block * (32768 / self.scale)).round().clamp(max=32767).to(torch.int16)
            yield block.contiguous()

    def choose_scale(self) -> None:
        """Decode a lossy file to find whether it goes beyond full scale, and how far."""
        if is_lossy(self.info):
            peak = max(float(block.abs().max()) for block in self._decode())
            while round(peak * 32768 / self.scale) > 32768:
                self.scale *= 2

    def _decode(self) -> Iterator[Tensor]:
        left = self.n_samples
        with audio.AudioReader(self.info.path, info=self.info) as reader:
            reader.seek(self.start)
            while left:
                block = reader.read(min(_BLOCK, left)).mT
                left -= len(block)
                yield block


def _list_files(catalogue: Catalogue) -> list[_File]:
    """List the files of a set in its order; a set with errors is refused."""
    manifest, files, names = catalogue.manifest, [], {}
    errors = [each for each in (*manifest.findings, *catalogue.findings) if each.severity == Severity.ERROR]
    findings = [str(finding) for finding in errors]
    for row in manifest.rows:
        info = catalogue.info(row)
        if info is None:
            continue
        number = names.setdefault((row.split, row.track), len(names))
        start = round(row.start * info.sample_rate)
        end = info.n_samples if row.end is None else round(row.end * info.sample_rate)
        file = _File(row, info, start, end - start, number)
        if info.complaint:
            findings.append(f"{info.path} {info.complaint}; get the whole file")
        elif row.rate not in (None, info.sample_rate) or not start < end <= info.n_samples:
            what = f"{info.n_samples / info.sample_rate:g} s at {info.sample_rate} Hz"
            findings.append(f"{info.path} has {what}, its manifest says other; correct the manifest")
        elif file.n_bytes > _LARGEST:
            findings.append(f"{info.path} is longer than a WAV file may be; divide it by start and end in a manifest")
        files.append(file)
    if findings:
        raise DatasetError(manifest.root, findings)
    return files


def _divide(files: Sequence[_File], size: float) -> list[list[list[_File]]]:
    """Divide tracks, in their order, into shards of a size in bytes, and name their files."""
    tracks: dict[int, list[_File]] = {}
    for file in files:
        tracks.setdefault(file.number, []).append(file)
    shards: list[list[list[_File]]] = []
    filled = math.inf
    for number, track in sorted(tracks.items()):
        needed = sum(file.n_bytes for file in track)
        if filled + needed > size:
            shards.append([])
            filled = 0
        shards[-1].append(track)
        filled += needed
        taken: dict[str, int] = {}
        for file in track:
            stem = safe_name(file.row.stem).replace(".", "_").casefold()
            taken[stem] = taken.get(stem, -1) + 1
            file.member = f"{number:06d}.{stem}{f'.{taken[stem]}' if taken[stem] else ''}.wav"
    return shards


@contextmanager
def _bar(n_bytes: int, progress: bool) -> Iterator[tqdm]:
    shown = {"unit": "B", "unit_scale": True, "total": n_bytes, "desc": "packing", "leave": False}
    with tqdm(**shown, disable=bar_option(progress)) as bar:
        yield bar


def _write_all(
    place: "_Local | _Remote", shards: Sequence[Sequence[Sequence[_File]]], bar: tqdm
) -> list[tuple[list[Any], list[list[Any]]]]:
    """Write all shards, some at a time; return for each its name, bytes and hash, and the rows of its files."""
    pool = thread_pool(min(4, available_cores()))
    try:
        jobs = [pool.submit(_write_shard, place, i, tracks, bar) for i, tracks in enumerate(shards)]
        return [job.result() for job in jobs]
    finally:
        pool.shutdown(cancel_futures=True)


def _write_shard(
    place: "_Local | _Remote", number: int, tracks: Sequence[Sequence[_File]], bar: tqdm
) -> tuple[list[Any], list[list[Any]]]:
    """Write a shard; return its name, bytes and hash, and the rows of its files."""
    name, rows = f"{number:05d}.tar", []
    with place.create(name) as file:
        tar = _Tar(file)
        for track in tracks:
            for each in track:
                offset = tar.add_wav(each, bar)
                rows.append(_make_row(number, offset, each))
            tar.add(track[0].member.partition(".")[0] + ".json", json.dumps(_describe(track)).encode())
        return [name, *tar.end()], rows


def _make_row(shard: int, offset: int, file: _File) -> list[Any]:
    """Return the row of a file in the index."""
    values: dict[str, Any] = {"shard": shard, "offset": offset}
    values |= {name: getattr(file, name) for name in ("n_samples", "subtype", "scale", "member")}
    values |= {name: getattr(file.info, name) for name in ("n_channels", "sample_rate")}
    values |= {name: getattr(file.row, name) for name in ("stem", "track", "split", "gain", "tempo", "key", "licence")}
    return [values[column] for column in COLUMNS]


def _describe(track: Sequence[_File]) -> dict[str, Any]:
    """Describe a track for those who read the tar without the index."""
    row = track[0].row
    known = {name: getattr(row, name) for name in ("track", "split", "tempo", "key", "licence")}
    stems = {
        file.member.partition(".")[2]: {"stem": file.row.stem, "gain_db": file.row.gain, "scale": file.scale}
        | ({} if file.row.programs is None else {"programs": file.row.programs})
        for file in track
    }
    return {**{name: value for name, value in known.items() if value is not None}, "files": stems}


class _Tar:
    """Write a tar that is equal for equal files, and know where they lie in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._n_bytes, self._hash = file, 0, hashlib.sha256()

    def add(self, name: str, content: bytes) -> None:
        """Append a file."""
        self._begin(name, len(content))
        self._write(content)
        self._write(bytes(-self._n_bytes % _PAD))

    def add_wav(self, file: _File, bar: tqdm) -> int:
        """Append the samples of a file as WAV; return the byte at which they begin."""
        file.choose_scale()
        head = _wav_head(file)
        self._begin(file.member, len(head) + file.n_bytes)
        self._write(head)
        offset = self._n_bytes
        for block in file.blocks():
            self._write(memoryview(block.numpy()).cast("B"))
            bar.update(block.numel() * block.element_size())
        self._write(bytes(-self._n_bytes % _PAD))
        return offset

    def end(self) -> tuple[int, str]:
        """Write the end of the tar; return its bytes and its sha256, hexadecimal."""
        self._write(bytes(2 * _PAD))
        return self._n_bytes, self._hash.hexdigest()

    def _begin(self, name: str, size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        self._write(info.tobuf(tarfile.PAX_FORMAT))

    def _write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self._hash.update(content)
        self._n_bytes += len(content)


def _wav_head(file: _File) -> bytes:
    """Make the header of a WAV file."""
    width, n_channels, rate = TYPES[file.subtype].itemsize, file.info.n_channels, file.info.sample_rate
    code = 1 if file.subtype == "PCM_16" else 3
    layout = struct.pack("<HHIIHH", code, n_channels, rate, rate * n_channels * width, n_channels * width, 8 * width)
    chunks = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout
    if code == 3:
        chunks += b"fact" + struct.pack("<II", 4, file.n_samples)
    chunks += b"data" + struct.pack("<I", file.n_bytes)
    return b"RIFF" + struct.pack("<I", len(chunks) + file.n_bytes) + chunks


class _Local:
    """A folder of this machine to write to."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def join(self, name: str) -> str:
        """Return the path of a file."""
        return os.path.join(self.folder, name)

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        return os.path.lexists(self.join(name))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the disk refuses into a sentence."""
        with writing(self.folder, _REMEDY):
            self.folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.folder)
            yield

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Yield a file that appears complete, or not at all."""
        with atomic_file(self.join(name)) as part, open(part, "wb") as file:
            yield file

    def write_text(self, name: str, text: str) -> None:
        """Write a file."""
        with self.create(name) as file:
            file.write(text.encode())


class _Remote:
    """An address to write to."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.system, self.path = open_address(self.address)

    def join(self, name: str) -> str:
        """Return the address of a file."""
        return posixpath.join(self.address, name)

    def has(self, name: str) -> bool:
        """Return whether a file is there."""
        with self.writing():
            return self.system.exists(posixpath.join(self.path, name))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn what the network refuses into a sentence; each kind of address has errors of its own."""
        try:
            yield
        except (DatasetError, audio.AudioError, OutputError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OutputError(f"{self.address} cannot be written to: {reason}; choose another --output") from error

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """Yield a file; one that is not complete is removed, and no index names it."""
        path = posixpath.join(self.path, name)
        with suppress(NotImplementedError):
            self.system.makedirs(self.path, exist_ok=True)
        try:
            with self.system.open(path, "wb") as file:
                yield file
        except BaseException:
            with suppress(Exception):
                self.system.rm_file(path)
            raise

    def write_text(self, name: str, text: str) -> None:
        """Write a file."""
        with self.create(name) as file:
            file.write(text.encode())
