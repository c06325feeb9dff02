"""Folders of songs: what is found, what is refused, and what an example holds."""

import itertools
import os
import pickle
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from songs import RATE, noise, write_root, write_song
from torch.utils.data import DataLoader, default_collate

from sepkit import audio
from sepkit.augment import Gain, Sign, SwapChannels
from sepkit.datasets import (
    MUSDB18,
    AudioFolder,
    DatasetError,
    EpochSampler,
    Planner,
    SongDataset,
    create_audio_folder,
    open_songs,
)
from sepkit.datasets.musdb.stem_files import VALIDATION_SONGS
from sepkit.datasets.readers import DecodingReader, Pcm16Reader
from sepkit.datasets.sampling import Sampling, SongTable
from sepkit.datasets.songs import RESIDUAL

TARGETS = ["vocals", "drums"]
FORMER_PLANS = {  # of the planner that knew no targets
    0.0: [((1, 1, 1), (1110, 1110, 1110)), ((1, 1, 1), (1446, 1446, 1446)), ((1, 1, 1), (966, 966, 966))],
    0.5: [((1, 0, 1), (1110, 355, 1824)), ((1, 1, 1), (1446, 1446, 1446)), ((1, 1, 1), (966, 966, 966))],
}


def names_of(root: Path, subset: str, **options) -> list[str]:
    return [song.name for song in open_songs(root, subset, None, RATE, 2, **options)]


def open_with(targets) -> list:
    return open_songs("nowhere", "train", targets, RATE, 2)


def folder(root: Path, targets=("vocals",), sample_length=0.25, **options) -> AudioFolder:
    options = {"sample_rate": RATE, "num_channels": 2, **options}
    return AudioFolder(root, targets, sample_length, **options)


# --- what is found ---


def test_the_three_folders_are_the_subsets(tmp_path):
    write_root(tmp_path, ["train/a", "train/b", "valid/c", "test/d"])
    assert [names_of(tmp_path, subset) for subset in ("train", "valid", "test")] == [["a", "b"], ["c"], ["d"]]


def test_a_flat_root_counts_as_train(tmp_path):
    write_root(tmp_path, ["a", "b", "c"])
    assert sorted(names_of(tmp_path, "train") + names_of(tmp_path, "valid")) == ["a", "b", "c"]


def test_valid_is_made_of_whole_songs_of_train_and_stays_the_same(tmp_path):
    songs = [f"s{i:02d}" for i in range(20)]
    write_root(tmp_path, [f"train/{song}" for song in songs], names=["vocals"])
    valid, train = names_of(tmp_path, "valid"), names_of(tmp_path, "train")
    assert len(valid) == 2
    assert sorted(train + valid) == songs
    assert names_of(tmp_path, "valid") == valid
    assert names_of(tmp_path, "valid", split_seed=1) != valid
    assert len(names_of(tmp_path, "valid", valid_share=0.5)) == 10


def test_valid_is_musdb18s_where_train_holds_its_14_validation_songs(tmp_path):
    write_root(tmp_path, [f"train/{name}" for name in [*VALIDATION_SONGS, "mine", "yours"]], names=["vocals"])
    assert names_of(tmp_path, "valid") == sorted(VALIDATION_SONGS)
    assert names_of(tmp_path, "train") == ["mine", "yours"]


def test_a_single_song_is_trained_on_and_cannot_be_divided(tmp_path):
    write_root(tmp_path, ["train/a"])
    assert names_of(tmp_path, "train") == ["a"]
    with pytest.raises(DatasetError, match="train has no song that is for valid; add songs, or a folder valid/"):
        names_of(tmp_path, "valid")


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    write_root(tmp_path, ["train/a", "valid/b", "train/.c"])
    for place in ("train/.DS_Store", "train/a/._vocals.wav", "train/a/notes.txt", "train/readme.md", "README"):
        (tmp_path / place).write_text("not audio")
    assert names_of(tmp_path, "train") == ["a"]


def test_demo_is_the_name_of_the_built_in_songs(tmp_path, monkeypatch):
    made = write_root(tmp_path / "built-in", ["train/a", "valid/b"])
    monkeypatch.setattr("sepkit.datasets.demo.demo_root", lambda: made)
    assert names_of("demo", "train") == ["a"]


