"""A recipe's name, file or mapping -> the checked recipe, or every mistake at its line."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from sepkit.problems import did_you_mean
from sepkit.processes import name_user
from sepkit.recipe.document import Document, RecipeError
from sepkit.recipe.settings import Recipe


def recipe_names() -> list[str]:
    """List the recipes that are installed with the package."""
    files = resources.files("sepkit.recipes").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_recipe(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), data: str | Path | None = None
) -> Recipe:
    """Read a recipe and check all of it: keys, types, classes, their arguments, and how they fit together.

    Args:
        recipe: the name of an installed recipe (no folder, no suffix), the path of a YAML file, or a mapping.
        overrides: `key.sub=value` each, with the value in YAML: "training.epochs=3", "losses.0.weight=2".
        data: takes the place of `data.root` only. Like every relative `data.root`, a relative path counts from
            the current folder, not from the recipe's; `demo` means the built-in songs.

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
    name_user()
    # Only now: it imports torch, and mistakes in the file itself should be answered at once.
    from sepkit.recipe.checks import find_problems

    with importable(path.parent if path else None):
        document.problems += find_problems(document.values)
    if document.problems:
        raise RecipeError(document.describe(document.problems))
    checked = Recipe.model_validate(document.values)
    checked._path, checked._document = path, document
    return checked


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
