"""What a user may hand to a loss: the right result, or one sentence that names the argument."""

import inspect
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_losses_contract import ALL, HELD, _quantities, _waveforms

from sepkit import losses

SENTENCE = r"^(?!.*\n)[a-z]\w*( .*)? (must|need|needs) .*"


def _distributions():
    noise, target = (signal.flatten(0, 1)[:, :40] for signal in _waveforms())
    return noise.contiguous(), target.contiguous()


def _levels():
    rising = torch.rand(3, 9, generator=torch.Generator().manual_seed(0)).cumsum(1)
    return rising / 2.0, rising, rising.square()


# What is public and no loss class: how it is called, and on what.
FUNCTIONS = {
    "FIRFilter": (losses.FIRFilter(), _waveforms()),
    "SumAndDifference": (losses.SumAndDifference(), _waveforms()[:1]),
    "component_loss": (lambda *q: losses.component_loss(*q, 0.1, 0.8), _quantities("ComponentLoss", *_waveforms())),
    "dbrms": (losses.dbrms, _waveforms()[:1]),
    "kl_div_loss": (losses.kl_div_loss, _quantities("KLDivergenceLoss", *_waveforms())),
    "mask_loss": (losses.mask_loss, _quantities("MaskLoss", *_waveforms())),
    "quantile_function": (losses.quantile_function, _levels()),
    "si_sdr_loss": (losses.si_sdr_loss, _waveforms()),
    "wasserstein_1d": (losses.wasserstein_1d, _distributions()),
    "wasserstein_1d_circle": (losses.wasserstein_1d_circle, _distributions()),
}
CASES = {name: (ALL[name](**HELD.get(name, {})), _quantities(name, *_waveforms())) for name in ALL} | FUNCTIONS


def _every(names=CASES):
    return pytest.mark.parametrize("name", sorted(names))


def _first(found):
    return found[0] if isinstance(found, tuple) else found


def _refused(name, tensors):
    with pytest.raises(ValueError, match=SENTENCE):
        CASES[name][0](*tensors)


def test_the_battery_covers_all_that_is_public():
    assert {name.split()[0] for name in CASES} == set(losses.__all__) - {"CompositeLoss"}


@pytest.mark.parametrize("kind", ["numpy", "list", "none", "number", "sparse"])
@_every()
def test_what_is_no_dense_tensor_is_refused_wherever_it_stands(name, kind):
    tensors = CASES[name][1]
    turned = {
        "numpy": lambda tensor: tensor.numpy(),
        "list": lambda tensor: tensor.flatten()[:3].tolist(),
        "none": lambda _: None,
        "number": lambda _: 0.5,
        "sparse": lambda tensor: tensor.to_sparse(),
    }[kind]
    for place in range(len(tensors)):
        _refused(name, [turned(tensor) if place == at else tensor for at, tensor in enumerate(tensors)])
    _refused(name, [turned(tensor) for tensor in tensors])


@pytest.mark.parametrize("kind", ["integer", "bool", "complex", "real"])
@_every()
def test_another_kind_of_number_is_refused(name, kind):
    tensors = CASES[name][1]
    if (kind == "complex") == tensors[0].is_complex() and kind in ("complex", "real"):
        pytest.skip("the kind it takes")
    if kind == "real" and not tensors[0].is_complex():
        pytest.skip("the kind it takes")
    turned = {
        "integer": lambda tensor: tensor.abs().int(),
        "bool": lambda tensor: tensor.abs() > 0,
        "complex": lambda tensor: tensor.to(torch.complex64),
        "real": lambda tensor: tensor.abs(),
    }[kind]
    _refused(name, [turned(tensor) for tensor in tensors])
    for place in range(len(tensors)):
        _refused(name, [turned(tensor) if place == at else tensor for at, tensor in enumerate(tensors)])


@_every(name for name in CASES if len(CASES[name][1]) > 1)
def test_tensors_on_two_devices_are_refused(name):
    first, *others = CASES[name][1]
    _refused(name, [first, *(other.to("meta") for other in others)])
    _refused(name, [first.to("meta"), *others])


@_every()
def test_what_is_empty_or_has_no_dimensions_is_refused(name):
    tensors = CASES[name][1]
    _refused(name, [tensor[:0] for tensor in tensors])
    _refused(name, [tensor[..., :0] for tensor in tensors])
    _refused(name, [tensor.flatten()[0] for tensor in tensors])


# Distributions may have different numbers of points, levels of quantiles any number.
BROADCAST_AXES = {"wasserstein_1d": (0,), "wasserstein_1d_circle": (0,), "quantile_function": (0,)}