@pytest.mark.parametrize("suffix", [".flac", ".aiff", ".ogg", ".mp3"])
def test_any_readable_format_is_taken(tmp_path, suffix):
    subtype = {".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}.get(suffix, "PCM_16")
    write_root(tmp_path, ["train/a", "valid/b"], suffix=suffix, subtype=subtype)
    mixture, targets = folder(tmp_path)[0]
    assert mixture.abs().max() > 0.05
    assert targets.shape == (1, 2, RATE // 4)


# --- what is refused ---


@pytest.mark.parametrize(
    ("songs", "subset", "message"),
    [
        (["train/a", "valid/b"], "test", r"there is no folder test/ \(found: train, valid\)"),
        (["a", "b"], "test", r"there is no folder test/ \(found: songs, which count as train\)"),
        (["test/a"], "train", r"there is no folder train/ \(found: test\)"),
        (["train/a", "val/b"], "valid", "the folder val/ is not read; name it valid/"),
        (["train/a", "validation/b"], "train", "the folder validation/ is not read; name it valid/"),
    ],
)
def test_a_subset_that_is_not_there_is_named(tmp_path, songs, subset, message):
    write_root(tmp_path, songs)
    with pytest.raises(DatasetError, match=message):
        names_of(tmp_path, subset)


def test_a_root_that_is_not_there_or_empty_is_named(tmp_path):
    with pytest.raises(DatasetError, match="nowhere cannot be used as data: there is no such folder; give one"):
        names_of(tmp_path / "nowhere", "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(DatasetError, match=r"train holds no songs; a song is a folder of stems, or a \.stem\.mp4"):
        names_of(tmp_path, "train")


def _no_vocals(song: Path) -> None:
    (song / "vocals.wav").unlink()


def _no_stems(song: Path) -> None:
    for path in song.iterdir():
        path.unlink()


def _two_files(song: Path) -> None:
    soundfile.write(song / "vocals.flac", noise(0), RATE)


def _other_rate(song: Path) -> None:
    soundfile.write(song / "vocals.wav", noise(0, n_samples=11025), 11025)


def _three_channels(song: Path) -> None:
    soundfile.write(song / "vocals.wav", noise(0, n_channels=3), RATE)


def _shorter(song: Path) -> None:
    soundfile.write(song / "vocals.wav", noise(0, n_samples=RATE - 1), RATE)


def _truncated(song: Path) -> None:
    whole = (song / "vocals.wav").read_bytes()
    (song / "vocals.wav").write_bytes(whole[: len(whole) // 2])


def _not_audio(song: Path) -> None:
    (song / "vocals.wav").write_text("this is text, not audio")


def _two_drums(song: Path) -> None:
    soundfile.write(song / "drums.flac", noise(0), RATE)


def _broken_bass(song: Path) -> None:
    (song / "bass.wav").write_text("this is text, not audio")


def _short_bass(song: Path) -> None:
    soundfile.write(song / "bass.wav", noise(0, n_samples=9), RATE)


FAULTS = {
    _no_vocals: r"a0: the stem 'vocals' is missing",
    _no_stems: r"a1: holds no audio and counts as a song; remove it",
    _two_files: r"a2/vocals\.wav: there is another file for the stem 'vocals'; keep one",
    _other_rate: r"a3/vocals\.wav: 11025 Hz, wanted are 8000; convert the files, or let them be resampled",
    _three_channels: r"a4/vocals\.wav: has 3 channels, wanted are 1 or 2; mix it down",
    _shorter: r"a5: the lengths differ in samples \(drums 8000, vocals 7999\); fill the shorter ones with silence",
    _truncated: r"a6/vocals\.wav: truncated, 39\d\d of 8000 samples decode; get the whole file",
    _not_audio: r"Cannot read audio from .*a7/vocals\.wav",
}


def _faulty_root(root: Path) -> Path:
    write_root(root, [f"train/a{i}" for i in range(len(FAULTS))] + ["valid/b"])
    for i, spoil in enumerate(FAULTS):
        spoil(root / "train" / f"a{i}")
    return root


@pytest.mark.parametrize("message", FAULTS.values())
def test_all_findings_come_in_one_message(tmp_path, message):
    with pytest.raises(DatasetError, match=message) as caught:
        folder(_faulty_root(tmp_path))
    assert len(caught.value.findings) == len(FAULTS)


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        ([_two_drums, _no_vocals], ["drums.wav: there is another file", "a: the stem 'vocals' is missing"]),
        ([_broken_bass, _no_vocals], ["Cannot read audio from .*bass.wav", "a: the stem 'vocals' is missing"]),
        ([_broken_bass, _two_drums], ["Cannot read audio from .*bass.wav", "drums.wav: there is another file"]),
        ([_broken_bass, _shorter], ["Cannot read audio from .*bass.wav", r"lengths differ .*drums 8000, vocals 7999"]),
        ([_three_channels, _short_bass], ["vocals.wav: has 3 channels", r"lengths differ .*bass 9, drums 8000"]),
        ([_other_rate, _short_bass], ["vocals.wav: 11025 Hz", r"lengths differ .*bass 9, drums 8000"]),
        ([_truncated, _short_bass], ["vocals.wav: truncated", r"lengths differ in samples \(bass 9, drums 8000\)"]),
    ],
)
def test_findings_of_one_song_do_not_hide_each_other(tmp_path, spoil, messages):
    write_root(tmp_path, ["train/a", "train/b", "valid/c"], names=["bass", "drums", "vocals"])
    for change in spoil:
        change(tmp_path / "train" / "a")
    with pytest.raises(DatasetError) as caught:
        folder(tmp_path)
    assert len(caught.value.findings) == len(messages)
    assert all(any(re.search(message, finding) for finding in caught.value.findings) for message in messages)


def test_a_file_that_cannot_be_read_is_not_missing_too(tmp_path):
    _not_audio(write_root(tmp_path, ["train/a", "train/b", "valid/c"]) / "train" / "a")
    with pytest.raises(DatasetError, match=r"Cannot read audio from .*a/vocals\.wav") as caught:
        folder(tmp_path)
    assert len(caught.value.findings) == 1


def test_a_stem_that_no_song_has_is_one_finding_with_the_nearest_name(tmp_path):
    write_root(tmp_path, ["train/a", "train/b", "valid/c"])
    message = r"no song of train has the stem 'vocls' \(there are: drums, vocals\); did you mean 'vocals'[?]$"
    with pytest.raises(DatasetError, match=message) as caught:
        folder(tmp_path, ["vocls", "drums"])
    assert len(caught.value.findings) == 1


def test_a_stem_that_no_song_has_nor_one_like_it_is_to_be_added_or_left_out(tmp_path):
    write_song(tmp_path / "train" / "a", {"mixture": noise(0)})
    message = r"no song of train has the stem 'choir' \(there are: none\); add choir\.wav to the songs, or choose"
    with pytest.raises(DatasetError, match=message):
        folder(tmp_path, ["choir"])


def test_songs_of_another_rate_are_one_finding_for_each_rate(tmp_path):
    write_root(tmp_path, ["train/a", "train/b", "train/c", "valid/d"])
    write_song(tmp_path / "train" / "c", {name: noise(0, n_samples=2 * RATE) for name in TARGETS}, rate=2 * RATE)
    remedy = "Hz, wanted are 44100; convert the files, or let them be resampled by data.resample: true of a recipe, "
    remedy += "--resample or resample=True"
    with pytest.raises(DatasetError) as caught:
        folder(tmp_path, sample_rate=44100)
    assert caught.value.findings == [
        f"{tmp_path}/train/a/drums.wav and 3 more: 8000 {remedy}",
        f"{tmp_path}/train/c/drums.wav and 1 more: 16000 {remedy}",
    ]


def test_no_song_is_set_aside_for_validation_where_none_is_wanted(tmp_path):
    write_root(tmp_path, ["a", "b", "c"])
    assert names_of(tmp_path, "train", valid_share=0.0) == ["a", "b", "c"]
    with pytest.raises(DatasetError, match="train has no song that is for valid"):
        names_of(tmp_path, "valid", valid_share=0.0)


@pytest.mark.parametrize("targets", ["vocals", [1, 2]])
@pytest.mark.parametrize("make", [AudioFolder, MUSDB18, create_audio_folder, open_with, SongDataset])
def test_targets_that_are_no_list_of_names_are_refused(tmp_path, make, targets):
    given = {SongDataset: {"songs": [], "n_samples": 9}, open_with: {}, MUSDB18: {"root": tmp_path}}
    with pytest.raises(ValueError, match=f"targets must be a list of names, got {re.escape(repr(targets))}$"):
        make(targets=targets, **given.get(make, {"dataset_path": tmp_path}))


def test_a_song_without_any_stem_is_refused_where_no_stem_is_wanted_in_particular(tmp_path):
    write_song(tmp_path / "train" / "a", {"mixture": noise(0)})
    with pytest.raises(DatasetError, match="a: there are no stems"):
        names_of(tmp_path, "train")


def test_a_long_list_of_findings_is_cut_and_counted(tmp_path):
    for i in range(60):
        (tmp_path / "train" / f"s{i:02d}").mkdir(parents=True)
    (tmp_path / "valid").mkdir()
    with pytest.raises(DatasetError, match="and 10 more") as caught:
        names_of(tmp_path, "train")
    assert len(caught.value.findings) == 60


def test_the_error_survives_the_way_to_another_process():
    error = DatasetError("root", ["one", "two"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "root cannot be used as data:\n  one\n  two"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "training"}, "subset must be one of train, valid, test, got 'training'"),
        ({"valid_share": 1.0}, r"valid_share must lie in \[0, 1\), got 1.0"),
        ({"num_channels": 0}, "sample_rate and n_channels must be above 0, got 8000 and 0"),
        ({"sample_length": 1e-9}, "an example and an epoch must not be empty, got 0 samples and None examples"),
        *(
            ({"sample_length": length}, f"of an example must be a finite number of seconds above 0, got {length}")
            for length in (0, -1.0, float("inf"), float("nan"))
        ),
        ({"items_per_epoch": 0}, "must not be empty, got 2000 samples and 0 examples"),
        ({"targets": []}, r"targets must name at least one stem, each once, got \[\]"),
        ({"targets": ["drums", "drums"]}, "each once, got"),
        ({"remix": 1.5}, r"remix must lie in \[0, 1\], got 1.5"),
        ({"seed": -1}, "seed must be 0 or above, got -1"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, options, message):
    write_root(tmp_path, ["train/a", "valid/b"])
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **options)


def test_targets_that_not_all_songs_have_must_be_named(tmp_path):
    write_root(tmp_path, ["train/a", "valid/b"])
    write_root(tmp_path, ["train/c"], names=["vocals"])
    with pytest.raises(DatasetError, match="not all songs have drums; name the targets"):
        folder(tmp_path, targets=None)


@pytest.mark.parametrize(("targets", "missing"), [(["piano"], "have none of piano: a"), (["vocals"], "the songs")])
def test_every_song_has_one_of_the_targets(tmp_path, targets, missing):
    songs = open_songs(write_root(tmp_path, ["train/a", "valid/b"]), "train", None, RATE, 2)
    with pytest.raises(ValueError, match=f"every song must have at least one of the targets, .*{missing}"):
        SongDataset(songs if "songs" not in missing else [], targets, 100)


# --- what an example holds ---


def test_the_mixture_is_the_sum_of_all_stems_wanted_or_not(tmp_path):
    stems = {name: noise(k) / 4 for k, name in enumerate(["vocals", "drums", "bass"])}
    write_song(tmp_path / "train" / "a", stems, subtype="FLOAT")
    mixture, targets = folder(tmp_path, ["drums"], sample_length=1.0)[0]
    torch.testing.assert_close(mixture.T, torch.tensor(sum(stems.values())).float(), rtol=0, atol=1e-7)
    torch.testing.assert_close(targets[0].T, torch.tensor(stems["drums"]).float(), rtol=0, atol=0)


def test_what_a_recorded_mixture_holds_beside_the_stems_belongs_to_the_mixture(tmp_path):
    vocals, recorded = noise(0), noise(1)
    write_song(tmp_path / "train" / "a", {"vocals": vocals, "mixture": recorded})
    dataset = folder(tmp_path, sample_length=1.0)
    mixture, targets = dataset[0]
    assert dataset.stems == ["vocals", RESIDUAL]
    torch.testing.assert_close(mixture.T, torch.tensor(recorded).float(), rtol=0, atol=1e-6)  # x - v + v, rounded
    torch.testing.assert_close(targets[0].T, torch.tensor(vocals).float(), rtol=0, atol=0)
    stems = dataset.read((0, 0)).stems
    torch.testing.assert_close(stems[1].T, torch.tensor(recorded - vocals).float(), rtol=0, atol=1e-6)


def test_a_song_reads_its_stems_its_rest_and_its_mixture(tmp_path):
    stems = {"vocals": noise(0), "drums": noise(1), "mixture": noise(2)}
    write_song(tmp_path / "train" / "a", stems)
    (song,) = open_songs(tmp_path, "train", None, RATE, 2)
    wanted = torch.tensor(stems["mixture"] - stems["vocals"] - stems["drums"]).float()[100:200]
    torch.testing.assert_close(song.read_stem(RESIDUAL, 100, 100).T, wanted, rtol=0, atol=1e-6)
    torch.testing.assert_close(song.read_mixture(100, 100).T, torch.tensor(stems["mixture"]).float()[100:200])
    assert song.read_stem("vocals", RATE - 10, 50)[:, 10:].abs().max() == 0


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("recorded", [True, False])
def test_an_example_of_one_song_reads_each_file_once(tmp_path, monkeypatch, suffix, recorded):
    names = ["vocals", "drums", *(["mixture"] if recorded else [])]
    write_root(tmp_path, ["train/a"], names=names, suffix=suffix)
    dataset, read = folder(tmp_path), []
    for reader in (Pcm16Reader, DecodingReader):
        original = reader.read_into
        recording = lambda self, *rest, original=original: (read.append(self.info.path), original(self, *rest))[1]  # noqa: E731
        monkeypatch.setattr(reader, "read_into", recording)
    dataset[0]
    assert sorted(Path(path).stem for path in read) == sorted(names)


def test_a_stem_that_is_silent_throughout_is_normal(tmp_path):
    write_song(tmp_path / "train" / "a", {"vocals": np.zeros((RATE, 2)), "drums": noise(0)})
    mixture, targets = folder(tmp_path)[0]
    assert targets.abs().max() == 0
    assert mixture.abs().max() > 0


@pytest.mark.parametrize("remix", [0.0, 1.0])
def test_a_stem_that_a_song_lacks_is_silent_where_that_song_was_drawn_for_it(tmp_path, remix):
    write_song(tmp_path / "train" / "a", {"vocals": noise(0)})
    write_song(tmp_path / "train" / "b", {"vocals": noise(1), "choir": noise(2)})
    (tmp_path / "valid").mkdir()
    dataset = folder(tmp_path, sample_length=1.0, remix=remix, items_per_epoch=40)  # all positions are 0
    planned = [dataset.plan((0, i)).songs[1] for i in range(40)]
    sounding = [bool(dataset.read((0, i))[0][1].any()) for i in range(40)]
    assert set(planned) == {None, 1}
    assert sounding == [song is not None for song in planned]


def _write_partial_root(root: Path) -> list:
    """Write songs of which one has no drums, and one drums alone besides what nobody names; return them."""
    write_song(root / "train" / "a", {"vocals": noise(0), "bass": noise(1)})
    write_song(root / "train" / "b", {"vocals": noise(2), "drums": noise(3), "bass": noise(4)})
    write_song(root / "train" / "c", {"drums": noise(5), "mixture": noise(6)})
    (root / "valid").mkdir()
    return open_songs(root, "train", TARGETS, RATE, 2, allow_missing=True)


def test_an_example_says_which_targets_its_song_has(tmp_path):
    dataset = SongDataset(_write_partial_root(tmp_path), TARGETS, RATE, 40)
    for i in range(40):
        plan, example = dataset.plan((0, i)), dataset.read((0, i))
        (song,) = {song for song in plan.songs if song is not None}
        assert example.present.tolist() == [name in dataset.songs[song].stems for name in TARGETS]
        assert example.stems[:2].any(-1).any(-1).tolist() == example.present.tolist() == list(plan.present[:2])


def test_what_a_lacking_target_may_sound_in_stays_in_the_mixture_of_its_song(tmp_path):
    dataset = SongDataset(_write_partial_root(tmp_path), TARGETS, RATE, 40)
    recorded = torch.tensor(noise(6)).float().T
    mixtures = [dataset[i][0] for i in range(40) if not dataset.plan((0, i)).present[0]]
    torch.testing.assert_close(torch.stack(mixtures), recorded.expand(len(mixtures), -1, -1), rtol=0, atol=1e-6)


def test_remixed_targets_come_from_songs_that_have_them_and_other_stems_from_songs_that_have_all(tmp_path):
    dataset = SongDataset(_write_partial_root(tmp_path), TARGETS, RATE, 60, remix=1.0)
    assert dataset.stems == ["vocals", "drums", "bass", RESIDUAL]
    drawn = [set(songs) for songs in zip(*(dataset.plan((0, i)).songs for i in range(60)), strict=True)]
    assert drawn == [{0, 1}, {1, 2}, {None, 1}, {None}]


def test_examples_of_songs_that_lack_stems_are_collated(tmp_path):
    dataset = SongDataset(_write_partial_root(tmp_path), TARGETS, RATE, 8, augment=[Gain(-6, 6)])
    batch = default_collate([dataset.read((0, i)) for i in range(8)])
    assert (batch.stems.shape, batch.present.shape, batch.present.dtype) == ((8, 4, 2, RATE), (8, 2), torch.bool)
    assert [drawn.shape for drawn in batch.parameters] == [(8, 4)]


@pytest.mark.parametrize("remix", [0.0, 0.5])
def test_songs_that_have_all_stems_give_the_examples_that_they_always_gave(remix):
    table = SongTable([1000, 3000, 500], [1, 3, 1], np.ones((3, 3)), n_targets=2)
    planner = Planner(Sampling(table, 400), remix, seed=5)
    plans = [planner.plan((2, i)) for i in range(3)]
    assert [(plan.songs, plan.positions) for plan in plans] == FORMER_PLANS[remix]


def test_a_song_shorter_than_an_example_is_filled_with_silence(tmp_path):
    write_song(tmp_path / "train" / "a", {"vocals": noise(0, n_samples=1000)})
    mixture, targets = folder(tmp_path, sample_length=0.5)[0]
    assert mixture.shape == (2, 4000)
    assert targets[..., :1000].abs().min(dim=-1).values.max() < targets[..., :1000].abs().max()
    assert mixture[:, 1000:].abs().max() == 0


@pytest.mark.parametrize(("present", "wanted"), [(1, 2), (2, 1), (3, 1), (2, 2)])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_mono_is_copied_and_channels_are_averaged_to_mono(tmp_path, present, wanted, suffix):
    waveform = noise(0, n_channels=present)
    write_song(tmp_path / "train" / "a", {"vocals": waveform}, suffix=suffix)
    mixture, _ = folder(tmp_path, sample_length=1.0, num_channels=wanted)[0]
    expected = waveform if present == wanted else waveform.mean(1, keepdims=True)
    torch.testing.assert_close(mixture.T, torch.tensor(expected).float().expand(-1, wanted), rtol=0, atol=1e-7)


def test_16_bit_wav_comes_bit_for_bit_as_the_decoder_reads_it(tmp_path):
    samples = np.arange(-32768, 32768, dtype=np.int16).reshape(-1, 2)
    write_song(tmp_path / "train" / "a", {"vocals": samples})
    (song,) = open_songs(tmp_path, "train", None, RATE, 2)
    stem = song.stems["vocals"]
    assert stem.files[0].pcm_offset == 44
    assert torch.equal(stem.read(0, song.n_samples), audio.read(stem.info.path)[0])
    assert torch.equal(stem.read(1234, 777), audio.read(stem.info.path, 1234, 777)[0])


@pytest.mark.parametrize(
    ("container", "subtype", "endian", "direct"),
    [
        ("WAV", "PCM_16", "LITTLE", True),
        ("WAVEX", "PCM_16", "LITTLE", True),
        ("RF64", "PCM_16", "LITTLE", True),
        ("WAV", "PCM_16", "BIG", False),
        ("WAV", "PCM_24", "LITTLE", False),
        ("WAV", "FLOAT", "LITTLE", False),
        ("AIFF", "PCM_16", "BIG", False),
        ("W64", "PCM_16", "LITTLE", False),
    ],
)
def test_only_little_endian_16_bit_wav_goes_past_the_decoder(tmp_path, container, subtype, endian, direct):
    path = tmp_path / "train" / "a" / "vocals.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, noise(0), RATE, format=container, subtype=subtype, endian=endian)
    (song,) = open_songs(tmp_path, "train", None, RATE, 2)
    assert song.stems["vocals"].is_direct == direct
    assert torch.equal(song.read_mixture(10, 1000), audio.read(path, 10, 1000)[0])


def test_a_file_that_became_shorter_is_an_error_that_names_it(tmp_path):
    write_song(tmp_path / "train" / "a", {"vocals": noise(0)})
    dataset = folder(tmp_path, sample_length=1.0)
    write_song(tmp_path / "train" / "a", {"vocals": noise(0, n_samples=100)})
    with pytest.raises(audio.AudioError, match=r"vocals\.wav .*probe it again"):
        dataset[0]


# --- other sample rates ---


@pytest.mark.parametrize("file_rate", [48000, 22050, 8000, 44099])
def test_a_burst_lands_where_it_should_after_resampling(tmp_path, file_rate):
    seconds, burst = 3.0, 1.7  # s
    time = np.arange(round(seconds * file_rate)) / file_rate
    waveform = np.sin(2 * np.pi * 1000 * time) * np.exp(-(((time - burst) / 0.002) ** 2)) / 2
    write_song(tmp_path / "train" / "a", {"vocals": waveform[:, None]}, rate=file_rate)
    (song,) = open_songs(tmp_path, "train", None, 44100, 1, resample=True)
    start = int(1.2 * 44100) // song.position_step * song.position_step
    found = song.read_stem("vocals", start, 44100)[0]
    at = (start + np.arange(44100)) / 44100
    wanted = np.sin(2 * np.pi * 1000 * at) * np.exp(-(((at - burst) / 0.002) ** 2)) / 2
    # 16-bit rounding, 1.5e-5, and the pass-band ripple; one sample beside would be 0.07
    np.testing.assert_allclose(found.numpy(), wanted, rtol=0, atol=2e-4)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.999])
