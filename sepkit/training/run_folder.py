"""The run folder: what training leaves on disk, and how it goes on from there."""

import csv
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from sepkit.disk import OutputError, not_left_empty, writing
from sepkit.files import PREFIX, atomic_file
from sepkit.locks import LOCK, Holder, locked
from sepkit.model_folder import CARD, WEIGHTS, ModelError, read_card
from sepkit.observers.weights_and_biases import TRACKED
from sepkit.plain import parse_yaml, read_text
from sepkit.recipe import Recipe
from sepkit.recipe.document import write_yaml
from sepkit.report import FILE as REPORT

RECIPE, HISTORY, PICTURE = "recipe.yaml", "history.csv", "history.png"
STATE = Path("training") / "state.pt"
STATE_FORMAT = 1
_FILES = (STATE, TRACKED, CARD, WEIGHTS, HISTORY, PICTURE, REPORT, RECIPE)
FREE_KEYS = ("data.workers", "observers")  # may differ between the parts of one run, since they change no result


class RunFolder:
    """A folder in which one recipe is trained.

    A folder is a run where training left its state, or its model, or was killed before it left either; a file
    `recipe.yaml` that somebody wrote makes none.

    Args:
        path: the folder.
        recipe: what is trained in it.
        restart: take no notice of an earlier training in it, which `begin` removes.

    Raises:
        ValueError: the folder holds the training of another recipe, or no training but other files, or the recipe
            would be removed with the earlier training.
    """

    def __init__(self, path: str | Path, recipe: Recipe, restart: bool = False) -> None:
        self.path, self.recipe, self.restart = Path(path), recipe, restart
        self._check()

    @contextmanager
    def held(self) -> Iterator[Holder | None]:
        """Keep other processes out while the context lasts, and remove what a killed one left half written.

        Returns:
            As context: who died holding it; None if nobody. A finished run that cannot be written to is not held.

        Raises:
            sepkit.locks.LockedError: another process trains in it.
            sepkit.disk.OutputError: nothing can be written into it.
        """
        with ExitStack() as stack:
            former = None
            try:
                with writing(self.path, "choose another folder with --run"):
                    stack.enter_context(not_left_empty(self.path))
                    former = stack.enter_context(
                        locked(self.path, "wait for it, stop it, or choose another folder with --run")
                    )
            except OutputError:
                if self.restart or not _is_finished(self.path):
                    raise
            else:
                self._check()  # the folder may have changed before it was held
                self._sweep()
            yield former

    def _check(self) -> None:
        """Refuse a folder that this training may not use."""
        recipe = self.recipe
        if not _is_run(self.path):
            if self.path.exists() and (not self.path.is_dir() or _files_of_others(self.path)):
                raise ValueError(f"{self.path} is not empty and holds no run: choose another folder with --run")
        elif not self.restart:
            self._compare()
        elif recipe.path and recipe.path.exists() and recipe.path.samefile(self.path / RECIPE):
            raise ValueError(
                f"{recipe.path} lies in the run that --restart would remove: copy it elsewhere, or choose another "
                "folder with --run"
            )

    def _compare(self) -> None:
        """Refuse to go on with what is not a run of the same recipe."""
        stored = _read_recipe(self.path)
        if stored is None:
            raise ValueError(f"{self.path / RECIPE} is damaged: start anew with --restart, or choose another --run")
        different = [key for key in self.recipe.differences(stored) if not _is_free(key)]
        if "data.root" in different and _is_same_place(self.recipe.data.root, stored.get("data")):
            different.remove("data.root")
        if different:
            raise ValueError(
                f"{self.path} holds the run of another recipe, which differs in {', '.join(different)}: "
                f"choose another folder with --run, or start anew with --restart{self._way_on(different)}"
            )
        if (self.path / WEIGHTS).exists() and not (self.path / STATE.parent).is_dir():
            raise ValueError(
                f"{self.path} holds a trained model without the state to go on from: "
                "choose another folder with --run, or start anew with --restart"
            )

    def _way_on(self, different: Sequence[str]) -> str:
        """Say how to train on from a model with other settings, where its weights fit."""
        if any(key.startswith("separator") for key in different) or not _is_model(self.path):
            return ""
        names = ("more", *(f"more{number}" for number in range(2, 1000)))
        run = next(place for place in map(self.path.with_name, names) if not place.exists())
        added = f"--run {shlex.quote(str(run))} --from {shlex.quote(str(self.path))}"
        epochs = ", of training.epochs more epochs" if "training.epochs" in different else ""
        return f"; to train on from its weights, add `{added}` to the same command: a run of its own{epochs}"

    def load(self) -> dict[str, Any] | None:
        """Load the state to go on from; None where there is none yet.

        Raises:
            ValueError: it is damaged, or of a later format.
        """
        if self.restart or not (self.path / STATE).is_file():
            return None
        try:
            state = torch.load(self.path / STATE, map_location="cpu", weights_only=True)
            found = state["format"]
        except Exception as error:  # whatever torch makes of a damaged file
            raise ValueError(f"{self.path / STATE} is damaged: start anew with --restart") from error
        if found != STATE_FORMAT:
            raise ValueError(f"{self.path} has format {found}, sepkit goes on with {STATE_FORMAT}: use --restart")
        return state

    def begin(self) -> None:
        """Make the folder, empty of an earlier training, and say in it what is trained."""
        with writing(self.path, "choose another folder with --run"):
            if _is_run(self.path):
                self._clear()
            (self.path / STATE.parent).mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path / RECIPE) as temporary:
                temporary.write_text(self.recipe.dump(), encoding="utf-8")

    def _sweep(self) -> None:
        """Remove what a process left half written that was killed; nobody else writes while the folder is held."""
        if _is_run(self.path):
            self._remove(*(f"{folder}{PREFIX}*" for folder in ("", "training/", "pictures/")))

    def _clear(self) -> None:
        """Remove the files of a run, and nothing else."""
        self._sweep()
        self._remove(*map(str, _FILES), "events.out.tfevents.*", "pictures/epoch_*.png", "pictures/best_*.png")

    def _remove(self, *patterns: str) -> None:
        for path in (path for pattern in patterns for path in self.path.glob(pattern) if path.is_file()):
            path.unlink(missing_ok=True)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the history and the state, which says what is done; a kill leaves the old state or the new one."""
        with writing(self.path, self.way_on()):
            if state["history"]:
                with atomic_file(self.path / HISTORY) as temporary:
                    write_history(temporary, state["history"])
            with atomic_file(self.path / STATE) as temporary, temporary.open("wb") as file:
                torch.save({"format": STATE_FORMAT, **state}, file)  # to a path, torch loses why it failed

    def way_on(self) -> str:
        """Say what is safe when a training breaks off, and how it goes on."""
        if (self.path / STATE).is_file():
            return "the state saved last is whole: the same command goes on from there"
        return "nothing was saved yet: the same command begins anew"

    def draw(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Draw the curves."""
        from sepkit.plots import plot_history

        with atomic_file(self.path / PICTURE, durable=False) as temporary:
            plot_history(history)[0].figure.savefig(temporary, format="png")


