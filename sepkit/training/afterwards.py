"""What is drawn and written after a training: the curves and the report, without which it is not lost."""

import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sepkit.model_folder import load_weights
from sepkit.recipe.data_settings import RootSettings
from sepkit.report import FILE as REPORT
from sepkit.report import SECONDS, Stopwatch, report_training
from sepkit.training.loop import Trainer
from sepkit.training.opening import open_data
from sepkit.training.run_folder import PICTURE, RunFolder
from sepkit.training.validation import score_songs
from sepkit.training.weights import plain_separator


def draw_curves(folder: RunFolder, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw the curves; a training is not lost with them."""
    try:
        folder.draw(history)
    except Exception as error:
        _warn_of_missing(PICTURE, error)


def _warn_of_missing(what: str, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}"
    warnings.warn(f"there is no {what} of the training ({reason}); the same command makes it again", stacklevel=3)


def write_missing(folder: RunFolder, state: Mapping[str, Any], device: torch.device) -> None:
    """Write the picture and the report that a finished run lacks."""
    watch = Stopwatch()
    if not (folder.path / PICTURE).is_file():
        draw_curves(folder, state["progress"]["history"])
    if (folder.path / REPORT).is_file():
        return
    try:
        trainer = Trainer(folder.recipe, open_data(folder.recipe), device)
        trainer.checkpointer.load_state(state)
    except Exception as error:
        _warn_of_missing("report", error)
    else:
        write_report(trainer, folder.path, watch)


def write_report(trainer: Trainer, folder: Path, watch: Stopwatch) -> None:
    """Write the report; a training is not lost with it."""
    try:
        model = plain_separator(trainer.averaged)
        load_weights(model, folder)
        minutes = sum(song.n_samples for song in trainer.dataset.songs) / trainer.separator.sample_rate / 60
        songs, valid = trainer.valid_songs, trainer.recipe.validation
        batch_size = valid.batch_size or trainer.sampler.batch_size
        part = "from beginning to end" if valid.excerpt is None else f"the middle {valid.excerpt:g} s"
        named, pronoun = ("song", "it") if len(songs) == 1 else ("songs", "them")
        commands = [scoring_command(folder, root, trainer.recipe.data.resample) for root in trainer.recipe.data.roots]
        rows, excerpts = score_songs(model, songs, valid.excerpt, batch_size, SECONDS)
        report_training(
            folder,
            excerpts,
            rows,
            title=f"{len(songs)} validation {named}, {part}. The best epoch was chosen by {pronoun}, so that other "
            "songs may score less. In dB, median and mean over songs; SDR: median over frames of 1 s.",
            notes=[f"Scores of test songs: {command}" for command in commands],
            data={
                "songs to train on": f"{len(trainer.dataset.songs)}, {minutes:.0f} minutes",
                "songs to validate on": len(songs),
            },
            cost={
                "parameters": f"{model.n_parameters / 1e6:.2f} M",
                "precision": str(trainer.precision).removeprefix("torch."),
                **{f"{name}, since it was last started": value for name, value in watch.read().items()},
            },
            device=trainer.device,
        )
    except Exception as error:
        _warn_of_missing("report", error)


def scoring_command(folder: Path, root: RootSettings, resample: bool) -> str:
    """Write the command that scores a model on the test songs of one of its roots."""
    stems = [f"{name}={','.join(parts)}" for name, parts in (root.stems or {}).items()]
    options = ["--model", str(folder), "--data", root.root, *(["--layout", root.layout] if root.layout else [])]
    options += [*(["--stems", *stems] if stems else []), *(["--resample"] if resample else []), "--report"]
    return shlex.join(["sepkit-evaluate", *options])
