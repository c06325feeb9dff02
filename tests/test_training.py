"""Training: it learns, keeps the best, goes on after any interruption as if there had been none, and refuses early."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from songs import RATE, noise, write_song
from training import (
    N_STEPS,
    RECIPE,
    SOURCES,
    StopAfter,
    assert_equal,
    change_state,
    history,
    last_weights,
    make_run,
    skip_report,
    song,
    stored_state,
    weights,
    write_songs,
)

from sepkit.datasets import DatasetError
from sepkit.disk import OutputError
from sepkit.locks import LOCK, Holder
from sepkit.model_folder import load_model, save_model
from sepkit.observers import TensorBoard, TrainingView
from sepkit.recipe import RecipeError, load_recipe
from sepkit.terminal import STOPPING
from sepkit.training import TrainingError, TrainingInterrupted, dry_run
from sepkit.training.checkpoints import Checkpoints
from sepkit.training.run_folder import RunFolder
from sepkit.training.weight_average import WeightAverage


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture
def run_all(root, tmp_path):
    """Train the recipe, changed by overrides."""
    return make_run(root, tmp_path)


@pytest.fixture
def run(run_all, monkeypatch):
    """Train without report and curves, which take most of the time of so small a training."""
    skip_report(monkeypatch)
    return run_all


# A training as a whole


def test_a_training_leaves_a_model_its_history_and_its_recipe(run_all, root):
    lines = []
    folder = run_all(log=lines.append)
    assert sorted(path.name for path in folder.iterdir()) == [
        "history.csv", "history.png", "model.json", "model.safetensors", "recipe.yaml", "report.html", "training",
    ]  # fmt: skip
    model = load_model(folder)
    assert (model.sources, model.sample_rate) == (SOURCES, RATE)
    card = json.loads((folder / "model.json").read_text())
    best = max(history(folder), key=lambda row: float(row["SDR"]))
    assert card["finished"] == "after 2 epochs"
    assert card["validation"]["epoch"] == int(best["epoch"])
    assert card["validation"]["SDR"] == float(best["SDR"])
    assert best["best"] == "True"
    assert card["data"] == root.name
    assert str(root.parent) not in json.dumps(card)  # a card goes to others, with the weights
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["training"]["epochs"] == 2
    assert lines[0].startswith("BLSTM with 0.")
    assert "2 songs of 0 minutes in all, 1 to validate on; 2 epochs of 3 steps" in lines[0]
    assert lines[1].split() == [
        "epoch",
        "loss",
        "SDR",
        "SDR/vocals",
        "SDR/drums",
        "best",
        "seconds",
        "data_wait",
        "overhead",
    ]
    assert re.fullmatch(
        r" +1/2 +0\.\d{4} +-?\d+\.\d\d +-?\d+\.\d\d +-?\d+\.\d\d +\* +\d+\.\d +\d+\.\d +\d+\.\d%", lines[2]
    )
    assert re.fullmatch(r"finished after 2 epochs; the best was epoch \d with -?\d+\.\d\d dB SDR", lines[-1])


def test_the_licence_of_the_data_stands_in_the_card_and_in_the_report(run_all):
    folder = run_all("data.licence=CC BY-NC 4.0", "training.epochs=1")
    assert json.loads((folder / "model.json").read_text())["licence"] == "CC BY-NC 4.0"
    assert "CC BY-NC 4.0" in (folder / "report.html").read_text().split("<pre>")[0]


def test_the_history_has_a_line_an_epoch_and_a_column_a_number(run):
    rows = history(run("validation.every=2", "training.epochs=3"))
    assert list(rows[0]) == [
        "epoch", "step", "lr", "data_wait", "RelativeSpectralLoss/vocals", "RelativeSpectralLoss/drums",
        "RelativeSpectralLoss", "loss", "grad_norm", "overhead", "seconds", "total_seconds", "memory",
        "SDR", "SDR/vocals", "SDR/drums", "best",
    ]  # fmt: skip
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    assert [bool(row["SDR"]) for row in rows] == [False, True, True]


def test_the_loss_falls_and_the_score_rises(run):
    rows = history(run("training.epochs=8", "data.items_per_epoch=32", "training.ema=null", "validation.every=8"))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert float(rows[-1]["SDR"]) > 3


class Averages:
    """Copy what is validated after each epoch."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_epoch(self, view: TrainingView) -> None:
        self.weights.append({name: value.clone() for name, value in view.averaged.state_dict().items()})


