"""The best models of a run: the one that is passed on, and those that are kept, a folder each."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepkit.model_folder import save_model, write_card
from sepkit.training.weights import describe_base, plain_separator, save_updates

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer

FOLDER = "best"


def save_models(trainer: "Trainer", row: Mapping[str, Any]) -> None:
    """Write what an epoch leaves of models: the best, those that are kept, the card of a training that is finished.

    Args:
        trainer: with a run folder.
        row: of the history, its last.

    Raises:
        sepkit.locks.LockedError: another machine's process took the folder over.
    """
    recipe, folder = trainer.recipe, trainer.folder.path
    trainer.folder.check_held()
    if row.get("best"):
        save_updates(trainer.averaged, folder, recipe.base)
        save_model(plain_separator(trainer.averaged), folder, _describe(trainer))
    elif trainer.finished:
        write_card(plain_separator(trainer.separator), folder, _describe(trainer))
    if recipe.training.keep_best > 1 and "SDR" in row:
        keep_models(folder, trainer.history, recipe.training.keep_best, lambda place: _save_kept(trainer, place))


def _describe(trainer: "Trainer") -> dict[str, Any]:
    """Describe the training for the model card."""
    recipe = trainer.recipe
    return {
        "recipe": recipe.name,
        "data": ", ".join(
            Path(each.root).resolve().name for each in recipe.data.roots
        ),  # the card travels with the weights: no path of here
        "licence": recipe.data.licence,
        "validation": {name: None if math.isnan(value) else value for name, value in trainer.best.items()},
        "finished": trainer.finished,
        **({"base": describe_base(recipe.base)} if recipe.base else {}),
    }


def _save_kept(trainer: "Trainer", folder: Path) -> None:
    """Write the model of the last epoch, with its own scores in its card."""
    scores = {name: value for name, value in trainer.history[-1].items() if name in trainer.best}
    card = {**_describe(trainer), "validation": {n: None if math.isnan(v) else v for n, v in scores.items()}}
    save_model(plain_separator(trainer.averaged), folder, card)


def keep_models(
    folder: Path, history: Sequence[Mapping[str, Any]], n_kept: int, save: Callable[[Path], object]
) -> None:
    """Keep the models of the epochs with the best scores, and remove those of others.

    Args:
        folder: of the run; they lie in `best/epoch_0007`.
        history: of the run, the last row of which is the model's that may be saved.
        n_kept: >= 1; of equal scores the earlier epoch is the better one.
        save: called with the folder to write it to.
    """
    scored = sorted((row for row in history if "SDR" in row), key=lambda row: (-row["SDR"], row["epoch"]))
    kept = {f"epoch_{row['epoch']:04}" for row in scored[:n_kept]}
    name = f"epoch_{history[-1]['epoch']:04}"
    if name in kept:
        save(folder / FOLDER / name)
    for place in (folder / FOLDER).glob("epoch_*"):
        if place.name not in kept:
            shutil.rmtree(place)
