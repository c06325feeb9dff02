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
