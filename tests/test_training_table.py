"""What a training prints: fixed columns, named as in history.csv, plain where there is no terminal."""

import csv
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path

import pytest
import yaml
from songs import write_song
from tqdm import tqdm
from training import RECIPE, song

from sepkit.cli import train_command
from sepkit.training.console import EpochTable

COMMAND = [str(Path(sys.executable).parent / "sepkit-train"), "tiny.yaml", "--device", "cpu"]
ROW = {
    "epoch": 3, "step": 9, "lr": 1e-3, "data_wait": 0.5, "overhead": 0.042, "L1/vocals": 0.3, "L1": 0.25, "loss": 0.5,
    "grad_norm": 0.1234,
    "SDR": 1.234, "SDR/vocals": 12.0, "SDR/drums": -1.005, "best": True, "seconds": 2.0, "total_seconds": 9.0,
    "memory": 512,
}  # fmt: skip


def test_an_epoch_stands_below_the_names_of_the_columns():
    table = EpochTable(100, ["vocals", "drums"])
    assert [table.header(), table.line(ROW)] == [
        "  epoch      loss       SDR  SDR/vocals  SDR/drums  best   seconds  data_wait  overhead",
        "  3/100    0.5000      1.23       12.00      -1.00     *       2.0        0.5      4.2%",
    ]


def test_what_an_epoch_lacks_is_a_dash():
    table = EpochTable(9, ["vocals"])
    row = {"epoch": 4, "loss": 0.25, "seconds": 2.0, "data_wait": 0.0, "overhead": 0.0}
    assert table.line(row).split() == ["4/9", "0.2500", "-", "2.0", "0.0", "0.0%"]
    assert len(table.line(row)) == len(table.header())


def test_more_is_printed_when_asked():
    table = EpochTable(9, ["vocals"], ["L1/vocals", "L1"])
    assert table.header().split()[7:] == ["L1/vocals", "L1", "lr", "grad_norm", "memory"]
    assert table.line(ROW).split()[7:] == ["0.3000", "0.2500", "1.00e-03", "0.123", "512"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with a recipe and its songs."""
    folder = tmp_path_factory.mktemp("place")
    for i, name in enumerate(["train/one", "train/two", "valid/three"]):
        write_song(folder / "songs" / name, song(i))
    settings = {**RECIPE, "data": {**RECIPE["data"], "root": "songs"}, "observers": [{"class": "TensorBoard"}]}
    (folder / "tiny.yaml").write_text(yaml.dump(settings))
    return folder


def table_of(lines: list[str]) -> list[list[str]]:
    """Return the lines from the header on, as words, up to the last epoch."""
    first = next(i for i, line in enumerate(lines) if line.split()[:1] == ["epoch"])
    return [line.split() for line in lines[first : first + 3]]


@pytest.mark.parametrize("option", [None, "--verbose"])
def test_a_pipe_gets_plain_lines_with_the_columns_of_the_history(place, option):
    options = [option] if option else []
    command = [*COMMAND, "--restart", "--run", f"runs/{option}", *options]
    done = subprocess.run(command, cwd=place, capture_output=True, check=True)
    assert done.stderr == b""
    assert b"\r" not in done.stdout
    assert b"\x1b" not in done.stdout
    lines = done.stdout.decode().splitlines()
    header, *rows = table_of(lines)
    with (place / "runs" / str(option) / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert set(header) <= history[0].keys()
    assert [row[0] for row in rows] == ["1/2", "2/2"]
    assert float(rows[0][1]) == pytest.approx(float(history[0]["loss"]), abs=1e-4)
    assert rows[0][header.index("best")] == "*"
    detailed = {"RelativeSpectralLoss/drums", "lr", "grad_norm", "memory"}
    assert detailed <= set(header) if option else not detailed & set(header)
    assert "watch      tensorboard --logdir runs" in lines


def test_quiet_gives_the_last_lines_alone(place):
    done = subprocess.run([*COMMAND, "--run", "runs/quiet", "--quiet"], cwd=place, capture_output=True, check=True)
    words = [line.split()[0] for line in done.stdout.decode().splitlines()]
    assert words[:2] == ["model", "curves"]
    assert words[-2:] == ["watch", "next"]
    assert done.stderr == b""


def test_quiet_and_verbose_exclude_each_other(place):
    done = subprocess.run([*COMMAND, "--quiet", "--verbose"], cwd=place, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"not allowed with argument" in done.stderr


def test_a_terminal_shows_a_bar_that_leaves_the_lines_alone(place):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))  # lines and columns
    with subprocess.Popen([*COMMAND, "--run", "runs/seen"], cwd=place, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        while chunk := read(master):
            shown += chunk
    os.close(master)
    assert process.returncode == 0
    assert b"epoch 1/2:" in shown  # the bar
    lines = [visible(line) for line in shown.decode().split("\n")]
    header, *rows = table_of([line for line in lines if line.strip()])
    assert [row[0] for row in rows] == ["1/2", "2/2"]
    assert len(rows[0]) == len(header)


def read(terminal: int) -> bytes:
    """Read what a terminal got; nothing when its program has ended."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def visible(line: str) -> str:
    """Return what the screen shows of a line with carriage returns."""
    screen = ""
    for part in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).rstrip("\r").split("\r"):
        screen = part + screen[len(part) :]
    return screen.rstrip()


@pytest.mark.parametrize("option", ["--quiet", None])
def test_bars_of_what_comes_before_the_first_step_are_quiet_too(place, monkeypatch, option):
    """Songs that are sampled by activity are read once, under a bar."""
    made = []
    monkeypatch.setattr("sepkit.datasets.measuring.tqdm", partial(count_bars, made))
    monkeypatch.setattr("sepkit.training.loop.tqdm", partial(count_bars, made))
    monkeypatch.setenv("SEPKIT_CACHE", str(place / f"cache {option}"))
    monkeypatch.chdir(place)
    overrides = ["data.sampling={activity: {sounding: 0.1}}", "training.epochs=1"]
    options = ["--run", f"runs/bars {option}", "--device", "cpu", *([option] if option else [])]
    assert train_command(["tiny.yaml", *overrides, *options]) == 0
    assert {"measuring files", "epoch 1/1"} <= {title for title, _ in made}
    assert {disable for _, disable in made} == {True if option else None}


def count_bars(made: list, *args, desc: str, disable: bool | None, **options):
    made.append((desc, disable))
    return tqdm(*args, desc=desc, disable=True, **options)
