"""Differentiating twice is right where it is smooth, else refused: never 0 in silence."""

import ast
from pathlib import Path

import pytest
import torch
from test_losses_contract import ALL, HELD, _quantities, _waveforms

import sepkit
from sepkit import losses
from sepkit.losses._numeric import _MeanSquare
from sepkit.losses._transport import Transport
from sepkit.losses.filters import _Correlation
from sepkit.losses.l1snr import _Weighed
from sepkit.losses.magnitude import _Norm
from sepkit.losses.waveform import _LogCosh
from sepkit.masks import _RealMask
from sepkit.separation import _MaskedMagnitude

# What goes through the operators of chunks, and Transport: their slopes are formed with their values.
ONCE = {
    name
    for name in ALL
    if "STFT" in name or "Wasserstein1DLoss" in name or name in ("MultiL1SNRDBLoss", "MultiResolutionSOTLoss")
} - {"STFTMagnitudeLoss", "STFTLoss scaled", "Wasserstein1DLoss identity"}


def double(*shape, seed=0, complex_=False):
    dtype = torch.complex128 if complex_ else torch.float64
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slope(name, estimate, others, create_graph=False):
    loss = ALL[name](reduction="mean", **({"mag_distance": "L2", "log_eps": 0.1} if name == "STFTLoss scaled" else {}))
    (gradient,) = torch.autograd.grad(loss(estimate, *others), estimate, create_graph=create_graph)
    return gradient


def smooth_quantities(name):
    noise, target = (signal.double() for signal in _waveforms(4, 2))
    first, *others = _quantities(name, 0.7 * target + 0.3 * noise, target)
    if name == "PermutationInvariantLoss":
        first = first + 0.1 * double(*first.shape)  # one of its estimates is its target, where |.| has a kink
    return first.detach().clone().requires_grad_(), [other.detach() for other in others]


@pytest.mark.parametrize("name", sorted(set(ALL) - ONCE))
def test_the_second_derivative_of_a_loss_is_that_of_finite_differences(name):
    estimate, others = smooth_quantities(name)
    way = double(*estimate.shape, complex_=estimate.is_complex())
    gradient = slope(name, estimate, others, create_graph=True)
    if not gradient.requires_grad:  # a straight line, as of torch.nn.L1Loss
        assert name in {"L1Loss", "MagnitudeL1Loss", "WaveformL1Loss", "MaskLoss"}
    product = (gradient * way.conj()).real.sum()
    found = torch.autograd.grad(product, estimate)[0] if product.requires_grad else torch.zeros_like(estimate)
    step = 1e-6
    ends = [slope(name, (estimate + side * step * way).detach().requires_grad_(), others) for side in (1.0, -1.0)]
    expected = (ends[0] - ends[1]) / (2.0 * step)
    # Kinks of |.| between the two ends move single values; those of a smooth loss agree to 1e-5.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()) + 1e-9)


@pytest.mark.parametrize("name", sorted(ONCE))
def test_a_loss_whose_slope_is_formed_once_refuses_a_second_derivative(name):
    estimate, others = smooth_quantities(name)
    with pytest.raises(ValueError, match=r"^this loss must be differentiated once, got create_graph=True"):
        slope(name, estimate, others, create_graph=True)


@pytest.mark.parametrize("weigh", [torch.mean, torch.sum, lambda values: values.square().sum()])
def test_a_second_derivative_is_refused_whatever_is_made_of_the_values(weigh):
    estimate = double(2, 1, 2000).requires_grad_()
    values = losses.MultiResolutionComplexSTFTLoss((256,), 256, 128, reduction="none")(estimate, double(2, 1, 2000))
    with pytest.raises(ValueError, match="must be differentiated once"):
        torch.autograd.grad(weigh(values), estimate, create_graph=True)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch, which imports it for forward mode
@pytest.mark.parametrize("name", sorted(ONCE - {"Wasserstein1DLoss cqt"}))
def test_a_loss_without_a_derivative_in_forward_mode_says_so(name):
    estimate, others = smooth_quantities(name)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(estimate.detach(), torch.ones_like(estimate))
        with pytest.raises((ValueError, NotImplementedError), match=r"differentiated backward|implement the jvp"):
            ALL[name]()(dual, *others)


