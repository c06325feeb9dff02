"""`training.deterministic`: what it sets, puts back and refuses."""

import os
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn
from training import RECIPE, assert_equal, last_weights, write_songs

from sepkit import transforms
from sepkit.recipe import RecipeError, load_recipe
from sepkit.training import TrainingError, dry_run, train
from sepkit.training.determinism import deterministic_algorithms
from sepkit.transforms import STFT

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not used CUDA, without the variable of cuBLAS."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)


def switches() -> tuple:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )


@pytest.mark.parametrize("benchmark", [False, True])
@pytest.mark.parametrize("former", [(False, False), (True, True), (True, False)])
def test_torch_is_set_while_it_lasts_and_put_back(monkeypatch, benchmark, former):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", benchmark)
    torch.use_deterministic_algorithms(former[0], warn_only=former[1])
    try:
        with deterministic_algorithms(CPU):
            assert switches() == (True, False, False)
        with pytest.raises(KeyError), deterministic_algorithms(CPU):
            raise KeyError
        assert switches() == (*former, benchmark)
        with deterministic_algorithms(CPU, wanted=False):
            assert switches() == (*former, benchmark)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("fresh")
def test_cublas_is_set_for_cuda_alone_and_stays_so():
    with deterministic_algorithms(CPU):
        assert VARIABLE not in os.environ
    with deterministic_algorithms(CUDA):
        pass
    assert os.environ[VARIABLE] == ":4096:8"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("value", [":4096:8", ":16:8"])
def test_a_setting_of_cublas_that_repeats_sums_is_kept(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with deterministic_algorithms(CUDA):
        assert os.environ[VARIABLE] == value


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("value", [":4096:2:16:8", ""])
def test_another_setting_of_cublas_is_refused(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ValueError, match=rf"needs {VARIABLE}=:4096:8 in .*, but {VARIABLE}={value}: set it before Pyt"):
        deterministic_algorithms(CUDA).__enter__()


@pytest.mark.usefixtures("fresh")
def test_cuda_that_is_in_use_without_it_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(ValueError, match="but CUDA is in use without it: set it before Python starts"):
        deterministic_algorithms(CUDA).__enter__()
    assert switches()[0] is False


class Unrepeatable(nn.Module):
    """A loss by an operation that torch refuses on every device where results are to repeat.

    Args:
        backward: it does so in the gradient alone.
    """

    def __init__(self, backward: bool = False) -> None:
        super().__init__()
        self.backward = backward

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Return a value for each item."""
        difference = (estimate - target).flatten(1)
        return (_InGradient.apply(difference) if self.backward else _put(difference)).abs().mean(1)


def _put(values: Tensor) -> Tensor:
    return values.clone().put_(torch.tensor([0]), values.new_zeros(1))


class _InGradient(torch.autograd.Function):
    @staticmethod
    def forward(_context, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(_context, gradient: Tensor) -> Tensor:
        return _put(gradient)


@pytest.mark.parametrize("backward", ["false", "true"])
@pytest.mark.parametrize("job", [dry_run, train], ids=["dry run", "training"])
def test_an_operation_that_does_not_repeat_its_result_is_refused_by_name(root, tmp_path, monkeypatch, job, backward):
    monkeypatch.chdir(tmp_path)
    overrides = ["training.epochs=1", f"losses.0.backward={backward}"]
    recipe = {**RECIPE, "losses": [{"class": "test_determinism.Unrepeatable"}]}
    options = {"data": root, "device": "cpu", "log": str}
    if job is dry_run:
        job(recipe, overrides=overrides, **options)
    sentence = r"training\.deterministic needs operations that repeat .* no such put_ on cpu: choose a network, loss or"
    with pytest.raises(TrainingError, match=sentence):
        job(recipe, overrides=[*overrides, "training.deterministic=true"], **options)
    assert switches()[0] is False


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^something else$"), deterministic_algorithms(CPU):
        raise RuntimeError("something else")


def test_on_the_cpu_a_training_is_the_same(root, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("sepkit.training.afterwards"), "write_report", lambda *_: None)
    monkeypatch.setattr("sepkit.training.run_folder.RunFolder.draw", lambda *_: None)
    options = {"data": root, "device": "cpu", "log": str, "quiet": True}
    some = train(RECIPE, tmp_path / "some", overrides=["training.epochs=1"], **options)
    others = train(
        RECIPE, tmp_path / "others", overrides=["training.epochs=1", "training.deterministic=true"], **options
    )
    assert_equal(last_weights(some), last_weights(others))


def test_a_compiled_network_is_refused():
    with pytest.raises(RecipeError, match=r"training\.deterministic: must be false with training\.compile, which"):
        load_recipe(RECIPE, ["training.compile=true", "training.deterministic=true"], "demo")


@pytest.mark.parametrize(("left", "right", "n_samples"), [(0, 0, 5), (3, 2, 9), (0, 4, 5), (4, 0, 5), (8, 8, 9)])
def test_a_reflection_of_which_gradients_repeat_is_torchs_own(left, right, n_samples):
    signal = torch.randn(2, n_samples, dtype=torch.float64, requires_grad=True)
    found = []
    for wanted in (False, True):
        with deterministic_algorithms(CPU, wanted):
            padded = transforms._pad_within(signal, left, right, "reflect")
            found += [padded.detach(), *torch.autograd.grad(padded.square().sum(), signal)]
    torch.testing.assert_close(found[:2], found[2:], rtol=1e-14, atol=0)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("n_samples", [10, 100, 1000])
def test_a_transform_is_the_same(center, n_samples):
    waveform = torch.randn(2, n_samples)
    transform = STFT(n_fft=256, hop_length=64) if center else STFT(n_fft=256, hop_length=64, framing="hops")
    plain = transform(waveform)
    with deterministic_algorithms(CPU):
        assert torch.equal(transform(waveform), plain)