@_every(name for name in CASES if len(CASES[name][1]) > 1)
def test_what_would_be_broadcast_is_refused(name):
    first, *others = CASES[name][1]
    for axis in BROADCAST_AXES.get(name, range(first.dim())):
        if first.shape[axis] > 1:
            _refused(name, [first.narrow(axis, 0, 1), *others])
            _refused(name, [first, *(other.narrow(axis, 0, 1) for other in others)])
    _refused(name, [first[0], *others])


@pytest.mark.parametrize("shape", [(44100, 2), (16000, 1), (2, 8000, 6), (256, 16)])
@pytest.mark.parametrize("loss", [losses.SISDRLoss(), losses.L1SNRLoss(), losses.STFTLoss(), losses.si_sdr_loss])
def test_channels_behind_time_are_refused(loss, shape):
    with pytest.raises(ValueError, match=r"with time last, got .*; transpose it"):
        loss(torch.zeros(shape), torch.zeros(shape))


def _in(tensor, dtype):
    wanted = {torch.float16: torch.complex32, torch.float32: torch.complex64, torch.float64: torch.complex128}
    return tensor.to(wanted[dtype] if tensor.is_complex() else dtype)


PAIRS = [
    (first, second)
    for first in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    for second in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if first != second
]


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda dtype: str(dtype).removeprefix("torch."))
@_every(name for name in CASES if len(CASES[name][1]) > 1)
def test_two_precisions_give_the_value_in_the_wider_one_on_the_same_numbers(name, first, second):
    call, tensors = CASES[name]
    if tensors[0].is_complex() and torch.bfloat16 in (first, second):
        pytest.skip("there is no complex bfloat16")
    mixed = [_in(tensors[0], first), *(_in(tensor, second) for tensor in tensors[1:])]
    wider = torch.float64 if torch.float64 in (first, second) else torch.float32
    value, expected = _first(call(*mixed)), _first(call(*(_in(tensor, wider) for tensor in mixed)))
    assert value.dtype == wider
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7, equal_nan=True)


@_every(set(ALL) - {"PermutationInvariantLoss"})
def test_two_precisions_have_gradients_in_the_precision_of_each(name):
    first, *others = CASES[name][1]
    first = first.detach().clone().requires_grad_()
    others = [_in(other, torch.float64).detach().requires_grad_() for other in others]
    CASES[name][0](first, *others).backward()
    found = [tensor.grad for tensor in (first, *others) if tensor.grad is not None]
    assert [gradient.dtype for gradient in found][:2] == [first.dtype, others[0].dtype]
    assert all(gradient.isfinite().all() for gradient in found)


@pytest.mark.parametrize("n_sources", [2, 3, 4, 5])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["estimate", "target"])
def test_an_item_that_is_not_finite_leaves_the_order_of_the_others_alone(n_sources, broken, side):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(3, n_sources, 1, 200, generator=generator)
    estimate = target.roll(1, 1) + 0.1 * torch.randn(target.shape, generator=generator)
    loss = losses.PermutationInvariantLoss(losses.L1SNRLoss(reduction="none"), reduction="none")
    expected = loss(estimate, target)
    {"estimate": estimate, "target": target}[side][1, 0, 0, 7] = broken
    values = loss(estimate, target)
    assert not values[1].isfinite()
    assert torch.equal(values[[0, 2]], expected[[0, 2]])
    assert sorted(loss.order(estimate, target)[1].tolist()) == list(range(n_sources))


def test_an_infinite_cost_is_avoided_where_another_order_is_finite():
    from sepkit.losses.permutation import _best_order

    costs = torch.full((1, 4, 4), 5.0) - 4.0 * torch.eye(4)
    costs[0, 0, 0] = math.inf
    order = _best_order(costs)[0].tolist()
    assert order[0] != 0
    assert sorted(order) == [0, 1, 2, 3]


# Numbers that a constructor takes, found by their annotations, and what no constructor may take for one.
WRONG = {
    "infinite": math.inf,
    "minus infinity": -math.inf,
    "NaN": math.nan,
    "text": "many",
    "list of text": ["many"],
    "flag": True,
    "complex": 1j,
}
WRONG_SIZES = {"a fraction": 512.5, "a float": 512.0, "zero": 0, "negative": -4, "text": "512", "infinite": math.inf}
NEEDED = {
    "MelSTFTLoss": {"sample_rate": 8000, "n_mels": 20},
    "ChromaSTFTLoss": {"sample_rate": 8000},
    "SumAndDifferenceSTFTLoss": {"fft_sizes": [512], "hop_sizes": [128], "win_lengths": [512]},
    "ComponentLoss": {"alpha": 0.1},
}
ZERO_IS_A_SIZE = {"min_audio_length", "seed"}
CLASSES = [name for name in losses.__all__ if inspect.isclass(getattr(losses, name))]


