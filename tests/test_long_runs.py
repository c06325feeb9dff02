"""A training that is killed again and again, wherever it is."""

import random
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from training import RECIPE, assert_equal, history, stored_state, weights, write_songs

from sepkit.training import train
from sepkit.training.plain_state import flatten

MINUTES = "training.checkpoint_minutes=1e-9"  # after each step
TIMED = ("seconds", "total_seconds", "data_wait", "overhead", "memory")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


KILLED = """
import functools, os, signal, sys, threading
sys.path.insert(0, {tests!r})
from training import RECIPE
from sepkit.training import train


class KillAfter:
    def on_step(self, view):
        if not hasattr(self, "timer"):
            self.timer = threading.Timer({seconds}, os.kill, (os.getpid(), signal.SIGKILL))
            self.timer.start()


options = {{"data": {root!r}, "device": "cpu", "quiet": True, "log": functools.partial(print, flush=True)}}
train(RECIPE, {folder!r}, overrides={overrides!r}, observers=[KillAfter()], **options)
"""


@pytest.mark.slow
def test_a_training_that_is_killed_twenty_times_ends_as_if_it_had_not_been(root, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("sepkit.training.afterwards"), "write_report", lambda *_: None)
    monkeypatch.setattr("sepkit.training.run_folder.RunFolder.draw", lambda *_: None)
    drawn, lines, overrides = random.Random(7), [], ["training.epochs=60", MINUTES]
    place = {"tests": str(Path(__file__).parent), "folder": str(tmp_path / "run"), "root": str(root)}
    half_written = 0
    for _ in range(20):
        program = KILLED.format(**place, overrides=overrides, seconds=drawn.uniform(0, 0.2))
        killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, "the training ended before it was killed twenty times"
        lines += killed.stdout.splitlines()
        half_written += any((tmp_path / "run" / "training").glob(".sepkit-*"))
    options = {"data": root, "device": "cpu", "quiet": True}
    parts = train(RECIPE, tmp_path / "run", overrides=overrides, log=lines.append, **options)
    whole = train(RECIPE, tmp_path / "whole", overrides=overrides[:1], log=str, **options)
    repeated = [line for line in lines if line.startswith("going on")]
    print(*repeated, f"{half_written} of 20 kills left half a checkpoint", sep="\n")
    assert all(line.endswith(("no step is repeated", "1 step is repeated")) for line in repeated)
    assert_equal(weights(parts), weights(whole))
    states = [flatten({**stored_state(folder), "progress": None, "totals": None}) for folder in (parts, whole)]
    assert states[0][0] == states[1][0]
    assert_equal(states[0][1], states[1][1])
    rows = [[{k: v for k, v in row.items() if k not in TIMED} for row in history(folder)] for folder in (parts, whole)]
    assert rows[0] == rows[1]
