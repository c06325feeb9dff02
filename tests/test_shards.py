"""Shards: the same examples from tar files, here or at an address, as from the folders that were packed."""

import hashlib
import json
import os
import re
import sys
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from serving import Served, Server, serving
from songs import RATE, noise, write_root, write_song
from torch.utils.data import DataLoader
from training import RECIPE, assert_equal, weights, write_songs

from sepkit import audio
from sepkit.audio import AudioError, packed
from sepkit.augment import Gain, Sign
from sepkit.cli import data_command
from sepkit.datasets import DatasetError, SongDataset, check_songs, open_songs, packing
from sepkit.datasets.manifest import Manifest, Row
from sepkit.datasets.manifest_files import write_manifest
from sepkit.datasets.packing import write_shards
from sepkit.datasets.shards import open_shards
from sepkit.datasets.sources import describe_layout, find
from sepkit.datasets.store_plan import plan_store
from sepkit.disk import OutputError
from sepkit.evaluation import evaluate
from sepkit.separator import Separator
from sepkit.training import train

NAMES = ["vocals", "drums"]
ROOTS = ("root", "shards")
SONGS = ["train/a", "train/b c", "train/d", "valid/e", "test/f"]


def pack(root: Path, output: str | Path, **options) -> str:
    return write_shards(root, output, **{"log": lambda _line: None, "size": 0.1, **options})


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(packed, "_PAUSES", (0.0, 0.0))
    packed._opened.cache_clear()


def publish(server: Server, folder: Path, under: str = "/songs") -> str:
    for path in folder.iterdir():
        server.put(f"{under}/{path.name}", path.read_bytes())
    return f"{server.url}{under}"


def dataset(root: str | Path, split: str = "train", **options) -> SongDataset:
    songs = open_songs(root, split, NAMES, options.pop("rate", RATE), 2, **options)
    return SongDataset(songs, NAMES, 3000, 12, 0.5, [Gain(), Sign()], 7)


def digest(examples: SongDataset) -> str:
    hashed = hashlib.sha256()
    for i in range(len(examples)):
        for part in examples[1, i]:
            hashed.update(part.numpy().tobytes())
    return hashed.hexdigest()


# The same examples


