"""The model that comes with the package: found last, small, loaded as any other, with a card that names its sources."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import write_model

from sepkit import audio, load_model, separate
from sepkit.cli import evaluate_command, model_command, separate_command
from sepkit.datasets.demo import make_song
from sepkit.datasets.demo.song import draw_song
from sepkit.datasets.singing.vocals import render_vocals
from sepkit.evaluation import Score, Scores, join_scores
from sepkit.evaluation.joining import name_models
from sepkit.inference import find_model
from sepkit.model_folder import default_place, locate_model, read_card, read_weights

STEMS = ["vocals", "drums", "bass", "other"]
RATE = 44100


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEPKIT_MODEL", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def model():
    return load_model("default")


def test_what_is_named_comes_first_then_the_newest_run_then_the_own_model(place, monkeypatch):
    assert find_model() == Path("default")
    write_model(place / "runs" / "unfinished", finished=None)
    assert find_model() == Path("default")
    write_model(place / "runs" / "mine")
    assert find_model() == Path("runs/mine")
    monkeypatch.setenv("SEPKIT_MODEL", "default")
    assert find_model() == Path("default")


def test_a_folder_of_that_name_comes_before_the_own_model(place):
    assert locate_model("default") == default_place()
    write_model(place / "default")
    assert locate_model("default") == Path("default")


@pytest.mark.usefixtures("place")
def test_a_song_is_separated_without_any_option_and_a_line_says_by_what(capsys):
    audio.write("song.wav", 0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0)), RATE)
    assert separate_command(["song.wav", "--device", "cpu"]) == 0
    assert sorted(path.stem for path in Path("separated/song").iterdir()) == sorted(STEMS)
    printed = capsys.readouterr().out
    assert "model default, which comes with sepkit: vocals, drums, bass, other at 44100 Hz\n" in printed
    assert f": {read_card(default_place())['score']['stated']}, on " in printed
    assert "`sepkit-model get htdemucs` fetches one that was trained on hundreds of hours\n" in printed


def test_the_own_model_is_described_with_all_its_sources(capsys):
    assert model_command(["info", "default"]) == 0
    printed = capsys.readouterr().out
    for source in read_card(default_place())["sources"]:
        assert f"trained on {source['name']}, licence {source['licence']}, by {source['by']}" in printed


def test_every_source_has_a_licence_that_lets_the_weights_be_passed_on():
    card = read_card(default_place())
    assert {source["licence"] for source in card["sources"]} <= {"MIT", "CC0-1.0", "BSD-3-Clause", "CC-BY-4.0"}
    assert {"stated", "metric", "data set"} <= set(card["score"])
    assert not any(str(value).startswith("/") for value in card.values())


def test_weights_are_halves_in_the_package_and_floats_where_they_are_loaded(model):
    stored = read_weights(default_place()).values()
    assert {tensor.dtype for tensor in stored if tensor.is_floating_point()} == {torch.float16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(path.stat().st_size for path in default_place().iterdir()) <= 8e6
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_importing_the_package_reads_nothing_of_it():
    code = (
        "import sys; opened = []\n"
        "sys.addaudithook(lambda name, values: opened.append(str(values[0])) if name == 'open' else None)\n"
        "import sepkit; print(sum('safetensors' in name or 'model.json' in name for name in opened))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "0\n"


def test_the_wheel_takes_the_model_along():
    setup = (Path(__file__).parents[1] / "setup.cfg").read_text(encoding="utf-8")
    assert "data/default/*" in setup
    assert sorted(path.name for path in default_place().iterdir()) == ["model.json", "model.safetensors"]


# Robustness, on generated songs


@pytest.fixture(scope="module")
def song():
    """The stems of a generated song of 8 s, (C, T) each; none is trained on, its number is beyond all splits'."""
    stems = make_song(seed=9001, duration=8.0)
    return {name: torch.as_tensor(stems[name]).float() for name in STEMS}


def level(estimate: torch.Tensor, mixture: torch.Tensor) -> float:
    return float(10 * ((estimate**2).sum() / (mixture**2).sum()).log10())


def sdr(estimate: torch.Tensor, target: torch.Tensor) -> float:
    return -level(estimate - target, target)


