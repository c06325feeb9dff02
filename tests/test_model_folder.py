"""Model folders: written as a whole, read without running what is in them, refused in one sentence."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from networks import SMALL, Constant
from safetensors.torch import load_file, save_file
from test_models import make_separator
from torch import Tensor, nn

from sepkit import models
from sepkit.model_folder import (
    CARD,
    FORMAT,
    WEIGHTS,
    ModelError,
    load_model,
    load_weights,
    read_card,
    save_model,
    write_card,
)
from sepkit.separator import Separator

NETWORK = {"class": "BLSTM", "hidden_size": 8, "n_layers": 1}
TRANSFORM = {"class": "STFT", "n_fft": 256, "hop_length": 128}
MIXTURE = torch.rand(1, 2, 4000, generator=torch.Generator().manual_seed(1))


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_bins, n_bins)
        self.second = nn.Linear(n_bins, n_bins)
        self.second.weight = self.first.weight

    def forward(self, mixture_spectrogram: Tensor) -> Tensor:
        return torch.sigmoid(self.second(self.first(mixture_spectrogram.abs().mT)).mT).unsqueeze(1)


def make(seed: int = 0, sources=("vocals",), **network) -> Separator:
    torch.manual_seed(seed)
    return Separator(list(sources), {**NETWORK, **network}, 8000, 2, 0.5, TRANSFORM).eval()


@pytest.fixture
def folder(tmp_path):
    save_model(make(), tmp_path / "model", {"data": "demo", "finished": "after 3 epochs"})
    return tmp_path / "model"


def change_card(folder, **changes) -> None:
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, **changes}))


def test_a_model_comes_back_as_it_was(folder):
    mixture = torch.rand(1, 2, 4000, generator=torch.Generator().manual_seed(1))
    loaded = load_model(folder)
    assert not loaded.training
    assert loaded.settings == make().settings
    assert torch.equal(loaded(mixture), make()(mixture))


def test_the_card_says_what_the_model_is_and_where_it_comes_from(folder):
    card = json.loads((folder / CARD).read_text())
    assert card["format"] == FORMAT
    assert card["separator"] == make().settings
    assert (card["data"], card["finished"]) == ("demo", "after 3 epochs")


def test_only_the_two_files_are_needed_and_written(folder):
    assert sorted(os.listdir(folder)) == [CARD, WEIGHTS]


def test_weights_that_share_memory_are_written_and_read(tmp_path):
    tied = Separator(["vocals"], {"class": "test_model_folder.Tied"}, 8000, 2, 0.5, TRANSFORM)
    save_model(tied, tmp_path)
    loaded = load_model(tmp_path, trust=True)
    assert torch.equal(loaded.network.second.weight, tied.network.first.weight)


def test_a_class_from_elsewhere_is_imported_only_when_trusted(tmp_path):
    save_model(Separator(["vocals"], {"class": "networks.Constant", "gains": [0.5]}), tmp_path)
    with pytest.raises(ModelError, match=r"'networks\.Constant' is not one of sepkit's own.*--trust"):
        load_model(tmp_path)
    assert isinstance(load_model(tmp_path, trust=True).network, Constant)


@pytest.mark.parametrize("name", ["os.system", "sepkit.cli.Path", "sepkit.models.blstm.np"])
def test_a_card_cannot_name_what_is_no_network(folder, name):
    change_card(folder, separator={**make().settings, "network": {"class": name}})
    with pytest.raises(ModelError, match=r"model\.json describes no separator"):
        load_model(folder)


@pytest.mark.parametrize("changes", [{"k" * 100_000: 1}, {"network": {"class": "BLSTM", "hidden_size": 10**30}}])
def test_what_is_wrong_with_a_card_is_said_in_a_short_line(folder, changes):
    change_card(folder, separator={**make().settings, **changes})
    with pytest.raises(ModelError, match=r"model\.json describes no separator: ") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(folder))


def test_a_card_cannot_declare_itself_trusted(folder):
    change_card(folder, separator={**make().settings, "trusted": True})
    with pytest.raises(ModelError, match=r"model\.json describes no separator: .*multiple values.*'trusted'"):
        load_model(folder)


@pytest.mark.parametrize("missing", [CARD, WEIGHTS])
def test_a_missing_file_is_named(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(ModelError, match=rf"model is no model folder: {missing} missing, give a training run's"):
        load_model(folder)


@pytest.mark.parametrize("refused", ["model.json", "model.safetensors"])
def test_what_may_not_be_read_is_told_with_its_permissions(folder, monkeypatch, refused):
    def ask(path, *given, **named):
        if path.name == refused:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *given, **named)

    opened = Path.open
    monkeypatch.setattr(Path, "open", ask)
    with pytest.raises(ModelError, match=rf"{refused} cannot be read: Permission denied, check its permissions$"):
        load_model(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere is no model folder: model\.json and model\.safetensors missing"):
        load_model(tmp_path / "nowhere")


def test_a_newer_format_is_refused(folder):
    change_card(folder, format=FORMAT + 1)
    with pytest.raises(ModelError, match=f"has format {FORMAT + 1}, sepkit reads {FORMAT}: install a newer one"):
        load_model(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"format": "x"}', b'{"format": 1, "separator": 3}']
)
def test_a_damaged_card_is_refused(folder, content):
    (folder / CARD).write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.json is not a model card \(.*\): train again, or copy it again"):
        read_card(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 0}, "sample_rate: must be a whole number, at least 1, got 0"),
        ({"sample_rate": "fast"}, "describes no separator"),
        ({"sources": []}, "sources: must be a list"),
        ({"colour": "red"}, "unexpected keyword argument 'colour'"),
        ({"network": {"class": "BLSTM", "hidden_sise": 8}}, "did you mean 'hidden_size'"),
        ({"network": {"class": "BLSTM", "hidden_size": -8}}, "describes no separator"),
        ({"network": None}, "describes no separator"),
    ],
)
def test_a_card_that_describes_no_separator_is_refused(folder, changes, message):
    change_card(folder, separator={**make().settings, **changes})
    with pytest.raises(ModelError, match=message) as raised:
        load_model(folder)
    assert str(folder / CARD) in str(raised.value)


@pytest.mark.parametrize("damage", [lambda raw: raw[:-50], lambda raw: raw[:4], lambda raw: b"\xff" * len(raw)])
def test_damaged_weights_are_refused(folder, damage):
    path = folder / WEIGHTS
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged \(.*\): copy it again"):
        load_model(folder)


@pytest.mark.parametrize(
    "other",
    [{"n_layers": 2}, {"hidden_size": 12}, {"sources": ("vocals", "drums")}],
    ids=["n_layers", "hidden_size", "sources"],
)
def test_weights_of_another_model_are_refused_with_their_names(folder, other):
    with pytest.raises(ModelError, match=r"does not fit this separator: network\..* differ, give") as raised:
        load_weights(make(**other), folder)
    assert "\n" not in str(raised.value)


def test_weights_are_taken_without_looking_at_the_classes_of_the_card(folder):
    change_card(folder, separator={**make().settings, "network": {"class": "evil.Network"}})
    separator = make(seed=5)
    load_weights(separator, folder)
    for name, tensor in load_file(folder / WEIGHTS).items():
        assert torch.equal(separator.state_dict()[name], tensor)


def test_an_additional_weight_is_refused(folder):
    save_file({**load_file(folder / WEIGHTS), "extra": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match="extra differ"):
        load_model(folder)


def test_a_kill_between_card_and_weights_is_told_at_load_and_mended_by_the_next_save(folder, monkeypatch):
    replace, calls = os.replace, []

    def stop_at_the_second(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        save_model(make(seed=1), folder)
    monkeypatch.undo()
    assert sorted(os.listdir(folder)) == [CARD, WEIGHTS]
    with pytest.raises(ModelError, match=r"model\.json and model\.safetensors are of two different saves, .* train on"):
        load_model(folder)
    save_model(make(seed=1), folder)
    assert torch.equal(load_model(folder)(MIXTURE), make(seed=1)(MIXTURE))


@pytest.mark.parametrize("named", [False, True], ids=["by an older version", "by another program"])
def test_weights_without_the_hash_of_their_card_are_taken(folder, named):
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS)
    if not named:
        change_card(folder, weights=None)
    assert torch.equal(load_model(folder)(MIXTURE), make()(MIXTURE))


def test_a_card_written_later_belongs_to_the_weights_that_are_there(folder):
    write_card(make(), folder, {"finished": "later"})
    assert read_card(folder)["finished"] == "later"
    assert torch.equal(load_model(folder)(MIXTURE), make()(MIXTURE))


def test_equal_models_are_equal_files(folder, tmp_path):
    save_model(make(), tmp_path / "again", {"data": "demo", "finished": "after 3 epochs"})
    for name in (CARD, WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def header(text: str | bytes, data: bytes = bytes(64)) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return len(raw).to_bytes(8, "little") + raw + data


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        (2**63).to_bytes(8, "little"),
        header(100_000 * "["),
        header("[]"),
        header("3"),
        header('{"__metadata__": 3}'),
        header('{"a": {"dtype": "F32", "shape": [4611686018427387904, 16], "data_offsets": [0, 64]}}'),
        header('{"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 640]}}'),
        header(b'{"\xff'),
    ],
    ids=lambda raw: repr(raw[8:28]),
)
def test_a_hostile_header_of_weights_is_damage_in_one_line(folder, raw):
    (folder / WEIGHTS).write_bytes(raw)
    with pytest.raises(ModelError, match=r"^[^\n]*model\.safetensors is damaged \([^\n]*\): copy it again$"):
        load_model(folder)


def test_hostile_names_of_weights_are_told_in_one_short_line(folder):
    save_file({5000 * "\n\x1b[31m": torch.zeros(1)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"^[^\n\x1b]{1,600}$"):
        load_model(folder)


def test_weights_of_complex_numbers_do_not_lose_half_of_them(folder):
    weights = load_file(folder / WEIGHTS)
    name = next(iter(weights))
    save_file({**weights, name: weights[name].to(torch.complex64)}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=f"{name} differ"):
        load_model(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_folder_whose_name_is_no_text_holds_a_model(tmp_path):
    save_model(make(), tmp_path / "m\udce9")
    assert torch.equal(load_model(tmp_path / "m\udce9")(MIXTURE), make()(MIXTURE))


@pytest.mark.parametrize(
    "name", ["../x", "..", "a/b", "a\\b", "con", "x.", "x ", "a\0", "\n", "\udce9", "Mixture", 252 * "x"]
)
def test_a_card_cannot_name_a_stem_that_leaves_the_output_or_that_some_system_refuses(folder, name):
    change_card(folder, separator={**make().settings, "sources": [name]})
    with pytest.raises(ModelError, match=r"a source must be a name that files can have|'Mixture' is what the sources"):
        load_model(folder)


@pytest.mark.parametrize("names", [["Vocals", "vocals"], ["\u00e9", "e\u0301"], [3], [None]])
def test_a_card_cannot_name_stems_that_some_system_takes_for_one(folder, names):
    change_card(folder, separator={**make().settings, "sources": names})
    with pytest.raises(ModelError, match=r"each source must be named once|sources.0: must be a name"):
        load_model(folder)


def test_a_score_that_is_no_number_is_not_written_as_one(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_model(make(), tmp_path, {"validation": float("nan")})


def test_the_weights_can_be_read_by_whoever_can_read_the_card(folder):
    assert (folder / WEIGHTS).stat().st_mode == (folder / CARD).stat().st_mode


@pytest.mark.parametrize("name", [*models.__all__, "LoRA"])
def test_all_of_a_model_comes_back_though_its_weights_are_not_drawn(tmp_path, name):
    model = make_separator({"class": name, **SMALL.get(name, {})}).eval()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    check_same(dict(loaded.named_parameters()), dict(model.named_parameters()))
    check_same(dict(loaded.named_buffers()), dict(model.named_buffers()))
    mixture = torch.randn(1, 2, 1600, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded(mixture), model(mixture))


def check_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert [tensor.requires_grad for tensor in found.values()] == [t.requires_grad for t in expected.values()]


def test_training_a_loaded_model_leaves_its_file_as_it_was(folder):
    before = (folder / WEIGHTS).read_bytes()
    with torch.no_grad():
        for weight in load_model(folder).parameters():
            weight.add_(1)
    assert (folder / WEIGHTS).read_bytes() == before


def test_weights_have_the_precision_of_the_network_whatever_that_of_the_file(folder):
    weights = load_file(folder / WEIGHTS)
    save_file({name: tensor.half() for name, tensor in weights.items()}, folder / WEIGHTS)
    found = load_model(folder).state_dict()
    assert all(torch.equal(found[name], tensor.half().float()) for name, tensor in weights.items())


def test_loading_draws_no_weights(folder, monkeypatch):
    drawn = []
    uniform = torch.nn.init._no_grad_uniform_
    monkeypatch.setattr(
        torch.nn.init,
        "_no_grad_uniform_",
        lambda weight, *rest, **more: (drawn.append(weight.is_meta), uniform(weight, *rest, **more))[1],
    )
    load_model(folder)
    assert drawn
    assert all(drawn)
