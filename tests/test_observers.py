"""Observers: what is shown of a training, when, at what cost, and that observers change nothing."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training import (
    N_STEPS,
    SOURCES,
    StopAfter,
    assert_equal,
    history,
    last_weights,
    make_run,
    skip_report,
    weights,
    write_songs,
)

from sepkit import observers
from sepkit.excerpts import Excerpt, shorten
from sepkit.files import same_file_key
from sepkit.observers import TrainingView
from sepkit.observers.media import MediaSchedule, is_due, numbers_of, sounds_of
from sepkit.observers.pictures import draw_excerpt, picture_file
from sepkit.training import TrainingInterrupted

RATE = 8000


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"))


@pytest.fixture
def run(root, tmp_path, monkeypatch):
    """Train a recipe, changed by overrides, without report and curves."""
    skip_report(monkeypatch)
    return make_run(root, tmp_path)


def read(folder: Path):
    """Read what TensorBoard would show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries that TensorBoard's reader imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        everything = {"scalars": 0, "images": 0, "audio": 0, "histograms": 0, "tensors": 0}
        return EventAccumulator(str(folder), everything, purge_orphaned_data=True).Reload()


def steps(events) -> list[int]:
    return [event.step for event in events]


def contents(events) -> list[bytes]:
    return [event.encoded_audio_string for event in events]


def excerpt(n_sources: int = 2, n_samples: int = 2 * RATE, track: str = "song") -> Excerpt:
    generator = torch.Generator().manual_seed(0)
    targets = 0.1 * torch.randn(n_sources, 2, n_samples, generator=generator)
    names = ("vocals", "drums", "bass", "other")[:n_sources]
    return Excerpt(track, names, RATE, 1.0, targets.sum(0), 0.5 * targets, targets)


class Gallery:
    """Keep every view."""

    def __init__(self) -> None:
        self.views = []

    def on_epoch(self, view: TrainingView) -> None:
        self.views.append(view)


# What observers see


def test_after_a_validation_a_view_has_the_same_excerpt_all_through(run):
    gallery = Gallery()
    run("training.epochs=3", "validation.every=2", observers=[gallery])
    assert [len(view.excerpts) for view in gallery.views] == [0, 1, 1]
    (second,), (third,) = (view.excerpts for view in gallery.views[1:])
    assert (second.track, second.sources, second.sample_rate) == ("three", tuple(SOURCES), RATE)
    assert second.estimates.shape == second.targets.shape == (2, 2, 2 * RATE)
    assert (second.start, third.start) == (1.0, 1.0)
    torch.testing.assert_close(second.mixture, third.mixture, rtol=0, atol=0)
    torch.testing.assert_close(second.targets, third.targets, rtol=0, atol=0)
    assert not torch.equal(second.estimates, third.estimates)


def test_an_excerpt_is_of_the_seconds_in_which_all_targets_sound():
    targets = torch.zeros(2, 2, 10 * RATE)
    targets[0, :, : 7 * RATE] = 0.1
    targets[1, :, 5 * RATE :] = 0.1
    whole = Excerpt("song", ("a", "b"), RATE, 20.0, targets.sum(0), targets / 2, targets)
    part = shorten(whole, 4.0)
    assert part.mixture.shape == (2, 4 * RATE)
    assert 21.5 < part.start < 26.5
    assert part.targets.abs().amax((1, 2)).tolist() == pytest.approx([0.1, 0.1])
    first = round((part.start - 20) * RATE)
    torch.testing.assert_close(part.estimates, whole.estimates[..., first : first + 4 * RATE])
    assert part.estimates.untyped_storage().nbytes() == part.estimates.nbytes  # what it was cut from can be freed


def test_gradients_are_seen_after_steps_and_epochs_as_the_optimizer_used_them(run):
    seen = []

    class Norms:
        def on_step(self, view: TrainingView) -> None:
            gradients = [parameter.grad for parameter in view.trained.parameters()]
            norm = torch.linalg.vector_norm(torch.stack([gradient.norm() for gradient in gradients]))
            seen.append((float(norm), float(view.row["grad_norm"])))

        def on_epoch(self, view: TrainingView) -> None:
            assert all(parameter.grad is not None for parameter in view.trained.parameters())

    run("training.clip=0.01", observers=[Norms()])
    assert len(seen) == 2 * N_STEPS
    for clipped, norm in seen:
        assert clipped == pytest.approx(min(norm, 0.01), rel=1e-3)


