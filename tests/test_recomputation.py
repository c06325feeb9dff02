"""Recomputation of a network's blocks: the same training in less memory; and the memory that is told beforehand."""

from pathlib import Path

import pytest
import torch
from networks import SMALL
from songs import RATE
from torch import nn
from training import RECIPE, SOURCES, assert_equal, write_songs

from sepkit.objective import Objective
from sepkit.recipe import load_recipe
from sepkit.separator import Separator
from sepkit.training import TrainingError, dry_run
from sepkit.training import memory as memory_module
from sepkit.training.loading import make_loader
from sepkit.training.loop import Trainer
from sepkit.training.memory import LiveBytes, estimate_memory, tell_memory
from sepkit.training.recomputation import recompute_blocks
from sepkit.training.train import open_data

CPU = torch.device("cpu")
SLOT = "separator.network={}"
ROFORMER = {"class": "BandSplitRoFormer", **SMALL["BandSplitRoFormer"], "dropout": 0.1, "n_channel_layers": 0}
MB = 2**20


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


def recipe_of(network: dict, *overrides: str, **separator: object) -> dict:
    return load_recipe(
        {**RECIPE, "separator": {**RECIPE["separator"], "network": network, **separator}}, overrides, "songs"
    )


def separator_of(network: dict) -> Separator:
    return Separator(SOURCES, network, RATE, segment=0.5, transform={"class": "STFT", "n_fft": 256, "hop_length": 128})


# Recomputation


def train_two_steps(root: Path, *overrides: str) -> Trainer:
    checked = load_recipe(RECIPE, [SLOT.format(ROFORMER), *overrides], root)
    trainer = Trainer(checked, open_data(checked), CPU)
    batches = iter(make_loader(trainer))
    for position in range(2):
        trainer.take_step(batches, position)
    return trainer


def test_a_training_with_recomputation_is_the_same_bit_for_bit(root):
    plain, recomputed = (train_two_steps(root, f"training.recompute={word}") for word in ("false", "true"))
    assert_equal(recomputed.separator.state_dict(), plain.separator.state_dict())
    assert_equal(recomputed.averaged.state_dict(), plain.averaged.state_dict())


def count_runs(separator: Separator, grad: bool) -> int:
    """Count how often the first block runs in a pass forth and back."""
    runs = []
    first = next(part for part in separator.modules() if isinstance(part, separator.facts.blocks))
    first.attention.register_forward_hook(lambda *_: runs.append(1))
    with torch.set_grad_enabled(grad):
        estimate = separator(torch.randn(1, 2, 2000))
    if grad:
        estimate.sum().backward()
    return len(runs)


@pytest.mark.parametrize(("grad", "n_runs"), [(True, 2), (False, 1)])
def test_a_block_runs_again_for_the_backward_pass_alone(grad, n_runs):
    separator = separator_of(ROFORMER)
    assert recompute_blocks(separator) == 4  # in two blocks one over the frames and one over the bands
    assert count_runs(separator, grad) == n_runs


def test_a_network_from_elsewhere_without_blocks_is_refused():
    with pytest.raises(ValueError, match="needs a network that declares its `blocks`, Constant has none: leave it out"):
        recompute_blocks(separator_of({"class": "networks.Constant", "gains": [0.5, 0.5]}))


# Memory


