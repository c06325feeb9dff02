"""Manifests: what they say, what is refused with the line, and that what was written is read again."""

import json
import math
import os
import re
from pathlib import Path

import pytest

from sepkit.datasets import DatasetError, Manifest, Row, manifest, read_manifest, write_manifest
from sepkit.datasets.keys import normalize_key, parse_key
from sepkit.datasets.sources import find
from sepkit.disk import OutputError

HEADER = "path,stem,track,split"


def place(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def read_csv(root: Path, *lines: str, header: str = HEADER) -> Manifest:
    place(root, "a.wav", "b.wav", "c.wav")
    (root / "manifest.csv").write_text("\n".join([header, *lines]), encoding="utf-8", errors="surrogateescape")
    return read_manifest(root / "manifest.csv")


def read_json(root: Path, text: str) -> Manifest:
    place(root, "a.wav", "b.wav")
    (root / "manifest.json").write_text(text, encoding="utf-8")
    return read_manifest(root / "manifest.json")


def test_a_row_needs_path_stem_track_and_split_alone(tmp_path):
    manifest = read_csv(tmp_path, "a.wav,vocals,Song,train")
    assert manifest.rows == (Row(tmp_path / "a.wav", "vocals", "Song", "train"),)
    assert (manifest.root, manifest.splits) == (tmp_path, ("train",))
    row = manifest.rows[0]
    assert (row.start, row.end, row.rate, row.gain, row.tempo, row.key, row.licence) == (
        0.0,
        None,
        None,
        0.0,
        *[None] * 3,
    )


@pytest.mark.parametrize("rate", ["44100", "44100.0", "4.41e4"])
def test_a_rate_is_taken_as_tables_write_it(tmp_path, rate):
    (row,) = read_csv(tmp_path, f"a.wav,v,S,train,{rate}", header=HEADER + ",rate").rows
    text = f'[{{"path": "a.wav", "stem": "v", "track": "S", "split": "train", "rate": {rate}}}]'
    (other,) = read_json(tmp_path, text).rows
    assert (row.rate, type(row.rate)) == (other.rate, type(other.rate)) == (44100, int)


def test_columns_come_in_any_order_and_cells_may_be_empty(tmp_path):
    header = "licence,track,split,stem,path,start,end,rate,gain,tempo,key"
    manifest = read_csv(
        tmp_path, 'CC0,"Song, The",test,drums,a.wav,1.5,9,44100,-3,120,Am', ",S,train,bass,b.wav,,,,,,", header=header
    )
    assert manifest.rows[0] == Row(
        tmp_path / "a.wav", "drums", "Song, The", "test", 1.5, 9.0, 44100, -3.0, 120.0, "A minor", "CC0"
    )
    assert manifest.rows[1] == Row(tmp_path / "b.wav", "bass", "S", "train")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_byte_order_marks_blank_lines_and_spaces_do_not_matter(tmp_path, ending, mark):
    place(tmp_path, "a.wav", "b.wav")
    lines = [
        mark + " Path , stem,track, split",
        "",
        "a.wav, vocals , Song, train ",
        " , , , ",
        "b.wav,drums,Song,train",
        "",
    ]
    (tmp_path / "manifest.csv").write_bytes(ending.join(lines).encode())
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert [(row.path.name, row.stem, row.track, row.split) for row in manifest.rows] == [
        ("a.wav", "vocals", "Song", "train"),
        ("b.wav", "drums", "Song", "train"),
    ]


def test_paths_are_relative_to_the_manifest_or_absolute(tmp_path, monkeypatch):
    place(tmp_path, "sets/one/a.wav", "elsewhere/b.wav")
    lines = [
        HEADER,
        "one/a.wav,vocals,S,train",
        "../elsewhere/b.wav,bass,S,train",
        f"{tmp_path}/sets/../sets/one/a.wav,x,T,test",
    ]
    (tmp_path / "sets" / "m.csv").write_text("\n".join(lines[:3]))
    monkeypatch.chdir(tmp_path / "sets")
    paths = [row.path for row in read_manifest("m.csv").rows]
    assert paths == [tmp_path / "sets/one/a.wav", tmp_path / "elsewhere/b.wav"]
    (tmp_path / "sets" / "m.csv").write_text("\n".join([lines[0], lines[3]]))
    assert read_manifest("m.csv").rows[0].path == tmp_path / "sets/one/a.wav"


FULL = HEADER + ",start,end,rate,gain,tempo,key"


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        (
            HEADER + ",steem",
            ["a.wav,v,S,train,x"],
            r"line 1: there is no column 'steem' in a manifest; did you mean 'stem'\?",
        ),
        (
            HEADER + ",bpm2",
            ["a.wav,v,S,train,x"],
            "line 1: there is no column 'bpm2' in a manifest; remove it .there are: path",
        ),
        (
            "path,stem,track",
            ["a.wav,v,S"],
            "line 1: the column 'split' is missing; wanted is a first line such as path,stem",
        ),
        (HEADER + ",stem", ["a.wav,v,S,train,x"], "line 1: the column 'stem' is there twice; keep one"),
        ("a.wav,vocals,S,train", [], "line 1: it does not name the columns; wanted is a first line such as path,stem"),
        ("path;stem;track;split", ["a.wav;v;S;train"], "line 1: the columns are divided by ';', not by commas"),
        (HEADER, [], "it lists no file; add rows"),
        (HEADER, ["a.wav,v,S"], "line 2: it has 3 values, wanted are 4; put values with commas into quotes"),
        (HEADER, ["a.wav,v,S, The,train"], "line 2: it has 5 values, wanted are 4"),
        (HEADER, ["", "a.wav,,S,train"], "line 3: stem is empty; fill it in"),
        (HEADER, [",v,S,train"], "line 2: path is empty; fill it in"),
        (
            HEADER,
            ["d.wav,v,S,train"],
            "line 2: d.wav is not there; relative paths are relative to the manifest's folder",
        ),
        (HEADER, [".,v,S,train"], r"line 2: \. is a folder, wanted is a file"),
        (
            HEADER,
            ["a.wav,v,S,validation"],
            "line 2: split must be one of train, valid, test, got 'validation'; did you mean 'valid'",
        ),
        (HEADER, ["a.wav,v,S,Train"], "got 'Train'; did you mean 'train'"),
        (FULL, ["a.wav,v,S,train,x,,,,,"], "line 2: start must be a number, got 'x'"),
        (FULL, ["a.wav,v,S,train,-1,,,,,"], "line 2: start must be 0 s or later, got -1"),
        (
            FULL,
            ["a.wav,v,S,train,,1e308,,,,"],
            "line 2: end must be a number of seconds, at most 1e[+]09, got 1e[+]308",
        ),
        (HEADER, ["a.wav ,v,S,train"], "line 2: a.wav  is not there; without the spaces around its path it is"),
        (FULL, ["a.wav,v,S,train,nan,,,,,"], "line 2: start must be a finite number, got nan"),
        (FULL, ["a.wav,v,S,train,5,5,,,,"], "line 2: end must lie behind start, which is 5 s, got 5"),
        (FULL, ["a.wav,v,S,train,,,44.1,,,"], "line 2: rate must be a whole number of Hz, got '44.1'"),
        (FULL, ["a.wav,v,S,train,,,inf,,,"], "line 2: rate must be a whole number of Hz, got 'inf'"),
        (FULL, ["a.wav,v,S,train,,,0,,,"], "line 2: rate must be a whole number of Hz above 0, got 0"),
        (FULL, ["a.wav,v,S,train,,,,inf,,"], "line 2: gain must be a finite number, got inf"),
        (FULL, ["a.wav,v,S,train,,,,,0,"], "line 2: tempo must be above 0 beats per minute, got 0"),
        (
            FULL,
            ["a.wav,v,S,train,,,,,,H minor"],
            "line 2: key must be a musical key such as 'C', 'F# minor' or 'Bbm', got 'H minor'",
        ),
        (HEADER, ['"a.wav,v,S,train'], "line 2: it is no CSV: unexpected end of data"),
        (
            HEADER,
            ["a.wav,v,S,train", "a.wav,v,S,train"],
            "line 3: contradicts line 2: a.wav would be summed twice; remove one",
        ),
        (HEADER, ["a.wav,v,S,train", "./a.wav,v,S,train"], "line 3: contradicts line 2: a.wav would be summed twice"),
        (
            HEADER,
            ["a.wav,v,S,train", "b.wav,w,S,train", "a.wav,d,S,train"],
            "line 4: contradicts line 2: a.wav is 'd' here and 'v' there",
        ),
        (
            HEADER,
            ["a.wav,v,S,train", "a.wav,v,S,test"],
            "line 3: contradicts line 2: a.wav is in test here and in train there",
        ),
        (
            FULL,
            ["a.wav,v,S,train,,,8000,,,", "a.wav,v,T,train,,,44100,,,"],
            "a.wav has 44100 Hz here and 8000 Hz there; keep one",
        ),
        (
            FULL,
            ["a.wav,v,S,train,9,,,,,", "a.wav,v,T,train,0,2,,,,", "a.wav,v,U,test,1,9,,,,", "b.wav,v,U,train,1,9,,,,"],
            "line 4: contradicts line 3: a.wav is in test here and in train there",
        ),
        (
            FULL,
            ["a.wav,v,S,train,0,9,,,,", "a.wav,v,T,train,1,2,,,,", "a.wav,d,U,train,5,6,,,,"],
            "line 4: contradicts line 2: a.wav is 'd' here and 'v' there",
        ),
        (HEADER, ["a" * 5000 + ".wav,v,S,train"], "line 2: aaaa.*.wav is not there"),
        (HEADER, ["a.wav,v,Caf\udce9,train"], "line 2: track is not text in UTF-8; save the manifest as that"),
        (
            FULL,
            ["a.wav,v,S,train,,,,,90,", "b.wav,d,S,train,,,,,91,"],
            "the tempo of the track 'S' is 91.0 here and 90.0 there",
        ),
        (
            FULL,
            ["a.wav,v,S,train,,,,,,Am", "b.wav,d,S,train,,,,,,C"],
            "the key of the track 'S' is C major here and A minor there",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(tmp_path, header, lines, message):
    with pytest.raises(DatasetError, match=message) as caught:
        read_csv(tmp_path, *lines, header=header)
    assert len(caught.value.findings) == 1
    assert str(tmp_path / "manifest.csv") in str(caught.value)


def test_all_that_is_wrong_comes_at_once_in_order_of_the_lines(tmp_path):
    lines = ["x.wav,v,S,train", "a.wav,v,S,train", "a.wav,v,S,train", "b.wav,v,S,none", *["c.wav,v,S"] * 8]
    with pytest.raises(DatasetError) as caught:
        read_csv(tmp_path, *lines)
    assert [finding.partition(":")[0] for finding in caught.value.findings] == [
        f"line {n}" for n in (2, 4, 5, *range(6, 14))
    ]


def test_parts_of_a_file_and_a_file_of_two_tracks_do_not_contradict_each_other(tmp_path):
    lines = [
        "a.wav,v,S,train,0,5,,,,", "a.wav,v,S,test,5,,,,,", "b.wav,d,S,train,,,,,,", "b.wav,d,T,train,,,,,,",
        "c.wav,d,S,train,,,,,,",
    ]  # fmt: skip
    assert len(read_csv(tmp_path, *lines, header=FULL).rows) == 5


def test_ten_thousand_parts_of_a_file_are_compared_with_few_others_each(tmp_path, monkeypatch):
    place(tmp_path, "a.wav")
    n_compared = []
    monkeypatch.setattr(manifest, "_contradict", lambda *rows: n_compared.append(rows) or "")
    lines = [f"a.wav,{'vd'[k % 2]},S{k % 3},train,{k},{k + 1},8000,,," for k in range(10_000)]
    assert len(read_csv(tmp_path, *lines, header=FULL).rows) == 10_000
    assert len(n_compared) <= 4 * 10_000


def test_the_stems_of_a_stem_file_do_not_contradict_each_other(tmp_path):
    place(tmp_path, "a.stem.mp4")
    assert len(read_csv(tmp_path, "a.stem.mp4,vocals,S,train", "a.stem.mp4,drums,S,train").rows) == 2
    with pytest.raises(DatasetError, match="line 3: contradicts line 2"):
        read_csv(tmp_path, "a.stem.mp4,vocals,S,train", "a.stem.mp4,vocals,S,train")


@pytest.mark.parametrize("between", ["\n", ""], ids=["lines", "one line"])
def test_json_holds_the_same(tmp_path, between):
    rows = [
        '{"path": "a.wav", "stem": "vocals", "track": "S", "split": "train", "end": null}',
        '{"path": "b.wav", "stem": "drums", "track": "S", "split": "train", "gain": -6, "rate": 8000}',
    ]
    manifest = read_json(tmp_path, f"[{between}{f',{between}'.join(rows)}]")
    assert manifest.rows == (
        Row(tmp_path / "a.wav", "vocals", "S", "train"),
        Row(tmp_path / "b.wav", "drums", "S", "train", gain=-6.0, rate=8000),
    )


GOOD = '{"path": "a.wav", "stem": "v", "track": "S", "split": "train"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: a list of objects is wanted, each with path, stem, track, split"),
        ("{}", "line 1: a list of objects is wanted"),
        ("[]", "it lists no file; add rows"),
        (f"[\n{GOOD}}},\n3]", "line 3: an object with path, stem, track, split is wanted, got 3"),
        (f"[\n{GOOD}, 'x': 3}}]", "line 2: it is no JSON: Expecting property name"),
        (f'[\n{GOOD}, "gain": NaN}}]', "line 2: it is no JSON: NaN is no number in JSON"),
        (f"[\n{GOOD}}}\n{GOOD}}}]", "line 3: it is no JSON: a comma or ] is wanted"),
        (f"[\n{GOOD}}}\n", "line 3: it is no JSON: a comma or ] is wanted"),
        (f"[{GOOD}}}]\nmore", "line 1: the list ends here; remove what follows it"),
        (f'[\n\n{GOOD}, "steem": 3}}]', "line 3: there is no 'steem' in a manifest; did you mean 'stem'"),
        ('[{"path": "a.wav"}, {"stem": 3}]', "line 1: 'split' is missing; add it"),
        (f'[{GOOD}, "gain": true}}]', "line 1: gain must be a finite number, got true"),
        (f'[{GOOD}, "rate": 8000.5}}]', "line 1: rate must be a whole number of Hz above 0, got 8000.5"),
        (f'[{GOOD}, "licence": 3}}]', "line 1: licence must be text, got 3"),
        (f'[{GOOD}, "programs": 3}}]', "line 1: programs must be text, got 3"),
        (f'[{GOOD}, "key": {"[" * 100000}]', "line 1: it is no JSON: lists and mappings are nested more than 50 deep"),
        ("[" + GOOD.replace('"v"', "7") + "}]", "line 1: stem must be a name, got 7"),
        ("[" + GOOD.replace('"a.wav"', "[1]") + "}]", r"line 1: path must be text, got \[1\]"),
        (f'[{GOOD}, "gain": 1{"0" * 400}}}]', "line 1: gain must be a finite number, got 10000"),
        (f'[{GOOD}, "rate": 1{"0" * 400}}}]', "line 1: rate must be a finite number, got 10000"),
        (f'[{GOOD}, "path": "b.wav"}}]', "line 1: it is no JSON: 'path' is there twice; keep one"),
        ("[" + GOOD.replace('"v"', r'"\ud800"') + "}]", "line 1: stem is not text in UTF-8"),
        (f"[\n{GOOD}}},\n\n{GOOD}}}]", "line 4: contradicts line 2: a.wav would be summed twice"),
    ],
)
def test_what_is_wrong_in_json_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read_json(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.txt", b"", r"m\.txt cannot be used as data: a manifest must be a \.csv or a \.json file; save it as one"),
        ("m.csv", None, "m.csv cannot be used as data: it cannot be read: No such file or directory"),
        ("m.csv", HEADER.encode("utf-16"), "it is not text in UTF-8; save it as that"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_manifest(tmp_path / name)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".CSV"])