def _annotated(kinds):
    return [
        (name, parameter.name, str(parameter.annotation))
        for name in CLASSES
        for parameter in inspect.signature(getattr(losses, name)).parameters.values()
        if str(parameter.annotation).removeprefix("<class '").removesuffix("'>") in kinds
    ]


NUMBERS = _annotated({"float", "int", "float | None", "int | None"})
SIZES = _annotated({"int", "int | None"})
LISTS = _annotated({"collections.abc.Sequence[int]", "collections.abc.Sequence[int] | None"})


def _build_wrongly(name, argument, value):
    arguments = {**NEEDED.get(name, {}), argument: value}
    with pytest.raises(ValueError, match=rf"\b{argument}\b.* must |^{argument} ") as caught:
        getattr(losses, name)(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(("name", "argument", "annotation"), NUMBERS)
def test_a_constructor_names_the_number_it_cannot_use(name, argument, annotation, wrong):
    _build_wrongly(name, argument, WRONG[wrong])
    if "None" not in annotation:
        _build_wrongly(name, argument, None)


@pytest.mark.parametrize("wrong", WRONG_SIZES)
@pytest.mark.parametrize(("name", "argument", "_"), SIZES)
def test_a_constructor_names_the_size_it_cannot_use(name, argument, _, wrong):
    if argument in ZERO_IS_A_SIZE and wrong == "zero":
        pytest.skip("0 has a meaning")
    _build_wrongly(name, argument, WRONG_SIZES[wrong])


@pytest.mark.parametrize("wrong", WRONG_SIZES)
@pytest.mark.parametrize(("name", "argument", "_"), LISTS)
def test_a_constructor_names_the_list_of_sizes_it_cannot_use(name, argument, _, wrong):
    default = inspect.signature(getattr(losses, name)).parameters[argument].default
    n_sizes = len(default) if isinstance(default, tuple) else len(NEEDED.get(name, {}).get(argument, range(3)))
    _build_wrongly(name, argument, [WRONG_SIZES[wrong]] * n_sizes)
    _build_wrongly(name, argument, WRONG_SIZES[wrong])
    _build_wrongly(name, argument, 512)
    _build_wrongly(name, argument, "512")


@pytest.mark.parametrize("name", [name for name, argument, _ in _annotated({"torch.device | str | None"})])
def test_a_constructor_names_a_device_that_there_is_not(name):
    _build_wrongly(name, "device", "position_step")


@pytest.mark.parametrize("sizes", [np.array([256, 512]), range(256, 258), (np.int64(256), 512)])
def test_sizes_may_come_from_numpy(sizes):
    loss = losses.STFTL1SNRDBLoss(n_ffts=sizes, hop_lengths=[64, 128], win_lengths=[200, 200])
    assert loss(*(signal[:1] for signal in _waveforms())).isfinite()


@pytest.mark.parametrize("window", [None, math.nan, math.inf, (), ("kaiser",), ("kaiser", None), ("kaiser", math.nan)])
def test_a_window_that_cannot_be_made_is_refused(window):
    with pytest.raises(ValueError, match="window must be one of torch or scipy"):
        losses.STFTLoss(window=window)
    with pytest.raises(ValueError, match="window must be one of torch or scipy"):
        losses.RandomResolutionSTFTLoss(windows=["hann_window", window])


def test_every_module_can_be_imported_again():
    code = """
import importlib, sys, torch
from sepkit import losses
old = losses.MultiResolutionSTFTLoss()
names = [name for name in sys.modules if name.startswith("sepkit.losses")]
for _ in range(2):
    for name in names:
        importlib.reload(sys.modules[name])
for name in names:
    del sys.modules[name]
new = importlib.import_module("sepkit.losses").MultiResolutionSTFTLoss()
signals = torch.randn(2, 1, 1, 4000, requires_grad=True).unbind(0)
values = [loss(*signals) for loss in (old, new)]
gradients = [torch.autograd.grad(value, signals[0], retain_graph=True)[0] for value in values]
assert type(old) is not type(new) and torch.equal(*values) and torch.equal(*gradients)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=300)
