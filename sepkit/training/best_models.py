"""The best models of a run, a folder each."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = "best"


def keep_models(
    folder: Path, history: Sequence[Mapping[str, Any]], n_kept: int, save: Callable[[Path], object]
) -> None:
    """Keep the models of the epochs with the best scores, and remove those of others.

    Args:
        folder: of the run; they lie in `best/epoch_0007`.
        history: of the run, the last row of which is the model's that may be saved.
        n_kept: >= 1; of equal scores the earlier epoch is the better one.
        save: called with the folder to write it to.
    """
    scored = sorted((row for row in history if "SDR" in row), key=lambda row: (-row["SDR"], row["epoch"]))
    kept = {f"epoch_{row['epoch']:04}" for row in scored[:n_kept]}
    name = f"epoch_{history[-1]['epoch']:04}"
    if name in kept:
        save(folder / FOLDER / name)
    for place in (folder / FOLDER).glob("epoch_*"):
        if place.name not in kept:
            shutil.rmtree(place)
