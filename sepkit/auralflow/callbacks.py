"""Observers of auralflow's names: each writes one kind of thing for TensorBoard, and may stand beside the others."""

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


class _Page:
    """An event file of one's own in the run folder, opened when there is something to write."""

    def __init__(self, suffix: str) -> None:
        self.suffix, self.file = suffix, None

    def add(self, view: TrainingView, step: int, values: Iterable["Summary.Value"]) -> None:
        from sepkit.observers.events import EventFile

        self.file = self.file or EventFile(view.folder, f".{self.suffix}", step)
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
        self.event, self.main_tag = event, main_tag or {"iteration": "loss/iter", "epoch": "loss/epoch"}[event]
        self.writes = re.sub(r"\W", "_", self.main_tag)
        self._page = _Page(self.writes)

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


class WaveformVisualCallback:
    """Draw the waveforms of estimate and target after each validation.

    Args:
        save_dir: folder for PNG files too, below the run's unless absolute; None: no files.
        save_freq: epochs from file to file, >= 1.

    Raises:
        ValueError: save_freq is below 1.
    """

    def __init__(self, save_dir: str | None = None, save_freq: int = 5) -> None:
        _check_save_freq(save_freq)
        self.save_dir, self.save_freq = save_dir, save_freq
        self.writes = "waveform"
        self._page = _Page(self.writes)

    def on_epoch(self, view: TrainingView) -> None:
        """Draw after a validation."""
        from sepkit.plots import waveform_show_diff

        for source, estimate, target in _first_excerpt(view):
            file = _file(view, self.save_dir, self.save_freq, f"{source}_{view.epoch}_waveform.png")
            self._page.add_figure(view, f"waveform/{source}", waveform_show_diff(source, estimate, target), file)


class SpectrogramVisualCallback:
    """Draw mel spectrograms of estimate and target, and their difference, after each validation.

    Args:
        save_dir: folder for PNG files too, below the run's unless absolute; None: no files.
        save_freq: epochs from file to file, >= 1.

    Raises:
        ValueError: save_freq is below 1.
    """

    def __init__(self, save_dir: str | None = None, save_freq: int = 5) -> None:
        _check_save_freq(save_freq)
        self.save_dir, self.save_freq = save_dir, save_freq
        self.writes = "spectrogram"
        self._page = _Page(self.writes)

    def on_epoch(self, view: TrainingView) -> None:
        """Draw after a validation."""
        from sepkit.plots import plot_difference

        for source, estimate, target in _first_excerpt(view):
            axes = plot_difference(estimate, target, view.separator.sample_rate)
            file = _file(view, self.save_dir, self.save_freq, f"{source}_{view.epoch}_spectrogram.png")
            self._page.add_figure(view, f"spectrogram/{source}", axes[0].figure, file)


class AudioPlayerCallback:
    """Let estimate and target be heard after each validation.

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
            heard = {f"{source}/estimate": estimate, f"{source}/true": target}
            if self.embed_residual:
                mixture = view.excerpts[0].mixture
                heard[f"{source}/residual/estimate"] = mixture - estimate
                heard[f"{source}/residual/true"] = mixture - target
            for name, waveform in heard.items():
                self._page.add(view, view.epoch, [sound(name, waveform, view.separator.sample_rate)])


def _first_excerpt(view: TrainingView) -> Iterable[tuple]:
    """List source, estimate and target of the first excerpt; nothing where there was no validation."""
    if not view.excerpts:
        return ()
    excerpt = view.excerpts[0]
    return zip(excerpt.sources, excerpt.estimates, excerpt.targets, strict=True)


def _check_save_freq(save_freq: int) -> None:
    if save_freq < 1:
        raise ValueError(f"save_freq must be at least 1, got {save_freq}")


def _file(view: TrainingView, save_dir: str | None, save_freq: int, name: str) -> Path | None:
    """Name the file that is due; None: there is none."""
    return view.folder / save_dir / name if save_dir and view.epoch % save_freq == 0 else None
