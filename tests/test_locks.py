"""Locks: one process at a time in a folder; who holds it is named, and the dead hold nothing."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from sepkit import locks
from sepkit.locks import LOCK, Holder, LockedError, check_still_held, locked, work_folder

HOST = socket.gethostname()
SYSTEMS = ["system's locks", "no locks"]
HOLDING = """
import sys, time
from sepkit import locks
if {without}: locks.fcntl = locks.msvcrt = None
with locks.locked({folder!r}, "wait"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=SYSTEMS)
def system(request, monkeypatch) -> str:
    """A system with locks of files, and one without, where processes are looked for."""
    if request.param == "no locks":
        monkeypatch.setattr(locks, "fcntl", None)
        monkeypatch.setattr(locks, "msvcrt", None)
        monkeypatch.setattr(locks, "_PAUSE", 0.001)
    return request.param


@pytest.fixture
def other(system, tmp_path):
    """Another process that holds the folder."""
    program = HOLDING.format(without=system == "no locks", folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.usefixtures("system")
def test_a_folder_is_held_and_nothing_stays(tmp_path):
    with locked(tmp_path, "wait") as former:
        assert former is None
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path, "wait"):
        pass


@pytest.mark.usefixtures("system")
def test_an_error_gives_the_folder_back(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path, "wait"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("system")
def test_the_same_process_is_kept_out_too(tmp_path):
    with locked(tmp_path, "wait"), pytest.raises(LockedError, match="in use by this process itself: wait"):
        locked(tmp_path, "wait").__enter__()


def test_another_process_is_named(other, tmp_path):
    sentence = rf"is in use by process {other.pid} on {HOST}, since \d{{4}}-.*: choose another"
    with pytest.raises(LockedError, match=sentence):
        locked(tmp_path, "choose another").__enter__()
    assert other.poll() is None


def test_what_a_killed_process_held_is_taken_over_and_told(other, tmp_path):
    other.kill()
    other.wait()
    with locked(tmp_path, "wait") as former:
        assert (former.pid, former.host) == (other.pid, HOST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "no JSON", '{"pid": 1}', "[1, 2]"])
def test_a_damaged_lock_that_nobody_holds_is_taken_over(tmp_path, content):
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path, "wait") as former:
        assert former is None


def write(folder, **other) -> None:
    holder = Holder(os.getpid(), HOST, "2026-01-01", locks._boot(), locks._start(os.getpid()))
    (folder / LOCK).write_text(json.dumps(holder._replace(**other)._asdict()))


@pytest.mark.usefixtures("system")
def test_a_process_on_another_machine_is_believed_and_the_file_named(tmp_path):
    write(tmp_path, host="elsewhere", boot="another")
    with pytest.raises(LockedError, match=rf"on elsewhere, .*; if that process has ended, remove {tmp_path}/{LOCK}"):
        locked(tmp_path, "wait").__enter__()


@pytest.mark.skipif(not locks._boot(), reason="this system does not say when it was started")
@pytest.mark.parametrize("other", [{"start": "1"}, {"boot": "earlier"}], ids=["number came again", "restarted"])
def test_a_number_that_came_again_is_not_the_same_process(monkeypatch, tmp_path, other):
    monkeypatch.setattr(locks, "fcntl", None)
    write(tmp_path, **other)
    with locked(tmp_path, "wait") as former:
        assert former.pid == os.getpid()


def test_a_container_of_this_machine_that_is_gone_holds_nothing(tmp_path):
    if not locks._boot():
        pytest.skip("this system does not say when it was started")
    write(tmp_path, host="4f1c0ffee")
    with locked(tmp_path, "wait") as former:
        assert former.host == "4f1c0ffee"


