"""Metrics that come from other packages: their shapes and conventions, and the error where they are missing."""

import sys

import pytest
import torch

from sepkit.metrics import log_wmse, pesq, stoi


def speech_like(*shape, seed=0):
    """Make noise in bursts, so that there are pauses and something to be understood."""
    generator = torch.Generator().manual_seed(seed)
    bursts = torch.rand(-(-shape[-1] // 3000), generator=generator).repeat_interleave(3000)[: shape[-1]]
    return 0.1 * torch.randn(shape, generator=generator).cumsum(-1).sin() * bursts


@pytest.mark.parametrize(
    ("metric", "module", "package", "arguments"),
    [
        (log_wmse, "torch_log_wmse", "torch-log-wmse", {"mixture": torch.ones(1, 10)}),
        (pesq, "pesq", "pesq", {"sample_rate": 16000}),
        (stoi, "pystoi", "pystoi", {"sample_rate": 16000}),
    ],
)
def test_a_missing_package_is_named_with_the_remedy(monkeypatch, metric, module, package, arguments):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs the package {package}: pip install 'sepkit\[metrics\]'"):
        metric(torch.ones(1, 10), torch.ones(1, 10), **arguments)


def test_log_wmse_scores_each_item_alone():
    pytest.importorskip("torch_log_wmse")
    target, estimate = speech_like(3, 2, 2, 9000), speech_like(3, 2, 2, 9000, seed=1)
    target[0] = 0
    mixture = target + 0.1 * estimate
    scores = log_wmse(estimate, target, mixture)
    assert scores.shape == (3, 2)
    assert scores.isfinite().all()
    torch.testing.assert_close(scores[2, 1], log_wmse(estimate[2, 1], target[2, 1], mixture[2, 1]))
    assert log_wmse(target, target, mixture)[0, 0].item() == pytest.approx(73.68, abs=0.01)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_pesq_rises_when_the_estimate_improves(rate):
    pytest.importorskip("pesq")
    target, error = speech_like(2, 2, 2 * rate), speech_like(2, 2, 2 * rate, seed=1)
    poor, good = (pesq(target + gain * error, target, rate) for gain in (1.0, 0.01))
    assert poor.shape == (2,)
    assert (poor < good).all()


def test_pesq_of_a_silent_target_is_nan():
    pytest.importorskip("pesq")
    assert pesq(speech_like(1, 16000), torch.zeros(1, 16000), 16000).isnan()


@pytest.mark.parametrize("extended", [False, True])
def test_stoi_rises_when_the_estimate_improves(extended):
    pytest.importorskip("pystoi")
    target, error = speech_like(2, 2, 20000), speech_like(2, 2, 20000, seed=1)
    poor, good = (stoi(target + gain * error, target, 16000, extended) for gain in (2.0, 0.01))
    assert poor.shape == (2,)
    assert (poor < good).all()


def test_stoi_of_a_silent_target_is_nan():
    pytest.importorskip("pystoi")
    assert stoi(speech_like(1, 16000), torch.zeros(1, 16000), 16000).isnan()


def test_pesq_refuses_other_rates():
    with pytest.raises(ValueError, match="must be 16000 or 8000 Hz for PESQ, got 44100: resample"):
        pesq(torch.ones(1, 10), torch.ones(1, 10), 44100)


def test_log_wmse_refuses_another_mixture():
    with pytest.raises(ValueError, match=r"mixture must be shaped as target, \(1, 10\), got \(2, 10\)"):
        log_wmse(torch.ones(1, 10), torch.ones(1, 10), torch.ones(2, 10))


@pytest.mark.parametrize("metric", [pesq, stoi])
def test_shapes_are_refused(metric):
    with pytest.raises(ValueError, match=r"must both be \(\.\.\., C, T\), got \(1, 10\) and \(1, 11\)"):
        metric(torch.ones(1, 10), torch.ones(1, 11), 16000)
