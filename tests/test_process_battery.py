"""Whatever happens to a process: work that is done is kept, one sentence names the remedy, nothing is left about."""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
import yaml
from songs import write_song
from test_training import RATE, RECIPE, song

from sepkit.locks import locked, work_folder
from sepkit.model_folder import save_model
from sepkit.separator import Separator

pytest.importorskip("resource", reason="the battery forks")

COMMANDS = ("train", "separate", "evaluate")
STEMS = ["vocals", "drums"]
ENDS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
SAVED = r"stopped by {}; everything is saved: the same command goes on from here\n"
KEPT = {  # of the first of two epochs, recordings, tracks
    "train": ["run/history.csv", "run/model.json", "run/model.safetensors", "run/training/step_00000003/state.json"],
    "separate": ["out/one/drums.wav", "out/one/vocals.wav"],
    "evaluate": ["out/tracks/test/one.json"],
}
DONE = {
    "train": [*KEPT["train"], "run/history.png", "run/report.html"],
    "separate": [*KEPT["separate"], "out/two/drums.wav", "out/two/vocals.wav"],
    "evaluate": ["out/scores.csv", *KEPT["evaluate"], "out/tracks/test/two.json"],
}
SURVIVED = {  # by condition: what happens in the middle
    "pipes_are_closed": "",
    "streams_are_closed": "",
    "the_log_is_on_a_full_disk": "",
    "hangups_are_ignored": "SIGHUP",
    "the_user_has_no_name_and_no_home": "",
    "the_backend_is_missing": "",
}

REFUSED = {  # by command and condition: exit code and sentence
    ("train", "the_disk_takes_little"): (1, r"run cannot be written to: a file may not be so large .*the same command"),
    ("separate", "the_disk_takes_little"): (1, r"out/one cannot be written to: a file may not be so large .*make room"),
    ("evaluate", "the_disk_takes_little"): (1, r"out cannot be written to: a file may not be so large .*make room"),
    ("train", "below a file"): (1, r"notes\.txt/run cannot be written to: Not a directory.*another folder with --run"),
    ("separate", "below a file"): (1, r"notes\.txt/out cannot be written to: Not a directory.*another output"),
    ("evaluate", "below a file"): (1, r"notes\.txt/out cannot be written to: Not a directory.*another output"),
    ("train", "no home"): (1, r"no home folder .*: set SEPKIT_CACHE"),
    ("evaluate", "no home"): (1, r"no home folder .*: set SEPKIT_CACHE"),
    ("train", "no cache"): (1, r"notes\.txt/cache cannot be written to: Not a directory.*set SEPKIT_CACHE"),
    ("evaluate", "no cache"): (1, r"notes\.txt/cache cannot be written to: Not a directory.*set SEPKIT_CACHE"),
    ("train", "held"): (2, r"run is in use by process {pid} on {host}, since .*: wait for it.* --run"),
    ("separate", "held"): (1, r"one is in use by process {pid} on {host}, since .*another output"),
    ("evaluate", "held"): (2, r"out is in use by process {pid} on {host}, since .*another output"),
    ("train", "folder-goes"): (1, r"run cannot be written to: No such file.*the same command begins anew"),
    **{(command, "no folder"): (1, r"the current folder is gone: change into one") for command in COMMANDS},
    ("separate", "folder-goes"): (1, r"two\.wav: .*out/two cannot be written to: No such file.*another output"),
}
OF_ROOT = ("the_user_has_no_name_and_no_home", "no home")


@dataclass
class Case:
    """A command under a condition."""

    command: str
    place: str
    arguments: list[str]
    conditions: list[str] = field(default_factory=list)
    strike: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Path:
    """A model, two recordings, songs and a recipe."""
    folder = tmp_path_factory.mktemp("material")
    for i, name in enumerate(["train/one", "train/two", "valid/three", "test/one", "test/two"]):
        write_song(folder / "songs" / name, song(i))
    transform = {"class": "STFT", "n_fft": 256, "hop_length": 128}
    network = {"class": "battery.Struck", "gains": [0.5, 0.25]}
    save_model(Separator(STEMS, network, RATE, 2, 0.5, transform), folder / "model", {"finished": "now"})
    for i, name in enumerate(["one", "two"]):
        write_song(folder, {name: sum(song(i).values())})
    recipe = {**RECIPE, "observers": [{"class": "battery.Striking"}]}
    recipe["data"] = {**RECIPE["data"], "root": str(folder / "songs"), "workers": 1}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def arguments(material: Path, command: str, place: str = ".", data: str | None = None) -> list[str]:
    data = data or str(material / "songs")
    model = ["--model", str(material / "model"), "--trust", "--device", "cpu", "--output", f"{place}/out"]
    return {
        "train": [str(material / "recipe.yaml"), "--data", data, "--run", f"{place}/run", "--device", "cpu"],
        "separate": [str(material / "one.wav"), str(material / "two.wav"), *model, "--overwrite"],
        "evaluate": ["--data", data, *model, "--metrics", "SI-SDR", "--no-baselines"],
    }[command]


