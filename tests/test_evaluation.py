"""Scores of models and of folders of estimates, against museval itself and by hand."""

import csv
import itertools
import json
import math
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sepkit import audio
from sepkit.baselines import oracle_estimate
from sepkit.datasets import DatasetError
from sepkit.evaluation import Score, Scores, evaluate
from sepkit.evaluation.measure import TrackAudio, museval_engine
from sepkit.evaluation.settings import Settings
from sepkit.inference import separate
from sepkit.masks import ideal_ratio_mask
from sepkit.model_folder import save_model
from sepkit.separator import Separator
from sepkit.transforms import STFT

RATE = 8000
SECONDS = 4
METRICS = ["SDR", "ISR", "SIR", "SAR", "SI-SDR", "SI-SDRi", "uSDR"]
STEMS = ("vocals", "drums", "bass")


class Bands(nn.Module):
    """Gives each source a band of its own, and a quarter of the rest."""

    def __init__(self, n_sources: int, n_bins: int) -> None:
        super().__init__()
        mask = torch.full((n_sources, 1, n_bins, 1), 0.25)
        for source, part in enumerate(torch.arange(n_bins).chunk(n_sources)):
            mask[source, 0, part] = 0.75
        self.register_buffer("mask", mask)

    def forward(self, mixture_spectrogram):
        return self.mask.expand(len(mixture_spectrogram), -1, *mixture_spectrogram.shape[1:])


class Silence(nn.Module):
    """Estimates nothing."""

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.n_sources = n_sources

    def forward(self, mixture_spectrogram):
        return torch.zeros(len(mixture_spectrogram), self.n_sources, *mixture_spectrogram.shape[1:])


def separator(sources=("vocals", "drums"), network="Bands"):
    return Separator(
        sources,
        {"class": f"{__name__}.{network}"},
        sample_rate=RATE,
        segment=1.0,
        transform={"class": "STFT", "n_fft": 256, "hop_length": 128},
    )


def noise(seed, seconds=SECONDS, n_channels=2):
    """A stereo stem whose spectrum falls, at another slope for each seed."""
    samples = np.random.default_rng(seed).standard_normal((n_channels, seconds * RATE))
    samples[:, 1:] += (seed % 5 - 2) * 0.4 * samples[:, :-1]
    return torch.from_numpy(0.1 * samples).float()


def write_stems(folder, stems):
    folder.mkdir(parents=True, exist_ok=True)
    for name, waveform in stems.items():
        audio.write(folder / f"{name}.wav", waveform, RATE)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two test songs; the bass of the second is silent throughout, its drums in the first second."""
    root = tmp_path_factory.mktemp("data")
    first = {name: noise(seed) for seed, name in enumerate(STEMS)}
    second = {name: noise(seed + 10) for seed, name in enumerate(STEMS)}
    second["bass"] = torch.zeros_like(second["bass"])
    second["drums"][:, :RATE] = 0
    write_stems(root / "test" / "first", first)
    write_stems(root / "test" / "second", second)
    return root


@pytest.fixture(scope="module")
def scored(root, tmp_path_factory):
    """Scores of two stems, with their files."""
    return evaluate(separator(), root, output=tmp_path_factory.mktemp("scores"), progress=False)


def read_song(root, name, stems=STEMS):
    return torch.stack([audio.read(root / "test" / name / f"{stem}.wav")[0] for stem in stems])


def estimate(model, mixture):
    """All sources (S, C, T) of a mixture (C, T)."""
    return torch.stack([separate(model, mixture)[source] for source in model.sources])


def by_museval(references, estimates):
    """museval's SDR, ISR, SIR, SAR of (S, C, T), each (S, frames)."""
    museval = pytest.importorskip("museval")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return museval.evaluate(
            references.transpose(1, 2).numpy(), estimates.transpose(1, 2).numpy(), win=RATE, hop=RATE
        )


@pytest.fixture(scope="module", autouse=True)
def _import_museval():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("museval")