@pytest.mark.parametrize("file_rate", [48000, 22050])
def test_segments_of_a_resampled_song_are_pieces_of_the_whole(tmp_path, file_rate, part):
    write_song(tmp_path / "train" / "a", {"vocals": noise(0, 2 * file_rate)}, rate=file_rate)
    (song,) = open_songs(tmp_path, "train", None, 44100, 2, resample=True)
    whole = audio.resample(*audio.read(song.stems["vocals"].info.path), 44100)
    start = int(part * song.n_samples) // song.position_step * song.position_step
    expected = torch.nn.functional.pad(whole[:, start : start + 5000], (0, 5000))[:, :5000]
    # the tails of the filter are below this where the segment's margin ends
    torch.testing.assert_close(song.read_stem("vocals", start, 5000), expected, rtol=0, atol=1e-5)


def test_positions_are_whole_samples_in_every_file(tmp_path):
    write_song(tmp_path / "train" / "a", {"vocals": noise(0, 96000)}, rate=48000)
    write_song(tmp_path / "train" / "a", {"drums": noise(1, 44100)}, rate=22050)
    dataset = folder(tmp_path, sample_rate=44100, resample=True, items_per_epoch=40)
    assert dataset.songs[0].position_step == 294
    assert all(position % 294 == 0 for i in range(40) for position in dataset.plan((0, i)).positions)
    assert dataset[0][0].shape == (2, 11025)


