"""Weights that stay in their file: the same samples in less memory, and a sentence where that cannot be."""

import os
import re
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_models_band_split_roformer import VARIANTS
from torch import Tensor

from sepkit import audio, lending, model_folder, separate
from sepkit.bag import join_members
from sepkit.cli import separate_command
from sepkit.model_folder import WEIGHTS, ModelError, load_model, save_model
from sepkit.separator import Separator

MIXTURE = torch.rand(1, 2, 4000, generator=torch.Generator().manual_seed(1))
NETWORK = {"class": "BandSplitRoFormer", "hidden_size": 8, "n_layers": 2, "n_heads": 2, "head_size": 4}


def make(variant: str = "mel", **network) -> Separator:
    torch.manual_seed(0)
    transform = {"class": "STFT", "n_fft": 64, "hop_length": 32}
    return Separator(["vocals", "other"], {**NETWORK, **VARIANTS[variant], **network}, 8000, 2, 0.5, transform).eval()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(lending, "_LEAST", 1)
    save_model(make(), tmp_path / "model")
    return tmp_path / "model"


@torch.no_grad()
def separated(model: Separator) -> Tensor:
    return model(MIXTURE)


def n_held(model: Separator) -> int:
    """Count the values in memory."""
    return sum(weight.untyped_storage().nbytes() for weight in model.parameters()) // 4


@pytest.mark.parametrize("variant", ["BS", "mel", "all", "plain masks"])
def test_a_model_whose_weights_stay_in_the_file_separates_the_same(folder, variant):
    save_model(make(variant), folder)
    lent = load_model(folder, on_demand=True)
    assert torch.equal(separated(lent), separated(load_model(folder)))
    assert torch.equal(separated(lent), separated(make(variant)))


@pytest.mark.parametrize("kind", ["Bag", "LoRA"])
def test_parts_of_other_networks_lend_too(folder, kind):
    settings = make().settings
    if kind == "Bag":
        settings = join_members([settings, settings], [[1.0, 0.5], [1.0, 1.0]])
    else:
        settings["network"] = {"class": "LoRA", "rank": 2, "network": settings["network"]}
    torch.manual_seed(0)
    model = Separator(**settings).eval()
    save_model(model, folder)
    lent = load_model(folder, on_demand=True)
    assert n_held(lent) < 0.8 * n_held(model)
    assert torch.equal(separated(lent), separated(model))


def test_members_of_a_bag_lend_all_their_weights(folder):
    torch.manual_seed(0)
    member = Separator(["vocals", "other"], {"class": "BLSTM", "hidden_size": 8}, 8000, 2, 0.5).settings
    model = Separator(**join_members([member, make().settings])).eval()
    save_model(model, folder)
    lent = load_model(folder, on_demand=True)
    assert torch.equal(separated(lent), separated(model))
    assert n_held(lent.network.members[0]) < 0.1 * n_held(model.network.members[0])
    mixture = torch.rand(2, 9000, generator=torch.Generator().manual_seed(2))
    for stem, expected in zip(
        separate(lent, mixture, sample_rate=8000).values(),
        separate(model, mixture, sample_rate=8000).values(),
        strict=True,
    ):
        assert torch.equal(stem, expected)


def test_a_copy_reads_the_same_file(folder):
    lent = load_model(folder, on_demand=True)
    assert torch.equal(separated(deepcopy(lent)), separated(make()))
    separated(copied := deepcopy(lent))
    assert n_held(copied) == n_held(lent)


def test_between_calls_most_weights_are_not_in_memory(folder):
    lent = load_model(folder, on_demand=True)
    separated(lent)
    assert n_held(lent) < 0.6 * n_held(load_model(folder))
    assert [weight.shape for weight in lent.parameters()] == [weight.shape for weight in make().parameters()]


