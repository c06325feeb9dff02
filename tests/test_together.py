"""Several processes train what one trains, each a share of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from songs import write_song
from together import train_and_record, train_together
from torch import nn
from training import RECIPE, SOURCES, assert_equal, history, last_weights, song, stored_state, write_songs

from sepkit import joining
from sepkit.objective import Judgement
from sepkit.processes import LostProcessError, Processes
from sepkit.training.exchange import list_batch_statistics, share_state, sum_gradients, sum_judgement

SONGS = {
    "train/both": SOURCES,
    "train/vocals": ["vocals"],
    "train/drums": ["drums"],
    "valid/both": SOURCES,
    "valid/vocals": ["vocals"],
    "valid/again": SOURCES,
}
LOSSES = [
    {"class": "RelativeSpectralLoss"},
    {"class": "L1Loss", "robust": {"share": 0.3, "frame": 0.02}, "weight": 0.5},
    {"class": "L1SNRLoss", "sources": ["drums"], "weight": 0.1},
]
SMALL = {
    **RECIPE,
    "separator": {
        **RECIPE["separator"],
        "segment": 0.1,
        "network": {"class": "BLSTM", "hidden_size": 4, "n_layers": 1, "dropout": 0.0, "n_bands": 8},
    },
    "data": {**RECIPE["data"], "items_per_epoch": 42},
    "losses": LOSSES,
    "training": {
        "epochs": 2,
        "batch_size": 4,
        "accumulate": 2,
        "optimizer": {"class": "AdamW", "lr": 1e-2},
        "schedule": {"class": "Plateau", "patience": 1},
        "ema": [0.5, 0.9],
        "clip": 1.0,
        "keep_best": 2,
    },
    "validation": {"excerpt": 2.0},
}
PRECISIONS = {"float64": 1e-10, "float32": 1e-4}
PARTS = ("separator", "objective", "optimizer", "ema")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("songs")
    for seed, (name, stems) in enumerate(SONGS.items()):
        write_song(folder / name, {stem: waveform for stem, waveform in song(seed).items() if stem in stems})
    return {**SMALL, "data": {**SMALL["data"], "root": str(folder)}}


@pytest.fixture(scope="module")
def runs(recipe, tmp_path_factory):
    """Train by one process and by two, at last from 2 to 1 and back; return the folders, and what each process read."""
    folder = tmp_path_factory.mktemp("runs")
    at = {(name, world): str(folder / f"{name}{world}") for name in (*PRECISIONS, "moved") for world in (1, 2)}
    exact = ["training.precision=float64", "data.items_per_epoch=10"]
    read = {}
    for name in PRECISIONS:
        read[name, 1] = train_and_record(recipe, at[name, 1], [f"training.precision={name}"])
    read["moved", 1] = train_and_record(recipe, at["moved", 1], [*exact, "training.epochs=3"])
    calls = [(recipe, at[name, 2], [f"training.precision={name}"]) for name in PRECISIONS]
    first = train_together([*calls, (recipe, at["moved", 2], [*exact, "training.epochs=1"])])
    alone = train_and_record(recipe, at["moved", 2], [*exact, "training.epochs=2"])
    last = train_together([(recipe, at["moved", 2], [*exact, "training.epochs=3"])])
    for position, name in enumerate(PRECISIONS):
        read[name, 2] = [share[position] for share in first]
    read["moved", 2] = [[share[2] for share in first], [alone], [share[0] for share in last]]
    return {place: Path(path) for place, path in at.items()}, read


def differences(state: object, other: object) -> list[float]:
    """List by how much the numbers of two states differ."""
    if isinstance(state, torch.Tensor):
        return [float((state.double() - other.double()).abs().max())] if state.numel() else []
    if isinstance(state, dict):
        assert state.keys() == other.keys()
        return [value for key in state for value in differences(state[key], other[key])]
    return (
        [value for pair in zip(state, other, strict=True) for value in differences(*pair)]
        if isinstance(state, list | tuple)
        else []
    )


@pytest.mark.parametrize("name", PRECISIONS)
def test_two_processes_train_what_one_trains(runs, name):
    places, _ = runs
    one, two = (stored_state(places[name, world]) for world in (1, 2))
    assert one["progress"]["step"] == two["progress"]["step"] > 20
    for part in PARTS:
        assert max(differences(one[part], two[part]), default=0.0) <= PRECISIONS[name]
    for own, other in zip(one["progress"]["history"], two["progress"]["history"], strict=True):
        assert own.keys() == other.keys()
        same = [key for key in own if key not in ("seconds", "total_seconds", "data_wait", "overhead", "memory")]
        assert {key: own[key] for key in same} == pytest.approx({key: other[key] for key in same}, rel=1e-3, abs=1e-2)


def test_names_of_weights_are_those_of_one_process(runs):
    places, _ = runs
    assert last_weights(places["float32", 1]).keys() == last_weights(places["float32", 2]).keys()
    files = [{path.name for path in places["float32", world].iterdir()} for world in (1, 2)]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", PRECISIONS)
def test_examples_of_two_processes_are_disjoint_and_complete(runs, name):
    _, read = runs
    one, (first, second) = read[name, 1], read[name, 2]
    assert len(first) == len(second) == len(one) / 2
    assert not set(first) & set(second)
    assert [number for pair in zip(first, second, strict=True) for number in pair] == one


def test_a_run_goes_on_with_other_numbers_of_processes(runs):
    places, read = runs
    one, (begun, alone, again) = read["moved", 1], read["moved", 2]
    merged = [number for part in (begun, alone, again) for numbers in zip(*part, strict=True) for number in numbers]
    assert merged == one
    assert [len(part) for part in (begun, alone, again)] == [2, 1, 2]
    states = [stored_state(places["moved", world]) for world in (1, 2)]
    for part in PARTS:
        assert max(differences(states[0][part], states[1][part]), default=0.0) <= 1e-10
    assert [row["epoch"] for row in history(places["moved", 2])] == ["1", "2", "3"]


def test_each_process_has_its_random_state_in_the_checkpoint(runs):
    places, _ = runs
    states = [stored_state(places["float32", world])["random"] for world in (1, 2)]
    assert "ranks" not in states[0]
    (other,) = states[1]["ranks"]
    assert not torch.equal(other["cpu"], states[1]["cpu"])


class Scaled(nn.Module):
    """An error in units of those seen before, which each process measures on its own examples."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("usual", torch.ones(()))

    def forward(self, estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return an error per item, (B,)."""
        error = (estimate - target).abs().flatten(1).mean(1)
        with torch.no_grad():
            self.usual.lerp_(error.mean(), 0.5)
        return error / self.usual.clone()


@pytest.mark.slow
def test_when_checkpoints_are_written_changes_nothing_of_losses_that_measure(recipe, tmp_path):
    losses = "losses=[{class: test_together.Scaled}]"
    runs = {"few": [losses], "many": [losses, "training.checkpoint_minutes=1e-9"]}
    train_together([(recipe, str(tmp_path / name), overrides) for name, overrides in runs.items()])
    few, many = (stored_state(tmp_path / name) for name in runs)
    assert_equal(few["objective"], many["objective"])
    assert_equal(few["separator"], many["separator"])


# One process, which stands for several


class Echo(Processes):
    """Two processes of which the other has what this one has, or what is given."""

    def __init__(self, rank: int = 0, others: tuple = ()) -> None:
        super().__init__(rank, 2, rank, 2)
        self.others, self.sent = list(others), []

    def all_sum(self, values):
        return values.add_(self.others.pop(0) if self.others else values.clone())

    def gather(self, rows):
        return [*rows, *(self.others.pop(0) if self.others else rows)]

    def broadcast(self, values):
        return values

    def broadcast_tensors(self, tensors):
        self.sent += list(tensors)


def test_a_gradient_that_no_process_has_stays_away():
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    weights[0].grad = torch.tensor([1.0, 2.0])
    other = torch.tensor([0.5, 0.5, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0])  # gradients, then who has one
    assert sum_gradients(Echo(others=(torch.tensor(0.5), other)), weights, torch.tensor(1.0)) == 1.5
    assert weights[0].grad.tolist() == [1.5, 2.5]
    assert weights[1].grad.tolist() == [1.0, 1.0, 1.0]
    assert weights[2].grad is None


def test_gradients_of_several_types_are_summed():
    weights = [nn.Parameter(torch.zeros(2, dtype=dtype)) for dtype in (torch.float32, torch.float64, torch.complex64)]
    for weight in weights:
        weight.grad = torch.ones_like(weight) * (1j if weight.is_complex() else 1)
    sum_gradients(Echo(), weights, torch.tensor(0.0))
    assert [weight.grad[0].item() for weight in weights] == [2, 2, 2j]


def test_losses_that_one_process_alone_has_add_up():
    own = Judgement({"a": torch.tensor(1.0)}, {"a": 1})
    other = Judgement({"a": 2.0, "b": 3.0}, {"a": 1, "b": 2})
    means = sum_judgement(Echo(others=([other],)), own).means()
    assert {name: float(value) for name, value in means.items()} == {"a": 1.5, "b": 1.5}


def test_a_state_is_handed_on_whole():
    state = {
        "a": torch.arange(3),
        "b": [torch.ones(2, 2).bool(), 0.5, None],
        "c": torch.zeros(0),
        "d": torch.tensor(2.0),
    }
    found = share_state(Echo(), state)
    assert found["b"][1:] == [0.5, None]
    assert torch.equal(found["a"], state["a"])
    assert torch.equal(found["b"][0], state["b"][0])
    assert share_state(Echo(), None) is None


def test_parts_that_look_at_the_other_items_of_a_batch_are_listed():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.GroupNorm(1, 2), nn.InstanceNorm1d(2))
    assert list_batch_statistics(network) == ["1"]
    assert list_batch_statistics(network.eval()) == []


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_without_a_whole_job_a_process_trains_alone(monkeypatch, missing):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with joining.joined("cpu") as (processes, device):
        assert (processes.rank, processes.world, device.type) == (0, 1, "cpu")
    assert joining.is_main()
    assert [joining.may_say("once") for _ in range(2)] == [True, True]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            "cuda",
            r"2 processes need a GPU each, and here are 1: start as many with --nproc-per-node, or choose --device",
        ),
        ("cuda:0", r"2 processes take a GPU each, got the one cuda:0: leave out its number"),
        ("mps", r"several processes train on CUDA or the CPU, not on MPS: start one, or choose --device cpu"),
    ],
)
def test_devices_that_several_processes_cannot_share_are_refused(monkeypatch, device, message):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    with pytest.raises(ValueError, match=message):
        joining._choose(device, Processes(0, 2, 0, 2))


def test_cores_are_shared_by_the_processes_of_a_machine():
    assert [Processes(0, 8, 0, n).share(6) for n in (1, 2, 4, 8)] == [6, 3, 1, 1]


def test_a_later_start_of_a_job_knows_that_it_has_begun(monkeypatch, tmp_path):
    errors = tmp_path / "attempt_1" / "0" / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(errors))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert not joining.has_begun()
    joining.mark_begun()
    assert joining.has_begun()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    assert not joining.has_begun()


class Store:
    """A store of a job, in this process."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, key: str, n: int) -> int:
        self.counts[key] = self.counts.get(key, 0) + n
        return self.counts[key]


def test_what_all_processes_have_to_say_is_said_once(monkeypatch):
    monkeypatch.setattr(joining, "_stores", [Store()])
    assert [joining.may_say("a note") for _ in range(3)] == [True, False, False]
    lost, wrong = LostProcessError("another process"), ValueError("wrong")
    assert joining.may_say("lost", lost)  # of a killed process nobody else can tell
    assert [joining.may_say("wrong", wrong) for _ in range(2)] == [True, False]
    assert not joining.may_say("lost", lost)


# torchrun

PROGRAM = """
import os, signal, sys
from pathlib import Path
from sepkit.cli.train import train_command
import sepkit.training.loop as loop
marks = Path({marks!r})
original = loop.take_step
def take_step(trainer, *more):
    mark = marks / str(trainer.step)
    if os.environ["RANK"] == {rank!r} and trainer.step in {steps!r} and not mark.exists():
        mark.touch()
        {death}
    return original(trainer, *more)
loop.take_step = take_step
sys.exit(train_command(sys.argv[1:]))
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def torchrun(tmp_path):
    write_songs(tmp_path / "songs")
    recipe = {**RECIPE, "data": {**RECIPE["data"], "root": str(tmp_path / "songs")}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def start(run: str, death: str = KILLED, rank: str = "1", steps: tuple = (), restarts: int = 0, more: tuple = ()):
        marks = tmp_path / f"marks of {run}"
        marks.mkdir()
        (program := tmp_path / f"{run}.py").write_text(
            PROGRAM.format(marks=str(marks), rank=rank, steps=steps, death=death)
        )
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        command += [f"--max-restarts={restarts}", "--", str(program), str(tmp_path / "recipe.yaml")]
        command += ["--run", str(tmp_path / run), "--device", "cpu", "training.checkpoint_minutes=1e-9", *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    return start


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "steps"), [("1", (1, 2, 4)), ("0", (3,))])
def test_a_job_whose_process_is_killed_ends_as_if_none_had_been(torchrun, tmp_path, rank, steps):
    whole = torchrun("whole")
    assert whole.returncode == 0, whole.stderr
    killed = torchrun("killed", rank=rank, steps=steps, restarts=len(steps), more=("--restart",))
    assert killed.returncode == 0, killed.stderr
    assert killed.stdout.count("going on in") == len(steps)
    one, other = (stored_state(tmp_path / run) for run in ("whole", "killed"))
    assert_equal(one["separator"], other["separator"])
    assert_equal(one["ema"], other["ema"])
    assert torch.equal(one["random"]["ranks"][0]["cpu"], other["random"]["ranks"][0]["cpu"])


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_fails_takes_the_job_down_and_says_why_once(torchrun, rank):
    failed = torchrun("failed", 'raise ValueError("the reason")', rank, (1,))
    assert failed.returncode == 1
    lines = [line for line in failed.stderr.splitlines() if line.startswith("sepkit-train: ")]
    assert lines == ["sepkit-train: the reason"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("training.sharding=fsdp",)], ids=["whole", "sharded"])
def test_a_dry_run_takes_the_step_of_all_processes_and_tells_the_share_of_one(torchrun, tmp_path, more):
    tried = torchrun("tried", more=("--dry-run", "data.items_per_epoch=12", *more))
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.count("by 2 processes") == tried.stdout.count("  stems        2 x 2 x 2 x 4000") == 1
    assert "GPU memory that a step needs of each process: " in tried.stdout
    assert not (tmp_path / "tried").exists()


@pytest.mark.slow
def test_a_stop_of_one_process_stops_and_saves_all(torchrun, tmp_path):
    stopped = torchrun("stopped", "os.kill(os.getpid(), signal.SIGTERM)", "1", (1,))
    assert stopped.stderr.count("everything is saved") == 1
    assert stored_state(tmp_path / "stopped")["progress"]["step"] == 2
