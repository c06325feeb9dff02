"""Smoke tests: the examples of the documentation and of the packages whose names the losses carry run as written.

What the losses give is held against the originals' numbers in test_losses_reference.py, and against laws in
test_losses_contract.py.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sepkit import losses

DOCUMENT = Path(__file__).parents[1] / "docs" / "losses.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_documentation_runs(example):
    torch.manual_seed(0)
    exec(compile(example, str(DOCUMENT), "exec"), {})


def test_the_documentation_names_every_loss():
    table = DOCUMENT.read_text(encoding="utf-8").split("## All of them")[1].split("## Differences")[0]
    assert {name for name in losses.__all__ if name.endswith("Loss")} <= set(re.findall(r"`(\w+)`", table))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# The namespaces of the originals, so that calls can be written as their pages write them.
auraloss = SimpleNamespace(time=losses, freq=losses, perceptual=losses)
sot = torch_l1_snr = losses


def test_the_one_line_example_of_auraloss_runs():
    mrstft = auraloss.freq.MultiResolutionSTFTLoss()
    assert mrstft(torch.rand(8, 1, 44100), torch.rand(8, 1, 44100)).dim() == 0


def test_the_perceptual_example_of_auraloss_runs():
    target, pred = torch.rand(8, 1, 131072), torch.rand(8, 1, 131072)
    loss_fn = auraloss.freq.MultiResolutionSTFTLoss(
        fft_sizes=[1024, 2048, 8192],
        hop_sizes=[256, 512, 2048],
        win_lengths=[1024, 2048, 8192],
        scale="mel",
        n_bins=128,
        sample_rate=44100,
        perceptual_weighting=True,
    )
    assert loss_fn(pred, target).isfinite()


def test_the_stereo_example_of_auraloss_runs():
    target, pred = torch.rand(8, 2, 44100), torch.rand(8, 2, 44100)
    loss_fn = auraloss.freq.SumAndDifferenceSTFTLoss(
        fft_sizes=[1024, 2048, 8192],
        hop_sizes=[256, 512, 2048],
        win_lengths=[1024, 2048, 8192],
        perceptual_weighting=True,
        sample_rate=44100,
        scale="mel",
        n_bins=128,
    )
    assert loss_fn(pred, target).isfinite()


@pytest.mark.filterwarnings("ignore:.*bands hold no bin")
@pytest.mark.parametrize(
    "make",
    [
        lambda: auraloss.freq.STFTLoss(w_log_mag=1.0, w_lin_mag=1.0, w_sc=0.0),
        lambda: auraloss.freq.MelSTFTLoss(44100, device="cpu"),
        lambda: auraloss.freq.MultiResolutionSTFTLoss(scale="mel", n_bins=64, sample_rate=44100, device="cpu"),
        lambda: auraloss.time.ESRLoss(),
        lambda: auraloss.time.DCLoss(),
        lambda: auraloss.time.LogCoshLoss(),
        lambda: auraloss.time.SNRLoss(),
        lambda: auraloss.time.SISDRLoss(),
        lambda: auraloss.time.SDSDRLoss(),
        lambda: auraloss.freq.STFTLoss(),
        lambda: auraloss.freq.MelSTFTLoss(44100),
        lambda: auraloss.freq.RandomResolutionSTFTLoss(),
    ],
)
def test_every_other_loss_of_auraloss_runs_as_its_pages_call_it(make):
    assert make()(torch.rand(2, 1, 32768), torch.rand(2, 1, 32768)).isfinite()


def test_the_transforms_of_auraloss_run_one_after_the_other():
    left_and_right = torch.rand(2, 2, 4410)
    total, difference = auraloss.perceptual.SumAndDifference()(left_and_right)
    filtered, _ = auraloss.perceptual.FIRFilter(filter_type="aw", fs=44100)(total, difference)
    assert filtered.shape == (2, 1, 4410)


@pytest.mark.parametrize(
    "loss_fn",
    [
        torch_l1_snr.MultiL1SNRDBLoss(name="multi_l1_snr_db_loss"),
        torch_l1_snr.L1SNRLoss(name="l1_snr_loss"),
        torch_l1_snr.L1SNRDBLoss(name="l1_snr_db_loss", use_regularization=True, l1_weight=0.1),
        torch_l1_snr.STFTL1SNRDBLoss(name="stft_l1_snr_db_loss", l1_weight=0.0),
        torch_l1_snr.MultiL1SNRDBLoss(
            name="multi_l1_snr_db_loss",
            weight=1.0,
            spec_weight=0.6,
            l1_weight=0.1,
            use_time_regularization=True,
            use_spec_regularization=False,
        ),
    ],
)
@pytest.mark.parametrize("shape", [(4, 32000), (4, 2, 44100)])
def test_the_examples_of_torch_l1_snr_run_backward(loss_fn, shape):
    estimates, targets = torch.randn(shape, requires_grad=True), torch.randn(shape)
    loss_fn(estimates, targets).backward()
    assert estimates.grad.isfinite().all()


def test_the_level_of_noise_is_that_of_its_power():
    levels = torch_l1_snr.dbrms(0.1 * torch.randn(4, 2, 44100))
    assert levels.tolist() == pytest.approx([-20.0] * 4, abs=0.1)


def test_the_example_of_sot_loss_runs():
    sot_loss = sot.Wasserstein1DLoss(
        transform="stft", fft_size=2048, hop_length=512, sample_rate=16000, window="flattop", square_magnitude=True
    )
    assert sot_loss(torch.randn(4, 16000), torch.randn(4, 16000)).isfinite()


def test_the_example_of_sot_loss_with_spectra_of_ones_own_runs():
    x_spec, y_spec = torch.rand(4, 65, 10), torch.rand(4, 65, 10)
    x_positions = y_positions = torch.linspace(0, 1, 65)
    sot_loss = sot.Wasserstein1DLoss(transform="identity", balanced=True, normalize=True)
    assert sot_loss(x_spec, y_spec, x_positions=x_positions, y_positions=y_positions).isfinite()


@pytest.mark.filterwarnings("ignore:component loss")
def test_the_examples_of_auralflow_run_backward():
    mask = torch.rand((16, 512, 173, 1)).float().requires_grad_()
    target, residual = torch.rand((16, 512, 173, 1)), torch.rand((16, 512, 173, 1))
    losses.component_loss(mask, target, residual, alpha=0.2, beta=0.8).backward()
    mu, sigma = torch.zeros((16, 256, 256)).requires_grad_(), torch.ones((16, 256, 256))
    losses.kl_div_loss(mu, sigma).backward()
    assert mask.grad.isfinite().all()
