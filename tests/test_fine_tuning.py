"""Training on from a model: what is taken from it, what is new, what stays frozen, LoRA, and what is left behind."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from networks import SMALL
from safetensors import safe_open
from safetensors.torch import load_file
from test_models import TRANSFORMS
from torch import nn
from training import RECIPE, SOURCES, StopAfter, assert_equal, last_weights, skip_report, weights, write_songs

from sepkit import models
from sepkit.bag import join_members
from sepkit.cli import train_command
from sepkit.model_folder import load_model, read_card, save_model
from sepkit.models.lora import LoRA
from sepkit.recipe import RecipeError, load_recipe
from sepkit.separator import Separator
from sepkit.training import TrainingInterrupted, dry_run, train
from sepkit.training.loop import Trainer
from sepkit.training.recomputation import recompute_blocks
from sepkit.training.train import open_data
from sepkit.training.weights import describe_weights, load_base, plain_separator, plan_inheritance

PARTS = {key: value for key, value in RECIPE.items() if key != "separator"}
FROZEN = ("core.encode.*", "core.recurrence.*")
LORA = {"class": "LoRA", "rank": 2}
every_network = pytest.mark.parametrize("name", models.__all__)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))


def make_separator(network: dict, sources=SOURCES, **changes) -> Separator:
    torch.manual_seed(1)
    settings = {**RECIPE["separator"], "sources": list(sources), "network": network, **changes}
    separator = Separator(**settings)
    with torch.no_grad():  # so that nothing is as it is when it is drawn
        for parameter in separator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return separator.eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model of the small recipe's network, for vocals and drums."""
    folder = tmp_path_factory.mktemp("models") / "base"
    save_model(make_separator(RECIPE["separator"]["network"]), folder, {"licence": "CC0-1.0"})
    return folder


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """Train on from a model, without report and curves; return the run folder and what was logged."""
    skip_report(monkeypatch)

    def start(separator: dict, *overrides: str, folder: str = "run", **options) -> tuple[Path, str]:
        lines: list[str] = []
        recipe = {**PARTS, "separator": separator}
        given = {"data": root, "device": "cpu", "quiet": True, "log": lines.append, **options}
        return train(recipe, tmp_path / folder, overrides=overrides, **given), "\n".join(lines)

    return start


def trainer_of(root: Path, separator: dict, *overrides: str, **training) -> Trainer:
    recipe = {**PARTS, "separator": separator, "training": {**PARTS["training"], **training}}
    checked = load_recipe(recipe, overrides, data=root)
    return Trainer(checked, open_data(checked), torch.device("cpu"))


def sound(n_items: int = 1) -> torch.Tensor:
    return 0.1 * torch.randn(n_items, 2, 4000, generator=torch.Generator().manual_seed(2))


# What is taken


def test_settings_and_weights_are_the_models(run, base):
    folder, log = run({"from": str(base)}, "training.optimizer.lr=1e-12", "training.epochs=1")
    card, of_base = read_card(folder), read_card(base)
    assert card["separator"] == of_base["separator"]
    for name, tensor in weights(base).items():
        torch.testing.assert_close(weights(folder)[name], tensor)
    assert card["base"] == {"model": "base", "weights": of_base["weights"], "licence": "CC0-1.0"}
    assert card["licence"] is None  # of the songs
    stated = yaml.safe_load((folder / "recipe.yaml").read_text())["separator"]["from"]
    assert stated == {"model": str(base), "weights": of_base["weights"], "licence": "CC0-1.0"}
    assert (
        f"weights from {base} ({of_base['weights'][:8]}, licence CC0-1.0): {len(weights(base))} kept, none new" in log
    )


def test_the_recipe_that_a_run_writes_down_can_be_trained(base, run):
    folder, _ = run({"from": str(base), "network": LORA}, "training.epochs=1")
    assert load_recipe(folder / "recipe.yaml").differences(yaml.safe_load((folder / "recipe.yaml").read_text())) == []


def test_keys_beside_it_change_its_settings(base, root):
    changes = {"segment": 0.25, "chunking": {"overlap": 0.5}, "postfilter": {"class": "WienerFilter", "iterations": 1}}
    separator = trainer_of(root, {"from": str(base), **changes, "network": {"dropout": 0.5}}).separator
    expected = {**read_card(base)["separator"], **changes}
    expected["network"] = {**expected["network"], "dropout": 0.5}
    assert separator.settings == expected


