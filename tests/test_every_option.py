"""A recipe with each option of `training`, `data` and `validation` trains: an option without a row here fails."""

import math

import pytest
from test_training_examples import SMALL
from training import history, make_run, skip_report, write_songs

from sepkit.recipe.data_settings import DataSettings
from sepkit.recipe.settings import TrainingSettings, ValidationSettings

PARTS = {"training": TrainingSettings, "data": DataSettings, "validation": ValidationSettings}
ROWS: dict[str, list[str]] = {  # values by option, with what else they need behind ";"
    "training.epochs": ["1"],
    "training.batch_size": ["1", "3"],
    "training.accumulate": ["4"],
    "training.optimizer": ["{class: SGD, lr: 0.1, momentum: 0.9}", "{class: torch.optim.Adagrad, lr: 0.01}"],
    "training.schedule": [
        "{class: Cosine, warmup: 0.5}",
        "{class: Plateau, patience: 1}",
        "{class: WarmRestarts, period: 2, unit: steps}",
    ],
    "training.clip": ["null", "0.1"],
    "training.ema": ["null", "0.9", "[0.5, 0.99]"],
    "training.precision": ["auto", "float32", "bfloat16", "float64"],
    "training.seed": ["7"],
    "training.max_minutes": ["0.5"],
    "training.early_stop": ["1"],
    "training.keep_best": ["2"],
    "training.max_skipped": ["0"],
    "training.checkpoint_minutes": ["null", "0.0001"],
    "training.freeze": ["['core.encode.0.*']"],
    "training.recompute": ["true"],
    "training.deterministic": ["true"],
    "data.layout": ["song_folders"],
    "data.stems": ["{voice: [vocals]}; separator.sources=[voice, drums]"],
    "data.resample": ["true; separator.sample_rate=4000"],
    "data.allow_damaged": ["true"],
    "data.items_per_epoch": ["2"],
    "data.remix": ["1.0", "{share: 0.5}"],
    "data.sampling": ["{tracks: equally, balanced: true}", "{activity: {silent: 0.5, threshold: -50, sounding: 0.2}}"],
    "data.augment": ["[]", "[{class: Gain}, {class: SoftClip, probability: 1.0}, {class: Limiter, probability: 1.0}]"],
    "data.variants": ["[{pitch: 2}, {tempo: 1.1}]"],
    "data.workers": ["0"],
    "data.on_error": ["skip"],
    "data.store": ["off"],
    "data.store_limit": ["1.5"],
    "data.licence": ["CC0"],
    "validation.every": ["2"],
    "validation.excerpt": ["1.5", "null"],
    "validation.batch_size": ["3"],
}
ELSEWHERE = {  # options that tests of their own train with
    "data.root": "here, in each row; several roots in test_training_examples",
    "training.compile": "test_training_state: a compiler takes a minute",
    "training.sharding": "test_sharding: several processes",
}
OPTIONS = [f"{part}.{name}" for part, settings in PARTS.items() for name in settings.model_fields]
CASES = [(option, value) for option in OPTIONS for value in ROWS.get(option, []) if option not in ELSEWHERE]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_has_a_row(option):
    assert (option in ROWS) != (option in ELSEWHERE), f"add values of {option} to ROWS, which are trained with"


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on few cores
@pytest.mark.parametrize(("option", "value"), CASES, ids=lambda text: text)
def test_a_recipe_with_the_option_trains(root, tmp_path, monkeypatch, option, value):
    skip_report(monkeypatch)
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    first, *more = value.split("; ")
    few = ["data.items_per_epoch=4", "training.batch_size=4", "training.epochs=1"]
    rows = history(make_run(root, tmp_path, SMALL)(*few, f"{option}={first}", *more))
    assert math.isfinite(float(rows[-1]["loss"]))
    assert int(rows[-1]["step"]) >= 1
