"""One step after the other: what a training keeps, averages, skips and leaves alone, without a run folder's cost."""

import io
import math
import os
import random
import re
from collections.abc import Sequence
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from test_losses_contract import WAITING
from test_training import RATE, RECIPE, write_songs
from torch import Tensor, nn

from sepkit import load_model, separate
from sepkit.datasets import open_songs
from sepkit.generators import borrowed_generators, get_generators, seed_generators, set_generators
from sepkit.model_folder import save_model
from sepkit.observers import TrainingView
from sepkit.processes import Processes
from sepkit.recipe import load_recipe
from sepkit.schedules import Constant
from sepkit.training import TrainingError, dry_run, train
from sepkit.training.checkpointer import Generators
from sepkit.training.loading import make_loader
from sepkit.training.loop import Trainer
from sepkit.training.run_folder import RunFolder
from sepkit.training.train import describe
from sepkit.training.weight_average import WeightAverage

N_STEPS = 6
CPU = torch.device("cpu")
NETWORK = {"class": "BLSTM", "hidden_size": 4, "n_layers": 1, "dropout": 0.0, "n_bands": 8}
SMALL = {
    **RECIPE,
    "separator": {**RECIPE["separator"], "segment": 0.1, "network": NETWORK},
    "data": {"items_per_epoch": 4 * N_STEPS, "workers": 0},
    "training": {**RECIPE["training"], "epochs": 1},
}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture
def make(root):
    """Build a trainer of the small recipe, changed by sections; the generators are put back when the test ends."""

    def build(losses=SMALL["losses"], device=CPU, folder=None, observers=(), overrides=(), **training) -> Trainer:
        changed = {**SMALL, "losses": losses, "training": {**SMALL["training"], **training}}
        recipe = load_recipe(changed, overrides, data=root)
        wanted = (recipe.separator.sources, RATE, 2)
        songs = {subset: open_songs(root, subset, *wanted) for subset in ("train", "valid")}
        run = None if folder is None else RunFolder(folder, recipe)
        return Trainer(recipe, songs, device, run, observers=observers)

    with borrowed_generators(CPU):
        yield build


def do_steps(trainer: Trainer, n_steps: int) -> Trainer:
    """Take the next steps of the epoch."""
    trainer.sampler.first_batch = trainer.step * trainer.recipe.training.accumulate
    batches = iter(make_loader(trainer, 0))
    for position in range(trainer.step, trainer.step + n_steps):
        trainer.take_step(batches, position)
    return trainer


def stored(trainer: Trainer) -> dict:
    """Write a state and read it, as a run folder does."""
    file = io.BytesIO()
    torch.save(trainer.checkpointer.state(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.separator.state_dict().items()}


def differing(some: dict[str, Tensor], others: dict[str, Tensor]) -> list[str]:
    assert some.keys() == others.keys()
    return [name for name in some if not torch.equal(some[name], others[name])]


# Losses with a state, and with parameters


class _OfWaveforms(nn.Module):
    def __init__(self, reduction: str = "mean"):
        super().__init__()
        self.reduction = reduction

    def distances(self, estimate: Tensor, target: Tensor) -> Tensor:
        return (estimate - target).abs().mean((1, 2))


class Buffered(_OfWaveforms):
    """Weigh later calls less, by a buffer."""

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)
        self.register_buffer("n_calls", torch.zeros(()))

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        self.n_calls += 1
        return self.distances(estimate, target) / self.n_calls


class Remembering(_OfWaveforms):
    """Weigh later calls less, by a number of Python's, with a generator of its own."""

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)
        self.n_calls, self.random = 0, random.Random(3)

    def get_extra_state(self) -> dict:
        return {"n_calls": self.n_calls, "random": self.random.getstate()}

    def set_extra_state(self, state: dict) -> None:
        self.n_calls = state["n_calls"]
        self.random.setstate(state["random"])

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        self.n_calls += 1
        return self.distances(estimate, target) * self.random.random() / self.n_calls


class Drawing(_OfWaveforms):
    """Draw from all that is global."""

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        return self.distances(estimate, target) * random.random() * np.random.rand() * torch.rand(1)