@pytest.mark.usefixtures("system")
def test_a_folder_that_goes_while_it_is_held_is_no_error(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with locked(folder, "wait"):
        folder.rename(tmp_path / "elsewhere")


def test_a_folder_to_work_in_is_removed_with_all_in_it_and_those_of_the_dead(tmp_path):
    for name in (".work-dead", ".work-mine"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "file").write_text("half")
        (tmp_path / name / LOCK).write_text("")
    (tmp_path / ".work-foreign").mkdir()
    with work_folder(tmp_path / ".work-mine", "wait") as work, work_folder(tmp_path / ".work-other", "wait"):
        assert [path.name for path in work.iterdir()] == [LOCK]
        assert sorted(path.name for path in tmp_path.iterdir()) == [".work-foreign", ".work-mine", ".work-other"]
    assert [path.name for path in tmp_path.iterdir()] == [".work-foreign"]


def test_two_processes_that_take_turns_never_meet(system, tmp_path):
    program = (
        "import sys, time, pathlib\n"
        "from sepkit import locks\n"
        f"if {system == 'no locks'}: locks.fcntl = locks.msvcrt = None; locks._PAUSE = 0.005\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "n = 0\n"
        "while n < 20:\n"
        "    try:\n"
        "        with locks.work_folder(folder / '.work-a', 'wait') as work:\n"
        "            (work / 'alone').open('x').close()\n"
        "            n += 1\n"
        "    except locks.LockedError: pass\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert list(tmp_path.iterdir()) == []


# On a disk of several machines


def age(folder, seconds: float) -> None:
    """Move the last sign of life back."""
    then = time.time() - seconds
    os.utime(folder / LOCK, (then, then))


@pytest.mark.usefixtures("system")
def test_a_process_of_another_machine_that_gives_no_sign_of_life_is_taken_for_dead(tmp_path):
    write(tmp_path, host="elsewhere", boot="another", beat=15.0)
    age(tmp_path, 130)
    with locked(tmp_path, "wait") as former:
        assert former.host == "elsewhere"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(("silent", "beat"), [(0, 15.0), (110, 15.0), (130, 60.0), (-3600, 15.0)])
def test_a_process_of_another_machine_that_may_live_is_not_disturbed(tmp_path, silent, beat):
    write(tmp_path, host="elsewhere", boot="another", beat=beat)
    age(tmp_path, silent)
    sentence = "on elsewhere, .*: wait; if that process has ended, try again 120 s after its end, or remove"
    with pytest.raises(LockedError, match=sentence):
        locked(tmp_path, "wait").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_process_of_this_machine_is_looked_for_however_silent_it_is(other, tmp_path):
    age(tmp_path, 10_000)
    with pytest.raises(LockedError, match=f"process {other.pid}"):
        locked(tmp_path, "wait").__enter__()


@pytest.mark.usefixtures("system")
def test_a_holder_gives_signs_of_life_until_it_ends(monkeypatch, tmp_path):
    monkeypatch.setattr(locks, "_BEAT", 0.01)
    n_threads = threading.active_count()
    with locked(tmp_path, "wait"):
        age(tmp_path, 1000)
        before = (tmp_path / LOCK).stat().st_mtime
        wait_until(lambda: (tmp_path / LOCK).stat().st_mtime > before + 900)
    assert threading.active_count() == n_threads


def wait_until(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_sign_of_life_does_not_give_the_lock_back(monkeypatch, tmp_path):
    if locks.fcntl is None:
        pytest.skip("this system has no such locks")
    monkeypatch.setattr(locks, "_BEAT", 0.01)
    program = (
        "import fcntl, os, sys\n"
        f"handle = os.open({str(tmp_path / LOCK)!r}, os.O_RDWR)\n"
        "try: fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(3)\n"
    )
    with locked(tmp_path, "wait"):
        age(tmp_path, 1000)
        wait_until(lambda: (tmp_path / LOCK).stat().st_mtime > time.time() - 900)
        check_still_held(tmp_path, "stop")
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 3


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("anew", [False, True], ids=["same file", "new file"])
def test_who_was_taken_over_notices_it_and_leaves_the_lock_to_the_other(tmp_path, anew):
    with locked(tmp_path, "wait"):
        check_still_held(tmp_path, "stop")
        if anew:
            (tmp_path / LOCK).unlink()
        write(tmp_path, host="elsewhere", boot="another")
        with pytest.raises(LockedError, match=rf"was taken over by process {os.getpid()} on elsewhere, since .*: stop"):
            check_still_held(tmp_path, "stop")
    assert json.loads((tmp_path / LOCK).read_text())["host"] == "elsewhere"


@pytest.mark.usefixtures("system")
def test_a_lock_that_somebody_removed_is_nobodys(tmp_path):
    with locked(tmp_path, "wait"):
        (tmp_path / LOCK).unlink()
        check_still_held(tmp_path, "stop")
    check_still_held(tmp_path, "stop")  # what was never held, or is not any more
