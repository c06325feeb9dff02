"""Files that can be made again: where they lie."""

import os
import sys
from pathlib import Path


def cache_directory() -> Path:
    """Tell the folder for files that can be made again: $SEPKIT_CACHE, else the platform's place for them."""
    if os.environ.get("SEPKIT_CACHE"):
        return Path(os.environ["SEPKIT_CACHE"]).expanduser().absolute()
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "sepkit"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "sepkit"
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sepkit"