class Learning(_OfWaveforms):
    """Weigh by what is learned: the uncertainty of Kendall et al., 2018."""

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)
        self.log_variance = nn.Parameter(torch.zeros(()))
        self.fixed = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        return self.distances(estimate, target) * (-self.log_variance).exp() * self.fixed + self.log_variance


class Exploding(_OfWaveforms):
    """Have a gradient that is not finite at the second call."""

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.long))

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        self.n_calls += 1
        return self.distances(estimate, target) * torch.where(self.n_calls == 2, torch.inf, 1.0)


class Unwritable(Buffered):
    def get_extra_state(self) -> object:
        return np.random.default_rng(0)

    def set_extra_state(self, state: object) -> None:
        pass


class UnwritableSchedule(Constant):
    def __init__(self):
        super().__init__()
        self.curve = lambda progress: progress


class Packed(Tensor):
    """A tensor that holds others, as optimizers of eight bits have them."""


class Packing(torch.optim.SGD):
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                self.state[weight]["packed"] = torch.zeros(2).as_subclass(Packed)


def own(cls: type, **settings) -> dict:
    return {"class": f"{__name__}.{cls.__name__}", **settings}


STATEFUL = [
    {"class": "RandomResolutionSTFTLoss", "max_fft_size": 512},
    {"class": "RandomResolutionSTFTLoss", "max_fft_size": 512, "randomize_rate": 3, "perceptual_weighting": True},
    *map(own, (Buffered, Remembering, Drawing, Learning)),
]


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"schedule": {"class": "Plateau"}}], ids=str)
@pytest.mark.parametrize("loss", STATEFUL, ids=lambda loss: loss["class"].rpartition(".")[2])
def test_a_training_with_any_loss_goes_on_where_it_stopped(make, loss, settings):
    losses = [{"class": "RelativeSpectralLoss"}, loss]
    whole, stopped = do_steps(make(losses, **settings), N_STEPS), do_steps(make(losses, **settings), 3)
    state = stored(stopped)
    going_on = make(losses, **settings)
    going_on.checkpointer.load_state(state)
    do_steps(going_on, N_STEPS - 3)
    assert differing(weights(going_on), weights(whole)) == []
    assert going_on.totals.sums["loss"] == whole.totals.sums["loss"]


def test_parameters_of_a_loss_are_trained_clipped_and_described(make):
    trainer = make([own(Learning)], optimizer={"class": "SGD", "lr": 1.0}, clip=0.5)
    loss = trainer.objective.losses[0]
    do_steps(trainer, 1)
    assert loss.log_variance != 0
    assert loss.fixed == 1
    gradients = [parameter.grad for parameter in (*trainer.separator.parameters(), loss.log_variance)]
    assert torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt() <= 0.5 + 1e-5
    line = describe(trainer).splitlines()[1]
    assert line == "parameters of losses, which are trained with the network: 1 of Learning"
    assert "losses" not in describe(make())


@pytest.mark.parametrize(
    ("losses", "training", "message"),
    [
        ([own(Unwritable)], {}, "the state of Unwritable must be of tensors, numbers, .* its get_extra_state hold"),
        (SMALL["losses"], {"schedule": own(UnwritableSchedule)}, "the state of UnwritableSchedule must be of tensors"),
        (SMALL["losses"], {"optimizer": own(Packing)}, "the state of Packing must be of .* or take another$"),
    ],
)
def test_a_state_that_could_not_be_read_again_is_refused_before_training(make, losses, training, message):
    with pytest.raises(ValueError, match=message):
        make(losses, **training)


def test_a_state_of_other_losses_is_refused(make):
    state = stored(do_steps(make([own(Buffered)]), 1))
    with pytest.raises(ValueError, match="the losses are not what they were when this run began: bring the code back"):
        make([own(Learning)]).checkpointer.load_state(state)


# Random generators


def drawn() -> list[float]:
    return [random.random(), np.random.rand(), float(torch.rand(1))]


def test_generators_go_back_to_a_state_that_was_written_down():
    with borrowed_generators(CPU):
        seed_generators(2**40 + 7, CPU)
        file = io.BytesIO()
        torch.save(get_generators(CPU), file)
        file.seek(0)
        expected = [drawn(), random.gauss(0, 1), np.random.randn()]
        set_generators(torch.load(file, weights_only=True), CPU)
        assert [drawn(), random.gauss(0, 1), np.random.randn()] == expected