def test_no_excerpt_is_held_without_observers(run, monkeypatch):
    monkeypatch.setattr("sepkit.training.validation.shorten", None)
    assert run("training.epochs=1").is_dir()


# What does not change


EVERYTHING = "observers=[{class: TensorBoard, histograms: true}, {class: LossCallback, event: iteration}, " + ", ".join(
    f"{{class: {name}}}"
    for name in ("LayersVisualCallback", "WaveformVisualCallback", "SpectrogramVisualCallback", "AudioPlayerCallback")
)


def test_all_observers_together_change_no_weight(run):
    alone, watched = run(folder="alone"), run(EVERYTHING + "]", folder="watched")
    assert_equal(last_weights(watched), last_weights(alone))
    assert_equal(weights(watched), weights(alone))


@pytest.mark.parametrize(
    ("name", "settings", "what"),
    [
        ("TensorBoard", {"histograms": True}, "TensorBoard's curves"),
        ("LossCallback", {}, "loss_epoch"),
        ("AudioPlayerCallback", {}, "audio"),
    ],
)
def test_two_observers_that_would_write_the_same_file_are_refused(run, name, settings, what):
    second = getattr(observers, name)(**settings)
    with pytest.raises(ValueError, match=f"two observers {name} write {what}: leave one out"):
        run(f"observers=[{{class: {name}}}]", observers=[second])


# When


@pytest.mark.parametrize(
    ("n_epochs", "every", "shown"),
    [(36, 1, [1, 4, 8, 12, 16, 20, 24, 28, 32, 36]), (36, 2, [2, 4, 8, 12, 16, 20, 24, 28, 32, 36]), (3, 1, [1, 2, 3])],
)
def test_at_most_ten_validations_are_shown_the_first_and_the_last_among_them(n_epochs, every, shown):
    assert due_epochs(n_epochs, every, None, 1.0) == shown


def test_what_is_due_follows_the_time_where_that_is_limited():
    assert due_epochs(900, 1, 6.0, 10.0) == [1, *range(4, 37, 4)]


def due_epochs(n_epochs: int, every: int, minutes: float | None, seconds: float) -> list[int]:
    """List the epochs at which something is due in a training of epochs of this many seconds."""
    recipe = {"training": {"epochs": n_epochs, "max_minutes": minutes}}
    rows, due = [], []
    for epoch in range(1, n_epochs + 1):
        rows.append({"epoch": epoch, "total_seconds": epoch * seconds})
        ended = epoch == n_epochs or (minutes and epoch * seconds >= 60 * minutes)
        if epoch % every and not ended:
            continue
        rows[-1]["SDR"] = 0.0
        view = TrainingView(epoch, epoch, rows[-1], tuple(rows), None, None, recipe, "ended" if ended else None, None)
        if is_due(view):
            due.append(epoch)
        if ended:
            break
    return due


def test_the_best_epoch_is_shown_at_the_end_unless_it_has_been(tmp_path):
    recipe = {"training": {"epochs": 36, "max_minutes": None}}
    schedule, rows = MediaSchedule(), []
    for epoch in range(1, 37):
        rows.append({"epoch": epoch, "total_seconds": 1.0, "SDR": 0.0, **({"best": True} if epoch in (1, 7) else {})})
        finished = "after 36 epochs" if epoch == 36 else None
        view = TrainingView(epoch, epoch, rows[-1], tuple(rows), None, tmp_path, recipe, finished, None, (excerpt(1),))
        list(schedule.after_epoch(view))
    (media,) = schedule.at_end(view)
    assert media.epoch == 7
    assert list(media.sounds) == ["song, best epoch/vocals/estimate", "song, best epoch/vocals/residual"]
    assert media.pictures["song, best epoch/picture"].name == "best_0007_song.png"
    assert len(list((tmp_path / "pictures").iterdir())) == 11
    assert not list(schedule.at_end(replace(view, finished=None)))


@pytest.mark.parametrize("tracks", [("2_song", "song"), ("Song", "song"), ("a:b", "a_b"), ("x", "x")], ids=str)
def test_each_excerpt_of_an_epoch_has_a_picture_of_its_own(tmp_path, tracks):
    recipe = {"training": {"epochs": 1, "max_minutes": None}}
    row = {"epoch": 1, "total_seconds": 1.0, "SDR": 0.0, "best": True}
    excerpts = tuple(excerpt(1, 700, track) for track in tracks)
    view = TrainingView(1, 1, row, (row,), None, tmp_path, recipe, None, None, excerpts)
    list(MediaSchedule().after_epoch(view))
    assert len({same_file_key(path.name) for path in (tmp_path / "pictures").iterdir()}) == 2


