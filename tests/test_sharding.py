"""Sharded trainings of two processes: equal to those of one, whole on disk; refused by name where they cannot be."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from networks import SMALL
from together import train_together
from torch import Tensor, nn
from training import RECIPE, history, stored_state, weights, write_songs

from sepkit import models
from sepkit.processes import Processes
from sepkit.recipe import RecipeError, load_recipe
from sepkit.separator import Separator
from sepkit.training import train
from sepkit.training.plain_state import flatten
from sepkit.training.recomputation import outermost
from sepkit.training.rows import own_rows
from sepkit.training.sharding import clip_gradients, list_sharding_problems

EXACT = ["training.precision=float64", "separator.network.dropout=0", "data.items_per_epoch=12", "training.epochs=1"]
FSDP = "training.sharding=fsdp"
TRANSFORMS = dict.fromkeys(("HDemucs", "HTDemucs"), "{class: STFT, n_fft: 256, hop_length: 64, framing: hops}")
CASES = {
    "adaptive": [
        "training.ema=null", "training.optimizer={class: Adam, amsgrad: true}", "training.freeze=[core.encode.*]",
    ],
    "averages": ["training.ema=[0.5, 0.9]", "training.accumulate=2", "training.recompute=true"],
}  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture(autouse=True)
def _without_report(monkeypatch):
    monkeypatch.setattr(import_module("sepkit.training.afterwards"), "write_report", lambda *_: None)


def recipe_of(root: Path) -> dict:
    return {**RECIPE, "data": {**RECIPE["data"], "root": str(root)}}


def train_alone(root: Path, folder: Path, overrides: list[str], lines: list | None = None) -> Path:
    log = str if lines is None else lines.append
    return train(recipe_of(root), folder, overrides=overrides, device="cpu", quiet=True, log=log)


def assert_same(some: Path, others: Path, tolerance: float = 1e-10) -> None:
    """Compare models, and whole states but for what each process draws and the times."""
    left_out = {"random", "totals", "progress"}
    states = [{k: v for k, v in stored_state(folder).items() if k not in left_out} for folder in (some, others)]
    (document, tensors), (other_document, other_tensors) = map(flatten, states)
    assert document == other_document
    assert_near(tensors, other_tensors, tolerance)
    assert_near(weights(some), weights(others), tolerance)
    scores = [[float(row["SDR"]) for row in history(folder)] for folder in (some, others)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def assert_near(some: dict[str, Tensor], others: dict[str, Tensor], tolerance: float) -> None:
    assert some.keys() == others.keys()
    assert all(some[name].dtype == others[name].dtype for name in some)
    assert max(float((some[name].double() - others[name].double()).abs().max()) for name in some) <= tolerance


def test_a_sharded_training_is_that_of_one_process(root, tmp_path):
    calls = [(recipe_of(root), str(tmp_path / name), [*EXACT, FSDP, *CASES[name]]) for name in CASES]
    train_together(calls)
    for name in CASES:
        assert_same(tmp_path / name, train_alone(root, tmp_path / f"{name} alone", [*EXACT, *CASES[name]]))


@pytest.mark.slow
def test_a_run_may_change_its_processes_and_whether_it_is_sharded(root, tmp_path):
    constant, lines = [*EXACT, "training.schedule={class: Constant}"], []
    longer = [[*constant, f"training.epochs={n}"] for n in range(1, 6)]
    run = str(tmp_path / "run")
    train_together([(recipe_of(root), run, [*longer[0], FSDP])])
    train_alone(root, tmp_path / "run", [*longer[1], FSDP], lines)
    assert "training.sharding spreads nothing, since one process trains: `torchrun` starts several" in lines
    later = [[*longer[2]], [*longer[3], FSDP]]
    train_together([(recipe_of(root), run, overrides) for overrides in later])
    train_alone(root, tmp_path / "run", longer[4])
    assert_same(tmp_path / "run", train_alone(root, tmp_path / "alone", longer[4]))


OTHERWISE = ("OpenUnmix", "SpectrogramNetSimple", "SpectrogramNetVAE")  # they measure over a batch, or draw
SPREADABLE = [
    name
    for name in models.__all__
    if name not in OTHERWISE and (getattr(getattr(models, name), "blocks", ()) or name == "ConvTasNet")
]


@pytest.mark.slow
@pytest.mark.parametrize("group", range(3))
def test_networks_with_blocks_train_sharded_as_they_do_in_one_process(root, tmp_path, group):
    changed = {}
    for name in SPREADABLE[group::3]:
        network = json.dumps({"class": name, **SMALL.get(name, {})})
        transform = [f"separator.transform={TRANSFORMS[name]}"] if name in TRANSFORMS else []
        changed[name] = [f"separator.network={network}", *transform, *EXACT[:1], *EXACT[2:], "training.clip=null"]
    train_together([(recipe_of(root), str(tmp_path / name), [*changed[name], FSDP]) for name in changed])
    for name, overrides in changed.items():
        assert_same(tmp_path / name, train_alone(root, tmp_path / f"{name} alone", overrides), 1e-8)


class Tempered(nn.Module):
    """A loss with a weight of its own, which stays whole where those of the network are spread."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.zeros(1))

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Return an error per item, (B,)."""
        return (estimate - target).abs().flatten(1).mean(1) * self.sharpness.neg().exp() + self.sharpness


@pytest.mark.slow
@pytest.mark.parametrize("form", ["foreach", "fused"])
def test_losses_that_learn_train_beside_sharded_weights(root, tmp_path, form):
    overrides = [*EXACT, "losses=[{class: test_sharding.Tempered}]"]
    overrides += [f"training.optimizer={{class: AdamW, lr: 0.01, {form}: true}}"]
    train_together([(recipe_of(root), str(tmp_path / "sharded"), [*overrides, FSDP])])
    assert_same(tmp_path / "sharded", train_alone(root, tmp_path / "alone", overrides))


class _Whitening(torch.optim.SGD):
    """An optimizer that may look at whole matrices."""


class _Scaled(models.BLSTM):
    """A network with a number for a weight."""

    def __init__(self, n_sources: int, n_channels: int, n_bins: int, sample_rate: int) -> None:
        super().__init__(n_sources, n_channels, n_bins, sample_rate, hidden_size=8, n_layers=1)
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["training.optimizer={class: test_sharding._Whitening}"],
            "each value by itself .*, got _Whitening: choose",
        ),
        (["training.optimizer={class: Adafactor}"], "each value by itself .*, got Adafactor"),
        (
            ["data.items_per_epoch=10"],
            "needs whole batches, got data.items_per_epoch 10 and training.batch_size 4",
        ),
        (
            ["training.accumulate=4"],
            "parts of a batch that 2 processes share equally, got 1 examples: change",
        ),
        (
            ["separator.network={class: test_sharding._Scaled}"],
            r"cannot cut scale of _Scaled, a single number",
        ),
    ],
)
def test_what_cannot_be_sharded_is_refused_by_name(overrides, sentence):
    recipe = load_recipe(RECIPE, ["data.items_per_epoch=12", *overrides], "demo")
    problems = list_sharding_problems(recipe, Separator(**recipe.separator_settings()), Processes(0, 2))
    with pytest.raises(ValueError, match=sentence + r".*leave training\.sharding out"):
        raise ValueError(*problems)


def test_a_network_without_blocks_is_refused_by_name():
    recipe = load_recipe(RECIPE, ["data.items_per_epoch=12"], "demo")
    separator = Separator(**recipe.separator_settings())
    object.__setattr__(separator.facts, "blocks", ())
    problems = list_sharding_problems(recipe, separator, Processes(0, 2))
    assert problems == ["needs a network that declares its `blocks`, BLSTM has none: leave training.sharding out"]


@pytest.mark.parametrize(
    ("other", "named"), [("training.compile=true", "training.compile"), ("training.precision=float16", "float16")]
)
def test_what_is_not_sharded_with_others_is_refused_with_the_recipe(other, named):
    with pytest.raises(RecipeError, match=rf"training\.sharding: must be null with .*{named}: leave one of them out"):
        load_recipe(RECIPE, [FSDP, other], "demo")


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_rows_are_those_of_torchs_chunks(n_rows, world):
    whole = torch.arange(2 * n_rows).view(n_rows, 2)
    chunks = whole.chunk(world)
    rows = [own_rows(whole, Processes(rank, world)) for rank in range(world)]
    assert all(map(torch.equal, rows, chunks))
    assert not any(len(each) for each in rows[len(chunks) :])


@pytest.mark.parametrize("limit", [0.1, 1e9, float("inf")])
def test_gradients_that_are_whole_are_clipped_as_torch_does(limit):
    some, others = ([nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))] for _ in range(2))
    for parameters in (some, others):
        sum((i + 1) * parameter.square().sum() for i, parameter in enumerate(parameters)).backward()
    assert torch.equal(clip_gradients(some, limit), nn.utils.clip_grad_norm_(others, limit))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(some, others, strict=True))


def test_blocks_within_blocks_are_one():
    network = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))
    assert outermost(network, (nn.Linear,)) == [network[0][0], network[1]]
    assert outermost(network, (nn.Sequential,)) == [network]