def test_lengths_that_differ_by_rounding_between_rates_are_equal(tmp_path):
    write_song(tmp_path / "train" / "a", {"vocals": noise(0, 48001)}, rate=48000)
    write_song(tmp_path / "train" / "a", {"drums": noise(1, 8000)}, rate=8000)
    (song,) = open_songs(tmp_path, "train", None, 44100, 2, resample=True)
    assert song.n_samples == 44100


# --- what decides an example ---


def _augmented(root: Path, **options) -> AudioFolder:
    augment = [Gain(-6, 6), Sign(), SwapChannels()]
    return folder(root, TARGETS, augment=augment, remix=0.5, items_per_epoch=23, **options)


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path, ["train/a", "train/b", "train/c", "valid/d"], names=["vocals", "drums", "bass"])


def test_the_plan_decides_everything(root):
    dataset = _augmented(root)
    plan = dataset.plan((3, 7))
    stems = [
        dataset.songs[song].read_stem(name, position, dataset.n_samples)
        for name, song, position in zip(dataset.stems, plan.songs, plan.positions, strict=True)
    ]
    gains, signs, swaps = plan.parameters
    stems = [
        (stem.flip(0) if swap else stem) * gain * sign
        for stem, gain, sign, swap in zip(stems, gains, signs, swaps, strict=True)
    ]
    mixture, targets = dataset[3, 7]
    torch.testing.assert_close(mixture, sum(stems).float(), rtol=1e-5, atol=1e-6)  # factors are float32 in the dataset
    torch.testing.assert_close(targets, torch.stack(stems[:2]).float(), rtol=1e-5, atol=1e-6)