@pytest.mark.parametrize("best", [1, 7, 20])
def test_the_best_epoch_is_shown_at_the_end_once_whenever_a_training_went_on(tmp_path, best):
    recipe, rows, schedule, shown = {"training": {"epochs": 36, "max_minutes": None}}, [], MediaSchedule(), []
    for epoch in range(1, 37):
        if epoch in (5, 12, 30):  # in another process
            schedule = MediaSchedule()
        rows.append({"epoch": epoch, "total_seconds": 1.0, "SDR": 0.0, **({"best": True} if epoch == best else {})})
        finished = "after 36 epochs" if epoch == 36 else None
        separated = replace(excerpt(1), estimates=excerpt(1).estimates * epoch)
        view = TrainingView(epoch, epoch, rows[-1], tuple(rows), None, tmp_path, recipe, finished, None, (separated,))
        shown += [media.epoch for media in schedule.after_epoch(view)]
    last = list(schedule.at_end(view))
    assert [*shown, *(media.epoch for media in last)].count(best) == 1
    for media in last:
        assert torch.equal(media.sounds["song, best epoch/vocals/estimate"], excerpt(1).estimates[0] * best)


def test_what_the_best_epoch_separated_is_left_out_where_it_was_not_kept(tmp_path):
    rows = [{"epoch": epoch, "total_seconds": 1.0, "SDR": 0.0} for epoch in range(1, 37)]
    rows[6]["best"] = True
    (tmp_path / "training").mkdir()
    recipe = {"training": {"epochs": 36, "max_minutes": None}}
    view = TrainingView(36, 36, rows[-1], tuple(rows), None, tmp_path, recipe, "ended", None, (excerpt(1),))
    for content in (None, b"", b"no tensors at all"):
        if content is not None:
            (tmp_path / "training" / "best_excerpts.safetensors").write_bytes(content)
        assert list(MediaSchedule().at_end(view)) == []


def test_numbers_and_sounds_are_shown_where_pictures_fail_which_is_reported_once(tmp_path):
    (tmp_path / "pictures").write_text("a file where pictures would go")
    recipe = {"training": {"epochs": 3, "max_minutes": None}}
    rows = [{"epoch": epoch, "total_seconds": 1.0, "SDR": 0.0} for epoch in (1, 2, 3)]
    views = [
        TrainingView(
            epoch, epoch, rows[epoch - 1], tuple(rows[:epoch]), None, tmp_path, recipe, None, None, (excerpt(1),)
        )
        for epoch in (1, 2, 3)
    ]
    schedule = MediaSchedule()
    with pytest.warns(UserWarning, match=r"pictures fail and are left out from now on \(FileExistsError") as caught:
        found = [media for view in views for media in schedule.after_epoch(view)]
    assert len(caught) == 1
    assert [media.epoch for media in found] == [1, 2, 3]
    assert all(media.sounds and not media.pictures for media in found)


# TensorBoard


def test_tensorboard_shows_pictures_and_plays_sounds(run):
    folder = run("observers=[{class: TensorBoard}]", "training.epochs=3")
    board = read(folder)
    assert board.Tags()["images"] == ["three/picture"]
    assert steps(board.Images("three/picture")) == [1, 2, 3]
    saved = folder / "pictures" / "epoch_0002_three.png"
    assert board.Images("three/picture")[1].encoded_image_string == saved.read_bytes()
    assert sorted(path.name for path in saved.parent.iterdir()) == [f"epoch_000{i}_three.png" for i in (1, 2, 3)]
    parts = ["mixture", *(f"{s}/{kind}" for s in SOURCES for kind in ("estimate", "residual", "target"))]
    assert sorted(board.Tags()["audio"]) == sorted(f"three/{part}" for part in parts)
    assert steps(board.Audio("three/mixture")) == steps(board.Audio("three/vocals/target")) == [1]
    assert steps(board.Audio("three/drums/estimate")) == steps(board.Audio("three/drums/residual")) == [1, 2, 3]
    assert board.Tags()["histograms"] == []


