"""Run a command in a copy of a process that has imported everything, under a condition: a start costs no seconds.

`main` reads cases as JSON from stdin and answers how each ended.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from pathlib import Path

import torch
from networks import Constant
from torch import Tensor

from sepkit import cli
from sepkit.observers import TrainingView

EARLY = {"the_backend_is_missing", "the_user_has_no_name_and_no_home"}  # before matplotlib and torch's compiler come
_LONGEST = 120  # s, after which a command hangs


def strike() -> None:
    """Let happen what the case says; signals reach the whole group of processes, as from a terminal."""
    for what in os.environ["BATTERY"].split():
        if what == "folder-goes":
            for name in ("run", "out"):
                with suppress(FileNotFoundError):
                    Path(name).rename(f"{name}.gone")
        else:
            os.killpg(0, getattr(signal, what))


class Struck(Constant):
    """Be struck in the middle of the second of two recordings of four seconds."""

    n_chunks = 0

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        Struck.n_chunks += 1
        if Struck.n_chunks == 15:
            strike()
        return super().forward(mixture_spectrogram)


class Striking:
    """Strike in the middle of the second epoch of three steps."""

    def on_step(self, view: TrainingView) -> None:
        if view.step == 5:
            strike()


def run(case: dict) -> dict:
    """Run the command of a case in a copy of this process under its conditions, and say how it ended."""
    place, arguments = Path(case["place"]), case["arguments"]
    place.mkdir(parents=True, exist_ok=True)
    (place / "notes.txt").write_text("a file")
    said = [place.with_suffix(suffix) for suffix in (".out", ".err")]
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.alarm(_LONGEST)
        for number, path in enumerate(said, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        os.chdir(place)
        os.environ.update(case["environment"], BATTERY=case["strike"])
        for condition in case["conditions"]:
            globals()[condition]()
        sys.exit(getattr(cli, f"{case['command']}_command")(arguments))  # as the script of a command does
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, err = (path.read_text(errors="replace") for path in said)
    left = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
    return {"code": code, "out": out, "err": err, "left": left}


# Conditions, applied in the copy before the command starts


def pipes_are_closed() -> None:
    reading, writing = os.pipe()
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(reading)


def streams_are_closed() -> None:
    for number in range(3):
        os.close(number)
    sys.stdin = sys.stdout = sys.stderr = None


def the_log_is_on_a_full_disk() -> None:
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def hangups_are_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def the_disk_takes_little() -> None:
    limit = int(os.environ["BATTERY_LIMIT"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def the_user_has_no_name_and_no_home() -> None:
    os.setresuid(12345, 0, 0)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME", "XDG_CACHE_HOME", "SEPKIT_CACHE"):
        os.environ.pop(name, None)


def the_backend_is_missing() -> None:
    assert "matplotlib" not in sys.modules
    os.environ["MPLBACKEND"] = "module://no_such_package.backend_inline"


def the_current_folder_is_gone() -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    os.rmdir("../gone")


def warm_up(cases: Iterable[dict]) -> None:
    """Run each command once in this process, with what takes long to import."""
    for case in {case["command"]: case for case in cases if not case["conditions"] and case["strike"]}.values():
        place = f"{case['place']}-warm"
        given = [word.replace(case["place"], place) for word in case["arguments"]]
        given += ["data.workers=0"] if case["command"] == "train" else []
        with open(os.devnull, "w") as null, redirect_stdout(null):
            getattr(cli, f"{case['command']}_command")(given)
    Struck.n_chunks = 0


def main() -> None:
    """Answer the cases; first those for which it matters when modules are imported."""
    torch.set_num_threads(1)
    os.environ["BATTERY"] = ""
    cases, answers = json.load(sys.stdin), {}
    early = [name for name, case in cases.items() if EARLY & set(case["conditions"])]
    for name in early:
        answers[name] = run(cases[name])
    warm_up(cases.values())
    for name in cases:
        answers[name] = answers.get(name) or run(cases[name])
    print(json.dumps(answers))
