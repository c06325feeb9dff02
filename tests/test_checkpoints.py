"""Checkpoints: whole or not there, the last two kept, a damaged one named and passed over, nothing executed to read."""

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import yaml
from training import (
    N_STEPS,
    StopAfter,
    assert_equal,
    history,
    last_weights,
    make_run,
    skip_report,
    stored_state,
    weights,
    write_songs,
)

from sepkit.disk import OutputError
from sepkit.model_folder import load_model
from sepkit.observers import TrainingView
from sepkit.recipe import RecipeError
from sepkit.training import TrainingError, TrainingInterrupted
from sepkit.training.checkpoints import Checkpoints, read_checkpoint, write_checkpoint
from sepkit.training.plain_state import flatten, restore
from sepkit.training.step_guard import StepGuard
from sepkit.training.step_record import StepRecord


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """Train a recipe, changed by overrides, without report and curves."""
    skip_report(monkeypatch)
    return make_run(root, tmp_path)


def stop(run, step: int, *overrides: str) -> None:
    with pytest.raises(TrainingInterrupted):
        run(*overrides, observers=[StopAfter(step)])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "training").iterdir() if path.is_dir())


def flip(path: Path, place: int = -9) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


# A state as plain data


def _module_state() -> OrderedDict:
    return torch.nn.BatchNorm1d(2).state_dict()


@pytest.mark.parametrize(
    "state",
    [
        None,
        {"n": 2**70, "x": 0.1 + 0.2, "yes": True, "text": "ä\n$", "none": None},
        {"lists": [1, [2.5, ()]], "tuple": (1, (2, "a")), "set": {1, 2}, "bytes": b"\x00\xff", "complex": 0.1 - 2j},
        {0: {"step": 1}, 1: {"step": 2}},
        {"$tensor": "mine", "other": {"$": 1}, ("a", 1): 2},
        [math.inf, -math.inf, -0.0],
    ],
    ids=str,
)
def test_plain_data_is_restored_as_it_was(state):
    document, tensors = flatten(state)
    restored = restore(json.loads(json.dumps(document, allow_nan=False)), tensors)
    assert restored == state
    assert repr(restored) == repr(state)
    assert not tensors


def test_not_a_number_is_restored():
    document, _ = flatten({"loss": math.nan})
    assert math.isnan(restore(json.loads(json.dumps(document, allow_nan=False)), {})["loss"])


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8, torch.complex64]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)], ids=str)
def test_tensors_are_restored_bit_by_bit(tmp_path, dtype, shape):
    tensor = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    write_checkpoint(tmp_path, {"a": [tensor], "a/0": tensor.mT if tensor.dim() > 1 else tensor, 1: tensor})
    state = read_checkpoint(tmp_path)
    for found, wanted in ((state["a"][0], tensor), (state["a/0"], tensor.mT if tensor.dim() > 1 else tensor)):
        assert (found.dtype, found.shape) == (dtype, wanted.shape)
        assert torch.equal(found, wanted)
    assert torch.equal(state[1], tensor)


def test_the_state_of_a_module_keeps_the_versions_of_its_parts(tmp_path):
    write_checkpoint(tmp_path, {"network": _module_state()})
    found = read_checkpoint(tmp_path)["network"]
    assert found._metadata == _module_state()._metadata
    torch.nn.BatchNorm1d(2).load_state_dict(found)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "a/1 is a object, which a state cannot hold"),
        (torch.eye(2).to_sparse(), "a/1 is a tensor of torch.sparse_coo, and only plain ones"),
        (torch.eye(2).as_subclass(type("Packed", (torch.Tensor,), {})), "a/1 is a Packed, and only plain ones"),
    ],
)
def test_what_cannot_be_written_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        flatten({"a": [0, value]})


def test_a_kind_of_value_from_later_is_refused():
    with pytest.raises(ValueError, match=r"holds no \$set_of_later: it was written by a later sepkit"):
        restore({"$set_of_later": 1}, {})


# Which are there


def test_the_last_two_are_kept(tmp_path):
    (tmp_path / "training").mkdir()
    checkpoints = Checkpoints(tmp_path / "training")
    for step in (1, 5, 5, 123456789):
        checkpoints.save({"step": step}, step)
    assert [path.name for path in checkpoints.list()] == ["step_123456789", "step_00000005_2"]
    assert checkpoints.load() == {"step": 123456789}
    checkpoints.save({"step": "again"}, 123456789)
    assert Checkpoints(tmp_path / "training").load() == {"step": "again"}


