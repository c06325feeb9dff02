"""benchmarks/search.py: its variants are recipes, and its page is that of its table."""

import importlib.util
from argparse import Namespace
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


@pytest.mark.parametrize(("minutes", "steps"), [(8, 4800), (0.5, 300), (1e-6, 10)])
def test_steps_fill_the_time_without_what_the_start_costs(program, monkeypatch, tmp_path, minutes, steps):
    monkeypatch.setattr(program, "train", lambda _run, _settings, epochs, steps: 7 + 0.1 * epochs * steps)
    options = Namespace(runs=tmp_path, root=["demo"], minutes=minutes)
    run, counted, spent = program.fit(options, "one", {}, 0)
    assert (run.parent, counted) == (tmp_path, steps)
    assert spent == pytest.approx(7 + 0.1 * steps)


def test_trainings_at_the_same_time_do_not_share_a_folder_and_leave_none_behind(program, monkeypatch, tmp_path):
    made = []

    def train(run, _settings, epochs, steps):
        assert not run.exists()
        run.mkdir()
        made.append(run)
        return float(epochs * steps)

    monkeypatch.setattr(program, "train", train)
    runs = [
        program.fit(Namespace(runs=tmp_path, root=[root], minutes=minutes), name, {}, seed)[0]
        for root, minutes, name, seed in [
            ("demo", 8, "a", 0),
            ("sek", 8, "a", 0),
            ("demo", 3, "a", 0),
            ("demo", 8, "b", 1),
        ]
    ]
    assert len(made) == 3 * len(runs)
    assert len(set(made)) == 2 * len(runs)  # both trials of a training are in one
    assert sorted(tmp_path.iterdir()) == sorted(runs)


def test_the_page_in_the_docs_is_that_of_the_table(program, tmp_path):
    table = tmp_path / "search.csv"
    table.write_bytes(program.TABLE.read_bytes())
    program.write_page(table)
    assert table.with_suffix(".md").read_text("utf-8") == program.TABLE.with_suffix(".md").read_text("utf-8")