def _is_run(path: Path) -> bool:
    """Tell whether a training left something in a folder."""
    if not (path / RECIPE).is_file():
        return False
    if (path / STATE).is_file():
        return True
    stored = _read_recipe(path)
    if stored is None or write_yaml(stored) != (path / RECIPE).read_text(encoding="utf-8"):
        return False  # written by hand
    return _is_model(path) or _was_killed_early(path)


def _files_of_others(path: Path) -> bool:
    return any(entry.name != LOCK for entry in path.iterdir())


def _is_finished(path: Path) -> bool:
    try:
        return bool(read_card(path).get("finished"))
    except ModelError:
        return False


def _is_model(path: Path) -> bool:
    try:
        return bool(read_card(path))
    except ModelError:
        return False


def _was_killed_early(path: Path) -> bool:
    """Tell whether a folder holds what a training leaves that did not come to save its state."""
    if any((path / name).exists() for name in (PICTURE, REPORT)) or not (path / STATE.parent).is_dir():
        return False
    return all(file.name.startswith(PREFIX) for file in (path / STATE.parent).iterdir())


def _read_recipe(path: Path) -> dict[str, Any] | None:
    """Read the recipe of a run folder; None where it is damaged."""
    try:
        stored = parse_yaml(read_text(path / RECIPE))
    except ValueError:
        return None
    return stored if isinstance(stored, dict) else None


def _is_same_place(root: str, data: object) -> bool:
    """Tell whether stored settings of the data name the same folder, counted from the current one; `demo` is none."""
    other = data.get("root") if isinstance(data, Mapping) else None
    return isinstance(other, str) and "demo" not in (root, other) and Path(root).resolve() == Path(other).resolve()


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in FREE_KEYS)


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write one line an epoch; a column that an epoch lacks stays empty."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
