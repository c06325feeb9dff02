"""Files of weights, torch's of today and of before 2020 and safetensors: sizes are checked before anything is made."""

import io
import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor

from sepkit.files import readable
from sepkit.importing._pickles import LARGEST_PICKLE, CheckpointError, Storage, StoredTensor, read_pickle
from sepkit.plain import parse_json

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which files of before 2020 begin
_LARGEST_HEADER = 100_000_000  # bytes, of safetensors
_SHARED = 64 << 20  # bytes that tensors of one file may have more than twice the file
_MOST_MEMBERS = 200_000


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes:
        content: plain data with a `StoredTensor`, or a tensor, for each tensor.
        metadata: texts by name, of safetensors.
        load: reads tensors by name.
    """

    content: Any
    metadata: dict[str, str]
    load: Callable[[Mapping[str, StoredTensor | Tensor]], dict[str, Tensor]]


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Open a file of weights; nothing in it is run.

    Raises:
        CheckpointError: it is none, holds more than weights, is damaged, or larger inside than outside.
    """
    try:
        with path.open("rb") as file:
            yield from _read(path, file)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}, check the path") from error


def _read(path: Path, file: BinaryIO) -> Iterator[Checkpoint]:
    size, head = os.fstat(file.fileno()).st_size, file.read(16)
    file.seek(0)
    if head[:4] == b"PK\x03\x04":
        yield _read_zip(file, size)
    elif head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        yield _read_safetensors(path, file)
    elif head[:1] == b"\x80":
        yield _read_old(file, size)
    else:
        raise CheckpointError(_explain(path, head, size))


def _explain(path: Path, head: bytes, size: int) -> str:
    if head[:2] == b"\x1f\x8b":
        return "it is compressed, as Demucs' first version wrote, which is not supported: take a file of version 3 or 4"
    if path.suffix.lower() == ".onnx":
        return "ONNX (MDX-Net) holds a program, not weights by name: take a model whose weights are of torch"
    if not size:
        return "it is empty: download it again"
    if head.startswith(b"version https://"):
        return "it is a pointer of Git LFS, not the file itself: download it, or run `git lfs pull`"
    return "it is no file of torch or safetensors (a page that a server sent in its place?): download it again"


def _read_zip(file: BinaryIO, size: int) -> Checkpoint:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error) as error:
        raise CheckpointError(f"it is damaged or cut off ({str(error)[:80]}): download it again") from error
    members = {info.filename: info for info in archive.infolist()}
    if any(name.rpartition("/")[2] == "constants.pkl" for name in members):
        raise CheckpointError("it is a TorchScript program, not weights: look for the state dict of the model")
    if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in members.values()):
        raise CheckpointError("torch compresses and encrypts nothing, and here something is: it may be a zip bomb")
    if sum(info.file_size for info in archive.infolist()) > size or len(members) > _MOST_MEMBERS:
        raise CheckpointError(f"its parts are larger than itself, {size} bytes: it is damaged, or a zip bomb")
    roots = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise CheckpointError(f"it is no file of torch: it holds {', '.join(list(members)[:3]) or 'nothing'}")
    if members[f"{roots[0]}data.pkl"].file_size > LARGEST_PICKLE:
        raise CheckpointError(f"what describes its tensors is larger than {LARGEST_PICKLE >> 20} MB")

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error) as error:
            raise CheckpointError(f"{name} is damaged ({str(error)[:80]}): download it again") from error

    if f"{roots[0]}byteorder" in members and read(f"{roots[0]}byteorder").strip() != b"little":
        raise CheckpointError("its numbers are in big-endian order, which is not supported")
    content = read_pickle(io.BytesIO(read(f"{roots[0]}data.pkl")))

    def read_storage(storage: Storage) -> bytes:
        name, wanted = f"{roots[0]}data/{storage.key}", storage.n_values * storage.dtype.itemsize
        if name not in members or members[name].file_size < wanted:
            there = members[name].file_size if name in members else 0
            raise CheckpointError(f"{name} must have {wanted} bytes, got {there}: download it again")
        return read(name)

    return Checkpoint(content, {}, lambda tensors: _load(tensors, read_storage, size))


def _read_old(file: BinaryIO, size: int) -> Checkpoint:
    """Read what torch wrote before 2020: pickles one after the other, then the values."""
    if read_pickle(file) != _MAGIC or read_pickle(file) != _PROTOCOL:
        raise CheckpointError("it is a pickle that torch.save did not write: look for the weights in another form")
    system = read_pickle(file)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("its numbers are in big-endian order, which is not supported")
    content, keys = read_pickle(file), read_pickle(file)
    if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
        raise CheckpointError("its storages have no names")
    storages = {tensor.storage.key: tensor.storage for tensor in _find_tensors(content)}
    places = {}
    for key in map(str, keys):
        raw = file.read(8)
        if key not in storages or len(raw) < 8:
            raise CheckpointError("it is cut off, or damaged: download it again")
        (n_values,) = struct.unpack("<q", raw)
        n_bytes = storages[key].n_values * storages[key].dtype.itemsize
        if n_values != storages[key].n_values or file.tell() + n_bytes > size:
            raise CheckpointError(f"{n_bytes} bytes of values are more than it has left: download it again")
        places[key] = (file.tell(), n_bytes)
        file.seek(n_bytes, os.SEEK_CUR)

    def read_storage(storage: Storage) -> bytes:
        if storage.key not in places:
            raise CheckpointError("it is cut off: download it again")
        start, n_bytes = places[storage.key]
        file.seek(start)
        return file.read(n_bytes)

    return Checkpoint(content, {}, lambda tensors: _load(tensors, read_storage, size))


def _find_tensors(content: Any) -> Iterator[StoredTensor]:
    """List all tensors, each container once."""
    left, seen = [content], set()
    while left:
        value = left.pop()
        if isinstance(value, StoredTensor):
            yield value
        elif isinstance(value, dict | list | tuple) and not isinstance(value, Storage) and id(value) not in seen:
            seen.add(id(value))
            left += value.values() if isinstance(value, dict) else value


def _load(
    tensors: Mapping[str, StoredTensor | Tensor], read_storage: Callable[[Storage], bytes], size: int
) -> dict[str, Tensor]:
    """Read tensors; those that share values in the file share them then."""
    total = sum(math.prod(tensor.shape) * tensor.storage.dtype.itemsize for tensor in tensors.values())
    if total > 2 * size + _SHARED:
        raise CheckpointError(f"its tensors have {total} bytes in a file of {size}: they repeat each other without end")
    storages: dict[Storage, Tensor] = {}
    loaded = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage not in storages:
            raw = bytearray(read_storage(storage))
            values = torch.frombuffer(raw, dtype=storage.dtype, count=storage.n_values) if storage.n_values else None
            storages[storage] = torch.empty(0, dtype=storage.dtype) if values is None else values
        loaded[name] = storages[storage].as_strided(tensor.shape, tensor.stride, tensor.offset)
    return loaded


def _read_safetensors(path: Path, file: BinaryIO) -> Checkpoint:
    length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise CheckpointError(f"its header has {length} bytes, at most {_LARGEST_HEADER} are read")
    try:
        metadata = parse_json(file.read(length).decode()).get("__metadata__") or {}
        if readable(str(path)) != str(path):
            raise CheckpointError("its name is no text: rename it")
        content = load_file(path)
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"it is damaged or cut off ({str(error)[:100]}): download it again") from error
    return Checkpoint(content, metadata, dict)
