"""Optimizers of a recipe: those of torch in their fast form, those of other packages by their path."""

import re
import sys
from pathlib import Path

import pytest
import torch
from test_training_state import SMALL, do_steps, make, root, stored, weights  # noqa: F401
from torch import nn

from sepkit.training.optimizers import make_optimizer, try_optimizer

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "train.md"
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def built(monkeypatch):
    """What an optimizer is built from, where no GPU is needed to see it."""
    found = []
    monkeypatch.setattr("sepkit.training.optimizers.instantiate", lambda config, *_: found.append(config))
    return found


@pytest.mark.parametrize(
    ("config", "device", "fused"),
    [
        ({"class": "AdamW", "lr": 0.1}, CUDA, True),
        ({"class": "SGD", "lr": 0.1}, CUDA, True),
        ({"class": "AdamW", "fused": False}, CUDA, False),
        ({"class": "AdamW", "foreach": True}, CUDA, None),
        ({"class": "AdamW", "capturable": True}, CUDA, None),
        ({"class": "RMSprop"}, CUDA, None),  # which has no such form
        ({"class": "AdamW"}, CPU, None),
        ({"class": "AdamW", "fused": True}, CPU, True),
    ],
    ids=str,
)
def test_an_optimizer_is_fused_on_a_gpu_where_it_can_be_and_the_recipe_does_not_choose(built, config, device, fused):
    make_optimizer(config, [], device)
    assert built == [{**config, **({} if fused is None else {"fused": fused})}]


def test_a_fused_optimizer_moves_the_weights_as_the_plain_one():
    moved = []
    for fused in (False, True):
        weight = nn.Parameter(torch.linspace(-1, 1, 40).reshape(5, 8))
        optimizer = make_optimizer({"class": "AdamW", "lr": 0.1, "fused": fused}, [weight], CPU)
        for _ in range(3):
            weight.grad = weight.detach().square()
            optimizer.step()
        moved.append(weight.detach())
    torch.testing.assert_close(*moved)


def test_no_state_of_torch_s_own_optimizers_is_tried():
    assert try_optimizer({"class": "AdamW"}, CPU) == {}


@pytest.fixture
def described(tmp_path, monkeypatch):
    """The file of the guide beside a recipe."""
    pytest.importorskip("pytorch_optimizer")
    (code,) = re.findall(r"```python\n(# my_optimizers.py\n.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_optimizers.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_optimizers", None)


NAMED = re.findall(r"\{class: (pytorch_optimizer\.\w+|my_optimizers\.\w+), lr: ([\d.e-]+)\}", GUIDE.read_text("utf-8"))


@pytest.mark.usefixtures("described")
@pytest.mark.parametrize(("name", "rate"), NAMED)
def test_a_training_by_an_optimizer_of_the_guide_goes_on_where_it_stopped(make, name, rate):  # noqa: F811
    settings = {"optimizer": {"class": name, "lr": float(rate)}}
    whole, stopped = (do_steps(make(**settings), n_steps) for n_steps in (4, 2))
    state = stored(stopped)
    going_on = make(**settings)
    before = {key: tensor.clone() for key, tensor in weights(going_on).items()}
    going_on.checkpointer.load_state(state)
    do_steps(going_on, 2)
    assert any(not tensor.equal(before[key]) for key, tensor in weights(going_on).items())
    assert all(tensor.equal(weights(whole)[key]) for key, tensor in weights(going_on).items())