def test_what_was_written_is_read_again(tmp_path, suffix):
    names = [
        "a.wav",
        'odd, "quoted".wav',
        " leading.wav",
        "Ünïcode 音.flac",
        "deep/er/x.wav",
        os.fsdecode(b"bytes\xff.wav"),
    ]
    place(tmp_path, *names)
    rows = [Row(tmp_path / name, f"stem, {i}", "Song\nTwo", "train", gain=-0.1 * i) for i, name in enumerate(names)]
    rows[0] = Row(rows[0].path, "v", "S", "test", 0.1, 1 / 3, 44100, 0.0, 120.5, "Bbm", "CC-BY 4.0, by me")
    write_manifest(Manifest(tmp_path, "flat", tuple(rows)), tmp_path / f"m{suffix}")
    manifest = read_manifest(tmp_path / f"m{suffix}")
    assert manifest.rows == tuple(rows)
    assert write_manifest(manifest, tmp_path / "again.csv") is None
    assert read_manifest(tmp_path / "again.csv").rows == tuple(rows)


def test_a_written_manifest_moves_with_its_folder(tmp_path):
    place(tmp_path, "one/a.wav")
    write_manifest(
        Manifest(tmp_path / "one", "", (Row(tmp_path / "one/a.wav", "v", "S", "train"),)), tmp_path / "one/m.csv"
    )
    assert (tmp_path / "one/m.csv").read_text() == "path,stem,track,split\na.wav,v,S,train\n"
    (tmp_path / "one").rename(tmp_path / "two")
    assert read_manifest(tmp_path / "two/m.csv").rows[0].path == tmp_path / "two/a.wav"


