"""sepkit-data get: open songs are fetched, checked, and laid out as a root with their licences."""

import csv
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from serving import Server, serving
from songs import RATE, noise

from sepkit import downloads
from sepkit.cli import data_command
from sepkit.datasets import fetching, open_songs
from sepkit.datasets.fetching import OpenFile, SongSet, fetch_songs, find_set, format_sets, list_sets, read_sets
from sepkit.datasets.manifest_files import read_manifest
from sepkit.disk import OutputError
from sepkit.downloads import DownloadError
from sepkit.files import is_safe_name, same_file_key

PLACES = {
    "one": ("train", {"vocals": ["lead", "choir"], "drums": ["kit"]}),
    "two": ("train", {"vocals": ["lead"], "drums": ["kit"]}),
    "three": ("test", {"vocals": ["voice #1"], "drums": ["kit"]}),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch):
    monkeypatch.setattr(downloads, "_PAUSES", (0.0, 0.0))


def content(seed: int) -> bytes:
    """Make a WAV file in memory."""
    file = io.BytesIO()
    soundfile.write(file, noise(seed), RATE, "PCM_16", format="WAV")
    return file.getvalue()


@pytest.fixture
def songs(server) -> SongSet:
    """Put a set of three songs on the server."""
    files = []
    for song, (split, roles) in PLACES.items():
        for role, stem in ((role, stem) for role, stems in roles.items() for stem in stems):
            sound = content(len(files))
            path = f"/{song}/{len(files)}%20{role}.wav"
            digest, by = hashlib.sha256(sound).hexdigest(), f'Somebody, "{song}"'
            url = server.put(path, sound)
            files.append(OpenFile(song, stem, role, 1.0, len(sound), digest, "CC0-1.0", by, split, url))
    return SongSet("open", tuple(files))


def fetch(songs: SongSet, root: Path, **options) -> Path:
    return fetch_songs(songs, root, **{"log": lambda _line: None, **options})


def described(root: Path) -> set[tuple[str, ...]]:
    rows = read_manifest(root / "manifest.csv").rows
    return {(row.split, row.track, row.stem, row.path.name, row.licence) for row in rows}


ALL = {
    ("train", "one", "vocals", "lead.wav", "CC0-1.0"),
    ("train", "one", "vocals", "choir.wav", "CC0-1.0"),
    ("train", "one", "drums", "kit.wav", "CC0-1.0"),
    ("train", "two", "vocals", "lead.wav", "CC0-1.0"),
    ("train", "two", "drums", "kit.wav", "CC0-1.0"),
    ("test", "three", "vocals", "voice #1.wav", "CC0-1.0"),
    ("test", "three", "drums", "kit.wav", "CC0-1.0"),
}


def test_a_set_becomes_a_root_with_a_manifest_and_licences(songs, tmp_path):
    lines = []
    assert fetch(songs, tmp_path / "root", log=lines.append) == tmp_path / "root"
    assert described(tmp_path / "root") == ALL
    assert (tmp_path / "root/train/one/vocals/choir.wav").read_bytes() == content(1)
    licences = (tmp_path / "root" / "LICENCES").read_text()
    for file in songs.files:
        assert file.url in licences
        assert file.sha256 in licences
        assert f"  attribution: {file.attribution}" in licences
    assert lines[0] == "open: 3 songs, 7 files, 224 kB"
    assert lines[1] == 'licence    CC0-1.0: Somebody, "one"'


def test_a_set_is_trained_on_with_the_files_of_a_stem_summed(songs, tmp_path):
    root = fetch(songs, tmp_path / "root")
    one, two = open_songs(root, "train", ["vocals", "drums"], RATE, 2, valid_share=0.0)
    assert (one.name, two.name, one.licence) == ("one", "two", "CC0-1.0")
    summed = torch.from_numpy(noise(0) + noise(1)).float().mT
    assert torch.equal(one.read_stem("vocals", 0, RATE), summed)


def test_the_manifest_goes_with_its_folder(songs, tmp_path):
    fetch(songs, tmp_path / "root").rename(tmp_path / "moved")
    rows = read_manifest(tmp_path / "moved" / "manifest.csv").rows
    assert all(row.path.is_relative_to(tmp_path / "moved") for row in rows)


def test_what_is_there_is_not_loaded_again(songs, server, tmp_path):
    fetch(songs, tmp_path / "root")
    (tmp_path / "root/train/two/drums/kit.wav").unlink()
    server.requests.clear()
    fetch(songs, tmp_path / "root")
    assert [path for path, _ in server.requests] == ["/two/4%20drums.wav"]
    assert described(tmp_path / "root") == ALL