def test_generators_of_devices_that_are_not_here_are_kept_for_later(monkeypatch):
    with borrowed_generators(CPU):
        there = torch.arange(16, dtype=torch.uint8)
        generators = Generators(CPU, Processes())
        generators.load_state_dict({**get_generators(CPU), "cuda": there})
        torch.randn(1)
        state = generators.state_dict()
        assert torch.equal(state["cuda"], there)
        assert torch.equal(state["cpu"], torch.get_rng_state())
        set_state = []
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, _device: set_state.append(state))
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _device: there + 1)
        back = Generators(torch.device("cuda"), Processes())
        back.load_state_dict(state)
        assert torch.equal(set_state[0], there)
        assert torch.equal(back.state_dict()["cuda"], there + 1)


def test_a_seed_is_torchs_own():
    with borrowed_generators(CPU):
        seed_generators(5, CPU)
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_the_generator_of_mps_is_seeded_kept_and_put_back(monkeypatch):
    held = {"state": torch.tensor([1], dtype=torch.uint8)}
    monkeypatch.setattr(torch.mps, "manual_seed", lambda seed: held.update(state=torch.tensor([seed])))
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: held["state"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: held.update(state=state))
    mps = torch.device("mps")
    with borrowed_generators(mps):
        seed_generators(9, mps)
        state = get_generators(mps)
        seed_generators(4, mps)
        set_generators(state, mps)
        assert held["state"] == 9
        assert state["mps"] == 9
    assert held["state"] == 1


@needs_cuda
def test_the_generator_of_cuda_is_seeded_kept_and_put_back():
    device = torch.device("cuda")
    with borrowed_generators(device):
        before = torch.cuda.get_rng_state(device)
        with borrowed_generators(device):
            seed_generators(9, device)
            state = get_generators(device)
            expected = torch.rand(3, device=device)
            set_generators(state, device)
            assert torch.equal(torch.rand(3, device=device), expected)
        assert torch.equal(torch.cuda.get_rng_state(device), before)


@pytest.mark.parametrize("call", [dry_run, train])
def test_the_callers_generators_are_where_they_were(root, tmp_path, call):
    run = {"run": tmp_path / "run", "log": str, "quiet": True} if call is train else {}
    with borrowed_generators(CPU):
        seed_generators(11, CPU)
        expected = drawn()
        seed_generators(11, CPU)
        call({**SMALL, "losses": [own(Drawing)]}, data=root, device="cpu", **run)
        assert drawn() == expected


def test_a_model_is_loaded_without_drawing_from_the_callers_generators(root, tmp_path):
    train({**SMALL, "losses": [own(Drawing)]}, tmp_path / "run", data=root, device="cpu", log=str, quiet=True)
    with borrowed_generators(CPU):
        seed_generators(11, CPU)
        expected = drawn()
        seed_generators(11, CPU)
        model = load_model(tmp_path / "run", trust=True)
        separate(model, torch.zeros(model.n_channels, 500))
        save_model(model, tmp_path / "copy")
        assert drawn() == expected


class Growing(nn.Module):
    """Keep a table that is made when first needed, and longer when needed."""

    def forward(self, n: int) -> Tensor:
        if not hasattr(self, "table") or len(self.table) < n:
            self.register_buffer("table", torch.arange(float(n)), persistent=False)
        return self.table[:n]


def test_tables_that_a_network_makes_for_itself_are_not_averaged():
    trained = nn.Sequential(nn.BatchNorm1d(3), Growing())
    average = WeightAverage(trained, 0.5)
    trained[0](torch.ones(4, 3))
    for step, n_rows in enumerate((4, 7)):
        trained[1](n_rows)
        average.update(step)
        assert torch.equal(average.averaged[0].running_mean, trained[0].running_mean)
        average.averaged[1](4)


def test_what_is_drawn_depends_on_the_seed_alone(make):
    seed_generators(1, CPU)
    first = do_steps(make([own(Drawing)]), 2)
    seed_generators(2, CPU)
    assert differing(weights(do_steps(make([own(Drawing)]), 2)), weights(first)) == []


