"""An excerpt as one picture, in a file of the run folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from sepkit.excerpts import Excerpt
from sepkit.files import atomic_file, readable, safe_name
from sepkit.plots import literal_text, new_figure, plot_difference, plot_waveforms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "pictures"
_WIDTH, _HEIGHT, _TITLE = 13.0, 4.0, 0.4  # inches, of a source and of the line above all
_RESOLUTION = 80  # dots per inch


def picture_file(folder: Path, label: str, excerpt: Excerpt) -> Path:
    """Draw an excerpt into `pictures/<label>_<track>.png`; a file of this name is the picture already.

    Args:
        folder: of the run.
        label: begins the name.
        excerpt: with targets.
    """
    path = folder / FOLDER / safe_name(f"{label}_{excerpt.track}", ".png")
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with literal_text(), atomic_file(path, durable=False) as temporary:
            draw_excerpt(excerpt).savefig(temporary, format="png", pil_kwargs={"compress_level": 4})
    return path


def draw_excerpt(excerpt: Excerpt) -> "Figure":
    """Draw mel bands and waveforms of each source's estimate, its target and their difference.

    Names are written as they are within `literal_text`.

    Args:
        excerpt: with targets.
    """
    n_sources, rate = len(excerpt.sources), excerpt.sample_rate
    height = _TITLE + _HEIGHT * n_sources
    figure = new_figure(_WIDTH, height, _RESOLUTION)
    figure.set_layout_engine(None)  # which takes longer than all the rest
    end = excerpt.start + excerpt.mixture.shape[-1] / rate
    title = readable(f"{excerpt.track}, {excerpt.start:.1f} to {end:.1f} s")
    figure.text(0.05, 1 - 0.25 / height, title, fontsize="large", va="center")
    grid = figure.add_gridspec(
        n_sources, 1, left=0.05, right=0.98, top=1 - 0.6 / height, bottom=0.5 / height, hspace=0.25
    )
    for place, source, estimate, target in zip(grid, excerpt.sources, excerpt.estimates, excerpt.targets, strict=True):
        bands, waves = place.subgridspec(2, 3, height_ratios=(2, 1), hspace=0.4).subplots(sharex=True)
        plot_difference(estimate, target, rate, bands)
        names = {"estimate": estimate, "target": target, "estimate - target": estimate - target}
        plot_waveforms({f"{source}, {name}": waveform for name, waveform in names.items()}, rate, waves)
        for above, below in zip(bands, waves, strict=True):
            above.set_xlabel("")
            (left, _, width, _), (_, bottom, _, high) = above.get_position().bounds, below.get_position().bounds
            below.set_position((left, bottom, width, high))  # a colour bar makes it narrower
    return figure