TRANSFORMS = {
    "grad": lambda loss, estimate: torch.func.grad(loss)(estimate),
    "vmap": lambda loss, estimate: torch.func.vmap(loss)(estimate[None])[0],
    "jvp": lambda loss, estimate: torch.func.jvp(loss, (estimate,), (torch.ones_like(estimate),)),
    "hessian product": lambda loss, estimate: torch.func.vjp(torch.func.grad(loss), estimate)[1](estimate),
}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:There is a performance drop")
@pytest.mark.parametrize("transform", [name for name in TRANSFORMS if name != "hessian product"])
@pytest.mark.parametrize("name", sorted(ONCE - {"Wasserstein1DLoss cqt", "Wasserstein1DLoss in time"}))
def test_a_loss_without_rules_for_transforms_of_functions_says_so(name, transform):
    (estimate, others), loss = smooth_quantities(name), ALL[name]()
    with pytest.raises((ValueError, NotImplementedError), match=r"differentiated (backward|by)|implement the jvp"):
        TRANSFORMS[transform](lambda varied: loss(varied, *others), estimate.detach())


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["LogCoshLoss", "RelativeSpectralLoss", "SNRLoss"])
def test_a_smooth_loss_is_transformed_as_a_function(name):
    (estimate, others), built = smooth_quantities(name), ALL[name]()

    def loss(varied):
        return built(varied, *others)

    torch.testing.assert_close(TRANSFORMS["grad"](loss, estimate.detach()), slope(name, estimate, others))
    torch.testing.assert_close(TRANSFORMS["vmap"](loss, estimate.detach()), loss(estimate.detach()))
    (product,) = TRANSFORMS["hessian product"](loss, estimate.detach())
    gradient = slope(name, estimate, others, create_graph=True)
    expected = torch.autograd.grad(gradient, estimate, estimate.detach())[0]
    torch.testing.assert_close(product, expected)


@pytest.mark.parametrize("name", sorted(set(HELD) & set(ALL) - ONCE))
def test_a_weight_that_passes_no_gradient_counts_in_the_second_derivative(name):
    quiet = (0.05 * double(2, 1, 500)).requires_grad_()
    target, way, step = double(2, 1, 500, seed=1), double(2, 1, 500, seed=2), 1e-6
    found = torch.autograd.grad((slope(name, quiet, [target], True) * way).sum(), quiet)[0]
    ends = [slope(name, (quiet + side * step * way).detach().requires_grad_(), [target]) for side in (1.0, -1.0)]
    torch.testing.assert_close(found, (ends[0] - ends[1]) / (2.0 * step), rtol=1e-4, atol=1e-7)


# Each function with a gradient of its own: how it is called, and on what.
FUNCTIONS = {
    _LogCosh: [
        (lambda difference: _LogCosh.apply(difference, 1.0, 1e-8), [double(3, 20)]),
        (lambda difference: _LogCosh.apply(difference, 2.5, 0.3), [double(3, 20)]),
    ],
    _MaskedMagnitude: [(_MaskedMagnitude.apply, [double(2, 3, 1, 4, 5), double(2, 1, 1, 4, 5, seed=1).abs()])],
    _MeanSquare: [(_MeanSquare.apply, [double(3, 8)]), (_MeanSquare.apply, [double(1, 1030)])],  # with a whole piece
    _Norm: [(_Norm.apply, [double(3, 8)])],
    _Correlation: [(lambda signal: _Correlation.apply(signal, double(5, seed=1)), [double(2, 50)])],
    _RealMask: [(_RealMask.apply, [double(2, 3, 1, 4, 5), double(2, 1, 4, 5, complex_=True)])],
    _Weighed: [(lambda difference: _Weighed.apply(double(4, seed=1), difference), [double(4)])],
}
SMOOTH = [pytest.param(call, inputs, id=cls.__name__) for cls, cases in FUNCTIONS.items() for call, inputs in cases]


@pytest.mark.parametrize(("call", "inputs"), SMOOTH)
def test_a_function_with_a_gradient_of_its_own_is_right_twice(call, inputs):
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]

    def curved(*tensors):
        found = call(*tensors)
        parts = found if isinstance(found, tuple) else (found,)
        parts = [torch.view_as_real(part) if part.is_complex() else part for part in parts]
        return torch.cat([part.square().flatten() for part in parts])

    assert torch.autograd.gradcheck(curved, inputs)
    assert torch.autograd.gradgradcheck(curved, inputs)


def test_transport_is_differentiated_once():
    weights, positions = double(2, 7).abs().requires_grad_(), torch.linspace(0, 1, 7, dtype=torch.float64)[None]
    cost = Transport.apply(weights, double(2, 7, seed=1).abs(), positions, positions, 2.0)
    with pytest.raises(ValueError, match="must be differentiated once"):
        torch.autograd.grad(cost.sum(), weights, create_graph=True)


def test_no_function_with_a_gradient_of_its_own_is_left_out():
    found = set()
    for path in Path(sepkit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any("autograd.Function" in ast.unparse(base) for base in node.bases):
                found.add(node.name)
    without_values = {"_Recurrence"}  # of training/memory.py, which counts bytes
    in_single_precision = {"_Linear"}  # tests/test_models_products.py compares it with torch's own, twice
    assert found == {cls.__name__ for cls in (*FUNCTIONS, Transport)} | without_values | in_single_precision


def test_silence_has_finite_second_derivatives():
    silence = torch.zeros(1, 1, 4, 5, dtype=torch.complex128, requires_grad=True)
    others = double(2, 1, 1, 4, 5, complex_=True).unbind(0)
    (gradient,) = torch.autograd.grad(
        losses.RelativeSpectralLoss()(silence, torch.zeros_like(others[0]), others[1]), silence, create_graph=True
    )
    (second,) = torch.autograd.grad(gradient.abs().square().sum(), silence, allow_unused=True)
    assert second is None or second.isfinite().all()