def test_what_was_found_in_a_relative_folder_is_written_relative_to_the_manifest(tmp_path, monkeypatch):
    place(tmp_path, "sets/one/train/a/v.wav")
    monkeypatch.chdir(tmp_path / "sets")
    write_manifest(find("one"), "one/m.csv")
    assert [row.path for row in read_manifest(tmp_path / "sets/one/m.csv").rows] == [
        tmp_path / "sets/one/train/a/v.wav"
    ]


def test_json_is_written_a_row_a_line(tmp_path):
    place(tmp_path, "a.wav")
    rows = tuple(Row(tmp_path / "a.wav", "v", name, "train") for name in ("S", "T"))
    write_manifest(Manifest(tmp_path, "", rows), tmp_path / "m.json")
    lines = (tmp_path / "m.json").read_text().splitlines()
    assert [json.loads(line.rstrip(","))["track"] for line in lines[1:-1]] == ["S", "T"]


def test_a_manifest_is_written_as_csv_or_json_where_a_folder_is(tmp_path):
    manifest = Manifest(tmp_path, "", ())
    with pytest.raises(ValueError, match=r"a manifest must be a \.csv or a \.json file, got m\.txt"):
        write_manifest(manifest, tmp_path / "m.txt")
    with pytest.raises(OutputError, match="cannot be written to"):
        write_manifest(manifest, tmp_path / "nowhere" / "m.csv")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stem": ""}, "stem must be a name, got ''"),
        ({"track": 3}, "track must be a name, got 3"),
        ({"split": "dev"}, "split must be one of train, valid, test, got 'dev'"),
        ({"gain": math.nan}, "gain must be a finite number, got nan"),
        ({"gain": 121}, "gain must be -120 to 120 dB, got 121; for silence leave the row out"),
        ({"gain": -1e300}, "gain must be -120 to 120 dB, got -1e\\+300"),
        ({"start": None}, "start must be a finite number, got null"),
        ({"end": "3"}, "end must be a finite number, got '3'"),
        ({"key": 3}, "key must be text, got 3"),
    ],
)
def test_a_row_refuses_what_no_row_can_be(values, message):
    with pytest.raises(ValueError, match=message):
        Row(**{"path": Path("a.wav"), "stem": "v", "track": "S", "split": "train", **values})


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (["C", "c major", "C maj", "CM", "CMAJOR"], "C major"),
        (["Am", "a", "A minor", "amin", "A m"], "A minor"),
        (["Db", "C#", "c# major", "D♭", "C sharp", "D-flat major"], "C# major"),
        (["Bbm", "A# minor", "bb", "B♭ min"], "A# minor"),
        (["Cb", "B"], "B major"),
    ],
)
def test_a_key_has_one_spelling(names, key):
    assert {normalize_key(name) for name in names} == {key}


@pytest.mark.parametrize("name", ["", "H", "A dorian", "C##", "12A", "Am7"])
def test_what_is_no_key_is_refused(name):
    with pytest.raises(
        ValueError, match=re.escape(f"key must be a musical key such as 'C', 'F# minor' or 'Bbm', got {name!r}")
    ):
        parse_key(name)


def test_a_key_is_semitones_above_c_and_a_mode():
    assert (parse_key("C"), parse_key("F# minor"), parse_key("Cb")) == ((0, "major"), (6, "minor"), (11, "major"))