def test_a_training_leaves_its_last_two(run):
    folder = run("training.epochs=3")
    assert names(folder) == ["step_00000006", "step_00000009"]
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder / "training" / "step_00000009", check=False)
    assert done.returncode == 0


FILES = ["state.safetensors", "state.json", "SHA256SUMS"]


@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")], ids=["flip", "gone", "empty"]
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path, name, damage):
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 6):
        checkpoints.save({"step": step, "weights": torch.ones(100)}, step)
    damage(tmp_path / "step_00000006" / name)
    assert checkpoints.load()["step"] == 3
    (reason,) = checkpoints.damaged.values()
    assert reason.startswith(f"{tmp_path / 'step_00000006'} is damaged (")
    checkpoints.save({"step": 4}, 4)  # which is newer than the damaged one
    assert Checkpoints(tmp_path).load() == {"step": 4}
    assert not list(tmp_path.glob("damaged_*"))


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one_to_the_same_weights(run, tmp_path):
    lines = []
    stop(run, N_STEPS + 1)
    flip(tmp_path / "run" / "training" / "step_00000004" / "state.safetensors")
    run(log=lines.append)
    before = tmp_path / "run" / "training" / "step_00000003"
    place = before.with_name("step_00000004")
    assert lines[0] == f"{place} is damaged (state.safetensors not as written): the one before is used, {before}"
    assert_equal(last_weights(tmp_path / "run"), last_weights(run(folder="whole")))


def test_checkpoints_that_are_all_damaged_are_refused(run):
    folder = run("training.epochs=1")
    for path in (folder / "training").glob("step_*"):
        flip(path / "state.json")
    with pytest.raises(
        ValueError, match=r"step_00000003 is damaged \(state\.json not as written\): start anew with --re"
    ):
        run("training.epochs=1")
    run("training.epochs=1", "training.seed=4", restart=True)
    assert names(folder) == ["step_00000003"]


def test_a_checkpoint_of_another_format_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr("sepkit.training.checkpoints.STATE_FORMAT", 4)
        Checkpoints(tmp_path).save({}, 1)
    with pytest.raises(
        ValueError, match="step_00000001 has format 4, sepkit goes on with 3: go on with the sepkit that"
    ):
        Checkpoints(tmp_path).load()


# States that earlier versions wrote


def earlier(folder: Path) -> Path:
    """Put the state of a run into the one file that earlier versions wrote."""
    state = stored_state(folder)
    Checkpoints(folder / "training").remove()
    torch.save({"format": 2, **state}, folder / "training" / "state.pt")
    return folder / "training" / "state.pt"


def test_a_run_of_an_earlier_version_goes_on_and_its_file_goes(run, tmp_path):
    stop(run, 2)
    path = earlier(tmp_path / "run")
    assert_equal(last_weights(run()), last_weights(run(folder="whole")))
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"no state", b"PK\x03\x04 half a zip"])
def test_a_damaged_state_of_an_earlier_version_is_refused(run, content):
    folder = run("training.epochs=1")
    earlier(folder).write_bytes(content)
    with pytest.raises(ValueError, match=r"state\.pt is damaged: start anew with --restart"):
        run("training.epochs=1")


def test_a_state_of_another_format_is_refused(run):
    folder = run("training.epochs=1")
    path = earlier(folder)
    torch.save({**torch.load(path, weights_only=True), "format": 99}, path)
    with pytest.raises(ValueError, match=r"state\.pt has format 99, sepkit goes on with 3: go on with the sepkit that"):
        run("training.epochs=1")


# What the disk refuses


