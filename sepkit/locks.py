"""One process at a time in a folder: locks that name their holder and end with their process."""

import errno
import json
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

LOCK = ".sepkit.lock"
_FAR = 1 << 30  # the byte that is locked on Windows, where a locked one cannot be read
_BEAT, _SILENT = 15.0, 120.0  # s between two signs of life, and without one, after which a process is taken for dead
_ATTEMPTS, _PAUSE = 40, 0.05  # s; the other process may just be writing its name, or removing the file
_BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_held: dict[str, "_Lock"] = {}  # by file, since the system keeps out other processes only


class LockedError(ValueError):
    """A folder is in use."""


class Holder(NamedTuple):
    """A process that holds a folder.

    Attributes:
        pid: its number.
        host: name of its machine.
        since: when it took the folder, in words.
        boot: which start of which system it runs in; empty where unknown.
        start: when it was started, in the system's units, since numbers come again; empty where unknown.
        beat: seconds after which it touches the file again and again; 0: never.
    """

    pid: int
    host: str
    since: str
    boot: str = ""
    start: str = ""
    beat: float = 0.0


class _Lock(NamedTuple):
    """A file that a process holds: its number, the open file, which stays the only one, and what is written there.

    POSIX takes a lock back as soon as the process closes any open file of that name.
    """

    pid: int
    handle: int
    holder: Holder


@contextmanager
def locked(folder: str | os.PathLike, remedy: str, name: str = "") -> Iterator[Holder | None]:
    """Hold a folder for this process alone, by a file in it that is removed in the end.

    Where the system locks files, a lock ends with its process; where it does not, the process is looked for. One on
    another machine, as on a network disk, is taken for dead when it has given no sign of life for two minutes: a thread
    of each holder touches the file, and both times are the disk's.

    Args:
        folder: which, it must exist.
        remedy: ends the sentence that refuses a folder in use.
        name: begins it; empty: the folder.

    Returns:
        As context: who died holding it; None if nobody.

    Raises:
        LockedError: it is in use.
        OSError: nothing can be written into it.
    """
    path = os.path.join(os.path.realpath(folder), LOCK)
    handle, former = _acquire(path, name or str(folder), remedy)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, _held[path], ended), daemon=True)
    beating.start()
    try:
        yield former
    finally:
        ended.set()
        if os.getpid() == _held[path].pid:  # a copy of the process has no such thread
            beating.join(_BEAT)
        _release(path, handle)


def check_still_held(folder: str | os.PathLike, remedy: str) -> None:
    """Refuse to go on in a folder that another process took over, since this one had given no sign of life.

    Args:
        folder: which this process held, or never did.
        remedy: ends the sentence.

    Raises:
        LockedError: another one holds it.
    """
    path = os.path.join(os.path.realpath(folder), LOCK)
    own = _held.get(path)
    if own is None or own.pid != os.getpid():
        return
    with suppress(OSError):  # a file that somebody removed is nobody's
        found = _read(own.handle) if _is_at(path, own.handle) else _parse(Path(path).read_bytes())
        if found not in (None, own.holder):
            raise LockedError(
                f"{folder} was taken over by process {found.pid} on {found.host}, since this process gave no sign of "
                f"life for {_SILENT:.0f} s: {remedy}"
            )


@contextmanager
def work_folder(path: Path, remedy: str, name: str = "") -> Iterator[Path]:
    """Make a folder to work in, which is removed in the end; so is what processes that died left in its kind.

    Args:
        path: the folder; those beside it whose names are the same up to the last "-" are of its kind.
        remedy: ends the sentence that refuses a folder in use.
        name: begins it; empty: the folder.

    Raises:
        LockedError: another process works in it.
        OSError: it cannot be made.
    """
    with ExitStack() as stack:
        stack.callback(_remove_empty, path)
        _enter(stack, path, remedy, name)
        stack.callback(_empty, path)
        _empty(path)
        for lock in path.parent.glob(f"{path.name.rpartition('-')[0]}-*/{LOCK}"):
            if lock.parent != path:
                _remove_abandoned(lock.parent)
        yield path


def _enter(stack: ExitStack, path: Path, remedy: str, name: str) -> None:
    """Make a folder and hold it, though others may be removing it."""
    for attempt in range(_ATTEMPTS):
        try:
            path.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(path, remedy, name))
            return
        except (FileNotFoundError, FileExistsError):
            if attempt + 1 == _ATTEMPTS:
                raise


def _remove_abandoned(folder: Path) -> None:
    with suppress(LockedError, OSError), locked(folder, ""):
        _empty(folder)
    _remove_empty(folder)