def test_examples_differ_by_index_epoch_and_seed_and_are_repeated_otherwise(root):
    dataset = _augmented(root)
    first = dataset[2, 5][0]
    assert torch.equal(first, _augmented(root)[2, 5][0])
    others = [dataset[2, 6], dataset[3, 5], _augmented(root, seed=1)[2, 5]]
    assert not any(torch.equal(first, other[0]) for other in others)


@pytest.mark.parametrize("number", [5, -18, np.int64(5), (0, np.int32(5))])
def test_an_index_alone_is_of_epoch_0(root, number):
    dataset = _augmented(root)
    assert torch.equal(dataset[number][0], dataset[0, 5][0])


@pytest.mark.parametrize("number", [23, -24, (1, 23)])
def test_an_index_beyond_the_examples_is_refused(root, number):
    with pytest.raises(IndexError, match=r"the dataset has 23 examples, got index -?\d+"):
        _augmented(root)[number]


def test_the_share_of_remixed_examples_is_as_wanted():
    sampling = Sampling(SongTable([1000] * 50, [1] * 50, np.ones((50, 4))), 100)
    planner = Planner(sampling, remix=0.3)
    mixed = np.mean([len(set(planner.plan((0, i)).songs)) > 1 for i in range(2000)])
    assert mixed == pytest.approx(0.3, abs=0.04)  # 4 standard deviations of a share of 2000
    whole = Planner(sampling)
    assert all(len(set(whole.plan((0, i)).songs)) == 1 for i in range(100))