def test_the_score_before_the_first_step_and_what_was_gained_are_told(run, base):
    _, log = run({"from": str(base)}, "training.epochs=1")
    before = float(re.search(r"^before the first step: (\S+) dB SDR$", log, re.MULTILINE)[1])
    after, gain, relation = re.search(r"with (\S+) dB SDR, (\S+) dB (above|below) that of the model", log).groups()
    assert float(after) - before == pytest.approx(float(gain) * (1 if relation == "above" else -1), abs=0.011)


def test_a_network_that_fits_keeps_the_statistics_of_the_model(run, base):
    folder, _ = run({"from": str(base)}, "training.epochs=1")
    assert torch.equal(weights(folder)["network.core.mean"], weights(base)["network.core.mean"])


@pytest.mark.parametrize(
    ("separator", "message"),
    [
        ({"network": {"hidden_size": 24}}, r"network\.hidden_size: must be 16, as in .*, or left out, got 24: core\."),
        ({"network": {**LORA, "network": {"n_layers": 3}}}, r"network\.network\.n_layers: must be 2, as in .* got 3"),
        ({"network": {"class": "OpenUnmix"}}, r"network\.class: must be BLSTM, as in .*: its weights fit no OpenUnmix"),
        ({"sample_rate": 16000}, r"sample_rate: must be 8000, for which the weights of .* were made, or left out"),
        ({"n_channels": 1}, r"n_channels: must be 2, for which the weights"),
        ({"transform": {"class": "STFT", "n_fft": 256, "hop_length": 64}}, r"transform: must be .*, for which the"),
        ({"normalize": "recording"}, r"normalize: must be null, for which the weights"),
        ({"network": {"dropuot": 0.1}}, "dropuot: BLSTM has no such argument; did you mean 'dropout'"),
        ({"network": {**LORA, "targets": ["core.encod.*"]}}, r"matches none; did you mean 'core\.encode\.\*'"),
        ({"network": {**LORA, "targets": ["core.recurrence.*"]}}, "matches core.recurrence.weight_ih_l0, .* more"),
        ({"network": {**LORA, "rank": 0}}, "rank: must be at least 1, got 0"),
        ({"sources": ["piano"], "network": {"class": "OpenUnmix"}}, "must be BLSTM"),
    ],
)  # fmt: skip
def test_what_would_make_its_weights_useless_is_refused_by_key(base, root, separator, message):
    with pytest.raises(RecipeError, match=message):
        trainer_of(root, {"from": str(base), **separator})


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("nowhere", "separator.from: nowhere is no model folder"),
        (3, "separator.from: must name a model: its folder, or one that was brought, got 3"),
        ({"model": "{base}", "weights": "abc"}, "is another model than is stated, its weights are .*, wanted is abc"),
        ({"model": "{base}", "licence": "MIT"}, "is another model than is stated, its licence are CC0-1.0"),
    ],
)
def test_a_model_that_is_not_the_one_is_refused(base, root, stated, message):
    if isinstance(stated, dict):
        stated = {**stated, "model": str(base)}
    with pytest.raises(RecipeError, match=message):
        trainer_of(root, {"from": stated})


def test_mistakes_beside_a_model_have_their_lines(base, root, tmp_path):
    text = yaml.dump({**PARTS, "separator": {"from": str(base), "network": {"hidden_size": 24}}}, sort_keys=False)
    (tmp_path / "mine.yaml").write_text(text)
    line = text[: text.index("hidden_size")].count("\n") + 1
    with pytest.raises(RecipeError, match=rf"mine\.yaml:{line}:\d+: separator\.network\.hidden_size: must be 16"):
        load_recipe(tmp_path / "mine.yaml", data=root)


def test_a_class_from_elsewhere_is_taken_when_trusted(run, tmp_path):
    save_model(make_separator({"class": "networks.Filterbank"}), tmp_path / "foreign")
    with pytest.raises(RecipeError, match=r"has a network of which 'networks\.Filterbank' is not .* pass --trust"):
        run({"from": str(tmp_path / "foreign")})
    _, log = run({"from": str(tmp_path / "foreign")}, "training.epochs=1", trust=True)
    assert "2 kept, none new" in log
    with pytest.raises(RecipeError, match="every weight of the network depends on the sources"):
        run({"from": str(tmp_path / "foreign"), "sources": ["drums"]}, trust=True, folder="other")


