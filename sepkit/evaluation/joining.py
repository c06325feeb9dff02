"""The scores of several models as one table."""

from collections.abc import Mapping

from sepkit.evaluation.comparison import OWN_SYSTEMS
from sepkit.evaluation.scores import Scores


def join_scores(scores: Mapping[str, Scores]) -> Scores:
    """Join the scores of several models on the same songs, each under its model's name.

    Args:
        scores: of `evaluate`, by the name of the model.

    Returns:
        All models' rows, then those of the baselines: of each target once, from the first model that estimates it.

    Raises:
        ValueError: there are none.
    """
    if not scores:
        raise ValueError("scores must hold one model's at least, got none: evaluate a model first")
    models, baselines, seen = [], [], set()
    for name, own in scores.items():
        models += [row._replace(system=name) for row in own.rows if row.system in OWN_SYSTEMS]
        others = [row for row in own.rows if row.system not in OWN_SYSTEMS and row.target not in seen]
        seen |= {row.target for row in others}
        baselines += others
    notes = dict.fromkeys(note for own in scores.values() for note in own.notes)
    return Scores([*models, *baselines], next(iter(scores.values())).title, list(notes))


def name_models(folders: list[str]) -> dict[str, str]:
    """Name models by the last part of their folders, or by the whole folder where that is not unique.

    Args:
        folders: folders or names.

    Raises:
        ValueError: one is there twice.
    """
    twice = next((folder for folder in folders if folders.count(folder) > 1), None)
    if twice is not None:
        raise ValueError(f"each model must be named once, {twice} is there twice")
    short = [folder.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or folder for folder in folders]
    return {name if short.count(name) == 1 else folder: folder for name, folder in zip(short, folders, strict=True)}