@pytest.mark.parametrize("scores", [(1.0, 2.0, 3.0), (3.0, 2.0, 1.0), (1.0, 3.0, 3.0)], ids=str)
def test_the_kept_weights_are_the_averaged_ones_of_the_best_epoch(run, monkeypatch, scores):
    averages, given = Averages(), iter(scores)
    monkeypatch.setattr("sepkit.training.scoring.validate", lambda *_: dict.fromkeys(SOURCES, next(given)))
    folder = run("training.epochs=3", observers=[averages])
    assert_equal(weights(folder), averages.weights[scores.index(max(scores))])
    state = stored_state(folder)
    assert_equal(state["ema"], averages.weights[-1])
    assert any(not torch.equal(value, state["separator"][name]) for name, value in state["ema"].items())


def test_averaging_leaves_the_trained_weights_alone(run):
    averaged, raw = run(folder="averaged"), run("training.ema=null", folder="raw")
    assert_equal(last_weights(averaged), last_weights(raw))
    assert any(not torch.equal(value, weights(raw)[name]) for name, value in weights(averaged).items())


def test_averaging_moves_towards_the_trained_weights_and_copies_buffers():
    trained = torch.nn.BatchNorm1d(1)
    average = WeightAverage(trained, 0.75)
    torch.nn.init.constant_(trained.weight, 3.0)
    trained.running_mean.fill_(7)
    average.update(step=10**6)  # behind the warm-up
    assert average.averaged.weight.item() == pytest.approx(1.5)
    assert average.averaged.running_mean.item() == 7


def test_the_same_recipe_gives_the_same_weights_with_any_number_of_workers(run, monkeypatch):
    monkeypatch.setattr("sepkit.training.loading.available_cores", lambda: 2)
    assert_equal(weights(run(folder="none")), weights(run("data.workers=2", folder="two")))


