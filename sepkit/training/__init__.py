"""Train a separator from a recipe into a run folder."""

from sepkit.training.door import dry_run, train
from sepkit.training.stopping import TrainingError, TrainingInterrupted

__all__ = ["TrainingError", "TrainingInterrupted", "dry_run", "train"]
