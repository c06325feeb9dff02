"""The run folder: what training leaves on disk, and how it goes on from there."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from sepkit.checkpoint import atomic
from sepkit.recipe import Recipe

STATE = Path("training") / "state.pt"
FREE_KEYS = ("data.workers",)  # may differ between the parts of one run, since they change no result


class RunFolder:
    """A folder in which one recipe is trained.

    Args:
        path: the folder.
        recipe: what is trained in it.
        restart: remove what an earlier training left in it.

    Raises:
        ValueError: the folder holds the training of another recipe, or no training but other files.
    """

    def __init__(self, path: str | Path, recipe: Recipe, restart: bool = False) -> None:
        self.path, self.recipe = Path(path), recipe
        if restart:
            self._clear()
        stored = self.path / "recipe.yaml"
        if stored.is_file():
            self._compare(yaml.safe_load(stored.read_text()))
        elif self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no run: choose another folder with --run")

    def _clear(self) -> None:
        """Remove the files of a run, and nothing else."""
        if not (self.path / "recipe.yaml").is_file():
            return
        shutil.rmtree(self.path / "training", ignore_errors=True)
        for name in ("model.json", "model.safetensors", "history.csv", "history.png", "report.html", "recipe.yaml"):
            (self.path / name).unlink(missing_ok=True)
        for events in self.path.glob("events.out.tfevents.*"):
            events.unlink()

    def _compare(self, stored: Mapping[str, Any]) -> None:
        different = [key for key in self.recipe.differences(stored) if key not in FREE_KEYS]
        if different:
            raise ValueError(
                f"{self.path} holds the run of another recipe, which differs in {', '.join(different)}: "
                "choose another folder with --run, or start anew with --restart"
            )

    def load(self) -> dict[str, Any] | None:
        """Load the state to go on from; None where there is none yet."""
        if not (self.path / STATE).is_file():
            return None
        return torch.load(self.path / STATE, map_location="cpu", weights_only=True)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state and the history; a kill leaves the old state or the new one."""
        (self.path / "training").mkdir(parents=True, exist_ok=True)
        if not (self.path / "recipe.yaml").is_file():
            with atomic(self.path / "recipe.yaml") as temporary:
                temporary.write_text(self.recipe.dump())
        with atomic(self.path / STATE) as temporary:
            torch.save(dict(state), temporary)
        if state["history"]:
            with atomic(self.path / "history.csv") as temporary:
                write_history(temporary, state["history"])


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write one line an epoch; a column that an epoch lacks stays empty."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