def test_a_file_in_half_precision_gives_weights_in_that_of_the_network(folder):
    half = {name: tensor.half() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(half, folder / WEIGHTS)
    assert torch.equal(separated(load_model(folder, on_demand=True)), separated(load_model(folder)))


def test_a_lent_model_follows_a_change_of_precision(folder):
    lent, held = load_model(folder, on_demand=True).double(), load_model(folder).double()
    with torch.no_grad():
        assert torch.equal(lent(MIXTURE.double()), held(MIXTURE.double()))
    assert n_held(lent) < 0.6 * n_held(held)


def test_few_weights_are_loaded(tmp_path):
    save_model(make(), tmp_path)
    loaded = load_model(tmp_path, on_demand=True)
    assert n_held(loaded) == n_held(make())
    assert loaded.state_dict().keys() == make().state_dict().keys()


def test_a_network_that_lends_none_is_loaded(folder):
    torch.manual_seed(0)
    model = Separator(["vocals"], {"class": "BLSTM", "hidden_size": 8}, 8000).eval()
    save_model(model, folder)
    assert torch.equal(separated(load_model(folder, on_demand=True)), separated(model))


def test_a_file_that_is_replaced_meanwhile_stays_the_one_that_was_loaded(folder):
    lent = load_model(folder, on_demand=True)
    if os.name == "nt":
        pytest.skip("an open file cannot be replaced")
    save_model(make(n_mask_layers=1), folder)
    assert torch.equal(separated(lent), separated(make()))


@pytest.mark.parametrize("damage", [lambda raw: raw[:-400], lambda raw: raw[:-4] + bytes(4), lambda raw: raw + b"\0"])
def test_a_file_that_is_overwritten_meanwhile_is_told(folder, damage):
    lent = load_model(folder, on_demand=True)
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(damage(raw))
    os.utime(folder / WEIGHTS, (0, 0))
    with pytest.raises(ValueError, match=r"model\.safetensors was changed while it was used: separate again"):
        separated(lent)


def test_a_file_that_cannot_be_read_any_more_is_told(folder, monkeypatch):
    lent = load_model(folder, on_demand=True)

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lending.WeightsFile, "_observe", fail)
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read any more: Input/output error"):
        separated(lent)


def test_a_call_that_fails_leaves_the_weights_in_the_file(folder):
    lent = load_model(folder, on_demand=True)
    n_values = n_held(lent)
    part = lent.network.core.masks[0].layers[0]
    with pytest.raises(RuntimeError), torch.no_grad():
        part(torch.zeros(1, 1, 1))
    assert n_held(lent) == n_values
    assert torch.equal(separated(lent), separated(make()))


def test_lent_weights_are_neither_trained_nor_saved(folder, tmp_path):
    lent = load_model(folder, on_demand=True)
    with pytest.raises(
        ValueError, match=r"serve no gradients: load the model without on_demand, or call it in no_grad"
    ):
        lent.network.core.masks[0].layers[0](torch.zeros(1, 1, 8))
    with pytest.raises(ValueError, match=r"are not in the state: load the model without on_demand"):
        save_model(lent, tmp_path / "other")


@pytest.mark.parametrize("damage", [lambda raw: raw[:-50], lambda raw: raw[:4], lambda raw: b"\xff" * len(raw)])
def test_damaged_weights_are_refused_as_ever(folder, damage):
    path = folder / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged \(.*\): copy it again"):
        load_model(folder, on_demand=True)


def test_lent_weights_of_another_shape_are_refused_by_name(folder):
    weights = load_file(folder / WEIGHTS)
    name = next(name for name in weights if re.search(r"masks.*weight", name))
    save_file({**weights, name: weights[name][..., :-1].contiguous()}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=f"{re.escape(name)} differ"):
        load_model(folder, on_demand=True)


def test_the_command_leaves_weights_in_the_file_and_writes_the_same(folder, tmp_path, monkeypatch, capsys):
    song, lent = tmp_path / "song.wav", []
    audio.write(song, MIXTURE[0], 8000)
    monkeypatch.setattr(model_folder, "lend", lambda *parts: (lent.append(parts), lending.lend(*parts)))
    assert separate_command([str(song), "--model", str(folder), "--output", str(tmp_path), "--device", "cpu"]) == 0
    assert lent
    capsys.readouterr()
    for name, stem in separate(load_model(folder), song).items():
        assert torch.equal(audio.read(tmp_path / "song" / f"{name}.wav")[0], stem)