def changed(song, condition: str, place: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixture and vocals under a condition."""
    vocals, band = song["vocals"], song["drums"] + song["bass"] + song["other"]
    if condition == "mono":
        vocals, band = (each.mean(0, keepdim=True).expand(2, -1) for each in (vocals, band))
    if condition == "vocals on one side":
        vocals = vocals.mean(0, keepdim=True) * torch.tensor([[2**0.5], [0.0]])
    if condition == "speech":
        rng = np.random.default_rng(0)
        vocals = torch.from_numpy(render_vocals(rng, draw_song(rng, 8.0, RATE), "speech"))
    if condition == "22 kHz":
        vocals, band = (
            audio.resample(audio.resample(each, RATE, RATE // 2), RATE // 2, RATE) for each in (vocals, band)
        )
    if condition == "MP3":
        audio.write(place / "mixture.mp3", vocals + band, RATE)
        return audio.read(place / "mixture.mp3")[0][:, : vocals.shape[1]], vocals
    return vocals + band, vocals


@pytest.mark.parametrize("condition", ["as it is", "mono", "vocals on one side", "22 kHz", "MP3", "speech"])
def test_the_estimate_of_the_vocals_is_better_than_silence_and_the_mixture(model, song, condition, tmp_path):
    mixture, vocals = changed(song, condition, tmp_path)
    estimate = separate(model, mixture)["vocals"]
    assert sdr(estimate, vocals) > max(0.0, sdr(mixture / 2, vocals))


def test_vocals_alone_remain(model, song):
    assert level(separate(model, song["vocals"])["vocals"], song["vocals"]) > -3


def test_music_without_vocals_has_few(model, song):
    band = song["drums"] + song["bass"] + song["other"]
    assert level(separate(model, band)["vocals"], band) < -6


def test_silence_remains_silence(model):
    assert separate(model, torch.zeros(2, RATE))["vocals"].abs().max() == 0


# Several models in one table


def scores_of(**values: float) -> Scores:
    return Scores(
        [Score(system, "song", "vocals", "SDR", value) for system, value in values.items()], "title", ["note"]
    )


def test_models_stand_under_their_names_above_the_baselines_of_the_first():
    joined = join_scores({"a": scores_of(model=1.0, oracle=9.0), "b": scores_of(model=2.0, oracle=9.0)})
    assert [(row.system, row.value) for row in joined.rows] == [("a", 1.0), ("b", 2.0), ("oracle", 9.0)]
    assert joined.table().splitlines()[0] == "title"
    assert joined.table().count("note") == 1


def test_no_scores_cannot_be_joined():
    with pytest.raises(ValueError, match=r"scores must hold one model's at least, got none"):
        join_scores({})


def test_models_of_the_same_name_stand_under_their_folders():
    assert list(name_models(["runs/a", "default", "b/"])) == ["a", "default", "b"]
    assert list(name_models(["x/a", "y/a"])) == ["x/a", "y/a"]


@pytest.mark.parametrize("second", ["runs/a", "./runs/a", "runs/a/"])
def test_a_model_that_is_named_twice_is_refused(second):
    with pytest.raises(ValueError, match=r"each model must be named once, runs/a is there twice"):
        name_models(["runs/a", second])


def test_no_two_models_are_scored_into_one_folder(place):
    assert list(name_models(["x/a", "y/a", "x_a"])) == ["x/a", "y/a", "x_a #2"]
    assert list(name_models([".", "default"])) == [place.name, "default"]


@pytest.mark.parametrize("name", ["oracle", "silence", "model", "Mixture"])
def test_no_model_stands_under_the_name_of_a_baseline(name):
    assert list(name_models([f"runs/{name}", "default"])) == [f"{name} #2", "default"]


@pytest.mark.parametrize(("second", "message"), [("gone", "gone is no model folder"), ("", "--model is empty")])
def test_all_models_are_looked_for_before_the_first_is_scored(place, capsys, second, message):
    write_model(place / "a")
    assert evaluate_command(["--model", "a", second, "--data", "nowhere"]) == 2
    assert message in capsys.readouterr().err


def test_several_models_are_scored_into_folders_of_their_own_and_one_table(place, capsys):
    for name in STEMS[:2]:
        stem = 0.1 * torch.randn(2, 24000, generator=torch.Generator().manual_seed(len(name)))
        Path("songs/test/song").mkdir(parents=True, exist_ok=True)
        audio.write(f"songs/test/song/{name}.wav", stem, 8000)
    write_model(place / "a", vocals=0.5, drums=0.5)
    write_model(place / "b", vocals=0.9, drums=0.1)
    command = ["--model", "a", "b", "--data", "songs", "--metrics", "SDR", "--trust", "--device", "cpu"]
    assert evaluate_command(command) == 0
    table = capsys.readouterr().out.rpartition("b was scored, 2 of 2\n")[2]
    assert [line.split()[0] for line in table.splitlines() if line[:2] in ("a ", "b ")] == ["a", "b"] * 2
    assert Path("evaluation/a/scores.csv").is_file()
    assert Path("evaluation/b/scores.csv").is_file()


def test_the_card_is_plain_and_complete():
    card = json.loads((default_place() / "model.json").read_text(encoding="utf-8"))
    assert card["recipe"] == "default"
    assert card["separator"]["sources"] == STEMS
