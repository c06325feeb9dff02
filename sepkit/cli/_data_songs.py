"""`sepkit-data songs`: songs made by arithmetic."""

import argparse

from sepkit.cli._command import add_command


def add(commands: "argparse._SubParsersAction") -> None:
    """Add the command to those of `sepkit-data`."""
    parser = add_command(
        commands,
        "songs",
        "Make songs of four stems by arithmetic, with many kinds of singers, and tempo and key in a manifest.",
        "sepkit-data songs --output songs/made\n"
        "sepkit-data songs --output songs/made --train 1000 --valid 50 --seconds 20 --workers 8",
        "The songs of `--data demo`, on which the demo and its scores stand, are others, and stay as they are.\n"
        "What broke off goes on with the same command; more songs begin with those that are there.",
    )
    parser.add_argument("--output", metavar="DIR", required=True, help="the root")
    parser.add_argument("--train", type=int, metavar="N", default=300, help="songs to train on (default: 300)")
    parser.add_argument("--valid", type=int, metavar="N", default=20, help="songs to validate on (default: 20)")
    parser.add_argument("--test", type=int, metavar="N", default=0, help="songs to test on (default: 0)")
    parser.add_argument("--seconds", type=float, metavar="S", default=12.0, help="of a song, 1 to 600 (default: 12)")
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.set_defaults(job=_make)


def _make(options: argparse.Namespace) -> int:
    from sepkit.datasets.singing import write_songs
    from sepkit.devices import available_cores

    workers = available_cores() if options.workers is None else options.workers
    manifest = write_songs(options.output, options.train, options.valid, options.test, options.seconds, workers)
    print(f"manifest   {manifest}")
    print(f"next       sepkit-data check {options.output}")
    return 0