KINDS = {
    "16 bit": {},
    "float": {"subtype": "FLOAT"},
    "24 bit": {"subtype": "PCM_24"},
    "flac": {"suffix": ".flac"},
    "flac, 24 bit": {"suffix": ".flac", "subtype": "PCM_24"},
    "8 bit": {"subtype": "PCM_U8"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_examples_are_those_of_the_folders(tmp_path, kind):
    write_root(tmp_path / "root", SONGS, **KINDS[kind])
    pack(tmp_path / "root", tmp_path / "shards")
    for split in ("train", "valid", "test"):
        assert digest(dataset(tmp_path / "shards", split)) == digest(dataset(tmp_path / "root", split))


def test_examples_are_those_of_the_folders_where_songs_are_set_aside(tmp_path):
    write_root(tmp_path / "root", [f"train/{name}" for name in "abcdefghijkl"])
    pack(tmp_path / "root", tmp_path / "shards")
    for split in ("train", "valid"):
        some, others = (dataset(tmp_path / name, split) for name in ("root", "shards"))
        assert [song.name for song in some.songs] == [song.name for song in others.songs]
        assert digest(some) == digest(others)


def test_examples_are_those_of_the_folders_with_a_recorded_mixture_and_absent_stems(tmp_path):
    parts = [noise(1, RATE), noise(2, RATE), noise(3, RATE) / 4]
    write_song(tmp_path / "root/train/a", {"vocals": parts[0], "drums": parts[1], "mixture": sum(parts)})
    write_song(tmp_path / "root/train/b", {"vocals": noise(4, RATE), "guitar": noise(5, RATE)})
    pack(tmp_path / "root", tmp_path / "shards")
    options = {"allow_missing": True, "valid_share": 0.0}
    some, others = (dataset(tmp_path / name, **options) for name in ("root", "shards"))
    assert some.stems == others.stems
    assert digest(some) == digest(others)


def test_examples_are_those_of_the_folders_at_another_rate(tmp_path):
    write_root(tmp_path / "root", SONGS)
    pack(tmp_path / "root", tmp_path / "shards")
    some, others = (dataset(tmp_path / name, rate=6000, resample=True) for name in ("root", "shards"))
    assert digest(some) == digest(others)


def test_examples_are_those_of_a_manifest_with_parts_gains_tempo_and_key(tmp_path):
    write_song(tmp_path / "files", {"long": noise(1, 4 * RATE), "more": noise(2, 4 * RATE)})
    files = {name: tmp_path / "files" / f"{name}.wav" for name in ("long", "more")}
    rows = [
        Row(
            files["long"], "vocals", "one", "train", 0.0, 2.0, gain=-3.0, tempo=120.0, key="A minor", licence="CC0-1.0"
        ),
        Row(files["more"], "vocals", "one", "train", 0.5, 2.5, tempo=120.0, key="A minor"),
        Row(files["long"], "drums", "one", "train", 2.0, tempo=120.0, key="A minor"),
        Row(files["more"], "vocals", "two", "train", 2.5, 4.0),
        Row(files["more"], "drums", "two", "train", 0.0, 0.5),
    ]
    write_manifest(Manifest(tmp_path, "manifest", tuple(rows)), tmp_path / "root.csv")
    pack(tmp_path / "root.csv", tmp_path / "shards")
    options = {"valid_share": 0.0}
    some, others = (dataset(tmp_path / name, **options) for name in ("root.csv", "shards"))
    assert digest(some) == digest(others)
    assert [(song.name, song.tempo, song.key, song.licence) for song in others.songs] == [
        ("one", 120.0, "A minor", "CC0-1.0"),
        ("two", None, None, None),
    ]


def test_examples_are_the_same_from_memory(tmp_path):
    pytest.importorskip("fsspec")
    write_root(tmp_path / "root", SONGS)
    assert pack(tmp_path / "root", "memory://songs/here") == "memory://songs/here/index.json"
    for place in ("memory://songs/here", "memory://songs/here/", "memory://songs/here/index.json"):
        assert digest(dataset(place)) == digest(dataset(tmp_path / "root"))


def test_examples_are_the_same_from_a_server_which_sends_no_more_than_they_have(tmp_path, server):
    write_root(tmp_path / "root", SONGS)
    pack(tmp_path / "root", tmp_path / "shards")
    examples = dataset(publish(server, tmp_path / "shards"))
    assert digest(examples) == digest(dataset(tmp_path / "root"))
    spans = [span for path, span in server.requests if path.endswith(".tar")]
    assert len(spans) == 2 * 12
    assert {end - first + 1 for first, end in (map(int, span[6:].split("-")) for span in spans)} == {3000 * 2 * 2}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ten_seconds_are_read_before_a_training_not_all_that_is_packed(tmp_path, server, monkeypatch):
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    waveforms = {name: noise(k, 40 * RATE) for k, name in enumerate(NAMES)}
    write_song(tmp_path / "root/train/a", waveforms, subtype="FLOAT")
    pack(tmp_path / "root", tmp_path / "shards")
    address = publish(server, tmp_path / "shards")
    check_songs(address, {"train": open_songs(address, "train", NAMES, RATE, 2, valid_share=0.0)}, NAMES)
    spans = [list(map(int, span[6:].split("-"))) for path, span in server.requests if path.endswith(".tar")]
    assert sum(end - first + 1 for first, end in spans) == 2 * 10 * RATE * 2 * 4


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", ["folder", "server"])
def test_examples_are_the_same_from_other_processes(tmp_path, request, place, start):
    write_root(tmp_path / "root", SONGS)
    pack(tmp_path / "root", tmp_path / "shards")
    root = tmp_path / "shards"
    if place == "server":
        root = publish(request.getfixturevalue("server"), root)
    examples = dataset(root)
    alone = [examples[i] for i in range(len(examples))]  # fsspec's threads are there before the processes
    loader = DataLoader(examples, batch_size=None, num_workers=2, multiprocessing_context=start)
    for some, others in zip(loader, alone, strict=True):
        assert all(map(torch.equal, some, others))


def test_a_training_is_the_same(tmp_path):
    write_songs(tmp_path / "root")
    pack(tmp_path / "root", tmp_path / "shards")
    for name in ("root", "shards"):
        train(RECIPE, tmp_path / f"run-{name}", data=tmp_path / name, device="cpu", quiet=True, log=lambda _line: None)
    assert_equal(weights(tmp_path / "run-root"), weights(tmp_path / "run-shards"))


def test_scores_are_those_of_the_folders(tmp_path):
    write_root(tmp_path / "root", SONGS)
    pack(tmp_path / "root", tmp_path / "shards")
    model = Separator(NAMES, {"class": "networks.Constant", "gains": [0.5, 0.25]}, RATE, 2, 0.5)
    options = {"metrics": ["uSDR"], "progress": False, "baselines": False}
    some, others = (evaluate(model, tmp_path / name, output=tmp_path / f"{name}-scores", **options) for name in ROOTS)
    assert some.rows == others.rows


def test_the_layout_is_named_as_that_of_shards(tmp_path):
    write_root(tmp_path / "root", SONGS)
    pack(tmp_path / "root", tmp_path / "shards")
    assert describe_layout(find(tmp_path / "shards")) == "shards of song folders"


@pytest.mark.parametrize("kind", [{}, {"subtype": "FLOAT"}])
@pytest.mark.parametrize("rate", [RATE, 6000])
def test_what_is_packed_is_not_stored(tmp_path, kind, rate):
    write_root(tmp_path / "root", SONGS, **kind)
    pack(tmp_path / "root", tmp_path / "shards")
    assert plan_store(open_songs(tmp_path / "shards", "train", NAMES, rate, 2, resample=True)) is None


# What is written


def test_a_tar_holds_wav_files_by_track_for_everybody(tmp_path):
    write_root(tmp_path / "root", ["train/a", "train/b"], names=["vocals", "low.drums"])
    pack(tmp_path / "root", tmp_path / "shards", size=1000)
    with tarfile.open(tmp_path / "shards" / "00000.tar") as tar:
        assert tar.getnames() == [
            "000000.low_drums.wav", "000000.vocals.wav", "000000.json",
            "000001.low_drums.wav", "000001.vocals.wav", "000001.json",
        ]  # fmt: skip
        for track, name in enumerate("ab"):
            for stem, member in (("vocals", "vocals"), ("low.drums", "low_drums")):
                content = tar.extractfile(f"{track:06d}.{member}.wav").read()
                packed_samples, rate = soundfile.read(BytesIO(content), dtype="int16")
                samples, _ = soundfile.read(tmp_path / "root" / "train" / name / f"{stem}.wav", dtype="int16")
                assert rate == RATE
                assert np.array_equal(packed_samples, samples)
        described = json.load(tar.extractfile("000001.json"))
    assert described == {
        "track": "b",
        "split": "train",
        "files": {
            "low_drums.wav": {"stem": "low.drums", "gain_db": 0, "scale": 1},
            "vocals.wav": {"stem": "vocals", "gain_db": 0, "scale": 1},
        },
    }


def test_float_files_are_wav_of_floats(tmp_path):
    write_root(tmp_path / "root", ["train/a"], subtype="FLOAT")
    pack(tmp_path / "root", tmp_path / "shards")
    with tarfile.open(tmp_path / "shards" / "00000.tar") as tar:
        content = BytesIO(tar.extractfile("000000.vocals.wav").read())
    with soundfile.SoundFile(content) as file:
        assert (file.subtype, file.frames, file.samplerate) == ("FLOAT", RATE, RATE)
        assert np.array_equal(file.read(dtype="float32"), noise(0).astype(np.float32))


@pytest.mark.parametrize("loudness", [1, 6])
def test_lossy_files_become_16_bit_as_in_the_store_and_nothing_clips(tmp_path, monkeypatch, loudness):
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    for name, factor in (("a", loudness), ("b", 0.1)):
        waveforms = {stem: factor * noise(k, 2 * RATE) for k, stem in enumerate(NAMES)}
        write_song(tmp_path / "root" / "train" / name, waveforms, suffix=".ogg", subtype="VORBIS")
    pack(tmp_path / "root", tmp_path / "shards")
    packed_songs, songs = (
        open_songs(tmp_path / name, "train", NAMES, RATE, 2, valid_share=0.0) for name in ROOTS[::-1]
    )
    store = plan_store(songs)
    scales = {info.scale for info in open_shards(tmp_path / "shards").infos}
    assert (max(scales) > 1) == (loudness > 1)
    for some, others in zip(packed_songs, songs, strict=True):
        for stem in NAMES:
            found, wanted = torch.empty(2, 2 * RATE), torch.empty(2, 2 * RATE)
            some.stems[stem].read_into(found, 0)
            others.stems[stem].read_into(wanted, 0, store=store)
            assert torch.equal(found, wanted)
            info = some.stems[stem].info
            assert torch.equal(audio.read(info.path, info=info)[0], wanted)


def test_equal_songs_are_equal_shards_of_about_the_size_in_their_order(tmp_path):
    write_root(tmp_path / "root", SONGS)
    lines: list[str] = []
    pack(tmp_path / "root", tmp_path / "one", size=0.14, log=lines.append)
    pack(tmp_path / "root", tmp_path / "two", size=0.14)
    assert lines == ["3 shards of 5 tracks, 320 kB"]
    names = ["00000.tar", "00001.tar", "00002.tar", "index.json"]
    for folder in ("one", "two"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == names
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in names)
    for name, n_bytes, sha256 in json.loads((tmp_path / "one" / "index.json").read_text())["shards"]:
        content = (tmp_path / "one" / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (n_bytes, sha256)


def test_shards_may_be_moved(tmp_path):
    write_root(tmp_path / "root", SONGS)
    pack(tmp_path / "root", tmp_path / "shards")
    (tmp_path / "shards").rename(tmp_path / "moved")
    assert digest(dataset(tmp_path / "moved")) == digest(dataset(tmp_path / "root"))


def test_shards_are_not_written_over(tmp_path):
    write_root(tmp_path / "root", ["train/a"])
    pack(tmp_path / "root", tmp_path / "shards")
    with pytest.raises(ValueError, match="has shards already: remove them, or choose another --output"):
        pack(tmp_path / "root", tmp_path / "shards")


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), "1"])
def test_a_size_that_is_none_is_refused(tmp_path, size):
    with pytest.raises(ValueError, match="size must be a number of MB above 0, got"):
        pack(tmp_path, tmp_path / "shards", size=size)


