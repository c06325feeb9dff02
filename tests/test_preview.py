"""sepkit-data preview: the page holds the examples that the training would draw, and says what they are made of."""

import base64
import io
import os
import re
import shutil
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from songs import RATE, noise, write_song
from training import RECIPE, song, write_songs

from sepkit.audio import AudioError
from sepkit.cli import data_command
from sepkit.recipe import load_recipe
from sepkit.training.loop import Trainer
from sepkit.training.preview import preview
from sepkit.training.train import open_data

ODD_NAME = "<b>\"R&B\"</b> 'Ünï' 歌 $x$"


@pytest.fixture(scope="module")
def songs(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


def recipe(**data) -> dict:
    return {**RECIPE, "data": {**RECIPE["data"], **data}}


def tables(page: Path) -> list[list[list[str]]]:
    """Read the cells of each table on a page."""
    found = re.findall(r"<tbody>(.*?)</tbody>", page.read_text(encoding="utf-8"), re.DOTALL)
    rows = [re.findall(r"<tr.*?</tr>", table, re.DOTALL) for table in found]
    return [[[unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t", row)] for row in table] for table in rows]


def likeness(sound: np.ndarray, waveform: np.ndarray) -> float:
    """Correlate two waveforms where they are most alike."""
    n = len(sound) + len(waveform)
    correlation = np.fft.irfft(np.fft.rfft(sound, n) * np.fft.rfft(waveform, n).conj(), n)
    return correlation.max() / np.linalg.norm(sound) / np.linalg.norm(waveform)


def sounds(page: Path) -> list[np.ndarray]:
    found = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page.read_text(encoding="utf-8"))
    return [soundfile.read(io.BytesIO(base64.b64decode(text)))[0].T for text in found]


def test_the_page_has_the_examples_that_the_training_draws(songs, tmp_path):
    page = preview(recipe(), data=songs, output=tmp_path / "page.html", examples=2, epoch=2)
    checked = load_recipe(recipe(), data=songs)
    dataset = Trainer(checked, open_data(checked), torch.device("cpu")).dataset
    shown, played = tables(page), sounds(page)
    assert len(shown) == 2
    assert len(played) == 2 * 3
    for i, table in enumerate(shown):
        plan, (mixture, targets) = dataset.plan((1, i)), dataset[1, i]
        assert [row[1] for row in table[1:]] == [dataset.songs[k].name for k in plan.songs]
        assert [row[5] for row in table[1:]] == [f"{gain:.3g}" for gain in plan.parameters[0]]
        for waveform, sound in zip([mixture, *targets], played[3 * i : 3 * i + 3], strict=True):
            assert likeness(sound[0], waveform[0].numpy()) > 0.9  # MP3 changes a little, and delays


def test_a_name_is_text_on_the_page(tmp_path):
    for place in ("train", "valid"):
        write_song(tmp_path / "root" / place / ODD_NAME.replace("/", "_"), song(1))
    page = preview(recipe(), data=tmp_path / "root", output=tmp_path / "page.html", examples=1)
    assert tables(page)[0][1][1] == ODD_NAME.replace("/", "_")


@pytest.mark.filterwarnings("ignore:.*is in no loss of songs of train")
def test_absent_stems_and_what_only_the_mixture_holds_are_said(tmp_path):
    write_song(tmp_path / "root/train/one", {"vocals": noise(1, 4 * RATE), "guitar": noise(2, 4 * RATE)})
    write_song(tmp_path / "root/train/two", {"drums": noise(3, 4 * RATE), "piano": noise(4, 4 * RATE)})
    write_song(tmp_path / "root/valid/three", song(1))
    page = preview(recipe(remix=0.0), data=tmp_path / "root", output=tmp_path / "page.html", examples=3)
    shown, absent = tables(page), {"one": [2, 4], "two": [1, 3]}
    for table in shown:
        assert [row[0] for row in table] == ["mixture", "vocals", "drums", "guitar", "piano"]
        (drawn,) = {row[1] for row in table[1:]} - {"absent"}
        assert [k for k, row in enumerate(table) if row[1] == "absent"] == absent[drawn]
        others = [row[3] for row in table[3:] if row[1] == drawn]
        assert others == ["only in the mixture"]
    assert len(sounds(page)) == 3 * 3  # mixture, the target, the rest
    assert page.read_text().count("rest: mixture minus targets</span>") == 3
    assert "of 3; 3 more are absent" in page.read_text()


@pytest.mark.filterwarnings("ignore:.*is silent throughout")
def test_silence_has_no_level_and_makes_no_noise(tmp_path):
    write_song(tmp_path / "root/train/one", {**song(1), "drums": np.zeros((4 * RATE, 2))})
    for place in ("train/two", "valid/three"):
        write_song(tmp_path / "root" / place, song(2))
    given = recipe(augment=[{"class": "Filter"}], remix=0.0)
    shown = tables(preview(given, data=tmp_path / "root", output=tmp_path / "page.html", examples=3))
    drums = {row[1]: row[3:] for row in (table[2] for table in shown)}
    assert drums["one"] == ["silent", "silent", "…"]  # what a filter draws are too many numbers
    assert drums["two"][0].endswith(" dB")


def test_an_epoch_that_has_fewer_examples_says_so(songs, tmp_path):
    lines = []
    page = preview(recipe(items_per_epoch=2), data=songs, output=tmp_path / "page.html", log=lines.append)
    assert len(tables(page)) == 2
    assert lines == ["an epoch has 2 examples: all of them are shown"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"examples": 0}, "examples must be >= 1, got 0"),
        ({"examples": 101}, "examples must be 100 at most.*got 101"),
        ({"epoch": 0}, "epoch must be >= 1, got 0"),
        ({"output": ""}, "output must be a file for the page, got the folder .: add its name"),
    ],
)
def test_a_wrong_number_is_refused(songs, tmp_path, monkeypatch, given, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        preview(recipe(), data=songs, **given)


def test_the_command_writes_a_page_and_says_where(songs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe()))
    arguments = ["preview", "mine.yaml", "--data", str(songs), "data.remix=0", "--examples", "1", "training.seed=1"]
    assert data_command(arguments) == 0
    assert capsys.readouterr().out == "page       preview.html\n"
    assert len(tables(tmp_path / "preview.html")) == 1


def test_a_place_that_cannot_be_written_to_is_one_line(songs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe()))
    (tmp_path / "file").touch()
    arguments = ["preview", "mine.yaml", "--data", str(songs), "--examples", "1", "--output", "file/page.html"]
    assert data_command(arguments) == 1
    assert re.fullmatch(r"sepkit-data: file cannot be written to: .*--output\n", capsys.readouterr().err)


def test_a_file_that_breaks_is_named_though_a_training_would_skip_it(songs, tmp_path, monkeypatch):
    root = shutil.copytree(songs, tmp_path / "root")

    def open_and_replace(checked):
        opened = open_data(checked)
        for path in root.glob("train/*/*.wav"):
            os.utime(path, (1, 1))
        return opened

    monkeypatch.setattr("sepkit.training.preview.open_data", open_and_replace)
    with pytest.raises(AudioError, match=r"vocals\.wav was changed after it was checked"):
        preview(recipe(on_error="skip"), data=root, output=tmp_path / "page.html")
