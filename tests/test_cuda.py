"""On CUDA: training in every precision, without waits, and going on after a stop; separating what the CPU separates."""

import io
import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from networks import SMALL
from training import RECIPE, StopAfter, assert_equal, history, last_weights, stored_state, weights, write_songs

from sepkit import models
from sepkit.bag import join_members
from sepkit.inference import separate
from sepkit.model_folder import load_model
from sepkit.recipe import load_recipe
from sepkit.separator import Separator
from sepkit.training import TrainingInterrupted, train
from sepkit.training.loading import make_loader
from sepkit.training.loop import Trainer
from sepkit.training.train import open_data

pytestmark = pytest.mark.cuda
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, at the first product of matrices on the device

FUSED = "training.optimizer={class: AdamW, lr: 1e-2, fused: true}"
RECURRENT = {name: {"recurrence_from": 1} for name in ("Demucs", "HDemucs")}
TRANSFORMS = dict.fromkeys(("HDemucs", "HTDemucs"), "{class: STFT, n_fft: 256, hop_length: 64, framing: hops}")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture
def run(root, tmp_path):
    """Train the recipe on CUDA, changed by overrides."""

    def start(*overrides: str, folder: str = "run", **options) -> Path:
        given = {"data": root, "device": "cuda", "quiet": True, "log": lambda _: None, **options}
        return train(RECIPE, tmp_path / folder, overrides=[FUSED, *overrides], **given)

    return start


@pytest.fixture
def prepare(root):
    """Set a training up, and give the batches of its epoch, ready to be sent."""

    def build(*overrides: str) -> tuple[Trainer, list]:
        checked = load_recipe(RECIPE, [FUSED, *overrides], root)
        trainer = Trainer(checked, open_data(checked), torch.device("cuda"))
        return trainer, list(make_loader(trainer, 0, len(trainer.sampler)))

    return build


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_training_on_cuda_improves_and_keeps_float32_weights(run, precision):
    longer = ["training.epochs=8", "data.items_per_epoch=32", "training.ema=null", "validation.every=8"]
    folder = run(f"training.precision={precision}", *longer)
    rows = history(folder)
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    assert float(rows[-1]["SDR"]) > 3
    assert all(tensor.dtype == torch.float32 for tensor in weights(folder).values())


@pytest.mark.parametrize("name", models.__all__)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_does_not_wait_for_the_device(prepare, name, precision):
    network = json.dumps({"class": name, **SMALL.get(name, {}), **RECURRENT.get(name, {})})
    changes = [f"separator.transform={TRANSFORMS[name]}"] if name in TRANSFORMS else []
    take_unwaiting_step(*prepare(f"separator.network={network}", f"training.precision={precision}", *changes))


def test_a_step_with_recomputation_does_not_wait_for_the_device(prepare):
    network = json.dumps({"class": "BandSplitRoFormer", **SMALL["BandSplitRoFormer"], "dropout": 0.1})
    take_unwaiting_step(*prepare(f"separator.network={network}", "training.recompute=true"))


def test_normalising_does_not_wait_for_the_device(prepare):
    take_unwaiting_step(*prepare("separator.normalize=recording"))


def take_unwaiting_step(trainer: Trainer, batches: list) -> None:
    """Take the second step with waits as errors."""
    trainer.take_step(iter(batches[:1]))
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.take_step(iter(batches[1:2]))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.step == 2


def test_a_step_whose_gradient_overflows_is_left_out_and_the_scale_falls(prepare):
    trainer, batches = prepare("training.precision=float16")
    trainer.take_step(iter(batches[:1]))
    before = {name: tensor.clone() for name, tensor in trainer.separator.state_dict().items()}
    averaged = {name: tensor.clone() for name, tensor in trainer.ema.state_dict().items()}
    trainer.scaler.update(2.0**40)
    trainer.take_step(iter(batches[:1]))
    assert_equal(trainer.separator.state_dict(), before)
    assert_equal(trainer.ema.state_dict(), averaged)
    assert trainer.scaler.get_scale() == 2.0**39
    assert trainer.totals.sums["grad_norm"].isfinite()


