"""The run folder: what training leaves on disk, and how it goes on from there."""

import csv
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sepkit.disk import OutputError, not_left_empty, writing
from sepkit.files import PREFIX, atomic_file
from sepkit.locks import LOCK, Holder, check_still_held, locked
from sepkit.model_folder import CARD, WEIGHTS, ModelError, read_card
from sepkit.observers.media import BEST
from sepkit.observers.weights_and_biases import TRACKED
from sepkit.plain import parse_yaml, read_text
from sepkit.recipe import Recipe
from sepkit.recipe.base import Base
from sepkit.report import FILE as REPORT
from sepkit.training.best_models import FOLDER as MODELS
from sepkit.training.checkpoints import Checkpoints
from sepkit.training.step_record import FILE as STEPS
from sepkit.training.step_record import StepRecord
from sepkit.training.weights import ADAPTERS

RECIPE, HISTORY, PICTURE = "recipe.yaml", "history.csv", "history.png"
MARKER = Path("training") / "run"
_MARK = "A training of sepkit lies in the folder around this one: --restart may remove it.\n"
_FILES = (Path("training") / STEPS, ADAPTERS, TRACKED, BEST, CARD, WEIGHTS, HISTORY, PICTURE, REPORT, RECIPE)
_BASE = "separator.from"
_LATER = {  # keys that older runs have not written down, and what they stood for
    "separator": {"from": None, "normalize": None, "chunking": None, "residual": None},
    "data": {"layout": None, "stems": {}, "sampling": {"tracks": "duration", "balanced": False, "activity": None}},
    "training": {"freeze": [], "recompute": False, "deterministic": False, "sharding": None},
}
# They may differ between the parts of one run, since they change no result, or only what would have ended it; the store
# keeps lossy files in 16 bits.
FREE_KEYS = (
    "data.workers",
    "data.on_error",
    "data.store",
    "data.store_limit",
    "training.epochs",
    "training.keep_best",
    "training.checkpoint_minutes",
    "training.max_skipped",
    "training.sharding",
    "observers",
)


