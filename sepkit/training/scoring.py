"""Scores of a training: of its separator, or of each of several averages, on the validation songs."""

import math
from typing import TYPE_CHECKING

from sepkit.excerpts import Excerpt
from sepkit.separator import Separator
from sepkit.training.exchange import share_buffers
from sepkit.training.sharding import gather_weights
from sepkit.training.signals import TrainingError
from sepkit.training.songs import NOTHING_TO_SCORE
from sepkit.training.step_guard import diverged
from sepkit.training.validation import validate
from sepkit.training.weight_average import WeightAverages, list_averaged

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer

Scored = tuple[dict[str, float], tuple[Excerpt, ...]]


def score_training(trainer: "Trainer") -> Scored:
    """Score the separator, with each of several averages the best of which counts, on the validation songs.

    Args:
        trainer: whose separator.

    Returns:
        Columns of the history, and the excerpts that its observers are shown.

    Raises:
        TrainingError: nothing can be scored.
    """
    share_buffers(trainer.processes, [trainer.separator, *list_averaged(trainer.ema)])
    gather_weights(trainer)
    if not isinstance(trainer.ema, WeightAverages):
        return _score(trainer, trainer.averaged)
    found = {decay: _score(trainer, average.averaged) for decay, average in trainer.ema.averages.items()}
    trainer.ema.best = max(found, key=lambda decay: found[decay][0]["SDR"])
    scores, excerpts = found[trainer.ema.best]
    by_decay = {f"SDR_ema_{decay}": each["SDR"] for decay, (each, _) in found.items()}
    return {**scores, "ema": float(trainer.ema.best), **by_decay}, excerpts


def _score(trainer: "Trainer", separator: Separator) -> Scored:
    """Score a separator on the validation songs, and hold excerpts for the observers."""
    settings = trainer.recipe.validation
    batch_size = settings.batch_size or -(-trainer.sampler.batch_size // trainer.processes.world)
    excerpts: list[Excerpt] = []
    keep = excerpts.append if trainer.folder and trainer.observers.waits_for("on_epoch") else None
    scores = validate(separator, trainer.valid_songs, settings.excerpt, batch_size, keep, trainer.processes)
    scored = [score for score in scores.values() if not math.isnan(score)]
    if not scored:
        raise diverged(trainer, "nothing can be scored") if trainer.guard.in_row else TrainingError(NOTHING_TO_SCORE)
    by_source = {f"SDR/{source}": round(score, 4) for source, score in scores.items()} if len(scores) > 1 else {}
    return {"SDR": round(sum(scored) / len(scored), 4), **by_source}, tuple(excerpts)