def test_another_seed_gives_other_weights(run):
    one, two = (weights(run(f"training.seed={seed}", "training.epochs=1", folder=str(seed))) for seed in (0, 1))
    assert any(not torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("n_items", [8, 10, 11])
def test_accumulated_batches_train_like_whole_ones(run, n_items):
    # plain SGD, which does not divide by a gradient that is nearly 0, and no dropout, which draws per part
    plain = ["training.optimizer={class: SGD, lr: 0.1}", "separator.network.dropout=0"]
    plain += [f"data.items_per_epoch={n_items}"]
    whole, parts = run(*plain, folder="whole"), run(*plain, "training.accumulate=2", folder="parts")
    for name, tensor in last_weights(whole).items():
        torch.testing.assert_close(last_weights(parts)[name], tensor, rtol=1e-4, atol=1e-6)
    losses = [[float(row["loss"]) for row in history(folder)] for folder in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_bfloat16_trains_on_the_cpu(run):
    folder = run("training.precision=bfloat16")
    assert all(tensor.dtype == torch.float32 for tensor in weights(folder).values())
    assert float(history(folder)[-1]["loss"]) == pytest.approx(float(history(run(folder="full"))[-1]["loss"]), rel=0.1)


def test_the_rate_rises_falls_and_is_written_down(run):
    rows = history(run("training.schedule={class: Cosine, warmup: 0.5}", "training.epochs=4"))
    rates = [float(row["lr"]) for row in rows]
    assert max(rates) <= 1e-2
    assert rates[0] < rates[1] > rates[2] > rates[3]


def test_a_plateau_lowers_the_rate(run):
    settings = ["training.schedule={class: Plateau, patience: 1, decay: 0.5}", "training.optimizer.lr=1e-12"]
    rows = history(run(*settings, "training.epochs=3"))
    # a rate of next to nothing improves nothing after the first epoch
    assert [float(row["lr"]) for row in rows] == pytest.approx([1e-12, 1e-12, 0.5e-12])


def test_training_stops_early_when_the_score_does_not_rise(run):
    lines = []
    settings = ["training.epochs=9", "training.optimizer.lr=1e-12", "training.ema=null"]
    folder = run("training.early_stop=2", *settings, log=lines.append)
    assert len(history(folder)) == 3
    assert lines[-1].startswith("finished after 2 epochs without a better score; the best was epoch 1")


def test_training_ends_when_the_time_is_up(run):
    folder = run("training.max_minutes=1e-6", "training.epochs=9")
    rows = history(folder)
    assert [row["step"] for row in rows] == ["1"]
    assert rows[0]["SDR"]
    assert json.loads((folder / "model.json").read_text())["finished"] == "after 1e-06 minutes"


def test_the_last_epoch_is_validated_whatever_the_interval(run):
    assert [bool(row["SDR"]) for row in history(run("validation.every=5"))] == [False, True]


def statistics(folder: Path) -> dict[str, torch.Tensor]:
    """Return the buffers among the weights of a model."""
    parameters = {name for name, _ in load_model(folder).named_parameters()}
    return {name: tensor for name, tensor in weights(folder).items() if name not in parameters}


def test_a_network_measures_its_statistics_but_not_where_it_has_a_trained_one_s(run):
    settings = ["training.epochs=1", "training.optimizer.lr=1e-12"]
    first, other = run(*settings), run(*settings, "training.seed=1", folder="other")
    assert any(not torch.equal(statistics(first)[name], statistics(other)[name]) for name in statistics(first))
    assert_equal(statistics(run(*settings, "training.seed=1", folder="after", initial=first)), statistics(first))


# Going on


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("step", [1, N_STEPS, N_STEPS + 2])
def test_a_stopped_training_goes_on_to_the_same_weights(run, step, number):
    whole, lines = run(folder="whole"), []
    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match=f"stopped by {signal.Signals(number).name}"):
        run(observers=[StopAfter(step, number)])
    assert signal.getsignal(number) is before
    parts = run(log=lines.append)
    assert f"going on in {parts} at epoch {1 + (step > N_STEPS)}, step {step}, no step is repeated" in lines
    assert_equal(last_weights(parts), last_weights(whole))
    assert_equal(weights(parts), weights(whole))
    assert [untimed(row) for row in history(parts)] == [untimed(row) for row in history(whole)]


TIMED = ("seconds", "total_seconds", "data_wait", "overhead", "memory")


def untimed(row: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if name not in TIMED}


def test_a_stopped_training_goes_on_with_accumulation_and_workers(run):
    settings = ["training.accumulate=2", "data.items_per_epoch=11"]
    whole = run(*settings, folder="whole")
    with pytest.raises(TrainingInterrupted):
        run(*settings, observers=[StopAfter(2)])
    assert_equal(weights(run(*settings, "data.workers=1")), weights(whole))


def test_a_finished_training_reports_that_and_does_nothing(run):
    folder, lines = run(), []
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run(log=lines.append) == folder
    assert lines == [f"{folder} is finished (after 2 epochs): nothing to do; --restart trains anew"]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_another_recipe_is_refused_with_the_keys_that_differ(run):
    run("training.epochs=1")
    with pytest.raises(ValueError, match=r"differs in training\.seed: choose another folder"):
        run("training.seed=1")


def test_another_recipe_is_refused_with_the_command_that_trains_on(run, tmp_path):
    first = run("training.epochs=1")
    command = rf"choose another folder .*; to train on from its weights, add `--run {tmp_path}/more --from {first}` to"
    with pytest.raises(ValueError, match=rf"differs in training\.seed: {command} the same command"):
        run("training.epochs=1", "training.seed=1")
    assert run("training.epochs=1", "training.seed=1", folder="more", initial=first) == tmp_path / "more"
    with pytest.raises(ValueError, match=rf"add `--run {tmp_path}/more2 --from"):
        run("training.epochs=1", "training.seed=1")


def test_weights_that_would_not_fit_are_not_offered(run):
    run("training.epochs=1")
    with pytest.raises(ValueError, match=r"start anew with --restart$"):
        run("training.epochs=1", "separator.network.hidden_size=8")


def test_what_a_finished_training_lacks_is_made_by_the_same_command(run_all):
    folder, lines = run_all("training.epochs=1"), []
    before = weights(folder)
    for name in ("report.html", "history.png"):
        (folder / name).unlink()
    run_all("training.epochs=1", log=lines.append)
    assert lines == [f"{folder} is finished (after 1 epochs): nothing to do; --restart trains anew"]
    assert (folder / "report.html").is_file()
    assert (folder / "history.png").is_file()
    assert_equal(weights(folder), before)


def test_neither_curves_nor_report_decide_over_a_training(run_all):
    class InTheWay:
        def on_epoch(self, view):
            for name in ("history.png", "report.html"):
                (view.folder / name).mkdir(exist_ok=True)

    with pytest.warns(UserWarning, match="of the training .*the same command makes it again") as caught:
        folder = run_all("training.epochs=1", observers=[InTheWay()])
    assert {str(each.message).split()[3] for each in caught} == {"history.png", "report"}
    for name in ("history.png", "report.html"):
        (folder / name).rmdir()
    run_all("training.epochs=1")
    assert (folder / "history.png").is_file()
    assert (folder / "report.html").is_file()


def test_a_run_folder_that_is_removed_meanwhile_is_reported(run):
    class Removing:
        def on_end(self, view):
            shutil.rmtree(view.folder)

    with pytest.raises(TrainingError, match="run was removed while it was trained, and the model with it: train again"):
        run("training.epochs=1", observers=[Removing()])


def test_a_second_training_in_a_folder_is_refused_while_the_first_one_runs(run):
    class Second:
        def on_epoch(self, _view):
            with pytest.raises(ValueError, match="run is in use by this process itself: wait for it, stop it, or"):
                run("training.epochs=1")
            self.was_there = True

    second = Second()
    folder = run("training.epochs=1", observers=[second])
    assert second.was_there
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("step", [2, N_STEPS], ids=["at a checkpoint", "at the end of an epoch"])
def test_a_training_whose_folder_another_machine_took_over_ends_and_writes_nothing(run, tmp_path, step):
    class TakeOver:
        def on_step(self, view: TrainingView) -> None:
            if view.step == step:
                holder = Holder(1, "elsewhere", "2026-01-01", "another", "", 15.0)
                (tmp_path / "run" / LOCK).write_text(json.dumps(holder._asdict()))
                before.update(contents(tmp_path / "run"))

    before = {}
    minutes = ["training.checkpoint_minutes=1e-9"] if step == 2 else []
    with pytest.raises(ValueError, match=r"was taken over by process 1 on elsewhere, .* and the training ends here"):
        run(*minutes, observers=[TakeOver()])
    assert contents(tmp_path / "run") == before


def test_a_finished_training_that_cannot_be_written_to_is_reported_as_finished(run):
    folder, lines = run("training.epochs=1"), []
    (folder / ".sepkit.lock").mkdir()
    run("training.epochs=1", log=lines.append)
    assert lines == [f"{folder} is finished (after 1 epochs): nothing to do; --restart trains anew"]
    with pytest.raises(OutputError, match=r"run cannot be written to: Is a directory.*another folder with --run"):
        run("training.epochs=1", restart=True)


def test_a_training_goes_on_though_its_output_is_closed(run):
    def log(_line):
        raise BrokenPipeError(32, "Broken pipe")

    assert (run("training.epochs=1", log=log) / "model.safetensors").is_file()


def test_observers_and_workers_may_differ_from_one_part_to_the_next(run):
    whole, lines = run(folder="whole"), []
    with pytest.raises(TrainingInterrupted):
        run(observers=[StopAfter(N_STEPS + 1)])
    parts = run("data.workers=1", "observers=[{class: TensorBoard}]", log=lines.append)
    assert f"going on in {parts} at epoch 2, step {N_STEPS + 1}, no step is repeated" in lines
    assert len(list(parts.glob("events.out.tfevents.*"))) == 1
    assert_equal(last_weights(parts), last_weights(whole))


def test_a_restart_trains_anew_and_leaves_other_files_alone(run):
    folder = run("training.epochs=1")
    (folder / "notes.txt").write_text("mine")
    (folder / "separated").mkdir()
    (folder / ".sepkit-123.part").write_text("half")
    (folder / ".recipe.yaml.swp").write_text("mine")
    (folder / "training" / "notes.txt").write_text("mine")
    (folder / "training" / "wandb.txt").write_text("12345678")
    run("training.seed=1", "training.epochs=1", restart=True)
    kept = ("notes.txt", "training/notes.txt", ".recipe.yaml.swp")
    assert all((folder / name).read_text() == "mine" for name in kept)
    assert not (folder / "training" / "wandb.txt").exists()
    assert (folder / "separated").is_dir()
    assert not (folder / ".sepkit-123.part").exists()
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["training"]["seed"] == 1


def test_a_restart_that_cannot_begin_removes_nothing(run, tmp_path):
    folder = run("training.epochs=1")
    before = weights(folder)
    with pytest.raises(DatasetError):
        run(restart=True, data=tmp_path / "nowhere")
    with pytest.raises(RecipeError, match="no model folder"):
        run(restart=True, initial=tmp_path / "nowhere")
    assert_equal(weights(folder), before)


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_other_things_is_refused(run, tmp_path, restart):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="run is not empty and holds no run: choose another folder with --run"):
        run(restart=restart)
    assert os.listdir(tmp_path / "run") == ["letter.txt"]


