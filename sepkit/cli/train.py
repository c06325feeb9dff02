"""The command sepkit-train."""

import argparse
import sys
from collections.abc import Sequence

from sepkit.cli._command import DEVICES, make_parser, pick, print_line, run_command


def train_command(arguments: Sequence[str] | None = None) -> int:
    """Run `sepkit-train`."""
    parser = make_parser(
        "sepkit-train",
        "Train a separator from a recipe; the same command goes on with an unfinished run.",
        "sepkit-train vocals\n"
        "sepkit-train vocals --data my_songs --run runs/mine\n"
        "sepkit-train my_recipe.yaml training.epochs=10 training.optimizer.lr=1e-3\n"
        "sepkit-train my_recipe.yaml --dry-run",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a recipe that comes with sepkit")
    # Without `default`, argparse calls the values required where the recipe is missing.
    parser.add_argument(
        "overrides", metavar="KEY.SUB=VALUE", nargs="*", default=[], help="values that replace the recipe's"
    )
    parser.add_argument("--data", metavar="ROOT", help="folder of songs that replaces the recipe's data.root")
    parser.add_argument("--run", metavar="DIR", help="run folder (default: runs/<recipe name>)")
    parser.add_argument("--restart", action="store_true", help="remove the run in the folder and train anew")
    parser.add_argument(
        "--from", metavar="MODEL", dest="initial", help="start from this model: a folder, or the name of one brought"
    )
    parser.add_argument("--trust", action="store_true", help="let that model name any class, from here too")
    parser.add_argument("--device", default="auto", help=DEVICES)
    trial = parser.add_mutually_exclusive_group()
    trial.add_argument("--dry-run", action="store_true", help="build everything, do one step, write nothing")
    trial.add_argument(
        "--find-batch", action="store_true", help="find the largest batch that fits the GPU's memory, write nothing"
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="no progress bar, no line an epoch")
    loudness.add_argument("--verbose", action="store_true", help="each epoch's losses by source, rate, memory, too")
    return run_command(parser, _train, arguments)


def _train(options: argparse.Namespace) -> int:
    from sepkit import training
    from sepkit.joining import is_main
    from sepkit.processes import retain_freed_memory

    retain_freed_memory()
    if options.find_batch and not is_main():
        return 0
    shared = pick(options, "overrides", "data", "initial", "trust", "device")
    if options.dry_run:
        result = training.dry_run(options.recipe, **shared, log=print_line)
        if not is_main():
            return 0
        for name, shape in result.shapes.items():
            print(f"  {name:12} {' x '.join(map(str, shape))}")
        peak = "unknown" if result.peak_memory is None else f"{result.peak_memory / 2**20:.0f} MB"
        print(f"  loss         {result.loss:.4f}\n  peak memory  {peak}")
        return 0
    if options.find_batch:
        training.find_batch(options.recipe, **shared, log=print_line)
        return 0
    try:
        more = pick(options, "restart", "quiet", "verbose")
        log = (lambda _line: None) if options.quiet else print_line
        folder = training.train(options.recipe, options.run, **shared, **more, log=log)
    except training.TrainingInterrupted as stop:
        if is_main():
            print(f"{stop}; everything is saved: the same command goes on from here", file=sys.stderr)
        return 128 + stop.signal
    if not is_main():
        return 0
    print(f"model      {folder / 'model.safetensors'}")
    if (folder / "history.png").is_file():
        print(f"curves     {folder / 'history.png'}")
    if (folder / "report.html").is_file():
        print(f"report     {folder / 'report.html'}")
    if any(folder.glob("events.out.tfevents.*")):
        print(f"watch      tensorboard --logdir {folder.parent if folder.parent.name == 'runs' else folder}")
    print(f"next       sepkit-separate SONG --model {folder}")
    return 0