def test_a_truncated_file_is_refused_by_name_and_nothing_is_written(tmp_path):
    root = write_root(tmp_path / "root", ["train/a", "train/b"])
    content = (root / "train/b/drums.wav").read_bytes()
    (root / "train/b/drums.wav").write_bytes(content[:-1000])
    with pytest.raises(DatasetError, match=r"drums\.wav is truncated: .*; get the whole file"):
        pack(root, tmp_path / "shards")
    assert not (tmp_path / "shards").exists()


def test_a_full_disk_is_one_error_and_no_index(tmp_path, monkeypatch):
    write_root(tmp_path / "root", SONGS)

    def fill(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing._Tar, "_write", fill)
    with pytest.raises(OutputError, match=r"cannot be written to: no space is left.*; make room, or choose another"):
        pack(tmp_path / "root", tmp_path / "shards")
    assert not list((tmp_path / "shards").iterdir())


def test_what_a_killed_process_left_is_removed_once_it_is_old(tmp_path):
    write_root(tmp_path / "root", SONGS[:1])
    left = [tmp_path / "shards" / f".sepkit-{name}.part" for name in ("old", "new")]
    left[0].parent.mkdir()
    for path, age in zip(left, (7200, 0), strict=True):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    pack(tmp_path / "root", tmp_path / "shards")
    assert [path.exists() for path in left] == [False, True]


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path, server):
    write_root(tmp_path / "root", ["train/a"])
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file cannot be written to"):
        pack(tmp_path / "root", tmp_path / "file")
    with pytest.raises(OutputError, match=r"http.* cannot be written to: .*; choose another --output"):
        pack(tmp_path / "root", f"{server.url}/songs")


