"""Training examples, to hear and see before anything is trained."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sepkit.excerpts import Excerpt
from sepkit.report.excerpts import show_stems
from sepkit.report.media import Player, common_gain, player
from sepkit.report.page import Section, Table, Tile, build_section, write_page

_KILOBITS = 128.0
_ROOM = 1.2e7  # characters for all sound of a page
_AUDIBLE = 1e-3  # of the mixture's level
_REST = "rest: mixture minus targets"
_LEGEND = (
    "Mel bands in dB below the loudest one of an example. Levels and peaks are in dB re full scale, as the network "
    "gets them; the sound of an example is scaled down where it would clip."
)


@dataclass(frozen=True)
class Preview:
    """A training example, as the network gets it.

    Attributes:
        name: of the example.
        about: what it is, in a few words.
        targets: waveforms (C, T) by name, of those that the example has.
        mixture: (C, T).
        sample_rate: Hz.
        table: what each stem was taken from, and what was done to it.
    """

    name: str
    about: str
    targets: dict[str, Tensor]
    mixture: Tensor
    sample_rate: int
    table: Table


def report_preview(
    path: str | os.PathLike, title: str, lead: str, tiles: Sequence[Tile], examples: Sequence[Preview]
) -> Path:
    """Write a page of training examples.

    Args:
        path: the file.
        title: heading.
        lead: a sentence below it.
        tiles: the main figures.
        examples: in their order.
    """
    return write_page(path, "Training examples", title, lead, tiles, [_section(examples)])


def _section(examples: Sequence[Preview]) -> Section:
    seconds = sum((2 + len(example.targets)) * _seconds(example) for example in examples)
    kilobits = min(_KILOBITS, _ROOM * 6 / 1000 / seconds)  # six bits a character
    described = [_describe(example, kilobits) for example in examples]
    return build_section("Examples", "excerpts", notes=[_LEGEND], excerpts=described)


def _seconds(example: Preview) -> float:
    return example.mixture.shape[-1] / example.sample_rate


def _describe(example: Preview, kilobits: float) -> dict[str, object]:
    """Prepare an example for the template."""
    whole = {"mixture": example.mixture}
    rest = example.mixture - sum(example.targets.values())
    if rest.norm() > _AUDIBLE * example.mixture.norm():
        whole[_REST] = rest
    gain = common_gain([*whole.values(), *example.targets.values()])

    def encode(label: str, waveform: Tensor) -> Player:
        return player(label, gain * waveform, example.sample_rate, kilobits)

    targets, names = list(example.targets.values()), tuple(example.targets)
    excerpt = Excerpt(example.name, names, example.sample_rate, 0.0, example.mixture, targets)
    return {
        "track": example.name,
        "seconds": _seconds(example),
        "place": example.about,
        "table": example.table,
        "players": [],
        "cards": show_stems(excerpt, whole, encode),
    }


def decibels(value: float) -> str:
    """Format a level or a peak in dB re full scale; that of silence is "silent"."""
    return f"{20 * math.log10(value):.1f} dB".replace("-", "−") if value > 0 else "silent"