def _empty(folder: Path) -> None:
    """Remove everything but the lock."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK:
            entry.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _acquire(path: str, folder: str, remedy: str) -> tuple[int, Holder | None]:
    """Open and lock the file, and return it and its former holder."""
    if path in _held and _held[path].pid == os.getpid():
        raise LockedError(f"{folder} is in use by this process itself: {remedy}")
    holder = None
    for _ in range(_ATTEMPTS):
        handle, is_new = _open(path)
        if handle is None:
            continue
        alone = _lock(handle)
        holder = None if is_new else _read(handle)
        silent = holder is not None and _is_silent(path, handle, holder)
        if _is_at(path, handle) and _is_free(alone, is_new, holder, silent) and _sign(handle, alone is None or silent):
            _held[path] = _Lock(os.getpid(), handle, _read(handle))
            return handle, holder
        os.close(handle)
        if holder is not None:
            break
        time.sleep(_PAUSE)
    raise LockedError(_refusal(path, folder, holder, remedy))


def _refusal(path: str, folder: str, holder: Holder | None, remedy: str) -> str:
    if holder is None:
        return f"{folder} is in use, by whom {path} does not say: {remedy}"
    lost = ""
    if not _is_here(holder):
        later = f"try again {_SILENT:.0f} s after its end, or " if holder.beat else ""
        lost = f"; if that process has ended, {later}remove {path}"
    return f"{folder} is in use by process {holder.pid} on {holder.host}, since {holder.since}: {remedy}{lost}"


def _open(path: str) -> tuple[int | None, bool]:
    """Open a file, made if need be; None where it goes at this moment."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
    except FileExistsError:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR), False
    return None, False


def _lock(handle: int) -> bool | None:
    """Lock an open file; False: another process has it; None: this system, or this disk, knows no locks."""
    try:
        if fcntl:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt:
            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            return None
    except OSError as error:
        return False if error.errno in _BUSY else None
    return True


def _is_free(alone: bool | None, is_new: bool, holder: Holder | None, silent: bool) -> bool:
    """Decide whether a file may be taken; on other machines' processes no lock is relied on."""
    if alone is None:
        return is_new or silent or (holder is not None and not _is_alive(holder))
    return alone and (holder is None or silent or _is_here(holder))


def _is_silent(path: str, handle: int, holder: Holder) -> bool:
    """Return whether a process of another machine gave no sign of life for long, by the clock of the disk."""
    if not holder.beat or _is_here(holder):
        return False
    probe = f"{path}-{secrets.token_hex(6)}"
    try:
        with open(probe, "xb"):
            return os.stat(probe).st_mtime - os.fstat(handle).st_mtime > max(_SILENT, 4 * holder.beat)
    finally:
        with suppress(OSError):
            os.unlink(probe)


def _beat(path: str, own: _Lock, ended: threading.Event) -> None:
    """Show that this process lives: touch a file that it holds again and again."""
    while not ended.wait(_BEAT):
        with suppress(OSError):  # as where the network is down
            if _is_at(path, own.handle) and _read(own.handle) == own.holder:
                os.utime(path)


def _sign(handle: int, unsure: bool) -> bool:
    """Write this process into the file; where no lock is relied on, check whether another did the same meanwhile."""
    since = time.strftime("%Y-%m-%d %H:%M")
    own = Holder(os.getpid(), socket.gethostname(), since, _boot(), _start(os.getpid()), _BEAT)
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, json.dumps(own._asdict()).encode())
    if unsure:
        time.sleep(2 * _PAUSE)
        return _read(handle) == own
    return True


def _read(handle: int) -> Holder | None:
    """Read an open file, which another thread may be reading, too."""
    if hasattr(os, "pread"):
        return _parse(os.pread(handle, 4096, 0))
    os.lseek(handle, 0, os.SEEK_SET)
    return _parse(os.read(handle, 4096))


def _parse(content: bytes) -> Holder | None:
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None


def _is_at(path: str, handle: int) -> bool:
    """Return whether an open file still bears its name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except OSError:
        return False


def _is_here(holder: Holder) -> bool:
    """Return whether a process runs, or ran, on this machine, in whatever container."""
    return holder.host == socket.gethostname() or (holder.boot != "" and holder.boot == _boot())


def _is_alive(holder: Holder) -> bool:
    """Return whether a process may be running."""
    if not _is_here(holder) or os.name != "posix":
        return True
    if holder.boot != _boot():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        pass
    return _start(holder.pid) == holder.start


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _start(pid: int) -> str:
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return ""


def _release(path: str, handle: int) -> None:
    """Remove the file, unless it is another's by now, first where an open one can be removed."""
    own = _held[path]
    if own.pid != os.getpid():  # a copy of the process
        return
    is_own = _is_at(path, handle) and _read(handle) == own.holder
    if is_own and os.name == "posix":
        with suppress(OSError):
            os.unlink(path)
    os.close(handle)
    if is_own and os.name != "posix":
        with suppress(OSError):
            os.unlink(path)
    del _held[path]
