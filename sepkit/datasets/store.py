"""The store of decoded files, in the cache: what is slow to decode is decoded once, and then mapped into memory."""

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from sepkit import audio
from sepkit.datasets.readers import Reader
from sepkit.datasets.stems import StemFile
from sepkit.datasets.stored_file import (
    FORMAT,
    Key,
    StopBuildingError,
    StoredReader,
    count_bytes,
    is_lossy,
    make_key,
    open_stored,
    write_stored,
)
from sepkit.devices import available_cores
from sepkit.disk import OutputError, writing
from sepkit.processes import thread_pool
from sepkit.terminal import bar_option

try:
    import fcntl
except ImportError:  # Windows, where two processes may decode the same file, of which one result stays
    fcntl = None

_OPEN = 1024  # files that are mapped at once, of the 65530 mappings that Linux allows
_REMEDY = "nothing half made is kept; make room, set SEPKIT_CACHE to another folder, or set data.store: off"


class Entry(NamedTuple):
    """A file that is to be stored at a rate, Hz."""

    file: StemFile
    sample_rate: int

    @property
    def is_needed(self) -> bool:
        """Return whether it is decoded before its first use: what was read otherwise would not be the same samples."""
        return is_lossy(self.file.info) or self.file.info.sample_rate != self.sample_rate


class DecodedStore:
    """Files decoded once, for all processes that read them.

    Lossless files at the wanted rate are read from themselves until they are stored, with the same samples. Lossy and
    resampled ones are stored before they are first read.

    Args:
        entries: what is stored.
        folder: where.
    """

    def __init__(self, entries: Mapping[Key, Entry], folder: Path) -> None:
        self.entries, self.folder = dict(entries), folder
        self.n_left_out = 0  # files for which there is no room
        self.error: OutputError | None = None
        self._open: OrderedDict[tuple, StoredReader] = OrderedDict()
        self._stopped, self._thread, self._lock = threading.Event(), None, threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: the names of the entries."""
        return {"entries": self.entries, "folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the store in another process."""
        self.__init__(**state)

    def path(self, key: Key) -> Path:
        """Return where an entry lies."""
        name = hashlib.sha256(os.fsencode(json.dumps([FORMAT, *key]))).hexdigest()[:32]
        return self.folder / name[:2] / f"{name[2:]}.pcm"

    def reader(self, file: StemFile, sample_rate: int) -> Reader | None:
        """Return what reads a file at a rate, Hz; None: it is not stored, or not yet, and is to be read itself.

        Raises:
            AudioError: it is to be decoded before its first use, and cannot be.
            OutputError: the disk does not take it.
        """
        key = make_key(file, sample_rate)
        place = (key, file.start if key.part is None else 0)
        with self._lock:
            if place in self._open:
                self._open.move_to_end(place)
                return self._open[place]
        entry = self.entries.get(key)
        if entry is None:
            return None
        path = self.path(key)
        found = open_stored(path, file, sample_rate)
        if found is None and entry.is_needed:
            self.build(key)
            found = open_stored(path, file, sample_rate)
        if found is None:
            return None
        reader = StoredReader(file.info, *found, place[1])
        with self._lock:
            self._open[place] = reader
            if len(self._open) > _OPEN:
                self._open.popitem(last=False)
        return reader

    def holds(self, key: Key) -> bool:
        """Return whether a file is stored."""
        entry = self.entries.get(key)
        return entry is not None and open_stored(self.path(key), *entry) is not None

    def build(self, key: Key, wait: bool = True) -> bool:
        """Store a file, unless it is.

        Args:
            key: of an entry.
            wait: for another process that is storing it, too.

        Returns:
            Whether it is stored now.

        Raises:
            AudioError: it does not decode.
            OutputError: the disk does not take it.
        """
        path, entry = self.path(key), self.entries[key]
        with writing(self.folder, _REMEDY):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.with_suffix(".lock"), wait) as is_alone:
                if not self.holds(key):
                    if not is_alone:
                        return False
                    write_stored(path, *entry, self._stopped.is_set)
        return True

    def start(self) -> None:
        """Write all files that are not stored, one after the other in a thread beside the training."""
        if self._thread is None and self.entries:
            self._thread = threading.Thread(target=self._build_all, name="sepkit store", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End what `start` began, within a block of samples; what is half written is removed."""
        if self._thread is not None:
            with self.interrupted():
                self._thread.join()
            self._thread = None

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """End what is being decoded, in whatever thread, at its next block."""
        self._stopped.set()
        try:
            yield
        finally:
            self._stopped.clear()

    def raise_error(self) -> None:
        """Return, unless `start` met an error, which is raised.

        Raises:
            OutputError: the disk did not take a file.
        """
        if self.error is not None:
            raise self.error

    def _build_all(self) -> None:
        with suppress(AttributeError, OSError):  # only Linux knows threads of their own priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        try:
            for key in self.entries:
                if self._stopped.is_set():
                    return
                with suppress(audio.AudioError):  # which whoever reads it tells
                    self.build(key, wait=False)
        except StopBuildingError:
            pass
        except OutputError as error:
            self.error = error


@contextmanager
def _alone(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a file for this thread of this process alone; False: another one does, and is not to be waited for."""
    if fcntl is None:
        yield True
        return
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a disk without locks
            yield True
            return
        try:
            yield True
        finally:
            with suppress(OSError):
                path.unlink()
            fcntl.flock(file, fcntl.LOCK_UN)  # also for processes that were forked meanwhile


class Built(NamedTuple):
    """What was stored.

    Attributes:
        n_files: files in the store.
        n_bytes: that they take.
        failures: why others are not there, a sentence each.
    """

    n_files: int
    n_bytes: int
    failures: tuple[str, ...]


def build_store(
    store: DecodedStore,
    workers: int | None = None,
    progress: bool = True,
    report: Callable[[Sequence[str]], object] | None = None,
) -> Built:
    """Decode all files into the store ahead of a training, several at a time; what is there is left as it is.

    Args:
        store: of `plan_store`.
        workers: threads that decode; None: one a core.
        progress: show a bar.
        report: called with the sentences of files that do not decode, as they come.

    Raises:
        OutputError: the disk is full.
    """
    failures: list[str] = []

    def build(key: Key) -> None:
        try:
            store.build(key)
        except audio.AudioError as error:
            failures.append(str(error))
            if report:
                report([str(error)])

    with thread_pool(workers or available_cores()) as pool:
        try:
            bar = {"total": len(store.entries), "unit": "file", "disable": bar_option(progress)}
            for _ in tqdm(pool.map(build, store.entries), "storing", **bar):
                pass
        except BaseException:
            with store.interrupted():
                pool.shutdown(cancel_futures=True)
            raise
    held = [entry for key, entry in store.entries.items() if store.holds(key)]
    return Built(len(held), sum(count_bytes(*entry) for entry in held), tuple(failures))