def test_what_broke_off_goes_on_and_until_then_there_is_no_manifest(songs, server, tmp_path):
    server.files["/two/3%20vocals.wav"].cuts = [1000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match="the same command goes on"):
        fetch(songs, tmp_path / "root")
    assert not (tmp_path / "root" / "manifest.csv").exists()
    server.files["/two/3%20vocals.wav"].cuts = []
    server.requests.clear()
    fetch(songs, tmp_path / "root")
    assert server.requests[0] == ("/two/3%20vocals.wav", "bytes=1000-")
    assert described(tmp_path / "root") == ALL


def test_one_split_alone_and_the_other_later(songs, tmp_path):
    fetch(songs, tmp_path / "root", split="test")
    assert described(tmp_path / "root") == {row for row in ALL if row[0] == "test"}
    fetch(songs, tmp_path / "root", split="train")
    assert described(tmp_path / "root") == ALL


def test_a_split_without_songs_is_refused(songs, tmp_path):
    with pytest.raises(ValueError, match="split must be one for which open has songs, got valid; choose of train, tes"):
        fetch(songs, tmp_path / "root", split="valid")
    assert not (tmp_path / "root").exists()


def test_another_file_than_the_table_has_is_refused(songs, server, tmp_path):
    server.put("/one/0%20vocals.wav", content(90))
    with pytest.raises(DownloadError, match=f"{songs.files[0].sha256} is wanted: it was removed"):
        fetch(songs, tmp_path / "root")
    assert not list(tmp_path.rglob("*.wav"))


def test_a_damaged_file_is_loaded_again(songs, tmp_path):
    fetch(songs, tmp_path / "root")
    damaged = tmp_path / "root/train/one/vocals/lead.wav"
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    fetch(songs, tmp_path / "root")
    assert damaged.read_bytes() == content(0)


@pytest.mark.parametrize("name", ["manifest.csv", "LICENCES"])
def test_a_folder_with_other_songs_is_left_alone(songs, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds other songs, its {name} is not open's: choose another --output"):
        fetch(songs, tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_songs_that_have_no_room_are_refused_before_the_first(songs, server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "free_space", lambda _folder: 70_000_000)
    large = replace(songs, files=tuple(replace(file, size=10**7) for file in songs.files))
    with pytest.raises(OutputError, match="has no room for these songs: 70 MB lack and 70 MB are free"):
        fetch(large, tmp_path / "root")
    assert not server.requests


def test_a_name_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"name must be that of a set of open songs, got 'sekk'; did you mean 'sek'\?"):
        find_set("sekk")
    with pytest.raises(ValueError, match="got 'x'; choose of sek, boas"):
        find_set("x")


def test_the_table_of_the_package_is_in_order():
    sets = list_sets()
    files = [file for each in sets for file in each.files]
    assert len({file.url for file in files}) == len(files) > 100
    for file in files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.url.startswith("https://")
        assert file.split in ("train", "valid", "test")
        assert all(map(is_safe_name, file.place.parts))
        assert min(file.size, file.seconds, len(file.licence), len(file.attribution)) > 0
    for each in sets:
        assert len({same_file_key(str(file.place)) for file in each.files}) == len(each.files)
        splits = [each.songs(split) for split in each.splits]
        assert sum(map(len, splits)) == len(each.songs())  # no song is in two


def test_sets_are_listed_with_what_decides():
    head, *lines = format_sets(list_sets()).splitlines()
    assert head.split() == ["name", "songs", "minutes", "size", "stems", "licence", "by"]
    assert re.fullmatch(r"boas +1 test +1 +3.3 MB +bass, drums, other +CC0-1.0 +Mark Boas .*", lines[1])


def test_the_command_lists_and_fetches(songs, server, tmp_path, monkeypatch, capsys):
    table = io.StringIO()
    columns = ("set", "bytes", "song", "stem", "role", "seconds", "sha256", "licence", "attribution", "split", "url")
    writer = csv.DictWriter(table, columns)
    writer.writeheader()
    for file in songs.files:
        values = {name: getattr(file, name) for name in columns[2:]}
        writer.writerow({"set": "open", "bytes": file.size, **values})
    monkeypatch.setattr(fetching, "_sets", lambda: read_sets(table.getvalue()))
    monkeypatch.chdir(tmp_path)
    assert data_command(["get"]) == 0
    assert "2 train, 1 test" in capsys.readouterr().out
    assert data_command(["get", "open", "--split", "train"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-3:] == [
        "songs      songs/open",
        "licences   songs/open/LICENCES",
        "next       sepkit-data check songs/open",
    ]
    assert described(Path("songs/open")) == {row for row in ALL if row[0] == "train"}
    server.files.clear()
    assert data_command(["get", "open"]) == 1
    assert re.fullmatch("sepkit-data: http.* does not exist .*\n", capsys.readouterr().err)
    assert data_command(["get", "opem"]) == 2
