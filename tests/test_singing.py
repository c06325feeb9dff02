"""Songs of `sepkit-data songs`: stems that sum, voices of many kinds, notes that are sung, a root with its facts."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from sepkit.cli import data_command
from sepkit.datasets import read_manifest
from sepkit.datasets.demo import make_song as make_built_in
from sepkit.datasets.demo.melody import Syllable
from sepkit.datasets.demo.song import draw_song
from sepkit.datasets.singing import make_song, songs, write_songs
from sepkit.datasets.singing.singers import draw_singer
from sepkit.datasets.singing.songs import name_key
from sepkit.datasets.singing.vocals import render_vocals
from sepkit.datasets.singing.voice import draw_pitch, sing

RATE = 44100


def score(duration=3.0, seed=0):
    return draw_song(np.random.default_rng(seed), duration, RATE)


def syllable(midi=60.0, start=0.3, duration=2.0, onset=""):
    return Syllable(start, duration, midi, 0.0, 0, 0, onset, "", 0.7, False)


@pytest.fixture(scope="module")
def made():
    return [make_song(seed, 4.0) for seed in range(8)]


def test_stems_are_finite_and_sum_within_full_scale(made):
    for _, stems in made:
        assert list(stems) == ["vocals", "drums", "bass", "other"]
        assert {(stem.shape, stem.dtype) for stem in stems.values()} == {((2, 4 * RATE), np.dtype("float32"))}
        assert np.abs(sum(stems.values())).max() <= 0.9801
        assert all(np.isfinite(stem).all() for stem in stems.values())


def test_most_songs_have_a_voice(made):
    assert sum(np.abs(stems["vocals"]).max() > 0.02 for _, stems in made) >= 6


def test_a_seed_gives_the_same_bits_whatever_was_made_before():
    first, second = make_song(5, 2.0)[1], make_song(5, 2.0)[1]
    assert all(np.array_equal(first[stem], second[stem]) for stem in first)
    assert not np.array_equal(make_song(6, 2.0)[1]["drums"], first["drums"])


def test_they_are_no_songs_of_the_built_in_ones():
    assert not np.array_equal(make_song(0, 2.0)[1]["drums"], make_built_in(0, 2.0)["drums"])


@pytest.mark.parametrize("midi", [43.0, 55.0, 67.0, 76.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_voice_sings_the_note(midi, seed):
    rng = np.random.default_rng(seed)
    singer = replace(draw_singer(rng, "sung"), vibrato=(5.5, 0.0, 0.3, 0.0), scoop=0.0)
    voice = sing(rng, singer, [syllable(midi)], score())
    part = voice[int(0.9 * RATE) : int(1.9 * RATE)]
    correlation = np.fft.irfft(np.abs(np.fft.rfft(part * np.hanning(len(part)), 2 * RATE)) ** 2)
    wanted = RATE / (440 * 2 ** ((midi - 69) / 12))
    lags = np.arange(int(0.85 * wanted), int(1.15 * wanted) + 2)
    found = lags[np.argmax(correlation[lags])]
    assert abs(12 * np.log2(found / wanted)) < 1.0  # jitter included


def test_a_voice_is_silent_where_nobody_sings():
    rng = np.random.default_rng(0)
    voice = sing(rng, draw_singer(rng, "sung"), [syllable(start=1.0, duration=1.0)], score())
    assert np.abs(voice[: int(0.7 * RATE)]).max() < 1e-3
    assert np.abs(voice[int(2.4 * RATE) :]).max() < 1e-3


@pytest.mark.parametrize("onset", ["s", "t", "m", "r", "z", "h", "ch"])
def test_a_consonant_changes_the_beginning_alone(onset):
    voices = []
    for each in ("", onset):
        rng = np.random.default_rng(3)
        singer = draw_singer(rng, "sung")
        voices.append(sing(rng, singer, [syllable(onset=each)], score()))
    assert not np.allclose(voices[0][: RATE // 2], voices[1][: RATE // 2])
    assert all(np.isfinite(voice).all() for voice in voices)


def test_vibrato_has_the_rate_and_depth_of_the_singer():
    rng = np.random.default_rng(0)
    singer = next(s for s in (draw_singer(rng, "legato") for _ in range(50)) if s.vibrato[1] > 0.5)
    rate = RATE / 256
    midi, _ = draw_pitch(rng, singer, [syllable(duration=9.0)], rate, int(9.5 * rate))
    middle = midi[int(3 * rate) : int(8 * rate)] - midi[int(3 * rate) : int(8 * rate)].mean()
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 14))
    rates = np.fft.rfftfreq(1 << 14, 1 / rate)
    peak = rates[np.argmax(np.where(rates > 3, spectrum, 0))]
    assert peak == pytest.approx(singer.vibrato[0], abs=0.8)


def test_singers_are_of_many_kinds():
    singers = [draw_singer(np.random.default_rng(seed), "sung") for seed in range(300)]
    centres, tracts = [s.centre for s in singers], [s.tract for s in singers]
    assert min(centres) < 45
    assert max(centres) > 69
    assert min(tracts) < 0.9
    assert max(tracts) > 1.25
    assert 0.02 < np.mean([s.vibrato[1] == 0 for s in singers]) < 0.5
    assert len({s.inventory for s in singers}) >= 5


def test_a_song_without_singing_has_silent_vocals():
    song = next(s for s in (score(4.0, seed) for seed in range(500)) if not s.active("vocals"))
    assert not render_vocals(np.random.default_rng(0), song).any()


@pytest.mark.parametrize("seed", range(12))
def test_the_key_is_that_of_the_scale(seed):
    song = score(seed=seed)
    tonic, mode = name_key(song).split()
    names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    assert names.index(tonic) == song.root % 12
    assert (song.pitch(2) - song.pitch(0) == 3) == (mode == "minor")


def _contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_root_says_tempo_and_key_and_grows(tmp_path):
    call = ["songs", "--output", str(tmp_path / "a"), "--seconds", "1", "--workers", "1", "--valid", "1"]
    assert data_command([*call, "--train", "1"]) == 0
    before = _contents(tmp_path / "a")
    assert data_command([*call, "--train", "2"]) == 0
    after = _contents(tmp_path / "a")
    manifest = read_manifest(tmp_path / "a" / "manifest.csv")
    assert {key: after[key] for key in before if key.suffix == ".wav"} == {
        key: data for key, data in before.items() if key.suffix == ".wav"
    }
    assert [name for _, name in manifest.tracks()] == ["train_0000", "train_0001", "valid_0000"]
    song, stems = make_song(1, 1.0)
    row = next(row for row in manifest.rows if (row.track, row.stem) == ("train_0001", "vocals"))
    assert (row.tempo, row.key, row.licence) == (round(song.bpm, 2), name_key(song), "CC0-1.0")
    read, _ = soundfile.read(row.path, dtype="float32")
    assert np.abs(read.T - stems["vocals"]).max() <= 2**-15


def test_a_song_that_is_missing_is_made_again(tmp_path):
    write_songs(tmp_path / "a", 2, 0, 0, 1.0, progress=False)
    before = _contents(tmp_path / "a")
    shutil.rmtree(tmp_path / "a" / "train" / "train_0000")
    write_songs(tmp_path / "a", 2, 0, 0, 1.0, progress=False)
    assert _contents(tmp_path / "a") == before


@pytest.mark.parametrize("content", [b"path,stem,track,split\nx.wav,vocals,mine,train\n", b"", b"\xff\0"])
def test_the_manifest_of_other_songs_is_not_replaced(tmp_path, content):
    manifest = tmp_path / "manifest.csv"
    manifest.write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.csv is not of songs made here, and would be replaced: choose"):
        write_songs(tmp_path, 1, 0, 0, 1.0, progress=False)
    assert manifest.read_bytes() == content
    assert list(tmp_path.iterdir()) == [manifest]


def test_speech_may_be_wanted():
    spoken, sung = (render_vocals(np.random.default_rng(0), score(), style) for style in ("speech", "legato"))
    assert spoken.shape == sung.shape
    assert not np.array_equal(spoken, sung)


@pytest.mark.slow
def test_processes_make_the_same(tmp_path):
    for name, workers in (("a", 1), ("b", 2)):
        write_songs(tmp_path / name, 3, 0, 0, 1.0, workers, progress=False)
    assert _contents(tmp_path / "a") == _contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_train": -1}, "n_train must be a whole number, 0 to 1000000, got -1"),
        ({"n_valid": 0.5}, r"n_valid must be a whole number, 0 to 1000000, got 0\.5"),
        ({"n_test": 1_000_001}, "n_test must be a whole number, 0 to 1000000, got 1000001"),
        ({"workers": 0}, "workers must be a whole number from 1, got 0"),
        ({"n_train": 0, "n_valid": 0}, "songs are wanted, got 0 of train, valid and test"),
        ({"duration": 0.5}, r"duration must be between 1 and 600 s, got 0\.5"),
        ({"duration": float("nan")}, "duration must be between 1 and 600 s, got nan"),
    ],
)
def test_wrong_calls_are_refused_before_anything_is_made(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        write_songs(tmp_path / "a", **given, progress=False)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("given", [{"seed": -1}, {"seed": 1.5}, {"duration": 601.0}])
def test_a_song_out_of_range_is_refused(given):
    with pytest.raises(ValueError, match="must be"):
        songs.make_song(**{"seed": 0, **given})


def test_songs_of_another_duration_are_not_taken(tmp_path):
    write_songs(tmp_path / "a", 1, 0, 0, 1.0, progress=False)
    with pytest.raises(
        ValueError, match=r"train_0000 has 1 s, wanted are 2: choose another --output, or this duration"
    ):
        write_songs(tmp_path / "a", 1, 0, 0, 2.0, progress=False)