@pytest.mark.slow
def test_a_compiled_training_has_the_losses_of_one_that_is_not(run):
    settings = ["separator.network.dropout=0"]  # which is drawn otherwise where it is compiled
    plain, compiled = (run(*settings, f"training.compile={word}", folder=word) for word in ("false", "true"))
    losses = [[float(row["loss"]) for row in history(folder)] for folder in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # sums are rounded otherwise


WAVEFORMS = [  # whose spectra are taken with a gradient
    f"separator.network={json.dumps({'class': 'ConvTasNet', **SMALL['ConvTasNet']})}",
    "losses=[{class: RelativeSpectralLoss}, {class: STFTLoss, fft_size: 128, hop_size: 32, win_length: 128}]",
]


@pytest.mark.parametrize("changes", [[], WAVEFORMS], ids=["spectra", "waveforms"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_training_stopped_on_cuda_goes_on_to_the_same_weights(run, precision, changes):
    settings = [f"training.precision={precision}", "training.deterministic=true", *changes]
    whole = run(*settings, folder="whole")
    with pytest.raises(TrainingInterrupted):
        run(*settings, observers=[StopAfter(2)])
    parts = run(*settings)
    assert_equal(last_weights(parts), last_weights(whole))
    assert_equal(weights(parts), weights(whole))


def test_a_training_that_goes_on_the_cpu_for_a_while_keeps_the_generator_of_cuda(run, tmp_path):
    found, plain = [], "training.optimizer={class: AdamW, lr: 1e-2}"
    for step, device in ((1, "cuda"), (2, "cpu")):
        with pytest.raises(TrainingInterrupted):
            run(plain, observers=[StopAfter(step)], device=device)
        found.append(stored_state(tmp_path / "run")["random"]["cuda"])
    assert torch.equal(*found)
    run(plain)


def test_a_state_of_cuda_can_be_read_where_there_is_none(prepare):
    trainer, batches = prepare()
    trainer.take_step(iter(batches[:1]))
    written = io.BytesIO()
    torch.save(trainer.checkpointer.state(), written)
    state = torch.load(io.BytesIO(written.getvalue()), map_location="cpu", weights_only=True)
    assert_equal(state["separator"], {name: value.cpu() for name, value in trainer.separator.state_dict().items()})


def test_a_model_separates_on_cuda_what_it_separates_on_the_cpu(run, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = load_model(run("training.epochs=1"))
    mixture = 0.1 * torch.randn(2, 40_000, generator=torch.Generator().manual_seed(0))
    wanted = separate(model.cpu(), mixture)
    found = separate(model.to("cuda"), mixture)
    for name, waveform in wanted.items():
        assert found[name].device.type == "cpu"
        torch.testing.assert_close(found[name], waveform, rtol=1e-3, atol=1e-5)  # other orders of float32 sums


@pytest.mark.parametrize("stems", [["a", "b"], ["b"]])
def test_a_bag_of_normalised_recordings_separates_on_cuda_what_it_separates_on_the_cpu(monkeypatch, stems):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    numbers = {"sources": ["a", "b"], "sample_rate": 8000, "segment": 0.5, "normalize": "recording"}
    members = [{**numbers, "network": {"class": name, **SMALL[name]}} for name in ("Demucs", "ConvTasNet")]
    torch.manual_seed(0)
    model = Separator(**join_members(members, [[1.0, 0.0], [1.0, 2.0]])).eval()
    mixture = 0.02 + 0.1 * torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))
    wanted = separate(model, mixture, stems=stems, shifts=2)
    found = separate(model.to("cuda"), mixture, stems=stems, shifts=2)
    for name, waveform in wanted.items():
        torch.testing.assert_close(found[name], waveform, rtol=1e-3, atol=1e-5)


def test_waits_are_noticed(prepare):
    """Show that the switch of the other test notices a wait."""
    prepare()
    value = torch.ones((), device="cuda")
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value.item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert any("synchroniz" in str(each.message) for each in caught)
