"""What all tests share: where the reference material lies, and warnings that are not ours."""

import os
import signal
from pathlib import Path

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as it is in a job in the background of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # as below `nohup`
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def reference_root() -> Path:
    """The folder with `audio/` and `goldens/`, named by SEPKIT_REFERENCE; tests that need it skip without."""
    root = os.environ.get("SEPKIT_REFERENCE")
    if not root or not Path(root).is_dir():
        pytest.skip("SEPKIT_REFERENCE does not name a folder with the reference audio and values")
    return Path(root)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs CUDA where there is none."""
    chosen = [item for item in items if item.get_closest_marker("cuda")]
    if chosen and not torch.cuda.is_available():
        for item in chosen:
            item.add_marker(pytest.mark.skip(reason="needs CUDA"))
