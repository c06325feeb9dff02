"""Files that can be made again: where they lie, and how a folder of them appears all at once."""

import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sepkit.disk import OutputError, writing

_REMEDY = "set SEPKIT_CACHE to a folder that can be written to and has room"
_PREFIX = ".making-"
_ABANDONED = 3600.0  # s without a new file after which a half-made folder belongs to a process that died


def cache_directory() -> Path:
    """Tell the folder for files that can be made again: $SEPKIT_CACHE, else the platform's place for them."""
    if os.environ.get("SEPKIT_CACHE"):
        return Path(os.path.expanduser(os.environ["SEPKIT_CACHE"])).absolute()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "sepkit"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "sepkit"
    try:
        home = Path.home()
    except RuntimeError:
        raise OutputError(f"there is no home folder to keep made files in: {_REMEDY}") from None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sepkit"


@contextmanager
def writing_to_cache() -> Iterator[None]:
    """Turn what the disk refuses into a sentence that names SEPKIT_CACHE.

    Raises:
        sepkit.disk.OutputError: of any OSError.
    """
    with writing(cache_directory(), f"nothing half made is kept; make room, or {_REMEDY}"):
        yield


@contextmanager
def making(folder: Path) -> Iterator[Path]:
    """Give a folder to write into; when the block ends it becomes `folder`, and when it raises nothing stays.

    Several processes may make the same folder: what the fastest made stays.

    Args:
        folder: where it belongs; the work is done beside it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    work = folder.parent / f"{_PREFIX}{folder.name}-{uuid.uuid4().hex}"
    work.mkdir()
    try:
        yield work
        _publish(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, folder: Path) -> None:
    """Move a complete folder to its place at once; where another process was faster, its files stay."""
    try:
        work.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _remove_abandoned(parent: Path) -> None:
    for left in parent.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):  # its process may just have finished
            if time.time() - left.stat().st_mtime > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
