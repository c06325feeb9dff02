"""Optimizers of a recipe: those of torch in their fast form, those of other packages by their path."""

import copy
import pickle
import re
from pathlib import Path

import pytest
import torch
from test_training_state import SMALL, do_steps, make, root, stored, weights  # noqa: F401
from torch import nn

from sepkit.training.muon import Muon
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


NAMED = re.findall(r"\{class: ([a-z_]+\.[\w.]+), lr: ([\d.e-]+)\}", GUIDE.read_text("utf-8"))


def test_the_guide_names_optimizers_by_their_paths():
    assert {"bitsandbytes", "pytorch_optimizer", "sepkit"} == {name.partition(".")[0] for name, _ in NAMED}


@pytest.mark.parametrize(("name", "rate"), NAMED)
def test_a_training_by_an_optimizer_of_the_guide_goes_on_where_it_stopped(make, name, rate):  # noqa: F811
    pytest.importorskip(name.partition(".")[0])
    settings = {"optimizer": {"class": name, "lr": float(rate)}}
    whole, stopped = (do_steps(make(**settings), n_steps) for n_steps in (4, 2))
    state = stored(stopped)
    going_on = make(**settings)
    before = {key: tensor.clone() for key, tensor in weights(going_on).items()}
    going_on.checkpointer.load_state(state)
    do_steps(going_on, 2)
    assert any(not tensor.equal(before[key]) for key, tensor in weights(going_on).items())
    assert all(tensor.equal(weights(whole)[key]) for key, tensor in weights(going_on).items())


# Muon

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch is older than 2.9")
MUON = "sepkit.training.muon.Muon"


@needs_muon
@pytest.mark.parametrize("shapes", [[(6, 4)], [(6,)], [(6, 4), (6,), (2, 3, 5), (4, 6)]], ids=str)
def test_muon_moves_matrices_by_muon_and_all_else_by_adamw(shapes):
    draws = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draws) for shape in shapes]
    gradients = [torch.randn(shape, generator=draws) for shape in shapes]
    found, expected = ([nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    ours = make_optimizer({"class": MUON, "lr": 0.1, "weight_decay": 0.2, "momentum": 0.8}, found, CPU)
    both, muon = {"lr": 0.1, "weight_decay": 0.2}, {"momentum": 0.8, "adjust_lr_fn": "match_rms_adamw"}
    theirs = [
        torch.optim.Muon([w], **muon, **both) if w.dim() == 2 else torch.optim.AdamW([w], **both) for w in expected
    ]
    for _ in range(3):
        for weight, other, gradient in zip(found, expected, gradients, strict=True):
            weight.grad, other.grad = gradient.clone(), gradient.clone()
        ours.step()
        for optimizer in theirs:
            optimizer.step()
    assert all(weight.equal(other) for weight, other in zip(found, expected, strict=True))


@needs_muon
def test_muon_follows_the_rates_that_a_schedule_sets():
    weights_ = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))]
    optimizer = make_optimizer({"class": MUON, "lr": 0.1}, weights_, CPU)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for weight in weights_:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert all((weight == 1).all() for weight in weights_)


def test_muon_says_which_torch_it_needs(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match=r"Muon must be computed by torch 2\.9 or later, got 2\.\d+.*: choose AdamW"):
        Muon([nn.Parameter(torch.ones(2, 2))])


@needs_muon
@pytest.mark.parametrize("shape", [(2, 2), (2,)], ids=str)
@pytest.mark.parametrize("momentum", [-0.1, 1.0, 1.5, float("nan")])
def test_a_momentum_out_of_range_is_refused_whatever_the_weights(shape, momentum):
    with pytest.raises(ValueError, match=rf"momentum must be in \[0, 1\), got {momentum:g}"):
        Muon([nn.Parameter(torch.ones(shape))], momentum=momentum)


@needs_muon
@pytest.mark.parametrize("number", [{"lr": -1.0}, {"weight_decay": -1.0}], ids=["lr", "weight_decay"])
@pytest.mark.parametrize("shape", [(2, 2), (2,)], ids=str)
def test_numbers_below_0_are_refused_as_torch_does(shape, number):
    with pytest.raises(ValueError, match=r"(?i)(learning rate|weight.decay).*-1\.0"):
        Muon([nn.Parameter(torch.ones(shape))], **number)


def trained(n_steps: int) -> tuple[list[nn.Parameter], Muon]:
    """Return a matrix and a vector, moved by some steps, and what moves them."""
    weights_ = [nn.Parameter(torch.eye(4)), nn.Parameter(torch.ones(4))]
    optimizer = Muon(weights_, lr=0.1)
    for _ in range(n_steps):
        move(weights_, optimizer)
    return weights_, optimizer


def move(weights_: list[nn.Parameter], optimizer: Muon) -> None:
    for weight in weights_:
        weight.grad = weight.detach() + 1
    optimizer.step()


@needs_muon
@pytest.mark.parametrize("how", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))], ids=["copy", "pickle"])
def test_a_copy_goes_on_where_the_first_is_and_leaves_it_alone(how):
    weights_, optimizer = trained(2)
    before = [weight.detach().clone() for weight in weights_]
    others, copied = how((weights_, optimizer))
    move(others, copied)
    assert all(weight.equal(other) for weight, other in zip(weights_, before, strict=True))
    assert all(weight.equal(other) for weight, other in zip(others, trained(3)[0], strict=True))


@needs_muon
def test_a_closure_computes_the_gradients_and_its_loss_is_returned():
    weights_, optimizer = trained(2)

    def compute() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum((weight.square() / 2 + weight).sum() for weight in weights_)
        loss.backward()
        return loss

    expected = compute().detach()
    with torch.no_grad():
        assert optimizer.step(compute).equal(expected)
    assert all(weight.equal(other) for weight, other in zip(weights_, trained(3)[0], strict=True))


@needs_muon
def test_weights_without_a_gradient_stay_and_keep_nothing():
    weights_, optimizer = trained(0)
    weights_[0].grad = torch.ones(4, 4)
    optimizer.step()
    assert not weights_[0].equal(torch.eye(4))
    assert weights_[1].equal(torch.ones(4))
    assert list(optimizer.state) == [weights_[0]]