# The rate


class Late:
    """A user's schedule that begins at 0."""

    def __init__(self, power: float = 2.0):
        self.power = power

    def factor(self, progress: float) -> float:
        return progress**self.power

    def observe(self, score: float) -> None:
        pass


SCHEDULES = [{"class": name, "warmup": 0.5} for name in ("Constant", "Cosine", "Plateau")]


@pytest.mark.parametrize("schedule", [*SCHEDULES, own(Late)], ids=lambda schedule: schedule["class"])
@pytest.mark.parametrize("limit", [{}, {"max_minutes": 100.0}], ids=["steps", "minutes"])
def test_the_first_step_of_a_warm_up_moves_the_weights(make, schedule, limit):
    trainer = make(schedule=schedule, **limit)
    before = weights(trainer)
    do_steps(trainer, 1)
    assert set(differing(weights(trainer), before)) >= {name for name, _ in trainer.separator.named_parameters()}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule["class"])
def test_a_warm_up_rises_by_the_same_amount_at_each_step(make, schedule):
    trainer, rates = make(schedule=schedule), []
    for _ in range(3):
        do_steps(trainer, 1)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([trainer.base_rates[0] * (step + 1) / 3.5 for step in range(3)])


def test_a_schedule_in_steps_is_asked_at_each_step(make):
    schedule = {"class": "WarmRestarts", "period": 2, "final": 0.0, "warmup": 2, "unit": "steps"}
    trainer, rates = make(schedule=schedule), []
    for _ in range(5):
        do_steps(trainer, 1)
        rates.append(trainer.optimizer.param_groups[0]["lr"] / trainer.base_rates[0])
    assert rates == pytest.approx([0.5, 1, 0.5, 1, 0.5])


def test_a_schedule_in_minutes_is_asked_at_the_time_that_was_trained(make):
    schedule = {"class": "Cosine", "final": 0.0, "warmup": 2, "end": 4, "unit": "minutes"}
    trainer, rates = make(schedule=schedule), []
    for minutes in (0, 1, 3):
        trainer.seconds = 60 * minutes
        do_steps(trainer, 1)
        rates.append(trainer.optimizer.param_groups[0]["lr"] / trainer.base_rates[0])
    assert rates == pytest.approx([1 / 120, 0.5, 0.5])


# Averaged weights, and steps that are left out


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (10**4, 0.9)])  # the first two of the warm-up
def test_averaging_a_network_is_averaging_each_of_its_weights(step, decay):
    torch.manual_seed(0)
    first, trained = (nn.Sequential(nn.Conv1d(2, 3, 4), nn.BatchNorm1d(3), nn.LSTM(3, 5)).double() for _ in range(2))
    average = WeightAverage(trained, 0.9)
    average.load_state_dict(first.state_dict())
    trained[1](torch.randn(4, 3).double())
    expected = [
        decay * own + (1 - decay) * new for own, new in zip(first.parameters(), trained.parameters(), strict=True)
    ]
    average.update(step)
    found = average.averaged
    torch.testing.assert_close(list(found.parameters()), [nn.Parameter(value.detach()) for value in expected])
    assert differing(dict(found.named_buffers()), dict(trained.named_buffers())) == []


@every_device
def test_a_step_that_the_scaler_leaves_out_changes_nothing(make, device):
    trainer = make([own(Exploding)], torch.device(device), precision="float16", optimizer={"class": "SGD", "lr": 0.1})
    do_steps(trainer, 1)
    before, averaged, scale = weights(trainer), dict(trainer.ema.state_dict()), trainer.scaler.get_scale()
    averaged = {name: value.clone() for name, value in averaged.items()}
    do_steps(trainer, 1)
    assert differing(weights(trainer), before) == []
    assert differing(trainer.ema.state_dict(), averaged) == []
    assert trainer.scaler.get_scale() == scale / 2
    assert math.isfinite(trainer.totals.sums["grad_norm"])
    do_steps(trainer, 1)
    assert differing(weights(trainer), before)
    assert differing(trainer.ema.state_dict(), averaged)


