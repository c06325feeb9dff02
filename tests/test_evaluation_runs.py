"""Evaluations that go on, run in several processes, are chosen from, follow museval's protocol, and are compared."""

import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from songs import write_song
from test_musdb import write_stem_file

import sepkit.evaluation.runner
from sepkit import audio, metrics
from sepkit.cli import evaluate_command
from sepkit.datasets import DatasetError
from sepkit.evaluation import (
    DEFAULT_METRICS,
    METRICS,
    ComparisonError,
    Score,
    Scores,
    WorkerError,
    compare,
    evaluate,
)
from sepkit.evaluation.files import hash_model, read_track
from sepkit.evaluation.measure import expected_memory
from sepkit.evaluation.scores import bootstrap_interval
from sepkit.evaluation.settings import Settings
from sepkit.evaluation.targets import choose_targets
from sepkit.files import readable, safe_name
from sepkit.model_folder import ModelError, load_model, save_model
from sepkit.separator import Separator

ROOT = Path(__file__).parents[1]
RATE = 8000
FRAMEWISE = list(METRICS[:4])
MUSDB = ("vocals", "drums", "bass", "other")


def separator(sources=("vocals", "drums"), seed=0, rate=RATE):
    """A network of few weights, of the package, so that other processes find it."""
    torch.manual_seed(seed)
    return Separator(
        sources,
        {"class": "BLSTM", "hidden_size": 4, "n_layers": 1},
        sample_rate=rate,
        segment=1.0,
        transform={"class": "STFT", "n_fft": 256, "hop_length": 128},
    ).eval()


def noise(seed, seconds=3.0, rate=RATE):
    samples = np.random.default_rng(seed).standard_normal((2, int(seconds * rate)))
    samples[:, 1:] += (seed % 5 - 2) * 0.4 * samples[:, :-1]
    return np.round(0.1 * samples.T * 32768).clip(-32768, 32767) / 32768  # (T, C), 16-bit exact


def write_songs(root, names=("first", "second", "third"), stems=("vocals", "drums")):
    for i, name in enumerate(names):
        written = root / "test" / f"song {i}"  # soundfile writes to no path that is no text
        write_song(written, {stem: noise(10 * i + k) for k, stem in enumerate(stems)})
        written.rename(root / "test" / name)
    return root


