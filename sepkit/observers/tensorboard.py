"""TensorBoard."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sepkit.observers.media import Media, MediaSchedule, numbers_of, parameters_of
from sepkit.observers.training_view import TrainingView

_SUFFIX = ".sepkit"  # of the names of the event files, by which they are told from others'


class TensorBoard:
    """Write curves of all numbers, and at ten epochs pictures and sounds, for `tensorboard --logdir runs`.

    A training that goes on takes over what was written, so that nothing is missing or there twice.

    Args:
        histograms: also count the values of the weights, and of the last step's gradients after clipping.
    """

    writes = "TensorBoard's curves"

    def __init__(self, histograms: bool = False) -> None:
        self.histograms = histograms
        self._exhibition = MediaSchedule()
        self._file = None

    def on_epoch(self, view: TrainingView) -> None:
        """Write an epoch, and at first those before it."""
        if self._file is None:
            self._open(view)
        self._file.add(view.epoch, [*_curves(view.row), *(_histograms(view) if self.histograms else ())])
        self._show(self._exhibition.after_epoch(view))

    def on_end(self, view: TrainingView) -> None:
        """Show the best."""
        if self._file is not None:
            self._show(self._exhibition.at_end(view))

    def _open(self, view: TrainingView) -> None:
        from sepkit.observers.events import EventFile

        backlog = {row["epoch"]: _curves(row) for row in view.history[:-1]}
        self._file = EventFile(view.folder, _SUFFIX, view.epoch, backlog)

    def _show(self, showings: Iterable[Media]) -> None:
        from sepkit.observers.events import picture, sound

        for showing in showings:
            for name, waveform in showing.sounds.items():
                self._file.add(showing.epoch, [sound(name, waveform, showing.sample_rate)])
            self._file.add(showing.epoch, [picture(name, path.read_bytes()) for name, path in showing.pictures.items()])


def _curves(row: Mapping[str, Any]) -> list:
    from sepkit.observers.events import number

    return [number(name, value) for name, value in numbers_of(row).items()]


def _histograms(view: TrainingView) -> Iterator:
    from sepkit.observers.events import histogram

    for name, weights, gradient in parameters_of(view):
        yield histogram(f"weights/{name}", weights)
        if gradient is not None:
            yield histogram(f"gradients/{name}", gradient)
