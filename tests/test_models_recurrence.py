"""The LSTM of Open-Unmix: what torch's own gives, bit by bit, and less that is kept for the backward pass."""

import pytest
import torch
from torch import Tensor, nn

from sepkit.models._products import multiplies
from sepkit.models._recurrence import LSTM

needs_onednn = pytest.mark.skipif(not multiplies(torch.zeros(1)), reason="this machine has another processor")
SHAPE = (3, 11, 6)


def pair(**settings) -> tuple[nn.LSTM, LSTM]:
    """Build torch's own recurrence and ours, with the same weights."""
    torch.manual_seed(0)
    plain = nn.LSTM(SHAPE[-1], 4, **settings)
    ours = LSTM(SHAPE[-1], 4, **settings)
    ours.load_state_dict(plain.state_dict())
    return plain, ours


def pass_through(cell: nn.LSTM, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE) -> list[Tensor]:
    """Return the output, all gradients, and a number drawn afterwards."""
    torch.manual_seed(1)
    cell = cell.to(dtype)
    features = torch.randn(shape, dtype=dtype, requires_grad=True)
    output = cell(features)[0]
    gradients = torch.autograd.grad(output.square().sum(), [features, *cell.parameters()])
    return [output, *gradients, torch.rand(1)]


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # which oneDNN leaves to torch
@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_layers": 3, "bidirectional": True, "batch_first": True, "dropout": 0.4},
        {"num_layers": 3, "bidirectional": True, "dropout": 0.4},
        {"num_layers": 2, "bias": False},
        {"num_layers": 2, "bidirectional": True, "batch_first": True},
        {"num_layers": 2, "bidirectional": True, "proj_size": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_gradients_and_draws_are_those_of_torch_bit_by_bit(settings, training, recomputes, dtype):
    plain, ours = (cell.train(training) for cell in pair(**settings))
    ours.recomputes = recomputes
    for found, expected in zip(pass_through(ours, dtype), pass_through(plain, dtype), strict=True):
        assert found.equal(expected)


@needs_onednn
@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_layers_before_the_last_are_run_again(monkeypatch, n_layers, recomputes):
    _, ours = pair(num_layers=n_layers)
    ours.recomputes = recomputes
    calls, run = [], LSTM._run
    monkeypatch.setattr(LSTM, "_run", lambda *arguments: calls.append(arguments) or run(*arguments))
    output = ours(torch.randn(SHAPE, requires_grad=True))[0]
    assert len(calls) == n_layers
    output.sum().backward()
    assert len(calls) - n_layers == n_layers - (not recomputes)


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, SHAPE[1:]], ids=str)
def test_the_state_is_torchs_where_no_gradient_is_asked_for(shape, state):
    plain, ours = pair(num_layers=2)
    features, given = torch.randn(shape), tuple(torch.randn(2, *shape[1:-1], 4) for _ in range(2)) if state else None
    with torch.no_grad():
        expected, found = plain(features, given), ours(features, given)
    assert found[0].equal(expected[0])
    assert all(one.equal(other) for one, other in zip(found[1], expected[1], strict=True))


@pytest.mark.parametrize("shape", [SHAPE, SHAPE[1:]], ids=str)
def test_a_state_that_is_given_is_begun_with(shape):
    plain, ours = pair(num_layers=2)
    features, state = torch.randn(shape), tuple(torch.randn(2, *shape[1:-1], 4) for _ in range(2))
    assert ours(features, state)[0].equal(plain(features, state)[0])


def test_one_sequence_without_a_batch_is_torchs():
    found, expected = (pass_through(cell, shape=SHAPE[1:]) for cell in reversed(pair(num_layers=2)))
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("recomputes", [False, True])
def test_weights_that_take_the_place_of_its_own_for_a_call_are_used(recomputes):
    found, expected = [], []
    for cell, values in zip(pair(num_layers=2), (expected, found), strict=True):
        cell.recomputes = recomputes
        others = {name: (2 * weight.detach()).requires_grad_() for name, weight in cell.named_parameters()}
        features = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
        output = torch.func.functional_call(cell, others, (features,))[0]
        values += [output, *torch.autograd.grad(output.square().sum(), [*others.values()])]
    assert all(one.equal(other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize(
    ("features", "error", "match"),
    [
        (torch.zeros(3, 11, 5), RuntimeError, r"input\.size\(-1\) must be equal to input_size\. Expected 6, got 5"),
        (torch.zeros(3, 11, 7), RuntimeError, r"input\.size\(-1\) must be equal to input_size\. Expected 6, got 7"),
        (torch.zeros(2, 3, 11, 6), ValueError, r"Expected input to be 2D or 3D, got 4D instead"),
        (torch.zeros(0, 3, 6), RuntimeError, r"Expected sequence length to be larger than 0"),
    ],
    ids=["narrow", "wide", "four dimensions", "no frames"],
)
def test_what_torchs_refuses_is_refused_in_training_too(features, error, match, recomputes):
    _, ours = pair(num_layers=2)
    ours.recomputes = recomputes
    with pytest.raises(error, match=match):
        ours(features)


def test_weights_of_another_precision_are_refused():
    plain, ours = (cell.double() for cell in pair(num_layers=2))
    for cell in (plain, ours):
        with pytest.raises((RuntimeError, ValueError), match=r"dtype"):
            cell(torch.zeros(SHAPE))


@pytest.mark.parametrize("recomputes", [False, True])
def test_second_derivatives_are_torchs(recomputes):
    found = []
    for cell in pair(num_layers=2, bidirectional=True, batch_first=True):
        cell.recomputes = recomputes
        features = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)).requires_grad_()
        (slope,) = torch.autograd.grad(cell(features)[0].square().sum(), features, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), [features, *cell.parameters()]))
    assert all(one.equal(other) for one, other in zip(*found, strict=True))