@pytest.fixture
def root(tmp_path):
    return write_songs(tmp_path / "data")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Songs that no test changes."""
    return write_songs(tmp_path_factory.mktemp("shared"))


def written(output):
    """When each track was written, by name."""
    return {path.stem: path.stat().st_mtime_ns for path in sorted((output / "tracks").rglob("*.json"))}


def newer(before, output):
    """The names of the tracks that were scored, and so written, since."""
    return [name for name, time in written(output).items() if time != before.get(name)]


def run(root, output=None, model=None, **options):
    options = {"baselines": False, "progress": False, "metrics": ["SDR", "uSDR"], **options}
    return evaluate(model or separator(), root, output=output, **options)


# Going on


def test_the_same_call_takes_over_what_is_scored(root, tmp_path):
    first = run(root, tmp_path / "out", baselines=True)
    before, lines = written(tmp_path / "out"), []
    assert list(before) == ["first", "second", "third"]
    second = run(root, tmp_path / "out", baselines=True, log=lines.append)
    assert newer(before, tmp_path / "out") == []
    assert second.rows == first.rows
    assert lines == ["3 of 3 tracks are taken over from an earlier evaluation"]
    assert lines[0] in second.table()


def test_a_model_folder_names_classes_of_others_only_with_trust(root, tmp_path):
    network = {"class": "networks.Constant", "gains": [0.5, 0.5]}
    save_model(Separator(["vocals", "drums"], network, RATE), tmp_path / "m")
    with pytest.raises(ModelError, match=r"'networks.Constant' is not one of sepkit's own .*trust=True"):
        run(root, model=tmp_path / "m")
    assert run(root, model=tmp_path / "m", trust=True).rows


def test_an_evaluation_that_broke_off_goes_on(root, tmp_path):
    def interrupt(*_):
        if len(written(tmp_path / "out")) == 2:
            raise KeyboardInterrupt

    model = separator()
    hook = model.network.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "out", model)
    hook.remove()
    before = written(tmp_path / "out")
    assert list(before) == ["first", "second"]
    assert run(root, tmp_path / "out", model).rows == run(root).rows
    assert newer(before, tmp_path / "out") == ["third"]


def test_a_killed_process_leaves_what_it_scored(root, tmp_path):
    network = {"class": "networks.Dying", "gains": [0.5, 0.2], "folder": str(tmp_path / "out"), "n_tracks": 2}
    save_model(Separator(("vocals", "drums"), network, sample_rate=RATE, segment=1.0), tmp_path / "model")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from sepkit.model_folder import load_model; from sepkit.evaluation import evaluate\n"
        f"model = load_model({str(tmp_path / 'model')!r}, trust=True)\n"
        f"evaluate(model, {str(root)!r}, output={str(tmp_path / 'out')!r}, "
        "baselines=False, metrics=['SDR', 'uSDR'])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    before, lines = written(tmp_path / "out"), []
    assert list(before) == ["first", "second"]
    model = load_model(tmp_path / "model", trust=True)
    model.network.n_tracks = 99  # from now on it lives
    scores = run(root, tmp_path / "out", model, log=lines.append)
    assert lines[0] == "2 of 3 tracks are taken over from an earlier evaluation"
    assert newer(before, tmp_path / "out") == ["third"]
    assert scores.rows == run(root, model=model).rows


def change_model(_root):
    return {"model": separator(seed=1)}


def change_file(root):
    os.utime(root / "test" / "second" / "drums.wav", (1, 1))
    return {}


CHANGES = {
    "weights": (change_model, ["first", "second", "third"], "model"),
    "file": (change_file, ["second"], "files"),
    "window": (lambda _: {"window": 0.5}, ["first", "second", "third"], "scoring"),
    "metrics": (lambda _: {"metrics": ["SDR"]}, ["first", "second", "third"], "scoring"),
    "silent": (lambda _: {"silent": "error"}, ["first", "second", "third"], "scoring"),
    "targets": (lambda _: {"targets": ["vocals"]}, ["first", "second", "third"], "scoring"),
    "overlap": (lambda _: {"overlap": 0.5}, ["first", "second", "third"], "separation"),
    "baselines": (lambda _: {"baselines": True}, ["first", "second", "third"], "separation"),
}


@pytest.mark.parametrize(("change", "again", "named"), CHANGES.values(), ids=CHANGES)
def test_what_changed_is_scored_again(root, tmp_path, change, again, named):
    run(root, tmp_path / "out")
    before = written(tmp_path / "out")
    options = change(root)
    lines = []
    changed = run(root, tmp_path / "out", log=lines.append, **options)
    assert newer(before, tmp_path / "out") == again
    assert f"earlier scores are replaced, made with other {named}" in lines
    assert changed.rows == run(root, **options).rows


@pytest.mark.parametrize("options", [{"batch_size": 2}, {"workers": 1}, {"progress": True}], ids=str)
def test_what_cannot_change_scores_is_not_scored_again(root, tmp_path, options):
    run(root, tmp_path / "out")
    before = written(tmp_path / "out")
    run(root, tmp_path / "out", **options)
    assert newer(before, tmp_path / "out") == []


@pytest.mark.parametrize("damage", ["museval's file is gone", "not JSON", "another format"])
def test_a_damaged_track_is_scored_again(root, tmp_path, damage):
    run(root, tmp_path / "out")
    before = written(tmp_path / "out")
    strict = tmp_path / "out" / "tracks" / "test" / "second.json"
    if damage == "not JSON":
        strict.write_text("{")
    elif damage == "another format":
        strict.write_text(strict.read_text().replace('"format": 1', '"format": 0'))
    else:
        (tmp_path / "out" / "test" / "second.json").unlink()
    run(root, tmp_path / "out")
    assert newer(before, tmp_path / "out") == ["second"]


def test_a_model_is_known_by_its_weights_and_settings(tmp_path):
    model = separator()
    save_model(model, tmp_path / "model")
    assert hash_model(model) == hash_model(separator())
    assert hash_model(model) != hash_model(separator(seed=1))
    assert hash_model(model) != hash_model(separator(("drums", "vocals")))


def test_infinite_and_missing_scores_survive(tmp_path):
    stem, silent = noise(1), np.zeros((3 * RATE, 2))
    for kind in ("estimates", "references"):
        write_song(tmp_path / kind / "song", {"vocals": stem, "drums": silent})
    calls = [
        evaluate(
            estimates=tmp_path / "estimates",
            references=tmp_path / "references",
            output=tmp_path / "out",
            baselines=False,
            progress=False,
        )
        for _ in range(2)
    ]
    first, second = ({row[:4]: row.value for row in scores.rows} for scores in calls)
    assert first["estimates", "song", "vocals", "SDR"] == math.inf
    assert math.isnan(first["estimates", "song", "drums", "SDR"])
    np.testing.assert_equal(second, first)


# Files


def test_the_twin_is_strict_json_and_holds_all_numbers(tmp_path):
    root = write_songs(tmp_path / "data", ["song"])
    vocals = noise(0)
    vocals[:RATE] = 0
    write_song(root / "test" / "song", {"vocals": vocals})
    scores = run(root, tmp_path / "out", metrics=DEFAULT_METRICS, baselines=True)
    text = (tmp_path / "out" / "tracks" / "test" / "song.json").read_text()

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(text, parse_constant=refuse)
    loose = json.loads((tmp_path / "out" / "test" / "song.json").read_text())
    for strict, target in zip(content["targets"], loose["targets"], strict=True):
        assert strict["name"] == target["name"]
        assert strict["frames"][0]["metrics"] == dict.fromkeys(FRAMEWISE)
        assert math.isnan(target["frames"][0]["metrics"]["SDR"])
        assert strict["frames"][1:] == target["frames"][1:]
    assert len(content["scores"]) == len(scores.rows)
    assert read_track(tmp_path / "out" / "tracks" / "test" / "song.json")[0].rows[0] == scores.rows[0]


def test_museval_reads_the_folder_and_not_the_twins(root, tmp_path):
    museval = import_museval()
    scores = run(root, tmp_path / "out", metrics=FRAMEWISE)
    store = museval.EvalStore()
    store.add_eval_dir(tmp_path / "out")
    assert sorted(set(store.df["track"])) == ["first", "second", "third"]
    assert len(store.df) == 3 * 2 * 3 * 4  # tracks, targets, frames, metrics
    found = store.agg_frames_tracks_scores()
    for target, metric in itertools.product(("vocals", "drums"), FRAMEWISE):
        assert found[target, metric] == pytest.approx(scores.median("model", target, metric), abs=1e-5)
    methods = museval.MethodStore()
    methods.add_eval_dir(tmp_path / "out")
    assert set(methods.df["method"]) == {"out"}


# Choosing


def import_museval():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("museval")


def test_all_metrics_are_those_of_the_metrics_module(shared):
    model = separator()
    chosen = [name for name in METRICS if name not in ("log_wmse", "PESQ", "STOI")]
    scores = run(shared, model=model, metrics=chosen)
    assert scores.names("metric") == chosen
    reference = torch.stack([audio.read(shared / "test" / "first" / f"{name}.wav")[0] for name in model.sources])
    found = sepkit.inference.separate(model, reference.sum(0))
    estimate = torch.stack([found[name] for name in model.sources])
    expected = {
        "SNR": metrics.snr(estimate, reference),
        "SD-SDR": metrics.sd_sdr(estimate, reference),
        "SI-SIR": metrics.si_sir(estimate, reference),
        "SI-SAR": metrics.si_sar(estimate, reference),
        "l1_freq": metrics.l1_freq(estimate, reference),
        "bleedless": metrics.bleedless(estimate, reference, RATE),
        "fullness": metrics.fullness(estimate, reference, RATE),
    }
    for name, values in expected.items():
        for target, value in zip(model.sources, values.tolist(), strict=True):
            assert scores.values("model", target, name)["first"] == pytest.approx(value, rel=1e-5)
    table = scores.table()
    assert "l1_freq, bleedless, fullness: of the whole track, not in dB." in table
    assert max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize("name", ["log_wmse", "PESQ", "STOI"])
def test_a_metric_of_another_package_is_scored_or_named_before_anything_is_read(shared, name, monkeypatch):
    model = separator()
    model.network.register_forward_pre_hook(lambda *_: pytest.fail("separating began"))
    monkeypatch.setitem(sys.modules, {"log_wmse": "torch_log_wmse", "PESQ": "pesq", "STOI": "pystoi"}[name], None)
    with pytest.raises(ImportError, match="pip install"):
        run(shared, model=model, metrics=[name])


def test_only_what_is_asked_for_is_computed(shared, monkeypatch):
    for name in ("si_sdr", "sdr", "bss_eval", "l1_freq"):
        monkeypatch.setattr(metrics, name, lambda *_, **__: pytest.fail("not asked for"))
    scores = run(shared, metrics=["SNR"])
    assert scores.names("metric") == ["SNR"]
    assert "BSS Eval" not in scores.table()


def test_sdr_alone_is_the_same(shared):
    full = run(shared, metrics=FRAMEWISE)
    assert run(shared, metrics="SDR").rows == [row for row in full.rows if row.metric == "SDR"]


@pytest.mark.parametrize("engine", ["sepkit", "museval"])
def test_version_3_is_musevals(tmp_path, engine):
    museval = import_museval()
    model = separator()
    write_songs(tmp_path, ["first"])
    scores = run(tmp_path, model=model, mode="v3", engine=engine, metrics=FRAMEWISE)
    reference = torch.stack([audio.read(tmp_path / "test" / "first" / f"{name}.wav")[0] for name in model.sources])
    found = sepkit.inference.separate(model, reference.sum(0))
    given = [waveforms.transpose(1, 2).numpy() for waveforms in (reference, torch.stack(list(found.values()))[:2])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = museval.evaluate(*given, win=RATE, hop=RATE, mode="v3")
    for metric, frames in zip(FRAMEWISE, expected, strict=True):
        assert scores.values("model", "vocals", metric)["first"] == pytest.approx(np.median(frames[0]), abs=1e-6)
    assert f"BSS Eval v3, {engine}" in scores.table()


@pytest.mark.parametrize("engine", ["sepkit", "museval"])
@pytest.mark.parametrize(
    ("silent", "spoiled", "message"),
    [
        ("museval", slice(None), "song: every reference must sound somewhere with silent='museval'"),
        ("error", slice(None), "song: every reference must sound somewhere with silent='error'"),
        ("error", slice(RATE), "song: every reference and estimate must sound in every frame"),
    ],
)
def test_silence_is_an_error_where_that_is_asked_for(tmp_path, engine, silent, spoiled, message):
    vocals = noise(1)
    vocals[spoiled] = 0
    write_song(tmp_path / "test" / "song", {"vocals": vocals, "drums": noise(2)})
    with pytest.raises(ValueError, match=message):
        run(tmp_path, silent=silent, engine=engine)
    assert run(tmp_path, engine=engine).values("model", "drums", "SDR")


def test_one_target_of_several_is_scored_beside_the_rest(shared):
    both = run(shared)
    scores = run(shared, targets=["drums"])
    assert scores.names("target") == ["drums", "accompaniment"]
    assert scores.values("model", "drums", "uSDR") == both.values("model", "drums", "uSDR")
    explicit = run(shared, targets=["accompaniment", "vocals"])
    assert explicit.names("target") == ["vocals", "accompaniment"]


def test_one_target_may_be_named_without_a_list():
    assert choose_targets(MUSDB, "vocals", "sepkit") == choose_targets(MUSDB, ["vocals"], "sepkit")


@pytest.mark.parametrize(
    ("available", "chosen", "protocol", "message"),
    [
        (
            ("vocals", "drums"),
            ["vocal"],
            "sepkit",
            "targets must be among .*, got vocal; did you mean 'vocals'",
        ),
        (MUSDB, ["vocals", "drums", "accompaniment"], "sepkit", "accompaniment stands beside vocals alone"),
        (("vocals", "guitar"), None, "musdb", "protocol musdb knows the targets .*, got guitar"),
        (("drums",), None, "musdb", "protocol musdb needs vocals, or two targets, got drums"),
        (("accompaniment",), None, "musdb", "protocol musdb needs vocals, or two targets, got accompaniment"),
    ],
)
def test_targets_that_cannot_be_scored_are_refused(available, chosen, protocol, message):
    with pytest.raises(ValueError, match=message):
        choose_targets(available, chosen, protocol)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["SDR", "SI-SRD"]}, "metrics must be some of SDR, .* got SI-SRD; did you mean 'SI-S"),
        ({"metrics": []}, "metrics must be some of .* got none"),
        ({"mode": "v5"}, "mode must be one of v4, v3, got 'v5'"),
        ({"silent": "zero"}, "silent must be one of nan, museval, error, got 'zero'"),
        ({"protocol": "musdb18"}, "protocol must be one of sepkit, musdb, got 'musdb18'"),
        ({"workers": 0}, "workers must be >= 1, got 0"),
        ({"window": math.inf}, "window and hop must be > 0 s and finite, got inf"),
        ({"metrics": ["PESQ"]}, "sample_rate must be 16000 or 8000 Hz for PESQ, got 11025"),
    ],
)
def test_options_out_of_range_are_refused(shared, options, message):
    if options.get("metrics") == ["PESQ"]:
        options = {**options, "model": separator(rate=11025), "resample": True}
    with pytest.raises(ValueError, match=message):
        run(shared, **options)


# museval's protocol


@pytest.fixture(scope="module")
def four_stems(tmp_path_factory):
    return write_songs(tmp_path_factory.mktemp("four"), ["song"], MUSDB)


class MusdbTrack:
    """What museval.eval_mus_track asks of a track of musdb."""

    name, subset, rate = "song", "test", RATE

    def __init__(self, stems):
        sums = {**{name: [name] for name in MUSDB}, "accompaniment": MUSDB[1:]}
        self.targets = {name: Waveform(sum(stems[part] for part in parts)) for name, parts in sums.items()}


class Waveform:
    def __init__(self, samples):
        self.audio = samples


@pytest.mark.parametrize(
    "names",
    [
        ("vocals", "drums", "accompaniment"),
        ("vocals", "accompaniment"),
        ("drums", "bass"),
        ("drums", "accompaniment"),
        ("bass", "drums", "accompaniment"),
        pytest.param((*MUSDB, "accompaniment"), marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def test_the_protocol_scores_as_eval_mus_track(four_stems, tmp_path, names):
    museval = import_museval()
    track = MusdbTrack({name: soundfile.read(four_stems / "test" / "song" / f"{name}.wav")[0] for name in MUSDB})
    mixed = 0.05 * (track.targets["vocals"].audio + track.targets["accompaniment"].audio)
    estimates = {
        name: np.round(32768 * (0.6 * track.targets[name].audio + mixed + 0.1 * noise(90 + k))) / 32768
        for k, name in enumerate(names)
    }
    estimates[names[-1]][: RATE + 7] = 0  # silent in one frame
    write_song(tmp_path / "estimates" / "test" / "song", estimates)  # 16 bit: all read the same
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = museval.eval_mus_track(track, estimates).scores["targets"]
    evaluate(
        estimates=tmp_path / "estimates",
        data=four_stems,
        protocol="musdb",
        metrics=FRAMEWISE,
        output=tmp_path / "out",
        progress=False,
    )
    found = json.loads((tmp_path / "out" / "test" / "song.json").read_text())["targets"]
    assert {target["name"] for target in found} == set(names)
    for target in expected:
        ours = next(each for each in found if each["name"] == target["name"])
        for frame, wanted in zip(ours["frames"], target["frames"], strict=True):
            values = [float(wanted["metrics"][name]) for name in FRAMEWISE]
            # float32 reading of float64 estimates; both sides round to five decimals
            assert [frame["metrics"][name] for name in FRAMEWISE] == pytest.approx(values, abs=2e-4, nan_ok=True)


def test_the_accompaniment_of_a_model_is_the_mixture_without_vocals(four_stems):
    model = separator(MUSDB)
    with_it = run(four_stems, model=model, protocol="musdb", targets=[*MUSDB, "accompaniment"], metrics=FRAMEWISE)
    without = run(four_stems, model=model, protocol="musdb", metrics=FRAMEWISE)
    alone = run(four_stems, model=model, targets=["vocals"], metrics=FRAMEWISE)
    assert with_it.names("target") == [*MUSDB, "accompaniment"]
    assert without.names("target") == list(MUSDB)
    for metric in FRAMEWISE:
        for target in ("vocals", "accompaniment"):
            assert with_it.median("model", target, metric) == pytest.approx(
                alone.median("model", target, metric), abs=1e-4
            )
        assert with_it.median("model", "drums", metric) == without.median("model", "drums", metric)
    assert with_it.median("model", "vocals", "SIR") != without.median("model", "vocals", "SIR")
    assert "Protocol musdb: vocals with accompaniment" in with_it.table()


def test_baselines_of_overlapping_targets_count_the_stems_once(four_stems):
    chosen = {"targets": [*MUSDB, "accompaniment"], "protocol": "musdb", "baselines": True}
    scores = run(four_stems, model=separator(MUSDB), **chosen)
    assert "mixture/4" in scores.names("system")
    assert scores.median("oracle", "accompaniment", "SDR") > scores.median("mixture/4", "accompaniment", "SDR") + 3


def test_vocals_alone_follow_the_protocol_with_their_accompaniment(four_stems):
    scores = run(four_stems, model=separator(["vocals"]), protocol="musdb")
    assert scores.names("target") == ["vocals", "accompaniment"]


def test_the_protocol_refuses_silence_as_museval_does(tmp_path):
    write_song(tmp_path / "test" / "song", {"vocals": noise(1), "drums": np.zeros((3 * RATE, 2))})
    with pytest.raises(ValueError, match="song: every reference must sound somewhere with silent='museval'"):
        run(tmp_path, protocol="musdb")
    assert run(tmp_path, protocol="musdb", silent="nan").values("model", "vocals", "SDR")


# Estimates against songs, stem files


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not on the PATH")
def test_stem_files_are_scored_as_what_ffmpeg_decodes_to_16_bit(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    file = write_stem_file(tmp_path / "musdb" / "test" / "Artist - Title.stem.mp4")
    for k, name in enumerate(("mixture", "drums", "bass", "other", "vocals")):
        path = tmp_path / "wav" / "test" / "Artist - Title" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        command = ["ffmpeg", "-v", "error", "-i", file, "-map", f"0:a:{k}", "-c:a", "pcm_s16le", path]
        subprocess.run(command, check=True)
    model = separator(MUSDB, rate=44100)
    options = {"model": model, "protocol": "musdb", "metrics": ["ISR", "SI-SDRi"]}
    run(tmp_path / "musdb", tmp_path / "out", **options)
    before = written(tmp_path / "out")
    assert list(before) == ["Artist - Title"]
    scores = run(tmp_path / "musdb", tmp_path / "out", **options)
    assert newer(before, tmp_path / "out") == []
    direct = run(tmp_path / "wav", **options)
    assert scores.names("target") == list(MUSDB)
    assert scores.rows == direct.rows


@pytest.mark.parametrize("inner", ["", "test"])
def test_estimates_are_scored_against_songs(shared, tmp_path, inner):
    for name in ("first", "second", "third"):
        stems = {stem: soundfile.read(shared / "test" / name / f"{stem}.wav")[0] for stem in ("vocals", "drums")}
        write_song(tmp_path / inner / name, {stem: 0.5 * waveform for stem, waveform in stems.items()})
    options = {"metrics": ["SDR"], "baselines": False, "progress": False}
    scores = evaluate(estimates=tmp_path, data=shared, **options)
    assert scores.names("track") == ["first", "second", "third"]
    assert scores.median("estimates", "vocals", "SDR") == pytest.approx(6.02, abs=0.01)
    by_folder = evaluate(estimates=tmp_path / inner, references=shared / "test", **options)
    assert by_folder.rows == scores.rows


@pytest.mark.parametrize(
    "option",
    [{"batch_size": 1}, {"overlap": 0.5}, {"shifts": 0}, {"device": "cpu"}, {"resample": True}, {"trust": True}],
)
def test_what_is_for_a_model_is_refused_with_estimates(shared, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} is for a model that separates, estimates .*: leave {name} out"):
        evaluate(estimates=shared / "test", data=shared, **option)


@pytest.mark.parametrize("references", ["data", "references"])
@pytest.mark.parametrize("stems", [("vocals",), ("vocals", "accompaniment"), ("vocals", "guitar")])
def test_a_target_that_is_not_estimated_is_named_as_such(tmp_path, stems, references):
    write_song(tmp_path / "songs" / "test" / "song", {name: noise(k) for k, name in enumerate(("vocals", "drums"))})
    write_song(tmp_path / "estimates" / "song", {name: noise(k) for k, name in enumerate(stems)})
    place = tmp_path / "songs" / ("" if references == "data" else "test")
    message = f"targets must be stems that are estimated, in .*estimates {', '.join(sorted(stems))}, got drums"
    with pytest.raises(ValueError, match=message):
        evaluate(estimates=tmp_path / "estimates", targets=["drums"], **{references: place})


def test_estimates_of_another_rate_than_the_songs_are_told_without_an_option_that_there_is_not(shared, tmp_path):
    for name in ("first", "second", "third"):
        write_song(tmp_path / name, {"vocals": noise(1, rate=2 * RATE)}, rate=2 * RATE)
    with pytest.raises(
        ValueError, match=r"all files need the same number of Hz, got .*: resample the others"
    ) as caught:
        evaluate(estimates=tmp_path, data=shared)
    assert "data.resample" not in str(caught.value)


def test_shifts_reach_what_is_scored_and_are_part_of_what_is_taken_over(shared, tmp_path):
    plain = run(shared, tmp_path / "out")
    before = written(tmp_path / "out")
    shifted = run(shared, tmp_path / "out", shifts=1)
    assert newer(before, tmp_path / "out") == ["first", "second", "third"]
    assert shifted.median("model", "vocals", "SDR") == pytest.approx(plain.median("model", "vocals", "SDR"), abs=0.05)
    assert shifted.rows != plain.rows


def test_estimates_without_folders_of_tracks_are_refused(shared, tmp_path):
    with pytest.raises(ValueError, match=r"holds no folders of stems, track/stem.wav or test/track/stem.wav"):
        evaluate(estimates=tmp_path, data=shared)


@pytest.mark.parametrize(
    ("subsets", "split", "remedy"),
    [
        (["train", "test"], "test", "give {root}/test$"),
        (["train", "test"], "train", "give {root}/train$"),
        (["here"], "test", "give {root}/here$"),
        ([], "test", "give a folder of track/stem.wav$"),
    ],
)
def test_a_root_whose_tracks_lie_deeper_is_answered_with_the_folder_to_give(shared, tmp_path, subsets, split, remedy):
    root = tmp_path / "root"
    (root / "notes").mkdir(parents=True)
    for subset in subsets:
        write_song(root / subset / "first", {"vocals": noise(0)})
    message = f"root holds neither stems nor folders of stems: {remedy.format(root=root)}"
    with pytest.raises(ValueError, match=message):
        evaluate(estimates=shared / "test", references=root, split=split)
    with pytest.raises(ValueError, match=message):
        evaluate(estimates=root, references=shared / "test", split=split)


def test_a_sum_without_reference_beside_several_stems_is_refused(tmp_path):
    stems = {name: noise(k) for k, name in enumerate(("vocals", "drums"))}
    write_song(tmp_path / "references" / "song", stems)
    write_song(tmp_path / "estimates" / "song", {**stems, "accompaniment": noise(5)})
    with pytest.raises(ValueError, match="accompaniment has no reference and can stand beside one stem alone"):
        evaluate(estimates=tmp_path / "estimates", references=tmp_path / "references")


# Several processes


@pytest.fixture(scope="module")
def in_two_processes(shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    options = {"metrics": DEFAULT_METRICS, "baselines": True, "output": folder, "workers": 2}
    return run(shared, **options)


def test_processes_change_nothing(shared, in_two_processes):
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # as in the processes; with more the network rounds otherwise
        alone = run(shared, metrics=DEFAULT_METRICS, baselines=True)
    finally:
        torch.set_num_threads(n_threads)
    assert [row[:4] for row in in_two_processes.rows] == [row[:4] for row in alone.rows]
    np.testing.assert_array_equal([row.value for row in in_two_processes.rows], [row.value for row in alone.rows])


def test_what_processes_scored_is_taken_over(shared, in_two_processes):
    before = written(in_two_processes.folder)
    options = {"metrics": DEFAULT_METRICS, "baselines": True, "output": in_two_processes.folder}
    np.testing.assert_equal(run(shared, **options).rows, in_two_processes.rows)
    assert newer(before, in_two_processes.folder) == []


NAMES = [82 * "日", 255 * "n", "a?b", "con", "x.", "e\u0301", "Caf\udce9"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names of songs")
def test_tracks_of_any_name_are_written_taken_over_and_reported(tmp_path):
    root = write_songs(tmp_path / "data", NAMES)
    scores = run(root, tmp_path / "scores", report=True)
    assert len(list((tmp_path / "scores" / "test").iterdir())) == len(NAMES)
    assert (tmp_path / "scores" / "report.html").is_file()
    before = written(tmp_path / "scores")
    assert run(root, tmp_path / "scores").rows == scores.rows
    assert newer(before, tmp_path / "scores") == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names of songs")
def test_what_was_separated_under_a_safe_name_meets_its_song(tmp_path):
    root = write_songs(tmp_path / "data", NAMES)
    for name in NAMES:
        shutil.copytree(root / "test" / name, tmp_path / "estimates" / safe_name(name))
    pair = {"estimates": tmp_path / "estimates", "references": root / "test", "metrics": ["SI-SDR"]}
    assert set(evaluate(**pair, progress=False).names("track")) == {readable(name) for name in NAMES}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names of songs")
def test_tracks_that_would_be_written_into_one_file_are_refused_before_they_are_scored(tmp_path):
    root = write_songs(tmp_path / "data", ["a?", "a*", "b"])
    with pytest.raises(ValueError, match=r"written into one file, rename all but one of 'a\*' and 'a\?'$"):
        run(root, tmp_path / "scores")
    assert not (tmp_path / "scores").exists()


def test_a_process_that_breaks_off_is_told(shared, tmp_path):
    network = {"class": "networks.Dying", "gains": [0.5, 0.2], "folder": str(tmp_path), "n_tracks": 0}
    model = Separator(("vocals", "drums"), network, sample_rate=RATE, segment=1.0)
    with pytest.raises(WorkerError, match=r"a worker process broke off, .* use fewer workers"):
        run(shared, model=model, workers=2)


def test_a_script_without_a_guard_is_told_so_however_large_its_model(shared, tmp_path):
    network = {"class": "BLSTM", "hidden_size": 32, "n_layers": 1}  # more than a pipe holds
    save_model(Separator(("vocals", "drums"), network, sample_rate=RATE, segment=1.0), tmp_path / "model")
    (tmp_path / "script.py").write_text(
        "from sepkit.evaluation import evaluate\n"
        f"evaluate({str(tmp_path / 'model')!r}, {str(shared)!r}, metrics=['SI-SDR'], baselines=False, workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 1
    assert done.stderr.count('a script calls train() and evaluate() below `if __name__ == "__main__":`') == 1


def test_a_stop_ends_all_processes(shared, tmp_path):
    network = {"class": "networks.Stuck", "gains": [0.5, 0.2], "folder": str(tmp_path / "alive")}
    save_model(Separator(("vocals", "drums"), network, sample_rate=RATE, segment=1.0), tmp_path / "model")
    (tmp_path / "alive").mkdir()
    (tmp_path / "script.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from sepkit.model_folder import load_model; from sepkit.evaluation import evaluate\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        f"        model = load_model({str(tmp_path / 'model')!r}, trust=True)\n"
        f"        evaluate(model, {str(shared)!r}, workers=2, metrics=['SDR'])\n"
        "    except KeyboardInterrupt: sys.exit(130)\n"
    )
    with subprocess.Popen([sys.executable, tmp_path / "script.py"], stderr=subprocess.PIPE, text=True) as process:
        while len(os.listdir(tmp_path / "alive")) < 2 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 130, errors
    assert not [name for name in os.listdir(tmp_path / "alive") if is_running(int(name))]


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_processes_do_not_outlive_their_parent(tmp_path):
    write_songs(tmp_path / "data", [f"song {k}" for k in range(40)])
    save_model(separator(), tmp_path / "model")
    code = (
        "import sys, os, signal, multiprocessing, sepkit.evaluation as e, sepkit.evaluation.files as files\n"
        "def write(*_):\n"
        "    print(*[p.pid for p in multiprocessing.active_children()], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_track = write\n"
        "if __name__ == '__main__':\n"
        f"    e.evaluate({str(tmp_path / 'model')!r}, {str(tmp_path / 'data')!r}, output={str(tmp_path / 'out')!r}, "
        "workers=2)\n"
    )
    (tmp_path / "script.py").write_text(code)
    output = tmp_path / "pids"
    with open(output, "w") as file:
        subprocess.run([sys.executable, tmp_path / "script.py"], stdout=file, stderr=subprocess.DEVNULL, check=False)
    processes = [int(word) for word in output.read_text().split()]
    assert len(processes) == 2
    until = time.monotonic() + 20
    while any(map(is_running, processes)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(is_running, processes))


# The table


def test_intervals_are_percentiles_of_the_bootstrap():
    values = np.random.default_rng(3).normal(5, 2, 40)
    for statistic, take in (("median", np.median), ("mean", np.mean)):
        found, low, high = bootstrap_interval(values, statistic)
        assert found == take(values)
        drawn = np.random.default_rng(9).choice(values, (4000, 40))
        # Another seed: percentiles of thousands of resamples agree to a tenth of the interval.
        assert (low, high) == pytest.approx(np.percentile(take(drawn, axis=1), [2.5, 97.5]), abs=0.15)
    _, low, high = bootstrap_interval(values, "mean")
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(40), rel=0.1)  # the normal interval
    assert bootstrap_interval(values, "mean") == bootstrap_interval(values, "mean")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (math.nan,) * 3), ([4.0], (4.0, math.nan, math.nan)), ([math.inf, 1.0], (math.inf, 1.0, math.inf))],
)
def test_intervals_of_few_or_infinite_scores_are_as_told(values, expected):
    np.testing.assert_equal(bootstrap_interval(values, "median"), expected)


def test_the_table_names_both_ends_of_each_interval():
    rows = [Score("model", f"song {k}", "vocals", "SDR", float(k)) for k in range(9)]
    scores = Scores(rows)
    lines = [line.split() for line in scores.table(verbose=True).splitlines()]
    assert lines[0] == ["vocals", "SDR"]
    assert [line[0] for line in lines[1:]] == ["model", "from", "to", "mean", "from", "to"]
    low, high = scores.interval("model", "vocals", "SDR", "mean")
    assert [line[-1] for line in lines[4:]] == ["4.00", f"{low:.2f}", f"{high:.2f}"]
    assert len(Scores(rows[:1]).table(verbose=True).splitlines()) == 3  # of one track there is no interval


def test_the_table_has_a_line_a_system_with_intervals_as_far_as_there_is_room():
    metrics = ("SDR", "ISR", "SIR", "SAR", "SI-SDR", "SI-SDRi", "uSDR")
    rows = [
        Score(system, f"song {k}", "vocals", metric, k + 2.5)
        for system in ("model", "mixture/2")
        for metric in metrics
        for k in range(9)
    ]
    heading, *lines = Scores(rows).table().splitlines()
    assert heading.split() == ["vocals", *metrics]
    low, high = Scores(rows).interval("model", "vocals", "SDR")
    assert [line.split()[0] for line in lines] == ["model", "mixture/2"]
    assert all(f" 6.50 [{low:.2f}, {high:.2f}] " in line and line.split().count("6.50") == 7 for line in lines)
    assert lines[0].count("[") < 7
    assert max(map(len, [heading, *lines])) <= 80
    two = [row for row in rows if row.metric in metrics[:2]]
    assert all(line.count("[") == 2 for line in Scores(two).table().splitlines()[1:])
    assert all("[" not in line for line in Scores(rows[:1]).table().splitlines())  # of one track there is none


def test_a_table_of_more_metrics_than_fit_goes_on_below():
    metrics = [f"metric {number}" for number in range(12)]
    rows = [Score("model", f"song {k}", "vocals", metric, 100.0 * k) for metric in metrics for k in range(5)]
    table = Scores(rows).table()
    assert all(table.count(f"{metric} ") + table.count(f"{metric}\n") == 1 for metric in metrics)
    assert max(map(len, table.splitlines())) <= 80


def test_the_method_of_the_intervals_stands_below_the_table(shared):
    table = run(shared).table()
    assert "95 % interval, percentiles of 2000 bootstrap resamples" in table
    assert "seed 0" in table


def test_the_expected_memory_comes_first(shared):
    lines = []
    run(shared, log=lines.append)
    assert lines[0].startswith("expected memory: about ")
    assert "for first (3 s, 2 stems)" in lines[0]


@pytest.mark.parametrize(
    ("chosen", "engine", "baselines", "megabytes"),
    [
        # The highest resident memory above that of the imported package, 4 stereo stems of 60 s at 44.1 kHz.
        (["SDR"], "sepkit", False, 257),
        (["SDR"], "sepkit", True, 505),
        (FRAMEWISE, "sepkit", False, 254),
        (DEFAULT_METRICS, "sepkit", True, 575),
        (["SI-SIR", "SI-SAR"], "sepkit", False, 496),
        (["bleedless"], "sepkit", False, 518),
        (["SDR", "SIR"], "museval", False, 2035),
    ],
)
def test_the_expected_memory_is_what_was_measured(chosen, engine, baselines, megabytes):
    settings = Settings(tuple(chosen), engine=engine)
    found = expected_memory(4, 2, 60 * 44100, 44100, settings, baselines) / 2**20
    assert found == pytest.approx(megabytes, rel=0.2)


# Comparing


@pytest.fixture(scope="module")
def evaluations(shared, tmp_path_factory):
    """Two models on three songs, and one of them on two."""
    folder = tmp_path_factory.mktemp("evaluations")
    options = {"metrics": ["SDR", "SI-SDR", "l1_freq"], "baselines": True}
    run(shared, folder / "first", **options)
    run(shared, folder / "second", model=separator(seed=1), **options)
    write_songs(folder / "fewer", ["second", "third"])
    for name in ("second", "third"):
        for path in (shared / "test" / name).iterdir():
            (folder / "fewer" / "test" / name / path.name).write_bytes(path.read_bytes())
    run(folder / "fewer", folder / "part", model=separator(seed=2), **options)
    run(shared, folder / "other window", window=0.5, metrics=["SDR", "SI-SDR"])
    run(shared, folder / "other targets", targets=["vocals"], **options)
    return folder


def test_differences_are_paired_by_track(evaluations):
    comparison = compare([evaluations / "first", evaluations / "second"])
    assert comparison.tracks == ["test/first", "test/second", "test/third"]
    value = {row[:4]: row.value for row in comparison.rows}
    for each in comparison.differences():
        pairs = [
            value["second", track, each.target, each.metric] - value["first", track, each.target, each.metric]
            for track in comparison.tracks
        ]
        assert (each.name, each.n_tracks) == ("second", 3)
        assert each.median[0] == pytest.approx(np.median(pairs))
        assert each.mean[0] == pytest.approx(np.mean(pairs))
        assert min(pairs) <= each.mean[1] <= each.mean[0] <= each.mean[2] <= max(pairs)


def test_only_common_tracks_are_compared(evaluations, tmp_path):
    comparison = compare([evaluations / name for name in ("first", "second", "part")], tmp_path / "out")
    assert comparison.tracks == ["test/second", "test/third"]
    assert comparison.names == ["first", "second", "part"]
    table = comparison.table()
    for line in ("2 common tracks; each score minus that of first", "first holds 1 more tracks, left out"):
        assert line in table
    assert max(len(line) for line in table.split("\ndifferences:")[0].splitlines()) <= 80


def test_the_comparison_is_written_with_its_picture(evaluations, tmp_path):
    comparison = compare([evaluations / "first", evaluations / "second"], tmp_path / "out")
    lines = (tmp_path / "out" / "comparison.csv").read_text().splitlines()
    assert lines[0].startswith("name,minus,target,metric,tracks,median,median_from,median_to,mean")
    assert len(lines) == 1 + len(comparison.differences()) == 7
    assert (tmp_path / "out" / "comparison.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("other window", r"differently .*metrics SDR SI-SDR l1_freq and SDR SI-SDR; window 1.0 and 0.5.*: eval"),
        ("other targets", "scored differently .*targets vocals drums and vocals accompaniment"),
        ("nothing", r"nothing holds no tracks/<split>/<track>.json: evaluate again"),
    ],
)
def test_evaluations_that_are_not_alike_are_refused(evaluations, other, message):
    with pytest.raises(ComparisonError, match=message):
        compare([evaluations / "first", evaluations / other])


def test_a_comparison_of_damaged_files_is_refused(evaluations, tmp_path):
    (tmp_path / "tracks" / "test").mkdir(parents=True)
    (tmp_path / "tracks" / "test" / "first.json").write_text("{}")
    with pytest.raises(ComparisonError, match=r"first.json cannot be read: evaluate again"):
        compare([evaluations / "first", tmp_path])


def test_a_comparison_without_a_common_track_is_refused(evaluations, tmp_path):
    run(write_songs(tmp_path / "data", ["fourth"]), tmp_path / "out", metrics=["SDR", "SI-SDR", "l1_freq"])
    with pytest.raises(ComparisonError, match="have no track in common"):
        compare([evaluations / "first", tmp_path / "out"])


@pytest.mark.parametrize("names", [["first"], ["first", "first"]])
def test_a_comparison_needs_two_folders(evaluations, names):
    with pytest.raises(ValueError, match="compare needs two or more different folders"):
        compare([evaluations / name for name in names])


def test_folders_of_one_name_are_told_apart_by_their_paths(evaluations, tmp_path):
    copied = tmp_path / "first"
    shutil.copytree(evaluations / "second", copied)
    folders = [str(evaluations / "first"), str(copied)]
    assert compare(folders).names == folders


# The command


def command(*words):
    return evaluate_command([str(word) for word in words])


def test_the_command_evaluates_goes_on_and_compares(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        save_model(separator(seed=seed), tmp_path / f"model {seed}")
        arguments = ("--model", f"model {seed}", "--musdb", shared, "--metrics", "SDR", "uSDR", "--device", "cpu")
        assert command(*arguments) == 0
    assert "expected memory" in capsys.readouterr().out
    assert command(*arguments) == 0
    assert "3 of 3 tracks are taken over" in capsys.readouterr().out
    assert command("--compare", "evaluation/model 0", "evaluation/model 1") == 0
    assert "3 common tracks" in capsys.readouterr().out
    assert (tmp_path / "evaluation" / "comparison" / "comparison.png").is_file()


def test_the_options_of_the_command_reach_the_scores(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("sepkit.evaluation.evaluate", lambda *_, **options: seen.update(options) or Scores())
    seen = {}
    save_model(separator(), tmp_path / "model")
    words = "--mode v3 --window 2 --hop 0.5 --silent error --protocol musdb --engine museval --workers 3"
    words += " --targets vocals --shifts 2"
    assert command("--model", tmp_path / "model", "--data", shared, "--device", "cpu", *words.split()) == 0
    wanted = {
        "mode": "v3",
        "window": 2.0,
        "hop": 0.5,
        "silent": "error",
        "protocol": "musdb",
        "engine": "museval",
        "workers": 3,
        "targets": ["vocals"],
        "shifts": 2,
    }
    assert {name: seen[name] for name in wanted} == wanted
    assert seen["metrics"] == DEFAULT_METRICS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--references r --data d", "--estimates and --references belong together"),
        ("--estimates e --references r --resample", "--resample is for a model that separates"),
        ("--estimates e --data d --device cpu", "--device is for a model that separates, --estimates are scored as"),
        ("--estimates e --data d --shifts 1 --batch-size 2 --overlap 0.5 --trust", "leave out --batch-size, --overlap"),
        ("--compare a b --device cpu", "--device does not go with --compare"),
        ("--data d --shifts -1", "--shifts must be >= 0, got -1"),
        ("--compare a b --targets vocals --metrics SDR", "leave out --targets, --metrics"),
        ("--model= --data demo", "--model is empty: name a folder"),
        ("--estimates e", "--estimates needs what they are compared with"),
        ("", "choose what is scored"),
        ("--estimates e --references r --model m", "--model and --estimates exclude each other"),
        ("--compare a b --data d", "--data does not go with --compare, which takes evaluations that are done"),
        ("--compare a", "compare needs two or more different folders"),
        ("--estimates e --references r --metrics SRD", "metrics must be some of"),
    ],
)
def test_wrong_calls_of_the_command_are_answered_in_one_line(words, message, capsys):
    assert command(*words.split()) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert message in said[0]


def test_the_help_names_every_metric(capsys):
    with pytest.raises(SystemExit):
        command("--help")
    words = capsys.readouterr().out.split()
    assert not [name for name in METRICS if name not in words and f"{name};" not in words]


def test_the_user_guide_names_every_metric_and_option(capsys):
    guide = (ROOT / "docs" / "scoring.md").read_text()
    with pytest.raises(SystemExit):
        command("--help")
    shown = re.findall(r"(?<=  )--[a-z]+", capsys.readouterr().out)
    missing = [name for name in (*METRICS, *shown) if name not in guide]
    of_all_commands = {"--version", "--debug", "--help", "--device", "--trust", "--batch", "--overlap", "--resample"}
    assert set(missing) <= of_all_commands


# Songs that lie otherwise


def write_parts(root: Path) -> Path:
    """Write tracks whose drums are kick and snare, the kick of two takes of which one is shorter."""
    lines = ["path,stem,track,split,gain"]
    for i, track in enumerate(("first", "second")):
        files = {"vocals": "vocals", "kick a": "Kick", "kick b": "kick", "snare": "snare"}
        for k, (name, stem) in enumerate(files.items()):
            path = root / track / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            waveform = noise(10 * i + k) / 4
            soundfile.write(path, waveform[: -RATE if name == "kick b" else None], RATE)
            lines.append(f"{track}/{name}.wav,{stem.lower()},{track},test,{'-6' if k == 1 else ''}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


DRUMS = {"drums": ["kick", "snare"]}


def drums_of(root: Path, track: str) -> np.ndarray:
    (first, second, snare) = (soundfile.read(root / track / f"{n}.wav")[0] for n in ("kick a", "kick b", "snare"))
    return 10 ** (-6 / 20) * first + np.pad(second, ((0, RATE), (0, 0))) + snare


def test_a_stem_map_makes_the_references_of_a_model(tmp_path):
    root = write_parts(tmp_path / "parts")
    whole = tmp_path / "whole" / "test"
    for track in ("first", "second"):
        waveforms = {"vocals": soundfile.read(root / track / "vocals.wav")[0], "drums": drums_of(root, track)}
        write_song(whole / track, waveforms, subtype="FLOAT")
    model = separator()
    mapped = run(root, model=model, stems=DRUMS, layout="manifest")
    for row, other in zip(mapped.rows, run(whole.parent, model=model).rows, strict=True):
        assert row[:-1] == other[:-1]
        assert row.value == pytest.approx(other.value, abs=1e-3, nan_ok=True)
    with pytest.raises(DatasetError, match="the layout slakh"):
        run(root, model=model, stems=DRUMS, layout="slakh")


def test_a_stem_map_and_all_files_of_a_stem_make_the_references_of_estimates(tmp_path):
    root = write_parts(tmp_path / "parts")
    for track in ("first", "second"):
        write_song(tmp_path / "estimates" / track, {"drums": drums_of(root, track)}, subtype="FLOAT")
    options = {"metrics": ["SI-SDR"], "baselines": False, "progress": False}
    rows = evaluate(data=root, estimates=tmp_path / "estimates", stems=DRUMS, targets=["drums"], **options).rows
    assert [row.value > 100 for row in rows if row.target == "drums"] == [True, True]


def test_a_stem_map_names_what_songs_of_any_split_have(tmp_path):
    root = write_parts(tmp_path / "parts")
    with pytest.raises(DatasetError, match=r"no song has the stem 'snar', of which stems makes 'drums' .*'snare'"):
        run(root, stems={"drums": ["kick", "snar"]})
    with (root / "manifest.csv").open("a") as file:
        file.write("\nfirst/snare.wav,toms,third,train,")
    (root / "third").mkdir()
    shutil.copy(root / "first/snare.wav", root / "third/toms.wav")
    text = (root / "manifest.csv").read_text()
    (root / "manifest.csv").write_text(text.replace("first/snare.wav,toms", "third/toms.wav,toms"))
    assert run(root, stems={"drums": ["kick", "snare", "toms"]}).rows


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["--stems", "drums"], "--stems must be like other=guitar,piano, got 'drums'"),
        (["--stems", "drums=kick,"], "--stems must be like other=guitar,piano, got 'drums=kick,'"),
        (["--stems", "a=b", "a=c"], "--stems must name each stem once, 'a' is there twice"),
        (["--stems", "a=B", "c=b"], "--stems must name each stem once, 'b' is there twice"),
    ],
    ids=str,
)
def test_a_stem_map_that_says_nothing_is_refused(given, match, capsys):
    assert evaluate_command(["--data", "songs", *given]) == 2
    assert match in capsys.readouterr().err


def test_layout_and_stems_are_refused_without_songs(tmp_path, capsys):
    with pytest.raises(ValueError, match="layout and stems say how data lie: give data, or leave them out"):
        evaluate(estimates=tmp_path, references=tmp_path, stems=DRUMS)
    call = ["--estimates", str(tmp_path), "--references", str(tmp_path), "--layout", "slakh"]
    assert evaluate_command(call) == 2
    assert "--layout says how the songs of --data lie: leave out --layout" in capsys.readouterr().err


def test_the_command_takes_layout_and_stems(tmp_path, capsys):
    save_model(separator(), tmp_path / "model")
    root = write_parts(tmp_path / "parts")
    call = ["--data", root, "--layout", "manifest", "--stems", "drums=kick,snare", "--model", tmp_path / "model"]
    more = ["--metrics", "uSDR", "--output", tmp_path / "out", "--no-baselines", "--device", "cpu"]
    assert evaluate_command(list(map(str, [*call, *more]))) == 0
    assert "uSDR" in capsys.readouterr().out
