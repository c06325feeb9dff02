"""Recipes of published sizes say which settings fit which GPU, and a dry run tells the same."""

import re
from pathlib import Path

import pytest
import yaml

from sepkit.recipe import load_recipe, recipe_names
from sepkit.training.memory import estimate_memory

ROOT = Path(__file__).parents[1]
NAMES = recipe_names()
PUBLISHED = [name for name in NAMES if f"{name}_small" in NAMES]
LINE = re.compile(r"^# +(\d+) GB  (.+) \((\d+\.\d) to (\d+\.\d)\)$", re.MULTILINE)


def text_of(name: str) -> str:
    return (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def lines_of(name: str) -> list[tuple[int, list[str], float, float]]:
    """The GPU's GB, the settings for it, and what a step needs."""
    found = LINE.findall(text_of(name))
    return [(int(size), settings.split(), float(low), float(high)) for size, settings, low, high in found]


def test_every_published_network_has_a_recipe_of_its_size_and_a_small_one():
    assert len(PUBLISHED) == 9


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_names_its_source_and_a_setting_for_each_gpu(name):
    assert re.search(r"Not run here\. From .*, (19|20)\d\d\s", text_of(name).replace("\n# ", " "))
    sizes = [size for size, *_ in lines_of(name)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 8
    assert set(sizes) <= {8, 16, 24, 80}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_published_recipe_is_set_to_fits_24_gb(name):
    """The largest GPU up to 24 GB for which there is a line is the one that needs no override."""
    *_, (_, settings, _, _) = (line for line in lines_of(name) if line[0] <= 24)
    training = load_recipe(name).to_dict()["training"]
    for setting in settings:
        key, _, value = setting.removeprefix("training.").partition("=")
        assert training[key] == yaml.safe_load(value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_settings_for_a_gpu_fit_it_as_they_state(name):
    for size, _, low, high in lines_of(name):
        assert low < high <= size


CASES = [(name, line) for name in PUBLISHED for line in lines_of(name)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line"), CASES, ids=[f"{name}, {line[0]} GB" for name, line in CASES])
def test_a_dry_run_tells_what_the_recipe_states(name, line):
    _, settings, *stated = line
    told = [each / 2**30 for each in estimate_memory(load_recipe(name, settings))]
    assert told == pytest.approx(stated, abs=0.1 + 0.02 * stated[0])
