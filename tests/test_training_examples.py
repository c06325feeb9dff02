"""Examples of a training: as its recipe asks, and the same ones when it goes on."""

import shutil
from pathlib import Path

import pytest
import yaml
from songs import RATE, write_song
from training import (
    RECIPE,
    SOURCES,
    StopAfter,
    assert_equal,
    change_state,
    last_weights,
    make_run,
    skip_report,
    song,
    stored_state,
    write_songs,
)

from sepkit.datasets import ActivityRules, Remix, SamplingRules, open_songs
from sepkit.recipe import load_recipe
from sepkit.training import TrainingInterrupted
from sepkit.training.examples import make_dataset

NETWORK = {"class": "BLSTM", "hidden_size": 4, "n_layers": 1, "dropout": 0.0, "n_bands": 8}
SMALL = {
    **RECIPE,
    "separator": {**RECIPE["separator"], "segment": 0.1, "network": NETWORK},
    "training": {**RECIPE["training"], "epochs": 2},
}
ACTIVITY = "data.sampling={tracks: equally, balanced: true, activity: {silent: 0.25, threshold: -50, sounding: 0.5}}"


@pytest.fixture
def root(tmp_path) -> Path:
    return write_songs(tmp_path / "songs")


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """Train a recipe, changed by overrides, without report and curves."""
    skip_report(monkeypatch)
    return make_run(root, tmp_path, SMALL)


@pytest.fixture
def stopped(run, tmp_path) -> Path:
    """Stop a training after a step; return its folder."""
    with pytest.raises(TrainingInterrupted):
        run(observers=[StopAfter(2)])
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("overrides", "sampling", "remix"),
    [
        ([], SamplingRules(), 0.5),
        (["data.remix={share: 1, tempo: 0.05, key: 1}"], SamplingRules(), Remix(1.0, 0.05, 1)),
        ([ACTIVITY], SamplingRules("equally", True, ActivityRules(0.25, -50.0, 0.5)), 0.5),
    ],
)
def test_examples_are_drawn_as_the_recipe_asks(root, monkeypatch, overrides, sampling, remix):
    seen = {}
    monkeypatch.setattr(
        "sepkit.training.examples.SongDataset", lambda *given, **_: seen.update(remix=given[4], sampling=given[7])
    )
    make_dataset(load_recipe(SMALL, overrides, data=root), open_songs(root, "train", SOURCES, RATE, 2))
    assert seen == {"remix": remix, "sampling": sampling}


def test_a_recipe_that_samples_says_how_much_sounds_and_is_written_down_whole(run):
    lines = []
    folder = run(ACTIVITY, "training.epochs=1", log=lines.append)
    assert "\nvocals sounds in 100 % and is silent in 0 % of all segments\ndrums sounds in" in "\n".join(lines)
    stored = yaml.safe_load((folder / "recipe.yaml").read_text())["data"]
    activity = {"silent": 0.25, "threshold": -50.0, "sounding": 0.5}
    assert stored["sampling"] == {"tracks": "equally", "balanced": True, "activity": activity}
    assert load_recipe(folder / "recipe.yaml").to_dict()["data"] == stored


def test_a_stopped_training_goes_on_to_the_same_weights_when_it_samples(run):
    with pytest.raises(TrainingInterrupted):
        run(ACTIVITY, observers=[StopAfter(2)])
    assert_equal(last_weights(run(ACTIVITY)), last_weights(run(ACTIVITY, folder="whole")))


def test_songs_that_cannot_be_matched_end_the_training_in_a_sentence(run):
    with pytest.raises(ValueError, match="remix by tempo needs songs whose tempo is known, of 2 none is: add the col"):
        run("data.remix={share: 1, tempo: 0.3}")


def test_a_run_that_drew_in_another_order_is_refused(run, stopped):
    assert stored_state(stopped)["plan"]["version"] == 1
    change_state(stopped, lambda state: state["plan"].update(version=2))
    with pytest.raises(ValueError, match="drew its examples by plan 2, and this sepkit draws others, by plan 1: go on"):
        run()


def test_a_run_from_before_draws_had_a_version_goes_on(run, stopped):
    change_state(stopped, lambda state: state.pop("plan"))
    recipe = yaml.safe_load((stopped / "recipe.yaml").read_text())
    del recipe["data"]["sampling"]
    (stopped / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert_equal(last_weights(run()), last_weights(run(folder="whole")))


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("change", ["added", "removed", "longer"])
def test_a_run_that_goes_on_with_other_songs_says_so(run, root, change):
    if change == "removed":
        shutil.rmtree(root / "train" / "two")
    else:
        write_song(root / "train" / ("more" if change == "added" else "two"), song(5, 6.0))
    with pytest.warns(UserWarning, match="the songs to train on are not those that this run began with.*--restart"):
        run()