def written_by_hand(folder: Path, root: Path) -> dict[str, bytes]:
    """Fill a folder as a user may, and say what is in it."""
    (folder / "training").mkdir(parents=True)
    (folder / "training" / "notes.txt").write_text("mine")
    (folder / "report.html").write_text("mine")
    settings = {**RECIPE, "data": {**RECIPE["data"], "root": str(root)}}
    (folder / "recipe.yaml").write_text("# mine\n" + yaml.safe_dump(settings))
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("own", [False, True], ids=["another recipe", "the recipe in it"])
def test_a_folder_with_a_recipe_is_no_run(run, root, tmp_path, restart, own):
    before = written_by_hand(tmp_path / "run", root)
    recipe = tmp_path / "run" / "recipe.yaml" if own else RECIPE
    with pytest.raises(ValueError, match="run is not empty and holds no run: choose another folder with --run"):
        run(recipe=recipe, restart=restart)
    assert contents(tmp_path / "run") == before


def test_a_recipe_that_was_copied_into_a_folder_makes_no_run_of_it(run, tmp_path):
    before = written_by_hand(tmp_path / "mine", tmp_path)
    (tmp_path / "mine" / "recipe.yaml").write_bytes((run("training.epochs=1") / "recipe.yaml").read_bytes())
    with pytest.raises(ValueError, match="mine is not empty and holds no run"):
        run("training.epochs=1", folder="mine", restart=True)
    assert contents(tmp_path / "mine").keys() == before.keys()