# What is wrong


def change_index(folder: Path, **values) -> None:
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({**index, **values}))


def change_row(folder: Path, column: str, value: object) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["rows"][1][index["columns"].index(column)] = value
    (folder / "index.json").write_text(json.dumps(index))


@pytest.fixture
def shards(tmp_path) -> Path:
    write_root(tmp_path / "root", SONGS)
    pack(tmp_path / "root", tmp_path / "shards")
    return tmp_path / "shards"


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("shard", 9, "row 2: shard must be below 5, got 9; pack the songs again with sepkit-data shard"),
        ("shard", -1, "row 2: shard must be a whole number >= 0, got -1"),
        ("offset", "x", "row 2: offset must be a whole number >= 0, got 'x'"),
        ("offset", 60000, r"row 2: 000000.vocals.wav ends behind its shard's end"),
        ("n_samples", 0, "row 2: n_samples must be a whole number >= 1, got 0"),
        ("n_channels", 1.5, "row 2: n_channels must be a whole number >= 1, got 1.5"),
        ("subtype", "PCM_24", "row 2: subtype must be one of PCM_16, FLOAT, got 'PCM_24'"),
        ("stem", None, "row 2: stem must be a name, got null"),
        ("split", "dev", "row 2: split must be one of train, valid, test, got 'dev'"),
        ("gain", "loud", "row 2: gain must be a finite number, got 'loud'"),
    ],
)
def test_a_wrong_row_of_an_index_is_named(shards, column, value, sentence):
    change_row(shards, column, value)
    with pytest.raises(DatasetError, match=sentence):
        open_shards(shards)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"format": "other"}, "its index.json is not that of shards"),
        ({"version": 2}, "version 1 of shards is wanted, got 2; .* or install a later sepkit"),
        ({"columns": ["shard"]}, "its index.json wants layout, shards, rows and columns shard, offset"),
        ({"shards": [["../00000.tar", 5, "0" * 64]]}, "shard 1: name, bytes and sha256 are wanted, got"),
        ({"shards": [["00000.tar", 5]]}, "shard 1: name, bytes and sha256 are wanted, got"),
        ({"rows": [[1]]}, "row 1: 15 values are wanted"),
    ],
)
def test_another_index_is_refused(shards, values, sentence):
    change_index(shards, **values)
    with pytest.raises(DatasetError, match=sentence):
        open_shards(shards)


