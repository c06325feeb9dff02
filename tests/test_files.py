"""Files appear at once and complete, and no name leads out of its folder."""

import errno
import hashlib
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from sepkit.disk import explain
from sepkit.files import (
    PREFIX,
    atomic_file,
    atomic_folder,
    hash_file,
    in_a_line,
    is_safe_name,
    readable,
    safe_name,
    same_file_key,
)
from sepkit.inference import output_name

STOPS = [ValueError("broke"), KeyboardInterrupt(), SystemExit(143)]
LONGEST = [255 * "n", 85 * "日", 63 * "🎵", 250 * "n" + ".json"]

# Files


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EMFILE, r"no more files may be open at once \(`ulimit -n` allows more\)"),
        (errno.ENFILE, r"no more files may be open at once \(`ulimit -n` allows more\)"),
        (errno.EFBIG, r"a file may not be so large by `ulimit -f` or on its disk \([\d.]+ [kMG]B are free\)"),
        (errno.ENOSPC, r"no space is left on its disk \([\d.]+ [kMG]B are free\)"),
        (errno.EDQUOT, r"no space is left on its disk \([\d.]+ [kMG]B are free\)"),
        (errno.EROFS, "Read-only file system: 'stem'"),
    ],
)
def test_what_cannot_be_written_is_said_with_what_would_allow_it(tmp_path, number, sentence):
    assert re.fullmatch(sentence, explain(OSError(number, os.strerror(number), "stem"), tmp_path))


