"""Recipes: every mistake is answered at its place, with what is wanted and the nearest right name."""
# ruff: noqa: E501 -- an expected message stands on one line, as it is printed

import copy
import json
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sepkit.instantiate import instantiate
from sepkit.problems import Problem
from sepkit.recipe import Recipe, RecipeError, importable, load_recipe, recipe_names

PARTS = '''
from torch import nn

class Halves(nn.Module):
    """Declares two quantities of its own and takes what the package gives."""
    outputs = {"mask": "source", "mu": "item", "sigma": "item"}
    def __init__(self, n_sources, n_channels, n_bins, sample_rate, hidden_size=8, mask: str = "sigmoid"):
        super().__init__()

class Spectra(nn.Module):
    outputs = ("spectrum",)
    def __init__(self, n_sources: int):
        super().__init__()

class Unsettled(nn.Module):
    @property
    def outputs(self):
        return ("mask",)

class Undecided(nn.Module):
    outputs = ("mask", "mu")

class Cosine:
    def __init__(self, warmup: float = 0.0):
        pass

class Shift:
    def __init__(self, steps: int):
        pass

class Watch:
    pass

class Latent(nn.Module):
    def __init__(self, sample_rate: int, reduction: str = "mean", alpha: float = 1.0):
        super().__init__()
    def forward(self, mu, sigma):
        return mu

class Optional(nn.Module):
    def forward(self, estimate, target, unknown=None, *, mask=None):
        return estimate

class Silent(nn.Module):
    pass

class NoLoss:
    pass
'''
TEXT = """\
# A comment
separator:
  sources: [vocals, drums]
  sample_rate: 44100
  n_channels: 2
  segment: 3.0
  transform: {class: STFT, n_fft: 2048, hop_length: 1024}
  network: {class: recipeparts.Halves, hidden_size: 160}
data:
  root: demo
  items_per_epoch: 400
  remix: 0.7
  augment: [{class: Gain, low_db: -6, high_db: 6}, {class: Sign}]
losses:
  - {class: RelativeSpectralLoss, weight: 1.0}
  - class: torch.nn.L1Loss
    weight: {from: 0, to: 1, epochs: 5}
    sources: [vocals]
    inputs: {input: estimate}
training:
  epochs: 40
  batch_size: 8
  optimizer: {class: AdamW, lr: 4.0e-3, weight_decay: 0.01}
  schedule: {class: recipeparts.Cosine, warmup: 0.04}
  clip: 1.0
  ema: 0.99
  precision: auto
  seed: 0
validation: {every: 1, excerpt: 10.0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a folder with the classes that the recipes of these tests name, and the current one."""
    (tmp_path / "recipeparts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("recipeparts", None)


@pytest.fixture
def values(folder: Path) -> dict[str, Any]:
    """Return the recipe as a mapping."""
    with importable(folder):
        import recipeparts  # noqa: F401
    return yaml.safe_load(TEXT.replace("4.0e-3", "0.004"))


def problems_of(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> list[str]:
    (folder / "recipe.yaml").write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe("recipe.yaml", overrides)
    return caught.value.problems


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1, old
    return TEXT.replace(old, new)


def test_a_right_recipe_becomes_settings(folder):
    (folder / "mine.yaml").write_text(TEXT)
    recipe = load_recipe(folder / "mine.yaml")
    assert (recipe.name, recipe.path) == ("mine", folder / "mine.yaml")
    assert recipe.separator.sources == ["vocals", "drums"]
    assert recipe.separator.network == {"class": "recipeparts.Halves", "hidden_size": 160}
    assert recipe.training.optimizer["lr"] == 4e-3
    assert recipe.losses[0].name == "RelativeSpectralLoss"
    assert (recipe.losses[1].weight.start, recipe.losses[1].weight.end) == (0, 1)
    assert recipe.validation.excerpt == 10.0


def test_what_a_recipe_leaves_out_has_defaults(values):
    del values["training"], values["validation"], values["separator"]["transform"]
    recipe = load_recipe(values)
    assert (recipe.name, recipe.path) == ("recipe", None)
    assert recipe.separator.transform == {"class": "STFT"}
    assert recipe.to_dict()["training"] == {
        "epochs": 40,
        "batch_size": 8,
        "accumulate": 1,
        "optimizer": {"class": "AdamW", "lr": 1e-3},
        "schedule": {"class": "Cosine"},
        "clip": None,
        "ema": None,
        "precision": "auto",
        "seed": 0,
        "max_minutes": None,
        "early_stop": None,
        "compile": False,
        "deterministic": False,
        "freeze": [],
        "recompute": False,
        "sharding": None,
        "keep_best": 1,
        "max_skipped": 10,
        "checkpoint_minutes": 10.0,
    }
    assert recipe.to_dict()["validation"] == {"every": 1, "excerpt": 10.0, "batch_size": None}
    assert recipe.to_dict()["losses"][0]["sources"] is None


def test_the_defaults_pass_the_checks_that_given_values_pass(values):
    del values["training"]
    resolved = load_recipe(values).to_dict()
    assert load_recipe(resolved).to_dict() == resolved


MISTAKES = [
    # keys
    ("  segment: 3.0", "  segments: 3.0", "6:3: separator.segments: unknown key; did you mean 'segment'?"),
    (
        "  n_channels: 2",
        "  n_fft: 2",
        "5:3: separator.n_fft: unknown key; did you mean 'separator.transform.n_fft'?",
    ),
    ("  epochs: 40", "  lr: 1", "21:3: training.lr: unknown key; did you mean 'training.optimizer.lr'?"),
    (
        "  epochs: 40",
        "  items_per_epochs: 4",
        "21:3: training.items_per_epochs: unknown key; did you mean 'data.items_per_epoch'?",
    ),
    (
        "validation: {every: 1,",
        "validation: {zebra: 1,",
        "29:14: validation.zebra: unknown key (there are: every, excerpt, batch_size)",
    ),
    (
        "validation: {",
        "number: {",
        "29:1: number: unknown key (there are: separator, data, losses, training, validation, observers)",
    ),
    ("weight: {from: 0,", "weight: {form: 0,", "17:14: losses.1.weight.form: unknown key; did you mean 'from'?"),
    ("  root: demo\n", "", "9:1: data.root: must be given"),
    # types and ranges
    ("sources: [vocals, drums]", "sources: vocals", "3:12: separator.sources: must be a list, got 'vocals'"),
    ("[vocals, drums]", "[]", "3:12: separator.sources: must not be empty, got []"),
    ("[vocals, drums]", "[vocals, 3]", "3:21: separator.sources.1: must be a string, got 3"),
    ("sample_rate: 44100", "sample_rate: 44.1", "4:16: separator.sample_rate: must be an int, got 44.1"),
    ("sample_rate: 44100", "sample_rate: 010", "4:16: separator.sample_rate: must be an int, got '010'"),
    ("n_channels: 2", "n_channels: true", "5:15: separator.n_channels: must be an int, got true"),
    ("n_channels: 2", "n_channels: 0", "5:15: separator.n_channels: must be >= 1, got 0"),
    ("n_channels: 2", f"n_channels: {10**30}", f"5:15: separator.n_channels: must be <= 1e+09, got {10**30}"),
    ("segment: 3.0", "segment: 1.0e+300", "6:12: separator.segment: must be <= 86400, got 1e+300"),
    ("segment: 3.0", "segment: long", "6:12: separator.segment: must be a float, got 'long'"),
    ("segment: 3.0", "segment: 0", "6:12: separator.segment: must be > 0, got 0"),
    ("segment: 3.0", "segment: .inf", "6:12: separator.segment: must be a finite number, got inf"),
    ("root: demo", "root: ''", "10:9: data.root: must not be empty, got ''"),
    ("remix: 0.7", "remix: 1.7", "12:10: data.remix: must be <= 1, got 1.7"),
    ("remix: 0.7", "allow_damaged: 1", "12:18: data.allow_damaged: must be true or false, got 1"),
    ("remix: 0.7", "licence: 4", "12:12: data.licence: must be a string, got 4"),
    ("remix: 0.7", "resample: 1", "12:13: data.resample: must be true or false, got 1"),
    ("remix: 0.7", "remix: many", "12:10: data.remix: must be a float, got 'many'"),
    ("remix: 0.7", "remix: {tempo: 0.1}", "12:3: data.remix.share: must be given"),
    ("remix: 0.7", "remix: {share: 0.7, tempi: 1}", "12:23: data.remix.tempi: unknown key; did you mean 'tempo'?"),
    ("remix: 0.7", "remix: {share: 0.7, tempo: 0.5}", "12:30: data.remix.tempo: must be < 0.5, got 0.5"),
    ("remix: 0.7", "remix: {share: 0.7, key: 1.5}", "12:28: data.remix.key: must be an int, got 1.5"),
    ("remix: 0.7", "sampling: equally", "12:13: data.sampling: must be a mapping, got 'equally'"),
    (
        "remix: 0.7",
        "sampling: {tracks: equal}",
        "12:22: data.sampling.tracks: must be 'duration' or 'equally', got 'equal'; did you mean 'equally'?",
    ),
    (
        "remix: 0.7",
        "sampling: {balance: true}",
        "12:14: data.sampling.balance: unknown key; did you mean 'balanced'?",
    ),
    (
        "remix: 0.7",
        "sampling: {activity: {silence: 0.1}}",
        "12:25: data.sampling.activity.silence: unknown key; did you mean 'silent'?",
    ),
    (
        "remix: 0.7",
        "sampling: {activity: {silent: 1.1}}",
        "12:33: data.sampling.activity.silent: must be <= 1, got 1.1",
    ),
    (
        "remix: 0.7",
        "sampling: {activity: {threshold: 10}}",
        "12:36: data.sampling.activity.threshold: must be <= 0, got 10",
    ),
    (
        "remix: 0.7",
        "sampling: {activity: {sounding: 0}}",
        "12:35: data.sampling.activity.sounding: must be > 0, got 0",
    ),
    ("ema: 0.99", "ema: 1.0", "26:8: training.ema: must be < 1, got 1.0"),
    (
        "precision: auto",
        "precision: bf16",
        "27:14: training.precision: must be 'auto', 'float32', 'bfloat16', 'float16' or 'float64', got 'bf16'; did you mean 'bfloat16'?",
    ),
    ("validation: {every: 1, excerpt: 10.0}", "validation: [1]", "29:13: validation: must be a mapping, got [1]"),
    (
        "transform: {class: STFT, n_fft: 2048, hop_length: 1024}",
        "transform: STFT",
        "7:14: separator.transform: must be a mapping, got 'STFT'",
    ),
    ("weight: 1.0}", "weight: heavy}", "15:43: losses.0.weight: must be a float, got 'heavy'"),
    ("to: 1, epochs: 5}", "to: 1}", "17:5: losses.1.weight.epochs: must be given"),
    # classes and their arguments
    (
        "{class: STFT, n_f",
        "{n_f",
        "7:14: separator.transform: must be a mapping with `class:`, got {'n_fft': 2048, 'hop_length': 1024}",
    ),
    (
        "{class: STFT",
        "{class: SFTF",
        "7:22: separator.transform.class: there is no class 'SFTF' in sepkit.transforms; did you mean 'STFT'?",
    ),
    (
        "hop_length: 1024",
        "hop_lenght: 1024",
        "7:41: separator.transform.hop_lenght: STFT has no such argument; did you mean 'hop_length'?",
    ),
    ("n_fft: 2048", "n_fft: many", "7:35: separator.transform.n_fft: must be an int, got 'many'"),
    (
        "recipeparts.Halves",
        "recipeparts.Halfs",
        "8:20: separator.network.class: there is no class 'Halfs' in recipeparts; did you mean 'Halves'?",
    ),
    (
        "recipeparts.Halves",
        "recipepart.Halves",
        "8:20: separator.network.class: there is no module 'recipepart' to take 'recipepart.Halves' from; install it or put it beside the recipe",
    ),
    (
        "{class: Sign}",
        "{class: sign}",
        "13:60: data.augment.1.class: there is no class 'sign' in sepkit.augment; did you mean 'Sign'?",
    ),
    (
        "{class: Sign}",
        "{class: recipeparts.Shift}",
        "13:52: data.augment.1.steps: must be given: Shift has no default for it",
    ),
    ("{class: RelativeSpectralLoss, weight", "{weight", "15:5: losses.0.class: must be given"),
    (
        "RelativeSpectralLoss",
        "RelativeSpectrumLoss",
        "15:13: losses.0.class: there is no class 'RelativeSpectrumLoss' in sepkit.losses; did you mean 'RelativeSpectralLoss'?",
    ),
    (
        "weight: 1.0}",
        "wieght: 1.0}",
        "15:35: losses.0.wieght: RelativeSpectralLoss has no such argument; did you mean 'weight'?",
    ),
    (
        "{class: AdamW",
        "{class: adamw",
        "23:22: training.optimizer.class: there is no class 'adamw' in torch.optim; did you mean 'AdamW'?",
    ),
    ("weight_decay: 0.01", "weight_decay: high", "23:55: training.optimizer.weight_decay: must be a float, got 'high'"),
    (
        "warmup: 0.04",
        "wramup: 0.04",
        "24:41: training.schedule.wramup: Cosine has no such argument; did you mean 'warmup'?",
    ),
    (
        "validation:",
        "observers: [{class: Watch}]\nvalidation:",
        "29:21: observers.0.class: there is no class 'Watch' in sepkit.observers (there are: AudioPlayerCallback, LayersVisualCallback, LossCallback, SpectrogramVisualCallback, TensorBoard, TrainingView, WaveformVisualCallback, WeightsAndBiases; one from elsewhere is named with its module, as in 'mymodule.Watch')",
    ),
    # what only constructors refuse
    (
        "hop_length: 1024",
        "hop_length: 4096",
        "7:53: separator.transform.hop_length: must be between 1 and window_size 2048, got 4096",
    ),
    (
        "n_fft: 2048, hop_length: 1024",
        "n_fft: 512",
        "7:3: separator.transform.hop_length: must be between 1 and window_size 512, got 1024",
    ),
    (
        "n_fft: 2048,",
        "n_fft: 2048, window: han,",
        "7:49: separator.transform.window: must be 'hann' or 'hamming' or 'blackman' or 'rectangular', got 'han'; did you mean 'hann'?",
    ),
    (
        "recipeparts.Halves, hidden_size: 160",
        "BLSTM, mask: sigmod",
        "8:33: separator.network.mask: must be 'sigmoid' or 'relu' or 'softmax' or 'tanh' or 'hardtanh' or 'complex', got 'sigmod'; did you mean 'sigmoid'?",
    ),
    (
        "recipeparts.Halves, hidden_size: 160",
        "BLSTM, bandwidth: 30000",
        "8:38: separator.network.bandwidth: must lie in [21.5332, 22050] Hz, got 30000",
    ),
    (
        "{class: Sign}",
        "{class: Speed, low: 2}",
        "13:72: data.augment.1.low: low and high must be factors, 0 < low <= high, got 2 and 1.15",
    ),
    (
        "{class: Sign}",
        "{class: Filter, depth: -4.0}",
        "13:75: data.augment.1.depth: n_taps and reach must be at least 1 and depth at least 0, got 4, 24 and -4.0",
    ),
    (
        "RelativeSpectralLoss",
        "STFTLoss, mag_distance: L3",
        "15:37: losses.0.mag_distance: must be one of 'L1', 'L2', got 'L3'",
    ),
    ("lr: 4.0e-3", "lr: -1.0", "23:33: training.optimizer.lr: Invalid learning rate: -1.0"),
    ("weight_decay: 0.01", "betas: [2, 0.9]", "23:48: training.optimizer.betas: Invalid beta parameter at index 0: 2"),
    (
        "weight_decay: 0.01",
        "foreach: true, fused: true",
        "23:14: training.optimizer: AdamW cannot be built with these arguments (RuntimeError: `fused` and `foreach` cannot be `True` together.)",
    ),
    (
        "recipeparts.Cosine, warmup: 0.04",
        "Cosine, warmup: 2",
        "24:37: training.schedule.warmup: must lie in [0, 1), got 2",
    ),
    (
        "{class: AdamW, lr: 4.0e-3, weight_decay: 0.01}",
        "{class: SGD, nesterov: true}",
        "23:14: training.optimizer: Nesterov momentum requires a momentum and zero dampening",
    ),
    # what is given beside the arguments
    (
        "hidden_size: 160",
        "n_sources: 3",
        "8:40: separator.network.n_sources: must be left out: the separator gives it",
    ),
    ("weight: 1.0}", "sample_rate: 8000}", "15:35: losses.0.sample_rate: must be left out: the separator gives it"),
    (
        "class: AdamW, lr: 4.0e-3, weight_decay: 0.01",
        "class: LBFGS, lr: 1.0",
        "23:22: training.optimizer.class: LBFGS computes the loss several times a step, by a closure, which no training here does: choose AdamW, Adam or SGD",
    ),
    (
        "class: AdamW, lr: 4.0e-3, weight_decay: 0.01",
        "class: SparseAdam, lr: 1.0e-3",
        "23:22: training.optimizer.class: SparseAdam takes sparse gradients alone, and those of all networks here are dense: choose AdamW, Adam or SGD",
    ),
    ("lr: 4.0e-3", "params: []", "23:29: training.optimizer.params: must be left out: the training gives it"),
    # weights
    ("weight: 1.0}", "weight: -1}", "15:43: losses.0.weight: must be >= 0, got -1"),
    ("to: 1, epochs: 5}", "to: -1, epochs: 5}", "17:27: losses.1.weight.to: must be >= 0, got -1"),
    # how the parts fit together
    (
        "[vocals, drums]",
        "[vocals, vocals]",
        "3:21: separator.sources.1: each source must be named once, got 'vocals' again",
    ),
    (
        "[vocals, drums]",
        "[vocals, mixture]",
        "3:21: separator.sources.1: 'mixture' is what the sources are separated from; it cannot be one of them",
    ),
    (
        "[vocals, drums]",
        "[vocals, ../drums]",
        "3:21: separator.sources.1: a source must be a name that files can have, got '../drums'",
    ),
    (
        "[vocals, drums]",
        "[vocals, Vocals]",
        "3:21: separator.sources.1: each source must be named once, got 'Vocals' again",
    ),
    (
        "recipeparts.Halves, hidden_size: 160",
        "recipeparts.Undecided",
        "8:20: separator.network.class: outputs of Undecided must declare 'mu' as 'source', (B, S, ...), or 'item', (B, ...), as in {'mu': 'source'}",
    ),
    (
        "RelativeSpectralLoss",
        "recipeparts.Latent, sources: [vocals]",
        "15:33: losses.0.sources: must be left out: Latent takes mu, sigma, of no source",
    ),
    (
        "sources: [vocals]",
        "sources: [vocal]",
        "18:15: losses.1.sources.0: must be one of separator.sources (vocals, drums), got 'vocal'; did you mean 'vocals'?",
    ),
    (
        "batch_size: 8",
        "batch_size: 8\n  accumulate: 3",
        "23:15: training.accumulate: must divide training.batch_size, which is 8, got 3",
    ),
    (
        "weight: 1.0}",
        "name: loss}",
        "15:41: losses.0.name: 'loss' is the sum of all terms; give this one a name of its own",
    ),
    (
        "inputs: {input: estimate}",
        "reduction: sum\n    inputs: {input: estimate}",
        "19:5: losses.1.reduction: must be left out: the objective sets it, to get a value for each item",
    ),
    (
        "inputs: {input: estimate}",
        "name: one",
        "16:12: losses.1.class: L1Loss takes 'input', which is none of mixture, mixture_spectrogram, mixture_magnitude, estimate, estimate_spectrogram, estimate_magnitude, target, target_spectrogram, target_magnitude, interference_magnitude, mask, mu, sigma: name the quantity in `inputs`",
    ),
    (
        "inputs: {input: estimate}",
        "inputs: {imput: estimate}",
        "19:14: losses.1.inputs.imput: L1Loss's forward has no such argument (it has: input, target); did you mean 'input'?",
    ),
    (
        "{input: estimate}",
        "{input: estimates}",
        "19:21: losses.1.inputs.input: must be one of mixture, mixture_spectrogram, mixture_magnitude, estimate, estimate_spectrogram, estimate_magnitude, target, target_spectrogram, target_magnitude, interference_magnitude, mask, mu, sigma, got 'estimates'; did you mean 'estimate'?",
    ),
    ("{input: estimate}", "{input: 3}", "19:21: losses.1.inputs.input: must be a string, got 3"),
    (
        "RelativeSpectralLoss",
        "recipeparts.NoLoss",
        "15:13: losses.0.class: NoLoss has no forward that names what it takes",
    ),
    (
        "RelativeSpectralLoss",
        "recipeparts.Silent",
        "15:13: losses.0.class: Silent has no forward that names what it takes",
    ),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_a_mistake_is_answered_at_its_line_and_column(folder, old, new, expected):
    problems = problems_of(folder, changed(old, new))
    assert f"recipe.yaml:{expected}" in problems


def test_two_losses_of_one_name_are_refused(folder):
    assert problems_of(folder, changed("weight: 1.0}", "name: L1Loss}")) == [
        "recipe.yaml:16:5: losses.1.name: another loss is called 'L1Loss' too; give this one a name of its own"
    ]


def test_a_loss_may_take_what_the_network_declares(folder):
    text = changed("RelativeSpectralLoss", "recipeparts.Latent, alpha: 0.5")
    (folder / "recipe.yaml").write_text(text)
    assert load_recipe("recipe.yaml").losses[0].model_extra == {"alpha": 0.5}


def test_a_loss_may_not_take_what_another_network_does_not_declare(folder):
    text = changed("RelativeSpectralLoss", "recipeparts.Latent").replace(
        "recipeparts.Halves, hidden_size: 160", "BLSTM, hidden_size: 8"
    )
    (problem,) = problems_of(folder, text)
    assert problem.startswith(
        "recipe.yaml:15:13: losses.0.class: Latent takes 'mu' and 'sigma', which are none of mixture, "
    )
    assert problem.endswith("interference_magnitude, mask: name the quantity in `inputs`")


def test_a_mask_is_there_only_where_the_network_declares_it(folder):
    text = changed("{input: estimate}", "{input: mask}")
    assert load_recipe(yaml_of(folder, text)).losses[1].inputs == {"input": "mask"}
    text = text.replace("recipeparts.Halves, hidden_size: 160", "recipeparts.Spectra")
    (problem,) = problems_of(folder, text)
    assert re.search(r"must be one of mixture, .* spectrum, got 'mask'", problem)


def test_what_a_network_declares_only_when_built_is_not_judged(folder):
    text = changed("{input: estimate}", "{input: anything}").replace(
        "recipeparts.Halves, hidden_size: 160", "recipeparts.Unsettled"
    )
    assert load_recipe(yaml_of(folder, text)).losses[1].inputs == {"input": "anything"}


def test_arguments_of_forward_with_defaults_need_no_quantity(folder):
    text = changed("RelativeSpectralLoss", "recipeparts.Optional")
    assert load_recipe(yaml_of(folder, text)).losses[0].class_name == "recipeparts.Optional"


def yaml_of(folder: Path, text: str) -> str:
    (folder / "recipe.yaml").write_text(text)
    return "recipe.yaml"


@pytest.mark.parametrize("other", ["0", "{from: 0, to: 0, epochs: 5}"])
def test_losses_of_which_none_counts_are_refused(folder, other):
    text = changed("weight: 1.0}", "weight: 0}").replace("{from: 0, to: 1, epochs: 5}", other)
    assert problems_of(folder, text) == [
        "recipe.yaml:15:43: losses.0.weight: must be above 0 in one of the losses: with 0 in all nothing is learned"
    ]


def test_a_loss_may_count_nothing_beside_one_that_counts(folder):
    text = changed("weight: 1.0}", "weight: 0}")
    assert load_recipe(yaml_of(folder, text)).losses[0].weight == 0


def test_wrong_values_of_all_classes_are_answered_at_once(folder):
    text = TEXT.replace("hop_length: 1024", "hop_length: 0").replace(
        "recipeparts.Halves, hidden_size: 160", "BLSTM, mask: a"
    )
    text = (
        text.replace("low_db: -6", "low_db: 7")
        .replace("RelativeSpectralLoss", "STFTLoss, mag_distance: b")
        .replace("weight: 1.0}", "weight: -1}")
    )
    text = text.replace("lr: 4.0e-3", "lr: -1.0").replace("recipeparts.Cosine", "Cosine").replace("0.04", "-1")
    assert [problem.split(": ")[1] for problem in problems_of(folder, text)] == [
        "separator.transform.hop_length",
        "separator.network.mask",
        "data.augment.0.low_db",
        "losses.0.mag_distance",
        "losses.0.weight",
        "training.optimizer.lr",
        "training.schedule.warmup",
    ]


LARGE = "separator.network={class: SpectrogramNetLSTM, hidden_size: 4096}"  # a billion weights


def test_a_check_draws_no_weights_and_leaves_random_states_alone(values):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Drawn(TorchDispatchMode):
        """Count the values that are drawn."""

        n_values = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            if func.overloadpacket.__name__.startswith(("uniform", "normal", "rand", "bernoulli")):
                self.n_values += found.numel()
            return found

    before = torch.get_rng_state()
    with Drawn() as drawn:
        torch.rand(3)
        load_recipe(values, [LARGE])
        assert drawn.n_values < 1000
    torch.set_rng_state(before)
    load_recipe(values, [LARGE])
    assert torch.equal(torch.get_rng_state(), before)


def test_classes_from_elsewhere_are_not_built_by_a_check(folder):
    (folder / "recipeparts.py").write_text(
        PARTS.replace("warmup: float = 0.0):\n        pass", "warmup: float):\n        1 / 0")
    )
    assert load_recipe(yaml_of(folder, TEXT)).training.schedule["class"] == "recipeparts.Cosine"


def test_what_only_warns_is_not_refused(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_recipe(values, ["losses.0={class: ComponentLoss}", "separator.network={class: BLSTM}"])


def test_all_mistakes_are_answered_at_once_in_the_order_of_the_file(folder):
    text = TEXT.replace("segment: 3.0", "segment: 0").replace("hop_length", "hop").replace("  seed: 0", "  sed: 0")
    text = text.replace("RelativeSpectralLoss", "NoSuchLoss").replace("root: demo", "root: demo\n  root: here")
    problems = problems_of(folder, text, ("training.epochs=many",))
    assert [problem.split(": ")[0] for problem in problems] == [
        "recipe.yaml:6:12",
        "recipe.yaml:7:41",
        "recipe.yaml:11:3",
        "recipe.yaml:16:13",
        "recipe.yaml:29:3",
        "override training.epochs=many",
    ]


UNPARSABLE = [
    ("", "recipe.yaml:1:1: the file is empty; a recipe has separator, data and losses"),
    ("# nothing\n", "recipe.yaml:1:1: the file is empty"),
    ("\n- 1\n- 2\n", "recipe.yaml:2:1: must be a mapping, got [1, 2]"),
    ("data:\n\troot: demo\n", "recipe.yaml:2:1: not valid YAML: lines are indented with spaces, not with tabs"),
    ("data: {root: demo\n", "recipe.yaml:2:1: not valid YAML: expected ',' or '}'"),
    ("data: a: b\n", "recipe.yaml:1:8: not valid YAML: mapping values are not allowed here"),
    (
        "data: !!python/object/apply:os.getcwd []\n",
        "recipe.yaml:1:7: not valid YAML: the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd' is not allowed",
    ),
    ("data: !mine 3\n", "recipe.yaml:1:7: not valid YAML: the tag '!mine' is not allowed, a recipe holds plain values"),
    ("data: !!int three\n", "recipe.yaml:1:7: not valid YAML: 'three' is no int"),
    ("data: &a [*a]\n", "recipe.yaml:1:7: not valid YAML: an alias may not stand inside what it repeats"),
    ("data: *b\n", "recipe.yaml:1:7: not valid YAML: found undefined alias 'b'"),
    ("1: 2\n", "recipe.yaml:1:1: not valid YAML: keys must be words"),
    ("[a]: 2\n", "recipe.yaml:1:1: not valid YAML: keys must be words"),
    ("a: 1\n---\nb: 2\n", "recipe.yaml:2:1: not valid YAML: but found another document"),
    ("a: \x01\n", "recipe.yaml:1:4: not valid YAML: the character 0x01 is not allowed"),
]


@pytest.mark.parametrize(("text", "expected"), UNPARSABLE)
def test_text_that_is_no_recipe_is_answered_in_one_line(folder, text, expected):
    (problem,) = problems_of(folder, text)
    assert problem.startswith(expected)
    assert "\n" not in problem


def test_a_key_that_stands_twice_is_answered_with_both_lines(folder):
    problems = problems_of(folder, changed("  seed: 0", "  seed: 0\n  epochs: 3"))
    assert problems == ["recipe.yaml:29:3: training.epochs: the key 'epochs' stands twice (first on line 21)"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("44_100", 44100),
        ("on", "on"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("'1e-3'", "1e-3"),
        ("~", None),
        ("True", True),
    ],
)
def test_plain_values_are_read_as_one_expects(folder, written, read):
    text = changed("hidden_size: 160", f"hidden_size: {written}")
    recipe = load_recipe(yaml_of(folder, text))
    value = recipe.separator.network["hidden_size"]
    assert (type(value), value) == (type(read), read)
    assert load_recipe(yaml_of(folder, recipe.dump())).separator.network["hidden_size"] == read


def test_an_alias_repeats_what_its_anchor_names(folder):
    text = changed("optimizer: {class", "optimizer: {betas: &pair [0.9, 0.99], class")
    assert load_recipe(yaml_of(folder, text)).training.optimizer["betas"] == [0.9, 0.99]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.yaml", None, r"^missing.yaml: there is no such file; name a recipe's YAML file$"),
        ("bytes.yaml", b"a: \xff\xfe", r"^bytes.yaml: a recipe is UTF-8 text, but byte 3 is not$"),
        ("runs/vocals", None, r"^runs.vocals: there is no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(folder, name, content, message):
    if content:
        (folder / name).write_bytes(content)
    with pytest.raises(RecipeError, match=message):
        load_recipe(name)


def test_a_folder_is_not_a_recipe(folder):
    (folder / "sub.yaml").mkdir()
    with pytest.raises(RecipeError, match=r"^sub.yaml: the recipe cannot be read: "):
        load_recipe("sub.yaml")


def test_a_byte_order_mark_is_no_mistake(folder):
    (folder / "recipe.yaml").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load_recipe("recipe.yaml").training.epochs == 40


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder that stands for the installed recipes."""
    (folder / "installed").mkdir()
    (folder / "installed" / "vocals.yaml").write_text(TEXT)
    (folder / "installed" / "recipeparts.py").write_text(PARTS)
    monkeypatch.setattr("sepkit.recipe.loader.resources.files", lambda _: folder / "installed")
    return folder / "installed"


def test_a_bare_name_is_an_installed_recipe(installed):
    assert recipe_names() == ["vocals"]
    assert load_recipe("vocals").path == installed / "vocals.yaml"


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_is_answered_with_the_installed_ones():
    message = (
        "there is no recipe 'vocal' (there are: vocals; a file is named with its suffix, as in vocal.yaml)"
        "; did you mean 'vocals'?"
    )
    with pytest.raises(RecipeError, match=f"^{re.escape(message)}$"):
        load_recipe("vocal")


@pytest.mark.parametrize("name", recipe_names())
def test_every_installed_recipe_is_right(name):
    assert load_recipe(name).name == name


def test_overrides_change_single_values(values):
    overrides = ["training.epochs=3", "losses.0.weight=2", "losses.1.weight={from: 1, to: 2, epochs: 3}"]
    overrides += ["training.optimizer.lr=1e-3", "training.clip=", "separator.network.hidden_size=9"]
    recipe = load_recipe(values, overrides)
    assert (recipe.training.epochs, recipe.losses[0].weight, recipe.losses[1].weight.end) == (3, 2, 2)
    assert (recipe.training.optimizer["lr"], recipe.training.clip) == (1e-3, None)
    assert recipe.separator.network == {"class": "recipeparts.Halves", "hidden_size": 9}


def test_an_override_makes_the_section_that_is_not_there(values):
    values["validation"] = None
    del values["data"]["remix"]
    recipe = load_recipe(values, ["validation.every=3", "data.remix=0.5"])
    assert (recipe.validation.every, recipe.data.remix) == (3, 0.5)


def test_a_mapping_is_not_changed_by_overrides(values):
    before = copy.deepcopy(values)
    load_recipe(values, ["training.epochs=3"], data="here")
    assert values == before


BAD_OVERRIDES = [
    ("training.epohcs=3", "training.epohcs: unknown key; did you mean 'epochs'?"),
    ("trainig.epochs=3", "trainig: unknown key; did you mean 'training'?"),
    ("training.epochs=many", "training.epochs: must be an int, got 'many'"),
    ("training.epochs", "training.epochs: an override is written key.sub=value"),
    ("=3", ": an override is written key.sub=value"),
    ("training.epochs=[3", "training.epochs: the value is not valid YAML: expected ',' or ']'"),
    ("training.epochs.x=3", "training.epochs.x: training.epochs is 40, which has no keys"),
    ("losses.7.weight=2", "losses.7.weight: losses has 2 entries, counted from 0; there is no '7'"),
    ("losses.first.weight=2", "losses.first.weight: losses has 2 entries, counted from 0; there is no 'first'"),
    (
        "separator.network.hidden=3",
        "separator.network.hidden: Halves has no such argument; did you mean 'hidden_size'?",
    ),
    ("training.optimizer={class: SGD, lr: {a: 1, a: 2}}", "training.optimizer.lr: must be a float, got {'a': 2}"),
    (
        "training.optimizer={class: SGD, lr: 1, lr: 2}",
        "training.optimizer.lr: the key 'lr' stands twice (first on line 1)",
    ),
    ("data.augment=[{class: recipeparts.Shift}]", "data.augment.0.steps: must be given: Shift has no default for it"),
]


@pytest.mark.parametrize(("override", "expected"), BAD_OVERRIDES)
def test_a_wrong_override_is_answered_with_its_own_words(folder, override, expected):
    problems = problems_of(folder, TEXT, (override,))
    assert any(problem.startswith(f"override {override}: {expected}") for problem in problems), problems


def test_data_replaces_the_root_and_nothing_else(values, tmp_path):
    plain, moved = load_recipe(values), load_recipe(values, data=tmp_path)
    assert moved.data.root == str(tmp_path)
    assert moved.differences(plain.to_dict()) == ["data.root"]


def test_data_stands_in_for_a_root_that_is_not_there(values):
    del values["data"]["root"]
    assert load_recipe(values, data="songs").data.root == "songs"


def test_a_wrong_data_argument_is_answered_as_such(folder):
    text = TEXT.replace("\ndata:\n", "\ndata: demo\nlater:\n")
    assert "--data songs: data.root: data is 'demo', which has no keys" in problems_of_data(folder, text)


def problems_of_data(folder: Path, text: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(yaml_of(folder, text), data="songs")
    return caught.value.problems


def test_a_mapping_is_answered_without_lines(values):
    values["training"]["epochs"] = 0
    with pytest.raises(RecipeError, match=r"^training.epochs: must be >= 1, got 0$"):
        load_recipe(values)


def test_a_mapping_may_hold_tuples_and_paths(values, tmp_path):
    values["separator"]["sources"] = ("vocals", "drums")
    values["data"]["root"] = tmp_path
    recipe = load_recipe(values)
    assert recipe.separator.sources == ["vocals", "drums"]
    assert recipe.data.root == str(tmp_path)


def test_a_mapping_holds_plain_data_only(values):
    values["separator"]["network"]["hidden_size"] = object()
    message = r"^separator.network.hidden_size: must be plain data \(null, bool, int, float, str\), got a object$"
    with pytest.raises(RecipeError, match=message):
        load_recipe(values)


def test_a_key_of_a_mapping_is_a_word(values):
    values["training"][3] = 4
    with pytest.raises(RecipeError, match="keys must be words, got 3"):
        load_recipe(values)


def test_what_turns_out_wrong_later_is_answered_at_its_line_too(folder):
    problem = Problem(("training", "seed"), "is too low")
    recipe = load_recipe(yaml_of(folder, TEXT))
    assert recipe.error([problem]).problems == ["recipe.yaml:28:9: training.seed: is too low"]
    assert Recipe.model_validate(recipe.to_dict()).error([problem]).problems == ["training.seed: is too low"]


def test_a_dumped_recipe_reads_back_the_same(folder):
    recipe = load_recipe(yaml_of(folder, TEXT))
    again = load_recipe(yaml_of(folder, recipe.dump()))
    assert again.to_dict() == recipe.to_dict()
    assert again.differences(recipe.to_dict()) == []
    assert yaml.safe_load(recipe.dump()) == recipe.to_dict()  # a YAML 1.1 reader agrees


def test_differences_are_named_by_their_keys(values):
    recipe = load_recipe(values)
    other = load_recipe(values, ["training.epochs=3", "losses.0.weight=2", "data.augment=[]"]).to_dict()
    other["later"] = 1
    assert recipe.differences(other) == [
        "data.augment.0.class",
        "data.augment.0.low_db",
        "data.augment.0.high_db",
        "data.augment.1.class",
        "losses.0.weight",
        "training.epochs",
        "data.augment",
        "later",
    ]


def test_a_default_that_is_written_out_is_no_difference(values):
    recipe = load_recipe(values)
    assert recipe.differences(load_recipe(values, ["training.accumulate=1"]).to_dict()) == []


def test_the_recipes_folder_is_importable_only_while_it_is_read(folder, monkeypatch):
    (folder / "deep").mkdir()
    (folder / "deep" / "recipe.yaml").write_text(TEXT)
    (folder / "recipeparts.py").rename(folder / "deep" / "recipeparts.py")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(folder))])
    before = list(sys.path)
    assert load_recipe("deep/recipe.yaml").name == "recipe"
    assert sys.path == before


def test_settings_cannot_be_changed(values):
    recipe = load_recipe(values)
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.epochs = 3


JUNK = [None, True, 0, -1, 1.5, "", "word", [], [None], [[]], {}, {"class": 3}, {"class": None}, {"a": {"b": 1}}]


@pytest.mark.parametrize("seed", range(60))
def test_junk_anywhere_is_a_recipe_error_and_nothing_else(values, seed):
    chance = random.Random(seed)
    place, depth = values, chance.randint(1, 4)
    for _ in range(depth):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        if not isinstance(place[key], dict | list) or not place[key]:
            break
        parent, place = place, place[key]
    else:
        place = parent
    place[key] = chance.choice(JUNK)
    try:
        assert isinstance(load_recipe(values), Recipe)
    except RecipeError as error:
        assert error.problems  # noqa: PT017


def test_an_unreadable_file_is_answered_without_importing_torch(tmp_path):
    code = (
        "import sys; from sepkit.recipe import load_recipe, RecipeError\n"
        "try: load_recipe('nowhere.yaml')\n"
        "except RecipeError: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.strip() == "False"


OPTIMIZERS = [
    name
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and cls is not torch.optim.Optimizer
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_of_torch_takes_a_step_or_is_refused(folder, name):
    text = changed("class: AdamW, lr: 4.0e-3, weight_decay: 0.01", f"class: {name}, lr: 1.0e-3")
    if name in ("LBFGS", "SparseAdam", "Muon"):  # of which the last takes matrices alone
        with pytest.raises(RecipeError, match=rf"training\.optimizer.*({name}|Invalid)"):
            load_recipe(yaml_of(folder, text))
        return
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = torch.ones(3)
    settings = load_recipe(yaml_of(folder, text)).training.optimizer
    instantiate(settings, "torch.optim", {"params": [weight]}).step()
    assert weight.any()


def keys_of_recipes() -> list[str]:
    sections = {name: getattr(field.annotation, "model_fields", {}) for name, field in Recipe.model_fields.items()}
    below = [f"{name}.{field.alias or key}" for name, fields in sections.items() for key, field in fields.items()]
    return [*sections, *below]


@pytest.mark.parametrize("value", [json.dumps(value) for value in JUNK])
def test_a_value_of_any_kind_at_any_key_is_taken_or_answered(folder, value):
    path, raw = yaml_of(folder, TEXT), {}
    for key in keys_of_recipes():
        try:
            load_recipe(path, [f"{key}={value}"])
        except RecipeError:
            pass
        except Exception as error:
            raw[key] = repr(error)
    assert not raw