@pytest.mark.parametrize("limit", [1000, 50000], ids=["tensors", "plain data"])
def test_a_full_disk_leaves_the_checkpoint_before_whole(tmp_path, limit):
    resource = pytest.importorskip("resource")
    checkpoints, former = Checkpoints(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints.save({"step": 1}, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoints.save({"step": 2, "tensor": torch.zeros(10000), "text": "x" * 60000}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
    assert Checkpoints(tmp_path).load() == {"step": 1}


def test_a_training_whose_disk_is_full_says_so_and_goes_on_later(run, tmp_path, monkeypatch):
    stop(run, 2)
    with monkeypatch.context() as full:
        full.setattr("sepkit.training.checkpoints.write_tensors", _refuse)
        with pytest.raises(OutputError, match=r"no space is left on its disk.*: the same command goes on from there"):
            run()
    assert names(tmp_path / "run") == ["step_00000002"]
    assert_equal(last_weights(run()), last_weights(run(folder="whole")))


def _refuse(*_) -> None:
    raise OSError(28, "No space left on device")


def test_what_a_kill_left_half_written_is_removed(run, tmp_path):
    stop(run, 2)
    left = tmp_path / "run" / "training" / ".sepkit-0123.part"
    shutil.copytree(tmp_path / "run" / "training" / "step_00000002", left)
    run()
    assert not left.exists()


# When they are written


class SignalAt:
    """Send this process a signal after a step, and note what is on disk after each."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number
        self.seen: list[list[str]] = []

    def on_step(self, view: TrainingView) -> None:
        self.seen.append(names(view.folder))
        if view.step == self.step:
            os.kill(os.getpid(), self.number)


def test_sigusr1_saves_and_the_training_goes_on_to_the_same_weights(run):
    lines, watching, before = [], SignalAt(4, signal.SIGUSR1), signal.getsignal(signal.SIGUSR1)
    folder = run(observers=[watching], log=lines.append)
    assert watching.seen[3:5] == [["step_00000003"], ["step_00000003", "step_00000004"]]
    assert lines.count("saved at step 4, as SIGUSR1 asked") == 1
    assert signal.getsignal(signal.SIGUSR1) is before
    assert_equal(last_weights(folder), last_weights(run(folder="whole")))


def test_sigusr1_after_a_request_to_stop_ends_nothing_early(run):
    class Both:
        def on_step(self, view: TrainingView) -> None:
            if view.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(TrainingInterrupted, match="stopped by SIGTERM"):
        run(observers=[Both()])


def test_a_training_that_is_told_to_ignore_sigusr1_does(run):
    lines, former = [], signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        run("training.epochs=1", observers=[SignalAt(1, signal.SIGUSR1)], log=lines.append)
        assert not [line for line in lines if "SIGUSR1" in line]
    finally:
        signal.signal(signal.SIGUSR1, former)


@pytest.mark.parametrize(("minutes", "expected"), [("1e-9", ["step_00000001", "step_00000002"]), ("null", [])])
def test_checkpoints_are_written_as_often_as_the_recipe_asks(run, minutes, expected):
    watching = SignalAt(0, 0)
    folder = run(f"training.checkpoint_minutes={minutes}", "training.epochs=1", observers=[watching])
    assert watching.seen[2] == expected
    assert_equal(last_weights(folder), last_weights(run("training.epochs=1", folder="whole")))


def test_how_often_they_are_written_may_change_within_a_run(run):
    stop(run, 2)
    assert stored_state(run("training.checkpoint_minutes=3"))["progress"]["finished"]


@pytest.mark.parametrize(
    ("reached", "sentence"), [(3, "1 step is repeated"), (9, "7 steps are repeated"), (0, "no step is")]
)
def test_steps_that_are_repeated_are_counted(run, tmp_path, reached, sentence):
    lines = []
    stop(run, 2)
    (tmp_path / "run" / "training" / "steps").write_text(str(reached))
    run(log=lines.append)
    assert [line for line in lines if line.startswith("going on") and sentence in line]


def test_the_number_of_steps_is_no_reason_to_fail(tmp_path):
    record = StepRecord(tmp_path / "missing")
    record.open()
    record.write(3)
    record.close()
    assert record.read() == 0
    (tmp_path / "steps").write_text("?")
    assert StepRecord(tmp_path).read() == 0


class Exploding:
    """Make weights not finite after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, view: TrainingView) -> None:
        if view.step == self.step:
            next(view.trained.parameters()).fill_(math.nan)


@pytest.mark.parametrize("limit", [1, 7])
def test_a_training_that_cannot_go_on_names_its_last_good_checkpoint(run, tmp_path, limit):
    place = re.escape(str(tmp_path / "run" / "training" / "step_00000003"))
    message = rf"the loss became nan by step \d+ .*: lower the learning rate, .*; the last good checkpoint is {place}$"
    with pytest.raises(TrainingError, match=message):
        run(f"training.max_skipped={limit}", "training.epochs=4", observers=[Exploding(4)])


def test_steps_that_were_left_out_are_counted_in_the_history(run, monkeypatch):
    original, lines, calls = StepGuard.allows, [], []

    def allows(self, loss, norm, scaler) -> bool:
        calls.append(loss)
        return original(self, loss * math.nan if len(calls) == 2 else loss, norm, scaler)

    monkeypatch.setattr(StepGuard, "allows", allows)
    rows = history(run(log=lines.append))
    assert [row["nonfinite"] for row in rows] == ["1.0", ""]
    assert [line for line in lines if line.startswith("step 2 is left out: the loss became nan (all terms are finite)")]


# A run that is made longer


CONSTANT = "training.schedule={class: Constant}"


@pytest.mark.parametrize("stopped", [False, True], ids=["finished", "stopped"])
def test_a_run_is_made_longer(run, stopped):
    lines = []
    if stopped:
        stop(run, 2, CONSTANT)
    else:
        run(CONSTANT)
    folder = run(CONSTANT, "training.epochs=3", log=lines.append)
    line = "the run ends with epoch 3 now, before with 2: at this step the rate stays 0.01"
    assert line in lines
    assert lines[-1].startswith("finished after 3 epochs")
    assert_equal(last_weights(folder), last_weights(run(CONSTANT, "training.epochs=3", folder="whole")))
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["training"]["epochs"] == 3
    lines.clear()
    run(CONSTANT, "training.epochs=3", log=lines.append)
    assert lines == [f"{folder} is finished (after 3 epochs): nothing to do; --restart trains anew"]


def test_what_a_later_end_does_to_the_rate_is_said(run):
    lines = []
    run()
    run("training.epochs=4", log=lines.append)
    (line,) = [line for line in lines if line.startswith("the run ends with epoch 4 now, before with 2: ")]
    assert re.search(r"at this step the rate is 0\.0045\d, where it would have been 0\.0002$", line)


@pytest.mark.parametrize(("epochs", "done"), [(1, "2 epochs, got 1"), (2, None)])
def test_a_run_cannot_be_made_shorter_than_it_is(run, epochs, done):
    run()
    if done is None:
        run(f"training.epochs={epochs}")
        return
    with pytest.raises(ValueError, match=f"training.epochs must be above what lies behind this run, which is {done}"):
        run(f"training.epochs={epochs}")


def test_a_run_that_goes_on_cannot_end_where_it_is(run):
    stop(run, N_STEPS + 1)
    with pytest.raises(ValueError, match="which is 1 epochs and has begun another, got 1: ask for more, or choose"):
        run("training.epochs=1")


def test_an_early_stop_is_final_however_many_epochs_are_asked_for(run):
    settings = ["training.optimizer.lr=1e-12", "training.early_stop=1", "training.ema=null"]
    run(*settings, "training.epochs=4")
    lines = []
    run(*settings, "training.epochs=9", log=lines.append)
    assert "is finished (after 1 epochs without a better score)" in lines[0]


# The best models, and the best average


def _score(monkeypatch, scores) -> list:
    given, seen = iter(scores), []

    def validate(separator, *_) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in separator.state_dict().items()})
        return dict.fromkeys(("vocals", "drums"), next(given))

    monkeypatch.setattr("sepkit.training.scoring.validate", validate)
    return seen