# Other stems


def other_transform(name: str) -> dict:
    return {"class": "STFT", "n_fft": 128, "hop_length": 64, **TRANSFORMS.get(name, {})}


@every_network
@pytest.mark.parametrize("sources", [["drums", "piano"], ["drums"], ["drums", "vocals"], ["piano", "drums", "guitar"]])
def test_sources_that_the_model_has_keep_their_answers(name, sources, tmp_path, root):
    of_base = make_separator({"class": name, **SMALL.get(name, {})}, transform=other_transform(name))
    save_model(of_base, tmp_path / "base")
    recipe = load_recipe({**PARTS, "separator": {"from": str(tmp_path / "base"), "sources": sources}}, data=root)
    inheritance = plan_inheritance(recipe)
    separator = Separator(**recipe.separator_settings()).eval()
    load_base(separator, recipe.base, inheritance)
    assert bool(inheritance.new) is bool({"piano", "guitar"} & {*sources})
    assert all({*new} <= {"piano", "guitar"} for new in inheritance.new.values())
    for source in {*sources} & {*SOURCES}:
        expected = of_base(sound())[:, SOURCES.index(source)]
        # Sums of float32 in another order.
        torch.testing.assert_close(separator(sound())[:, sources.index(source)], expected, rtol=1e-4, atol=1e-5)


def test_new_stems_are_trained_from_where_the_others_are(run, base):
    separator = {"from": str(base), "sources": ["drums"]}
    folder, log = run(separator, "training.epochs=1", "training.optimizer.lr=1e-12")
    n_rows = len(weights(base)["network.core.decode.2.weight"]) // 2
    kept = weights(base)["network.core.decode.2.weight"][n_rows:]
    torch.testing.assert_close(weights(folder)["network.core.decode.2.weight"], kept)
    assert "none new" in log
    assert "before the first step" in log


def test_the_name_of_the_residual_stays_beside_the_same_sources(root, tmp_path):
    save_model(make_separator(RECIPE["separator"]["network"], ["drums"], residual="hiss"), tmp_path / "base")
    assert trainer_of(root, {"from": str(tmp_path / "base")}).separator.residual == "hiss"
    others = {"from": str(tmp_path / "base"), "sources": ["drums", "vocals"]}
    assert trainer_of(root, others).separator.residual is None


def test_no_stem_that_the_model_has_means_a_new_last_layer(base, root):
    (base.parent / "voices").mkdir(exist_ok=True)
    save_model(make_separator(RECIPE["separator"]["network"], ["choir"]), base.parent / "voices")
    result = dry_run({**PARTS, "separator": {"from": str(base.parent / "voices"), "sources": ["drums"]}}, data=root)
    assert "2 new\n  new for drums: core.decode.2.weight, core.decode.2.bias\n" in result.description


def test_a_layer_of_all_stems_is_new_for_some_of_them(base, root):
    inheritance = trainer_of(root, {"from": str(base), "sources": ["drums"]}).inheritance
    assert not inheritance.new
    recipe = load_recipe({**PARTS, "separator": {"from": str(base), "sources": ["vocals", "other"]}}, data=root)
    told = "\n".join(describe_weights(Separator(**recipe.separator_settings()), recipe, plan_inheritance(recipe)))
    assert "  new for other, where other stems keep theirs: core.decode.2.weight, core.decode.2.bias" in told


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"class": "OpenUnmix", **SMALL["OpenUnmix"]},
            "every weight of the network depends on the sources, so that none",
        ),
        ({"class": "sepkit.models.blstm.BLSTM", **SMALL["BLSTM"]}, None),
    ],
)
def test_stems_for_which_nothing_would_be_kept_are_refused(network, message, root, tmp_path):
    save_model(make_separator(network, ["choir"]), tmp_path / "base")
    if message is None:
        assert trainer_of(root, {"from": str(tmp_path / "base"), "sources": ["drums"]}).inheritance.new
        return
    with pytest.raises(RecipeError, match=rf"separator.sources: {message}.*: give \['choir'\], or leave sources out"):
        trainer_of(root, {"from": str(tmp_path / "base"), "sources": ["drums"]})


# Frozen weights


