"""One recording and its stems, read from their files."""

import os
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from sepkit import audio
from sepkit.excerpts import Excerpt, best_part
from sepkit.plots import new_figure, plot_waveforms
from sepkit.report.media import drawing, picture
from sepkit.report.page import Section, build_section

_COARSEST = 10  # grains in a second
_BLOCK = 10  # s that are read at a time
_SECONDS = 10.0
_DRAWN = 2001  # pairs of extremes at least in the picture of a waveform, from which on it is filled


class Overview:
    """A file in memory as extremes and power of grains.

    Args:
        path: audio file, which may be truncated.
        seconds: duration of what is drawn; grains are a tenth of a second, or so short that a picture is full of them.

    Attributes:
        sample_rate: Hz.
        n_samples: samples.
        grain: samples.
        power: (K,), mean square of each grain.
        extremes: (K, 2), least and greatest mean of the channels in each grain.
    """

    def __init__(self, path: str | os.PathLike, seconds: float) -> None:
        with audio.AudioReader(path, allow_truncated=True) as reader:
            self.sample_rate, self.n_samples = reader.info.sample_rate, reader.info.n_samples
            n_grains = max(_COARSEST * seconds, _DRAWN)
            self.grain = max(1, int(self.sample_rate * seconds / n_grains))
            power, extremes = zip(*self._measure_grains(reader), strict=True)
        self.power, self.extremes = torch.cat(power), torch.cat(extremes)

    def _measure_grains(self, reader: audio.AudioReader) -> Iterator[tuple[Tensor, Tensor]]:
        for block in reader.blocks(self.grain * max(1, _BLOCK * self.sample_rate // self.grain)):
            missing = -block.shape[-1] % self.grain
            grains = torch.nn.functional.pad(block, (0, missing)).unflatten(-1, (-1, self.grain))  # (C, K, grain)
            yield grains.square().mean((0, 2)), torch.stack(grains.mean(0).aminmax(dim=-1), -1)

    def outline(self, together: int = 1) -> tuple[Tensor, float]:
        """Build a waveform that alternates between extremes, so many that `plot_waveforms` fills what lies between.

        Args:
            together: grains that a pair of extremes stands for.

        Returns:
            (T,), and its sample rate in Hz.
        """
        missing = -len(self.extremes) % together
        padded = torch.cat([self.extremes, self.extremes[-1:].expand(missing, 2)]).unflatten(0, (-1, together))
        pairs = torch.stack([padded[..., 0].amin(1), padded[..., 1].amax(1)], -1)
        repeats = -(-_DRAWN // len(pairs))
        return pairs.repeat_interleave(repeats, 0).flatten(), 2 * repeats * self.sample_rate / (self.grain * together)


def separation_parts(
    name: str, recording: str | os.PathLike, stems: Mapping[str, str | os.PathLike], seconds: float, gain: float
) -> tuple[Section, Excerpt]:
    """Draw the waveforms of a recording and its stems, and cut the excerpt where the first stem is loudest."""
    files = {"mixture": recording, **stems}
    overviews = {label: Overview(path, seconds) for label, path in files.items()}
    first = overviews[next(iter(stems))]
    part = best_part(first.power[None], first.n_samples, first.grain, round(_SECONDS * first.sample_rate))
    waveforms = {label: audio.read(path, *part, allow_truncated=True)[0] for label, path in files.items()}
    excerpt = Excerpt(
        name,
        tuple(stems),
        first.sample_rate,
        part[0] / first.sample_rate,
        gain * waveforms["mixture"],
        torch.stack([waveforms[stem] for stem in stems]),
    )
    return build_section("Waveforms", "summary", pictures=_draw_overviews(overviews)), excerpt


def _draw_overviews(overviews: Mapping[str, Overview]) -> list[str]:
    """Draw waveforms on one scale, each as a picture of its own."""
    together = max(1, max(len(overview.extremes) for overview in overviews.values()) // _DRAWN)
    outlines = {label: overview.outline(together) for label, overview in overviews.items()}
    rate = next(iter(outlines.values()))[1]
    with drawing():
        figures = {label: new_figure(height=1.6) for label in outlines}
        axes = [figure.subplots() for figure in figures.values()]
        plot_waveforms({label: samples for label, (samples, _) in outlines.items()}, rate, axes)
        for ax in axes:
            ax.set_xlabel("time (s)")
        return [picture(figure, f"Waveform of {label}") for label, figure in figures.items()]