def test_songs_are_drawn_in_proportion_to_their_length_and_everywhere():
    planner = Planner(Sampling(SongTable([1000, 3000], [1, 147], np.ones((2, 1))), 500))
    plans = [planner.plan((0, i)) for i in range(2000)]
    assert np.mean([plan.songs[0] for plan in plans]) == pytest.approx(0.75, abs=0.04)  # 4 standard deviations
    first = [plan.positions[0] for plan in plans if plan.songs[0] == 0]
    assert (min(first), max(first)) == pytest.approx((0, 500), abs=10)


def test_global_random_state_is_neither_used_nor_changed(root):
    dataset = _augmented(root)
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    dataset[0]
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # torch forks its workers beside its threads
def test_items_are_the_same_with_and_without_workers(root):
    dataset = _augmented(root)
    loaded = []
    for n_workers in (0, 2):
        sampler = EpochSampler(len(dataset), 4, epoch=1)
        loaded.append(list(DataLoader(dataset, batch_sampler=sampler, num_workers=n_workers)))
    assert [len(mixture) for mixture, _ in loaded[0]] == [4, 4, 4, 4, 4, 3]
    for (mixture, targets), (other_mixture, other_targets) in zip(*loaded, strict=True):
        assert torch.equal(mixture, other_mixture)
        assert torch.equal(targets, other_targets)


