"""Observers of auralflow's names: each writes one kind of thing for TensorBoard, alone or with the others."""

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sepkit.observers.media import parameters_of
from sepkit.observers.training_view import TrainingView

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from tensorboard.compat.proto.summary_pb2 import Summary
    from torch import Tensor


class _Page:
    """An event file of one's own in the run folder, opened at the first value; `repeats`: steps may come again."""

    def __init__(self, suffix: str, repeats: bool = False) -> None:
        self.suffix, self.repeats, self.file = suffix, repeats, None

    def add(self, view: TrainingView, step: int, values: Iterable["Summary.Value"]) -> None:
        from sepkit.observers.events import EventFile

        self.file = self.file or EventFile(view.folder, f".{self.suffix}", step if self.repeats else None)
        self.file.add(step, values)

    def add_figure(self, view: TrainingView, name: str, figure: "Figure", file: Path | None) -> None:
        """Write a figure, into a PNG file too where one is named."""
        from sepkit.observers.events import picture

        png = io.BytesIO()
        figure.savefig(png, format="png")
        self.add(view, view.epoch, [picture(name, png.getvalue())])
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png.getvalue())


class LossCallback:
    """Draw the loss as a curve, of each step or of each epoch.

    Args:
        event: "iteration" or "epoch".
        main_tag: name of the curve; None: loss/iter or loss/epoch.
    """

    def __init__(self, event: Literal["iteration", "epoch"] = "epoch", main_tag: str | None = None) -> None:
        tags = {"iteration": "loss/iter", "epoch": "loss/epoch"}
        if event not in tags:
            raise ValueError(f"event must be one of {', '.join(tags)}, got {event!r}")
        self.event, self.main_tag = event, main_tag or tags[event]
        self.writes = re.sub(r"\W", "_", self.main_tag)
        self._page = _Page(self.writes, repeats=event == "iteration")

    def on_step(self, view: TrainingView) -> None:
        """Draw a step."""
        if self.event == "iteration":
            self._draw(view, view.step)

    def on_epoch(self, view: TrainingView) -> None:
        """Draw an epoch."""
        if self.event == "epoch":
            self._draw(view, view.epoch)

    def _draw(self, view: TrainingView, step: int) -> None:
        from sepkit.observers.events import number

        self._page.add(view, step, [number(self.main_tag, view.row["loss"])])


class LayersVisualCallback:
    """Count the values of each layer's weights, and of the gradients of an epoch's last step.

    Args:
        show_weights: count weights.
        show_grad: count gradients, unscaled and clipped.
        use_norm: draw the norm of each as a curve instead.
    """

    def __init__(self, show_weights: bool = True, show_grad: bool = True, use_norm: bool = False) -> None:
        self.shown = {"weights": show_weights, "gradients": show_grad}
        self.use_norm = use_norm
        self.writes = "layers"
        self._page = _Page(self.writes)

    def on_epoch(self, view: TrainingView) -> None:
        """Count after an epoch."""
        from sepkit.observers.events import histogram, number

        for layer, *tensors in parameters_of(view):
            for (kind, wanted), values in zip(self.shown.items(), tensors, strict=True):
                if wanted and values is not None:
                    name = f"{kind}/{layer}"
                    value = number(f"{name}/norm", values.norm()) if self.use_norm else histogram(name, values)
                    self._page.add(view, view.epoch, [value])


class _VisualCallback:
    def __init__(self, kind: str, save_dir: str | None, save_freq: int) -> None:
        if save_freq < 1:
            raise ValueError(f"save_freq must be at least 1, got {save_freq}")
        self.kind = self.writes = kind
        self.save_dir, self.save_freq = save_dir, save_freq
        self._page = _Page(kind)

    def on_epoch(self, view: TrainingView) -> None:
        """Draw after a validation."""
        for source, estimate, target in _first_excerpt(view):
            figure, file = self._draw(source, estimate, target, view.averaged.sample_rate), None
            if self.save_dir and view.epoch % self.save_freq == 0:
                file = view.folder / self.save_dir / f"{source}_{view.epoch}_{self.kind}.png"
            self._page.add_figure(view, f"{self.kind}/{source}", figure, file)


class WaveformVisualCallback(_VisualCallback):
    """Draw the waveforms of estimate and target after each validation.

    Args:
        save_dir: folder for PNG files too, below the run's unless absolute; None: no files.
        save_freq: epochs from file to file, >= 1.

    Raises:
        ValueError: save_freq is below 1.
    """

    def __init__(self, save_dir: str | None = None, save_freq: int = 5) -> None:
        super().__init__("waveform", save_dir, save_freq)

    def _draw(self, source: str, estimate: "Tensor", target: "Tensor", _sample_rate: int) -> "Figure":
        from sepkit.plots import waveform_show_diff

        return waveform_show_diff(source, estimate, target)


class SpectrogramVisualCallback(_VisualCallback):
    """Draw mel spectrograms of estimate and target, and their difference, after each validation.

    Args:
        save_dir: folder for PNG files too, below the run's unless absolute; None: no files.
        save_freq: epochs from file to file, >= 1.

    Raises:
        ValueError: save_freq is below 1.
    """

    def __init__(self, save_dir: str | None = None, save_freq: int = 5) -> None:
        super().__init__("spectrogram", save_dir, save_freq)

    def _draw(self, _source: str, estimate: "Tensor", target: "Tensor", sample_rate: int) -> "Figure":
        from sepkit.plots import plot_difference

        return plot_difference(estimate, target, sample_rate)[0].figure


class AudioPlayerCallback:
    """Write estimate and target as sounds after each validation.

    Args:
        embed_residual: the mixture without either, too.
    """

    def __init__(self, embed_residual: bool = True) -> None:
        self.embed_residual = embed_residual
        self.writes = "audio"
        self._page = _Page(self.writes)

    def on_epoch(self, view: TrainingView) -> None:
        """Write what a validation gave."""
        from sepkit.observers.events import sound

        for source, estimate, target in _first_excerpt(view):
            sounds = {f"{source}/estimate": estimate, f"{source}/true": target}
            if self.embed_residual:
                mixture = view.excerpts[0].mixture
                sounds[f"{source}/residual/estimate"] = mixture - estimate
                sounds[f"{source}/residual/true"] = mixture - target
            for name, waveform in sounds.items():
                self._page.add(view, view.epoch, [sound(name, waveform, view.averaged.sample_rate)])


def _first_excerpt(view: TrainingView) -> Iterable[tuple]:
    """List source, estimate and target of the first excerpt; nothing where there was no validation."""
    if not view.excerpts:
        return ()
    excerpt = view.excerpts[0]
    return zip(excerpt.sources, excerpt.estimates, excerpt.targets, strict=True)
