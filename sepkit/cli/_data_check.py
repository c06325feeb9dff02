"""`sepkit-data check`: what is wrong with songs."""

import argparse

from sepkit.cli._command import add_command, print_line


def add(commands: "argparse._SubParsersAction") -> None:
    """Add the command to those of `sepkit-data`."""
    parser = add_command(
        commands,
        "check",
        "Read all songs once, list what is wrong with them, file by file, and write a page of it.",
        "sepkit-data check my_songs\n"
        "sepkit-data check my_recipe.yaml data.resample=true\n"
        "sepkit-data check my_songs --output checks/my_songs.html",
        "Exit code 1 where a finding is an error. What was read is remembered: the same songs are checked at once\n"
        "next time, and what was interrupted goes on.",
    )
    parser.add_argument(
        "source", metavar="ROOT|RECIPE", help="folder of songs, manifest, or a recipe, whose songs and sources count"
    )
    parser.add_argument(
        "overrides", metavar="KEY.SUB=VALUE", nargs="*", default=[], help="values that replace the recipe's"
    )
    parser.add_argument("--output", metavar="FILE", default="check.html", help="the page (default: check.html)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read (default: one a core)")
    parser.set_defaults(job=_check)


def _check(options: argparse.Namespace) -> int:
    from sepkit.training.data_check import check_data

    return check_data(options.source, options.overrides, options.output, options.workers, log=print_line)
