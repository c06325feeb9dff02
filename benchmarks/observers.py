"""What looking on costs: the same short trainings with and without observers, in turns, in CPU seconds.

    python benchmarks/observers.py [--recipe vocals] [--epochs 10] [--items 40] [--rounds 1]

A training shows pictures and sounds ten times, however long it is. So beside the share of the short training stands
that of the whole one: ten times what an epoch with pictures costs, and for each other epoch what one without does.
The seconds of the whole training are given (--whole), as the head of its recipe states them.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from sepkit.observers import TensorBoard
from sepkit.recipe import load_recipe
from sepkit.training import train
from sepkit.training.loop import Trainer

SHOWN = 10  # epochs, of a training


class Timed(TensorBoard):
    """Note the CPU seconds of each call, and whether it showed anything beside numbers."""

    calls: list[tuple[bool, float]] = []  # noqa: RUF012  of all trainings

    def on_epoch(self, view) -> None:
        started, before = time.process_time(), n_pictures(view.folder)
        super().on_epoch(view)
        self.calls.append((n_pictures(view.folder) > before, time.process_time() - started))


def n_pictures(folder: Path) -> int:
    return len(list(folder.glob("pictures/*.png")))


def measure(options: argparse.Namespace, observers: list) -> float:
    """Train once, and return the CPU seconds of the loop."""
    settings = [f"training.epochs={options.epochs}", f"data.items_per_epoch={options.items}", "data.workers=0"]
    spent = []
    former = Trainer.run

    def run(trainer: Trainer, *given) -> None:
        started = time.process_time()
        former(trainer, *given)
        spent.append(time.process_time() - started)

    Trainer.run = run
    try:
        with tempfile.TemporaryDirectory() as folder:
            overrides = [*settings, "observers=[]"]
            train(options.recipe, Path(folder) / "run", overrides=overrides, observers=observers, quiet=True, log=str)
    finally:
        Trainer.run = former
    return spent[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="vocals")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--items", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--whole", type=float, default=406.0, help="CPU seconds of the recipe's whole training")
    options = parser.parse_args()
    alone, watched = [], []
    for number in range(options.rounds):
        alone.append(measure(options, []))
        watched.append(measure(options, [Timed()]))
        print(f"round {number + 1}: {alone[-1]:.1f} s alone, {watched[-1]:.1f} s watched")
    showing = [seconds for shown, seconds in Timed.calls if shown]
    plain = [seconds for shown, seconds in Timed.calls if not shown] or [0.0]
    inside = sum(seconds for _, seconds in Timed.calls) / options.rounds
    print(f"inside the observer {inside:.2f} s of {statistics.mean(watched):.1f} s a training")
    print(f"a call with pictures: first {showing[0]:.3f} s, median {statistics.median(showing):.3f} s")
    print(f"a call without: median {statistics.median(plain):.4f} s")
    epochs = load_recipe(options.recipe).training.epochs
    whole = showing[0] + SHOWN * statistics.median(showing) + (epochs - SHOWN) * statistics.median(plain)
    print(f"the whole recipe: {whole:.1f} s of {options.whole:.0f} s, {100 * whole / options.whole:.1f} %")


if __name__ == "__main__":
    main()
