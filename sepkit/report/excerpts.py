"""Excerpts to look at and listen to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from sepkit import metrics
from sepkit.excerpts import Excerpt
from sepkit.plots import plot_difference, plot_separation
from sepkit.report.media import common_gain, drawing, new_figure, picture, player
from sepkit.report.page import Section, grid, number, paragraph, text

SECONDS = 6.0  # of an excerpt, unless there is a reason for another length
_LONGEST = 10.0  # s
_MOST_PICTURES = 16  # of sources, on a page
_ROOM = 2.6e6  # characters for all that is heard on a page
_KILOBITS = 128.0
_IN_CARD = 4.0  # inches: on a phone a point is more than a pixel, and letters stay legible
_AUDIBLE = 1e-3  # of the mixture's level

_HOW_TO_LOOK = (
    "Mel bands in dB below the loudest one, estimate and target on one scale; in their difference, red is too much and "
    "blue too little."
)


def excerpt_section(excerpts: Sequence[Excerpt], remarks: Mapping[str, str] | None = None) -> Section:
    """Show excerpts: spectrograms, and players for mixture, estimates, targets and what is left over.

    Args:
        excerpts: of at most ten seconds each, the rest is cut off; of many, the first.
        remarks: what else to say of a track.
    """
    shown = _fitting(excerpts)
    seconds = sum(_seconds_heard(excerpt) for excerpt in shown)
    kilobits = min(_KILOBITS, _ROOM * 6 / 1000 / seconds) if shown else _KILOBITS  # six bits a character
    parts = [_excerpt(excerpt, (remarks or {}).get(excerpt.track, ""), kilobits) for excerpt in shown]
    if any(excerpt.targets is not None for excerpt in shown):
        parts.insert(0, paragraph(_HOW_TO_LOOK, "note"))
    return Section("Excerpts", "".join(parts))


def _fitting(excerpts: Sequence[Excerpt]) -> list[Excerpt]:
    """Leave out what would make the page too large."""
    shown: list[Excerpt] = []
    left = _MOST_PICTURES
    for excerpt in excerpts:
        n_sources, n_samples = len(excerpt.sources), round(_LONGEST * excerpt.sample_rate)
        if shown and n_sources > left:
            break
        kept = slice(0, _MOST_PICTURES)
        shown.append(
            replace(
                excerpt,
                sources=excerpt.sources[kept],
                mixture=excerpt.mixture[..., :n_samples],
                estimates=excerpt.estimates[kept, :, :n_samples],
                targets=None if excerpt.targets is None else excerpt.targets[kept, :, :n_samples],
            )
        )
        left -= n_sources
    return shown


def _seconds_heard(excerpt: Excerpt) -> float:
    n_players = 2 + len(excerpt.sources) * (1 if excerpt.targets is None else 2)
    return n_players * excerpt.mixture.shape[-1] / excerpt.sample_rate


def _excerpt(excerpt: Excerpt, remark: str, kilobits: float) -> str:
    seconds = excerpt.mixture.shape[-1] / excerpt.sample_rate
    minutes, start = divmod(round(excerpt.start, 1), 60)
    place = f"{seconds:.1f} s from {minutes:.0f}:{start:04.1f}"
    note = paragraph(f"{remark}; {place}" if remark else place, "note")
    show = _show_stems if excerpt.targets is None else _show_sources
    return f'<article class="excerpt"><h3>{text(excerpt.track)}</h3>{note}{show(excerpt, kilobits)}</article>'


def _residual(excerpt: Excerpt) -> Tensor | None:
    """Take what the estimates leave of the mixture, (C, T); None where that is nothing."""
    residual = excerpt.mixture - excerpt.estimates.sum(0)
    return residual if residual.norm() > _AUDIBLE * excerpt.mixture.norm() else None


def _show_sources(excerpt: Excerpt, kilobits: float) -> str:
    """Show each estimate beside its target."""
    residual, rate = _residual(excerpt), excerpt.sample_rate
    whole = {"mixture": excerpt.mixture, **({} if residual is None else {"mixture minus estimates": residual})}
    gain = common_gain([*whole.values(), excerpt.estimates, excerpt.targets])
    players = [player(part, rate, name, excerpt.track, kilobits, gain) for name, part in whole.items()]
    return grid(players, "players") + grid(
        (_source(excerpt, place, kilobits, gain) for place in range(len(excerpt.sources))), "wide"
    )


def _source(excerpt: Excerpt, place: int, kilobits: float, gain: float) -> str:
    """Show one estimate beside its target."""
    name, rate = excerpt.sources[place], excerpt.sample_rate
    pair = {"estimate": excerpt.estimates[place], "target": excerpt.targets[place]}
    with drawing():
        figure = new_figure(_IN_CARD, 4.9)
        figure.set_layout_engine(None)  # which takes longer than all the rest
        figure.subplots_adjust(left=0.135, right=0.935, top=0.955, bottom=0.095, hspace=0.3)
        plot_difference(*pair.values(), rate, list(figure.subplots(3, sharex=True)))
        drawn = picture(figure, f"Spectrograms of {name}: estimate, target and their difference")
    players = [player(part, rate, f"{name}, {what}", excerpt.track, kilobits, gain) for what, part in pair.items()]
    heading = f"<h4>{text(name)} <small>{_score_here(pair)}</small></h4>"
    return f'<div class="card">{heading}{drawn}{grid(players, "players")}</div>'


def _score_here(pair: Mapping[str, Tensor]) -> str:
    score = float(metrics.sdr(**pair))
    return "silent here" if math.isnan(score) else f"{number(score)}\u00a0dB SDR here"


def _show_stems(excerpt: Excerpt, kilobits: float) -> str:
    """Show a mixture and stems whose targets nobody knows, each with its player."""
    stems = dict(zip(excerpt.sources, excerpt.estimates, strict=True))
    residual = _residual(excerpt)
    if residual is not None:
        stems["mixture minus stems"] = residual
    heard, rate = {"mixture": excerpt.mixture, **stems}, excerpt.sample_rate
    gain = common_gain(list(heard.values()))
    with drawing():
        figures = {name: new_figure(_IN_CARD, 2.0) for name in heard}
        plot_separation(excerpt.mixture, stems, rate, [figure.subplots() for figure in figures.values()])
        drawn = {name: picture(figure, f"Spectrogram of {name}") for name, figure in figures.items()}
    return grid(
        (
            f'<div class="card">{drawn[name]}{player(part, rate, name, excerpt.track, kilobits, gain)}</div>'
            for name, part in heard.items()
        ),
        "wide",
    )