def test_what_is_played_is_what_was_separated(run):
    gallery = Gallery()
    folder = run("observers=[{class: TensorBoard}]", "training.epochs=1", observers=[gallery])
    (shown,) = gallery.views[0].excerpts
    (event,) = read(folder).Audio("three/vocals/residual")
    assert (event.sample_rate, event.length_frames, event.content_type) == (RATE, 2 * RATE, "audio/wav")
    samples = np.frombuffer(event.encoded_audio_string[44:], "<i2").reshape(-1, 2).T / 32768
    wanted = shown.mixture - shown.estimates[0]
    np.testing.assert_allclose(samples, wanted.clamp(-1, 1).numpy(), atol=1 / 32768)  # a step of 16 bits


def test_memory_rate_and_waiting_are_curves(run):
    names = read(run("observers=[{class: TensorBoard}]", "training.epochs=1")).Tags()["scalars"]
    assert {"lr", "grad_norm", "data_wait", "memory", "seconds", "loss", "SDR", "SDR/vocals"} <= set(names)
    assert {"RelativeSpectralLoss", "RelativeSpectralLoss/drums"} <= set(names)


def test_histograms_of_weights_and_gradients_are_an_option(run):
    board = read(run("observers=[{class: TensorBoard, histograms: true}]", "training.clip=0.01"))
    names = board.Tags()["histograms"]
    assert {name.partition("/")[0] for name in names} == {"weights", "gradients"}
    assert steps(board.Histograms(names[0])) == [1, 2]
    squares = sum(
        event.histogram_value.sum_squares
        for name in names
        if name.startswith("gradients/")
        for event in board.Histograms(name)[-1:]
    )
    assert squares**0.5 <= 0.01 * 1.001  # they are what was left after clipping


def test_a_histogram_counts_what_is_finite():
    from sepkit.observers.events import histogram

    counted = histogram("name", torch.tensor([-1.0, 0.0, 0.1, 1.0, float("nan"), float("inf")])).histo
    assert (counted.num, counted.min, counted.max) == (4, -1, 1)
    assert sum(counted.bucket) == 4
    assert counted.sum == pytest.approx(0.1)
    assert sum(histogram("name", torch.full((3,), 2.0)).histo.bucket) == 3
    assert sum(histogram("name", torch.tensor([float("nan")])).histo.bucket) == 1


def test_nothing_is_lost_or_shown_twice_when_a_training_goes_on(run):
    settings = ["observers=[{class: TensorBoard, histograms: true}]", "training.epochs=4"]
    for step in (N_STEPS + 1, 2 * N_STEPS + 2):
        with pytest.raises(TrainingInterrupted):
            run(*settings, observers=[StopAfter(step)])
    folder = run(*settings)
    assert len(list(folder.glob("events.out.tfevents.*"))) == 3
    board, whole = read(folder), read(run(*settings, folder="whole"))
    for kind in ("images", "audio", "histograms", "scalars"):
        assert sorted(board.Tags()[kind]) == sorted(whole.Tags()[kind])
    for name in whole.Tags()["audio"]:
        assert contents(board.Audio(name)) == contents(whole.Audio(name))
    assert steps(board.Images("three/picture")) == [1, 2, 3, 4]
    assert steps(board.Scalars("loss")) == [1, 2, 3, 4]


def test_an_observer_that_comes_later_writes_the_curves_before_it(run):
    with pytest.raises(TrainingInterrupted):
        run("training.epochs=3", observers=[StopAfter(N_STEPS + 1)])
    board = read(run("training.epochs=3", "observers=[{class: TensorBoard}]"))
    assert steps(board.Scalars("loss")) == [1, 2, 3]
    assert steps(board.Images("three/picture")) == [2, 3]


def test_a_restart_removes_pictures_and_no_others(run):
    folder = run("training.epochs=2", "observers=[{class: TensorBoard}]")
    (folder / "pictures" / "mine.png").write_bytes(b"")
    run("training.epochs=1", restart=True)
    assert os.listdir(folder / "pictures") == ["mine.png"]
    assert not list(folder.glob("events.*"))


# The event file


@pytest.mark.parametrize("n_bytes", [8, 70001])
def test_checksums_are_those_of_tensorboard(n_bytes):
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    from sepkit.observers.events import _masked

    content = np.random.default_rng(n_bytes).bytes(n_bytes)
    assert _masked(content) == np.uint32(masked_crc32c(content)).tobytes()


