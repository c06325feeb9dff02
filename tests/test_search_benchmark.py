"""benchmarks/search.py: its variants are recipes, and its page is that of its table."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from sepkit.recipe import load_recipe
from sepkit.separator import Separator

PLACE = Path(__file__).parents[1] / "benchmarks" / "search.py"
VARIANTS = yaml.safe_load(PLACE.with_suffix(".yaml").read_text(encoding="utf-8"))


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("search_benchmark", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_a_recipe_that_differs_by_what_it_names(program, name):
    changes = VARIANTS[name] or {}
    plain = load_recipe(program.RECIPE).to_dict()
    varied = load_recipe(program.RECIPE, program.overrides(changes))
    assert (varied.to_dict() != plain) == bool(changes)
    assert tuple(Separator(**varied.separator_settings()).sources) == program.STEMS


def test_the_page_in_the_docs_is_that_of_the_table(program, tmp_path):
    table = tmp_path / "search.csv"
    table.write_bytes(program.TABLE.read_bytes())
    program.write_page(table)
    assert table.with_suffix(".md").read_text("utf-8") == program.TABLE.with_suffix(".md").read_text("utf-8")
