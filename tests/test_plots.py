"""What stands in the pictures: titles, limits, scales, marks."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from sepkit import plots
from sepkit.transforms import STFT, AudioTransform

RATE = 16000


def noise(*shape, seed=0):
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency, n_samples=1 << 14):
    """A cosine of whole hops, which reflections at its ends continue without a click."""
    return torch.cos(2 * torch.pi * frequency * torch.arange(n_samples) / RATE)


def image_of(ax):
    (image,) = ax.get_images()
    return image


def draw(axes):
    """Render the figure, as a file would."""
    figure = getattr(axes[0] if isinstance(axes, list) else axes, "figure", None) or axes
    figure.canvas.draw()
    return figure


def colour_bars(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


def test_drawing_needs_neither_pyplot_nor_a_display():
    code = (
        "import sys, torch; from sepkit import plots; assert 'matplotlib' not in sys.modules; "
        "plots.plot_spectrogram(torch.randn(2, 8000)).figure.canvas.draw(); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env={"PATH": ""})


def test_spectrogram_shows_seconds_and_kilohertz():
    ax = plots.plot_spectrogram(noise(2, 3 * RATE), RATE, title="noise")
    draw(ax)
    assert ax.get_xlim() == (0, 3)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "0.5", "1", "2", "4", "8"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title("left")) == ("time (s)", "frequency (kHz)", "noise")
    assert [bar.get_ylabel() for bar in colour_bars(ax.figure)] == ["dB re the loudest band"]


@pytest.mark.parametrize("kilohertz", [0.5, 1, 2, 4])
@pytest.mark.parametrize("as_spectrogram", [False, True])
def test_tone_lies_at_its_tick(kilohertz, as_spectrogram):
    signal = tone(1000 * kilohertz)[None]
    ax = plots.plot_spectrogram(STFT(1024, 256)(signal) if as_spectrogram else signal, RATE)
    draw(ax)
    ticks = dict(zip((label.get_text() for label in ax.get_yticklabels()), ax.get_yticks(), strict=True))
    picture = image_of(ax).get_array()
    middle = picture[:, picture.shape[1] // 2]
    assert middle.max() > -1
    assert abs(int(middle.argmax()) + 0.5 - ticks[f"{kilohertz:g}"]) <= 1  # a band


def test_levels_are_relative_to_the_loudest_band():
    loud, quiet = tone(1000), 0.01 * tone(1000)
    picture = image_of(plots.plot_spectrogram(torch.cat([loud, quiet]), RATE)).get_array()
    assert picture.max() == 0
    assert picture[:, -6].max() == pytest.approx(-40, abs=1)  # the change from loud to quiet smears
    assert picture.min() >= -80


def test_silence_is_drawn_at_the_bottom_of_the_scale():
    picture = image_of(plots.plot_spectrogram(torch.zeros(2, RATE), RATE)).get_array()
    assert (picture == -80).all()


def test_frames_of_a_spectrogram_are_a_hop_apart():
    spectrogram = STFT(1024, 256)(noise(2, RATE))  # 63 hops and a frame
    ax = plots.plot_spectrogram(spectrogram, RATE, hop_length=256)
    assert ax.get_xlim() == (0, 64 * 256 / RATE)
    assert plots.plot_spectrogram(spectrogram, RATE).get_xlim() == (0, 64 * 512 / RATE)


def test_channels_out_of_phase_do_not_cancel():
    side = torch.stack([tone(1000), -tone(1000)])
    alone = image_of(plots.plot_spectrogram(tone(1000), RATE)).get_array()
    np.testing.assert_allclose(image_of(plots.plot_spectrogram(side, RATE)).get_array(), alone, atol=1e-3)


def test_arrays_are_drawn_as_tensors_are():
    signal = noise(2, RATE)
    pictures = [image_of(plots.plot_spectrogram(given, RATE)).get_array() for given in (signal, signal.numpy())]
    np.testing.assert_array_equal(*pictures)


def test_given_axes_are_drawn_on():
    ax = Figure().subplots()
    assert plots.plot_spectrogram(noise(2, RATE), RATE, ax=ax) is ax
    pair = list(Figure().subplots(2, 1))
    assert plots.plot_waveforms({"a": noise(2, 100), "b": noise(2, 100)}, RATE, pair) == pair
    assert plots.plot_scores([("model", "song", "vocals", "SDR", 1.0)], ax=ax) is ax


def test_one_picture_may_be_drawn_on_axes_of_its_own():
    ax = Figure().subplots()
    assert plots.plot_waveforms({"a": noise(2, 100)}, RATE, ax) == [ax]
    alone = Figure().subplots()
    assert plots.plot_separation(noise(2, RATE), {}, RATE, alone) == [alone]


@pytest.mark.parametrize("as_list", [False, True])
def test_a_grid_of_axes_is_filled_row_by_row(as_list):
    grid = Figure(figsize=(8, 6)).subplots(2, 2)
    stems = {name: noise(2, RATE, seed=i) for i, name in enumerate("abc")}
    axes = plots.plot_separation(sum(stems.values()), stems, RATE, grid.tolist() if as_list else grid)
    draw(axes)
    assert axes == list(grid.flat)
    assert [ax.get_title("left") for ax in grid.flat] == ["mixture", "a", "b", "c"]
    assert [bool(ax.get_xlabel()) for ax in grid.flat] == [False, False, True, True]


def test_waveforms_and_history_are_drawn_on_a_grid():
    grid = Figure().subplots(2, 2)
    waveforms = {name: noise(2, 100) for name in "abcd"}
    assert plots.plot_waveforms(waveforms, RATE, grid) == list(grid.flat)
    column = Figure().subplots(2, 1, squeeze=False)
    assert plots.plot_history(history(), column) == list(column.flat)


def test_waveforms_share_one_scale():
    axes = plots.plot_waveforms({"loud": tone(50)[None], "quiet": 0.1 * tone(50)[None]}, RATE)
    draw(axes)
    assert [ax.get_title("left") for ax in axes] == ["loud", "quiet"]
    assert axes[0].get_ylim() == axes[1].get_ylim() == pytest.approx((-1.05, 1.05), abs=1e-3)
    assert axes[1].get_xlim() == (0, (1 << 14) / RATE)


def test_long_waveforms_keep_their_extremes():
    waveform = torch.zeros(1, 10 * RATE)
    waveform[0, 12345] = 0.9
    waveform[0, 77777] = -0.7
    (ax,) = plots.plot_waveforms({"click": waveform}, RATE)
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (heights.max(), heights.min()) == pytest.approx((0.9, -0.7))


def test_separation_shows_mixture_stems_and_residual_on_one_scale():
    vocals, drums, residual = tone(500), 0.1 * tone(1000), 0.01 * tone(2000)
    axes = plots.plot_separation(vocals + drums + residual, {"vocals": vocals, "drums": drums}, RATE)
    figure = draw(axes)
    assert [ax.get_title("left") for ax in axes] == ["mixture", "vocals", "drums", "residual"]
    assert {image_of(ax).get_clim() for ax in axes} == {(-80.0, 0.0)}
    loudest = [float(image_of(ax).get_array().max()) for ax in axes]
    assert loudest == pytest.approx([0, 0, -20, -40], abs=2)  # tones lie between bands
    assert len(colour_bars(figure)) == 1


def test_a_silent_residual_has_no_picture():
    vocals, drums = noise(2, RATE), noise(2, RATE, seed=1)
    axes = plots.plot_separation(vocals + drums, {"vocals": vocals, "drums": drums}, RATE)
    assert [ax.get_title("left") for ax in axes] == ["mixture", "vocals", "drums"]


@pytest.mark.parametrize("level", [0.0, 0.3])
@pytest.mark.parametrize(("n_axes", "names"), [(2, ["mixture", "a"]), (3, ["mixture", "a", "residual"])])
def test_given_axes_decide_whether_the_residual_is_drawn(level, n_axes, names):
    stem, residual = tone(500), level * tone(2000)
    axes = plots.plot_separation(stem + residual, {"a": stem}, RATE, Figure().subplots(n_axes))
    assert [ax.get_title("left") for ax in axes] == names


def test_a_stem_may_be_called_residual():
    vocals, residual = tone(500), tone(1000)
    axes = plots.plot_separation(vocals + residual, {"vocals": vocals, "residual": residual}, RATE)
    assert [ax.get_title("left") for ax in axes] == ["mixture", "vocals", "residual"]
    assert image_of(axes[2]).get_array().max() == pytest.approx(0, abs=2)  # tones lie between bands


@pytest.mark.parametrize("n_stems", [1, 2, 3, 4, 5, 6])
def test_every_column_of_a_separation_has_its_time_axis(n_stems):
    stems = {f"stem {i}": noise(2, RATE, seed=i) for i in range(n_stems)}
    axes = plots.plot_separation(sum(stems.values()), stems, RATE)
    draw(axes)
    columns = {ax.get_subplotspec().colspan.start for ax in axes}
    assert sum(ax.get_xlabel() == "time (s)" for ax in axes) == len(columns)
    labels = [text for ax in axes for text in ax.get_xticklabels() if ax.get_xlabel() and text.get_visible()]
    assert labels


def history():
    scores = {2: 1.0, 4: 3.0, 6: 2.0}
    return [
        {"epoch": epoch, "loss": 1 / epoch, **({"SDR": scores[epoch]} if epoch in scores else {})}
        for epoch in range(1, 7)
    ]


def test_history_marks_the_best_epoch():
    loss, score = plots.plot_history(history())
    draw(loss)
    np.testing.assert_allclose(loss.lines[0].get_xydata()[:, 1], [1 / epoch for epoch in range(1, 7)])
    np.testing.assert_array_equal(score.lines[0].get_xydata(), [(2, 1), (4, 3), (6, 2)])
    np.testing.assert_array_equal(score.lines[1].get_xydata(), [(4, 3)])
    assert [text.get_text() for text in score.get_legend().get_texts()] == ["best: 3.00 dB,\nepoch 4"]


def test_history_is_read_as_a_csv_file_gives_it():
    rows = [{key: str(row.get(key, "")) for key in ("epoch", "loss", "SDR")} for row in history()]
    from_text, from_numbers = plots.plot_history(rows), plots.plot_history(history())
    for text, number in zip(from_text, from_numbers, strict=True):
        for first, second in zip(text.lines, number.lines, strict=True):
            np.testing.assert_array_equal(first.get_xydata(), second.get_xydata())


def test_history_names_the_sources():
    rows = [{"epoch": 1, "loss": 1.0, "SDR": 2.0, "SDR/vocals": 1.0, "SDR/drums": 3.0}]
    _, score = plots.plot_history(rows)
    names = [text.get_text() for text in score.get_legend().get_texts()]
    assert names[:3] == ["mean", "vocals", "drums"]


def test_history_without_a_validation_shows_the_loss():
    loss, score = plots.plot_history([{"epoch": 1, "loss": 1.0}])
    draw(loss)
    assert len(loss.lines) == 1
    assert not score.lines


def scores():
    return [
        (system, f"song {i}", target, "SDR", level + i)
        for system, level in (("model", 3.0), ("oracle", 9.0))
        for target in ("vocals", "drums")
        for i in range(5)
    ]


def test_scores_are_boxes_by_target_and_system():
    ax = plots.plot_scores([*scores(), ("model", "song 9", "vocals", "SAR", 50.0)])
    draw(ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["vocals", "drums"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["model", "oracle"]
    assert ax.get_ylabel() == "SDR (dB)"
    medians = sorted(line.get_ydata()[0] for line in ax.lines if line.get_linewidth() == 2)
    assert medians == [5.0, 5.0, 11.0, 11.0]
    points = np.concatenate([group.get_offsets() for group in ax.collections])
    assert len(points) == 20


@pytest.mark.parametrize(("metric", "label"), [("SI-SDR", "SI-SDR (dB)"), ("STOI", "STOI"), ("l1_freq", "l1_freq")])
def test_only_scores_in_decibels_say_so(metric, label):
    rows = [(*row[:3], metric, row[4]) for row in scores()]
    assert plots.plot_scores(rows, metric).get_ylabel() == label


def test_scores_that_are_not_finite_are_left_out():
    rows = [*scores(), *(("silence", "song 0", "vocals", "SDR", value) for value in (float("nan"), float("inf")))]
    ax = plots.plot_scores(rows)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["model", "oracle"]


def test_spectrograms_are_compared_on_one_scale():
    transform = AudioTransform(1024, 256, 1024, RATE)
    estimate, target = (transform.audio_to_mel(noise(2, RATE, seed=seed)) for seed in (0, 1))
    figure = plots.spec_show_diff("vocals", estimate, target, resolution=90)
    draw(figure)
    first, second, difference = figure.axes[:3]
    assert [ax.get_title("left") for ax in figure.axes[:3]] == [
        "vocals, estimate",
        "vocals, target",
        "vocals, estimate - target",
    ]
    assert image_of(first).get_clim() == image_of(second).get_clim()
    np.testing.assert_allclose(image_of(second).get_array(), target.mean(0).numpy(), atol=1e-5)
    np.testing.assert_allclose(image_of(difference).get_array(), (estimate - target).mean(0).numpy(), atol=1e-4)
    low, high = image_of(difference).get_clim()
    assert low == -high
    assert figure.dpi == 90


def test_a_difference_is_in_decibels_of_mel_bands_below_both_on_one_scale():
    target = tone(1000)[None]
    axes = plots.plot_difference(0.1 * target, target, RATE)
    draw(axes)
    assert [ax.get_title("left") for ax in axes] == ["estimate", "target", "estimate - target"]
    estimated, wanted, difference = (image_of(ax) for ax in axes)
    assert estimated.get_clim() == wanted.get_clim() == (-80, 0)
    assert (estimated.get_array().max(), wanted.get_array().max()) == (pytest.approx(-20, abs=0.1), 0)
    assert difference.get_clim() == (-40, 40)
    loud = wanted.get_array() > -40
    assert np.asarray(difference.get_array())[np.asarray(loud)] == pytest.approx(-20, abs=0.1)
    assert [bar.get_ylabel() for bar in colour_bars(axes[0].figure)] == ["dB re the loudest", "dB"]


def test_one_channel_may_go_without_a_dimension():
    picture = noise(20, 30)
    assert image_of(plots.spec_show_diff("bass", picture, picture).axes[0]).get_array().shape == (20, 30)
    assert len(plots.waveform_show_diff("bass", noise(100), noise(100)).axes) == 3


def test_waveforms_are_compared_on_one_scale_and_over_each_other():
    estimate, target = torch.stack([tone(20), torch.zeros(1 << 14)]), 0.2 * tone(20).expand(2, -1)
    figure = plots.waveform_show_diff("vocals", estimate, target, resolution=80)
    draw(figure)
    assert [ax.get_title("left") for ax in figure.axes] == ["vocals, estimate", "vocals, target", "vocals, both"]
    assert {ax.get_ylim() for ax in figure.axes} == {figure.axes[0].get_ylim()}
    assert figure.axes[0].get_ylim() == pytest.approx((-0.525, 0.525), abs=1e-3)  # channels are averaged
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == ["target", "estimate"]
    assert figure.axes[0].get_xlim() == (0, 1 << 14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.plot_spectrogram(noise(1, 2, 100)), r"signal must be a real waveform .*\(1, 2, 100\)"),
        (lambda: plots.plot_spectrogram(torch.zeros(2, 0)), "signal must be a real waveform"),
        (lambda: plots.plot_waveforms({}), "there must be something to draw"),
        (lambda: plots.plot_waveforms({"a": noise(1, 2, 100)}), r"a waveform must be real \(C, T\) or \(T,\)"),
        (lambda: plots.plot_waveforms({"a": noise(2, 100)}, RATE, []), "axes must be 1, one for each picture, got 0"),
        (lambda: plots.plot_separation(noise(2, 99), {"a": noise(2, 98)}), r"stems must have the mixture's shape"),
        (lambda: plots.plot_history(history(), [Figure().subplots()]), "axes must be 2, one for each picture, got 1"),
        (lambda: plots.plot_history(history(), Figure().subplots()), "axes must be 2, one for each picture, got 1"),
        (
            lambda: plots.plot_separation(noise(2, 99), {"a": noise(2, 99)}, RATE, Figure().subplots(2, 2)),
            "axes must be 2 or 3, one for each picture, got 4",
        ),
        (
            lambda: plots.plot_history(history(), {"loss": Figure().subplots()}),
            "axes must be one of matplotlib's, a list or a grid of them, got dict",
        ),
        (lambda: plots.plot_spectrogram(noise(9, 9) + 0j, RATE, hop_length=0), "hop_length must be at least 1, got 0"),
        (lambda: plots.plot_scores(scores(), "SAR"), "rows must hold scores of the metric 'SAR', got none"),
        (lambda: plots.spec_show_diff("a", noise(2, 9, 9), noise(2, 9, 8)), "estimate and target must be real, of one"),
        (lambda: plots.waveform_show_diff("a", noise(1, 2, 9), noise(1, 2, 9)), "of 1 or 2 dimensions"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("sample_rate", [0, -44100, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "call",
    [
        lambda rate: plots.plot_spectrogram(noise(2, 99), rate),
        lambda rate: plots.plot_spectrogram(noise(9, 9) + 0j, rate),
        lambda rate: plots.plot_waveforms({"a": noise(2, 99)}, rate),
        lambda rate: plots.plot_separation(noise(2, 99), {"a": noise(2, 99)}, rate),
        lambda rate: plots.plot_difference(noise(2, 99), noise(2, 99), rate),
    ],
    ids=["waveform", "spectrogram", "waveforms", "separation", "difference"],
)
def test_a_sample_rate_that_is_not_positive_is_refused(call, sample_rate):
    with pytest.raises(ValueError, match=f"sample_rate must be positive, in Hz, got {sample_rate}$"):
        call(sample_rate)