NETWORKS = {
    "BandSplitRoFormer": ROFORMER,
    "ConvTasNet": {"class": "ConvTasNet", **SMALL["ConvTasNet"]},
    "MDX23C": {"class": "MDX23C", **SMALL["MDX23C"], "n_subbands": 1},
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_estimate_is_what_tensors_with_values_take(name, recompute):
    recipe = recipe_of(NETWORKS[name], f"training.recompute={recompute}", "training.precision=float32")
    separator = separator_of(NETWORKS[name])
    if recompute:
        recompute_blocks(separator)
    objective = Objective(recipe.to_dict()["losses"], separator)
    with LiveBytes() as tensors:
        for weight in separator.parameters():
            tensors.add(weight)
        separation = separator.analyze(torch.randn(4, 2, 4000), torch.randn(4, 2, 2, 4000), wanted=objective.wanted)
        sums = objective(separation).sums.values()
        del separation
        sum(sums).backward()
    held = 4 * 3 * separator.n_parameters  # two moments of AdamW, and the averages
    assert estimate_memory(recipe)[0] == pytest.approx(tensors.most + held, rel=0.02)


def low(*overrides: str) -> float:
    """The lower estimate for a network whose activations weigh most, MB."""
    return estimate_memory(recipe_of(ROFORMER, *overrides, segment=4.0))[0] / MB


def test_memory_falls_with_parts_recomputation_and_half_precision():
    whole = low("training.precision=float32")
    assert low("training.precision=float32", "training.accumulate=4") < 0.35 * whole
    assert low("training.precision=float32", "training.recompute=true") < 0.85 * whole
    assert low("training.precision=bfloat16") < 0.85 * whole
    assert low() == low("training.precision=bfloat16")  # which a GPU takes on its own


@pytest.mark.parametrize(
    "network",
    [
        {"class": "BLSTM", "hidden_size": 64, "n_layers": 3, "dropout": 0.1},
        {"class": "OpenUnmix", "hidden_size": 64, "n_layers": 3, "dropout": 0.1},
    ],
    ids=lambda network: network["class"],
)
def test_memory_falls_where_the_blocks_are_recurrences(network):
    """What cuDNN keeps of one is told, since no CPU keeps the same: six values for each that comes out."""
    plain, recomputed = (
        estimate_memory(recipe_of(network, f"training.recompute={word}", "training.precision=float32", segment=4.0))[0]
        for word in ("false", "true")
    )
    assert recomputed < 0.9 * plain


def test_optimizers_and_averages_count_by_what_they_keep():
    none, moments = (
        low(f"training.optimizer={{class: {name}, lr: 1e-3}}", "training.ema=null") for name in ("SGD", "Adam")
    )
    n_bytes = 4 * separator_of(ROFORMER).n_parameters / MB
    assert moments - none == pytest.approx(2 * n_bytes, rel=0.01)
    assert low("training.optimizer={class: SGD, lr: 1e-3}") - none == pytest.approx(n_bytes, rel=0.01)


def test_a_dry_run_tells_what_a_step_needs(root):
    lines: list[str] = []
    result = dry_run(RECIPE, data=root, device="cpu", log=lines.append)
    assert lines[0].startswith(result.description)
    low_bytes, high = result.needed
    assert lines[1] == f"GPU memory that a step needs: {low_bytes / 2**30:.1f} to {high / 2**30:.1f} GB, as estimated"
    assert 0 < low_bytes < 20 * MB
    assert high > low_bytes + 500 * MB  # CUDA itself


def test_what_cannot_fit_is_refused_before_the_step(root, monkeypatch):
    monkeypatch.setattr(memory_module, "total_memory", lambda _: 1000)
    with pytest.raises(
        TrainingError, match=r"a step needs at least 0\.0 GB, and cpu has 0\.0: raise training.accumulate"
    ):
        dry_run(RECIPE, data=root, device="cpu")


def test_a_network_that_computes_by_values_has_no_estimate():
    lines: list[str] = []
    recipe = recipe_of({"class": "test_recomputation.Choosing"})
    assert tell_memory(recipe, CPU, lines.append) is None
    assert lines[0].startswith("GPU memory that a step needs: not known (DataDependentOutputException: ")


class Choosing(nn.Module):
    """Give masks that depend on what is loud."""

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.ones(n_sources))

    def forward(self, mixture_magnitude: torch.Tensor) -> torch.Tensor:
        scale = 0.5 if mixture_magnitude.mean() > 1 else 0.4
        return (scale * self.gains[:, None, None, None]).expand(
            len(mixture_magnitude), -1, *mixture_magnitude.shape[1:]
        )
