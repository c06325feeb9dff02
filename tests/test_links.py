"""Files to which several names lead are told where they would count twice; stems that are sums of others."""

import os
from pathlib import Path

import pytest
from layouts import moisesdb
from songs import RATE, noise, write_song

from sepkit.datasets import AudioFolder, DatasetError, open_songs
from sepkit.datasets.packing import write_shards

HEADER = "path,stem,track,split,start,end"


def link(kind: str, name: Path, target: Path) -> None:
    name.unlink(missing_ok=True)
    (os.symlink if kind == "symbolic" else os.link)(target, name)


def open_listed(root: Path, *lines: str) -> list:
    (root / "manifest.csv").write_text("\n".join([HEADER, *lines]))
    return open_songs(root, "train", None, RATE, 2, valid_share=0.0)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_song(tmp_path, {"a": noise(0), "b": noise(1)})


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_file_is_not_summed_twice_in_a_stem(folder, kind):
    link(kind, folder / "c.wav", folder / "a.wav")
    match = r"c\.wav: is the same file as .*a\.wav and would be summed twice in 'v'; remove one"
    with pytest.raises(DatasetError, match=match):
        open_listed(folder, "a.wav,v,S,train,,", "b.wav,v,S,train,,", "c.wav,v,S,train,,")


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_file_that_is_two_stems_of_a_mixture_is_told(folder, kind):
    link(kind, folder / "c.wav", folder / "a.wav")
    match = r"c\.wav: is the same file as .*a\.wav, and the mixture holds it twice; replace one, if it is not silent"
    with pytest.warns(UserWarning, match=match):
        open_listed(folder, "a.wav,v,S,train,,", "c.wav,w,S,train,,")


@pytest.mark.filterwarnings("error")
def test_parts_of_a_file_and_equal_copies_are_no_links(folder):
    link("hard", folder / "c.wav", folder / "a.wav")
    (folder / "copy.wav").write_bytes((folder / "b.wav").read_bytes())
    status = os.stat(folder / "b.wav")
    os.utime(folder / "copy.wav", ns=(status.st_atime_ns, status.st_mtime_ns))
    lines = ["a.wav,v,S,train,0,0.5", "c.wav,v,S,train,0.5,", "b.wav,v,S,train,,", "copy.wav,v,S,train,,"]
    assert len(open_listed(folder, *lines, "c.wav,v,T,train,,")) == 2


def test_a_take_of_moisesdb_that_is_a_link_to_another_is_refused(tmp_path):
    place = moisesdb(tmp_path) / "moisesdb_v0.1/uuid-0/bass"
    link("symbolic", place / "bass-b.wav", place / "bass-a.wav")
    with pytest.raises(DatasetError, match=r"bass-b\.wav: is the same file as .* summed twice in 'bass'"):
        open_songs(tmp_path, "train", None, RATE, 2, valid_share=0.0)


def test_a_stem_map_may_make_a_sum_of_links(folder):
    link("symbolic", folder / "c.wav", folder / "a.wav")
    lines = ["a.wav,v,S,train,,", "b.wav,x,S,train,,", "c.wav,w,S,train,,"]
    (folder / "manifest.csv").write_text("\n".join([HEADER, *lines]))
    with pytest.raises(DatasetError, match="summed twice in 'all'"):
        open_songs(folder, "train", None, RATE, 2, valid_share=0.0, stems={"all": ["v", "w"]})


def test_an_audio_folder_takes_a_layout_and_a_stem_map(folder):
    (folder / "manifest.csv").write_text("\n".join([HEADER, "a.wav,guitar,S,train,,", "b.wav,piano,S,train,,"]))
    named = {"sample_rate": RATE, "num_channels": 2, "valid_share": 0.0}
    dataset = AudioFolder(folder, ["other"], 0.5, **named, stems={"other": ["guitar", "piano"]}, layout="manifest")
    assert dataset.targets == dataset.stems == ["other"]
    with pytest.raises(DatasetError, match=r"no song has the stem 'guitars', of which stems makes 'other' .*'guitar'"):
        AudioFolder(folder, ["other"], 0.5, **named, stems={"other": ["guitars", "piano"]})


@pytest.mark.filterwarnings("error")
def test_files_in_a_tar_are_no_links(folder, tmp_path):
    (folder / "manifest.csv").write_text("\n".join([HEADER, "a.wav,v,S,train,,", "b.wav,w,S,train,,"]))
    write_shards(folder, tmp_path / "shards", log=str)
    (song,) = open_songs(tmp_path / "shards", "train", None, RATE, 2, valid_share=0.0)
    assert song.parts == ["v", "w"]
