"""The cache: where it lies."""

import sys
from pathlib import Path

import pytest

from sepkit.cache import cache_directory


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these systems have their own places")
@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"SEPKIT_CACHE": "/a"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/sepkit"),
        ({"HOME": "/c"}, "/c/.cache/sepkit"),
    ],
)
def test_the_cache_lies_where_the_user_says(monkeypatch, variables, place):
    for name in ("SEPKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_directory() == Path(place)
