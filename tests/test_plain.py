"""Text from elsewhere is read within bounds, and refused in a sentence."""

import json

import pytest

from sepkit.evaluation import ComparisonError, compare
from sepkit.evaluation.files import read_track
from sepkit.model_folder import CARD, WEIGHTS, ModelError, load_model, read_card
from sepkit.plain import DEEPEST, LARGEST, MOST, check_bounds, parse_json, parse_yaml, read_text
from sepkit.recipe import RecipeError, load_recipe
from sepkit.recipe.document import Document
from sepkit.report.run import read_run
from sepkit.training.run_folder import RunFolder


def nested(depth: int) -> str:
    return depth * "[" + depth * "]"


def aliases(levels: int) -> str:
    """Write few lines that stand for 9 ** levels values."""
    first = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"
    return "\n".join([first, *(f"a{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]" for i in range(1, levels))])


def merges(levels: int) -> str:
    lines = [f"a{i}: &a{i} {{<<: [{', '.join(9 * [f'*a{i - 1}'])}]}}" for i in range(1, levels)]
    return "\n".join(["a0: &a0 {x: 1}", *lines])


HOSTILE_JSON = [
    100_000 * "[",
    100_000 * '{"a":',
    nested(DEEPEST + 1),
    '{"a":\n\n' + nested(200) + "}",
    '{"a": "[[[[", "b":' + nested(5000) + "}",
    "NaN",
    "[Infinity]",
    "9" * 5000,
    '{"a": 1',
    "",
    "\0",
]
HOSTILE_YAML = [
    nested(3000),
    100_000 * "[",
    3000 * "- ",
    1000 * "{a: ",
    3000 * "? ",
    aliases(8),
    "\n".join(["a0: &a0 [1]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 200))]),
    "a: &a [*a]",
    "a: {b: &a {c: *a}}",
    "a: !!int three",
    "a: !!bool maybe",
    "a: !!float ''",
    "a: !!int ''",
    "a: !!python/object/apply:os.system [ls]",
    'a: "\\UFFFFFFFF"',
    "a: \0",
    "a: 1\n---\nb: 2",
    "a: *nowhere",
]


@pytest.mark.parametrize("text", HOSTILE_JSON, ids=lambda text: repr(text[:20]))
def test_hostile_json_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parse_json(text)


def test_json_that_is_nested_too_deep_is_told_with_its_line():
    with pytest.raises(ValueError, match=f"nested more than {DEEPEST} deep, on line 4$"):
        parse_json('{"a": "[[",\n"b": {},\n"c":\n' + nested(DEEPEST) + "}")
    assert parse_json(nested(DEEPEST)) is not None


def test_json_may_hold_any_number_of_values():
    assert len(parse_json(json.dumps([[0]] * (MOST + 1)))) == MOST + 1


@pytest.mark.parametrize("text", [*HOSTILE_YAML, merges(7)], ids=lambda text: repr(text[:20]))
def test_hostile_yaml_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parse_yaml(text)


@pytest.mark.parametrize("text", HOSTILE_YAML, ids=lambda text: repr(text[:20]))
def test_a_hostile_recipe_is_refused_in_one_line_with_its_place(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"^[^\n]*recipe\.yaml:\d+:\d+: not valid YAML: [^\n]+$"):
        load_recipe(path)


@pytest.mark.parametrize("text", HOSTILE_YAML[:9], ids=lambda text: repr(text[:20]))
def test_a_hostile_override_is_a_problem(text):
    document = Document.from_mapping({})
    document.override(f"data={text}")
    (problem,) = document.problems
    assert "not valid YAML: " in str(problem)


def test_an_override_cannot_make_a_recipe_deeper_than_one_may_be():
    document = Document.from_mapping({})
    document.override(".".join(2000 * "a") + "=1")
    (problem,) = document.problems
    assert "nested more than" in str(problem)


def test_what_is_repeated_by_aliases_within_bounds_is_read():
    values = parse_yaml(aliases(4))
    assert sum(sum(sum(part) for part in each) for each in values["a2"]) == 9**3


def test_a_mapping_that_holds_itself_or_too_much_is_no_recipe():
    itself: dict = {}
    itself["data"] = [itself]
    wide = [1] * 9
    for _ in range(8):
        wide = [wide] * 9
    for mapping, reason in ((itself, "nested more than"), ({"data": wide}, "more than 20000 values")):
        with pytest.raises(RecipeError, match=reason):
            load_recipe(mapping)


def test_bounds_count_all_containers():
    with pytest.raises(RecursionError, match="nested more than"):
        check_bounds(({"a": eval(nested(DEEPEST))},))
    with pytest.raises(ValueError, match="more than"):
        check_bounds({"a": (0,) * (MOST + 1)})


def test_a_text_that_is_too_long_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"a" * (LARGEST + 1))
    with pytest.raises(ValueError, match="larger than 1 MB"):
        read_text(tmp_path / "recipe.yaml")
    with pytest.raises(RecipeError, match=r"recipe\.yaml: this is no recipe, it is larger than 1 MB"):
        load_recipe(tmp_path / "recipe.yaml")


@pytest.mark.parametrize("text", [*HOSTILE_JSON, "[" + 60 * '{"format": [' + "]"], ids=lambda text: repr(text[:20]))
def test_a_hostile_card_is_no_model_in_one_line(tmp_path, text):
    (tmp_path / CARD).write_text(text)
    (tmp_path / WEIGHTS).write_bytes(b"")
    for read in (read_card, load_model):
        with pytest.raises(ModelError, match=r"^[^\n]*model\.json is not a model card \([^\n]*\): train again"):
            read(tmp_path)


@pytest.mark.parametrize("text", HOSTILE_JSON, ids=lambda text: repr(text[:20]))
def test_hostile_scores_are_scored_again_and_not_compared(tmp_path, text):
    for name in ("one", "two"):
        (tmp_path / name / "tracks" / "test").mkdir(parents=True)
        (tmp_path / name / "tracks" / "test" / "song.json").write_text(text)
    assert read_track(tmp_path / "one" / "tracks" / "test" / "song.json") is None
    with pytest.raises(ComparisonError, match=r"song\.json cannot be read: evaluate again with this version"):
        compare([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize("origin", [None, 3, [], {}, {"scoring": 3, "shape": {}}, {"scoring": {}, "shape": "x"}])
@pytest.mark.parametrize("scores", [[], [["model", "song", "vocals", "SDR", 1.0]], [[1]], 3, [[[], {}, 1, 2, "x"]]])
def test_scores_without_an_origin_are_not_taken(tmp_path, origin, scores):
    content = {"format": 1, "track": "song", "scores": scores, "remarks": [], "warnings": [], "origin": origin}
    (tmp_path / "song.json").write_text(json.dumps(content))
    assert read_track(tmp_path / "song.json") is None


@pytest.mark.parametrize("text", [nested(3000), aliases(9), merges(9)], ids=["deep", "aliases", "merges"])
def test_a_hostile_recipe_in_a_run_folder_is_damaged(tmp_path, text):
    recipe = load_recipe("vocals")
    folder = RunFolder(tmp_path / "run", recipe)
    folder.begin()
    folder.save({"progress": {"history": [], "step": 0}})
    (tmp_path / "run" / "recipe.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.yaml is damaged: start anew with --restart"):
        RunFolder(tmp_path / "run", recipe)


def test_a_hostile_card_does_not_become_a_report(tmp_path):
    (tmp_path / CARD).write_text(100_000 * "[")
    with pytest.raises(ValueError, match="nested more than"):
        read_run(tmp_path)