def list_cases(material: Path, root: Path) -> dict[str, Case]:
    cases = {}

    def add(command: str, name: str, *more: str, place: str = "", data: str | None = None, **options) -> None:
        folder = root / f"{command}-{name}".replace(" ", "-")
        given = [*arguments(material, command, place or str(folder), data), *more]
        given += ["--report"] if name == "the_backend_is_missing" and command != "train" else []
        cases[f"{command} {name}"] = Case(command, str(folder), given, **options)

    for command in COMMANDS:
        for condition, strike in SURVIVED.items():
            add(command, condition, conditions=[condition], strike=strike)
        for number in ENDS:
            add(command, number, strike=f"{number} {number}" if number == "SIGHUP" else number)  # shells send it twice
        add(command, "SIGKILL", strike="SIGKILL")
        cases[f"{command} after SIGKILL"] = Case(**{**asdict(cases[f"{command} SIGKILL"]), "strike": ""})
        limit = {"train": "4000", "separate": "4000", "evaluate": "700"}[command]
        little, without_workers = "the_disk_takes_little", {"train": ["data.workers=0"], "separate": [], "evaluate": []}
        add(command, little, *without_workers[command], conditions=[little], environment={"BATTERY_LIMIT": limit})
        add(command, "no folder", conditions=["the_current_folder_is_gone"])
        add(command, "below a file", place="notes.txt")
        add(command, "folder-goes", strike="folder-goes")
        add(command, "held", place=str(root / "held"))
        add(command, "no home", data="demo", conditions=["the_user_has_no_name_and_no_home"])
        add(command, "no cache", data="demo", environment={"SEPKIT_CACHE": "notes.txt/cache"})
    if os.geteuid() != 0:
        cases = {name: case for name, case in cases.items() if not name.endswith(OF_ROOT)}
    return cases


@pytest.fixture(scope="module")
def answers(material, tmp_path_factory) -> dict[str, dict]:
    root = tmp_path_factory.mktemp("battery")
    cases = {name: asdict(case) for name, case in list_cases(material, root).items()}
    for name in ("run", "out"):
        (root / "held" / name).mkdir(parents=True)
    place = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    with (
        locked(root / "held" / "run", "wait"),
        locked(root / "held" / "out", "wait"),
        work_folder(root / "held" / "out" / f".sepkit-stems-{digest('one')}", "wait"),
    ):
        command = [sys.executable, "-c", "import battery; battery.main()"]
        done = subprocess.run(
            command, input=json.dumps(cases), env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def answer(answers: dict[str, dict], command: str, name: str) -> dict:
    if os.geteuid() != 0 and name in OF_ROOT:
        pytest.skip("only root can take the number of a user without a name")
    return answers[f"{command} {name}"]


def hidden(left: list[str]) -> list[str]:
    """List what is half written, but where somebody moved it while it was written."""
    return [path for path in left if any(part.startswith(".") for part in Path(path).parts) and ".gone/" not in path]


@pytest.mark.parametrize("condition", SURVIVED)
@pytest.mark.parametrize("command", COMMANDS)
def test_what_does_not_concern_the_work_changes_neither_it_nor_the_exit_code(answers, command, condition):
    found = answer(answers, command, condition)
    assert (found["code"], found["err"]) == (0, "")
    assert not set(DONE[command]) - set(found["left"])
    assert not hidden(found["left"])


@pytest.mark.parametrize("command", ["separate", "evaluate"])
def test_reports_are_drawn_without_a_backend(answers, command):
    left = answers[f"{command} the_backend_is_missing"]["left"]
    assert {"separate": "out/two/report.html", "evaluate": "out/report.html"}[command] in left


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_ends_a_command_and_keeps_what_is_done(answers, command, number):
    found = answer(answers, command, number)
    assert found["code"] == ENDS[number]
    wanted = SAVED.format(number) if command == "train" else r"stopped\n" if number == "SIGINT" else ""
    assert re.fullmatch(wanted, found["err"])
    assert not set(KEPT[command]) - set(found["left"])
    assert not hidden(found["left"])
    assert "out/two" not in found["left"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_command_goes_on_after_a_kill_and_removes_what_was_left(answers, command):
    killed, after = (answer(answers, command, name) for name in ("SIGKILL", "after SIGKILL"))
    assert killed["code"] == -9
    assert not set(KEPT[command]) - set(killed["left"])
    assert hidden(killed["left"])
    assert (after["code"], after["err"]) == (0, "")
    assert not set(DONE[command]) - set(after["left"])
    assert not hidden(after["left"])


def test_the_folder_of_a_killed_training_is_taken_over_and_that_is_said(answers):
    out = answers["train after SIGKILL"]["out"]
    assert re.search(rf"run was held by process \d+ on {re.escape(socket.gethostname())}, which is gone: taken", out)
    assert "going on in" in out


@pytest.mark.parametrize(("command", "condition"), REFUSED)
def test_what_stops_the_work_is_said_in_a_sentence_with_its_remedy(answers, command, condition):
    found = answer(answers, command, condition)
    code, sentence = REFUSED[command, condition]
    known = {"pid": os.getpid(), "host": re.escape(socket.gethostname())}
    sentence = sentence.replace("{pid}", str(known["pid"])).replace("{host}", known["host"])
    assert found["code"] == code, found["err"]
    assert re.search(sentence, found["err"]), found["err"]
    assert all(line.startswith(("sepkit-", "failed: ", "note: ")) for line in found["err"].splitlines()), found["err"]
    assert not hidden(found["left"])


def test_an_evaluation_whose_folder_goes_makes_it_again(answers):
    found = answers["evaluate folder-goes"]
    assert (found["code"], found["err"]) == (0, "")
    assert "out/scores.csv" in found["left"]


def test_what_is_done_before_the_folder_goes_is_kept(answers):
    left = answers["separate folder-goes"]["left"]
    assert {"out.gone/one/drums.wav", "out.gone/one/vocals.wav"} <= set(left)