@every_device
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_trains_like_single_precision(make, device, precision):
    found, expected = (
        do_steps(make(device=torch.device(device), precision=name, ema=None), N_STEPS)
        for name in (precision, "float32")
    )
    assert all(value.dtype == torch.float32 for value in weights(found).values())
    assert found.totals.means()["loss"] == pytest.approx(expected.totals.means()["loss"], rel=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_network_trains_like_the_plain_one(make, monkeypatch, backend):
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    torch._dynamo.reset()
    settings = {"ema": 0.9, "optimizer": {"class": "SGD", "lr": 0.1}}
    plain, compiled = (do_steps(make(compile=wanted, **settings), 3) for wanted in (False, True))
    assert compiled.checkpointer.state()["separator"].keys() == plain.checkpointer.state()["separator"].keys()
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[name], value, rtol=1e-4, atol=1e-6)


class Spoiling(_OfWaveforms):
    """Be, or have a gradient that is, not finite in some calls."""

    def __init__(self, calls: Sequence[int] = (2,), gradient: bool = False, reduction: str = "mean"):
        super().__init__(reduction)
        self.calls, self.gradient = list(calls), gradient
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.long))

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        self.n_calls += 1
        distances = self.distances(estimate, target)
        if int(self.n_calls) not in self.calls:
            return distances
        return distances + 0 * (estimate * 0).sum((1, 2)).sqrt() if self.gradient else distances * torch.nan


class Measuring(nn.Module):
    """Measure statistics."""

    outputs = ("mask",)

    def __init__(self, n_bins: int, n_channels: int, n_sources: int):
        super().__init__()
        self.n_sources = n_sources
        self.norm = nn.BatchNorm1d(n_channels * n_bins)

    def forward(self, mixture_magnitude: Tensor) -> Tensor:
        shape = mixture_magnitude.shape
        mask = self.norm(mixture_magnitude.flatten(1, 2)).sigmoid().reshape(shape)
        return mask.unsqueeze(1).expand(-1, self.n_sources, -1, -1, -1)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_and_names_its_songs(make, gradient, accumulate):
    calls = [2 * accumulate]  # the second part of a batch
    loss = own(Spoiling, calls=calls, gradient=gradient)
    trainer, lines = make([loss, {"class": "RelativeSpectralLoss"}], accumulate=accumulate), []
    trainer.log = lines.append
    do_steps(trainer, 1)
    before, totals = weights(trainer), dict(trainer.totals.sums)
    averaged = {name: value.clone() for name, value in trainer.ema.state_dict().items()}
    do_steps(trainer, 1)
    assert differing(weights(trainer), before) == []
    assert differing(trainer.ema.state_dict(), averaged) == []
    assert {
        name: float(value) for name, value in trainer.totals.sums.items() if name in totals and "wait" not in name
    } == {name: float(value) for name, value in totals.items() if "wait" not in name}
    what = "gradient became nan (all terms are finite)" if gradient else "loss became nan (Spoiling)"
    (line,) = lines
    assert line.startswith(f"step 2 is left out: the {what}; its songs: ")
    assert set(line.rpartition("songs: ")[2].split(", ")) <= {song.name for song in trainer.dataset.songs}
    do_steps(trainer, 1)
    assert differing(weights(trainer), before)
    assert (trainer.totals.sums["nonfinite"], trainer.guard.in_row) == (1, 0)


def test_statistics_are_not_those_of_a_step_that_was_left_out(make):
    class Spoilt:
        def __init__(self, batch):
            self.batch = batch

        def __getattr__(self, name):
            return getattr(self.batch, name)

        def __len__(self):
            return len(self.batch)

        def mix(self):
            mixture, targets = self.batch.mix()
            return mixture * torch.nan, targets

    network = f"separator.network={{class: {__name__}.Measuring}}"
    trainer = do_steps(make(overrides=[network]), 1)
    trainer.log = str
    before = weights(trainer)
    trainer.take_step(map(Spoilt, make_loader(trainer, 0).batches(0, 1)), 1)
    assert differing(weights(trainer), before) == []
    assert all(value.isfinite().all() for value in before.values())