@pytest.mark.parametrize("engine", ["sepkit", "museval"])
@pytest.mark.parametrize("song", ["first", "second"])
def test_frame_scores_are_medians_of_what_museval_gives(root, song, engine):
    model = separator()
    scores = evaluate(model, root, engine=engine, baselines=False, progress=False)
    references = read_song(root, song)
    expected = by_museval(references[:2], estimate(model, references.sum(0)))
    for metric, frames in zip(METRICS, expected, strict=False):
        for source, target in enumerate(("vocals", "drums")):
            found = scores.values("model", target, metric)[song]
            assert found == pytest.approx(np.nanmedian(frames[source]), abs=1e-6)


def test_one_stem_is_scored_beside_what_is_left(root):
    model = separator(["drums"])
    scores = evaluate(model, root, progress=False)
    references = read_song(root, "first")
    mixture = references.sum(0)
    drums = estimate(model, mixture)[0]
    expected = by_museval(torch.stack([references[1], mixture - references[1]]), torch.stack([drums, mixture - drums]))
    assert scores.names("target") == ["drums", "accompaniment"]
    assert "mixture/2" in scores.names("system")
    for source, target in enumerate(scores.names("target")):
        found = scores.values("model", target, "SIR")["first"]
        assert found == pytest.approx(np.nanmedian(expected[2][source]), abs=1e-4)


def test_rows_hold_every_system_track_target_and_metric(scored):
    systems = ["model", "mixture/2", "silence", "oracle"]
    assert scored.names("system") == systems
    assert scored.names("metric") == METRICS
    expected = set(itertools.product(systems, ("first", "second"), ("vocals", "drums"), METRICS))
    assert {row[:4] for row in scored.rows} == expected
    assert len(scored.rows) == len(expected)


