"""Values of a wrong kind in a config are answered with their key, whatever the family, the key and the kind."""

import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from published import CASES, write_examples, write_published

from sepkit.importing._families import find_family
from sepkit.importing._given import leaves, read_config
from sepkit.importing._materials import Material, read_file, read_folder
from sepkit.importing._pickles import CheckpointError
from sepkit.importing.model import _assemble, _join, read_numbers

CASES_OF_FAMILIES = (
    "bs_roformer", "mel_band_roformer", "mdx23c", "scnet_masked", "scnet_official", "bandit_second", "conv_tasnet",
    "htdemucs", "hdemucs_masked", "demucs_time", "umxl",
)  # fmt: skip
WRONG = ("abc", -2.5, [None], {"a": 1}, None)


class Given(NamedTuple):
    """What is read of the files of a case, and what is set beside it."""

    material: Material
    config: dict[str, Any]
    overrides: dict[str, Any]


@pytest.fixture(scope="module")
def given(reference_root, tmp_path_factory):
    """Return the files of a case, each read once."""

    @lru_cache
    def read(name: str) -> Given:
        folder = tmp_path_factory.mktemp(name)
        if name == "umxl":
            write_examples(folder)
            return Given(read_folder(folder / "umxl"), {}, {"segment": 6, "niter": 1, "softmask": True})
        written, config, overrides = write_published(reference_root, folder, name), {}, {}
        for option in filter(lambda option: option not in ("--config", "--set"), written.options):
            if Path(option).is_file():
                config = read_numbers(read_config(Path(option)))
            else:
                key, _, value = option.partition("=")
                overrides[key] = yaml.safe_load(value)
        return Given(read_file(written.weights), config, overrides)

    return read


def keys_of(given: Given) -> list[str]:
    config, _ = _join(find_family(given.material.tensors), given.material, given.config)
    return [*(key for key, _ in leaves(config)), *config, *given.overrides]


def answer(given: Given, key: str, value: Any) -> str:
    try:
        _assemble(given.material, deepcopy(given.config), {**given.overrides, key: value})
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", CASES_OF_FAMILIES)
def test_a_value_of_a_wrong_kind_is_answered_with_its_key(given, name, value):
    answers = {key: answer(given(name), key, deepcopy(value)) for key in keys_of(given(name))}
    told = {key: text for key, text in answers.items() if text}
    unnamed = [text for key, text in told.items() if key.rpartition(".")[2] not in text]
    assert [text for text in unnamed if "config must hold arguments" not in text] == []  # it names what is in a section
    assert [text for text in told.values() if "Error" in text or "has not the form" in text] == []
    assert told


def test_every_family_is_among_the_cases(given):
    assert {name for name in CASES_OF_FAMILIES if name != "umxl"} <= {*CASES}
    assert len({find_family(given(name).material.tensors).name for name in CASES_OF_FAMILIES}) == 7


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("mel_band_roformer", "layers.0.0.layers.0.0.to_gates.weight"),
        ("mel_band_roformer", "layers.0.0.layers.0.0.to_qkv.weight"),
        ("mel_band_roformer", "mask_estimators.0.to_freqs.0.0.0.weight"),
        ("mel_band_roformer", "band_split.to_features.0.0.gamma"),
        ("mdx23c", "first_conv.weight"),
        ("scnet_masked", "pos_embed_f"),
        ("conv_tasnet", "masker.bottleneck.1.weight"),
        ("htdemucs", "encoder.0.conv.weight"),
        ("htdemucs", "encoder.1.conv.weight"),
        ("demucs_time", "encoder.1.0.weight"),
        ("umxl", "target_models.vocals.fc1.weight"),
        ("umxl", "target_models.vocals.fc3.weight"),
    ],
)
@pytest.mark.parametrize("change", [lambda one: one.flatten()[0], lambda one: one[None, None]], ids=["none", "more"])
def test_a_tensor_of_other_dimensions_is_named(given, name, tensor, change):
    material = given(name).material
    changed = {**material.tensors, tensor: change(material.tensors[tensor])}
    told = answer(given(name)._replace(material=material._replace(tensors=changed)), "inference", None)
    assert re.search(rf"{re.escape(tensor)} must have \d dimensions with values, got \(", told)
