"""Excerpts as spectrograms and players."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from sepkit import metrics
from sepkit.excerpts import Excerpt
from sepkit.plots import new_figure, plot_difference, plot_separation
from sepkit.report.media import Player, common_gain, drawing, picture, player
from sepkit.report.page import Section, build_section, number

SECONDS = 6.0  # of an excerpt, unless there is a reason for another length
_LONGEST = 10.0  # s
_MOST_PICTURES = 16  # of sources, on a page
_ROOM = 2.6e6  # characters for all sound of a page
_KILOBITS = 128.0
_IN_CARD = 4.0  # inches: on a phone a point is more than a pixel, and letters stay legible
_AUDIBLE = 1e-3  # of the mixture's level

Encode = Callable[[str, Tensor], Player]
_LEGEND = (
    "Mel bands in dB below the loudest one, estimate and target on one scale; in their difference, red is too much and "
    "blue too little."
)


def excerpt_section(excerpts: Sequence[Excerpt], remarks: Mapping[str, str] | None = None) -> Section:
    """Build the section of excerpts: spectrograms, and players of mixture, estimates, targets and residual.

    Args:
        excerpts: those that have room, of at most ten seconds each.
        remarks: by track, before its place.
    """
    shown = _limit(excerpts)
    if not shown:
        return Section("Excerpts", "")
    n_players = [2 + len(excerpt.sources) * (1 if excerpt.targets is None else 2) for excerpt in shown]
    seconds = sum(n * _seconds(excerpt) for n, excerpt in zip(n_players, shown, strict=True))
    kilobits = min(_KILOBITS, _ROOM * 6 / 1000 / seconds)  # six bits a character
    return build_section(
        "Excerpts",
        "excerpts",
        notes=[_LEGEND] if any(excerpt.targets is not None for excerpt in shown) else [],
        excerpts=[_describe(excerpt, (remarks or {}).get(excerpt.track, ""), kilobits) for excerpt in shown],
    )


def _limit(excerpts: Sequence[Excerpt]) -> list[Excerpt]:
    """Drop what would make the page too large."""
    shown: list[Excerpt] = []
    n_left, kept = _MOST_PICTURES, slice(_MOST_PICTURES)
    for excerpt in excerpts:
        if shown and len(excerpt.sources) > n_left:
            break
        part = (kept, slice(None), slice(round(_LONGEST * excerpt.sample_rate)))
        shown.append(
            replace(
                excerpt,
                sources=excerpt.sources[kept],
                mixture=excerpt.mixture[part[1:]],
                estimates=excerpt.estimates[part],
                targets=None if excerpt.targets is None else excerpt.targets[part],
            )
        )
        n_left -= len(excerpt.sources)
    return shown


def _seconds(excerpt: Excerpt) -> float:
    return excerpt.mixture.shape[-1] / excerpt.sample_rate


def _describe(excerpt: Excerpt, remark: str, kilobits: float) -> dict[str, object]:
    """Prepare an excerpt for the template: its place, players of the whole, and a card for each source or stem."""
    compared = excerpt.targets is not None
    residual = excerpt.mixture - excerpt.estimates.sum(0)
    whole = {"mixture": excerpt.mixture}
    if residual.norm() > _AUDIBLE * excerpt.mixture.norm():
        whole[f"residual: mixture minus {'estimates' if compared else 'stems'}"] = residual
    gain = common_gain([*whole.values(), excerpt.estimates, *([excerpt.targets] if compared else [])])

    def encode(label: str, waveform: Tensor) -> Player:
        return player(label, gain * waveform, excerpt.sample_rate, kilobits)

    minutes, start = divmod(round(excerpt.start, 1), 60)
    place = f"{_seconds(excerpt):.1f} s from {minutes:.0f}:{start:04.1f}"
    return {
        "track": excerpt.track,
        "seconds": _seconds(excerpt),
        "place": f"{remark}; {place}" if remark else place,
        "players": [encode(*item) for item in whole.items()] if compared else [],
        "cards": _compare_sources(excerpt, encode) if compared else show_stems(excerpt, whole, encode),
    }


def _compare_sources(excerpt: Excerpt, encode: Encode) -> list[dict[str, object]]:
    """Draw each estimate beside its target."""
    cards = []
    for name, *pair in zip(excerpt.sources, excerpt.estimates, excerpt.targets, strict=True):
        with drawing():
            figure = new_figure(_IN_CARD, 4.9)
            figure.set_layout_engine(None)  # which takes longer than all the rest
            figure.subplots_adjust(left=0.135, right=0.935, top=0.955, bottom=0.095, hspace=0.3)
            plot_difference(*pair, excerpt.sample_rate, list(figure.subplots(3, sharex=True)))
            drawn = picture(figure, f"Spectrograms of {name}: estimate, target and their difference")
        score = float(metrics.sdr(*pair))
        cards.append(
            {
                "name": name,
                "score": "silent here" if math.isnan(score) else f"{number(score)}\u00a0dB SDR here",
                "picture": drawn,
                "players": [
                    encode(f"{name}, {what}", part) for what, part in zip(("estimate", "target"), pair, strict=True)
                ],
            }
        )
    return cards


def show_stems(excerpt: Excerpt, whole: Mapping[str, Tensor], encode: Encode) -> list[dict[str, object]]:
    """Draw mixture, stems and residual, of which no targets are known.

    Args:
        excerpt: whose estimates are the stems.
        whole: the mixture, and the residual where it is audible, by name.
        encode: makes a player of a name and a waveform.

    Returns:
        What the template needs of each picture.
    """
    mixture, *residual = whole.items()
    stems = dict([*zip(excerpt.sources, excerpt.estimates, strict=True), *residual])
    with drawing():
        figures = [new_figure(_IN_CARD, 2.0) for _ in range(1 + len(stems))]
        plot_separation(excerpt.mixture, stems, excerpt.sample_rate, [figure.subplots() for figure in figures])
        return [
            {"name": "", "picture": picture(figure, f"Spectrogram of {name}"), "players": [encode(name, waveform)]}
            for figure, (name, waveform) in zip(figures, [mixture, *stems.items()], strict=True)
        ]
