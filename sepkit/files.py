"""Files and folders that appear at once and complete, and names that every system takes."""

import errno
import hashlib
import os
import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX, _SUFFIX = ".sepkit-", ".part"  # of what is half written
_ABANDONED = 3600.0  # s without a change after which what is half written belongs to a process that died
_NOT_SYNCED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM}  # by file systems that cannot
_LONGEST = 255  # bytes in a name, on all common file systems
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f\u2028\u2029]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|\Z)", re.IGNORECASE)


@contextmanager
def atomic_file(path: str | os.PathLike, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to, which becomes `path` when the block ends, and is removed when it raises.

    A reader finds the old file or the new one. What is half written bears a short name of its own.

    Args:
        path: the file, which may exist.
        durable: wait until the disk has it, so that a loss of power leaves the old file or the new one, too.
    """
    path = Path(path)
    temporary = path.parent / _temporary_name()
    try:
        yield temporary
        if durable:
            put_in_place(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def put_in_place(written: Path, path: Path) -> None:
    """Move a complete file to its place beside it, once the disk has it.

    Args:
        written: the file.
        path: its place, where another file may be.
    """
    _sync(written, os.O_RDWR)
    os.replace(written, path)
    _sync_folder(path.parent)


def move_folder(folder: Path, aside: Path) -> None:
    """Move a folder to another name beside it.

    Args:
        folder: which is there.
        aside: its new place; a folder that is there is removed.
    """
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    _sync_folder(aside.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a folder to write into, which becomes `path` when the block ends, and is removed when it raises.

    Several processes may make the same folder: what the fastest made stays. What processes that died left is removed.

    Args:
        path: the folder; the work is done beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    work = path.parent / _temporary_name()
    work.mkdir()
    try:
        yield work
        for place, _, names in os.walk(work):
            for name in names:
                _sync(os.path.join(place, name), os.O_RDWR)
            _sync_folder(place)
        try:
            work.rename(path)
        except OSError:
            if not path.is_dir():
                raise
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _temporary_name() -> str:
    return f"{PREFIX}{secrets.token_hex(6)}{_SUFFIX}"


def _sync(path: str | os.PathLike, access: int) -> None:
    """Wait until the disk has what was written; Windows wants a handle that may write."""
    handle = os.open(path, access)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise
    finally:
        os.close(handle)


def _sync_folder(path: str | os.PathLike) -> None:
    """Wait until the disk has the names in a folder, where the system can; Windows cannot."""
    if os.name == "posix":
        with suppress(PermissionError):  # a folder may be written to and not read
            _sync(path, os.O_RDONLY)


def remove_abandoned(folder: str | os.PathLike) -> None:
    """Remove half-written files and folders that processes left which died, an hour ago or earlier.

    Args:
        folder: in which `atomic_file` and `atomic_folder` worked.
    """
    for left in Path(folder).glob(f"{PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # its process may just have finished
            if time.time() - max(path.stat().st_mtime for path in (left, *left.rglob("*"))) <= _ABANDONED:
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def hash_file(path: str | os.PathLike) -> str:
    """Compute the sha256 of a file, hexadecimal."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def safe_name(name: str, suffix: str = "", longest: int = _LONGEST) -> str:
    """Turn any text into the name of one file or folder, which stays where it is put on every system.

    What some system forbids becomes "_": separators, control characters, `<>:"|?*`, bytes that are no text, dots and
    spaces at the end. Names that Windows reserves get a "_" before them, and of long names the end becomes a hash. The
    result is in Unicode's normal form C. A name that all systems allow stays as it is.

    Args:
        name: any text.
        suffix: appended.
        longest: bytes of the result in UTF-8, at most.
    """
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", readable(name)))
    kept = name.rstrip(". ")
    name = kept + "_" * max(len(name) - len(kept), not kept)
    name = f"_{name}" if _RESERVED.match(name) else name
    raw, room = name.encode(), longest - len(suffix.encode())
    if len(raw) > room:
        mark = f"~{hashlib.sha256(raw).hexdigest()[:8]}"
        name = raw[: room - len(mark)].decode(errors="ignore") + mark
    return name + suffix


def is_safe_name(name: str, suffix: str = "") -> bool:
    """Return whether every system takes a name as it is.

    Args:
        name: any text.
        suffix: with which it must fit.
    """
    return safe_name(name, suffix) == unicodedata.normalize("NFC", name) + suffix


def same_file_key(name: str) -> str:
    """Return a key that is equal for names that some system takes for one: they differ in case or normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def readable(name: str) -> str:
    r"""Write bytes that are no text in the name of a file as \udc80 to \udcff, so that it can be drawn and sent."""
    return name.encode("utf-8", "backslashreplace").decode()


def in_a_line(text: str) -> str:
    r"""Write what a terminal obeys in text as \x1b, \n and so on, so that names in it change no other line."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
