"""The cache: where it lies, and that folders in it appear complete or not at all."""

import os
import sys
import time
from pathlib import Path

import pytest

from sepkit.datasets.cache import cache_directory
from sepkit.files import PREFIX, atomic_folder


def test_a_folder_appears_when_it_is_complete(tmp_path):
    folder = tmp_path / "cache" / "songs"
    with atomic_folder(folder) as work:
        (work / "song").write_text("la")
        assert not folder.exists()
    assert (folder / "song").read_text() == "la"
    assert list(folder.parent.iterdir()) == [folder]


def test_nothing_stays_of_a_folder_that_could_not_be_made(tmp_path):
    with pytest.raises(OSError, match="full"), atomic_folder(tmp_path / "songs"):
        raise OSError("the disk is full")
    assert list(tmp_path.iterdir()) == []


def test_the_slower_process_takes_the_files_of_the_faster(tmp_path):
    with atomic_folder(tmp_path / "songs") as slow:
        (slow / "song").write_text("slow")
        with atomic_folder(tmp_path / "songs") as fast:
            (fast / "song").write_text("fast")
    assert (tmp_path / "songs" / "song").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [tmp_path / "songs"]


def test_a_folder_that_cannot_be_moved_raises(tmp_path):
    with pytest.raises(OSError, match="songs"), atomic_folder(tmp_path / "songs") as work:
        work.rename(tmp_path / "elsewhere")


def test_what_a_dead_process_left_is_removed_but_not_what_one_writes(tmp_path):
    left, fresh = tmp_path / f"{PREFIX}a", tmp_path / f"{PREFIX}b"
    for folder in (left, fresh):
        folder.mkdir()
    os.utime(left, (0, time.time() - 7200))
    with atomic_folder(tmp_path / "songs"):
        assert not left.exists()
        assert fresh.exists()


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
