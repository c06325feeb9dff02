"""The losses give the numbers of the packages whose names they carry: values, gradient norms, gradient samples."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sepkit import losses


def _cases() -> list:
    root = os.environ.get("SEPKIT_REFERENCE")
    path = Path(root or ".") / "goldens" / "losses" / "cases.json"
    if not root or not path.is_file():
        return [pytest.param(None, marks=pytest.mark.skip("SEPKIT_REFERENCE does not name the reference values"))]
    return [pytest.param(case, id=case["name"]) for case in json.loads(path.read_text())]


@pytest.fixture(scope="module")
def signals(reference_root):
    with np.load(reference_root / "goldens" / "losses" / "inputs.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _formula(case):
    kwargs = dict(case["kwargs"])
    tiny = {"eps": 1e-30}
    negative = lambda loss: lambda *inputs: -loss(*inputs)  # noqa: E731
    name = case["cls"]
    if name in ("component_loss", "kl_div_loss"):
        return lambda *inputs: getattr(losses, name)(*inputs, **kwargs)
    return {
        "si_sdr": lambda: negative(losses.SISDRLoss(**kwargs, **tiny)),
        "sd_sdr": lambda: negative(losses.SDSDRLoss(**kwargs, **tiny)),
        "snr": lambda: negative(losses.SNRLoss(**kwargs, **tiny)),
        "logcosh_stable": lambda: losses.LogCoshLoss(**kwargs, eps=0.0),
        "esr_plain": lambda: losses.ESRLoss(**tiny),
        "dc_plain": lambda: losses.DCLoss(**tiny),
    }[name]()


def _build(case, signals, dtype):
    if case["call"] == "plain":
        return _formula(case)
    name = case["cls"].rsplit(".", 1)[1]
    extra = {key: signals[value].to(dtype) for key, value in case["call_kwargs"].items()}
    if case["call"] == "function":
        function = getattr(losses, name)
        weights = ("u_weights", "v_weights")
        if name.startswith("wasserstein"):
            return lambda *inputs: function(**dict(zip(weights, inputs, strict=True)), **extra, **case["kwargs"])
        return lambda *inputs: function(*inputs, **case["kwargs"])
    kwargs = dict(case["kwargs"])
    if isinstance(kwargs.get("time_loss_module"), dict):
        kwargs["time_loss_module"] = losses.L2SNRLoss("t")
    loss = getattr(losses, name)(*case["args"], **kwargs)
    method = getattr(loss, case["call"].removeprefix("method:"))
    return lambda *inputs: method(*inputs, **extra)


def _objective(case, output):
    if case["objective"] == "first":
        return output[0]
    if case["objective"] == "sum":
        return output.sum()
    if case["objective"] == "sumsq":
        first = output[0] if isinstance(output, tuple) else output
        return first.square().sum()
    return output


def _run(case, signals, dtype):
    inputs = [signals[name].to(dtype) for name in case["inputs"]]
    inputs[0] = inputs[0].clone().requires_grad_()
    value = _objective(case, _build(case, signals, dtype)(*inputs))
    value.backward()
    return value.item(), inputs[0].grad


def _skip_known_differences(case):
    per_bin = case["cls"].endswith("STFTLoss") and case["kwargs"].get("reduction") == "none"
    if per_bin:
        pytest.skip("one value per bin in the original, one per item and channel here")
    if case["cls"] == "usdr":
        pytest.skip("a metric")


@pytest.mark.filterwarnings("ignore:component loss", "ignore:time_loss_module is used")
@pytest.mark.parametrize("case", _cases())
def test_a_float32_loss_gives_the_value_and_the_gradient_of_the_original(case, signals):
    _skip_known_differences(case)
    value, gradient = _run(case, signals, torch.float32)
    assert value == pytest.approx(case["value"], rel=case["rtol"], abs=case["atol"])
    if case["grad_check"]:
        tolerance = {"rel": case["grad_rtol"], "abs": case["grad_atol"]}
        assert gradient.norm().item() == pytest.approx(case["grad_norm"], **tolerance)
        where, expected = zip(*case["grad_samples"], strict=True)
        assert gradient.flatten()[list(where)].tolist() == pytest.approx(list(expected), **tolerance)


@pytest.mark.filterwarnings("ignore:component loss", "ignore:time_loss_module is used")
@pytest.mark.parametrize("case", _cases())
def test_a_float64_loss_gives_the_value_and_the_gradient_of_the_original_to_nine_digits(case, signals):
    _skip_known_differences(case)
    if case["kwargs"].get("transform") in ("cqt", "vqt"):
        pytest.skip("the original computes in float32 whatever it is given")
    value, gradient = _run(case, signals, torch.float64)
    assert value == pytest.approx(case["value"], rel=1e-9, abs=1e-12)
    if case["grad_check"]:
        assert gradient.norm().item() == pytest.approx(case["grad_norm"], rel=1e-9, abs=1e-12)
        where, expected = zip(*case["grad_samples"], strict=True)
        close = {"rel": 1e-9, "abs": 1e-9 * case["grad_max"] + 1e-15}
        assert gradient.flatten()[list(where)].tolist() == pytest.approx(list(expected), **close)
