"""What the files of a song are: by their names, by their sound, and where they lie; all entry points agree."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from songs import RATE, noise, write_root, write_song

from sepkit.datasets import (
    AudioFolder,
    DatasetError,
    SongDataset,
    check_songs,
    create_audio_dataset,
    open_songs,
    verify_dataset,
)
from sepkit.datasets.roles import describe_roles, sort_stems, untag
from sepkit.datasets.songs import RESIDUAL
from sepkit.evaluation import evaluate
from sepkit.evaluation.pairing import folder_tracks
from sepkit.evaluation.targets import choose_targets
from sepkit.evaluation.tracks import ModelTrack
from sepkit.inference import Chunking
from sepkit.recipe import load_recipe
from sepkit.separator import Separator
from sepkit.training import TrainingError, dry_run, train
from sepkit.training.train import open_data

MUSDB = ("vocals", "drums", "bass", "other")
RECIPE = {
    "separator": {
        "sources": ["vocals"],
        "sample_rate": RATE,
        "n_channels": 2,
        "segment": 0.5,
        "transform": {"class": "STFT", "n_fft": 256, "hop_length": 128},
        "network": {"class": "BLSTM", "hidden_size": 4, "n_layers": 1},
    },
    "data": {"items_per_epoch": 2, "workers": 0},
    "losses": [{"class": "RelativeSpectralLoss"}],
    "training": {"epochs": 1, "batch_size": 2, "optimizer": {"class": "AdamW", "lr": 1e-3}},
    "validation": {"excerpt": 1.0},
    "observers": [],
}


# By their names


@pytest.mark.parametrize(
    ("names", "wanted", "mixture", "parts"),
    [
        (MUSDB, [], None, MUSDB),
        ((*MUSDB, "mixture"), [], "mixture", MUSDB),
        ((*MUSDB, "Mixture"), [], "Mixture", MUSDB),
        ((*MUSDB, "mixture", "linear_mixture"), [], "mixture", MUSDB),
        ((*MUSDB, "linear_mixture"), [], "linear_mixture", MUSDB),
        ((*MUSDB, "full mix"), [], "full mix", MUSDB),
        ((*MUSDB, "mixdown"), [], "mixdown", MUSDB),
        ((*MUSDB, "master"), [], None, MUSDB),
        (("vocals", "master"), [], "master", ("vocals",)),
        (("vocals", "mix"), [], "mix", ("vocals",)),
        (("speech", "music", "sfx", "mix"), [], "mix", ("speech", "music", "sfx")),
        *(
            ((*MUSDB, name), [], None, MUSDB)
            for name in (
                "accompaniment", "Accompaniment", "instrumental", "Instrumentals", "inst", "karaoke", "backing_track",
                "伴奏", "カラオケ", "Instrumental Version", "instrum", "off-vocal ver",
                "backing track", "no_vocals", "no-vocals", "NoVocals", "no drums", "minus_one", "minus bass",
                "without_vocals", "vocals_removed", "drumless", "non_vocals", "Song_(Instrumental)_UVR-MDX",
            )
        ),
        *(
            ((*MUSDB, name), [], None, (*MUSDB, name))
            for name in (
                "backing_vocals", "no_1", "drum_mix", "lead", "music", "residual", "guitar", "s1", "vocals_old",
                "guitar (no fx)", "Song_(Vocals)_UVR-MDX", "instruments", "nothing",
            )
        ),
        (("vocals", "accompaniment"), [], None, ("vocals", "accompaniment")),
        (("drums", "accompaniment"), [], None, ("drums", "accompaniment")),
        (("drums", "no_drums"), [], None, ("drums", "no_drums")),
        (("lead_vocals", "bgv", "instrumental"), [], None, ("lead_vocals", "bgv", "instrumental")),
        (("vocals", "instrumental", "karaoke"), [], None, ("vocals", "instrumental")),
        ((*MUSDB, "accompaniment"), ["vocals", "accompaniment"], None, ("vocals", "accompaniment")),
        ((*MUSDB, "no_drums"), ["drums", "no_drums"], None, ("drums", "no_drums")),
        (("lead_vocals", *MUSDB[1:], "inst"), ["inst"], None, ("lead_vocals", "inst")),
        ((*MUSDB, "mix"), ["mix"], None, (*MUSDB, "mix")),
    ],
)  # fmt: skip
def test_names_tell_mixture_parts_and_sums(names, wanted, mixture, parts):
    roles = sort_stems(names, wanted)
    assert (roles.mixture, roles.parts) == (mixture, parts)
    assert {*roles.parts, *roles.sums, *roles.finer, *([mixture] if mixture else [])} == set(names)


def test_what_names_decided_is_said_in_a_line_each():
    roles = [sort_stems([*MUSDB, "karaoke"]), sort_stems([*MUSDB, "karaoke", "mix"])]
    assert describe_roles(roles) == [
        "karaoke is a sum of other stems by name, and not added to the mixture (2 of 2 songs)",
        "mix is taken for the mixture (1 of 2 songs)",
    ]
    assert describe_roles([sort_stems([*MUSDB, "no_drums"], ["no_drums"])]) == [
        "vocals, bass, other not added to the mixture: the target that is a sum holds them (1 of 1 songs)"
    ]


@pytest.mark.parametrize(
    ("name", "parts"),
    [("Song 8_(Vocals)_model", ("Song 8", "vocals")), ("1_A_(No Drums)", ("A", "no drums")), ("vocals_(1)", None),
     ("vocals", None), ("drums (left)", None)],
)  # fmt: skip
def test_names_of_other_tools_are_taken_apart(name, parts):
    assert untag(name) == parts


SUMS = {
    "accompaniment": MUSDB[1:],
    "no_drums": ("vocals", "bass", "other"),
    "karaoke": MUSDB[1:],
    "mix": MUSDB,
    "mixture": MUSDB,
    "linear_mixture": MUSDB,
    "instrumental": MUSDB[1:],
    "minus bass": ("vocals", "drums", "other"),
}


def mixtures_of_all_entry_points(root: Path, targets: list[str]) -> dict[str, torch.Tensor]:
    """Read the mixture of the only training song as data, training and evaluation do."""
    length = 1.0
    folder = AudioFolder(root, targets, length, sample_rate=RATE, num_channels=2)
    in_memory = create_audio_dataset(root, targets, chunk_size=length, num_chunks=1, sample_rate=RATE, mono=False)
    recipe = load_recipe({**RECIPE, "separator": {**RECIPE["separator"], "sources": targets}}, (), root)
    trained = SongDataset(open_data(recipe)["train"], targets, RATE)
    model = Separator(**recipe.separator_settings())
    chosen = choose_targets(targets, None, "sepkit")
    songs = open_songs(root, "train", targets, RATE, 2)
    (by_model,) = (ModelTrack(song, chosen, model, Chunking()) for song in songs)
    given = {"chosen": targets, "protocol": "sepkit", "split": "train"}
    (by_files,), _ = folder_tracks(root.parent / "estimates", root / "train", None, **given)
    (by_songs,), _ = folder_tracks(root.parent / "estimates", None, root, **given)
    tracks = {"model": by_model, "files": by_files, "songs": by_songs}
    return {
        "data": folder[0][0],
        "memory": in_memory[0][0],
        "training": trained[0][0],
        **{name: track.read().mixture for name, track in tracks.items()},
    }


@pytest.mark.filterwarnings("ignore:.*(sum of other stems|taken for the mixture|not added):UserWarning")
@pytest.mark.parametrize("seed", range(12))
def test_data_training_and_evaluation_have_the_same_mixture_whatever_sums_lie_beside(tmp_path, seed):
    generator = np.random.default_rng(seed)
    stems = {name: noise(10 * seed + k) / 8 for k, name in enumerate(MUSDB)}
    sums = generator.choice(list(SUMS), generator.integers(1, 5), replace=False)
    beside = {str(name): sum(stems[part] for part in SUMS[name]) for name in sums}
    targets = ["vocals", "accompaniment"] if "accompaniment" in beside and seed % 2 else ["vocals"]
    for place in ("train", "valid"):
        write_song(tmp_path / "root" / place / "song", {**stems, **beside}, subtype="FLOAT")
    write_song(tmp_path / "estimates" / "song", {name: {**stems, **beside}[name] for name in targets})
    wanted = torch.tensor(sum(stems.values()).T).float()
    for entry, mixture in mixtures_of_all_entry_points(tmp_path / "root", targets).items():
        torch.testing.assert_close(mixture, wanted, rtol=0, atol=1e-5, msg=lambda text, entry=entry: f"{entry}: {text}")


def test_the_dry_run_and_the_training_say_what_is_not_added(tmp_path):
    for place in ("train/a", "valid/b"):
        write_song(tmp_path / place, {**{name: noise(k) / 4 for k, name in enumerate(MUSDB)}, "karaoke": noise(9) / 4})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = dry_run(RECIPE, data=tmp_path, device="cpu")
    assert result.shapes["stems"][1] == len(MUSDB)
    lines = [str(each.message) for each in caught]
    assert any("train: karaoke is a sum of other stems by name, and not added to the mixture" in line for line in lines)
    assert any("karaoke holds more than the parts, which is in no mixture, in a (-" in line for line in lines)


def test_a_target_inside_another_is_refused(tmp_path):
    write_song(tmp_path / "train" / "a", {name: noise(k) for k, name in enumerate((*MUSDB, "accompaniment"))})
    with (
        pytest.warns(UserWarning, match="not added to the mixture: the target that is a sum holds them"),
        pytest.raises(ValueError, match="no target may be part of another, as by their names these are: a: drums"),
    ):
        AudioFolder(tmp_path, ["vocals", "drums", "accompaniment"], sample_rate=RATE, num_channels=2)


def test_a_wanted_sum_beside_nothing_that_it_leaves_out_is_refused(tmp_path):
    write_song(tmp_path / "train" / "a", {name: noise(k) for k, name in enumerate(("lead", "drums", "inst"))})
    message = "a: inst is wanted, by its name holds drums, lead, and nothing is beside it; name vocals what it leaves"
    with pytest.raises(DatasetError, match=message):
        AudioFolder(tmp_path, ["inst"], sample_rate=RATE, num_channels=2)


# By their sound


def sound(seed: int, seconds: float = 8.0) -> np.ndarray:
    """Make noise whose level moves."""
    generator = np.random.default_rng(seed)
    n_samples = int(seconds * RATE)
    level = np.repeat(generator.random(n_samples // 800 + 1), 800)[:n_samples, None]
    return 0.08 * level * generator.standard_normal((n_samples, 2))


STEMS = {name: sound(k) for k, name in enumerate(MUSDB)}
TOTAL = sum(STEMS.values())


def late(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    return np.roll(waveform, n_samples, 0)


NOT_THE_SUM = "the mixture is not the sum of its parts, and what differs stays out of remixed examples; .*, in song"
NOTICES = {
    "late": ({"mixture": late(TOTAL, 200)}, rf"{NOT_THE_SUM} \(200 samples late, residual \d.\d dB, -\d+.\d dB where"),
    "early": ({"mixture": late(TOTAL, -1)}, rf"{NOT_THE_SUM} \(1 sample early, residual \d.\d dB, "),
    "scaled": ({"mixture": 0.5 * TOTAL}, rf"{NOT_THE_SUM} \(6.0 dB softer, residual 0.0 dB, "),
    "inverted": ({"mixture": -TOTAL}, rf"{NOT_THE_SUM} \(inverted, residual 6.0 dB, "),
    "mastered": ({"mixture": np.tanh(4 * TOTAL) / 2}, rf"{NOT_THE_SUM} \(\d.\d dB louder, residual"),
    "another": ({"mixture": sound(9)}, rf"{NOT_THE_SUM} \(residual \d.\d dB, unlike their sum\)"),
    "more": ({"mixture": TOTAL + sound(9)}, r"the mixture holds more than its parts, .*, in song \(residual -\d.\d dB"),
    "copy of no target": ({"perc": STEMS["drums"]}, "drums is a copy of perc, so that .* twice; remove one, in song"),
    "nearly": ({"vocals_old": STEMS["vocals"] + 0.1 * sound(9)}, "vocals_old is nearly vocals"),
    "nearly the sum": ({"song": np.tanh(4 * TOTAL) / 4}, "song is nearly the sum of bass, drums, other, vocals; "),
    "silent": ({"bass": 0 * STEMS["bass"]}, "bass is silent throughout in 1 of 1 songs of train: song"),
}  # fmt: skip
REFUSED = {
    "copy": ({"vocals copy": STEMS["vocals"]}, "vocals copy is a copy of vocals, so that the mixture holds it twice"),
    "scaled copy": ({"vocals_old": -0.3 * STEMS["vocals"]}, "vocals_old is a copy of vocals, .*; remove one, in song"),
    "late copy": ({"vocals_old": late(STEMS["vocals"], 90)}, "vocals_old is a copy, 90 samples late, of vocals, so"),
    "sum": ({"beat": STEMS["drums"] + STEMS["bass"]}, "beat is the sum of bass, drums, which the mixture holds twice"),
    "all": ({"song": TOTAL}, "song is the sum of bass, drums, other, vocals, which the mixture holds twice; remove it"),
    "silent target": ({"vocals": 0 * TOTAL}, "vocals is silent in all songs of train; choose others, or add songs"),
}


def check(root: Path, stems: dict[str, np.ndarray], subtype: str = "PCM_24") -> list[str]:
    """Write a song, check it, and return the notices."""
    write_song(root / "train" / "song", stems, subtype=subtype)
    songs = {"train": open_songs(root, "train", ["vocals"], RATE, 2)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_songs(root, songs, ["vocals"])
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(("planted", "message"), NOTICES.values(), ids=NOTICES)
def test_findings_of_ten_seconds_are_warnings(tmp_path, planted, message):
    (line,) = check(tmp_path, {**STEMS, **planted})
    with pytest.raises(ValueError, match=message):
        raise ValueError(line)


@pytest.mark.parametrize(("planted", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_numbers_wrong_is_refused(tmp_path, planted, message):
    with pytest.raises(DatasetError, match=message) as caught:
        check(tmp_path, {**STEMS, **planted})
    assert len(caught.value.findings) == 1


@pytest.mark.parametrize(
    "planted",
    [{}, {"mixture": TOTAL}, {"mixture": TOTAL + 0.002 * sound(9)}, {"guitar": sound(9)}],
    ids=["sum", "recorded", "rounded", "one more"],
)
def test_songs_in_order_are_not_spoken_of(tmp_path, planted):
    assert check(tmp_path, {**STEMS, **planted}) == []


@pytest.mark.parametrize("n_samples", [1, 100, 3000])
def test_short_songs_can_be_looked_at(tmp_path, n_samples):
    assert check(tmp_path, {name: noise(k, n_samples) for k, name in enumerate((*MUSDB, "mixture"))}) != []


def test_a_part_alone_is_told(tmp_path):
    (line,) = check(tmp_path, {"vocals": STEMS["vocals"]})
    assert line.endswith("one part stands alone, without a mixture or others, in song")


@pytest.mark.parametrize("mixture", [case[0]["mixture"] for name, case in NOTICES.items() if "mixture" in case[0]])
def test_no_foreign_residual_is_in_remixed_examples(tmp_path, mixture):
    for i, name in enumerate("ab"):
        write_song(tmp_path / name, {**STEMS, "mixture": late(mixture, i)}, subtype="FLOAT")
    dataset = AudioFolder(tmp_path, list(MUSDB), 1.0, "train", RATE, 2, valid_share=0.0, remix=1.0, items_per_epoch=4)
    for i in range(4):
        mixed, targets = dataset[i]
        assert RESIDUAL in dataset.stems
        torch.testing.assert_close(mixed, targets.sum(0), rtol=0, atol=1e-6)


def test_the_only_accompaniment_of_a_part_stays_in_remixed_examples(tmp_path):
    for i, name in enumerate("ab"):
        vocals, rest = sound(20 + i), sound(30 + i)
        write_song(tmp_path / "clean" / name, {"vocals": vocals, "mixture": vocals + rest}, subtype="FLOAT")
        write_song(tmp_path / "late" / name, {"vocals": vocals, "mixture": late(vocals + rest, 99)}, subtype="FLOAT")
    given = (["vocals"], 1.0, "train", RATE, 2)
    lent = {
        root: AudioFolder(tmp_path / root, *given, valid_share=0.0, remix=1.0).plan((0, 0)).songs[1]
        for root in ("clean", "late")
    }
    assert lent["clean"] is not None
    assert lent["late"] is None


# NaN and damage, before the first step


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("place", ["train", "valid"])
def test_nan_anywhere_is_found_before_the_first_step(tmp_path, subtype, place):
    root = write_root(tmp_path / "data", ["train/a", "valid/b"])
    spoiled = sound(0, 30.0)
    spoiled[12345, 1] = np.nan
    song = root / place / ("a" if place == "train" else "b")
    soundfile.write(song / "drums.wav", spoiled, RATE, subtype=subtype)
    soundfile.write(song / "vocals.wav", sound(1, 30.0), RATE)
    with pytest.raises(DatasetError, match=r"drums.wav holds nan at sample 12345 of channel 1; repair the file"):
        dry_run(RECIPE, data=root, device="cpu")
    with pytest.raises(DatasetError, match="holds nan at sample 12345"):
        train(RECIPE, tmp_path / "run", data=root, device="cpu", quiet=True)


def test_deep_verification_decodes_everything(tmp_path):
    write_song(tmp_path / "train" / "a", {name: sound(k, 30.0) for k, name in enumerate(MUSDB)}, suffix=".flac")
    path = tmp_path / "train" / "a" / "drums.flac"
    data = bytearray(path.read_bytes())
    data[len(data) // 7 : len(data) // 7 + 400] = bytes(400)
    path.write_bytes(data)
    assert verify_dataset(tmp_path, ["vocals"], sample_rate=RATE) == 1
    with pytest.raises(DatasetError, match=r"drums.flac does not decode near sample \d+"):
        verify_dataset(tmp_path, ["vocals"], sample_rate=RATE, deep=True)


def test_a_source_that_no_validation_excerpt_has_is_told_before_the_first_step(tmp_path):
    for place in ("train/a", "valid/b"):
        stems = {name: noise(k) for k, name in enumerate(("vocals", "drums"))}
        write_song(tmp_path / place, {**stems, "drums": stems["drums"] * (place == "train/a")})
    recipe = {**RECIPE, "separator": {**RECIPE["separator"], "sources": ["vocals", "drums"]}}
    with pytest.warns(UserWarning, match="drums sounds in no validation excerpt and is not scored: set validation"):
        open_data(load_recipe(recipe, (), tmp_path))
    alone = {**RECIPE, "separator": {**RECIPE["separator"], "sources": ["drums"]}}
    with pytest.raises(TrainingError, match="no validation excerpt has a second in which all targets sound"):
        open_data(load_recipe(alone, (), tmp_path))


# Where they lie


def layout(root: Path, places: dict[str, str]) -> Path:
    """Write a file of noise at each path below a root."""
    for i, place in enumerate(places):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / place, noise(i), RATE, format="WAV")
    return root


LAYOUTS = {
    "capitals": (["Train/a/vocals.wav", "Test/b/vocals.wav"], r"the folder Train/ is not read; name it train/ \("),
    "short names": (["tr/1/vocals.wav", "cv/2/vocals.wav"], "the folder cv/ is not read; name it valid/"),
    "artists": (["train/Artist/Song/vocals.wav", "valid/b/vocals.wav"], "train/Artist is taken for a song, and its "
                "stems lie deeper, as .*train/Artist/Song/vocals.wav; wanted is .*/train/<song>/vocals.wav"),
    "artists, no valid": (["train/A/Song/vocals.wav"], "train/A is taken for a song, and its stems lie deeper"),
    "speech": (["train/s1/a.wav", "train/s2/a.wav", "train/mix/a.wav"], "train/mix and 2 more are taken for a song, by "
               "the name of a stem: a folder is wanted for each song, not for each stem; wanted is .*/<song>/voc"),
    "a folder a stem": (["train/vocals/1.wav", "train/drums/1.wav"], "train/drums and 1 more are taken for a song,"),
    "stems deeper": (["train/T1/mix.wav", "train/T1/stems/S00.wav"], "train/T1 is taken for a song, and its stems lie"),
    "too high": (["data/train/a/vocals.wav"], "data is taken for a song, .*; give .*/data as the root"),
    "one song": (["vocals.wav", "drums.wav"], "holds audio and no folders of songs: put each song's stems into one"),
    "files of songs": (["train/a_vocals.wav", "train/b_vocals.wav"], "train holds audio and no folders of songs"),
    "names of songs": (
        ["train/a/a_voc.wav", "train/a/a_Vocals.wav"],
        r"no song of train has the stem 'vocals'.*'a_Vocals'",
    ),
    "a folder of notes": (["train/a/vocals.wav", "train/notes/text.txt"], "notes: holds no audio and counts as a song"),
}  # fmt: skip


@pytest.mark.parametrize(("places", "message"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_wrong_layout_is_answered_with_the_folder_and_the_right_one(tmp_path, places, message):
    layout(tmp_path, places)
    with pytest.raises(DatasetError, match=message) as caught:
        open_songs(tmp_path, "train", ["vocals"], RATE, 2)
    assert len(caught.value.findings) <= 2


def test_litter_of_systems_is_passed_over_and_loose_files_are_told(tmp_path):
    places = ["train/a/vocals.wav", "train/__MACOSX/a/._vocals.wav", "train/@eaDir/a/vocals.wav", "train/b.wav"]
    layout(tmp_path, places)
    with pytest.warns(UserWarning, match="b.wav is not read: it lies in no folder of a song"):
        (song,) = open_songs(tmp_path, "train", ["vocals"], RATE, 2)
    assert song.name == "a"


def test_songs_called_like_a_stem_or_a_subset_are_songs(tmp_path):
    layout(tmp_path, [f"{name}/{stem}.wav" for name in ("Test", "Other", "Noise") for stem in ("vocals", "drums")])
    names = [song.name for song in open_songs(tmp_path, "train", ["vocals"], RATE, 2, valid_share=0.0)]
    assert names == ["Noise", "Other", "Test"]


# Estimates in files


def score(root: Path, lines: list | None = None, **options):
    options = {"references": root / "ref", "progress": False, "metrics": ["SDR", "SI-SDR", "SI-SDRi"], **options}
    return evaluate(estimates=root / "est", log=(lines if lines is not None else []).append, **options)


def test_of_one_stem_alone_no_number_needs_a_mixture(tmp_path):
    write_song(tmp_path / "ref" / "a", {"vocals": noise(0)})
    write_song(tmp_path / "est" / "a", {"vocals": noise(0) + 0.1 * noise(1)})
    lines: list[str] = []
    scores = score(tmp_path, lines, output=tmp_path / "out", report=True)
    assert scores.names("system") == ["estimates", "silence"]
    assert scores.names("target") == ["vocals"]
    assert scores.names("metric") == ["SDR", "SI-SDR"]
    assert scores.median("estimates", "vocals", "SDR") == pytest.approx(20, abs=0.2)
    assert "SI-SDRi (over" not in scores.table()
    assert any(line.startswith("no mixture is known of a: SI-SDRi") for line in lines)
    assert (tmp_path / "out" / "report.html").is_file()
    with pytest.raises(ValueError, match=r"SI-SDRi needs a mixture: add mixture\.wav to the references"):
        score(tmp_path, metrics=["SI-SDRi"])
    write_song(tmp_path / "ref" / "a", {"mixture": noise(0) + noise(2)})
    assert score(tmp_path).names("target") == ["vocals", "accompaniment"]


def test_two_flat_folders_are_said_to_be_one_track(tmp_path):
    for kind in ("ref", "est"):
        write_song(tmp_path / kind, {"T1": noise(0), "T2": noise(1)})
    lines: list[str] = []
    score(tmp_path, lines)
    assert "read as the stems of one track: T1, T2" in lines


@pytest.mark.parametrize("name", ["no_vocals", "instrumental", "Song_(Instrumental)_model"])
@pytest.mark.parametrize("protocol", ["sepkit", "musdb"])
def test_estimates_of_all_but_the_vocals_are_scored_as_accompaniment(tmp_path, name, protocol):
    stems = {name: noise(k) / 4 for k, name in enumerate(MUSDB)}
    write_song(tmp_path / "ref" / "a", stems)
    write_song(tmp_path / "est" / "a", {"vocals": stems["vocals"], name: 0.5 * sum(stems[part] for part in MUSDB[1:])})
    lines: list[str] = []
    scores = score(tmp_path, lines, protocol=protocol, metrics=["SDR"])
    assert f"{name} is scored as accompaniment" in lines
    assert scores.median("estimates", "accompaniment", "SDR") == pytest.approx(6.02, abs=0.02)


def test_estimates_that_are_not_chosen_need_no_reference_and_are_named(tmp_path):
    stems = {name: noise(k) / 4 for k, name in enumerate(MUSDB)}
    write_song(tmp_path / "ref" / "a", stems)
    write_song(tmp_path / "est" / "a", {"vocals": stems["vocals"], "drums": stems["drums"], "piano": noise(7, 9)})
    lines: list[str] = []
    assert score(tmp_path, lines, targets=["vocals", "drums"]).names("target") == ["drums", "vocals"]
    assert "not scored: piano (no reference)" in lines
    with pytest.raises(DatasetError, match="no reference for the estimate 'piano': rename it, add the reference, or"):
        score(tmp_path)


def test_lengths_that_differ_are_answered_with_a_remedy(tmp_path):
    for kind, n_samples in (("ref", RATE), ("est", RATE - 1)):
        write_song(tmp_path / kind / "a", {name: noise(k, n_samples) for k, name in enumerate(("vocals", "drums"))})
    with pytest.raises(DatasetError, match=r"number of samples, got .* 7999.*: cut the longer ones, or fill"):
        score(tmp_path)


def test_flat_estimates_of_other_tools_are_answered_with_where_to_put_them(tmp_path):
    write_song(tmp_path / "ref" / "Song 8", {"vocals": noise(0)})
    write_song(tmp_path / "est", {"Song 8_(Vocals)_model": noise(0)})
    with pytest.raises(DatasetError, match=r"put Song 8_\(Vocals\)_model\.wav into Song 8/vocals\.wav, and the"):
        score(tmp_path)


# Real songs


def test_the_inspection_raises_no_false_alarm_on_real_songs(reference_root, tmp_path):
    shutil.copytree(reference_root / "audio" / "tracks", tmp_path / "train")
    songs = open_songs(tmp_path, "train", ["vocals"], 44100, 2, valid_share=0.0)
    assert not [song for song in songs if song.inspection.copies or song.inspection.doubles]