@pytest.mark.parametrize("limit", [0, 2])
def test_too_many_steps_in_a_row_that_are_not_finite_end_a_training(make, limit):
    calls = [2, *range(4, 9)]
    trainer = make([own(Spoiling, calls=calls)], max_skipped=limit)
    trainer.log = str
    bad = 2 if limit == 0 else 6
    do_steps(trainer, bad - 1)
    steps = "" if limit == 0 else ", 3 steps in a row"
    message = rf"the loss became nan by step {bad} \(Spoiling{steps}\): lower .*; no checkpoint was written before it"
    with pytest.raises(TrainingError, match=message):
        do_steps(trainer, 1)


def test_how_many_steps_were_left_out_in_a_row_is_kept(make):
    losses = [own(Spoiling, calls=[2, 3, 4, 5])]
    stopped = make(losses, max_skipped=3)
    stopped.log = str
    state = stored(do_steps(stopped, 3))
    going_on = make(losses, max_skipped=3)
    going_on.log = str
    going_on.checkpointer.load_state(state)
    do_steps(going_on, 1)
    assert going_on.guard.in_row == 3


# What a step costs besides its arithmetic


class Watching:
    """Keep what is shown after each step."""

    def __init__(self) -> None:
        self.views: list[TrainingView] = []

    def on_step(self, view: TrainingView) -> None:
        self.views.append(view)
        drawn()


def test_recipe_and_history_are_made_once_an_epoch_for_those_who_watch_steps(make, tmp_path):
    watching = Watching()
    trainer = make(folder=tmp_path / "run", observers=[watching])
    do_steps(trainer, 2)
    first, second = watching.views
    assert first.recipe is second.recipe
    assert first.history is second.history
    assert dict(first.recipe) == trainer.recipe.to_dict()
    alone = do_steps(make(), 2)
    assert differing(weights(trainer), weights(alone)) == []


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")
@pytest.mark.parametrize("settings", [{}, {"accumulate": 2}, {"ema": None, "clip": None}], ids=str)
def test_a_step_does_not_wait_for_the_device(make, settings):
    losses = [{"class": "RelativeSpectralLoss"}, {"class": "L1SNRLoss", "sources": ["drums"], "weight": 0.1}]
    trainer = make(losses, optimizer={"class": "SGD", "lr": 0.1}, **settings)  # Adam counts its steps on the CPU
    batches = iter(make_loader(trainer, 0))
    trainer.take_step(batches, 0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        trainer.take_step(batches, 1)
    assert not {*WAITING, "aten::bincount"} & {event.key for event in profile.key_averages()}


@needs_cuda
def test_a_step_does_not_wait_for_cuda(make):
    trainer = do_steps(make(device=torch.device("cuda"), precision="bfloat16"), 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        do_steps(trainer, 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="files and memory are counted in /proc")
def test_memory_and_open_files_stay_as_they_are_over_ten_thousand_steps(make, tmp_path):
    n_steps, measured = 10_000, {}

    class Measuring:
        def on_step(self, view: TrainingView) -> None:
            if view.step in (n_steps // 20, n_steps):
                measured[view.step] = (len(os.listdir("/proc/self/fd")), own_memory())

    tiny = ["separator.network.hidden_size=2", "separator.network.n_bands=2", f"data.items_per_epoch={n_steps}"]
    do_steps(make(folder=tmp_path / "run", observers=[Measuring()], overrides=tiny, batch_size=1), n_steps)
    (files, before), (still, after) = measured.values()
    print(f"{before / 2**20:.1f} MB at step {n_steps // 20}, {after / 2**20:.1f} at the end; {files} open files")
    assert still == files
    assert after - before < 4 * 2**20


def own_memory() -> int:
    """Return the bytes that the process holds itself: without pages of files, which the system takes and gives."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def test_a_training_goes_on_in_another_precision(make):
    losses = [{"class": "RelativeSpectralLoss"}]
    state = stored(do_steps(make(losses), 1))
    going_on = make(losses)
    going_on.scaler = going_on.checkpointer.parts["scaler"] = torch.amp.GradScaler("cpu", enabled=True)
    going_on.checkpointer.load_state(state)  # in which no gradient was scaled
    assert going_on.step == 1
