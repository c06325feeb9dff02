"""The scores of several models as one table."""

import os
from collections.abc import Mapping, Sequence
from itertools import count

from sepkit.evaluation.comparison import OWN_SYSTEMS
from sepkit.evaluation.scores import Scores
from sepkit.files import safe_name

_BASELINES = ("silence", "oracle", "mixture", *OWN_SYSTEMS)


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


def name_models(folders: Sequence[str]) -> dict[str, str]:
    """Name models by the last part of their folders, or by the whole folder where that is not unique.

    No two names make the same folder, and none is a baseline's.

    Args:
        folders: folders or names.

    Raises:
        ValueError: one is there twice.
    """
    places = [os.path.abspath(folder) for folder in folders]
    twice = next((folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise ValueError(f"each model must be named once, {twice} is there twice")
    last = [os.path.basename(place) or place for place in places]
    named, taken = {}, set(_BASELINES)
    for folder, name in zip(folders, last, strict=True):
        wanted = name if last.count(name) == 1 else folder
        candidates = (wanted if n == 1 else f"{wanted} #{n}" for n in count(1))
        free = next(each for each in candidates if safe_name(each).casefold() not in taken)
        taken.add(safe_name(free).casefold())
        named[free] = folder
    return named
