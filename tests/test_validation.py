"""Validation and evaluation: one median, the same frames, the same numbers."""

import math
import statistics

import numpy as np
import pytest
from networks import Constant
from songs import RATE, noise, write_song

from sepkit.datasets import open_songs
from sepkit.evaluation import evaluate
from sepkit.metrics.bootstrap import median
from sepkit.separator import Separator
from sepkit.training.validation import score_songs, validate

STEMS = ("vocals", "drums", "bass")


def make_separator(sources: tuple[str, ...], gain: float = 0.4) -> Separator:
    network = {"class": f"{Constant.__module__}.Constant", "gains": [gain + 0.2 * i for i in range(len(sources))]}
    return Separator(sources, network, RATE, 2, 0.5, {"class": "STFT", "n_fft": 256, "hop_length": 128})


def write_songs(root, seconds: float, silent: dict[str, int], n_songs: int = 2):
    """Write songs of noise whose level changes from second to second; some stems pause for a second."""
    for i in range(n_songs):
        stems = {}
        for k, name in enumerate(STEMS):
            waveform = noise(10 * i + k, round(seconds * RATE))
            levels = 0.2 + 0.8 * np.random.default_rng(100 * i + k).random(math.ceil(seconds))
            waveform = waveform * levels.repeat(RATE)[: len(waveform), None]
            if name in silent:
                waveform[silent[name] * RATE : (silent[name] + 1) * RATE] = 0
            stems[name] = waveform
        write_song(root / "valid" / f"song {i}", stems)
    return root


@pytest.mark.parametrize("sources", [("vocals",), ("vocals", "drums"), STEMS], ids=len)
@pytest.mark.parametrize(
    ("seconds", "silent", "n_songs"),
    [
        (4.0, {}, 2),
        (5.0, {}, 3),
        (5.5, {"vocals": 1}, 2),
        (4.0, {"drums": 2, "bass": 2}, 1),  # there is nothing but the vocals
        (4.0, {"vocals": 0, "drums": 1}, 2),
        (1.0, {}, 1),
        (0.7, {}, 2),
    ],
    ids=["even", "odd", "a stem pauses", "the others pause", "two pause", "one frame", "less than a frame"],
)
def test_validation_and_evaluation_give_the_same_number(tmp_path, sources, seconds, silent, n_songs):
    root, separator = write_songs(tmp_path, seconds, silent, n_songs), make_separator(sources)
    songs = open_songs(root, "valid", sources, RATE, 2)
    scores = evaluate(separator, root, split="valid", metrics=["SDR"], baselines=False, progress=False)
    found = validate(separator, songs, None, 2)
    expected = {source: scores.median("model", source, "SDR") for source in sources}
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    rows, _ = score_songs(separator, songs, None, 1, 1.0)
    one_by_one = {(track, source): score for system, track, source, _, score in rows if system == "model"}
    values = {(song.name, source): scores.values("model", source, "SDR") for song in songs for source in sources}
    assert one_by_one == pytest.approx({key: values[key][key[0]] for key in values}, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("system", ["mixture/2", "silence", "oracle"])
def test_baselines_of_a_training_score_what_evaluation_gives_them(tmp_path, system):
    root, separator = write_songs(tmp_path, 4.0, {"drums": 1, "bass": 1}, 1), make_separator(("vocals",))
    scores = evaluate(separator, root, split="valid", metrics=["SDR"], progress=False)
    rows, _ = score_songs(separator, open_songs(root, "valid", ["vocals"], RATE, 2), None, 1, 1.0)
    found = {name: score for name, _, _, _, score in rows}
    assert found[system] == pytest.approx(scores.median(system, "vocals", "SDR"), abs=1e-5)  # float32 masks


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], NAN), ([NAN], NAN), ([3.0], 3.0), ([1.0, 2.0], 1.5), ([5.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 8.0], 3.0),
        ([NAN, 4.0, 1.0, NAN], 2.5), ([INF, 1.0, INF], INF), ([INF, INF], INF), ([-INF, 1.0, 2.0], 1.0),
        ([-INF, INF], NAN),
    ],
)  # fmt: skip
def test_a_median_leaves_out_what_has_no_score(scores, expected):
    assert float(median(scores)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("n_scores", range(1, 9))
def test_a_median_is_that_of_other_libraries(n_scores):
    scores = np.random.default_rng(n_scores).normal(size=(3, n_scores))
    assert median(scores).tolist() == np.median(scores, -1).tolist()
    assert median(scores).tolist() == [statistics.median(row) for row in scores.tolist()]
    padded = np.insert(scores, n_scores // 2, NAN, axis=-1)
    assert median(padded).tolist() == np.nanmedian(padded, -1).tolist()
