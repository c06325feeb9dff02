"""A recipe's name, file or mapping -> the checked recipe, or every mistake at its line."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepkit.problems import Problem, did_you_mean
from sepkit.processes import name_user
from sepkit.recipe.document import Document, RecipeError
from sepkit.recipe.settings import Recipe

if TYPE_CHECKING:
    from sepkit.recipe.base import Base


def recipe_names() -> list[str]:
    """List the recipes that are installed with the package."""
    files = resources.files("sepkit.recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_recipe(
    recipe: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    data: str | Path | None = None,
    initial: str | Path | None = None,
    trust: bool = False,
) -> Recipe:
    """Read a recipe and check all of it: keys, types, classes, their arguments, and how they fit together.

    Args:
        recipe: the name of an installed recipe (no folder, no suffix), the path of a YAML file, or a mapping.
        overrides: `key.sub=value` each, with the value in YAML: "training.epochs=3", "losses.0.weight=2".
        data: takes the place of `data.root` only. Like every relative `data.root`, a relative path counts from
            the current folder, not from the recipe's; `demo` means the built-in songs.
        initial: takes the place of `separator.from`.
        trust: let the model that `separator.from` names have classes from outside this package.

    Raises:
        RecipeError: with a line for every mistake: file, line, column, key, what is wanted, what came.
    """
    if isinstance(recipe, Mapping):
        document, path = Document.from_mapping(recipe), None
    else:
        is_name = isinstance(recipe, str) and not Path(recipe).suffix and Path(recipe).name == recipe
        path = _installed(recipe) if is_name else Path(recipe)
        document = Document.from_file(path)
    for override in overrides:
        document.override(override)
    if data is not None:
        document.put(("data", "root"), str(data), f"--data {data}")
    if initial is not None:
        document.put(("separator", "from"), str(initial), f"--from {initial}")
    name_user()
    # Only now: it imports torch, and mistakes in the file itself should be answered at once.
    from sepkit.recipe.checks import find_problems

    with importable(path.parent if path else None):
        base, unfit = _take_base(document, trust)
        problems = find_problems(document.values, base)
        document.problems += unfit + [one for one in problems if not (unfit and one.path[:1] == ("separator",))]
    if document.problems:
        raise RecipeError(document.describe(document.problems))
    checked = Recipe.model_validate(document.values)
    checked._path, checked._document, checked._base = path, document, base
    return checked


def _take_base(document: Document, trust: bool) -> tuple["Base | None", list[Problem]]:
    """Fill in the settings of the model that the separator begins as; return it, and what keeps it from being read."""
    from sepkit.recipe.base import read_base, take_settings

    separator = document.values.get("separator")
    stated = separator.get("from") if isinstance(separator, dict) else None
    if stated is None:
        return None, []
    try:
        base = read_base(stated)
        take_settings(separator, base, trust)
    except ValueError as error:
        return None, [Problem(("separator", "from"), str(error))]
    return base, []


@contextmanager
def importable(folder: Path | None) -> Iterator[None]:
    """Put a folder on the import path for as long as the context lasts; None: change nothing."""
    added = [str(folder.resolve())] if folder else []
    sys.path[:0] = added
    try:
        yield
    finally:
        for entry in added:
            sys.path.remove(entry)


def _installed(name: str) -> Path:
    names = recipe_names()
    if name not in names:
        remedy = f"there are: {', '.join(names) or 'none'}; a file is named with its suffix, as in {name}.yaml"
        raise RecipeError([f"there is no recipe '{name}' ({remedy})" + did_you_mean(name, names)])
    return Path(str(resources.files("sepkit.recipes") / f"{name}.yaml"))
