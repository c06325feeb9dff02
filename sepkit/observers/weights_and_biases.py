"""Weights & Biases."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from uuid import uuid4

from sepkit.observers.media import Media, MediaSchedule, numbers_of
from sepkit.observers.training_view import TrainingView

TRACKED = Path("training") / "wandb.txt"  # in the run folder: by which a training that goes on finds its run


class WeightsAndBiases:
    """Send all numbers, and at ten epochs pictures and sounds, to Weights & Biases: what TensorBoard shows.

    The run goes on where the training does. It needs the package `wandb`, which `sepkit[wandb]` installs.

    Args:
        project: where the run is listed.
        mode: "online", or "offline": write into the run folder, for `wandb sync` to send later.
        name: of the run; None: the run folder's.

    Raises:
        ValueError: wandb is not installed.
    """

    writes = "to wandb"

    def __init__(
        self, project: str = "sepkit", mode: Literal["online", "offline"] = "online", name: str | None = None
    ) -> None:
        if find_spec("wandb") is None:
            raise ValueError("the observer WeightsAndBiases needs the package wandb: pip install wandb")
        self.project, self.mode, self.name = project, mode, name
        self._schedule = MediaSchedule()
        self._run = None

    def on_epoch(self, view: TrainingView) -> None:
        """Send an epoch, and of a run that begins those before it."""
        if self._run is None:
            for row in self._begin(view):
                self._run.log(numbers_of(row), step=row["epoch"])
        self._run.log({**numbers_of(view.row), **self._media(self._schedule.after_epoch(view))}, step=view.epoch)

    def on_end(self, view: TrainingView) -> None:
        """Send the best, and end the run."""
        if self._run is None:
            return
        media = self._media(self._schedule.at_end(view))
        if media:
            self._run.log(media, step=view.epoch)
        self._run.finish(exit_code=0 if view.finished else 1)
        self._run, self._schedule = None, MediaSchedule()  # of another training

    def _begin(self, view: TrainingView) -> Iterable:
        """Open the run, and list the epochs that it lacks."""
        import wandb

        id_file = view.folder / TRACKED
        is_new = not id_file.exists()
        run_id = uuid4().hex[:8] if is_new else id_file.read_text(encoding="ascii")
        self._run = wandb.init(
            project=self.project,
            name=self.name or view.folder.resolve().name,
            id=run_id,
            resume="allow",
            mode=self.mode,
            dir=str(view.folder),
            config=dict(view.recipe),
            settings=wandb.Settings(silent=True, console="off"),
        )
        id_file.write_text(run_id, encoding="ascii")  # not before the run is open: a resumed training would count on it
        return view.history[:-1] if is_new else ()

    def _media(self, excerpts: Iterable[Media]) -> dict:
        import wandb

        objects = {}
        for media in excerpts:
            for name, waveform in media.sounds.items():
                objects[name] = wandb.Audio(waveform.T.clamp(-1, 1).numpy(), sample_rate=media.sample_rate)
            objects.update({name: wandb.Image(str(path)) for name, path in media.pictures.items()})
        return objects
