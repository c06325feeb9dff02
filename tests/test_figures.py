"""The figures in README, recipes and docs are those of the files that they were taken from."""

import csv
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = (
    "vocals",
    "four_stems",
    "spectrogram_net_simple",
    "spectrogram_net_lstm",
    "spectrogram_net_vae",
    "open_unmix_small",
    "band_split_roformer_small",
    "band_split_rnn_small",
    "scnet_small",
    "mdx23c_small",
    "htdemucs_small",
    "hdemucs_small",
    "demucs_small",
    "conv_tasnet_small",
)


def rows(recipe: str, songs: str, system: str = "model") -> list[dict[str, str]]:
    with (ROOT / "docs" / "tables" / "recipes.csv").open(encoding="utf-8") as file:
        wanted = (recipe, songs, system)
        return [row for row in csv.DictReader(file) if (row["recipe"], row["songs"], row["system"]) == wanted]


def by_target(recipe: str, songs: str, column: str = "SDR", system: str = "model") -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for row in rows(recipe, songs, system):
        if row[column]:
            values.setdefault(row["target"], []).append(float(row[column]))
    return values


def span(values: list[float]) -> str:
    """A range, in words: one number where all are the same."""
    low, high = (f"{bound:.1f}" for bound in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def spans(*arguments: str) -> dict[str, str]:
    return {target: span(values) for target, values in by_target(*arguments).items()}


def trainings(recipe: str, songs: str = "built-in") -> str:
    n_trainings = max(map(len, by_target(recipe, songs).values()))
    return f"{n_trainings} training{'s' if n_trainings > 1 else ''}"


def head(recipe: str) -> str:
    """The comment that a recipe begins with, on one line."""
    text = (ROOT / "recipes" / f"{recipe}.yaml").read_text(encoding="utf-8")
    return " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))


def prose(path: str) -> str:
    """A page without line breaks."""
    return " ".join((ROOT / path).read_text(encoding="utf-8").split())


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_states_the_range_of_its_scores_and_where_they_stand(recipe):
    stated = head(recipe)
    assert f"docs/tables/recipes.csv, which `python benchmarks/recipes.py {recipe}` makes" in stated
    for songs in ("built-in", "real"):
        scores = spans(recipe, songs)
        assert f"of {trainings(recipe, songs)}" in stated
        if list(scores) == ["vocals"]:
            assert f"SDR {scores['vocals']} dB" in stated
            assert f"SI-SDR {spans(recipe, songs, 'SI-SDRi')['vocals']} dB above" in stated
        else:
            assert all(f"{target} {score}" in stated for target, score in scores.items())


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_states_no_other_score(recipe):
    claims = head(recipe).partition("Score on")[2]
    values = [
        value
        for songs in ("built-in", "real")
        for column in ("SDR", "SI-SDRi")
        for system in ("model", "mixture/2", "mixture/4", "oracle")
        for group in by_target(recipe, songs, column, system).values()
        for value in (min(group), max(group))
    ]
    assert set(re.findall(r"\d+\.\d+", claims)) <= {f"{abs(value):.1f}" for value in values}


def test_the_readme_states_the_ranges_of_the_demo():
    stated, real = prose("README.md"), spans("vocals", "real")["vocals"]
    assert (
        f"median SDR of {spans('vocals', 'built-in')['vocals']} dB on other built-in songs and of {real} dB" in stated
    )
    of_real = trainings("vocals", "real").split()[0]
    assert f"({trainings('vocals')}, {of_real} of them scored on the real ones; seeds and machines differ)" in stated
    four = spans("four_stems", "built-in")
    listed = (
        f"{four['vocals']} dB for vocals, {four['drums']} for drums, {four['bass']} for bass and {four['other']} for"
    )
    assert listed in stated


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe != "four_stems"])
def test_the_table_of_networks_states_the_ranges_of_the_recipes(recipe):
    columns = [
        spans(recipe, songs, column)["vocals"] for songs in ("built-in", "real") for column in ("SDR", "SI-SDRi")
    ]
    assert f"| `{recipe}` | {' | '.join(columns)} |" in prose("docs/networks.md")


def test_the_page_of_networks_states_how_far_the_roformer_is_from_the_blstm():
    """The mean of `vocals` over its trainings, on the real songs."""
    page = prose("docs/networks.md")
    gaps = [
        statistics.mean(by_target("band_split_roformer_small", "real", column)["vocals"])
        - statistics.mean(by_target("vocals", "real", column)["vocals"])
        for column in ("SDR", "SI-SDRi")
    ]
    in_sdr, in_si_sdr = (f"{abs(gap):.1f} dB {'above' if gap > 0 else 'below'}" for gap in gaps)
    assert f"`BandSplitRoFormer` is {in_sdr} the mean of `vocals` in SDR and {in_si_sdr} it in SI-SDRi" in page


def test_the_readme_states_the_speed_of_scoring_that_was_measured():
    lines = re.findall(r"^\| v4 \|.*\|$", (ROOT / "docs" / "scoring.md").read_text(encoding="utf-8"), re.MULTILINE)
    times = [int(line.split("|")[6]) for line in lines]
    assert f"{min(times)} to {max(times)} times faster" in prose("README.md")


def test_the_page_of_losses_states_what_was_measured():
    """The table is written with its values, of which the file has more digits."""
    page = (ROOT / "docs" / "loss_matrix.md").read_text(encoding="utf-8")
    with (ROOT / "docs" / "loss_matrix.csv").open(encoding="utf-8") as file:
        measured = {(row["songs"], row["trained with"]): row for row in csv.DictReader(file)}
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| \w.*\d \|$", line)]
    assert len(lines) > 20
    for name, *cells in lines:
        columns = [(songs, metric) for songs in ("built-in", "real") for metric in ("SDR", "SI-SDR")]
        for (songs, metric), cell in zip(columns, cells, strict=False):
            stated = cell.partition(" ")[0].replace("−", "-")
            assert float(stated) == pytest.approx(float(measured[songs, name][metric]), abs=0.00501), (name, songs)