def test_steps_that_come_again_are_shown_once_also_where_a_file_breaks_off(tmp_path):
    from sepkit.observers.events import EventFile, number

    first, epochs = EventFile(tmp_path, ".x"), EventFile(tmp_path, ".y")
    for step in range(1, 6):
        first.add(step, [number("a", step)])
    epochs.add(1, [number("b", 1)])
    with first.path.open("r+b") as file:
        file.truncate(first.path.stat().st_size - 3)
    second = EventFile(tmp_path, ".x", purge_from=4)
    second.add(4, [number("a", 40)])
    board = read(tmp_path)
    assert [(event.step, event.value) for event in board.Scalars("a")] == [(1, 1), (2, 2), (3, 3), (4, 40)]
    assert steps(board.Scalars("b")) == [1]


def test_a_file_without_values_is_not_written_to(tmp_path):
    from sepkit.observers.events import EventFile

    file = EventFile(tmp_path, ".x", 1)
    before = file.path.read_bytes()
    file.add(1, [])
    assert file.path.read_bytes() == before


# Pictures


def pixels(excerpt: Excerpt) -> np.ndarray:
    """Draw an excerpt: red, green and blue, uint8 (height, width, 3)."""
    canvas = draw_excerpt(excerpt).canvas
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def test_each_source_adds_the_same_height_to_a_picture_and_no_width():
    one, two, three = (pixels(excerpt(n)) for n in (1, 2, 3))
    assert one.shape[1:] == two.shape[1:] == three.shape[1:]
    assert len(three) - len(two) == len(two) - len(one) > 0.8 * len(one)  # but for the line above all


def test_estimate_target_and_difference_are_drawn_as_bands_and_as_waveforms():
    names = ("estimate", "target", "estimate - target")
    axes = draw_excerpt(excerpt(1)).axes
    bands, waves = axes[:3], axes[3:6]
    assert [ax.get_title("left") for ax in bands] == list(names)
    assert [ax.get_title("left") for ax in waves] == [f"vocals, {name}" for name in names]
    assert [ax.images[0].get_clim() for ax in bands] == [(-80, 0), (-80, 0), (-40, 40)]
    assert len({ax.get_ylim() for ax in waves}) == 1
    for above, below in zip(bands, waves, strict=True):
        assert above.get_position().intervalx == pytest.approx(below.get_position().intervalx)


def test_what_is_estimated_better_is_drawn_with_a_smaller_difference():
    given = excerpt(1)
    poor, perfect = (draw_excerpt(replace(given, estimates=part * given.targets)) for part in (0.1, 1.0))
    differences = [
        np.abs(ax.images[0].get_array()).max()
        for figure in (poor, perfect)
        for ax in figure.axes
        if ax.get_title("left") == "estimate - target"
    ]
    assert differences == [pytest.approx(20, abs=0.1), 0]


def test_a_picture_is_drawn_once(tmp_path, monkeypatch):
    path = picture_file(tmp_path, "epoch_0003", excerpt(track="a/b: c"))
    assert path == tmp_path / "pictures" / "epoch_0003_a_b_ c.png"
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    monkeypatch.setattr("sepkit.observers.pictures.draw_excerpt", None)
    assert picture_file(tmp_path, "epoch_0003", excerpt(track="a/b: c")) == path


@pytest.mark.parametrize("track", ["../x", "...", "Ä/ö", "a\0b", "Caf\udce9", 300 * "歌"])
def test_tracks_of_any_name_get_a_file_in_the_folder_of_pictures(tmp_path, track):
    path = picture_file(tmp_path, "epoch_0003", excerpt(1, 700, track))
    assert path.is_file()
    assert path.resolve().parent == tmp_path.resolve() / "pictures"
    assert path.name.startswith("epoch_0003_")


@pytest.mark.parametrize("n_samples", [100, 700, 20 * RATE])
def test_excerpts_of_any_length_are_drawn_otherwise_than_silence(n_samples):
    given = excerpt(1, n_samples)
    silent = replace(given, targets=0 * given.targets, estimates=0 * given.estimates)
    sounding, quiet = pixels(given), pixels(silent)
    assert sounding.shape == quiet.shape
    assert (sounding != quiet).any(-1).mean() > 0.1  # of the picture


