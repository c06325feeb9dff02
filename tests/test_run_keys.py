"""Which keys of a recipe may change between the parts of one run: those that change no result; all else is refused."""

import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from songs import write_song
from training import RECIPE, StopAfter, assert_equal, last_weights, song, write_songs

from sepkit.recipe import Recipe, load_recipe
from sepkit.recipe.kinds import Settings
from sepkit.training import TrainingInterrupted, train
from sepkit.training.run_folder import FREE_KEYS, RunFolder

CHANGES = {  # of every key: a value that the recipe does not have
    "separator.sources": "[drums, vocals]",
    "separator.sample_rate": "16000",
    "separator.n_channels": "1",
    "separator.segment": "0.4",
    "separator.transform.n_fft": "512",
    "separator.network.hidden_size": "8",
    "separator.network.dropout": "0.2",
    "separator.postfilter": "{class: WienerFilter}",
    "separator.normalize": "recording",
    "separator.chunking": "{overlap: 0.5}",
    "separator.residual": "rest",
    "data.layout": "song_folders",
    "data.stems": "{drums: [kick]}",
    "data.resample": "true",
    "data.allow_damaged": "true",
    "data.items_per_epoch": "12",
    "data.remix": "0.4",
    "data.sampling.tracks": "equally",
    "data.sampling.balanced": "true",
    "data.sampling.activity": "{silent: 0.2}",
    "data.augment": "[]",
    "data.variants": "[{pitch: 1}]",
    "data.licence": "CC0",
    "data.workers": "1",
    "data.on_error": "skip",
    "data.store": "'off'",
    "data.store_limit": "3",
    "losses": "[{class: RelativeSpectralLoss}, {class: WaveformL1Loss}]",
    "losses.0.class": "WaveformL1Loss",
    "losses.0.weight": "2",
    "losses.0.sources": "[drums]",
    "losses.0.inputs": "{target_spectrogram: mixture_spectrogram}",
    "losses.0.name": "other",
    "losses.0.robust": "{share: 0.3}",
    "training.epochs": "3",
    "training.batch_size": "6",
    "training.accumulate": "2",
    "training.optimizer.lr": "0.02",
    "training.optimizer.class": "Adam",
    "training.schedule": "{class: Constant}",
    "training.clip": "2",
    "training.ema": "0.99",
    "training.precision": "bfloat16",
    "training.seed": "1",
    "training.max_minutes": "3",
    "training.early_stop": "2",
    "training.keep_best": "2",
    "training.max_skipped": "3",
    "training.checkpoint_minutes": "5",
    "training.compile": "true",
    "training.freeze": "['core.encode.*']",
    "training.recompute": "true",
    "training.deterministic": "true",
    "training.sharding": "fsdp",
    "validation.every": "2",
    "validation.excerpt": "1",
    "validation.batch_size": "3",
    "observers": "[{class: TensorBoard}]",
}
ELSEWHERE = {  # keys that other tests change, and the class mappings above
    "separator.from", "separator.network", "separator.transform", "data.root", "data.sampling", "training.optimizer",
}  # fmt: skip


def keys_of(settings: type[Settings], path: str = "") -> Iterator[str]:
    """List the keys of settings, those of a section below it."""
    for name, field in settings.model_fields.items():
        key = f"{path}{field.alias or name}"
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            yield from keys_of(inner, f"{key}.")
        else:
            yield key


def is_free(key: str) -> bool:
    return key.startswith(FREE_KEYS)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture(scope="module")
def begun(root, tmp_path_factory) -> Path:
    """The folder of a run."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run", load_recipe(RECIPE, data=root))
    folder.begin()
    return folder.path


def test_every_key_has_a_change():
    known = {*CHANGES, *ELSEWHERE}
    assert not [key for key in keys_of(Recipe) if key not in known]


def changed_recipe(key: str, root: Path) -> Recipe:
    """Change a key, without what the recipe's own checks find of a change that needs others."""
    settings = {section: dict(RECIPE[section]) for section in ("separator", "data", "training", "validation")}
    return load_recipe({**RECIPE, **settings}, [f"{key}={CHANGES[key]}"], root)


