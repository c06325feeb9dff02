"""TensorBoard."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sepkit.observers.media import Media, MediaSchedule, numbers_of, parameters_of
from sepkit.observers.training_view import TrainingView

_SUFFIX = ".sepkit"  # of the names of the event files


class TensorBoard:
    """Write curves of all numbers, and at ten epochs pictures and sounds, for `tensorboard --logdir runs`.

    A training that goes on adds to what was written.

    Args:
        histograms: also count the values of the weights, and of the last step's gradients after clipping.
    """

    writes = "TensorBoard's curves"

    def __init__(self, histograms: bool = False) -> None:
        self.histograms = histograms
        self._schedule = MediaSchedule()
        self._file = None

    def on_epoch(self, view: TrainingView) -> None:
        """Write an epoch, and into the first file those before it."""
        if self._file is None:
            from sepkit.observers.events import EventFile

            is_first = not any(view.folder.glob(f"events.out.tfevents.*{_SUFFIX}"))
            self._file = EventFile(view.folder, _SUFFIX)
            for row in view.history[:-1] if is_first else ():
                self._file.add(row["epoch"], _curves(row))
        self._file.add(view.epoch, [*_curves(view.row), *(_histograms(view) if self.histograms else ())])
        self._add_media(self._schedule.after_epoch(view))

    def on_end(self, view: TrainingView) -> None:
        """Write the best."""
        if self._file is not None:
            self._add_media(self._schedule.at_end(view))
        self._file, self._schedule = None, MediaSchedule()  # of another training

    def _add_media(self, excerpts: Iterable[Media]) -> None:
        from sepkit.observers.events import picture, sound

        for media in excerpts:
            for name, waveform in media.sounds.items():
                self._file.add(media.epoch, [sound(name, waveform, media.sample_rate)])
            self._file.add(media.epoch, [picture(name, path.read_bytes()) for name, path in media.pictures.items()])


def _curves(row: Mapping[str, Any]) -> list:
    from sepkit.observers.events import number

    return [number(name, value) for name, value in numbers_of(row).items()]


def _histograms(view: TrainingView) -> Iterator:
    from sepkit.observers.events import histogram

    for name, weights, gradient in parameters_of(view):
        yield histogram(f"weights/{name}", weights)
        if gradient is not None:
            yield histogram(f"gradients/{name}", gradient)