class RunFolder:
    """A folder in which one recipe is trained.

    What makes a folder a run is a file that a training writes first, `training/run`; a recipe, or a model, makes none.

    Args:
        path: the folder.
        recipe: what is trained in it.
        restart: ignore an earlier training in it, which `begin` removes.

    Attributes:
        moved: keys of the data whose paths are others than those of the training in it, which is right where the same
            songs lie there.

    Raises:
        ValueError: the folder holds the training of another recipe, or no training but other files, or the recipe
            would be removed with the earlier training.
    """

    def __init__(self, path: str | Path, recipe: Recipe, restart: bool = False) -> None:
        self.path, self.recipe, self.restart = Path(path), recipe, restart
        self.checkpoints = Checkpoints(self.path / MARKER.parent)
        self.steps = StepRecord(self.path / MARKER.parent)
        self.moved: list[str] = []
        self._check()

    @contextmanager
    def held(self) -> Iterator[Holder | None]:
        """Keep other processes out while the context lasts, and remove what a killed one left half written.

        Returns:
            As context: the process that died holding it, or None. A finished run that cannot be written to is not held.

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

    @property
    def is_run(self) -> bool:
        """Return whether a training has begun in the folder."""
        return (self.path / MARKER).is_file()

    def _check(self) -> None:
        """Refuse a folder that this training may not use."""
        recipe, stored = self.recipe, self.path / RECIPE
        if self.is_run:
            if not self.restart:
                self._compare()
            elif recipe.path and recipe.path.exists() and stored.exists() and recipe.path.samefile(stored):
                raise ValueError(
                    f"{recipe.path} lies in the run that --restart would remove: copy it elsewhere, or choose another "
                    "folder with --run"
                )
            elif recipe.base and recipe.base.folder.resolve() == self.path.resolve():
                raise ValueError(
                    f"{self.path} holds the model to start from, which --restart would remove: choose another folder "
                    "with --run"
                )
        elif (self.path / WEIGHTS).is_file():
            raise ValueError(
                f"{self.path} holds a trained model without the state to go on from: choose another folder with --run"
            )
        elif self.path.is_file() or any(not entry.is_dir() and entry.name != LOCK for entry in self.path.rglob("*")):
            raise ValueError(f"{self.path} is not empty and holds no run: choose another folder with --run")

    def _compare(self) -> None:
        """Refuse to go on with a run of another recipe; one that was killed before it wrote its recipe has none."""
        path = self.path / RECIPE
        if not path.exists() and not self.checkpoints.exist():
            return
        try:
            stored = parse_yaml(read_text(path))
        except (ValueError, FileNotFoundError):
            stored = None
        if not isinstance(stored, dict):
            raise ValueError(f"{path} is damaged: start anew with --restart, or choose another --run")
        stored |= {key: {**later, **stored[key]} for key, later in _LATER.items() if isinstance(stored.get(key), dict)}
        free = tuple(f"{key}." for key in FREE_KEYS)
        different = [key for key in self.recipe.differences(stored) if not f"{key}.".startswith(free)]
        of_base = [key for key in different if key.startswith(_BASE)]
        if of_base:
            place = different.index(of_base[0])
            different = [key for key in different if key not in of_base]
            if not _is_same_base(self.recipe.base, stored.get("separator")):
                different.insert(place, _BASE)
        self.moved = _list_moved(self.recipe.data.root, stored.get("data"))
        different = [key for key in different if key not in self.moved]
        if different:
            raise ValueError(
                f"{self.path} holds the run of another recipe, which differs in {', '.join(different)}: "
                f"choose another folder with --run, or start anew with --restart{self._way_on(different)}"
            )

    def _way_on(self, different: Sequence[str]) -> str:
        """Describe how to train on from a model with other settings, where its weights fit."""
        if any(key.startswith("separator") for key in different) or not (self.path / CARD).is_file():
            return ""
        names = ("more", *(f"more{number}" for number in range(2, 1000)))
        run = next(place for place in map(self.path.with_name, names) if not place.exists())
        added = f"--run {shlex.quote(str(run))} --from {shlex.quote(str(self.path))}"
        return f"; to train on from its weights, add `{added}` to the same command: a run of its own"

    def load(self) -> dict[str, Any] | None:
        """Load the newest state that is whole; None where there is none yet.

        Raises:
            ValueError: all are damaged, or it is of a later format.
        """
        return None if self.restart else self.checkpoints.load()

    def begin(self) -> None:
        """Mark the folder as a run, remove an earlier training from it, and write the recipe."""
        with writing(self.path, "choose another folder with --run"):
            if self.is_run:
                self._sweep()
                self.checkpoints.remove()
                for model in (self.path / MODELS).glob("epoch_*/"):
                    shutil.rmtree(model)
                self._remove(*map(str, _FILES), "events.out.tfevents.*", "pictures/epoch_*.png", "pictures/best_*.png")
            else:
                (self.path / MARKER.parent).mkdir(parents=True, exist_ok=True)
                (self.path / MARKER).write_text(_MARK, encoding="utf-8")
            self._write_recipe()

    def go_on(self) -> None:
        """Write the recipe down again where something changed that may change."""
        with writing(self.path, self.way_on()):
            if read_text(self.path / RECIPE) != self.recipe.dump():
                self._write_recipe()

    def _write_recipe(self) -> None:
        with atomic_file(self.path / RECIPE) as temporary:
            temporary.write_text(self.recipe.dump(), encoding="utf-8")

    def _sweep(self) -> None:
        """Remove what a killed process left half written; no other process writes while the folder is held."""
        if self.is_run:
            self._remove(*(f"{folder}{PREFIX}*" for folder in ("", "training/", "pictures/")))

            for left in self.checkpoints.folder.glob(f"{PREFIX}*/"):
                shutil.rmtree(left, ignore_errors=True)

    def _remove(self, *patterns: str) -> None:
        for path in (path for pattern in patterns for path in self.path.glob(pattern) if path.is_file()):
            path.unlink(missing_ok=True)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the history and the state; a kill leaves the old states or the new one, too.

        Raises:
            sepkit.locks.LockedError: another process, on another machine, took the folder over.
            sepkit.disk.OutputError: it cannot be written to.
        """
        history = state["progress"]["history"]
        self.check_held()
        with writing(self.path, self.way_on()):
            if history:
                with atomic_file(self.path / HISTORY) as temporary:
                    write_history(temporary, history)
            self.checkpoints.save(state, state["progress"]["step"])

    def check_held(self) -> None:
        """Refuse to write any more where another machine's process took the folder over: LockedError."""
        check_still_held(self.path, "nothing is written any more, and the training ends here")

    def way_on(self) -> str:
        """Describe what is safe when a training breaks off, and how it goes on."""
        if self.checkpoints.exist():
            return "the state saved last is whole: the same command goes on from there"
        return "nothing was saved yet: the same command begins anew"

    def draw(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Draw the curves."""
        from sepkit.plots import plot_history

        with atomic_file(self.path / PICTURE, durable=False) as temporary:
            plot_history(history)[0].figure.savefig(temporary, format="png")


def _is_finished(path: Path) -> bool:
    try:
        return bool(read_card(path).get("finished"))
    except ModelError:
        return False


def _is_same_base(base: Base | None, separator: object) -> bool:
    """Return whether stored settings name a base of the same weights, wherever it lies."""
    stated = separator.get("from") if isinstance(separator, Mapping) else None
    stored = stated.get("weights") if isinstance(stated, Mapping) else None
    return base is not None and stored == base.weights


def _list_moved(root: Any, data: object) -> list[str]:
    """List the keys of paths that are others in stored settings, of as many sets; `demo` is no path."""
    own, stored = _list_roots(root), _list_roots(data.get("root") if isinstance(data, Mapping) else None)
    if own.keys() != stored.keys() or any("demo" in (own[key], stored[key]) for key in own if own[key] != stored[key]):
        return []
    return [key for key in own if own[key] != stored[key]]


def _list_roots(root: Any) -> dict[str, str]:
    """List the paths of sets of songs by their keys."""
    if isinstance(root, list):
        numbered = enumerate(root)
        return {f"data.root.{n}{key[9:]}": path for n, each in numbered for key, path in _list_roots(each).items()}
    if isinstance(root, str):
        return {"data.root": root}
    path = root.get("root") if isinstance(root, Mapping) else getattr(root, "root", None)
    return {"data.root.root": str(path)}


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write one line an epoch; a column that an epoch lacks stays empty."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