@pytest.mark.parametrize("size", [0, 3, 3 << 20])
def test_a_hash_is_that_of_the_whole_file(tmp_path, size):
    (tmp_path / "file").write_bytes(bytes(size))
    assert hash_file(tmp_path / "file") == hashlib.sha256(bytes(size)).hexdigest()


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("name", ["file", *LONGEST])
def test_a_file_of_any_name_appears_when_it_is_complete(tmp_path, name, durable):
    for content in ("first", "second"):
        with atomic_file(tmp_path / name, durable) as temporary:
            temporary.write_text(content)
            assert len(os.fsencode(temporary.name)) < 40
            assert temporary.parent == tmp_path
        assert (tmp_path / name).read_text() == content
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("stop", STOPS, ids=repr)
def test_what_stops_the_writing_leaves_the_old_file_and_no_other(tmp_path, stop):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(stop)), atomic_file(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise stop
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_that_cannot_take_its_place_leaves_nothing(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"), atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("durable", [True, False])
def test_a_durable_file_and_its_folder_are_on_the_disk_and_others_are_not_waited_for(tmp_path, monkeypatch, durable):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    with atomic_file(tmp_path / "file", durable) as temporary:
        temporary.write_text("new")
    wanted = [(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino] if os.name == "posix" else synced
    assert synced == (wanted if durable else [])


def test_a_disk_that_does_not_take_the_file_is_told(tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == []


def test_a_file_system_that_cannot_sync_is_no_error(tmp_path, monkeypatch):
    def refuse(_handle):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "file").read_text() == "new"


# Folders


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with atomic_folder(tmp_path / "deep" / "folder") as work:
        (work / "inner").mkdir()
        (work / "inner" / "file").write_text("new")
        assert not (tmp_path / "deep" / "folder").exists()
    assert (tmp_path / "deep" / "folder" / "inner" / "file").read_text() == "new"
    assert os.listdir(tmp_path / "deep") == ["folder"]


@pytest.mark.parametrize("stop", STOPS, ids=repr)
def test_what_stops_the_writing_leaves_no_folder(tmp_path, stop):
    with pytest.raises(type(stop)), atomic_folder(tmp_path / "folder") as work:  # noqa: PT012
        (work / "file").write_text("half")
        raise stop
    assert os.listdir(tmp_path) == []


def test_of_a_folder_made_twice_the_first_one_stays(tmp_path):
    with atomic_folder(tmp_path / "folder") as slow:
        with atomic_folder(tmp_path / "folder") as fast:
            (fast / "file").write_text("fast")
        (slow / "file").write_text("slow")
    assert (tmp_path / "folder" / "file").read_text() == "fast"
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize(("old", "left"), [("folder", True), ("folder and file", False)])
def test_the_remains_of_a_dead_process_go_and_what_is_written_to_stays(tmp_path, old, left):
    remains = tmp_path / f"{PREFIX}dead.part"
    remains.mkdir()
    (remains / "file").write_text("half")
    for path in [remains / "file", remains][0 if "file" in old else 1 :]:
        os.utime(path, (0, 0))
    with atomic_folder(tmp_path / "made"):
        assert remains.exists() is left


# Names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Song", "Song"),
        ("What's up & more (live) [1] 100% $x", "What's up & more (live) [1] 100% $x"),
        ("歌 🎵 é", "歌 🎵 é"),
        (".hidden", ".hidden"),
        ("e\u0301", "é"),
        ("", "_"),
        (".", "_"),
        ("..", "__"),
        ("../x", ".._x"),
        ("/etc/x", "_etc_x"),
        ("a\\b", "a_b"),
        ("C:x", "C_x"),
        ('a?*<>|"', "a______"),
        ("a\0b\nc\x1b[31m\x7f\x85\u2028", "a_b_c_[31m___"),
        ("Song.", "Song_"),
        ("Song . ", "Song___"),
        ("con", "_con"),
        ("aux", "_aux"),
        ("NUL.tar", "_NUL.tar"),
        ("Com1", "_Com1"),
        ("LPT²", "_LPT²"),
        ("con .x", "_con .x"),
        ("conga", "conga"),
        ("com10", "com10"),
        ("Caf\udce9", "Caf_udce9"),
        (255 * "n", 255 * "n"),
    ],
)
def test_a_name_that_some_system_forbids_becomes_one_that_all_take(name, safe):
    assert safe_name(name) == safe
    assert is_safe_name(name) is (unicodedata.normalize("NFC", name) == safe)


def hostile_names(n_names: int) -> list[str]:
    """Draw names of all that names are dangerous by."""
    drawn = np.random.default_rng(0)
    parts = ["..", ".", "/", "\\", "\0", " ", "con", "NUL", "~", "日", "é", "a b"]
    parts += ["e\u0301", "\u0958", "\udce9", "\ud83d", "\x1b"]
    parts += ["x", "🎵", "\u202e", "\uffff", ":", 200 * "n", 10_000 * ".", 300 * "日", "\r\n", "*", "%2e", "com1", "."]
    return ["".join(parts[i] for i in drawn.integers(0, len(parts), drawn.integers(1, 9))) for _ in range(n_names)]


@pytest.mark.parametrize("suffix", ["", ".json", ".flac"])
def test_every_name_stays_in_its_folder(tmp_path, suffix):
    for name in hostile_names(400):
        safe = safe_name(name, suffix)
        assert len(safe.encode()) <= 255
        assert not set(safe) & set('<>:"/\\|?*') | {c for c in safe if unicodedata.category(c) in ("Cc", "Cs")}
        assert safe.strip(". ")
        assert safe[-1] not in ". "
        assert not re.fullmatch(r"(?i)(con|prn|aux|nul|(com|lpt)\d) *(\..*)?", safe)
        assert unicodedata.is_normalized("NFC", safe)
        assert safe_name(safe) == safe
        (tmp_path / safe).touch()
        assert (tmp_path / safe).resolve().parent == tmp_path.resolve()
    assert {entry.parent for entry in tmp_path.rglob("*")} == {tmp_path}


def test_long_names_that_begin_alike_stay_different():
    names = [300 * "n" + end for end in "abc"]
    assert len({safe_name(name, ".json") for name in names}) == 3


@pytest.mark.parametrize("name", ["...wav", "..wav", ".. .wav", "aux.wav", "a\\..\\b.wav", "x./mixture.wav"])
def test_no_name_of_a_recording_leads_out_of_the_output(tmp_path, name):
    folder = output_name(tmp_path / name)
    assert folder.strip(". ")
    assert (tmp_path / folder).resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Song", "song", True), ("é", "e\u0301", True), ("É", "e\u0301", True), ("a", "b", False), ("a ", "a", False)],
)
def test_names_that_some_system_takes_for_one_have_one_key(one, other, same):
    assert (same_file_key(one) == same_file_key(other)) is same


def test_what_is_no_text_can_be_written_and_stays_different():
    assert readable("Ca\udce9, 歌") == "Ca\\udce9, 歌"
    assert readable("\udce8").encode() != readable("\udce9").encode()


def test_what_a_terminal_obeys_is_written_out():
    assert in_a_line("歌 \x1b[31m\n\u202e \udce9é") == r"歌 \x1b[31m\n\u202e \udce9é"


KILLED = """
import os, sys
from pathlib import Path
from sepkit.files import atomic_file
with atomic_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os._exit(9)
"""


def test_a_kill_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "file")], check=False)
    assert (tmp_path / "file").read_text() == "old"
    (left,) = {*tmp_path.iterdir()} - {tmp_path / "file"}
    assert left.name.startswith(PREFIX)


def test_nothing_writes_aside_by_hand():
    sources = Path(sys.modules["sepkit"].__file__).parent.rglob("*.py")
    by_hand = re.compile(r"os\.rename|\.replace\(self\.|tempfile\.(Named|mk)|fsync|\.rename\(")
    assert [path.name for path in sources if by_hand.search(path.read_text(encoding="utf-8"))] == ["files.py"]