def test_the_best_models_are_kept(run, monkeypatch):
    seen = _score(monkeypatch, [1.0, 3.0, 2.0, 3.0, 0.5])
    folder = run("training.epochs=5", "training.keep_best=3")
    kept = sorted((folder / "best").iterdir())
    assert [path.name for path in kept] == ["epoch_0002", "epoch_0003", "epoch_0004"]
    for path, epoch in zip(kept, (2, 3, 4), strict=True):
        assert_equal(weights(path), seen[epoch - 1])
        assert load_model(path).sources == ["vocals", "drums"]
        assert json.loads((path / "model.json").read_text())["validation"]["epoch"] == epoch
    assert_equal(weights(folder), seen[1])


def test_one_model_is_kept_by_default_and_a_restart_removes_the_others(run):
    folder = run("training.keep_best=2")
    assert len(list((folder / "best").iterdir())) == 2
    run("training.epochs=1", restart=True)
    assert not list((folder / "best").iterdir())


@pytest.mark.parametrize("best", [0, 1])
def test_of_several_averages_the_best_is_saved(run, monkeypatch, best):
    scores = [1.0, 2.0] if best else [2.0, 1.0]
    seen = _score(monkeypatch, [*scores, 0.0, 0.0])
    folder = run("training.ema=[0.05, 0.9]")
    assert any(not torch.equal(value, seen[1][name]) for name, value in seen[0].items())
    assert_equal(weights(folder), seen[best])
    first = history(folder)[0]
    assert [first[name] for name in ("SDR", "ema", "SDR_ema_0.05", "SDR_ema_0.9")] == [
        "2.0", "0.9" if best else "0.05", str(scores[0]), str(scores[1])
    ]  # fmt: skip


