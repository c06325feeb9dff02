"""What all tests share: where the reference material lies, and warnings that are not ours."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference_root() -> Path:
    """The folder with `audio/` and `goldens/`, named by SEPKIT_REFERENCE; tests that need it skip without."""
    root = os.environ.get("SEPKIT_REFERENCE")
    if not root or not Path(root).is_dir():
        pytest.skip("SEPKIT_REFERENCE does not name a folder with the reference audio and values")
    return Path(root)