def test_a_restart_removes_no_recipe_that_it_trains(run):
    folder = run("training.epochs=1")
    before = contents(folder)
    with pytest.raises(ValueError, match=r"recipe\.yaml lies in the run that --restart would remove: copy it"):
        run(recipe=folder / "recipe.yaml", restart=True)
    assert contents(folder) == before
    assert run(recipe=folder / "recipe.yaml") == folder


@pytest.mark.parametrize("model", [False, True], ids=["before its model", "before its first state"])
def test_what_was_killed_before_it_saved_its_state_is_a_run(run, root, tmp_path, model):
    folder = RunFolder(tmp_path / "run", load_recipe(RECIPE, ["training.epochs=1"], root))
    folder.begin()
    (folder.path / "training" / ".sepkit-123.part").write_bytes(b"half")
    if model:
        (folder.path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"differs in training\.seed"):
        run("training.epochs=1", "training.seed=1")
    assert stored_state(run("training.epochs=1"))["progress"]["step"] == N_STEPS
    assert not (folder.path / "training" / ".sepkit-123.part").exists()


def test_what_was_killed_before_it_wrote_its_recipe_is_a_run(run, tmp_path):
    (tmp_path / "run" / "training").mkdir(parents=True)
    assert (run("training.epochs=1") / "model.json").is_file()
    (tmp_path / "run" / "recipe.yaml").unlink()
    with pytest.raises(ValueError, match=r"recipe\.yaml is damaged: start anew with --restart"):
        run("training.epochs=1")
    Checkpoints(tmp_path / "run" / "training").remove()
    assert (run("training.epochs=1", "training.seed=1") / "recipe.yaml").is_file()


@pytest.mark.parametrize("spelling", ["{name}", "./{name}/", "{parent}/{name}", "other/../{name}"])
def test_data_may_be_spelt_otherwise_when_a_run_goes_on(run_all, root, monkeypatch, spelling):
    monkeypatch.chdir(root.parent)
    run_all("training.epochs=1")
    lines = []
    data = spelling.format(name=root.name, parent=root.parent)
    run_all("training.epochs=1", data=data, log=lines.append)
    assert lines[0].endswith("nothing to do; --restart trains anew")


def test_a_folder_called_demo_is_not_the_built_in_songs(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").symlink_to(root)
    RunFolder("run", load_recipe(RECIPE, data="demo")).begin()
    with pytest.raises(ValueError, match=r"differs in data\.root"):
        RunFolder("run", load_recipe(RECIPE, data="./demo"))


def test_an_empty_folder_is_taken(run, tmp_path):
    (tmp_path / "run").mkdir()
    assert (run("training.epochs=1") / "model.json").is_file()


@pytest.mark.parametrize("restart", [False, True])
def test_a_shared_model_is_not_overwritten(run, restart):
    folder = run("training.epochs=1")
    shutil.rmtree(folder / "training")
    before = contents(folder)
    with pytest.raises(ValueError, match="run holds a trained model without the state to go on from: choose another"):
        run("training.epochs=1", restart=restart)
    assert contents(folder) == before


def test_a_state_of_another_network_is_refused(run, tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(observers=[StopAfter(1)])
    change_state(tmp_path / "run", lambda state: state["separator"].popitem())
    with pytest.raises(ValueError, match="the network is not what it was when this run began"):
        run()


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"a: [", b"\xff\xfe\x00"])
def test_a_damaged_recipe_in_the_folder_is_refused(run, content):
    folder = run("training.epochs=1")
    (folder / "recipe.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"recipe\.yaml is damaged: start anew with --restart"):
        run("training.epochs=1")


KILLED = """
import os, signal, sys, yaml
sys.path.insert(0, {tests!r})
from sepkit.training import train
from training import RECIPE, StopAfter
train(RECIPE, {folder!r}, data={root!r}, device="cpu", quiet=True, observers=[StopAfter({step}, signal.SIGKILL)])
"""


@pytest.mark.parametrize("step", [1, N_STEPS + 2])
def test_a_killed_training_goes_on_from_its_last_epoch(run, root, tmp_path, step):
    program = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "run"), root=str(root), step=step)
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    lines = []
    folder = run(log=lines.append)
    wanted = "going on in .* at epoch 2, step 3, 2 steps are repeated$" if step > N_STEPS else "BLSTM"
    assert any(re.match(wanted, line) for line in lines)
    assert_equal(weights(folder), weights(run(folder="whole")))


