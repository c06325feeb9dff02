"""Songs in memory: load_stems, AudioDataset, create_audio_dataset, verify_dataset."""

import tracemalloc

import pytest
import torch
from songs import RATE, noise, write_root, write_song
from torch.utils.data import DataLoader

from sepkit.datasets import AudioDataset, DatasetError, create_audio_dataset, load_stems, verify_dataset

TARGETS = ["drums", "vocals"]


@pytest.fixture
def root(tmp_path):
    return write_root(tmp_path, ["train/a", "train/b", "train/c", "valid/d"], names=["bass", "drums", "vocals"])


@pytest.mark.parametrize("n_tracks", [1, 2, 3])
def test_exactly_as_many_songs_are_loaded_as_wanted(root, n_tracks):
    assert len(load_stems(root, TARGETS, max_num_tracks=n_tracks, sample_rate=RATE)) == n_tracks


@pytest.mark.parametrize(("limit", "wanted"), [(None, 3), (100, 3)])
def test_all_songs_are_loaded_without_a_limit_or_below_it(root, limit, wanted):
    assert len(load_stems(root, TARGETS, max_num_tracks=limit, sample_rate=RATE)) == wanted


@pytest.mark.parametrize(("mono", "n_channels"), [(True, 1), (False, 2)])
def test_a_loaded_song_holds_the_mixture_the_targets_and_its_length(root, mono, n_channels):
    song = load_stems(root, TARGETS, sample_rate=RATE, mono=mono)[0]
    assert list(song) == ["mixture", "drums", "vocals", "duration"]
    assert song["duration"] == RATE
    assert all(song[name].shape == (n_channels, RATE) for name in ("mixture", *TARGETS))
    stems = [torch.tensor(noise(k)).float().T for k in range(3)]
    stems = [stem.mean(0, keepdim=True) if mono else stem for stem in stems]
    torch.testing.assert_close(song["mixture"], sum(stems), rtol=0, atol=1e-6)
    torch.testing.assert_close(song["vocals"], stems[2], rtol=0, atol=1e-7)


def test_a_recorded_mixture_is_loaded_as_it_is(tmp_path):
    write_song(tmp_path / "train" / "a", {"vocals": noise(0), "mixture": noise(1)})
    (song,) = load_stems(tmp_path, ["vocals"], sample_rate=RATE, mono=False)
    assert torch.equal(song["mixture"].T, torch.tensor(noise(1)).float())


def test_another_rate_is_refused(root):
    with pytest.raises(DatasetError, match=r"a/bass\.wav and 8 more: 8000 Hz, wanted are 44100; .* data\.resample"):
        load_stems(root, TARGETS)


def test_no_songs_cannot_be_loaded(root):
    with pytest.raises(ValueError, match="max_num_tracks must be above 0, got 0"):
        load_stems(root, TARGETS, max_num_tracks=0, sample_rate=RATE)


def test_a_million_chunks_are_planned_one_by_one(root):
    songs = load_stems(root, TARGETS, sample_rate=RATE)
    tracemalloc.start()
    dataset = AudioDataset(songs, TARGETS, sample_rate=RATE)
    assert len(dataset) == 1_000_000
    mixture, targets = dataset[999_999]
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 1_000_000  # bytes; a list of so many would be eight times as large
    assert (mixture.shape, targets.shape) == ((1, RATE), (2, 1, RATE))


@pytest.mark.parametrize("num_chunks", [1, 7, 1e2])
def test_exactly_as_many_chunks_come_as_wanted(root, num_chunks):
    dataset = create_audio_dataset(root, TARGETS, chunk_size=0.1, num_chunks=num_chunks, sample_rate=RATE)
    assert sum(len(mixture) for mixture, _ in DataLoader(dataset, 4)) == len(dataset) == num_chunks


def test_a_chunk_is_a_piece_of_the_song_that_its_plan_names(root):
    songs = load_stems(root, TARGETS, sample_rate=RATE, mono=False)
    dataset = AudioDataset(songs, TARGETS, chunk_size=0.1, sample_rate=RATE)
    plan, (mixture, targets) = dataset.plan((2, 3)), dataset[2, 3]
    song, start = songs[plan.songs[0]], plan.positions[0]
    assert torch.equal(mixture, song["mixture"][:, start : start + 800])
    assert torch.equal(targets, torch.stack([song[name][:, start : start + 800] for name in TARGETS]))


