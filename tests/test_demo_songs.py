"""The built-in songs: what they sound like in numbers, and how they get into the cache."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepkit.datasets.demo import STEMS, demo_root, make_song
from sepkit.datasets.demo import songs as demo

SMALL = {"n_train": 2, "n_valid": 1, "n_test": 1, "duration": 2.0, "progress": False}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SEPKIT_DEMO_SCALE", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def songs() -> list[dict[str, np.ndarray]]:
    return [make_song(seed, 10.0) for seed in range(12)]


def octave_levels(waveform: np.ndarray) -> np.ndarray:
    """Measure the octaves from 62 Hz to 8 kHz relative to the whole, in dB."""
    frames = np.lib.stride_tricks.sliding_window_view(waveform, 8192, axis=-1)[:, ::4096] * np.hanning(8192)
    power = (np.abs(np.fft.rfft(frames)) ** 2).mean((0, 1))
    octave = np.round(np.log2(np.maximum(np.fft.rfftfreq(8192, 1 / 44100), 20.0) / 1000)).astype(int)
    return 10 * np.log10(np.array([power[octave == k].sum() for k in range(-4, 4)]) / power.sum() + 1e-12)


@pytest.mark.parametrize("sample_rate", [16000, 44100, 48000])
def test_a_song_has_four_finite_stereo_stems_of_its_duration(sample_rate):
    song = make_song(3, 2.5, sample_rate)
    assert tuple(song) == STEMS
    for waveform in song.values():
        assert waveform.shape == (2, round(2.5 * sample_rate))
        assert waveform.dtype == np.float32
        assert np.isfinite(waveform).all()


def test_the_same_seed_gives_the_same_bits_whatever_came_before():
    first = make_song(5, 3.0)
    make_song(6, 2.0)
    second = make_song(5, 3.0)
    assert all(np.array_equal(first[stem], second[stem]) for stem in STEMS)


def test_another_seed_gives_another_song():
    first, second = make_song(1, 3.0), make_song(2, 3.0)
    assert not any(np.array_equal(first[stem], second[stem]) for stem in STEMS)


def test_no_sample_of_a_stem_or_of_the_mixture_leaves_full_scale(songs):
    peaks = [np.abs(waveform).max() for song in songs for waveform in (*song.values(), sum(song.values()))]
    assert max(peaks) <= 0.981  # 0.98 and what float32 rounds


@pytest.mark.parametrize("stem", STEMS)
def test_most_songs_have_each_stem_near_its_level(songs, stem):
    levels = [20 * np.log10(np.sqrt(np.mean(song[stem] ** 2)) + 1e-9) for song in songs]
    audible = [level for level in levels if level > -80]
    assert len(audible) >= 9
    assert -30 < np.median(audible) < -17


@pytest.mark.parametrize(
    ("stem", "recorded"),
    [
        ("vocals", (None, -21.5, -8.9, -4.6, -6.3, -10.9, -16.5, -17.9)),
        ("drums", (-4.1, -9.5, -9.8, -14.1, -14.3, -16.2, -16.9, -18.1)),
        ("bass", (-2.9, -5.3, -8.4, None, None, None, None, None)),
        ("other", (None, None, -10.0, -4.8, -7.3, -12.0, -19.1, -28.2)),
    ],
)
def test_octaves_are_as_loud_as_in_recorded_songs(songs, stem, recorded):
    levels = np.median([octave_levels(song[stem]) for song in songs if song[stem].any()], axis=0)
    wanted = np.array([np.nan if level is None else level for level in recorded])
    assert np.nanmax(np.abs(levels - wanted)) < 6.0  # the spread between songs is 2 to 6 dB


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 0, "duration": 0.5}, "duration must be between 1 and 600 s, got 0.5"),
        ({"seed": 0, "sample_rate": 8000}, "sample_rate must be between 16000 and 96000 Hz, got 8000"),
    ],
)
def test_an_impossible_song_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_song(**arguments)


def test_the_root_holds_every_split_as_wav(cache):
    root = demo_root(**SMALL)
    assert root.parent == cache
    names = sorted(str(path.relative_to(root).as_posix()) for path in root.glob("*/*"))
    assert names == ["test/test_000", "train/train_000", "train/train_001", "valid/valid_000"]
    for folder in root.glob("*/*"):
        expected = [*STEMS, *(["mixture"] if folder.parent.name == "test" else [])]
        assert sorted(path.stem for path in folder.iterdir()) == sorted(expected)
    info = soundfile.info(root / "train" / "train_000" / "vocals.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44100, 2, 88200, "PCM_16")


def test_what_is_written_is_the_song_of_the_seed():
    read, _ = soundfile.read(demo_root(**SMALL) / "train" / "train_001" / "drums.wav", dtype="float32")
    assert np.abs(read.T - make_song(1, 2.0)["drums"]).max() <= 2**-15  # one step of 16 bits


def test_the_mixture_of_a_test_song_is_the_exact_sum_of_its_stems():
    folder = demo_root(**SMALL) / "test" / "test_000"
    stems = [soundfile.read(folder / f"{stem}.wav", dtype="int16")[0] for stem in STEMS]
    assert (soundfile.read(folder / "mixture.wav", dtype="int16")[0] == sum(stems)).all()


def test_splits_share_no_song():
    files = [path.read_bytes() for path in demo_root(**SMALL).rglob("vocals.wav")]
    assert len(set(files)) == len(files) == 4


def test_a_second_call_finds_the_songs_made_by_the_first(monkeypatch):
    root = demo_root(**SMALL)
    monkeypatch.setattr(demo, "make_song", None)
    assert demo_root(**SMALL) == root


def test_other_sizes_get_another_folder():
    assert demo_root(**SMALL) != demo_root(**{**SMALL, "duration": 1.5})


def test_a_changed_generator_gets_another_folder(monkeypatch):
    root = demo_root(**SMALL)
    monkeypatch.setattr(demo, "_fingerprint", lambda: "changed")
    assert demo_root(**SMALL) != root


def test_a_half_made_root_is_never_taken(cache, monkeypatch):
    made = []

    def stop_at_the_third(seed, duration):
        made.append(seed)
        if len(made) == 3:
            raise KeyboardInterrupt
        return make_song(seed, duration)

    monkeypatch.setattr(demo, "make_song", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        demo_root(**SMALL)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(demo, "make_song", make_song)
    assert len(list(demo_root(**SMALL).rglob("*.wav"))) == 17


def test_a_killed_process_leaves_no_root_and_its_remains_go_later(cache):
    call = "from sepkit.datasets.demo import demo_root; demo_root(50, 1, 1, 2.0, progress=False)"
    process = subprocess.Popen([sys.executable, "-c", call])
    while not list(cache.glob(".sepkit-*/train/*/other.wav")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    (left,) = cache.iterdir()
    assert left.name.startswith(".sepkit-")
    demo_root(**SMALL)
    assert left.is_dir()  # young remains may belong to a living process
    for path in (left, *left.rglob("*")):
        os.utime(path, (0, 0))
    demo_root(**{**SMALL, "duration": 1.0})
    assert not left.exists()


def test_two_processes_may_start_at_once(cache):
    call = "from sepkit.datasets.demo import demo_root; print(demo_root(2, 1, 1, 2.0, progress=False))"
    processes = [subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    roots = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(roots) == 1
    assert [str(path) for path in cache.iterdir()] == list(roots)
    assert len(list(Path(roots.pop()).rglob("*.wav"))) == 17


@pytest.mark.parametrize(("scale", "counts"), [("0.5", (5, 2, 4)), ("0.01", (2, 1, 2)), ("1", (10, 4, 8))])
def test_the_scale_variable_shortens_the_demo_down_to_the_least(monkeypatch, scale, counts):
    monkeypatch.setenv("SEPKIT_DEMO_SCALE", scale)
    assert tuple(demo._counts({"train": 10, "valid": 4, "test": 8}).values()) == counts


@pytest.mark.parametrize("scale", ["0", "1.5", "half", "nan"])
def test_a_scale_that_is_no_fraction_is_refused(monkeypatch, scale):
    monkeypatch.setenv("SEPKIT_DEMO_SCALE", scale)
    with pytest.raises(ValueError, match="SEPKIT_DEMO_SCALE must be a fraction above 0 and up to 1, got"):
        demo_root(**SMALL)


def test_a_split_without_songs_is_refused():
    with pytest.raises(ValueError, match="n_valid must be at least 1, got 0"):
        demo_root(**{**SMALL, "n_valid": 0})


def test_an_impossible_duration_leaves_nothing_behind(cache):
    with pytest.raises(ValueError, match="duration must be between 1 and 600 s, got 0"):
        demo_root(**{**SMALL, "duration": 0.0})
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_shows_progress_on_a_terminal_unless_told_not_to(monkeypatch, terminal, progress):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    demo_root(**{**SMALL, "progress": progress})
    assert ("making the built-in songs" in stream.getvalue()) is (terminal and progress)


def test_a_training_is_imported_without_what_makes_songs():
    """Transforms and filters of scipy take 15 MB of each training."""
    code = "import sys, sepkit.training.train, sepkit.datasets.demo.song; "
    code += "print({*sys.modules} & {'scipy.fft', 'scipy.ndimage'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