# Starting from another model


def test_a_training_starts_from_the_weights_of_a_model(run):
    lines = []
    first = run()
    second = run("training.optimizer.lr=1e-12", "training.epochs=1", folder="second", initial=first, log=lines.append)
    assert f"weights from {first} (" in lines[0]
    for name, tensor in weights(first).items():
        torch.testing.assert_close(weights(second)[name], tensor)


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(run, tmp_path):
    first = run("training.epochs=1")
    with pytest.raises(RecipeError, match=r"hidden_size: must be 16, as in .*, or left out, got 24: core\..* would be"):
        run("separator.network.hidden_size=24", folder="second", initial=first)
    assert not (tmp_path / "second").exists()


def test_a_model_of_a_class_from_elsewhere_gives_its_weights_without_being_imported(run, tmp_path):
    model = load_model(run("training.epochs=1"))
    save_model(model, tmp_path / "foreign")
    card = json.loads((tmp_path / "foreign" / "model.json").read_text())
    card["separator"]["network"]["class"] = "evil.Network"
    (tmp_path / "foreign" / "model.json").write_text(json.dumps(card))
    assert run("training.epochs=1", folder="second", initial=tmp_path / "foreign").is_dir()


# Dry run


def test_a_dry_run_does_a_step_and_writes_nothing(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = dry_run(RECIPE, data=root, device="cpu")
    assert result.shapes == {
        "stems": (4, 2, 2, 4000), "mixture": (4, 2, 4000), "targets": (4, 2, 2, 4000), "spectrogram": (4, 2, 129, 33),
    }  # fmt: skip
    assert 0 < result.loss < 10
    assert result.n_parameters > 1000
    assert result.peak_memory > 2**20
    assert result.description.startswith("BLSTM")
    assert os.listdir(tmp_path) == []


def test_the_loss_of_a_dry_run_is_that_of_the_first_step(root, run):
    seen = []

    class Note:
        def on_step(self, view: TrainingView) -> None:
            seen.append(float(view.row["loss"]))

    run("training.epochs=1", "training.accumulate=2", observers=[Note()])
    assert dry_run(RECIPE, overrides=["training.accumulate=2"], data=root, device="cpu").loss == pytest.approx(seen[0])


def test_a_dry_run_refuses_weights_that_do_not_fit(root, run):
    first = run("training.epochs=1")
    with pytest.raises(RecipeError, match="must be 16, as in"):
        dry_run(RECIPE, overrides=["separator.network.hidden_size=24"], data=root, initial=first)


# What cannot be trained


def test_a_recipe_with_mistakes_is_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(RecipeError, match="did you mean"):
        run("training.epoch=2")
    assert not (tmp_path / "run").exists()


def test_missing_stems_are_named_in_one_message(run, tmp_path):
    for i, name in enumerate(["train/one", "train/two", "valid/three"]):
        write_song(tmp_path / "data" / name, {"bass" if "train" in name else "vocals": noise(i)})
    write_song(tmp_path / "data" / "train" / "four", {"vocals": noise(3), "drums": noise(4)})
    with pytest.raises(DatasetError) as raised:
        run(data=tmp_path / "data")
    assert "train/one: the stem 'drums' is missing" in str(raised.value)
    assert "train/two: the stem 'drums' is missing" in str(raised.value)
    assert "train/two: the stem 'vocals' is missing" in str(raised.value)
    assert "no song of valid has the stem 'drums' (there are: vocals)" in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:.*one part stands alone")
def test_training_songs_may_lack_stems_and_are_named(run, tmp_path):
    for i, name in enumerate(["train/one", "valid/two"]):
        write_song(tmp_path / "data" / name, {name: noise(2 * i + k) for k, name in enumerate(SOURCES)})
    write_song(tmp_path / "data" / "train" / "three", {SOURCES[0]: noise(9)})
    with pytest.warns(UserWarning, match=f"{SOURCES[1]} is in no loss of songs of train that lack it, 1: three"):
        folder = run("training.epochs=1", data=tmp_path / "data")
    assert load_model(folder).sources == SOURCES


@pytest.mark.parametrize("nothing_else", [True, False], ids=["alone", "with other findings"])
def test_a_source_that_no_song_has_is_answered_in_the_recipe(run, root, tmp_path, nothing_else):
    settings = {**RECIPE, "separator": {**RECIPE["separator"], "sources": ["vocls", "drums", "accompaniment"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings, default_flow_style=None))
    with pytest.raises(RecipeError) as raised:
        run(f"separator.sample_rate={RATE if nothing_else else 16000}", recipe=tmp_path / "mine.yaml")
    line = next(i for i, line in enumerate((tmp_path / "mine.yaml").read_text().splitlines(), 1) if "vocls" in line)
    wanted, other = raised.value.problems
    there_are = r"\(there are: drums, vocals\)"
    place = rf"{re.escape(str(tmp_path))}/mine\.yaml:{line}:\d+: separator\.sources"
    data = re.escape(str(root))
    assert re.fullmatch(
        rf"{place}\.0: no song in {data} has the stem 'vocls' {there_are}; did you mean 'vocals'\?", wanted
    )
    assert re.fullmatch(rf"{place}\.2: no song in {data} has the stem 'accompaniment' {there_are}", other)
    assert not (tmp_path / "run").exists()


def test_a_source_of_an_override_that_no_song_has_is_answered_with_its_words(run):
    with pytest.raises(
        RecipeError, match=r"^override separator\.sources=\[vocals, bass\]: separator\.sources\.1: no song"
    ):
        run("separator.sources=[vocals, bass]")


def test_a_rate_that_explodes_ends_the_training_in_a_sentence(run, tmp_path):
    message = r"the (loss|gradient) became (nan|inf) by step \d+ .*: lower the learning rate.*; no checkpoint was"
    with pytest.raises(TrainingError, match=message) as raised:
        run(
            "training.optimizer.lr=1e30",
            "training.clip=null",
            "training.optimizer.class=SGD",
            "data.items_per_epoch=60",
        )
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run" / "model.json").exists() or all(
        tensor.isfinite().all() for tensor in weights(tmp_path / "run").values()
    )


def test_a_stop_does_not_save_what_exploded(run, tmp_path):
    settings = ["training.optimizer.lr=1e30", "training.clip=null", "training.optimizer.class=SGD"]
    settings += ["training.max_skipped=0"]
    with pytest.raises(TrainingError, match="lower the learning"):
        run(*settings, observers=[StopAfter(3)])
    assert stored_state(tmp_path / "run") is None


def test_excerpts_in_which_nothing_sounds_are_refused(run, tmp_path):
    write_song(tmp_path / "data" / "train" / "one", song(0))
    write_song(tmp_path / "data" / "valid" / "two", {name: 0 * stem for name, stem in song(1).items()})
    with pytest.raises(TrainingError, match="no validation excerpt has a second in which all targets sound"):
        run(data=tmp_path / "data")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_song_that_breaks_off_in_the_middle_is_named_in_a_sentence(run, tmp_path, workers):
    for name in ("train/one", "valid/two"):
        write_song(tmp_path / "data" / name, song(0), suffix=".flac")
    path = tmp_path / "data" / "train" / "one" / "drums.flac"

    class Damage:
        def on_step(self, _view: TrainingView) -> None:
            path.write_bytes(b"fLaC")

    with pytest.raises(ValueError, match=r"drums\.flac") as raised:
        run(f"data.workers={workers}", "training.epochs=9", data=tmp_path / "data", observers=[Damage()])
    assert "\n" not in str(raised.value)


# Observers


class Notes:
    """Write down every call."""

    def __init__(self) -> None:
        self.calls = []
        self.views = []

    def on_step(self, view: TrainingView) -> None:
        self.calls.append(f"step {view.step}")
        self.views.append(view)

    def on_epoch(self, view: TrainingView) -> None:
        self.calls.append(f"epoch {view.epoch}")
        self.views.append(view)

    def on_end(self, view: TrainingView) -> None:
        self.calls.append(f"end {view.finished}")
        self.views.append(view)


class Meddler:
    """Use random numbers, gradients and modes, as an observer that listens may."""

    def on_step(self, view: TrainingView) -> None:
        torch.rand(7)
        torch.manual_seed(3)
        assert not torch.is_grad_enabled()
        assert not view.averaged.training
        view.averaged.train()
        view.averaged(torch.rand(1, 2, 800))

    on_epoch = on_step


class Stumbling:
    n_calls = 0

    def on_step(self, _view: TrainingView) -> None:
        self.n_calls += 1
        raise RuntimeError("no room left")


def test_observers_are_called_after_steps_epochs_and_at_the_end(run):
    notes = Notes()
    run(observers=[notes])
    assert notes.calls == ["step 1", "step 2", "step 3", "epoch 1", "step 4", "step 5", "step 6", "epoch 2",
                           "end after 2 epochs"]  # fmt: skip
    step, end = notes.views[0], notes.views[-1]
    terms = {"RelativeSpectralLoss", "RelativeSpectralLoss/vocals", "RelativeSpectralLoss/drums"}
    assert set(step.row) == {"loss", "grad_norm", *terms}
    assert end.row == end.history[-1]
    assert (end.folder / "history.csv").is_file()
    assert end.recipe["training"]["epochs"] == 2
    assert end.averaged.sources == SOURCES


def test_observers_cannot_change_what_they_are_shown(run):
    notes = Notes()
    run("training.epochs=1", observers=[notes])
    with pytest.raises(TypeError):
        notes.views[0].row["loss"] = 0
    with pytest.raises(TypeError):
        notes.views[-1].history[0]["loss"] = 0
    with pytest.raises(AttributeError):
        notes.views[0].epoch = 3


@pytest.mark.parametrize("ema", ["null", "0.9"])
def test_an_observer_changes_nothing_by_drawing_and_switching(run, ema):
    alone, watched = run(f"training.ema={ema}", folder="alone"), run(f"training.ema={ema}", observers=[Meddler()])
    assert_equal(last_weights(watched), last_weights(alone))


def test_an_observer_that_raises_is_named_once_and_left_out(run):
    stumbling = Stumbling()
    with pytest.warns(UserWarning, match=r"observer Stumbling failed .* \(RuntimeError: no room left\)") as record:
        watched = run(observers=[stumbling])
    assert (len(record), stumbling.n_calls) == (1, 1)
    assert_equal(last_weights(watched), last_weights(run(folder="alone")))


def test_what_observes_nothing_is_refused(run):
    with pytest.raises(ValueError, match="an observer must have on_step or on_epoch or on_end, dict has none"):
        run(observers=[{}])


def test_a_recipe_names_observers(run, tmp_path):
    run("training.epochs=1", "observers=[{class: test_training.Touching}]")
    assert (tmp_path / "run" / "touched").read_text() == "1"


class Touching:
    def on_epoch(self, view: TrainingView) -> None:
        (view.folder / "touched").write_text(str(view.epoch))


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that TensorBoard's reader imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        reader = EventAccumulator(str(folder), purge_orphaned_data=True).Reload()
    return {name: [(event.step, event.value) for event in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


def assert_curves_are_the_history(folder: Path) -> None:
    rows, found = history(folder), curves(folder)
    for name in rows[0].keys() - {"epoch"}:
        values = [(int(row["epoch"]), row[name]) for row in rows if row[name]]
        wanted = [(epoch, float(value.replace("True", "1"))) for epoch, value in values]
        assert [step for step, _ in found[name]] == [step for step, _ in wanted]
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in wanted], rel=1e-6)


def test_tensorboard_shows_the_history_by_default(run):
    recipe = {key: value for key, value in RECIPE.items() if key != "observers"}
    folder = run("validation.every=2", recipe=recipe)
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    assert_curves_are_the_history(folder)


def test_tensorboard_goes_on_without_gaps_and_repetitions(run):
    tensorboard = "observers=[{class: TensorBoard}]"
    with pytest.raises(TrainingInterrupted):
        run(tensorboard, "training.epochs=3", observers=[StopAfter(N_STEPS + 1)])
    with pytest.raises(TrainingInterrupted):
        run(tensorboard, "training.epochs=3", observers=[StopAfter(2 * N_STEPS + 1)])
    folder = run(tensorboard, "training.epochs=3")
    assert len(curves(folder)["loss"]) == 3
    assert_curves_are_the_history(folder)


UNWATCHED = """
import sys
sys.path.insert(0, {tests!r})
from sepkit.training import train
from training import RECIPE
train(RECIPE, {folder!r}, data={root!r}, overrides=["training.epochs=1"], quiet=True, log=lambda _: None)
sys.exit(any(name.partition(".")[0] in ("tensorboard", "wandb") for name in sys.modules))
"""


def test_tensorboard_and_wandb_are_imported_only_when_used(root, tmp_path):
    program = UNWATCHED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "run"), root=str(root))
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_closed_tensorboard_without_epochs_has_written_nothing(tmp_path):
    TensorBoard().on_end(None)
    assert os.listdir(tmp_path) == []


def test_a_run_folder_is_made_when_training_begins(tmp_path, root):
    folder = RunFolder(tmp_path / "run", load_recipe(RECIPE, data=root))
    assert folder.load() is None
    assert not folder.path.exists()
    folder.begin()
    assert sorted(contents(folder.path)) == ["recipe.yaml", "training/run"]


@pytest.mark.parametrize(("variable", "threads"), [(None, 2), ("2", 4)], ids=["by default", "by a variable"])
def test_computing_leaves_cores_to_the_loading_processes(run, monkeypatch, variable, threads):
    class Threads:
        def on_epoch(self, view: TrainingView) -> None:  # noqa: ARG002
            self.n = torch.get_num_threads()

    monkeypatch.setattr(import_module("sepkit.training.train"), "available_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    seen, former = Threads(), torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        run("training.epochs=1", observers=[seen])
        assert (seen.n, torch.get_num_threads()) == (threads, 4)
    finally:
        torch.set_num_threads(former)