@pytest.mark.parametrize("key", [key for key in CHANGES if is_free(key)])
def test_what_changes_no_result_may_change(begun, root, key):
    assert RunFolder(begun, changed_recipe(key, root)).is_run


@pytest.mark.parametrize("key", [key for key in CHANGES if not is_free(key)])
def test_what_makes_another_recipe_is_refused_by_name(begun, root, key):
    with pytest.raises(ValueError, match=rf"holds the run of another recipe, which differs in (.*, )?{key}[.,:]"):
        RunFolder(begun, changed_recipe(key, root))


# The path of the data


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("sepkit.training.afterwards"), "write_report", lambda *_: None)
    monkeypatch.setattr("sepkit.training.run_folder.RunFolder.draw", lambda *_: None)

    def start(root, *overrides: str, folder: str = "run", **options) -> Path:
        recipe = {**RECIPE, "data": {**RECIPE["data"], "root": root}}
        return train(recipe, tmp_path / folder, overrides=overrides, quiet=True, log=str, device="cpu", **options)

    return start


def one(root: Path) -> str:
    return str(root)


def one_with_a_weight(root: Path) -> dict:
    return {"root": str(root), "weight": 2.0}


def several(root: Path) -> list:
    """The songs, and a set beside them, as text and as a mapping."""
    return [str(root), {"root": str(root.with_name(f"{root.name}_more")), "weight": 0.5}]


@pytest.fixture
def data(tmp_path) -> Path:
    write_song(tmp_path / "data_more" / "train" / "four", song(7))
    return write_songs(tmp_path / "data")


@pytest.mark.parametrize(
    ("form", "keys"),
    [(one, "data.root"), (one_with_a_weight, "data.root.root"), (several, "data.root.0, data.root.1.root")],
)
def test_the_same_songs_may_lie_elsewhere_when_a_run_goes_on(run, data, tmp_path, form, keys):
    whole = run(form(data), folder="whole")
    with pytest.raises(TrainingInterrupted):
        run(form(data), observers=[StopAfter(4)])
    for name in ("data", "data_more"):
        shutil.move(tmp_path / name, tmp_path / f"moved{name[4:]}")
    moved = tmp_path / "moved"
    assert_equal(last_weights(run(form(moved))), last_weights(whole))
    assert str(moved) in (tmp_path / "run" / "recipe.yaml").read_text()
    write_song(moved / "train" / "one", song(1, 3.0))
    shutil.move(moved, tmp_path / "again")
    shutil.move(tmp_path / "moved_more", tmp_path / "again_more")
    with pytest.raises(ValueError, match=f"{keys} may be another path of the same songs when a run goes on"):
        run(form(tmp_path / "again"), "training.epochs=3")


def rename(root: Path) -> None:
    (root / "train" / "one").rename(root / "train" / "another")


def shorten(root: Path) -> None:
    write_song(root / "train" / "one", song(0, 3.0))


def add(root: Path) -> None:
    write_song(root / "train" / "five", song(5))


def judge_by_another(root: Path) -> None:
    (root / "valid" / "three").rename(root / "valid" / "six")


@pytest.mark.parametrize("change", [rename, shorten, add, judge_by_another])
def test_other_songs_at_another_path_are_refused_and_at_the_same_path_told(run, data, tmp_path, change):
    run(one(data), "training.epochs=1")
    moved = shutil.copytree(data, tmp_path / "moved")
    change(moved)
    with pytest.raises(ValueError, match=r"^data\.root may be another path.*choose another folder with --run, or"):
        run(one(moved))
    change(data)
    with pytest.warns(UserWarning, match="are not those that this run began with"):
        run(one(data))


def test_more_sets_than_a_run_began_with_are_another_recipe(begun, root):
    recipe = load_recipe({**RECIPE, "data": {**RECIPE["data"], "root": [str(root), "elsewhere"]}})
    with pytest.raises(ValueError, match=r"differs in data\.root\.0, data\.root\.1, data\.root:"):
        RunFolder(begun, recipe)
