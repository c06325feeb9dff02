"""One recording and its stems, read from their files."""

import os
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from sepkit import audio
from sepkit.excerpts import Excerpt, best_part
from sepkit.plots import plot_waveforms
from sepkit.report.media import drawing, new_figure, picture
from sepkit.report.page import Section

_GRAINS_PER_SECOND = 10
_SECONDS = 10.0
_DRAWN = 1000  # pairs of extremes in the picture of a waveform


class Overview:
    """What a long file sounds like, in memory only as extremes and power of tenths of a second.

    Args:
        path: audio file, which may be truncated.

    Attributes:
        sample_rate: Hz.
        n_frames: samples.
        grain: samples of a tenth of a second.
        power: (K,), mean square of each grain.
        extremes: (K, 2), least and greatest mean of the channels in each grain.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        with audio.AudioReader(path, allow_truncated=True) as reader:
            self.sample_rate, self.n_frames = reader.info.sample_rate, reader.info.n_frames
            self.grain = max(1, self.sample_rate // _GRAINS_PER_SECOND)
            found = list(self._grains(reader))
        self.power = torch.cat([power for power, _ in found])
        self.extremes = torch.cat([extremes for _, extremes in found])

    def _grains(self, reader: audio.AudioReader) -> Iterator[tuple[Tensor, Tensor]]:
        for block in reader.blocks(self.grain * 100):
            missing = -block.shape[-1] % self.grain
            grains = torch.nn.functional.pad(block, (0, missing)).unflatten(-1, (-1, self.grain))  # (C, K, grain)
            yield grains.square().mean((0, 2)), torch.stack(grains.mean(0).aminmax(dim=-1), -1)

    def outline(self) -> tuple[Tensor, float]:
        """Give a waveform (T,) that alternates between the extremes, and its sample rate in Hz."""
        together = -(-len(self.extremes) // _DRAWN)  # grains
        missing = -len(self.extremes) % together
        padded = torch.cat([self.extremes, self.extremes[-1:].expand(missing, 2)]).unflatten(0, (-1, together))
        pairs = torch.stack([padded[..., 0].amin(1), padded[..., 1].amax(1)], -1)
        return pairs.flatten(), 2 * self.sample_rate / (self.grain * together)


def separation_parts(
    name: str, recording: str | os.PathLike, stems: Mapping[str, str | os.PathLike], gain: float
) -> tuple[Section, Excerpt]:
    """Draw all of a recording and of its stems, and cut out where the first stem is loudest.

    Args:
        name: of the recording.
        recording: audio file.
        stems: file by name.
        gain: by which the stems were scaled.

    Returns:
        The section with the waveforms, and the excerpt.
    """
    files = {"mixture": recording, **stems}
    overviews = {label: Overview(path) for label, path in files.items()}
    first = overviews[next(iter(stems))]
    part = best_part(first.power[None], first.n_frames, first.grain, round(_SECONDS * first.sample_rate))
    heard = {label: audio.read(path, *part, allow_truncated=True)[0] for label, path in files.items()}
    excerpt = Excerpt(
        name,
        tuple(stems),
        first.sample_rate,
        part[0] / first.sample_rate,
        gain * heard["mixture"],
        torch.stack([heard[stem] for stem in stems]),
    )
    return Section("Waveforms", _draw(overviews)), excerpt


def _draw(overviews: Mapping[str, Overview]) -> str:
    outlines = {label: overview.outline() for label, overview in overviews.items()}
    rate = next(iter(outlines.values()))[1]
    with drawing():
        figure = new_figure(5.2, 0.5 + 0.85 * len(outlines))
        axes = list(figure.subplots(len(outlines), sharex=True, sharey=True))
        plot_waveforms({label: samples for label, (samples, _) in outlines.items()}, rate, axes)
        return picture(figure, f"Waveforms of {', '.join(outlines)}")
