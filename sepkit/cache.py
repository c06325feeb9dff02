"""Where files lie that can be made again."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sepkit.disk import OutputError, writing

_REMEDY = "set SEPKIT_CACHE to a folder that can be written to and has room"


def cache_directory() -> Path:
    """Return the folder for files that can be made again: $SEPKIT_CACHE, else the platform's place for them."""
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


def model_place(name: str) -> Path:
    """Return the folder in which a published model lies once it was fetched.

    Args:
        name: of the registry; "/" in it becomes "_", so that no model lies in another's folder.
    """
    return cache_directory() / "models" / name.replace("/", "_")