@pytest.mark.parametrize("track", ["$\\foo$", "$x^2$", "a_b {c}"])
def test_names_are_written_as_they_are(track, tmp_path, monkeypatch):
    """Every word of a picture is given to matplotlib as it is, and none is read as a formula."""
    written = []
    from matplotlib.text import Text

    draw = Text.draw
    monkeypatch.setattr(Text, "draw", lambda text, *given: written.append(text) or draw(text, *given))
    picture_file(tmp_path, "epoch_0001", excerpt(1, 700, track))
    assert {text.get_text() for text in written if track in text.get_text()} == {f"{track}, 1.0 to 1.1 s"}
    assert not any(text.get_parse_math() for text in written)


def test_a_name_without_glyphs_is_drawn_without_a_warning(tmp_path):
    assert picture_file(tmp_path, "a", excerpt(1, 700, "歌")).is_file()


def test_sounds_are_named_by_source():
    given = excerpt()
    assert list(sounds_of(given, "song", fixed=False)) == [
        "song/vocals/estimate", "song/vocals/residual", "song/drums/estimate", "song/drums/residual",
    ]  # fmt: skip
    torch.testing.assert_close(
        sounds_of(given, "song", fixed=True)["song/drums/residual"], given.mixture - given.estimates[1]
    )


def test_numbers_are_all_but_the_epoch():
    assert numbers_of({"epoch": 3, "loss": 0.5, "best": True}) == {"loss": 0.5, "best": 1.0}


# Under auralflow's names


CALLBACKS = [name for name in observers.__all__ if name.endswith("Callback")]


def test_auralflow_s_callbacks_are_all_there():
    wanted = {"Loss", "LayersVisual", "WaveformVisual", "SpectrogramVisual", "AudioPlayer"}
    assert {name.removesuffix("Callback") for name in CALLBACKS} == wanted


@pytest.mark.parametrize(
    ("settings", "kind", "tags"),
    [
        ("LossCallback", "scalars", {"loss/epoch": [1, 2]}),
        ("LossCallback, event: iteration", "scalars", {"loss/iter": [1, 2, 3, 4, 5, 6]}),
        ("LossCallback, main_tag: mine", "scalars", {"mine": [1, 2]}),
        ("WaveformVisualCallback", "images", {"waveform/vocals": [1, 2], "waveform/drums": [1, 2]}),
        ("SpectrogramVisualCallback", "images", {"spectrogram/vocals": [1, 2], "spectrogram/drums": [1, 2]}),
        (
            "AudioPlayerCallback",
            "audio",
            {
                f"{source}/{part}": [1, 2]
                for source in SOURCES
                for part in ("estimate", "true", "residual/estimate", "residual/true")
            },
        ),
        (
            "AudioPlayerCallback, embed_residual: false",
            "audio",
            {f"{source}/{part}": [1, 2] for source in SOURCES for part in ("estimate", "true")},
        ),
    ],
)
def test_a_callback_shows_its_thing(run, settings, kind, tags):
    board = read(run(f"observers=[{{class: {settings}}}]"))
    reader = {"scalars": board.Scalars, "images": board.Images, "audio": board.Audio}[kind]
    assert {tag: steps(reader(tag)) for tag in board.Tags()[kind]} == tags


@pytest.mark.parametrize(
    ("settings", "kind", "groups"),
    [
        ("", "histograms", {"weights", "gradients"}),
        (", show_grad: false", "histograms", {"weights"}),
        (", show_weights: false", "histograms", {"gradients"}),
        (", use_norm: true", "scalars", {"weights", "gradients"}),
    ],
)
def test_layers_are_shown_by_weights_and_gradients(run, settings, kind, groups):
    board = read(run(f"observers=[{{class: LayersVisualCallback{settings}}}]", "training.epochs=1"))
    assert {tag.partition("/")[0] for tag in board.Tags()[kind]} == groups


@pytest.mark.parametrize("kind", ["waveform", "spectrogram"])
def test_pictures_are_saved_at_their_frequency(run, kind):
    name = f"{kind.capitalize()}VisualCallback"
    folder = run(f"observers=[{{class: {name}, save_dir: drawn, save_freq: 2}}]", "training.epochs=3")
    assert sorted(os.listdir(folder / "drawn")) == [f"{source}_2_{kind}.png" for source in sorted(SOURCES)]


