"""The examples of the documentation, and those of the packages whose names the losses carry, run."""

import re
from pathlib import Path

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


def test_auraloss_one_line():
    mrstft = losses.MultiResolutionSTFTLoss()
    assert mrstft(torch.rand(8, 1, 44100), torch.rand(8, 1, 44100)).dim() == 0


def test_auraloss_stereo():
    target, pred = torch.rand(2, 2, 32768), torch.rand(2, 2, 32768)
    loss_fn = losses.SumAndDifferenceSTFTLoss(
        fft_sizes=[1024, 2048, 8192],
        hop_sizes=[256, 512, 2048],
        win_lengths=[1024, 2048, 8192],
        perceptual_weighting=True,
        sample_rate=44100,
        scale="mel",
        n_bins=128,
    )
    assert loss_fn(pred, target).isfinite()


@pytest.mark.parametrize(
    "loss_fn",
    [
        losses.MultiL1SNRDBLoss(name="multi_l1_snr_db_loss"),
        losses.L1SNRLoss(name="l1_snr_loss"),
        losses.L1SNRDBLoss(name="l1_snr_db_loss", use_regularization=True, l1_weight=0.1),
        losses.STFTL1SNRDBLoss(name="stft_l1_snr_db_loss", l1_weight=0.0),
        losses.MultiL1SNRDBLoss(
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
def test_torch_l1_snr(loss_fn, shape):
    estimates, targets = torch.randn(shape, requires_grad=True), torch.randn(shape)
    loss_fn(estimates, targets).backward()
    assert estimates.grad.isfinite().all()


def test_sot_loss():
    sot_loss = losses.Wasserstein1DLoss(
        transform="stft", fft_size=2048, hop_length=512, sample_rate=16000, window="flattop", square_magnitude=True
    )
    assert sot_loss(torch.randn(4, 16000), torch.randn(4, 16000)).isfinite()


@pytest.mark.filterwarnings("ignore:component loss")
def test_auralflow():
    mask = torch.rand((16, 512, 173, 1)).float().requires_grad_()
    target, residual = torch.rand((16, 512, 173, 1)), torch.rand((16, 512, 173, 1))
    losses.component_loss(mask, target, residual, alpha=0.2, beta=0.8).backward()
    mu, sigma = torch.zeros((16, 256, 256)).requires_grad_(), torch.ones((16, 256, 256))
    losses.kl_div_loss(mu, sigma).backward()
    assert mask.grad.isfinite().all()