def test_the_seed_decides_the_chunks(root):
    songs = load_stems(root, TARGETS, sample_rate=RATE)
    first, again, other = (AudioDataset(songs, TARGETS, 0.1, sample_rate=RATE, seed=seed)[5][0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_changing_a_chunk_does_not_change_the_song(root):
    songs = load_stems(root, TARGETS, sample_rate=RATE)
    dataset = AudioDataset(songs, TARGETS, 1.0, sample_rate=RATE)
    before = songs[0]["mixture"].clone()
    dataset[0][0].zero_(), dataset[0][1].zero_()
    assert torch.equal(songs[0]["mixture"], before)


def test_a_song_shorter_than_a_chunk_is_filled_with_silence(root):
    mixture, _ = create_audio_dataset(root, TARGETS, chunk_size=1.5, sample_rate=RATE)[0]
    assert mixture.shape == (1, 12000)
    assert mixture[:, RATE:].abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_size": 0}, "chunk_size must be above 0 seconds and num_chunks a whole number above 0, got 0 and"),
        ({"chunk_size": float("nan")}, "chunk_size must be above 0 seconds .*, got nan and"),
        ({"chunk_size": float("inf")}, "chunk_size must be above 0 seconds .*, got inf and"),
        ({"num_chunks": float("inf")}, "got 1 and inf"),
        ({"targets": "vocals"}, "targets must be a list of names, got 'vocals'"),
        ({"num_chunks": 0}, "got 1 and 0"),
        ({"num_chunks": 1.5}, "got 1 and 1.5"),
        ({"targets": []}, "wanted are songs and targets, got 1 songs and 0 targets"),
        ({"dataset": []}, "wanted are songs and targets, got 0 songs and 1 targets"),
        ({"targets": ["drums", "bass"]}, "every song must have mixture, targets and duration, missing: bass, drums"),
        ({"dataset": [{"vocals": torch.zeros(1, 9), "duration": 9}]}, "missing: mixture"),
    ],
)
def test_arguments_out_of_range_are_refused(options, message):
    song = {"mixture": torch.zeros(1, 9), "vocals": torch.zeros(1, 9), "duration": 9}
    with pytest.raises(ValueError, match=message):
        AudioDataset(**{"dataset": [song], "targets": ["vocals"], **options})


@pytest.mark.parametrize("make", [load_stems, create_audio_dataset, verify_dataset])
def test_a_name_in_place_of_a_list_is_refused(root, make):
    with pytest.raises(ValueError, match="targets must be a list of names, got 'vocals'"):
        make(root, "vocals", sample_rate=RATE)


@pytest.mark.parametrize("chunk_size", [0, float("nan"), float("inf")])
def test_chunks_out_of_range_are_refused_before_songs_are_looked_for(chunk_size):
    with pytest.raises(ValueError, match=f"chunk_size must be above 0 seconds .*, got {chunk_size} and"):
        create_audio_dataset("nowhere", TARGETS, chunk_size=chunk_size)


def test_an_index_beyond_the_chunks_is_refused(root):
    dataset = create_audio_dataset(root, TARGETS, num_chunks=3, sample_rate=RATE)
    with pytest.raises(IndexError, match="the dataset has 3 examples, got index 3"):
        dataset[3]


def test_a_root_in_order_is_verified_by_its_number_of_songs(root):
    assert verify_dataset(root, TARGETS, sample_rate=RATE) == 3
    assert verify_dataset(root, subset="valid", sample_rate=RATE) == 1


def test_verifying_names_everything_that_is_wrong(root):
    (root / "train" / "a" / "drums.wav").unlink()
    (root / "train" / "b" / "vocals.wav").write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        verify_dataset(root, TARGETS, sample_rate=RATE)
    for wanted in ("a: the stem 'drums' is missing", "b/vocals.wav is empty"):
        assert wanted in str(caught.value)


@pytest.mark.parametrize("flat", [True, False])
def test_songs_that_are_set_aside_for_validation_are_verified_with_train(tmp_path, flat):
    songs = [f"{'' if flat else 'train/'}{name}" for name in "abc"]
    write_root(tmp_path, songs, names=TARGETS)
    assert verify_dataset(tmp_path, TARGETS, sample_rate=RATE) == 3
    assert verify_dataset(tmp_path, TARGETS, "valid", sample_rate=RATE) == 1
    for song in songs:
        (tmp_path / song / "drums.wav").write_bytes(b"")
    with pytest.raises(DatasetError) as caught:
        verify_dataset(tmp_path, TARGETS, sample_rate=RATE)
    assert len(caught.value.findings) == 3


def test_a_song_without_its_duration_is_refused():
    with pytest.raises(ValueError, match="every song must have mixture, targets and duration, missing: duration"):
        AudioDataset([{"mixture": torch.zeros(1, 9), "vocals": torch.zeros(1, 9)}], ["vocals"])
