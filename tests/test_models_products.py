"""Linear layers by oneDNN: the same values and derivatives as torch's own, wherever they are taken from."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sepkit.models import _attention, _products
from sepkit.models._products import Linear, linear, multiplies, multiply

LARGE = (2, 96, 80)  # times 96 rows of weights: enough for oneDNN to be asked


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LAYOUTS = {
    "in a row": lambda shape: draw(*shape),
    "transposed": lambda shape: draw(*shape[:-2], shape[-1], shape[-2]).mT,
    "every second": lambda shape: draw(*shape[:-1], 2 * shape[-1])[..., ::2],
    "within others": lambda shape: draw(*shape[:-1], 3, shape[-1])[..., 1, :],
    "repeated": lambda shape: draw(*shape[:-2], 1, shape[-1]).expand(shape),
}


@pytest.fixture
def counted(monkeypatch):
    """List what oneDNN was asked to multiply."""
    calls, original = [], _products.multiply
    monkeypatch.setattr(_products, "multiply", lambda *args: calls.append(args) or original(*args))
    return calls


needs_onednn = pytest.mark.skipif(not multiplies(torch.zeros(1)), reason="this machine has another processor")


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("weight_layout", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_product_equals_torchs_own_in_every_layout(layout, weight_layout, gradients, has_bias):
    features, weight, bias = LAYOUTS[layout](LARGE), LAYOUTS[weight_layout]((96, 80)), draw(96) if has_bias else None
    with torch.set_grad_enabled(gradients):
        found = linear(features.requires_grad_(gradients), weight, bias)
    torch.testing.assert_close(found, F.linear(features, weight, bias), rtol=1e-5, atol=2e-5)  # sums of 80 in float32


@pytest.mark.parametrize("has_bias", [True, False])
def test_first_and_second_derivatives_equal_torchs_own(has_bias):
    given = [draw(*LARGE), draw(96, 80), *([draw(96)] if has_bias else [])]

    def derivatives(function):
        leaves = [one.clone().requires_grad_() for one in given]
        first = torch.autograd.grad(function(*leaves).tanh().sum(), leaves, create_graph=True)
        return [*first, *torch.autograd.grad(sum(one.square().sum() for one in first), leaves)]

    for found, expected in zip(derivatives(linear), derivatives(F.linear), strict=True):
        scale = float(expected.detach().abs().max())  # float32 sums of 192 rows
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * scale)


def test_a_frozen_weight_gets_no_gradient():
    features, weight = draw(*LARGE).requires_grad_(), draw(96, 80)
    linear(features, weight).sum().backward()
    assert features.grad is not None
    assert weight.grad is None


@needs_onednn
def test_large_products_are_onednns_and_small_ones_are_not(counted):
    layer = Linear(80, 96)
    layer(draw(*LARGE))
    assert len(counted) == 1
    layer(draw(2, 80))
    assert len(counted) == 1


CASES = {
    "autocast": lambda layer, features: torch.autocast("cpu", torch.bfloat16)(layer)(features),
    "double": lambda layer, features: layer.double()(features.double()),
    "without oneDNN": lambda layer, features: torch.backends.mkldnn.flags(enabled=False)(layer)(features),
    "vmap": lambda layer, features: torch.func.vmap(layer)(features),
    "jvp": lambda layer, features: torch.func.jvp(layer, (features,), (features,))[0],
    "traced": lambda layer, features: torch.jit.trace(layer, features, check_trace=False)(features),
    "exported": lambda layer, features: torch.export.export(layer, (features,)).module()(features),
    "meta": lambda layer, features: layer.to("meta")(features.to("meta")),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TF32 acceleration")  # of torch.jit, and of `flags`
@pytest.mark.parametrize("case", CASES)
def test_whatever_is_no_plain_float32_is_torchs_own(case, counted):
    found = CASES[case](Linear(80, 96), draw(*LARGE))
    assert found.shape == (*LARGE[:-1], 96)
    assert not counted


def test_a_layer_is_one_of_torch_to_whoever_asks():
    layer = Linear(80, 96)
    assert isinstance(layer, nn.Linear)
    assert list(layer.state_dict()) == ["weight", "bias"]


@pytest.mark.parametrize("n_values", [16, 32])
@pytest.mark.parametrize("n_positions", [127, 128, 700])
def test_attention_head_by_head_equals_the_fused_one(n_positions, n_values, monkeypatch):
    monkeypatch.setattr(_attention, "_N_WEIGHTS", 50_000)  # so that a head is cut into parts
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    queries, keys, values = (draw(2, n_positions, 3, size).transpose(1, 2) for size in (16, 16, n_values))
    expected = F.scaled_dot_product_attention(queries, keys, values, scale=0.25)
    with torch.no_grad():
        found = _attention._attend(queries, keys, values, 0.25, 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@needs_onednn
def test_multiplying_needs_no_gradients():
    rows, weight = draw(200, 80), draw(96, 80)
    assert not multiply(rows, weight).requires_grad
