"""Every layout: recognised by its shape, named, read as what it is, trained on; what does not fit is told."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from layouts import TREES, dnr_v2, flat_tracks, manifest, moisesdb, msst_list, slakh, stem_folders, stems_of, write
from songs import RATE, noise, write_root, write_song
from test_musdb import with_ffmpeg, write_stem_file
from training import RECIPE, history

from sepkit import audio
from sepkit.datasets import DatasetError, SongDataset, open_songs, read_manifest, write_manifest
from sepkit.datasets.candidates import Wanted
from sepkit.datasets.catalogue import probe
from sepkit.datasets.choosing import choose
from sepkit.datasets.faults import check
from sepkit.datasets.findings import Severity
from sepkit.datasets.several import Source, open_sources
from sepkit.datasets.sources import ADAPTERS, LAYOUTS, describe_layout, find, set_aside
from sepkit.recipe import RecipeError, load_recipe
from sepkit.recipe.data_settings import Layout
from sepkit.training import train
from sepkit.training.opening import open_data

NETWORK = {"class": "BLSTM", "hidden_size": 4, "n_layers": 1, "dropout": 0.0, "n_bands": 8}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=TREES)
def tree(request, tmp_path):
    write_tree, layout, sources, whole = TREES[request.param]
    return write_tree(tmp_path / "set"), layout, sources, whole


def open_all(root: Path, split: str = "train", targets=None, **options):
    return open_songs(root, split, targets, RATE, 2, **options)


def read_stem(song, name: str) -> torch.Tensor:
    return song.read_stem(name, 0, song.n_samples)


def expected(waveform) -> torch.Tensor:
    return torch.from_numpy(waveform.T).float()


# Finding


def test_a_layout_is_recognised_by_its_shape_and_may_be_stated(tree):
    root, layout, _, _ = tree
    found = find(root)
    assert found.layout == layout
    assert not [finding for finding in found.findings if finding.severity == Severity.ERROR]
    assert find(root, layout).rows == found.rows


def test_what_was_found_is_a_manifest_that_can_be_written_and_read_again(tree):
    root, *_ = tree
    found = find(root)
    write_manifest(found, root / "listed.csv")
    again = read_manifest(root / "listed.csv")
    assert sorted(map(str, again.rows)) == sorted(map(str, found.rows))
    assert all(again.is_aligned(split) == found.is_aligned(split) for split in found.splits)


def test_every_layout_gives_songs_with_the_same_stems(tree):
    root, _, sources, whole = tree
    songs = open_all(root, targets=sources if whole else None, valid_share=0.0)
    assert {name for song in songs for name in song.parts} >= set(sources)
    assert len({song.identity for song in songs}) == len(songs)
    assert {song.split for song in songs} == {"train"}
    assert all(song.aligned == whole for song in songs)
    assert all(song.n_samples > RATE for song in songs)


def test_the_names_of_layouts_are_those_that_a_recipe_takes():
    assert set(Layout.__args__) == set(LAYOUTS)
    assert all(hasattr(adapter, "recognize") and hasattr(adapter, "find") for adapter in ADAPTERS.values())


def test_a_short_training_runs_on_every_layout(tree, tmp_path):
    root, _, sources, whole = tree
    roots = [{"root": str(root)}, str(flat_tracks(tmp_path / "whole"))] if not whole else str(root)
    logged: list[str] = []
    recipe = {
        **RECIPE,
        "separator": {**RECIPE["separator"], "sources": sources, "network": NETWORK},
        "data": {**RECIPE["data"], "root": roots, "remix": 0.5, "items_per_epoch": 4},
        "training": {**RECIPE["training"], "epochs": 1},
        "validation": {"excerpt": 1.0},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(recipe, tmp_path / "run", device="cpu", quiet=True, log=logged.append)
    assert len(history(tmp_path / "run")) == 1
    assert f"\n{root}: {describe_layout(find(root))}, " in logged[0]


@with_ffmpeg
@pytest.mark.parametrize("listed", [False, True])
def test_a_short_training_runs_on_stem_files(tmp_path, listed):
    root = tmp_path / "set"
    for seed, place in enumerate(("train/A", "train/B", "test/C")):
        write_stem_file(root / f"{place}.stem.mp4", seed=seed, n_samples=44100)
    assert describe_layout(find(root)) == "MUSDB18 (stem files)"
    if listed:
        write_manifest(find(root), root / "manifest.csv")
    separator = {**RECIPE["separator"], "sample_rate": 44100, "segment": 0.2, "network": NETWORK}
    recipe = {
        **RECIPE,
        "separator": separator,
        "data": {**RECIPE["data"], "root": str(root), "items_per_epoch": 4},
        "training": {**RECIPE["training"], "epochs": 1},
        "validation": {"excerpt": 1.0},
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*the mixture is not the sum")  # AAC changes it
        train(recipe, tmp_path / "run", device="cpu", quiet=True)
    assert len(history(tmp_path / "run")) == 1


# What the songs are


def test_the_takes_of_moisesdb_are_summed_and_shorter_ones_followed_by_silence(tmp_path):
    songs = open_all(moisesdb(tmp_path / "set"), targets=["vocals"], valid_share=0.0)
    assert [song.name for song in songs] == ["Artist - Song 0 (uuid-0)", "Artist - Song 1", "Artist - Song 0 (uuid-2)"]
    wanted = expected(stems_of(0)["vocals"])
    half = wanted.clone()
    half[:, -RATE // 4 :] *= 0.5
    torch.testing.assert_close(read_stem(songs[0], "vocals"), half, rtol=0, atol=1e-4)


def test_stems_of_slakh_are_called_by_class_and_mixed_down_to_the_recorded_mixture(tmp_path):
    songs = open_all(slakh(tmp_path / "set"), targets=["drums"])
    assert [(song.name, sorted(song.parts)) for song in songs] == [
        (f"Track0000{i}", ["bass", "drums", "strings_continued", "vocals"]) for i in (0, 1)
    ]
    torch.testing.assert_close(read_stem(songs[1], "drums")[0], expected(stems_of(1)["drums"])[0], rtol=0, atol=1e-4)
    assert songs[0].mixture is not None
    assert [song.name for song in open_all(tmp_path / "set", "valid")] == ["Track00002"]


def test_dnr_v3_holds_a_root_for_each_language(tmp_path):
    write_tree, *_ = TREES["DnR v3"]
    songs = open_all(write_tree(tmp_path / "set"), targets=["speech"])
    assert [song.name for song in songs] == ["deu/1000", "eng/1000"]
    assert all(sorted(song.parts) == ["music", "sfx", "speech"] and song.mixture for song in songs)


def test_a_manifest_says_part_gain_licence_tempo_and_key(tmp_path):
    songs = open_all(manifest(tmp_path / "set"), targets=["vocals"])
    song = songs[1]
    assert (song.tempo, song.key, song.licence, song.split, song.name) == (101.0, "A minor", "CC0", "train", "Song 1")
    assert song.identity == (str(tmp_path / "set"), "train", "Song 1")
    whole = expected(stems_of(1)["vocals"])
    torch.testing.assert_close(read_stem(song, "vocals"), whole[:, RATE // 2 :] * 10**-0.3, rtol=0, atol=1e-4)


def test_a_manifest_or_a_list_may_be_the_root_itself(tmp_path):
    inner = [song.name for song in open_all(manifest(tmp_path / "set"))]
    assert [song.name for song in open_all(tmp_path / "set" / "manifest.csv")] == inner
    assert len(open_all(msst_list(tmp_path / "list") / "train.csv")) == 12


def test_the_split_of_stem_folders_may_stand_in_the_names_of_files(tmp_path):
    for k, split in enumerate(("train", "validation", "test")):
        for stem in ("vocals", "drums"):
            write(tmp_path / stem / f"{stem}_{split}_{k:04d}_artist_title.wav", noise(k))
    (tmp_path / "metadata").mkdir()
    assert [row.split for row in find(tmp_path).rows] == ["test", "train", "valid"] * 2
    assert find(tmp_path).layout == "stem_folders"


def test_songs_to_validate_on_may_lie_beside_stem_folders(tmp_path):
    stem_folders(tmp_path / "set" / "train")
    for seed in (7, 8):
        write_song(tmp_path / "set" / "valid" / f"Song {seed}", stems_of(seed))
    opened = open_sources([Source(tmp_path / "set")], Wanted("train", ("vocals",), RATE, 2, allow_missing=True))
    assert opened.errors == []
    assert [song.aligned for song in opened.songs["valid"]] == [True, True]
    assert sorted(opened.songs["valid"][0].parts) == ["bass", "drums", "other", "vocals"]


def test_a_stem_that_two_roots_spell_otherwise_is_one(tmp_path):
    for root, n_songs, other in (("one", 2, "Bass"), ("two", 3, "bass")):
        for i in range(n_songs):
            for split in ("train", "valid"):
                stems = {"vocals": noise(i), other: noise(i + 9)}
                write_song(tmp_path / root / split / f"{root} {i}", stems)
    sources = [Source(tmp_path / "one"), Source(tmp_path / "two")]
    opened = open_sources(sources, Wanted("train", ("vocals",), RATE, 2))
    assert opened.errors == []
    assert {tuple(sorted(song.parts)) for song in opened.songs["train"]} == {("bass", "vocals")}


# What is refused or told


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("musdb", "layout must be one of manifest, .*, got 'musdb'"),
        ("stemfolders", "got 'stemfolders'; did you mean 'stem_folders'"),
    ],
)
def test_a_layout_of_no_such_name_is_refused(tmp_path, layout, message):
    with pytest.raises(ValueError, match=message):
        find(tmp_path, layout)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("moisesdb", "nothing of the layout moisesdb was found in it; give another root, or set data.layout"),
        ("manifest", "the layout manifest wants manifest.csv or manifest.json in it; write one"),
    ],
)
def test_a_stated_layout_that_a_root_has_not_is_refused(tmp_path, layout, message):
    with pytest.raises(DatasetError, match=message):
        find(flat_tracks(tmp_path / "set"), layout)


def test_two_manifests_are_refused_and_a_list_that_should_be_a_folder(tmp_path):
    manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"there are manifest.csv and manifest.json; keep one"):
        find(tmp_path)
    with pytest.raises(DatasetError, match=r"the layout slakh wants a folder, this is a file; give the folder"):
        find(tmp_path / "manifest.csv", "slakh")


def _no_take(root: Path) -> None:
    (root / "moisesdb_v0.1/uuid-0/vocals/vocals-a.wav").unlink()


def _no_json(root: Path) -> None:
    (root / "moisesdb_v0.1/uuid-0/data.json").write_text("{")


def _odd_json(root: Path) -> None:
    (root / "moisesdb_v0.1/uuid-1/data.json").write_text(json.dumps({"stems": [{"stemName": 3}]}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_take, r"uuid-0/vocals/vocals-a\.wav: is listed and is not there; get the track again, or remove it"),
        (_no_json, r"uuid-0/data\.json: cannot be used: .*; get the track again"),
        (_odd_json, r"uuid-1/data\.json: describes a stem without stemName and tracks"),
    ],
)
def test_a_description_of_moisesdb_that_is_wrong_is_named(tmp_path, spoil, message):
    root = moisesdb(tmp_path / "set")
    (root / "moisesdb_v0.1/a first one").mkdir()
    shutil.copytree(root / "moisesdb_v0.1/uuid-2", root / "moisesdb_v0.1/a first one", dirs_exist_ok=True)
    spoil(root)
    with pytest.raises(DatasetError, match=message):
        open_all(root)


def _no_stem(root: Path) -> None:
    (root / "train/Track00000/stems/S00.flac").unlink()


def _no_class(root: Path) -> None:
    path = root / "train/Track00000/metadata.yaml"
    path.write_text(path.read_text().replace("inst_class: Bass", "inst_class: 3"))


def _no_stems(root: Path) -> None:
    (root / "train/Track00000/metadata.yaml").write_text("UUID: x\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_stem, r"stems/S00\.flac: is listed and is not there; get the track again, or remove it"),
        (_no_class, r"stems/S02\.flac: is of no class of instruments by metadata\.yaml; add its inst_class"),
        (_no_stems, r"metadata\.yaml: cannot be used: it lists no stems; get the track again"),
    ],
)
def test_a_description_of_slakh_that_is_wrong_is_named(tmp_path, spoil, message):
    root = slakh(tmp_path / "set")
    spoil(root)
    with pytest.raises(DatasetError, match=message):
        open_all(root)


def test_lines_of_a_list_that_are_wrong_are_named(tmp_path):
    root = msst_list(tmp_path / "set")
    with (root / "train.csv").open("a") as file:
        file.write("\nvocals,nowhere.wav\n,anywhere/0-vocals.wav\n")
    with pytest.raises(DatasetError, match=r"train.csv: line 14: nowhere.wav is not there; .*correct it, or remove"):
        open_all(root)
    with pytest.raises(DatasetError, match="line 15: instrum and path must both be there"):
        open_all(root)


@pytest.mark.parametrize("layout", ["stem folders", "MSST list"])
def test_tracks_of_one_stem_cannot_be_validated_on_nor_drawn_whole(tmp_path, layout):
    root = TREES[layout][0](tmp_path / "set")
    with pytest.raises(DatasetError, match="none of train can be validated on: each has one stem alone; name another"):
        open_all(root, "valid")
    with pytest.raises(ValueError, match=r"can only be remixed, got remix 0.5: set data.remix: 1, or add songs whose"):
        SongDataset(open_all(root), ["vocals"], RATE, remix=0.5)


def test_files_of_the_same_name_may_belong_together_so_that_the_layout_is_to_be_stated(
    tmp_path,
):
    for stem in ("vocals", "drums"):
        for k in range(2):
            write(tmp_path / "train" / stem / f"{k}.wav", noise(k))
    with pytest.raises(DatasetError, match=r"set data\.layout: stem_folders where files of different folders do not"):
        open_all(tmp_path)
    assert len(open_all(tmp_path, layout="stem_folders")) == 4


def test_what_lies_beside_a_layout_is_told(tmp_path):
    root = moisesdb(tmp_path / "set")
    for k in range(7):
        write(root / "moisesdb_v0.1/uuid-0/vocals" / f"extra{k}.wav", noise(k))
    with pytest.warns(UserWarning, match=r"extra0.wav: is not read: data.json does not list it .so too: .* and 2 more"):
        open_all(root, targets=["vocals"])


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def findings_of(root: Path, layout: str | None = None) -> list[str]:
    return [f"{finding.severity.name} {finding}" for finding in find(root, layout).findings]


@pytest.mark.parametrize(
    ("names", "second"),
    [
        (["train/A/vocals.flac", "train/A/vocals.wav", "train/A/drums.wav"], "train/A/vocals.wav"),
        (["A_vocals.flac", "A_vocals.wav", "A_drums.wav"], "A_vocals.wav"),
        (["A (vocals).wav", "A - vocals.wav", "A_drums.wav"], "A - vocals.wav"),
        (["A - mix.wav", "A - mixture.wav", "A - vocals.wav"], "A - mixture.wav"),
        (["tr/1/speech.wav", "tr/1/music.wav", "tr/1/sfx.wav", "tr/1/mix.wav", "tr/1/mixture.wav"], "tr/1/mixture.wav"),
        (["tr/1/speech.flac", "tr/1/speech.wav", "tr/1/music.wav", "tr/1/sfx.wav"], "tr/1/speech.wav"),
    ],
)
def test_a_second_file_for_a_stem_is_refused_and_never_summed(tmp_path, names, second):
    (found,) = findings_of(touch(tmp_path, *names))
    assert found.startswith(f"ERROR {tmp_path / second}: there is another file for the stem ")


@pytest.mark.parametrize(("own", "copy"), [("mix.flac", "mix.wav"), ("stems/S01.flac", "stems/S01.wav")])
def test_a_second_file_beside_what_slakh_lists_is_refused(tmp_path, own, copy):
    place = slakh(tmp_path) / "train/Track00000"
    shutil.copy(place / own, place / copy)
    assert any(f"{copy}: there is another file for the stem" in found for found in findings_of(tmp_path))


def test_a_take_that_is_there_in_two_formats_is_refused(tmp_path):
    place = moisesdb(tmp_path) / "moisesdb_v0.1/uuid-0"
    shutil.copy(place / "bass/bass-a.wav", place / "bass/bass-a.flac")
    description = json.loads((place / "data.json").read_text())
    (bass,) = (stem for stem in description["stems"] if stem["stemName"] == "bass")
    bass["tracks"].append({"id": "bass-a", "extension": "flac"})
    (place / "data.json").write_text(json.dumps(description))
    assert any("bass-a.flac: there is another file for the stem 'bass'" in found for found in findings_of(tmp_path))


@pytest.mark.parametrize("name", [name for name in TREES if name not in ("MSST list", "manifest")])
def test_a_folder_with_audio_that_no_layout_reads_is_told(tmp_path, name):
    root = TREES[name][0](tmp_path)
    expected = find(root).rows
    layout = find(root).layout
    aside = Path("extra/deep") if name != "DnR v3" else Path("eng/extra/deep")
    if name in ("flat tracks", "tracks with mixtures"):
        aside = Path("Song 0/extra/deep")
    touch(root, f"{aside}/guitar.wav", f"{aside}/piano.wav")
    told = f"WARNING {root / aside}: holds audio that is not read; lay it out as the others, or remove it"
    assert told in findings_of(root, layout)
    assert find(root, layout).rows == expected


def test_audio_of_splits_that_are_not_asked_for_is_not_told(tree):
    root, _, _, _ = tree
    present = find(root).splits
    assert not [found for split in present for found in find(root, None, [split]).findings]


def test_links_to_what_is_not_there_are_missing_stems_and_songs(tmp_path):
    write_root(tmp_path, ["train/a", "train/b", "valid/c"])
    (tmp_path / "train/lost").symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning, match=r"train/lost: is a link to what is not there; bring that back, or remove"):
        open_all(tmp_path, targets=["vocals"])
    (tmp_path / "train/a/guitar.wav").symlink_to(tmp_path / "nowhere.wav")
    with pytest.raises(DatasetError, match=r"Cannot open .*train/a/guitar\.wav: No such file"):
        open_all(tmp_path, targets=["vocals"])


def test_a_set_is_recognised_where_its_first_track_is_damaged(tmp_path):
    (moisesdb(tmp_path / "m") / "moisesdb_v0.1/uuid-0/data.json").write_text("{")
    assert any("uuid-0/data.json: cannot be used" in found for found in findings_of(tmp_path / "m"))
    names = [f"tr/{k}/{stem}.wav" for k in range(3) for stem in ("speech", "music", "sfx") if (k, stem) != (0, "sfx")]
    assert find(touch(tmp_path / "d", *names)).layout == "dnr"


@pytest.mark.parametrize(("layout", "why"), [("slakh", "has no metadata.yaml"), ("flat_files", "not end in a stem")])
def test_a_layout_that_a_root_has_not_is_refused_with_what_was_found(tmp_path, layout, why):
    root = touch(tmp_path, "train/a/vocals.wav", "train/a.wav")
    with pytest.raises(DatasetError, match=rf"nothing of the layout {layout} was found in it(.|\n)*{why}"):
        find(root, layout, ["train"])


def test_a_split_that_all_tracks_fell_out_of_is_named_with_why(tmp_path):
    for path in slakh(tmp_path).glob("train/*/metadata.yaml"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"no track of train .found: valid.*\n.*it has no metadata.yaml"):
        open_all(tmp_path)


def test_folders_of_vocals_and_of_all_else_are_stem_folders(tmp_path):
    manifest = find(touch(tmp_path, "vocals/a.wav", "vocals/b.wav", "instrumental/c.wav"))
    assert manifest.layout == "stem_folders"
    assert [row.stem for row in manifest.rows] == ["instrumental", "vocals", "vocals"]
    (found,) = findings_of(touch(tmp_path, "drums/d.wav", "bass/e.wav"))
    assert "instrumental: is not read" in found


@pytest.mark.parametrize("head", ["Instrum,Path", '"instrum","path"', "\ninstrum, path", "path,instrum"])
def test_the_columns_of_a_list_are_found(tmp_path, head):
    root = touch(tmp_path, "a.wav", "b.wav")
    lines = ["a.wav,vocals", "a.wav,vocals"] if head.startswith("path") else ["vocals,a.wav", "vocals,a.wav"]
    (root / "train.csv").write_text("\n".join([head, *lines]))
    (found,) = findings_of(root)
    first = 2 + head.count("\n")
    assert f"line {first + 1}: a.wav is on line {first}, too; correct it, or remove the line" in found


# Names of stems and files


@pytest.mark.parametrize("name", ["Vocals.WAV", "VOCALS.wav", "vocals.Wav"])
def test_a_stem_is_its_name_in_upper_or_lower_case(tmp_path, name):
    write_root(tmp_path, ["train/a", "train/b", "valid/c"])
    (tmp_path / "train/a/vocals.wav").rename(tmp_path / "train/a" / name)
    songs = open_all(tmp_path, targets=["vocals"])
    assert [sorted(song.parts) for song in songs] == [["drums", "vocals"]] * 2


def test_a_stem_that_is_there_in_upper_and_in_lower_case_is_named(tmp_path):
    write_root(tmp_path, ["train/a", "valid/c"])
    shutil.copy(tmp_path / "train/a/vocals.wav", tmp_path / "train/a/Vocals.wav")
    with pytest.raises(DatasetError, match="a: 'Vocals' and 'vocals' are one stem in upper and lower case; keep one"):
        open_all(tmp_path, targets=["vocals"])


def test_stems_that_are_not_wanted_are_the_same_in_upper_and_lower_case(tmp_path):
    write_root(tmp_path, ["train/a", "train/b", "train/c", "valid/d"])
    (tmp_path / "train/a/drums.wav").rename(tmp_path / "train/a/Drums.WAV")
    songs = open_all(tmp_path, targets=["vocals"])
    assert [sorted(song.parts) for song in songs] == [["drums", "vocals"]] * len(songs)


def test_a_file_that_lists_nothing_is_no_root(tmp_path):
    (tmp_path / "song.wav").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"it is no folder; give one with train/, .* or a manifest"):
        open_all(tmp_path / "song.wav", targets=["vocals"])


def test_litter_is_passed_over_and_a_stem_in_a_folder_below_is_told(tmp_path):
    write_root(tmp_path, ["train/a", "train/b", "valid/c"])
    for name in ("._vocals.wav", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "train/a" / name).write_bytes(b"litter")
    write(tmp_path / "train/b/more/guitar.wav", noise(0))
    with pytest.warns(UserWarning, match=r"more/guitar\.wav is not read: a stem lies in the folder of its song itself"):
        songs = open_all(tmp_path, targets=["vocals"])
    assert [sorted(song.parts) for song in songs] == [["drums", "vocals"]] * 2


# Stem maps


def test_a_stem_is_the_sum_of_those_that_it_is_made_of(tmp_path):
    root = write_root(tmp_path, ["train/a", "valid/c"], names=["vocals", "guitar", "Piano"])
    (song,) = open_all(root, targets=["other"], stems={"other": ["guitar", "piano"]})
    assert sorted(song.parts) == ["other", "vocals"]
    read = [audio.read(root / "train/a" / f"{name}.wav")[0] for name in ("guitar", "Piano")]
    torch.testing.assert_close(read_stem(song, "other"), sum(read), rtol=0, atol=1e-6)


def test_a_song_without_the_parts_of_a_map_keeps_its_own_stem_or_lacks_it(tmp_path):
    write_root(tmp_path, ["train/a", "valid/c"], names=["vocals", "guitar"])
    write_root(tmp_path, ["train/b"], names=["vocals", "other"])
    write_root(tmp_path, ["train/c"], names=["vocals", "drums"])
    stems = {"other": ["guitar", "piano"]}
    songs = open_all(tmp_path, targets=["vocals", "other"], stems=stems, allow_missing=True)
    assert [sorted(song.parts) for song in songs] == [["other", "vocals"], ["other", "vocals"], ["drums", "vocals"]]
    dataset = SongDataset(songs, ["vocals", "other"], RATE // 2, 30)
    present = dataset.presence([(0, i) for i in range(30)])
    assert present[:, 0].all()
    assert 0 < int(present[:, 1].sum()) < 30
    with pytest.raises(DatasetError, match="train/c: the stem 'other' is missing"):
        open_all(tmp_path, targets=["vocals", "other"], stems=stems)


def test_a_stem_beside_those_that_it_is_made_of_must_be_listed(tmp_path):
    write_root(tmp_path, ["train/a", "valid/c"], names=["vocals", "guitar", "other"])
    with pytest.raises(
        DatasetError, match=r"data\.stems makes 'other' of guitar, and there is a stem 'other', too; list"
    ):
        open_all(tmp_path, targets=["other"], stems={"other": ["guitar"]})
    (song,) = open_all(tmp_path, targets=["other"], stems={"other": ["guitar", "other"]})
    assert len(song.stems["other"].files) == 2


# Several roots


def recipe_of(root, **data):
    return load_recipe({**RECIPE, "data": {**RECIPE["data"], "root": root, **data}})


def test_roots_have_weights_layouts_and_stem_maps_of_their_own(tmp_path):
    first = write_root(tmp_path / "first", ["train/a", "valid/a"])
    second = write_root(tmp_path / "second", ["train/a", "train/b"], names=["lead", "drums"])
    own = {"root": str(second), "weight": 0.25, "layout": "song_folders", "stems": {"vocals": ["lead"]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        songs = open_data(recipe_of([str(first), own]))
    assert [(song.root, song.split, song.name, song.weight) for song in songs["train"]] == [
        (str(first), "train", "a", 1.0), (str(second), "train", "a", 0.25), (str(second), "train", "b", 0.25),
    ]  # fmt: skip
    assert [song.identity for song in songs["valid"]] == [(str(first), "valid", "a")]
    assert all(sorted(song.parts) == ["drums", "vocals"] for song in songs["train"])


def test_songs_are_set_aside_of_each_root_only_where_none_has_some(tmp_path):
    roots = [str(write_root(tmp_path / name, [f"{name}{k}" for k in range(3)])) for name in ("one", "two")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        songs = open_data(recipe_of(roots))
    assert [len(songs[split]) for split in ("train", "valid")] == [4, 2]
    assert {song.root for song in songs["valid"]} == set(roots)


def test_a_target_may_be_in_one_of_the_roots_alone(tmp_path):
    first = write_root(tmp_path / "first", ["train/a", "valid/a"], names=["vocals", "bass"])
    second = write_root(tmp_path / "second", ["train/b", "valid/b"], names=["drums", "bass"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [len(songs) for songs in open_data(recipe_of([str(first), str(second)])).values()] == [2, 2]
        third = write_root(tmp_path / "third", ["train/c"], names=["bass", "keys"])
        with pytest.raises(DatasetError, match="third/train/c: the stem 'vocals' is missing"):
            open_data(recipe_of([str(first), str(second), str(third)]))


def test_roots_without_songs_to_validate_on_are_refused(tmp_path):
    roots = [str(TREES[name][0](tmp_path / name)) for name in ("stem folders", "MSST list")]
    with pytest.raises(DatasetError, match="no root has songs of valid; add some to one of them, or another root"):
        open_data(recipe_of(roots, remix=1.0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"root": []}, "data.root: must not be empty"),
        ({"root": ["a", ""]}, "data.root.1: must not be empty"),
        ({"root": 3}, "data.root: must be a string, got 3"),
        ({"root": ["a", "a"]}, "data.root: must name each root once, a is there twice; give it a weight"),
        ({"root": [{"root": "a", "wieght": 2.0}]}, r"data.root.0.wieght: unknown key; did you mean 'weight'"),
        ({"root": [{"root": "a", "weight": 0.0}]}, "data.root.0.weight: must be > 0"),
        ({"root": {"root": "a", "layout": "slak"}}, "data.root.layout: must be .*, got 'slak'; did you mean 'slakh'"),
        ({"root": [{"weight": 1.0}]}, "data.root.0.root: must be given"),
        ({"layout": "dnr2"}, "data.layout: must be .*, got 'dnr2'; did you mean 'dnr'"),
        ({"stems": {"other": []}}, "data.stems.other: must not be empty"),
        ({"stems": {"other": "guitar"}}, "data.stems.other: must be a list, got 'guitar'"),
        ({"stems": {"a": ["x"], "b": ["X"]}}, "data.stems: must name each stem once, 'x' is there twice"),
        ({"root": [{"root": "a", "stems": {"b": ["x", "x"]}}]}, "data.root.0.stems: must name each stem once, 'x'"),
    ],
)
def test_roots_and_stem_maps_that_are_wrong_are_refused_at_their_place(data, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(**{"root": "songs", **data})


@pytest.mark.parametrize("own", [False, True])
def test_a_stem_map_that_names_what_no_song_has_is_refused_at_its_place(tmp_path, own):
    root = str(write_root(tmp_path / "set", ["train/a", "valid/c"], names=["vocals", "drums", "guitar"]))
    stems = {"other": ["guitar", "pianos"]}
    recipe = recipe_of([{"root": root, "stems": stems}]) if own else recipe_of(root, stems=stems)
    place = r"data\.root\.0\.stems\.other\.1" if own else r"data\.stems\.other\.1"
    with pytest.raises(RecipeError, match=rf"{place}: no song in .* has the stem 'pianos' \(there are: drums, guitar"):
        open_data(recipe)


# The four functions


def test_what_was_probed_is_remembered_by_path_size_and_time(tmp_path, cache, monkeypatch):
    root = write_root(tmp_path / "set", ["train/a", "valid/c"])
    first = probe(find(root))
    probed: list[str] = []
    known = audio.probe
    monkeypatch.setattr("sepkit.audio.probe", lambda path: probed.append(str(path)) or known(path))
    assert probe(find(root)).infos == first.infos
    assert probed == []
    write(root / "train/a/vocals.wav", noise(7, 2 * RATE))
    changed = probe(find(root))
    assert probed == [str(root / "train/a/vocals.wav")]
    row = next(row for row in changed.manifest.rows if row.path.name == "vocals.wav" and row.split == "train")
    assert changed.info(row).n_samples == 2 * RATE
    (cache / "measured").rename(cache / "gone")
    assert probe(find(root)).infos == changed.infos


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg"])
def test_what_is_remembered_is_what_a_probe_finds(tmp_path, suffix):
    subtype = {".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}.get(suffix, "PCM_16")
    root = write_root(tmp_path / "set", ["train/a", "valid/b"], suffix=suffix, subtype=subtype)
    path = root / "train/a" / f"vocals{suffix}"
    path.write_bytes(path.read_bytes()[:-700])  # damaged or truncated, but for MP3
    probe(find(root))
    remembered = probe(find(root)).infos
    assert remembered == {sound: audio.probe(sound[0]) for sound in remembered}


def test_a_file_that_cannot_be_read_is_a_finding_and_is_looked_at_again(tmp_path):
    root = write_root(tmp_path / "set", ["train/a", "train/b", "valid/c"])
    (root / "train/a/vocals.wav").write_text("no audio")
    catalogue = probe(find(root))
    (finding,) = catalogue.findings
    assert (finding.severity, finding.file) == (Severity.ERROR, root / "train/a/vocals.wav")
    wanted = Wanted("train", ("vocals",), RATE, 2)
    assert [str(each) for each in check(catalogue, wanted)] == [str(finding)]
    assert [each.severity for each in check(catalogue, Wanted("valid", ("vocals",), RATE, 2))] == []


def test_find_probe_check_and_choose_make_songs(tmp_path):
    catalogue = probe(set_aside(find(flat_tracks(tmp_path / "set")), 0.34))
    wanted = Wanted("valid", ("vocals",), RATE, 2)
    assert check(catalogue, wanted) == []
    (song,) = choose(catalogue, wanted, weight=2.0)
    assert (song.weight, song.split) == (2.0, "valid")


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        ("rate", "44100", r"a\.wav: has 8000 Hz, its manifest says 44100; correct the manifest"),
        ("start,end", "0.5,1.5", r"a\.wav: has 1 s, its manifest says from 0.5 s to 1.5 s; correct the manifest"),
        ("start", "1", r"a\.wav: has 1 s, its manifest says from 1 s; correct the manifest"),
    ],
)
def test_a_file_that_is_not_what_its_manifest_says_is_named(tmp_path, columns, values, message):
    write(tmp_path / "a.wav", noise(0))
    write(tmp_path / "b.wav", noise(1))
    empty = "," * values.count(",")
    lines = [f"path,stem,track,split,{columns}", f"a.wav,vocals,S,train,{values}", f"b.wav,drums,S,train{empty},"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    with pytest.raises(DatasetError, match=message):
        open_all(tmp_path, targets=["vocals"], valid_share=0.0)


def test_stems_of_a_manifest_may_differ_in_length_and_are_told_where_by_much(tmp_path):
    write(tmp_path / "a.wav", noise(0, 4 * RATE))
    write(tmp_path / "b.wav", noise(1, 2 * RATE))
    lines = ["path,stem,track,split", "a.wav,vocals,S,train", "b.wav,drums,S,train"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="S: the lengths differ by 2.0 s; shorter stems are silent to the end"):
        (song,) = open_all(tmp_path, targets=["vocals"])
    assert song.n_samples == 4 * RATE
    assert not read_stem(song, "drums")[:, 2 * RATE :].any()


def test_dnr_is_not_taken_for_song_folders_of_another_name(tmp_path):
    root = dnr_v2(tmp_path / "set")
    assert [song.name for song in open_all(root, "test")] == ["1002"]
    write(root / "tr/1000/extra.wav", noise(0))
    assert find(root, "dnr").layout == "dnr"


def test_remixed_examples_take_all_stems_of_sets_of_single_stems(tmp_path):
    songs = open_all(stem_folders(tmp_path / "set"))
    dataset = SongDataset(songs, ["vocals"], RATE // 2, 20, remix=1.0)
    assert sorted(dataset.stems) == ["bass", "drums", "other", "vocals"]
    assert all(dataset.plan((0, i)).present == (True,) * 4 for i in range(20))
    whole = open_all(flat_tracks(tmp_path / "whole"), valid_share=0.0)
    both = SongDataset([*songs, *whole], ["vocals"], RATE // 2, 20, remix=0.5)
    plans = [both.plan((0, i)) for i in range(20)]
    assert {plan.remixed for plan in plans} == {True, False}
    assert all(both.songs[plan.songs[0]].aligned for plan in plans if not plan.remixed)
