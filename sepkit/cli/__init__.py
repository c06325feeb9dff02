"""The commands: parse, call one function, print where the result lies."""

from sepkit.cli.data import data_command
from sepkit.cli.evaluate import evaluate_command
from sepkit.cli.model import model_command
from sepkit.cli.separate import separate_command
from sepkit.cli.train import train_command

__all__ = ["data_command", "evaluate_command", "model_command", "separate_command", "train_command"]