def test_several_averages_go_on_and_each_is_what_it_is_alone(run):
    both = "training.ema=[0.05, 0.9]"
    stop(run, 2, both)
    averages = stored_state(run(both))["ema"]["averages"]
    for decay in ("0.05", "0.9"):
        assert_equal(averages[decay], stored_state(run(f"training.ema={decay}", folder=decay))["ema"])


def test_a_decay_of_0_stands_for_the_weights_as_they_are(run):
    folder = run("training.ema=[0, 0.9]", "training.epochs=1")
    state = stored_state(folder)
    assert_equal(state["ema"]["averages"]["0.0"], state["separator"])
    assert {"SDR_ema_0.0", "SDR_ema_0.9"} <= history(folder)[0].keys()


@pytest.mark.parametrize(
    ("ema", "message"),
    [("[]", "ema: must not be empty"), ("[0.5, 0.5]", "must be different decays"), ("[1.0]", "must be < 1")],
)
def test_averages_that_make_no_sense_are_refused(run, ema, message):
    with pytest.raises(RecipeError, match=message):
        run(f"training.ema={ema}")


# Killed at any moment

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from sepkit.training import checkpoints, train
from training import RECIPE, StopAfter
phase, number = {phase!r}, {number}
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if phase == "step":
    observers = [StopAfter(number, signal.SIGKILL)]
else:
    observers, calls = [], []
    original = getattr(checkpoints, phase)
    def dying(*given):
        calls.append(given)
        if len(calls) != number:
            return original(*given)
        if phase == "hash_file":  # between the files of a checkpoint
            die()
        if phase == "write_tensors":  # half of a file
            original(*given)
            with open(given[1], "r+b") as file:
                file.truncate(100)
        else:
            original(*given)
        die()
    setattr(checkpoints, phase, dying)
train(RECIPE, {folder!r}, data={root!r}, device="cpu", quiet=True, overrides={overrides!r}, observers=observers)
"""
MINUTES = "training.checkpoint_minutes=1e-9"  # after each step
_RANDOM = random.Random(16)
POINTS = [
    *(("step", step, overrides) for step in range(1, 7) for overrides in ([], [MINUTES])),
    *((phase, _RANDOM.randint(1, 7), [MINUTES]) for phase in ("hash_file", "write_tensors", "write_checkpoint") * 2),
    ("write_tensors", 1, []),
    ("hash_file", 3, []),
]


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "number", "overrides"), POINTS)
def test_a_training_that_is_killed_anywhere_ends_as_if_it_had_not_been(run, root, tmp_path, phase, number, overrides):
    place = {"tests": str(Path(__file__).parent), "folder": str(tmp_path / "run"), "root": str(root)}
    program = KILLED.format(**place, phase=phase, number=number, overrides=overrides)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    lines = []
    parts, whole = run(*overrides, log=lines.append), run(folder="whole")
    going_on = [line for line in lines if line.startswith("going on")]
    if going_on:
        step, repeated = map(int, re.search(r"step (\d+), (\d+|no)", going_on[0].replace(", no", ", 0")).groups())
        assert repeated <= (1 if overrides else N_STEPS)
        assert phase != "step" or step + repeated == number
    assert not list((parts / "training").glob(".*"))
    states = [flatten({**stored_state(folder), "progress": None, "totals": None}) for folder in (parts, whole)]
    assert states[0][0] == states[1][0]
    assert_equal(states[0][1], states[1][1])
    assert_equal(weights(parts), weights(whole))
    rows = [[{k: v for k, v in row.items() if k not in TIMED} for row in history(folder)] for folder in (parts, whole)]
    assert rows[0] == rows[1]


TIMED = ("seconds", "total_seconds", "data_wait", "overhead", "memory")
