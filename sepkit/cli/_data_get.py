"""`sepkit-data get`: open songs by name."""

import argparse

from sepkit.cli._command import add_command, print_line


def add(commands: "argparse._SubParsersAction") -> None:
    """Add the command to those of `sepkit-data`."""
    parser = add_command(
        commands,
        "get",
        "Fetch a set of open songs by its name and lay it out as a root; without a name, list the sets.",
        "sepkit-data get\nsepkit-data get sek\nsepkit-data get sek --split train --output songs/sek",
        "A root that was fetched is checked and trained on by its folder: sepkit-data check songs/sek.\n"
        "What broke off goes on with the same command.",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="of the list that `sepkit-data get` shows")
    parser.add_argument("--output", metavar="DIR", help="the root (default: songs/NAME)")
    parser.add_argument("--split", choices=("train", "valid", "test"), help="only songs of this split")
    parser.set_defaults(job=_get)


def _get(options: argparse.Namespace) -> int:
    from sepkit.datasets.fetching import fetch_songs, find_set, format_sets, list_sets

    if options.name is None:
        print(format_sets(list_sets()))
        print("\nnext       sepkit-data get NAME")
        return 0
    root = fetch_songs(find_set(options.name), options.output, options.split, log=print_line)
    print(f"songs      {root}")
    print(f"licences   {root / 'LICENCES'}")
    print(f"next       sepkit-data check {root}")
    return 0
