"""Train a separator from a recipe into a run folder."""

from sepkit.training.out_of_memory import find_batch
from sepkit.training.signals import TrainingError, TrainingInterrupted
from sepkit.training.train import dry_run, train

__all__ = ["TrainingError", "TrainingInterrupted", "dry_run", "find_batch", "train"]
