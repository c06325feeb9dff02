"""Published models by name: every row is whole, filters and names answer, the table fits."""

import csv
import re
from dataclasses import replace
from importlib.resources import files
from urllib.parse import urlsplit

import pytest

from sepkit.cache import model_place
from sepkit.cli import model_command
from sepkit.files import is_safe_name
from sepkit.registry import (
    BAGS,
    RegisteredModel,
    find_model_entry,
    format_models,
    format_size,
    is_registered,
    list_models,
    suggest_name,
)

ROWS = [model for model in list_models() if not model.members]
NAMES = [model.name for model in ROWS]


def rows() -> list[dict[str, str]]:
    with (files("sepkit") / "registry.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_is_a_model_and_bags_are_more():
    assert [row["name"] for row in rows()] == NAMES
    assert [model.name for model in list_models() if model.members] == list(BAGS)
    assert len({model_place(model.name) for model in list_models()}) == len(NAMES) + len(BAGS)


@pytest.mark.parametrize("model", ROWS, ids=NAMES)
def test_a_row_says_where_its_files_lie_and_what_they_are(model):
    assert urlsplit(model.weights_url).scheme == "https"
    assert model.weights_url.endswith(f"/{model.file}")
    assert "/blob/" not in f"{model.weights_url} {model.config_url}", "that is a page about the file"
    assert bool(model.config_file) == bool(model.config_url) == (urlsplit(model.config_url).scheme == "https")
    assert all(is_safe_name(name) for name in (model.file, model.config_file or "x", *model.stems))
    assert re.fullmatch("|[0-9a-f]{64}", model.sha256)
    assert model.size is None or 1e6 < model.size < 1e10
    assert model.architecture
    assert model.licence
    assert bool(model.score) == bool(model.score_metric)


@pytest.mark.parametrize("row", rows(), ids=NAMES)
def test_eight_digits_in_a_name_are_the_start_of_the_hash(row):
    model = find_model_entry(row["name"])
    stated = re.search("sha256 starts ([0-9a-f]{8})", row["notes"])
    known = model.sha256 or (stated[1] if stated else "")
    assert model.sha256_start == known
    assert not (model.sha256 and {"demucs"} & {*model.listed_in}) or model.sha256.startswith(
        replace(model, sha256="").sha256_start
    )


def test_a_bag_has_what_its_members_have():
    bag = find_model_entry("umxl")
    assert [member.name for member in bag.members] == ["umxl/vocals", "umxl/drums", "umxl/bass", "umxl/other"]
    assert bag.stems == ("vocals", "drums", "bass", "other")
    assert bag.score == "vocals 7.21; drums 7.15; bass 6.02; other 4.89"
    assert find_model_entry("htdemucs_ft").size == sum(m.size for m in find_model_entry("htdemucs_ft").members)


@pytest.mark.parametrize("bag", BAGS)
@pytest.mark.parametrize("field", ["licence", "config_url", "score_metric", "score_dataset", "score_from"])
def test_what_a_bag_states_once_holds_for_each_member(bag, field):
    assert len({getattr(member, field) for member in find_model_entry(bag).members}) == 1


@pytest.mark.parametrize(
    ("filters", "name", "other"),
    [
        ({"stem": "Kick"}, "msst/drumsep-htdemucs-by-inagoy", "htdemucs"),
        ({"architecture": "BS_RoFormer"}, "msst/bs-polarformer", "htdemucs"),
        ({"architecture": "bs_roformer (PoPE)"}, "msst/bs-polarformer", "msst/bs-roformer-musdb18hq"),
        ({"licence": "cc by-nc-sa 4.0"}, "umxl", "umxhq"),
        ({"stem": "vocals", "architecture": "scnet"}, "msst/scnet-xl-musdb18hq", "htdemucs"),
    ],
)
def test_a_filter_keeps_what_it_names(filters, name, other):
    kept = {model.name for model in list_models(**filters)}
    assert name in kept
    assert other not in kept


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ({"stem": "vocal"}, "stem must be one that a published model has, got 'vocal'; did you mean 'vocals'"),
        ({"architecture": "scnett"}, "architecture must be .*; did you mean 'scnet'"),
        ({"licence": "MIT"}, r"licence must be .*, got 'MIT': choose of CC BY-NC-SA 4\.0, not stated"),
        ({"stem": ""}, "stem must be .*, got '': choose of aspiration, back_vocals"),
    ],
)
def test_a_filter_that_no_model_passes_is_answered(filters, said):
    with pytest.raises(ValueError, match=said):
        list_models(**filters)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("htdemucs_tf", r"name must be a published model's, got 'htdemucs_tf'; did you mean 'htdemucs_ft'\?"),
        ("mdx23c", r"did you mean 'msst/mdx23c'\?"),
        ("Mel_RoFormer-becruily", r"did you mean '.*-deux', '.*-vocals', '.*-instrumental' or one of 2 more\?"),
        ("zzz", "got 'zzz'; `sepkit-model list` shows them all"),
        (None, "got null; `sepkit-model list`"),
        (7, "got 7; `sepkit-model list`"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest(name, said):
    with pytest.raises(ValueError, match=said):
        find_model_entry(name)


def test_a_folder_of_a_run_is_near_no_name():
    assert suggest_name("runs/vocals") == ""
    assert not is_registered("runs/vocals")


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_the_table_fits_the_terminal(width):
    lines = format_models(list_models(), {"htdemucs"}, width).splitlines()
    assert max(map(len, lines)) <= width
    assert next(line for line in lines if line.startswith("* ")).startswith("* htdemucs ")
    assert {line[2:].partition(" ")[0] for line in lines if line[0:1] in "* " and line[2:3].strip()} > {*NAMES}


def test_without_a_terminal_a_model_is_a_line():
    lines = format_models(list_models(), {"htdemucs"}).splitlines()
    assert len(lines) == 1 + len(list_models())
    assert lines[0].split() == ["name", "architecture", "size", "licence", "stems", "score", "[metric,", "data", "set]"]
    assert re.fullmatch(
        r"\* htdemucs +htdemucs +84 MB +not stated +drums, bass, other, vocals +avg 9\.16; .* \[SDR, Multisong \(MV.*",
        lines[1],
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "not stated"),
        (84_141_911, "84 MB"),
        (3_764_030_874, "3.76 GB"),
        (12_345, "12 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (9_949_999, "9.9 MB"),
        (9_950_000, "10 MB"),
        (999_499_999, "999 MB"),
        (999_500_000, "1.00 GB"),
    ],
)
def test_a_size_is_written_in_a_unit_of_its_kind(size, text):
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"score": ""}, ""),
        ({"score": "9", "score_metric": "SDR", "score_dataset": "MUSDB18"}, "9 [SDR, MUSDB18]"),
        (
            {"score": "9", "score_metric": "", "score_dataset": "not stated"},
            "9 [metric not stated, data set not stated]",
        ),
    ],
)
def test_a_score_names_metric_and_data(fields, text):
    assert replace(find_model_entry("htdemucs"), **fields).score_text == text