@pytest.mark.parametrize("ema", [None, 0.9])
def test_frozen_weights_stay_and_the_others_move(run, base, ema):
    patterns = ", ".join(FROZEN)
    folder, log = run({"from": str(base)}, f"training.freeze=[{patterns}]", f"training.ema={ema or 'null'}")
    for name, tensor in weights(base).items():
        stays = re.match(r"network\.core\.(encode|recurrence|mean|scale)", name)
        assert torch.equal(weights(folder)[name], tensor) is bool(stays), name
    n_trained, n_all = (int(n.replace(",", "")) for n in re.search(r"(\S+) of (\S+) values are trained", log).groups())
    decode = [tensor.numel() for name, tensor in weights(base).items() if "decode" in name]
    assert n_trained == sum(decode) < n_all


def test_the_optimizer_holds_what_is_trained_alone(base, root):
    trainer = trainer_of(root, {"from": str(base)}, freeze=[*FROZEN])
    held = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    names = {name for name, parameter in trainer.separator.named_parameters() if id(parameter) in held}
    assert names == {f"network.core.decode.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}


def test_statistics_of_frozen_batch_normalisation_stay(run, tmp_path):
    save_model(make_separator({"class": "OpenUnmix", **SMALL["OpenUnmix"]}), tmp_path / "base")
    folder, _ = run({"from": str(tmp_path / "base")}, "training.freeze=[core.*.encode_norm.*]", "training.ema=null")
    for name, tensor in weights(tmp_path / "base").items():
        if "running" in name:
            assert torch.equal(weights(folder)[name], tensor) is ("encode_norm" in name), name


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["core.encod.*"], r"freeze\.0: no parameter .* 'core.encod.\*'; did you mean 'core.encode.\*'"),
        (["core.encode"], r"freeze\.0: no parameter .* 'core.encode'; did you mean 'core.encode.\*'"),
        (["xyz"], r"no parameter of the network is called 'xyz' \(there are: core.\*"),
        (["core.encode.*", "*"], "training.freeze: nothing would be left to train"),
        ("core.*", "must be a list"),
    ],
)
def test_patterns_that_freeze_nothing_or_all_are_refused(base, root, patterns, message):
    with pytest.raises(RecipeError, match=message):
        trainer_of(root, {"from": str(base)}, freeze=patterns)


def test_what_is_new_cannot_be_frozen(base, root):
    save_model(make_separator(RECIPE["separator"]["network"], ["choir"]), base.parent / "choir")
    with pytest.raises(RecipeError, match=r"freeze\.0: 'core.decode.2.\*' would keep core.decode.2.* as it was drawn"):
        trainer_of(root, {"from": str(base.parent / "choir"), "sources": ["drums"]}, freeze=["core.decode.2.*"])


# LoRA


class Attention(nn.Module):
    """Attend over the frames; the projections of torch's module are packed in one weight."""

    def __init__(self, n_sources: int, n_bins: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(n_bins, 1, batch_first=True)
        self.n_sources = n_sources

    def forward(self, mixture_magnitude: torch.Tensor) -> torch.Tensor:
        frames = mixture_magnitude.mean(1).mT
        mask = torch.sigmoid(self.attention(frames, frames, frames)[0]).mT[:, None, None]
        return mask.expand(-1, self.n_sources, mixture_magnitude.shape[1], -1, -1)


def adapted(separator: Separator, moved: bool, **arguments) -> Separator:
    """Put a LoRA around the network of a separator, with updates that are zero or not."""
    settings = separator.settings
    network = {"class": "LoRA", "rank": 2, "network": settings["network"], **arguments}
    around = Separator(**{**settings, "network": network}).eval()
    own = around.network.names()
    state = {own[name]: tensor for name, tensor in separator.network.state_dict().items()}
    around.network.load_state_dict({**around.network.state_dict(), **state})
    with torch.no_grad():
        for name, parameter in around.named_parameters():
            if moved and name.endswith(".up"):
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(3))
    return around


CLASSES = [*models.__all__, f"{__name__}.Attention"]


@pytest.mark.parametrize("name", CLASSES)
def test_before_the_first_step_it_is_the_network_bit_for_bit_and_merged_afterwards(name):
    plain = make_separator({"class": name, **SMALL.get(name, {})}, transform=other_transform(name))
    around = adapted(plain, moved=False)
    assert {**vars(around.facts), "core": 0} == {**vars(plain.facts), "core": 0}
    assert torch.equal(around(sound()), plain(sound()))
    with torch.no_grad():
        assert torch.equal(around(sound()), plain(sound()))
        one = adapted(plain, moved=False, targets=[around.network.adapted[-1]])
        assert torch.equal(one(sound()), plain(sound()))
    moved = adapted(plain, moved=True)
    merged = plain_separator(moved)
    assert not torch.equal(moved(sound()), plain(sound()))
    assert torch.equal(merged(sound()), moved(sound()))
    assert merged.settings == plain.settings
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert isinstance(moved.network, LoRA)
    assert torch.equal(copy.deepcopy(moved)(sound()), moved(sound()))


