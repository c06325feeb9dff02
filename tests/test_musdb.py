"""MUSDB18 as it comes, in `.stem.mp4` and in wav, on small roots of the same shape."""

import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
import yaml
from songs import write_root

from sepkit.datasets import MUSDB18, DatasetError, open_songs
from sepkit.datasets.musdb.stem_files import SOURCES, STREAMS, VALIDATION_SONGS

RATE = 44100
TRAIN, VALID = "Artist - Title", "Actions - One Minute Smile"
with_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="ffmpeg and ffprobe are not on the PATH"
)


def write_stem_file(path: Path, n_streams: int = 5, n_samples: int = RATE, seed: int = 0) -> Path:
    """Write streams of noise, the first of which is the sum of the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stems = np.random.default_rng(seed).standard_normal((n_streams - 1, 2, n_samples)) * 0.1
    waveforms = np.concatenate([stems.sum(0, keepdims=True), stems]).astype(np.float32)
    with av.open(str(path), "w", format="mp4") as file:
        streams = [file.add_stream("aac", rate=RATE, layout="stereo") for _ in waveforms]
        for stream, waveform in zip(streams, waveforms, strict=True):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform), format="fltp", layout="stereo")
            frame.sample_rate = RATE
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                file.mux(packet)
    return path


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    for seed, song in enumerate([f"train/{TRAIN}", f"train/{VALID}", "test/Other - Song"]):
        write_stem_file(tmp_path / "musdb" / f"{song}.stem.mp4", seed=seed)
    return tmp_path / "musdb"


def cached(root: Path) -> list[Path]:
    return sorted(path for path in (root.parent / "cache" / "musdb").iterdir() if not path.name.startswith("."))


@with_ffmpeg
@pytest.mark.parametrize(
    ("subset", "arguments"),
    [
        ("train", {"subsets": "train", "split": "train"}),
        ("valid", {"subsets": "train", "split": "valid"}),
        ("test", {"subsets": "test"}),
    ],
)
def test_songs_splits_stems_and_samples_are_musdbs(root, subset, arguments):
    import musdb

    (track,) = musdb.DB(str(root), **arguments)
    (song,) = MUSDB18(root, subset, segment=0.5).songs
    assert song.name == track.name
    for name in ("vocals", "drums", "bass", "other"):
        wanted = torch.from_numpy(track.sources[name].audio.T).float()
        assert torch.equal(song.read_stem(name, 0, song.n_samples), wanted)
    assert torch.equal(song.read_mixture(0, song.n_samples), torch.from_numpy(track.audio.T).float())


@with_ffmpeg
def test_an_example_has_the_recorded_mixture_and_the_four_stems(root):
    dataset = MUSDB18(root, segment=0.5, items_per_epoch=3)
    mixture, targets = dataset[1]
    assert dataset.targets == ["vocals", "drums", "bass", "other"]
    assert (mixture.shape, targets.shape) == ((2, 22050), (4, 2, 22050))
    position = dataset.plan((0, 1)).positions[0]
    torch.testing.assert_close(mixture, dataset.songs[0].read_mixture(position, 22050), rtol=0, atol=1e-6)
    assert (len(dataset), len(MUSDB18(root, segment=0.5))) == (3, 2)


@with_ffmpeg
def test_a_file_is_decoded_once_to_16_bits_and_again_when_it_changed(root):
    open_songs(root, "test", None, RATE, 2)
    (folder,) = cached(root)
    info = soundfile.info(folder / "vocals.wav")
    assert (info.subtype, info.samplerate, info.channels) == ("PCM_16", RATE, 2)
    assert {path.name for path in folder.iterdir()} == {
        "mixture.wav", "drums.wav", "bass.wav", "other.wav", "vocals.wav"
    }  # fmt: skip
    written = (folder / "vocals.wav").stat().st_mtime_ns
    (song,) = open_songs(root, "test", None, RATE, 2)
    assert (folder / "vocals.wav").stat().st_mtime_ns == written
    assert song.stems["vocals"].info.path == str(folder / "vocals.wav")
    write_stem_file(root / "test" / "Other - Song.stem.mp4", n_samples=2 * RATE)
    (song,) = open_songs(root, "test", None, RATE, 2)
    assert song.n_samples >= 2 * RATE
    assert len(cached(root)) == 2


def _open(root: Path) -> int:
    return open_songs(root, "test", None, RATE, 2)[0].n_samples


@with_ffmpeg
def test_two_processes_may_decode_at_once(root):
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        lengths = list(pool.map(_open, [root] * 4))
    assert len(set(lengths)) == 1
    assert len(list((root.parent / "cache" / "musdb").iterdir())) == 1  # nothing half-made is left


@with_ffmpeg
def test_what_a_process_that_died_left_is_removed(root):
    left = root.parent / "cache" / "musdb" / ".sepkit-abc.part"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    open_songs(root, "test", None, RATE, 2)
    assert not left.exists()


def test_without_ffmpeg_one_sentence_says_what_to_install(root, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DatasetError, match=r"decoded by ffmpeg, which is not on the PATH; install it \(apt install"):
        MUSDB18(root, "test")


@with_ffmpeg
def test_what_is_decoded_already_needs_no_ffmpeg(root, monkeypatch):
    MUSDB18(root, "test")
    monkeypatch.setenv("PATH", "/nowhere")
    assert MUSDB18(root, "test").songs[0].name == "Other - Song"


def test_broken_stem_files_are_all_named_before_anything_is_decoded(root):
    whole = (root / "train" / f"{TRAIN}.stem.mp4").read_bytes()
    (root / "train" / "A - Cut.stem.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "train" / "B - Empty.stem.mp4").write_bytes(b"")
    write_stem_file(root / "train" / "C - Two.stem.mp4", n_streams=2)
    message = r"(?s)A - Cut\.stem.*B - Empty\.stem.*C - Two\.stem\.mp4: wanted are 5 streams \(mixture, drums.*it has 2"
    with pytest.raises(DatasetError, match=message):
        MUSDB18(root, "train")
    assert not (root.parent / "cache").exists()


def test_a_broken_stem_file_does_not_hide_what_is_wrong_with_other_songs(root):
    write_root(root, ["train/a", "train/b"], names=["vocals", "bass", "drums"], rate=RATE)
    (root / "train" / "C - Empty.stem.mp4").write_bytes(b"")
    message = r"(?s)train/C - Empty\.stem\.mp4 is empty.*train/a: the stem 'other' is missing.*b: the stem 'other'"
    with pytest.raises(DatasetError, match=message) as caught:
        MUSDB18(root, "train")
    assert len(caught.value.findings) == 3


@with_ffmpeg
def test_another_rate_is_refused_by_the_name_of_the_song(root):
    with pytest.raises(DatasetError, match=r"Other - Song\.stem\.mp4/bass\.wav and 4 more: 44100 Hz, wanted"):
        MUSDB18(root, "test", sample_rate=48000)


@with_ffmpeg
def test_what_ffmpeg_does_not_decode_is_named(root, monkeypatch):
    monkeypatch.setattr("sepkit.datasets.catalogue.check_stem_file", lambda _: None)
    (root / "test" / "Other - Song.stem.mp4").write_bytes(b"not a film")
    with pytest.raises(DatasetError, match=r"Song\.stem\.mp4: ffmpeg does not decode it \(.*\); download it again"):
        MUSDB18(root, "test")


@with_ffmpeg
def test_a_file_with_a_damaged_middle_is_refused_and_not_cached(root):
    path = root / "test" / "Other - Song.stem.mp4"
    damaged = bytearray(path.read_bytes())
    middle = slice(len(damaged) // 3, len(damaged) * 2 // 3)
    damaged[middle] = np.random.default_rng(0).bytes(len(damaged[middle]))
    path.write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"Song\.stem\.mp4: \d+ of \d+ samples decode; download it again"):
        MUSDB18(root, "test")
    assert cached(root) == []


def test_the_wav_version_is_read_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    names = ["mixture", "vocals", "drums", "bass", "other"]
    write_root(tmp_path, [f"train/{TRAIN}", f"train/{VALID}", "test/c"], names=names, rate=RATE)
    assert [song.name for song in MUSDB18(tmp_path, "train").songs] == [TRAIN]
    assert [song.name for song in MUSDB18(tmp_path, "valid").songs] == [VALID]
    mixture, targets = MUSDB18(tmp_path, "test", ["bass"], segment=0.1)[0]
    assert (mixture.shape, targets.shape) == ((2, 4410), (1, 2, 4410))


def test_a_train_folder_without_musdbs_validation_songs_has_no_valid(tmp_path):
    write_root(tmp_path, ["train/a", "train/b"], rate=RATE)
    with pytest.raises(DatasetError, match="train has no song that is for valid"):
        MUSDB18(tmp_path, "valid")


def test_names_are_those_of_the_package_musdb():
    assert len(VALIDATION_SONGS) == 14
    found = find_spec("musdb")
    if found is None:
        pytest.skip("musdb is not installed")
    file = Path(found.submodule_search_locations[0]) / "configs" / "mus.yaml"
    settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert set(settings["validation_tracks"]) == VALIDATION_SONGS
    assert list(SOURCES) == list(settings["sources"])
    assert list(STREAMS) == sorted(settings["stem_ids"], key=settings["stem_ids"].get)


def test_songs_are_found_without_the_package_musdb(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    write_root(tmp_path, [f"train/{letter}" for letter in "abcdef"], rate=RATE)
    assert len(open_songs(tmp_path, "train", ["vocals"], RATE, 2)) == 5
