"""`sepkit-data store`: songs decoded ahead of a training."""

import argparse

from sepkit.cli._command import add_command, print_line


def add(commands: "argparse._SubParsersAction") -> None:
    """Add the command to those of `sepkit-data`."""
    parser = add_command(
        commands,
        "store",
        "Decode songs into the store ahead of time, which a training else does beside its first epoch.",
        "sepkit-data store my_songs\n"
        "sepkit-data store my_recipe.yaml\n"
        "sepkit-data store my_songs --limit 200 --rate 44100",
        "The store lies in the cache ($SEPKIT_CACHE); files that are 16-bit wav at the wanted rate are read in place.",
    )
    parser.add_argument("source", metavar="ROOT|RECIPE", help="folder of songs, manifest, or a recipe")
    parser.add_argument(
        "overrides", metavar="KEY.SUB=VALUE", nargs="*", default=[], help="values that replace the recipe's"
    )
    parser.add_argument("--rate", type=int, metavar="HZ", help="convert to this rate (default: each file's own)")
    parser.add_argument("--limit", type=float, metavar="GB", help="most that the store may take")
    parser.add_argument("--workers", type=int, metavar="N", help="files decoded at once (default: one a core)")
    parser.set_defaults(job=_store)


def _store(options: argparse.Namespace) -> int:
    from sepkit.training.data_store import store_data

    return store_data(options.source, options.overrides, options.rate, options.limit, options.workers, log=print_line)