def _checksums(root: Path, numbers: list[tuple[int, int]]) -> list[float]:
    dataset = _augmented(root)
    return [dataset[number][0].double().pow(2).sum().item() for number in numbers]


def test_processes_that_share_an_epoch_draw_the_same_items_as_one(root):
    numbers = [(1, i) for i in range(8)]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        shares = [pool.submit(_checksums, root, numbers[rank::2]) for rank in range(2)]
        apart = [share.result() for share in shares]
    assert _checksums(root, numbers) == [apart[i % 2][i // 2] for i in range(8)]


def test_batches_go_on_where_an_epoch_was_interrupted():
    sampler = EpochSampler(10, 4)
    sampler.epoch = 2
    whole = list(sampler)
    assert whole == [[(2, 0), (2, 1), (2, 2), (2, 3)], [(2, 4), (2, 5), (2, 6), (2, 7)], [(2, 8), (2, 9)]]
    assert len(sampler) == 3
    sampler.first_batch = 2
    assert list(sampler) == whole[2:]
    assert len(sampler) == 1
    sampler.epoch, sampler.first_batch = 3, 0
    assert [number for batch in sampler for number in batch] == [(3, i) for i in range(10)]


def test_an_epoch_must_not_be_empty():
    with pytest.raises(ValueError, match="n_items and batch_size must be above 0, got 0 and 4"):
        EpochSampler(0, 4)


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_each_batch_and_together_have_those_of_one(world):
    shares = [list(EpochSampler(21, 8, epoch=3, first_batch=1, rank=rank, world=world)) for rank in range(world)]
    whole = list(EpochSampler(21, 8, epoch=3, first_batch=1))
    assert [sorted(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    assert all(part for share in shares for part in share)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": 2, "world": 2}, "rank must be one of 2 processes, counted from 0, got 2"),
        (
            {"rank": 0, "world": 3},
            "a batch has 2 of 10 examples, fewer than the 3 processes that share it: choose",
        ),
    ],
)
def test_a_process_without_a_share_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        EpochSampler(10, 4, **given)


def test_an_epoch_is_once_through_the_audio_unless_set(root):
    assert len(folder(root, sample_length=0.25)) == 12
    assert len(folder(root, sample_length=0.25, items_per_epoch=5)) == 5
    assert len(folder(root, sample_length=60.0)) == 1


def test_create_audio_folder_speaks_of_splits_and_chunks(root):
    dataset = create_audio_folder(root, ["drums"], split="valid", chunk_size=0.5, sample_rate=RATE)
    mixture, targets = dataset[0]
    assert (mixture.shape, targets.shape) == ((1, 4000), (1, 1, 4000))
    stereo = create_audio_folder(root, chunk_size=0.5, sample_rate=RATE, mono=False)
    assert (stereo.targets, stereo.n_channels) == (["bass", "drums", "vocals"], 2)


# --- odd files ---

ODD = sorted(Path(os.environ.get("SEPKIT_REFERENCE", "/nowhere"), "audio", "odd").glob("*.*"))
ODD = [path for path in ODD if path.suffix != ".md"]
ABSENT = [pytest.param(None, marks=pytest.mark.skip("SEPKIT_REFERENCE names no odd files"))]


@pytest.mark.parametrize("odd", ODD or ABSENT, ids=lambda path: getattr(path, "name", "none"))
def test_each_odd_file_gives_the_whole_of_it_or_one_sentence_that_names_it(tmp_path, odd):
    place = tmp_path / "train" / "song"
    place.mkdir(parents=True)
    path = shutil.copyfile(odd, place / f"vocals{odd.suffix}")
    message = ""
    try:
        dataset = folder(tmp_path, sample_length=20.0, sample_rate=44100, resample=True)
        mixture, targets = dataset[0]
    except (DatasetError, audio.AudioError) as error:
        message = str(error)
    if message:
        assert path.name in message
        assert "\n" not in message
        return
    whole = audio.adapt_channels(audio.resample(*audio.read(path), 44100), 2)[:, : dataset.songs[0].n_samples]
    assert whole.isfinite().all()
    torch.testing.assert_close(mixture[:, : whole.shape[1]], whole, rtol=0, atol=0)
    assert torch.equal(mixture, targets[0])
