"""Training examples of a recipe on a page, before anything is trained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from sepkit.arguments import check_count
from sepkit.datasets import Plan, SongDataset
from sepkit.disk import writing
from sepkit.recipe import importable, load_recipe
from sepkit.report.page import Table, Tile, check_page
from sepkit.report.preview import Preview, decibels, report_preview
from sepkit.terminal import bar_option
from sepkit.training.examples import make_dataset
from sepkit.training.opening import open_data

_MOST = 100  # examples on a page
_FEW = 3  # numbers of an augmentation that are shown


def preview(
    recipe: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    data: str | Path | None = None,
    output: str | Path = "preview.html",
    examples: int = 10,
    epoch: int = 1,
    log: Callable[[str], object] = print,
) -> Path:
    """Write the first examples of an epoch to a page, as the network gets them: drawn, augmented, mixed.

    Args:
        recipe: name of an installed recipe, path of a YAML file, or the mapping itself.
        overrides: `key.sub=value` each, applied to the recipe.
        data: takes the place of the recipe's `data.root`.
        output: the page.
        examples: how many, 1 to 100.
        epoch: of which epoch, from 1 on.
        log: called with each line meant for the user.

    Returns:
        The page.

    Raises:
        sepkit.recipe.RecipeError: the recipe has mistakes.
        sepkit.datasets.DatasetError: the data cannot be used.
        sepkit.audio.AudioError: a song does not decode; none is skipped.
        sepkit.disk.OutputError: the page cannot be written.
    """
    check_page(output)
    check_count("epoch", epoch)
    if check_count("examples", examples) > _MOST:
        raise ValueError(f"examples must be {_MOST} at most, which a browser can show on a page, got {examples}")
    checked = load_recipe(recipe, [*overrides, "data.on_error=stop"], data)  # no example stands in for another
    with importable(checked.path.parent if checked.path else None):
        dataset, rate = make_dataset(checked, open_data(checked)["train"]), checked.separator.sample_rate
        n_shown = min(examples, len(dataset))
        if n_shown < examples:
            log(f"an epoch has {n_shown} examples: all of them are shown")
        bar = tqdm(range(n_shown), desc="examples", unit="example", leave=False, disable=bar_option())
        shown = [_show_example(dataset, (epoch - 1, i), rate) for i in bar]
        plans = [dataset.plan((epoch - 1, i)) for i in range(n_shown)]
    output = Path(output)
    lead = f"The first examples of epoch {epoch}, as the network gets them: drawn, augmented and mixed."
    with writing(output.parent, "make room, or choose another --output"):
        return report_preview(output, checked.name, lead, list(_make_tiles(dataset, shown, plans, rate)), shown)


def _make_tiles(dataset: SongDataset, shown: Sequence[Preview], plans: Sequence[Plan], rate: int) -> Iterator[Tile]:
    """Yield the main figures: how many of what."""
    n_targets = sum(len(example.targets) for example in shown)
    n_silent = sum(not waveform.any() for example in shown for waveform in example.targets.values())
    n_absent = len(shown) * len(dataset.targets) - n_targets
    yield Tile("examples", str(len(shown)), f"of {len(dataset)} in an epoch, {dataset.n_samples / rate:.1f} s each")
    yield Tile("songs", str(len(dataset.songs)), f"stems: {', '.join(dataset.stems)}")
    yield Tile("remixed", str(sum(plan.remixed for plan in plans)), "examples whose stems come from different songs")
    yield Tile("silent targets", str(n_silent), f"of {n_targets}; {n_absent} more are absent")


def _show_example(dataset: SongDataset, number: tuple[int, int], rate: int) -> Preview:
    """Read an example, and describe what it is made of."""
    plan, (mixture, targets) = dataset.plan(number), dataset[number]
    present = {
        name: target for name, target, is_there in zip(dataset.targets, targets, plan.present, strict=False) if is_there
    }
    columns = ("stem", "song", "from", "level", "peak", *(_name(step) for step in dataset.augment))
    rows = [("mixture", "", "", *_measure(mixture), *("" for _ in dataset.augment))]
    rows += [_describe_stem(dataset, plan, k, present.get(name), rate) for k, name in enumerate(dataset.stems)]
    table = Table("Stems, and what was drawn for them", columns, rows)
    about = f"epoch {number[0] + 1}; {'stems of different songs' if plan.remixed else 'stems of one song'}"
    return Preview(f"Example {number[1] + 1}", about, present, mixture, rate, table)


def _name(step: object) -> str:
    return type(step).__name__


def _describe_stem(dataset: SongDataset, plan: Plan, k: int, waveform: Tensor | None, rate: int) -> tuple[str, ...]:
    """Describe where a stem is from and what was done to it."""
    name, song = dataset.stems[k], plan.songs[k]
    steps = tuple(_describe_parameters(drawn, k) for drawn in plan.parameters)
    if song is None:
        return (name, "absent", "", "", "", *("" for _ in steps))
    minutes, seconds = divmod(plan.positions[k] / rate, 60)
    place = f"{minutes:.0f}:{seconds:04.1f}"
    measured = ("only in the mixture", "") if waveform is None else _measure(waveform)
    return (name, dataset.songs[song].name, place, *measured, *steps)


def _measure(waveform: Tensor) -> tuple[str, str]:
    """Measure level and peak of (C, T)."""
    return decibels(float(waveform.square().mean().sqrt())), decibels(float(waveform.abs().max()))


def _describe_parameters(drawn: np.ndarray, k: int) -> str:
    """Write what an augmentation drew for a stem, where that is few numbers."""
    values = np.asarray(drawn)[k].ravel()
    return ", ".join(f"{value:.3g}" for value in values).replace("-", "−") if len(values) <= _FEW else "…"