def test_the_packed_projections_of_attention_are_adapted():
    plain = make_separator({"class": f"{__name__}.Attention"}, transform=other_transform(""))
    names = ["attention.in_proj_weight", "attention.out_proj.weight"]
    assert sorted(adapted(plain, moved=False).network.adapted) == names


@every_network
def test_only_the_updates_get_gradients_and_all_of_them(name):
    plain = make_separator({"class": name, **SMALL.get(name, {})}, transform=other_transform(name))
    around = adapted(plain, moved=True).train()
    around(sound(2)).square().mean().backward()
    with_gradient = {name for name, parameter in around.network.named_parameters() if parameter.grad is not None}
    assert with_gradient == {
        name for name, _ in around.network.named_parameters() if re.search(r"\.0\.(up|down)$", name)
    }


def test_blocks_that_are_computed_again_use_the_same_weights():
    network = {"class": "BandSplitRoFormer", **SMALL["BandSplitRoFormer"]}
    gradients = []
    for again in (False, True):
        around = adapted(make_separator(network, transform=other_transform("")), moved=True).train()
        if again:
            recompute_blocks(around)
        around(sound()).square().mean().backward()
        gradients.append({name: p.grad for name, p in around.named_parameters() if p.grad is not None})
    assert_equal(*gradients)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": 0}, "alpha must be above 0 and finite, got 0"),
        ({"targets": ["core.encode.1.*"]}, "targets must match weights of linear layers .*core.encode.1.weight"),
        ({"targets": []}, "network must have weights that can be adapted"),
    ],
)
def test_a_lora_that_cannot_be_is_refused(arguments, message):
    network = make_separator({"class": "BLSTM", **SMALL["BLSTM"]}).network
    with pytest.raises(ValueError, match=message):
        LoRA(network, **arguments)


def test_a_lora_around_a_lora_or_around_nothing_that_it_can_adapt_is_refused():
    with pytest.raises(ValueError, match="network must be one without LoRA"):
        LoRA(LoRA(make_separator({"class": "BLSTM", **SMALL["BLSTM"]}).network))
    with pytest.raises(ValueError, match="network must have weights that can be adapted, GRU has none"):
        LoRA(nn.GRU(2, 2))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            ["drums", "vocals"],
            r"separator\.sources: the network cannot be built for other sources .* leave sources out",
        ),
        (["drums"], r"members\.0 must have as many sources as the whole, 1, got vocals, drums"),
    ],
)
def test_the_stems_of_a_bag_cannot_be_changed(root, tmp_path, sources, message):
    members = [make_separator(RECIPE["separator"]["network"], ["vocals", "drums"]).settings] * 2
    save_model(Separator(**join_members(members)), tmp_path / "bag")
    with pytest.raises(RecipeError, match=message):
        load_recipe({**PARTS, "separator": {"from": str(tmp_path / "bag"), "sources": sources}}, data=root)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_run_ships_merged_weights_and_keeps_the_updates(run, base, ema):
    separator = {"from": str(base), "network": {**LORA, "alpha": 4}}
    folder, log = run(separator, f"training.ema={ema or 'null'}", "training.epochs=3")
    model = load_model(folder)
    assert read_card(folder)["separator"] == read_card(base)["separator"]
    assert type(model.network).__name__ == "BLSTM"
    with safe_open(folder / "training" / "adapters.safetensors", "pt") as file:  # several keys come in any order
        (facts,) = file.metadata().values()
    assert json.loads(facts) == {"rank": 2, "alpha": 4, "base": read_card(base)["weights"]}
    updates = load_file(folder / "training" / "adapters.safetensors")
    for name, tensor in weights(base).items():
        plain = name.removeprefix("network.")
        if f"{plain}.up" in updates:
            tensor = tensor + 2 * updates[f"{plain}.up"] @ updates[f"{plain}.down"]
            assert updates[f"{plain}.up"].any()
        torch.testing.assert_close(weights(folder)[name], tensor)
    told = (
        r"LoRA of rank 2 on 3 weights; recurrences cannot be adapted: core\.recurrence\n\S+ of \S+ values are trained"
    )
    assert re.search(told, log)