def test_an_index_that_is_no_json_or_not_there_is_refused(shards, server):
    (shards / "index.json").write_text('{"format": "sepkit shards"')
    with pytest.raises(DatasetError, match=r"its index.json is no JSON; pack the songs again"):
        open_shards(shards)
    with pytest.raises(DatasetError, match=r"its index.json cannot be read \(.*\); check the address"):
        open_shards(f"{server.url}/nothing")


def test_a_shard_that_is_gone_or_another_one_is_named_before_the_first_step(shards):
    (shards / "00001.tar").unlink()
    (shards / "00002.tar").write_bytes(b"short")
    with pytest.raises(DatasetError) as found:
        open_songs(shards, "train", NAMES, RATE, 2)
    assert "00001.tar cannot be read (No such file or directory); bring it back" in str(found.value)
    assert re.search(r"00002.tar has 5 bytes, the index says \d+; bring the right one back", str(found.value))


def test_a_shard_that_is_replaced_or_removed_later_stops_with_its_name(shards):
    examples = dataset(shards, "test")
    os.utime(shards / "00004.tar", (1, 1))
    with pytest.raises(AudioError, match=r"00004.tar/000004.\w+.wav was changed after it was checked"):
        examples[0]
    (shards / "00004.tar").unlink()
    with pytest.raises(AudioError, match=r"00004.tar/000004.\w+.wav: No such file .*; check that it is still there"):
        examples[0]


def test_a_connection_that_breaks_once_is_tried_again(shards, server):
    root = publish(server, shards)
    expected = digest(dataset(shards))
    server.files["/songs/00000.tar"].cuts = [100, 50]
    assert digest(dataset(root)) == expected


def test_a_server_that_is_gone_stops_with_the_name(shards, server):
    examples = dataset(publish(server, shards), "test")
    server.files["/songs/00004.tar"] = Served(status=500)
    with pytest.raises(AudioError, match=r"Cannot read http.*00004.tar/000004.\w+.wav: .*; check the network"):
        examples[0]


def test_a_shard_at_an_address_that_is_another_one_is_refused(shards, server):
    examples = dataset(publish(server, shards), "test")
    server.put("/songs/00004.tar", b"other")
    with pytest.raises(AudioError, match=r"00004.tar has 5 bytes, its index says \d+: it was changed; pack it again"):
        examples[0]


def test_a_server_without_ranges_is_named(shards, server):
    examples = dataset(publish(server, shards), "test")
    server.files["/songs/00004.tar"].ranges = False
    with pytest.raises(AudioError, match="its server sends no parts of files; pack it again, or choose another server"):
        examples[0]


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(DatasetError, match=r"addresses are opened by fsspec; pip install 'sepkit\[shards\]'"):
        open_shards("s3://bucket/songs")


def test_an_address_that_nothing_reads_is_refused():
    pytest.importorskip("fsspec")
    with pytest.raises(DatasetError, match=r"Cannot open nowhere://songs/index.json: .*; write a path, or an address"):
        open_shards("nowhere://songs")


# The command


def test_the_command_packs_and_says_what_is_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_root(tmp_path / "root", ["train/a"])
    assert data_command(["shard", "root", "--output", "shards"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 shard of 1 track, 64 kB",
        "index      shards/index.json",
        "next       sepkit-train RECIPE data.root=shards",
    ]
    assert data_command(["shard", "root", "--output", "shards"]) == 2
    assert data_command(["shard", "nowhere", "--output", "other"]) == 1
    assert "there is no such folder" in capsys.readouterr().err