@pytest.mark.parametrize("name", ["WaveformVisualCallback", "SpectrogramVisualCallback"])
@pytest.mark.parametrize("save_freq", [0, -2])
def test_a_frequency_of_pictures_below_one_is_refused(name, save_freq):
    with pytest.raises(ValueError, match=f"save_freq must be at least 1, got {save_freq}$"):
        getattr(observers, name)(save_freq=save_freq)


def test_steps_are_not_drawn_twice_when_a_training_goes_on(run):
    settings = ["observers=[{class: LossCallback, event: iteration}]", "training.epochs=3"]
    with pytest.raises(TrainingInterrupted):
        run(*settings, observers=[StopAfter(N_STEPS + 1)])
    assert steps(read(run(*settings)).Scalars("loss/iter")) == list(range(1, 3 * N_STEPS + 1))


def test_observers_beside_each_other_lose_nothing_when_a_training_goes_on(run):
    settings = ["observers=[{class: TensorBoard}, {class: LossCallback, event: iteration}]", "training.epochs=3"]
    with pytest.raises(TrainingInterrupted):
        run(*settings, observers=[StopAfter(N_STEPS + 1)])
    board = read(run(*settings))
    assert steps(board.Scalars("loss")) == [1, 2, 3]
    assert steps(board.Scalars("loss/iter")) == list(range(1, 3 * N_STEPS + 1))


# Weights & Biases


def test_a_missing_wandb_is_named_with_its_remedy(run, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "sepkit.observers.weights_and_biases.find_spec", lambda name: None if name == "wandb" else found(name)
    )
    with pytest.raises(ValueError, match="the observer WeightsAndBiases needs the package wandb: pip install wandb"):
        run("observers=[{class: WeightsAndBiases}]")
    assert not (tmp_path / "run").exists()


OFFLINE = """
import sys
sys.path.insert(0, {tests!r})
from sepkit.training import TrainingInterrupted, train
from training import RECIPE, StopAfter
observers = [StopAfter({step})]
try:
    train(RECIPE, {folder!r}, data={root!r}, device="cpu", quiet=True, observers=observers, log=lambda _: None,
          overrides=["training.epochs=3", "observers=[{{class: WeightsAndBiases, mode: offline, project: p}}]"])
except TrainingInterrupted:
    pass
"""


def test_weights_and_biases_gets_what_tensorboard_shows(root, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install sepkit[wandb]")
    for step in (N_STEPS + 1, 0):
        program = OFFLINE.format(
            tests=str(Path(__file__).parent), folder=str(tmp_path / "run"), root=str(root), step=step
        )
        private = {f"WANDB_{name}_DIR": str(tmp_path / name) for name in ("CACHE", "CONFIG", "DATA")}
        environment = {**os.environ, **private, "WANDB_ERROR_REPORTING": "false"}
        subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    parts = sorted((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(parts) == 2  # of one run: a part before the stop and one after it
    assert len({path.name.rpartition("-")[2] for path in parts}) == 1
    rows = [row for part in parts for row in logged(part)]
    assert [row["_step"] for row in rows] == [1, 2, 3]
    assert {"loss", "SDR/vocals", "memory", "three/picture", "three/vocals/estimate"} <= rows[0].keys()
    assert "three/mixture" in rows[0]
    assert "three/mixture" not in rows[1]
    assert rows[2]["loss"] == pytest.approx(float(history(tmp_path / "run")[2]["loss"]))
    assert len(list(parts[1].glob("files/media/images/three/*.png"))) == 2


def logged(part: Path) -> list[dict]:
    """Read the rows of an offline run."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for content in records(next(part.glob("*.wandb")).read_bytes()):
        record = Record.FromString(content)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item  # of media also their parts, nested
            rows.append({item.nested_key[0]: json.loads(item.value_json) for item in items})
    return rows


def records(content: bytes, block: int = 1 << 15) -> Iterator[bytes]:
    """Read LevelDB's log format behind a head of 7 bytes: blocks of fragments of checksum, length, kind."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # all of a record, or its end
            yield whole
            whole = b""


def test_a_curve_of_no_event_is_refused():
    with pytest.raises(ValueError, match="event must be one of iteration, epoch, got 'step'"):
        observers.LossCallback("step", "loss/x")


def test_an_observer_may_serve_one_training_after_another(run):
    tensorboard = observers.TensorBoard()
    for name in ("first", "second"):
        folder = run("training.epochs=2", "observers=[]", folder=name, observers=[tensorboard])
        assert steps(read(folder).Scalars("SDR")) == [1, 2]
