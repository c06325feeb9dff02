"""The songs of a recipe: found, checked, told."""

from collections.abc import Callable

from sepkit.datasets import Song
from sepkit.datasets.candidates import Wanted
from sepkit.datasets.several import Opened, Source, open_sources, refuse
from sepkit.problems import Problem, did_you_mean
from sepkit.recipe import Recipe
from sepkit.training.songs import add_variants, check_recipe_songs


def open_data(recipe: Recipe, log: Callable[[str], object] = str) -> dict[str, list[Song]]:
    """Find the songs to train on and to validate on.

    Args:
        recipe: which is trained.
        log: called with a line on each root, its layout and how many tracks it has, and on variants.

    Raises:
        sepkit.recipe.RecipeError: a source is no stem of any song, or a stem map names none.
        sepkit.datasets.DatasetError: with what is wrong in either.
        sepkit.disk.OutputError: variants of the songs do not fit on the disk.
        TrainingError: no validation excerpt can be scored.
    """
    separator, data = recipe.separator, recipe.data
    sources = list_sources(recipe)
    targets, shape = tuple(separator.sources), (separator.sample_rate, separator.n_channels)
    opened = open_sources(sources, Wanted("train", targets, *shape, data.resample, data.allow_damaged, True))
    problems = _check_stem_maps(recipe, opened)
    if not problems and all(opened.stems.values()):
        problems = _check_sources(recipe, set.union(*opened.stems.values()))
    if problems:
        raise recipe.error(problems)
    refuse(sources, opened)
    for line in opened.lines:
        log(line)
    check_recipe_songs(recipe, opened.songs)
    return add_variants(recipe, opened.songs, log)


def list_sources(recipe: Recipe) -> list[Source]:
    """List the sets of songs of a recipe."""
    return [Source(each.root, each.layout, each.stems, each.weight) for each in recipe.data.roots]


def _check_sources(recipe: Recipe, stems: set[str]) -> list[Problem]:
    """List sources that no song has, at their place in the recipe."""
    known = sorted(stems)
    return [
        Problem(
            ("separator", "sources", position),
            f"no song in {recipe.data.name} has the stem '{name}' (there are: {', '.join(known)})"
            + did_you_mean(name, known),
        )
        for position, name in enumerate(recipe.separator.sources)
        if name not in stems
    ]


def _check_stem_maps(recipe: Recipe, opened: Opened) -> list[Problem]:
    """List what stem maps name and no song has, at its place in the recipe."""
    data, known, problems = recipe.data, sorted(opened.raw), {}
    given = data.root if isinstance(data.root, list) else [data.root]
    for i, name, position, part in opened.unknown:
        is_own = not isinstance(given[i], str) and given[i].stems is not None
        place = ("data", "root", *((i,) if isinstance(data.root, list) else ())) if is_own else ("data",)
        path = (*place, "stems", name, position)
        where = given[i].root if is_own else data.name
        message = f"no song in {where} has the stem '{part}' (there are: {', '.join(known)}){did_you_mean(part, known)}"
        problems[path] = Problem(path, message)
    return list(problems.values())
