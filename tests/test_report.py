"""Reports: what they hold, that they hold it themselves, and that a browser shows and plays them."""

import configparser
import io
import json
import math
import os
import re
import shutil
import signal
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from songs import noise, write_root, write_song
from training import RECIPE, song

from sepkit import audio
from sepkit.cli import evaluate_command, separate_command
from sepkit.evaluation import Score, Scores, evaluate
from sepkit.evaluation.reporting import choose_tracks
from sepkit.excerpts import Excerpt, loudest_part, shorten
from sepkit.model_folder import save_model
from sepkit.plots import new_figure
from sepkit.recipe import load_recipe
from sepkit.report import SECONDS, Summary, report_comparison, report_scores, report_separation, report_training
from sepkit.report.excerpts import excerpt_section
from sepkit.report.media import drawing, encode_mp3, picture
from sepkit.report.page import duration, number
from sepkit.report.run import read_run
from sepkit.report.separation import Overview, separation_parts
from sepkit.separator import Separator
from sepkit.training import TrainingInterrupted, train
from sepkit.training.afterwards import scoring_command
from sepkit.training.run_folder import write_history

RATE = 8000
LIMIT = 5_000_000  # bytes
PATIENCE = 180_000  # ms, with a browser on a machine that is busy with other tests
ODD_NAME = "<b>\"R&B\"</b> 'Ünï' 歌 $x$"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """A page, taken apart.

    Attributes:
        tags: names and attributes.
        texts: what is read, and titles of sections.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(self.source.replace("<wbr>", ""))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for attributes in self.all("section")]


def waveform(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def excerpt(track="song", sources=("vocals", "drums"), seconds=1.0, rate=RATE, with_targets=True) -> Excerpt:
    shape = (len(sources), 2, round(seconds * rate))
    targets = waveform(*shape, seed=1)
    estimates = targets + 0.5 * waveform(*shape, seed=2)
    return Excerpt(track, tuple(sources), rate, 3.0, targets.sum(0), estimates, targets if with_targets else None)


def run_folder(folder: Path, name: str = "vocals", n_epochs: int = 3) -> Path:
    """What a training leaves, as far as a report reads it."""
    folder.mkdir(parents=True)
    separator = {"sources": [name], "sample_rate": RATE, "network": {"class": "BLSTM", "hidden_size": 4}}
    validation = {"epoch": 2, "SDR": 3.25}
    card = {"separator": separator, "recipe": "mine", "validation": validation, "finished": f"after {n_epochs} epochs"}
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    (folder / "recipe.yaml").write_text(f"data:\n  root: {name!r}\nlosses:\n- class: MyLoss\n  weight: 2\n", "utf-8")
    lines = [f"{epoch},{10 * epoch},{1 / epoch},{1 + epoch},{7 * epoch}" for epoch in range(1, n_epochs + 1)]
    (folder / "history.csv").write_text("\n".join(["epoch,step,loss,SDR,total_seconds", *lines]), encoding="utf-8")
    return folder


def score_rows(n_tracks=3, systems=("model", "silence", "oracle"), targets=("vocals",), metrics=("SDR", "STOI")):
    values = np.random.default_rng(0)
    return [
        Score(system, f"track {i}", target, metric, float(values.normal(5)))
        for i in range(n_tracks)
        for system in systems
        for target in targets
        for metric in metrics
    ]


def summaries(rows):
    cells = dict.fromkeys((row[0], row[2], row[3]) for row in rows)
    return [Summary(*cell, 3, (1.25, 1.0, 1.5), (1.375, math.nan, math.nan)) for cell in cells]


def write_scores(path: Path, rows=None, **options) -> Page:
    rows = score_rows() if rows is None else rows
    return Page(report_scores(path / "report.html", "mine", rows, summaries(rows), "model", **options))


# What they hold


def test_a_training_report_holds_curves_excerpts_recipe_and_cost(tmp_path):
    folder = run_folder(tmp_path / "run")
    path = report_training(folder, [excerpt()], data={"songs": 12}, cost={"CPU time": "4 min"})
    page = Page(path)
    assert path == folder / "report.html"
    assert page.sections == ["training", "excerpts", "recipe-and-data", "cost-and-environment"]
    for phrase in ("3.25 dB", "epoch 2 of 3", "21 s", "after 3 epochs", "MyLoss × 2", "BLSTM(hidden_size=4)", "4 min",
                 "songs 12", torch.__version__, "root: 'vocals'"):  # fmt: skip
        assert phrase in page.text
    assert len(page.all("audio")) == 2 + 2 * 2  # mixture, what is left over; estimate and target of each source


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ("history.csv", ["recipe-and-data"]),
        ("recipe.yaml", ["training", "recipe-and-data"]),
        ("model.json", ["training", "recipe-and-data"]),
    ],
)
def test_a_training_report_does_with_what_there_is(tmp_path, missing, left):
    folder = run_folder(tmp_path / "run")
    (folder / missing).unlink()
    assert Page(report_training(folder)).sections == [*left, "cost-and-environment"]


def test_an_empty_folder_has_a_report_of_where_it_was_made(tmp_path):
    assert Page(report_training(tmp_path)).sections == ["cost-and-environment"]


def test_a_history_with_any_names_is_read_whatever_the_system_s_encoding_is(tmp_path, monkeypatch):
    opened = Path.open

    def open_elsewhere(path, mode="r", encoding="ascii", **options):
        return opened(path, mode, encoding=encoding, **options)

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(Path, "open", open_elsewhere)
        write_history(tmp_path / "history.csv", [{"SDR/Gesänge": 1.0}])
    assert read_run(tmp_path).history == [{"SDR/Gesänge": "1.0"}]


def test_one_epoch_without_validation_has_a_curve(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,0.5\n")
    page = Page(report_training(tmp_path))
    assert "training" in page.sections
    assert len(page.all("svg")) == 1


def test_a_score_report_names_medians_and_means_of_every_system(tmp_path):
    page = write_scores(tmp_path, title="in dB,\nand more", notes=["a\nnote"])
    assert page.sections == ["scores", "tracks", "cost-and-environment"]
    for phrase in ("in dB, and more", "a note", "vocals, over 3 tracks", "model median 1.25 1.00 … 1.50", "mean 1.38",
                 "silence median", "oracle median", "vocals, SDR 1.25 dB silence 1.25, oracle 1.25",
                 "track 2"):  # fmt: skip
        assert phrase in page.text


def test_each_stem_has_its_box_plot_beside_the_baselines(tmp_path):
    page = write_scores(tmp_path, score_rows(targets=("vocals", "bass")))
    described = [picture["aria-label"] for picture in page.all("svg")]
    assert described[:2] == [f"Box plots over tracks: SDR of {name} by system" for name in ("vocals", "bass")]
    assert described[2] == "Box plots over tracks: STOI by target and system"
    assert {"model", "silence", "oracle"} <= set(page.texts)


def test_scores_without_any_number_have_tables_and_no_picture(tmp_path):
    rows = [row._replace(value=math.nan) for row in score_rows()]
    page = write_scores(tmp_path, rows)
    assert "–" in page.text
    assert not page.all("svg")


def test_a_score_report_shows_the_training_of_the_model(tmp_path):
    page = write_scores(tmp_path, run=run_folder(tmp_path / "run"), excerpts=[excerpt("a")], remarks={"a": "the best"})
    assert page.sections == ["scores", "excerpts", "tracks", "training", "recipe-and-data", "cost-and-environment"]
    assert "the best; 1.0 s from 0:03.0" in page.text


def test_a_comparison_shows_signed_differences_and_tracks_side_by_side(tmp_path):
    rows = score_rows(systems=("first", "second"))
    differences = [Summary("second", "vocals", "SDR", 3, (0.5, -0.25, 1.0), (-0.5, -1.0, 0.25))]
    page = Page(report_comparison(tmp_path / "report.html", ["first", "second"], rows, differences))
    assert page.sections == ["differences", "tracks"]
    for phrase in ("+0.50 −0.25 … +1.00", "−0.50 −1.00 … +0.25", "+0.50 dB second minus first", "track first second"):
        assert phrase in page.text


def test_a_separation_report_has_an_excerpt_where_the_first_stem_is_loudest(tmp_path):
    quiet, loud = 0.01 * waveform(2, 20 * RATE), waveform(2, 12 * RATE, seed=1)
    for name, parts in {"mixture": [loud, loud, quiet], "vocals": [quiet, loud], "drums": [loud, quiet]}.items():
        audio.write(tmp_path / f"{name}.wav", torch.cat(parts, 1), RATE)
    stems = {name: tmp_path / f"{name}.wav" for name in ("vocals", "drums")}
    page = Page(report_separation(tmp_path / "r.html", "song", tmp_path / "mixture.wav", stems, seconds=32))
    assert page.sections == ["excerpts", "waveforms", "cost-and-environment"]
    assert re.search(r"10\.0 s from 0:2[0-2]\.", page.text)
    assert len(page.all("audio")) == 4
    assert "mixture minus stems" in page.text
    assert page.text.count("dB re the loudest band") == 4  # each spectrogram has its scale
    assert len(page.all("svg")) == 4 + 3  # and each file its waveform


def test_a_silent_target_is_named_silent():
    given = excerpt()
    quiet = replace(given, targets=torch.stack([given.targets[0], 0 * given.targets[1]]))
    shown = excerpt_section([quiet]).content
    assert re.findall(r"<h4>(\w+) <small>([^<]*)", shown)[1] == ("drums", "silent here")
    assert shown.count("dB SDR here") == 1


def test_where_nothing_is_left_over_there_is_nothing_to_hear():
    whole = excerpt(with_targets=False)
    shown = excerpt_section([Excerpt(**{**vars(whole), "mixture": whole.estimates.sum(0)})]).content
    assert shown.count("<audio") == 3
    assert "minus" not in shown


# That they hold it themselves


def assert_self_contained(page: Page) -> None:
    links = [tag[name] for _, tag in page.tags for name in ("src", "href", "poster") if name in tag]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "default-src 'none'" in page.source
    assert not re.search(r"@import|url\((?!['\"]?(?:data:|#))", page.source)
    assert not re.search(r"https?://", page.source)


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    folder = run_folder(tmp_path / "run")
    assert_self_contained(Page(report_training(folder, [excerpt()])))
    assert_self_contained(write_scores(tmp_path))


def test_the_templates_are_installed_with_the_package():
    configuration = configparser.ConfigParser()
    configuration.read(Path(__file__).parents[1] / "setup.cfg")
    assert configuration["options.package_data"]["sepkit.report"].split() == ["templates/*"]


def test_names_are_shown_as_they_are(tmp_path):
    folder = run_folder(tmp_path / "run")
    rows = [row._replace(track=ODD_NAME, target=ODD_NAME) for row in score_rows()]
    shown = excerpt(ODD_NAME, (ODD_NAME,))
    page = Page(
        report_scores(
            tmp_path / "r.html", ODD_NAME, rows, summaries(rows), "model", title=ODD_NAME, notes=[ODD_NAME],
            excerpts=[shown], remarks={ODD_NAME: ODD_NAME}, run=folder, cost={ODD_NAME: ODD_NAME},
        )
    )  # fmt: skip
    assert not page.all("b")
    assert page.text.count(ODD_NAME) >= 10
    assert page.all("article")[0]["aria-label"] == ODD_NAME
    assert f"Solo {ODD_NAME}, target" in [attributes.get("aria-label") for attributes in page.all("button")]
    assert any(ODD_NAME in attributes["aria-label"] for attributes in page.all("svg"))


def test_names_of_files_that_are_no_text_do_not_stop_a_report(tmp_path):
    page = write_scores(tmp_path, notes=["a\udc80b"])
    assert r"a\udc80b" in page.text


@pytest.mark.parametrize(("start", "phrase"), [(3.0, "0:03.0"), (59.97, "1:00.0"), (119.94, "1:59.9")])
def test_the_place_of_an_excerpt_is_a_time(start, phrase, monkeypatch):
    monkeypatch.setattr("sepkit.report.excerpts._compare_sources", lambda *_: [])
    assert f"1.0\u00a0s from {phrase}<" in excerpt_section([replace(excerpt(), start=start)]).content


def drawn_figure(description: str) -> str:
    """Everything that matplotlib writes into an SVG file for pages: images, clipped lines, markers, points, text."""
    with drawing():
        figure = new_figure()
        for ax in figure.subplots(1, 2):
            ax.imshow(np.eye(3))
            ax.plot([0, 1, 2], [0, 1, 2], "o-", color="black", label="$x_1$")
            ax.scatter([0, 1], [1, 0])
            ax.fill_between([0, 1], [0, 0], [1, 1])
            ax.set_title("a & b")
            ax.legend()
        return picture(figure, description)


def test_pictures_name_what_they_show_and_take_the_colour_of_the_text():
    drawn = drawn_figure('a "picture"')
    assert drawn.startswith("<svg ")
    assert 'role="img" aria-label="a &quot;picture&quot;"' in drawn
    assert "currentColor" in drawn
    assert "#000000" not in drawn
    assert "data:image/webp" in drawn


def test_what_matplotlib_writes_becomes_an_element_of_a_page():
    """Its SVG files are changed by patterns, which another version of it might not match."""
    drawn = drawn_figure("a picture")
    root = ElementTree.fromstring(drawn)
    assert "max-width: 372pt" in root.attrib["style"]
    assert not {"width", "height"} & root.attrib.keys()
    assert "viewBox" in root.attrib
    assert not re.search(r"xmlns|xlink|<metadata|<!DOCTYPE|data:image/png|https?://", drawn)
    names = re.findall(r' id="([^"]*)"', drawn)
    assert len(set(names)) == len(names)
    assert set(re.findall(r"""(?:url\(|href=")#([^")]+)""", drawn)) <= set(names)
    assert not [name for name in names if re.fullmatch(r"[A-Za-z]+_\d+", name)]  # which every figure has
    assert {"$x_1$", "a & b"} <= {"".join(text.itertext()).strip() for text in root.iter("text")}


def test_many_tracks_stay_below_five_megabytes(tmp_path):
    targets, metrics = ("vocals", "drums", "bass", "other"), ("SDR", "ISR", "SIR")
    page = write_scores(tmp_path, score_rows(1500, ("model", "mixture/4", "silence", "oracle"), targets, metrics))
    assert len(page.source.encode()) <= LIMIT
    assert "tracks; scores.csv of the evaluation holds all" not in page.text


def test_of_more_tracks_than_have_room_the_report_names_how_many_it_shows(tmp_path):
    page = write_scores(tmp_path, score_rows(16000, ("model",)))
    assert "The first 15000 of 16000 tracks" in page.text
    assert len(page.source.encode()) <= LIMIT


@pytest.mark.parametrize(("n_excerpts", "n_sources", "n_pictures"), [(9, 2, 16), (1, 20, 16), (2, 12, 12)])
def test_excerpts_are_so_many_that_they_have_room(monkeypatch, n_excerpts, n_sources, n_pictures):
    encoded = []

    def encode(part, rate, bits):
        encoded.append((part, rate, bits))
        return b""

    monkeypatch.setattr("sepkit.report.media.encode_mp3", encode)
    monkeypatch.setattr("sepkit.report.excerpts.plot_difference", lambda *_: None)
    sources = [f"source {i}" for i in range(n_sources)]
    shown = excerpt_section([excerpt(str(i), sources, 12.0, 200) for i in range(n_excerpts)]).content
    assert shown.count("<svg") == n_pictures
    characters = sum(part.shape[-1] / rate * 1000 * bits / 6 for part, rate, bits in encoded)
    assert characters <= 3e6
    assert all(part.shape[-1] <= 10 * rate and bits >= 32 for part, rate, bits in encoded)


# Sound


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 37800, 44100, 48000, 96000])
@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_sound_is_mp3_of_the_same_duration_at_any_rate(rate, n_channels):
    coded = encode_mp3(waveform(n_channels, rate), rate, 96)
    decoded, found = soundfile.read(io.BytesIO(coded), always_2d=True)
    assert len(decoded) / found == pytest.approx(1, abs=0.01)  # the resampler rounds to whole samples
    assert decoded.shape[1] == min(n_channels, 2) or (n_channels, decoded.shape[1]) == (6, 1)
    assert len(coded) * 8 / 1000 <= 96 * 1.15 + 8  # a second of it, its header and its last frame


def test_sound_is_what_was_encoded():
    tone = 0.5 * torch.sin(torch.arange(44100) * 0.05)[None].repeat(2, 1)
    decoded = soundfile.read(io.BytesIO(encode_mp3(tone, 44100, 128)), dtype="float32")[0].T
    error = (torch.from_numpy(decoded.copy()) - tone)[:, 4096:-4096]
    assert error.abs().max() < 0.05  # a tenth of the tone: lossy, but neither shifted nor turned


def test_the_excerpt_lies_where_all_targets_sound():
    targets = torch.zeros(2, 2, 20 * RATE)
    targets[0, :, : 14 * RATE], targets[1, :, 8 * RATE :] = waveform(2, 14 * RATE), 0.01 * waveform(2, 12 * RATE)
    start, n_samples = loudest_part(targets, RATE, 4.0)
    assert n_samples == 4 * RATE
    assert 8 <= start / RATE <= 10


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_short_song_is_its_own_excerpt(level):
    parts = (torch.full(shape, level) for shape in ((2, 999), (1, 2, 999), (1, 2, 999)))
    found = shorten(Excerpt("short", ("vocals",), RATE, 0.0, *parts), SECONDS)
    assert (found.start, found.mixture.shape, found.targets.shape) == (0, (2, 999), (1, 2, 999))


def test_an_overview_keeps_extremes_and_length_of_a_long_file(tmp_path):
    signal = torch.zeros(1, 400 * 100 + 17)
    signal[0, 12345], signal[0, 23456] = 0.9, -0.7
    audio.write(tmp_path / "long.wav", signal, 400)
    overview = Overview(tmp_path / "long.wav", 100)
    outline, rate = overview.outline()
    assert (float(outline.max()), float(outline.min())) == (pytest.approx(0.9), pytest.approx(-0.7))
    assert len(outline) / rate == pytest.approx(100, abs=0.1)  # whole grains of a twentieth of a second
    assert len(overview.extremes) <= 2200


@pytest.mark.parametrize(("seconds", "n_grains"), [(1800, 18000), (12, 2011), (0.5, 2200)])
def test_an_overview_has_as_many_grains_as_a_picture_and_no_more_than_ten_a_second(tmp_path, seconds, n_grains):
    audio.write(tmp_path / "noise.wav", waveform(1, round(seconds * 4400)), 4400)
    overview = Overview(tmp_path / "noise.wav", seconds)
    assert len(overview.extremes) == pytest.approx(n_grains, rel=0.15)
    outline, rate = overview.outline(max(1, len(overview.extremes) // 2001))
    assert len(outline) / rate == pytest.approx(seconds, rel=0.005)


@pytest.mark.parametrize("n_samples", [100, 12 * RATE])
def test_a_waveform_is_drawn_as_a_filled_outline_and_not_as_a_line(tmp_path, n_samples):
    for name in ("mixture", "vocals"):
        audio.write(tmp_path / f"{name}.wav", waveform(2, n_samples), RATE)
    files = (tmp_path / "mixture.wav", {"vocals": tmp_path / "vocals.wav"})
    section, _ = separation_parts("song", *files, n_samples / RATE, 1.0)
    assert section.content.count("<svg") == 2
    assert section.content.count("fill: #1f5fa8") >= 1


@pytest.mark.parametrize(
    ("seconds", "phrase"), [(1.25, "1.2 s"), (59.6, "1 min 0 s"), (704, "11 min 44 s"), (7200, "2 h 0 min")]
)
def test_times_are_written_as_people_do(seconds, phrase):
    assert duration(seconds) == phrase


@pytest.mark.parametrize(
    ("value", "phrase"),
    [(-0.001, "0.00"), (-1.234, "−1.23"), (math.nan, "–"), (math.inf, "> 100"), (-math.inf, "< −100")],
)
def test_scores_have_two_decimals(value, phrase):
    assert number(value) == phrase


# Who writes them


@pytest.fixture(scope="session")
def songs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reported")
    for i, name in enumerate(["train/one", "train/two", "valid/three", "test/R&B <four>", "test/five"]):
        write_song(folder / name, song(i))
    return folder


@pytest.fixture(scope="session")
def trained(songs, tmp_path_factory) -> Path:
    return train(RECIPE, tmp_path_factory.mktemp("runs") / "tiny", data=songs, device="cpu", quiet=True, log=len)


def test_a_training_ends_with_its_report(trained):
    page = Page(trained / "report.html")
    assert page.sections == ["training", "scores", "excerpts", "tracks", "recipe-and-data", "cost-and-environment"]
    assert_self_contained(page)
    for phrase in ("three", "after 2 epochs", "songs to train on 2, 0 minutes", "CPU time, since it was last started"):
        assert phrase in page.text


def test_a_training_s_report_holds_the_scores_by_which_the_best_epoch_was_chosen(trained):
    page, best = Page(trained / "report.html"), json.loads((trained / "model.json").read_text())["validation"]
    for phrase in ("1 validation song", "The best epoch was chosen by it", "silence median 0.00", "mixture/2 median",
                 f"model median {number(best['SDR/vocals'])}", "track model mixture/2 silence oracle three",
                 f"sepkit-evaluate --model {trained} --data {trained.parent}"[:40]):  # fmt: skip
        assert phrase in page.text
    assert "Box plots over tracks: SDR of vocals by system" in [found["aria-label"] for found in page.all("svg")]


def test_a_report_that_fails_does_not_lose_the_training(songs, tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError("no space")

    monkeypatch.setattr(import_module("sepkit.training.afterwards"), "report_training", fail)
    lines = []
    with pytest.warns(UserWarning, match="there is no report of the training \\(OSError: no space\\)"):
        folder = train(RECIPE, tmp_path / "run", data=songs, device="cpu", quiet=True, log=lines.append)
    assert (folder / "model.safetensors").is_file()
    assert lines[-1].startswith("finished")


def test_an_interrupted_training_has_no_report(songs, tmp_path):
    class Stop:
        def on_step(self, _view):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(TrainingInterrupted):
        train(RECIPE, tmp_path / "run", data=songs, device="cpu", quiet=True, log=len, observers=[Stop()])
    assert not (tmp_path / "run" / "report.html").exists()


@pytest.fixture(scope="session")
def evaluated(songs, trained, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("evaluations") / "first"
    given = ["--model", str(trained), "--data", str(songs), "--metrics", "SDR", "uSDR", "--device", "cpu"]
    assert evaluate_command([*given, "--report", "--output", str(output)]) == 0
    return output


def test_an_evaluation_writes_its_report(evaluated):
    page = Page(evaluated / "report.html")
    assert page.sections == ["scores", "excerpts", "tracks", "training", "recipe-and-data", "cost-and-environment"]
    assert_self_contained(page)
    for phrase in ("R&B <four>", "the best of 2 tracks, SDR of vocals", "tracks scored now 2 of 2", "mixture/2",
                 "Small, below a number: its 95 % interval, percentiles of 2000 bootstrap resamples"):  # fmt: skip
        assert phrase in page.text
    assert "intervals: 95 %" not in page.text  # of the terminal's table


def test_an_evaluation_that_is_taken_over_has_the_same_excerpts(songs, trained, evaluated, tmp_path):
    shutil.copytree(evaluated, tmp_path / "again")
    options = {"metrics": ["SDR", "uSDR"], "report": True, "progress": False}
    evaluate(trained, songs, output=tmp_path / "again", **options)
    first, second = Page(evaluated / "report.html"), Page(tmp_path / "again" / "report.html")
    assert "tracks scored now 0 of 2" in second.text
    assert [tag["src"] for tag in first.all("audio")] == [tag["src"] for tag in second.all("audio")]


@pytest.mark.filterwarnings("default:there is no report")
def test_an_evaluation_is_not_lost_with_its_report(songs, trained, evaluated, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError("the disk is full")

    shutil.copytree(evaluated, tmp_path / "again")
    monkeypatch.setattr(import_module("sepkit.evaluation.evaluate"), "report_evaluation", fail)
    given = ["--model", str(trained), "--data", str(songs), "--metrics", "SDR", "uSDR"]
    assert evaluate_command([*given, "--output", str(tmp_path / "again"), "--report"]) == 0
    printed = capsys.readouterr()
    assert (
        "note: there is no report of the evaluation (OSError: the disk is full); the same call makes it" in printed.err
    )
    assert printed.out.splitlines()[-1].startswith("scores ")
    assert not (tmp_path / "again" / "report.html").exists()  # nor that of the evaluation before


def test_estimates_in_files_have_a_report_without_training(tmp_path, capsys):
    write_root(tmp_path / "references", ["one", "two"])
    write_root(tmp_path / "estimates", ["two", "one"])
    given = ["--estimates", str(tmp_path / "estimates"), "--references", str(tmp_path / "references")]
    assert evaluate_command([*given, "--metrics", "SDR", "--report", "--output", str(tmp_path / "scores")]) == 0
    page = Page(tmp_path / "scores" / "report.html")
    assert page.sections == ["scores", "excerpts", "tracks", "cost-and-environment"]
    assert capsys.readouterr().out.splitlines()[-1] == f"report     {tmp_path / 'scores' / 'report.html'}"


def test_a_comparison_writes_its_report(songs, trained, evaluated, tmp_path):
    other = Separator(**{**json.loads((trained / "model.json").read_text())["separator"]})
    save_model(other, tmp_path / "other")
    evaluate(tmp_path / "other", songs, output=tmp_path / "second", metrics=["SDR", "uSDR"], progress=False)
    given = ["--compare", str(evaluated), str(tmp_path / "second"), "--output", str(tmp_path / "both"), "--report"]
    assert evaluate_command(given) == 0
    page = Page(tmp_path / "both" / "report.html")
    assert page.sections == ["differences", "tracks"]
    assert "second minus first" in page.text


@pytest.fixture(scope="session")
def separated(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("separated")
    soundfile.write(folder / "A & B.wav", noise(3, 12 * RATE), RATE)
    given = [str(folder / "A & B.wav"), "--model", str(trained), "--device", "cpu", "--format", "mp3", "--report"]
    assert separate_command([*given, "--output", str(folder)]) == 0
    return folder / "A & B"


def test_a_separated_song_has_its_report_beside_its_stems(separated):
    page = Page(separated / "report.html")
    assert page.sections == ["excerpts", "waveforms", "cost-and-environment"]
    assert_self_contained(page)
    assert "A & B" in page.text
    assert re.search("model .*tiny", page.text)


@pytest.mark.filterwarnings("always:.*is separated, but there is no report of it")
def test_a_separated_song_without_report_does_not_stop_the_next(trained, tmp_path, monkeypatch, capsys):
    def fail(*_arguments, **_options):
        raise RuntimeError("no MP3")

    monkeypatch.setattr("sepkit.report.report_separation", fail)
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", noise(3), RATE)
    given = [str(tmp_path / "one.wav"), str(tmp_path / "two.wav"), "--model", str(trained), "--device", "cpu"]
    assert separate_command([*given, "--report", "--output", str(tmp_path / "stems")]) == 0
    assert (tmp_path / "stems" / "two").is_dir()
    printed = capsys.readouterr()
    assert [name for name in ("one", "two") if f"{name}.wav -> " in printed.out] == ["one", "two"]
    assert printed.err.count("is separated, but there is no report of it: RuntimeError: no MP3") == 2


@pytest.mark.parametrize("options", [{"report": True}, {"run": "runs/mine", "output": "scores"}])
def test_a_report_needs_a_place(options):
    with pytest.raises(ValueError, match="a report needs a folder to go to, and a run a report: give output"):
        evaluate("model", "data", **options)


def test_the_best_the_middle_and_the_worst_track_are_shown():
    values = {"a": 1.0, "b": 5.0, "c": 3.0, "d": 4.0, "e": math.nan}
    rows = [Score("model", track, "vocals", "SDR", value) for track, value in values.items()]
    rows += [Score("oracle", "e", "vocals", "SDR", 20.0), Score("model", "a", "vocals", "SAR", 30.0)]
    assert choose_tracks(rows, "model") == {
        "b": "the best of 4 tracks, SDR of vocals 5.00",
        "c": "the middle of 4 tracks, SDR of vocals 3.00",
        "a": "the worst of 4 tracks, SDR of vocals 1.00",
    }
    assert choose_tracks(Scores().rows, "model") == {}


# What a browser makes of them


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, or what else is installed, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH: install it (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        found = driver.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=PATIENCE)
        yield found
        found.close()


@pytest.fixture(params=["trained", "evaluated", "separated"])
def report(request) -> Path:
    return request.getfixturevalue(request.param) / "report.html"


PLAYABLE = "[...document.querySelectorAll('audio')].every(audio => audio.readyState >= 2 && audio.duration > 0.5)"


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (1280, "light"), (1280, "dark")])
def test_a_browser_shows_and_plays_a_report_without_asking_anybody(browser, report, width, scheme):
    complaints, asked = [], []
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.wait_for_function(PLAYABLE)
    inner, outer = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    page.close()
    assert inner <= outer
    assert not complaints
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]


LETTERS = """[...document.querySelectorAll("svg text")].map(letters => {
    const turned = letters.getScreenCTM();
    return Math.hypot(turned.a, turned.b) * parseFloat(getComputedStyle(letters).fontSize);
})"""


def test_letters_in_pictures_are_legible_on_a_phone(browser, report):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(PATIENCE)
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    sizes = page.evaluate(LETTERS)
    page.close()
    assert min(sizes) >= 10.5  # CSS pixels


# The mixer


SPY = """
window.starts = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...given) { starts.push(given); start.apply(this, given); };
"""
RUNNING = "mixers[0].sources.length > 0 && mixers[0].position > 0"


@pytest.fixture
def mixer(browser, trained):
    """The report of a training, in which a song has a mixer of six players."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.add_init_script(SPY)
    page.goto((trained / "report.html").as_uri())
    yield page
    page.close()