def test_whole_track_scores_follow_their_formulas(root, scored):
    references = read_song(root, "first").double()
    estimate = (references.sum(0) / 2).numpy()
    target = references[0].numpy()
    scaled = (estimate * target).sum() / (target**2).sum() * target
    si_sdr = 10 * math.log10((scaled**2).sum() / ((estimate - scaled) ** 2).sum())
    sdr = 10 * math.log10((target**2).sum() / ((estimate - target) ** 2).sum())
    found = {metric: scored.values("mixture/2", "vocals", metric)["first"] for metric in METRICS}
    assert found["SI-SDR"] == pytest.approx(si_sdr, abs=1e-4)  # float32
    assert found["uSDR"] == pytest.approx(sdr, abs=1e-4)
    assert found["SI-SDRi"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("system", ["model", "oracle"])
def test_improvement_is_measured_against_the_mixture(scored, system):
    score, of_mixture = (scored.values(name, "drums", "SI-SDR")["first"] for name in (system, "mixture/2"))
    assert scored.values(system, "drums", "SI-SDRi")["first"] == pytest.approx(score - of_mixture, abs=1e-4)


def test_silence_scores_zero_decibels_by_definition(scored):
    assert {scored.median("silence", target, "SDR") for target in ("vocals", "drums")} == {0.0}
    assert scored.median("silence", "vocals", "uSDR") == 0.0
    assert math.isnan(scored.median("silence", "vocals", "SI-SDR"))
    assert math.isnan(scored.median("silence", "vocals", "SAR"))


def test_oracle_stands_above_the_mixture(scored):
    for target in ("vocals", "drums"):
        assert scored.median("oracle", target, "SDR") > scored.median("mixture/2", target, "SDR") + 1


def test_baselines_are_left_out_on_demand(root):
    scores = evaluate(separator(), root, baselines=False, progress=False)
    assert scores.names("system") == ["model"]


@pytest.mark.parametrize("engine", ["sepkit", "museval"])
def test_silent_references_are_not_scored_and_marked(root, engine, tmp_path):
    scores = evaluate(separator(STEMS), root, engine=engine, baselines=False, output=tmp_path, progress=False)
    assert list(scores.values("model", "bass", "SDR")) == ["first"]
    assert "bass is silent throughout, not scored: second" in scores.table()
    assert "\nbass (1 of 2)  " in scores.table()
    with open(tmp_path / "scores.csv") as file:
        empty = [row for row in csv.DictReader(file) if row["value"] == ""]
    assert {(row["track"], row["target"]) for row in empty} == {("second", "bass")}
    assert [row["metric"] for row in empty] == METRICS
    references = read_song(root, "second")
    expected = by_museval(references[:2], estimate(separator(STEMS), references.sum(0))[:2])
    found = [scores.values("model", "vocals", metric)["second"] for metric in METRICS[:4]]
    assert found == pytest.approx([np.nanmedian(frames[0]) for frames in expected], abs=1e-4)


@pytest.mark.parametrize("engine", ["sepkit", "museval"])
def test_silent_estimates_are_scored_and_marked(root, engine):
    scores = evaluate(separator(network="Silence"), root, engine=engine, baselines=False, progress=False)
    assert scores.values("model", "vocals", "SDR") == {"first": 0.0, "second": 0.0}
    assert scores.values("model", "vocals", "ISR") == pytest.approx({"first": 0.0, "second": 0.0}, abs=1e-9)
    assert scores.values("model", "vocals", "SIR") == {}
    assert "vocals is estimated as silence, 0 dB SDR and no SI-SDR: first, second" in scores.table()


@pytest.mark.parametrize("engine", ["sepkit", "museval"])
def test_one_reference_alone_has_no_interference(tmp_path, engine):
    write_stems(tmp_path / "data/test/song", {"vocals": noise(1), "drums": torch.zeros(2, SECONDS * RATE)})
    scores = evaluate(separator(), tmp_path / "data", engine=engine, baselines=False, progress=False)
    assert scores.values("model", "vocals", "SIR") == {}
    assert scores.values("model", "vocals", "SAR")["song"] > 0


def test_track_without_a_common_frame_is_marked(tmp_path):
    early, late = noise(1), noise(2)
    early[:, 2 * RATE :] = 0
    late[:, : 2 * RATE] = 0
    write_stems(tmp_path / "data/test/song", {"vocals": early, "drums": late})
    scores = evaluate(separator(), tmp_path / "data", progress=False)
    assert scores.values("model", "vocals", "SDR") == {}
    assert "vocals has no frame in which all stems sound, no SDR, ISR, SIR, SAR: song" in scores.table()


def test_warnings_of_the_metrics_are_told_in_the_table(tmp_path):
    copies = {"vocals": noise(1), "drums": noise(1)}
    write_stems(tmp_path / "data/test/song", copies)
    scores = evaluate(separator(), tmp_path / "data", baselines=False, progress=False)
    assert any(note.startswith("song: the references") for note in scores.notes)


@pytest.mark.parametrize(("options", "named"), [({}, ["drums"]), ({"protocol": "musdb"}, ["drums", "accompaniment"])])
def test_an_estimate_out_of_place_is_named_in_the_table(folders, options, named):
    stems = {name: audio.read(folders / f"references/first/{name}.wav")[0] for name in STEMS}
    stems["accompaniment"] = stems["drums"] + stems["bass"]
    write_stems(folders / "estimates" / "first", {"vocals": stems["vocals"], **{name: -stems[name] for name in named}})
    scores = evaluate(
        estimates=folders / "estimates/first", references=folders / "references/first", progress=False, **options
    )
    assert [note for note in scores.notes if "inverted" in note] == [
        f"first: estimate of {name} looks inverted: align the estimates with the references" for name in named
    ]


def test_museval_keeps_the_terminal_clean(root, capfd):
    evaluate(separator(), root, engine="museval", baselines=False, progress=False)
    assert capfd.readouterr() == ("", "")


def test_museval_solves_a_singular_system_with_any_numpy():
    pytest.importorskip("museval")
    # Two references with one and the same impulse, to whose power museval's ridge adds nothing: its equations have no
    # inverse, and it then looks for numpy.linalg.linalg, which numpy 2.4 removed.
    reference = torch.zeros(2, 1, 1200)
    reference[:, 0, 0] = 2.0
    estimate = 0.1 * torch.randn(2, 1, 1200, generator=torch.Generator().manual_seed(0))
    material = TrackAudio(reference.sum(0), reference, estimate)
    frames = museval_engine()(material, 1200, 1200, Settings(tuple(METRICS[:4]), engine="museval"))
    expected = 10 * torch.log10(4 / (estimate - reference).double().square().sum((1, 2)))
    torch.testing.assert_close(frames[0, :, 0], expected)


def test_bar_appears_on_terminals_only(root, capfd):
    evaluate(separator(), root, baselines=False)
    assert capfd.readouterr() == ("", "")


def test_scores_without_museval_are_given_without_ffmpeg(root, monkeypatch):
    with_it = evaluate(separator(), root, baselines=False, progress=False)
    for name in [name for name in sys.modules if name.split(".")[0] in ("museval", "musdb", "stempeg")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("PATH", "")
    museval_engine.cache_clear()
    scores = evaluate(separator(), root, engine="museval", baselines=False, progress=False)
    assert any(note.startswith("ISR, SIR, SAR are missing: install museval and ffmpeg") for note in scores.notes)
    assert math.isnan(scores.median("model", "vocals", "SIR"))
    for metric in ("SDR", "SI-SDR", "uSDR"):
        assert scores.median("model", "vocals", metric) == with_it.median("model", "vocals", metric)


def test_default_engine_does_without_museval(root, monkeypatch):
    for name in ("museval", "musdb", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
    scores = evaluate(separator(), root, baselines=False, progress=False)
    assert not math.isnan(scores.median("model", "vocals", "SIR"))


def test_csv_holds_the_rows_with_five_decimals(scored):
    with open(scored.folder / "scores.csv") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["system", "track", "target", "metric", "value"]
    assert len(rows) == 1 + len(scored.rows)
    for written, row in zip(rows[1:], scored.rows, strict=True):
        assert tuple(written[:4]) == row[:4]
        assert written[4] == ("" if math.isnan(row.value) else f"{row.value:.5f}")


def test_evalstore_of_museval_reads_the_folder(scored):
    museval = pytest.importorskip("museval")
    store = museval.EvalStore()
    store.add_eval_dir(scored.folder)
    medians = store.agg_frames_scores()
    for target in ("vocals", "drums"):
        for metric in METRICS[:4]:
            for track, value in scored.values("model", target, metric).items():
                assert medians[track, target, metric] == pytest.approx(value, abs=1e-5)  # five decimals


def test_json_is_what_trackstore_of_museval_writes(scored):
    museval = pytest.importorskip("museval")
    with open(scored.folder / "test" / "second.json") as file:
        found = json.load(file)
    store = museval.TrackStore("second", win=1.0, hop=1.0)
    for target in found["targets"]:
        frames = [frame["metrics"] for frame in target["frames"]]
        store.add_target(target["name"], {metric: [frame[metric] for frame in frames] for metric in METRICS[:4]})
    store.validate()
    found.pop("sepkit_version")
    assert json.dumps(json.loads(store.json), sort_keys=True) == json.dumps(found, sort_keys=True)


@pytest.mark.parametrize(("verbose", "words"), [(False, ["medians"]), (True, ["median ", "mean "])])
def test_table_names_its_statistics_and_tells_where_the_files_lie(scored, verbose, words):
    table = scored.table(verbose)
    for word in (*words, "oracle", "SI-SDRi", str(scored.folder / "scores.csv"), "2 tracks"):
        assert word in table
    assert max(len(line) for line in table.split("\nscores:")[0].splitlines()) <= 80


def test_json_of_other_tracks_in_the_folder_is_mentioned(root, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "old.json").write_text("{}")
    scores = evaluate(separator(), root, baselines=False, output=tmp_path, progress=False)
    assert "holds JSON of 1 more tracks" in scores.table()


def test_median_and_mean_leave_out_what_has_no_score():
    values = {"a": 1.0, "b": math.nan, "c": 4.0, "d": 10.0}
    scores = Scores([Score("model", track, "vocals", "SDR", value) for track, value in values.items()])
    assert scores.median("model", "vocals", "SDR") == 4.0
    assert scores.mean("model", "vocals", "SDR") == 5.0
    assert math.isnan(scores.mean("model", "drums", "SDR"))


def test_scores_beyond_rounding_are_not_printed_as_numbers():
    scores = Scores(
        [
            Score("model", "song", "vocals", metric, value)
            for metric, value in {"SDR": 250.3, "SIR": math.inf, "SAR": math.nan}.items()
        ]
    )
    assert scores.table().splitlines()[1].split() == ["model", ">100", ">100", "-"]
    assert scores.table(verbose=True).splitlines()[1].split() == ["model", "median", ">100", ">100", "-"]


def test_model_folder_scores_as_the_model(tmp_path):
    model = Separator(
        ["vocals", "drums"],
        {"class": "BLSTM", "hidden_size": 4, "n_layers": 1},
        sample_rate=RATE,
        segment=1.0,
        transform={"class": "STFT", "n_fft": 256, "hop_length": 128},
    ).eval()
    write_stems(tmp_path / "data/test/song", {"vocals": noise(1), "drums": noise(2)})
    save_model(model, tmp_path / "model")
    given = evaluate(model, tmp_path / "data", baselines=False, progress=False)
    loaded = evaluate(tmp_path / "model", tmp_path / "data", baselines=False, device="cpu", progress=False)
    assert given.rows == loaded.rows


def test_batch_size_does_not_change_scores(root):
    one, many = (
        evaluate(separator(), root, baselines=False, batch_size=size, overlap=0.5, device="cpu", progress=False)
        for size in (1, 4)
    )
    for first, second in zip(one.rows, many.rows, strict=True):
        assert first.value == pytest.approx(second.value, abs=1e-3, nan_ok=True)  # float32


def test_window_and_hop_are_seconds(root, tmp_path):
    evaluate(separator(), root, baselines=False, window=2.0, hop=0.5, output=tmp_path, progress=False)
    with open(tmp_path / "test" / "first.json") as file:
        frames = json.load(file)["targets"][0]["frames"]
    assert [frame["time"] for frame in frames] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert {frame["duration"] for frame in frames} == {2.0}


def test_songs_of_another_rate_are_resampled_on_demand(root):
    model = Separator(["vocals", "drums"], {"class": f"{__name__}.Bands"}, sample_rate=11025, segment=1.0)
    with pytest.raises(DatasetError, match="resample"):
        evaluate(model, root, progress=False)
    scores = evaluate(model, root, resample=True, baselines=False, progress=False)
    assert list(scores.values("model", "vocals", "SDR")) == ["first", "second"]


def test_split_chooses_songs_and_names_the_folder(tmp_path):
    write_stems(tmp_path / "data/valid/kept", {"vocals": noise(1), "drums": noise(2)})
    write_stems(tmp_path / "data/train/other", {"vocals": noise(3), "drums": noise(4)})
    output = tmp_path / "scores"
    scores = evaluate(separator(), tmp_path / "data", split="valid", baselines=False, output=output, progress=False)
    assert scores.names("track") == ["kept"]
    assert (output / "valid" / "kept.json").is_file()


def test_oracle_in_blocks_is_the_oracle_of_the_whole(monkeypatch):
    reference = torch.stack([noise(1), noise(2)])
    mixture, transform = reference.sum(0), STFT(256, 128)
    targets = transform(reference[None])
    mask = ideal_ratio_mask(targets, transform(mixture[None]) - targets.sum(1))
    whole = transform.inverse(mask * transform(mixture[None])[:, None], mixture.shape[-1])[0]
    monkeypatch.setattr("sepkit.baselines.ORACLE_BLOCK", 1)
    blocks = oracle_estimate(mixture, reference, transform, 100 * 128)  # whole hops: the same frames
    torch.testing.assert_close(blocks, whole, atol=1e-6, rtol=0)


@pytest.fixture
def folders(tmp_path):
    """Estimates of two stems and references of three, of two tracks."""
    for track, shift in (("first", 0), ("second", 10)):
        stems = {name: noise(seed + shift) for seed, name in enumerate(STEMS)}
        write_stems(tmp_path / "references" / track, stems)
        rest = sum(stems.values())
        write_stems(
            tmp_path / "estimates" / track,
            {name: 0.9 * stems[name] + 0.05 * rest for name in ("vocals", "drums")},
        )
    return tmp_path


def score_folders(folders, **options):
    return evaluate(estimates=folders / "estimates", references=folders / "references", progress=False, **options)


def test_folders_are_paired_by_name(folders):
    scores = score_folders(folders)
    assert scores.names("system") == ["estimates", "mixture/2", "silence", "oracle"]
    assert scores.names("track") == ["first", "second"]
    stems = [
        torch.stack([audio.read(folders / kind / "second" / f"{name}.wav")[0] for name in ("vocals", "drums")])
        for kind in ("references", "estimates")
    ]
    expected = by_museval(*stems)
    for metric, frames in zip(METRICS, expected, strict=False):
        assert scores.values("estimates", "drums", metric)["second"] == pytest.approx(np.nanmedian(frames[1]), abs=1e-5)


def test_folders_of_one_track_are_scored(folders):
    scores = evaluate(
        estimates=folders / "estimates/first",
        references=folders / "references/first",
        baselines=False,
        progress=False,
    )
    both = score_folders(folders, baselines=False)
    assert scores.rows == [row for row in both.rows if row.track == "first"]


@pytest.mark.parametrize("estimated_rest", [True, False])
def test_estimates_of_one_stem_are_scored_beside_the_rest(folders, estimated_rest):
    for track in ("first", "second"):
        (folders / "estimates" / track / "drums.wav").unlink()
        references = [audio.read(folders / "references" / track / f"{name}.wav")[0] for name in STEMS]
        vocals = audio.read(folders / "estimates" / track / "vocals.wav")[0]
        if estimated_rest:
            write_stems(folders / "estimates" / track, {"accompaniment": sum(references) - vocals})
    scores = score_folders(folders, baselines=False)
    assert scores.names("target") == ["vocals", "accompaniment"]
    rest = torch.stack([references[0], references[1] + references[2]])
    expected = by_museval(rest, torch.stack([vocals, sum(references) - vocals]))
    found = scores.values("estimates", "accompaniment", "SDR")["second"]
    assert found == pytest.approx(np.nanmedian(expected[0][1]), abs=1e-4)  # float32 differences


def test_mixture_of_the_references_is_taken_where_it_is_recorded(folders):
    for track in ("first", "second"):
        write_stems(folders / "references" / track, {"mixture": noise(7)})
        write_stems(folders / "estimates" / track, {"mixture": noise(8)})
    scores = score_folders(folders)
    mixture, target = noise(7).double(), noise(0).double()
    expected = 10 * math.log10(target.square().sum() / (mixture / 2 - target).square().sum())
    assert scores.values("mixture/2", "vocals", "uSDR")["first"] == pytest.approx(expected, abs=1e-4)


def test_accompaniment_beside_the_stems_does_not_count_twice_in_the_mixture(folders):
    for track in ("first", "second"):
        write_stems(folders / "references" / track, {"accompaniment": noise(3)})
    mixture = sum(audio.read(folders / "references/first" / f"{name}.wav")[0] for name in STEMS)
    target = noise(0)
    expected = 10 * math.log10(target.square().sum() / (mixture / 2 - target).square().sum())
    assert score_folders(folders).values("mixture/2", "vocals", "uSDR")["first"] == pytest.approx(expected, abs=1e-4)


def spoil(folders, case):
    estimates, references = folders / "estimates", folders / "references"
    if case == "track":
        (estimates / "second").rename(estimates / "secnd")
    elif case == "stem":
        for track in ("first", "second"):
            (estimates / track / "vocals.wav").rename(estimates / track / "vocal.wav")
    elif case == "missing":
        (estimates / "second" / "drums.wav").unlink()
    elif case == "rate":
        audio.write(estimates / "first" / "drums.wav", noise(1), 2 * RATE)
    elif case == "channels":
        write_stems(references / "second", {"vocals": noise(1, n_channels=1)})
    elif case == "length":
        write_stems(estimates / "first", {"drums": noise(1, seconds=3)})
    elif case == "twice":
        audio.write(estimates / "first" / "drums.flac", noise(1), RATE)
    elif case == "broken":
        (estimates / "first" / "drums.wav").write_bytes(b"no audio")
    elif case == "cut":
        path = estimates / "first" / "drums.wav"
        path.write_bytes(path.read_bytes()[:20000])
    elif case == "rests":
        for track in ("first", "second"):
            for old, new in (("vocals", "accompaniment"), ("drums", "residual")):
                (estimates / track / f"{old}.wav").rename(estimates / track / f"{new}.wav")
    elif case == "mixtures":
        for path in estimates.glob("*/*.wav"):
            path.rename(path.with_name("mixture.wav"))
    elif case == "empty":
        for path in sorted(estimates.glob("*/*.wav")):
            path.unlink()
    elif case == "kinds":
        write_stems(estimates, {"vocals": noise(1)})


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("track", "no reference track 'secnd' for the estimates; did you mean 'second'?"),
        ("track", "no estimates of track 'second'; did you mean 'secnd'?"),
        (
            "stem",
            "first: no reference for the estimate 'vocal': rename it, add the reference, or choose others as "
            "targets; did you mean 'vocals'?",
        ),
        ("missing", "second: no estimate of 'drums', which other tracks have"),
        ("rate", "first: all files need the same number of Hz, .*estimate of drums 16000"),
        ("channels", "second: all files need the same number of channels, .*reference vocals 1"),
        ("length", "first: all files need the same number of samples, .*estimate of drums 24000"),
        ("twice", "there is another file for the stem 'drums'"),
        ("broken", "drums.wav"),
        ("cut", "drums.wav: truncated: replace it"),
        ("rests", "first: no reference for the estimate 'residual'"),
        ("mixtures", "holds no stem besides mixtures"),
        ("empty", "estimates holds neither stems nor folders of stems"),
        ("kinds", "holds the stems of one track, .* does not"),
    ],
)
def test_folders_that_do_not_fit_are_refused(folders, case, message):
    spoil(folders, case)
    with pytest.raises(DatasetError, match=message):
        score_folders(folders)


def test_folders_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="there is no folder"):
        evaluate(estimates=tmp_path / "a", references=tmp_path / "b")


def test_all_findings_come_in_one_message(folders):
    for case in ("length", "missing", "track"):
        spoil(folders, case)
    with pytest.raises(DatasetError) as refused:
        score_folders(folders)
    assert len(refused.value.findings) >= 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "got none of them"),
        ({"model": "runs/vocals"}, "give model and data, estimates and references, or estimates and data, got model"),
        ({"model": "m", "data": "d", "estimates": "e"}, "got model and data and estimates"),
        ({"estimates": "e"}, "got estimates"),
        ({"estimates": "e", "references": "r", "engine": "fast"}, "engine must be one of sepkit, museval"),
        ({"estimates": "e", "references": "r", "window": 0.0}, "window and hop must be > 0 s"),
        ({"estimates": "e", "references": "r", "hop": -1.0}, "window and hop must be > 0 s"),
    ],
)
def test_calls_that_say_nothing_to_score_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**given)


def test_a_split_of_another_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"split must be one of train, valid, test, got '\.\./x'"):
        evaluate(estimates=tmp_path, references=tmp_path, split="../x")