def test_the_row_type_names_every_column():
    columns = {"size_bytes": "size", "sha256_from": None, "spec": None}
    wanted = {columns.get(column, column) for column in rows()[0]} - {None}
    assert wanted == {*RegisteredModel.__dataclass_fields__} - {"members"}


# The command


def test_the_command_lists_what_the_filters_keep(capsys):
    assert model_command(["list", "--stem", "piano"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[1:]] == ["htdemucs_6s"]


def test_the_command_marks_what_was_fetched(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SEPKIT_CACHE", str(tmp_path))
    model_place("htdemucs_6s").mkdir(parents=True)
    (model_place("htdemucs_6s") / "model.json").touch()
    assert model_command(["list", "--stem", "piano"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("* htdemucs_6s")


def test_the_command_answers_a_wrong_filter(capsys):
    assert model_command(["list", "--stem", "vocal"]) == 2
    assert capsys.readouterr().err.startswith("sepkit-model: stem must be one that a published model has, got 'vocal'")


@pytest.mark.parametrize("call", [["--debug", "list"], ["list", "--debug"]], ids=" ".join)
def test_where_an_error_comes_from_is_shown_on_demand(call):
    with pytest.raises(ValueError, match="stem must be one"):
        model_command([*call, "--stem", "vocal"])


@pytest.mark.parametrize("call", [[], ["gte"], ["get"], ["list", "htdemucs"]], ids=str)
def test_a_call_that_is_none_ends_with_the_usage(call, capsys):
    with pytest.raises(SystemExit, match="2"):
        model_command(call)
    assert capsys.readouterr().err.startswith("usage: sepkit-model")