def wait_for(page, expression: str) -> None:
    """Wait until an expression is true; the page's policy forbids playwright's own way of asking again."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def names_of_audible(page) -> list[str]:
    return page.locator(".player.audible .name").all_inner_texts()


def gains_of(page) -> list[float]:
    page.wait_for_timeout(200)
    return page.evaluate("mixers[0].players.map(player => Math.round(100 * player.gain.gain.value) / 100)")


def test_all_players_of_an_excerpt_run_on_one_clock(mixer):
    """Their sources begin at one time and at one place of the waveform, and at one speed: they stay together."""
    mixer.get_by_role("button", name="Play").click()
    wait_for(mixer, RUNNING)
    starts = mixer.evaluate("starts")
    assert len(starts) == 6
    assert all(start == starts[0] for start in starts)
    assert mixer.evaluate("mixers[0].sources.every(source => source.playbackRate.value === 1 && !source.detune.value)")
    lengths = mixer.evaluate("mixers[0].buffers.map(buffer => buffer.length)")
    assert len(set(lengths)) == 1
    assert mixer.get_by_role("button", name="Pause").is_visible()


def test_the_clock_follows_what_is_played_until_it_is_paused(mixer):
    mixer.get_by_role("button", name="Play").click()
    wait_for(mixer, RUNNING)
    drift = mixer.evaluate(
        """async () => {
            const read = () => mixers[0].position - mixers[0].sources[0].context.currentTime;
            const before = read();
            await new Promise(done => setTimeout(done, 1000));
            return read() - before;
        }"""
    )
    assert abs(drift) < 0.03
    mixer.get_by_role("button", name="Pause").click()
    paused = mixer.evaluate("mixers[0].position")
    mixer.wait_for_timeout(100)
    assert mixer.evaluate("mixers[0].position") == paused > 1
    assert mixer.evaluate("mixers[0].sources.length") == 0


def test_only_the_mixture_sounds_until_others_are_chosen(mixer):
    assert names_of_audible(mixer) == ["mixture"]
    mixer.get_by_role("button", name="Play").click()
    wait_for(mixer, RUNNING)
    assert gains_of(mixer) == [1, 0, 0, 0, 0, 0]
    mixer.get_by_role("button", name="Mute vocals, estimate").click()
    assert gains_of(mixer) == [1, 0, 1, 0, 0, 0]
    mixer.get_by_role("button", name="Mute mixture").click()
    assert gains_of(mixer) == [0, 0, 1, 0, 0, 0]
    assert mixer.get_by_role("button", name="Mute mixture").get_attribute("aria-pressed") == "true"


def test_solo_mutes_the_others_and_leaves_the_mutes_as_they_were(mixer):
    mixer.get_by_role("button", name="Solo vocals, target").click()
    assert names_of_audible(mixer) == ["vocals, target"]
    mixer.get_by_role("button", name="Solo vocals, estimate").click()
    assert names_of_audible(mixer) == ["vocals, estimate"]
    mixer.get_by_role("button", name="Solo vocals, estimate").click()
    assert names_of_audible(mixer) == ["mixture"]


@pytest.mark.parametrize("loops", [True, False])
def test_an_excerpt_ends_or_begins_again(mixer, loops):
    if loops:
        mixer.get_by_role("button", name="Loop").click()
    mixer.evaluate("mixers[0].seek(mixers[0].duration - 0.2)")
    mixer.get_by_role("button", name="Play").click()
    if loops:
        wait_for(mixer, "mixers[0].sources.length && mixers[0].position > 0.2 && mixers[0].position < 1")
        assert mixer.evaluate("mixers[0].playing && mixers[0].sources.every(source => source.loop)")
    else:
        wait_for(mixer, "!mixers[0].playing && mixers[0].position === 0 && !mixers[0].sources.length")


def test_keys_do_what_buttons_do(mixer):
    mixer.keyboard.press("Space")
    wait_for(mixer, RUNNING)
    mixer.keyboard.press("3")
    assert names_of_audible(mixer) == ["vocals, estimate"]
    mixer.keyboard.press("3")
    mixer.keyboard.press("m")
    assert names_of_audible(mixer) == ["mixture", "vocals, estimate"]
    mixer.keyboard.press("l")
    assert mixer.get_by_role("button", name="Loop").get_attribute("aria-pressed") == "true"
    mixer.keyboard.press("Space")
    before = mixer.evaluate("mixers[0].position")
    mixer.keyboard.press("ArrowRight")
    assert mixer.evaluate("mixers[0].position") == pytest.approx(before + 1)
    mixer.keyboard.press("ArrowLeft")
    assert mixer.evaluate("mixers[0].position") == pytest.approx(before)
    assert not mixer.evaluate("mixers[0].playing")


def test_the_keys_are_listed_on_the_page(trained):
    page = Page(trained / "report.html")
    assert "space play or pause" in page.text
    assert "1 to 9 solo, m mute the last one chosen, l loop" in page.text


def test_a_key_on_a_button_presses_it_alone(mixer):
    mixer.get_by_role("button", name="Loop").focus()
    mixer.keyboard.press("Space")
    assert mixer.get_by_role("button", name="Loop").get_attribute("aria-pressed") == "true"
    assert not mixer.evaluate("mixers[0].playing")


def test_one_excerpt_plays_at_a_time_and_keys_are_for_it(browser, evaluated):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto((evaluated / "report.html").as_uri())
    page.get_by_role("button", name="Play").first.click()
    wait_for(page, RUNNING)
    page.get_by_role("button", name="Play").last.click()  # of the other: the first one says Pause
    wait_for(page, "mixers[1].sources.length > 0")
    assert page.evaluate("mixers.map(mixer => mixer.playing)") == [False, True]
    page.keyboard.press("Space")
    assert page.evaluate("mixers.map(mixer => mixer.playing)") == [False, False]
    page.close()


def test_without_scripts_the_browser_s_own_controls_play(browser, trained):
    page = browser.new_page(java_script_enabled=False)
    page.goto((trained / "report.html").as_uri())
    assert page.locator("audio").first.is_visible()
    assert not page.get_by_role("button", name="Play").is_visible()
    page.close()


def test_the_report_says_how_each_root_is_scored():
    root = {"root": "my songs", "layout": "slakh", "stems": {"other": ["guitar", "piano"]}}
    data = load_recipe({**RECIPE, "data": {**RECIPE["data"], "root": ["first", root]}}).data
    first, second = (scoring_command(Path("runs/x"), *each) for each in zip(data.roots, (False, True), strict=True))
    assert first == "sepkit-evaluate --model runs/x --data first --report"
    assert second == (
        "sepkit-evaluate --model runs/x --data 'my songs' --layout slakh --stems other=guitar,piano --resample --report"
    )
