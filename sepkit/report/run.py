"""A training: what was trained on what, how it went, and what it cost."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepkit.disk import format_size
from sepkit.plain import parse_json, parse_yaml, read_text
from sepkit.plots import new_figure, plot_history
from sepkit.report.media import drawing, picture
from sepkit.report.page import Section, Tile, build_section, duration, number


@dataclass(frozen=True)
class Run:
    """The contents of a run folder; what it lacks is empty.

    Attributes:
        name: the folder's.
        card: `model.json`.
        recipe: `recipe.yaml`, as text.
        history: rows of `history.csv`, one an epoch, as text.
        weights: bytes of `model.safetensors`.
    """

    name: str
    card: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    history: list[dict[str, str]] = field(default_factory=list)
    weights: int = 0


def read_run(folder: str | Path) -> Run:
    """Read a run folder or a model folder."""
    folder = Path(folder)
    card, recipe, history, weights = (
        folder / name for name in ("model.json", "recipe.yaml", "history.csv", "model.safetensors")
    )
    return Run(
        folder.resolve().name,
        parse_json(read_text(card)) if card.is_file() else {},
        read_text(recipe) if recipe.is_file() else "",
        list(csv.DictReader(history.read_text(encoding="utf-8").splitlines())) if history.is_file() else [],
        weights.stat().st_size if weights.is_file() else 0,
    )


def run_tiles(run: Run) -> list[Tile]:
    """List the main figures of a training."""
    best = run.card.get("validation") or {}
    epochs = f"epoch {best.get('epoch')} of {len(run.history)}" if run.history else f"epoch {best.get('epoch')}"
    tiles = [
        Tile(f"validation {name.replace('/', ', ')}", f"{number(value)} dB", epochs if name == "SDR" else "")
        for name, value in best.items()
        if name.startswith("SDR") and value is not None
    ]
    if run.history:
        total, last = float(run.history[-1].get("total_seconds") or 0), run.history[-1]
        tiles.append(Tile("training time", duration(total), f"{last.get('epoch')} epochs, {last.get('step')} steps"))
    return tiles


def curve_section(run: Run) -> Section:
    """Draw the loss and the validation SDR by epoch."""
    if not run.history:
        return Section("Training", "")
    with drawing():
        figures = [new_figure(), new_figure()]
        axes = plot_history(run.history, [figure.subplots() for figure in figures])
        handles, labels = axes[1].get_legend_handles_labels()
        if handles:
            axes[1].get_legend().remove()
            labels = [label.replace("\n", " ") for label in labels]
            figures[1].legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
        names = ("Loss by epoch", "Validation SDR by epoch, the best one marked")
        drawn = [picture(figure, name) for figure, name in zip(figures, names, strict=True)]
    waited = sum(float(row.get("data_wait") or 0) for row in run.history)
    facts = {
        "end": run.card.get("finished"),
        "last loss": run.history[-1].get("loss"),
        "waited for data": duration(waited),
    }
    return build_section("Training", "summary", pictures=drawn[: 2 if handles else 1], facts=facts)


def recipe_section(run: Run, data: Mapping[str, object] | None = None) -> Section:
    """Describe what was trained on what, in short and as the whole recipe."""
    separator = run.card.get("separator") or {}
    recipe = (parse_yaml(run.recipe) if run.recipe else None) or {}
    training, songs = (recipe.get(part) or {} for part in ("training", "data"))
    facts = {
        "recipe": run.card.get("recipe"),
        "sources": ", ".join(separator.get("sources", [])),
        "network": _format_call(separator.get("network")),
        "transform": _format_call(separator.get("transform")),
        "sample rate": f"{separator['sample_rate']} Hz" if "sample_rate" in separator else None,
        "weights": format_size(run.weights) if run.weights else None,
        "losses": ", ".join(_format_weighted(loss) for loss in recipe.get("losses") or []),
        "optimizer": _format_call(training.get("optimizer")),
        "batch size": training.get("batch_size"),
        "data": songs.get("root") or run.card.get("data"),
        "licence": run.card.get("licence"),
        **(data or {}),
    }
    if not run.recipe and all(value in (None, "") for value in facts.values()):
        return Section("Recipe and data", "")
    return build_section("Recipe and data", "summary", facts=facts, recipe=run.recipe)


def _format_call(config: Mapping[str, Any] | None) -> str | None:
    """Format a class mapping as a call."""
    if not config:
        return None
    arguments = ", ".join(f"{name}={value}" for name, value in config.items() if name != "class")
    return f"{config.get('class')}({arguments})"


def _format_weighted(loss: Mapping[str, Any]) -> str:
    weight = loss.get("weight", 1)
    if isinstance(weight, Mapping):
        weight = f"{weight.get('from')} to {weight.get('to')}"
    return f"{loss.get('name') or loss.get('class')} × {weight}"