def test_a_lora_trains_what_is_new_as_a_whole(base, root):
    save_model(make_separator(RECIPE["separator"]["network"], ["choir"]), base.parent / "choir")
    trainer = trainer_of(root, {"from": str(base.parent / "choir"), "sources": ["drums"], "network": LORA})
    trained = {name for name, parameter in trainer.separator.network.named_parameters() if parameter.requires_grad}
    assert {"network.core.decode.2.bias", "network.core.decode.2.parametrizations.weight.original"} <= trained
    assert not {name for name in trained if "encode" in name and name.endswith(("original", "bias"))}


def test_a_lora_around_drawn_weights_says_so(run):
    network = {**LORA, "network": RECIPE["separator"]["network"]}
    _, log = run({**RECIPE["separator"], "network": network}, "training.epochs=1")
    assert "LoRA is around weights that were drawn and are not trained: name a model with separator.from" in log


# Going on


@pytest.mark.parametrize(
    "separator",
    [{}, {"network": LORA}, {"sources": ["drums"]}],
    ids=["full", "lora", "stems"],
)
def test_a_stopped_training_goes_on_to_the_same_weights(run, base, separator, tmp_path):
    separator = {"from": str(base), **separator}
    whole, _ = run(separator, folder="whole")
    with pytest.raises(TrainingInterrupted):
        run(separator, observers=[StopAfter(4)])
    with pytest.raises(TrainingInterrupted):
        run(separator, observers=[StopAfter(5)])
    moved = shutil.copytree(base, tmp_path / "moved")
    folder, log = run({**separator, "from": str(moved)})
    assert "going on in" in log
    assert "before the first step" not in log
    assert "that of the model it began as" in log
    assert_equal(weights(folder), weights(whole))
    assert_equal(last_weights(folder), last_weights(whole))


def test_a_run_does_not_go_on_from_another_model(run, base, tmp_path):
    with pytest.raises(TrainingInterrupted):
        run({"from": str(base)}, observers=[StopAfter(4)])
    save_model(make_separator(RECIPE["separator"]["network"]).half().float(), tmp_path / "other")
    with pytest.raises(ValueError, match=r"holds the run of another recipe, which differs in separator\.from: choose"):
        run({"from": str(tmp_path / "other")})
    with pytest.raises(ValueError, match=r"which differs in separator\.from: choose"):
        run(RECIPE["separator"])


def test_a_restart_does_not_remove_the_model_that_it_starts_from(run, base):
    folder, _ = run({"from": str(base)}, "training.epochs=1")
    with pytest.raises(ValueError, match="holds the model to start from, which --restart would remove"):
        run({"from": str(folder)}, restart=True)


def test_a_run_from_before_there_were_these_keys_goes_on(run):
    with pytest.raises(TrainingInterrupted):
        run(RECIPE["separator"], observers=[StopAfter(4)])
    _, log = run(RECIPE["separator"], "training.epochs=2")
    assert "going on in" in log


# The command


def test_the_command_starts_from_a_model_and_a_dry_run_says_from_which(base, root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.dump({**PARTS, "separator": {"sources": SOURCES}}))
    words = ["mine.yaml", "--data", str(root), "--from", str(base), "--device", "cpu"]
    assert train_command([*words, "--dry-run"]) == 0
    assert f"weights from {base} (" in capsys.readouterr().out
    assert train_command([*words, "separator.network.hidden_size=2"]) == 2
    assert (
        "override separator.network.hidden_size=2: separator.network.hidden_size: must be 16" in capsys.readouterr().err
    )
    assert train_command(["mine.yaml", "--data", str(root), "--from", "nowhere"]) == 2
    assert "--from nowhere: separator.from: nowhere is no model folder" in capsys.readouterr().err


def test_the_state_of_a_run_can_be_read_without_the_model(run, base, tmp_path):
    own = shutil.copytree(base, tmp_path / "own")
    folder, _ = run({"from": str(own)}, "training.epochs=1")
    shutil.rmtree(own)
    assert load_model(folder).sources == SOURCES
    assert json.loads((folder / "model.json").read_text())["base"]["model"] == "own"
