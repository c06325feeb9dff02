"""The command sepkit-separate."""

import argparse
import sys
from collections.abc import Sequence

from sepkit.cli._command import (
    add_chunking,
    add_model,
    check_chunking,
    load_model,
    make_parser,
    pick,
    print_line,
    run_command,
)

_EXISTING = ("error", "skip", "overwrite")
_FORMATS = ("wav", "wav24", "wav16", "flac", "flac16", "ogg", "mp3")


def separate_command(arguments: Sequence[str] | None = None) -> int:
    """Run `sepkit-separate`."""
    parser = make_parser(
        "sepkit-separate",
        "Separate recordings into stems, OUTPUT/<name>/<stem>.wav.",
        "sepkit-separate song.mp3\n"
        "sepkit-separate album/ --model runs/vocals --output stems --format flac\n"
        "sepkit-separate song.wav --stems vocals --batch-size 4 --device cuda",
        "Without --model, the folder or name in $SEPKIT_MODEL is taken, else the newest finished run under runs/,\n"
        "else the model that comes with sepkit, which --model default names, too.",
    )
    parser.add_argument("recordings", metavar="FILE|FOLDER", nargs="+", help="audio files, or folders of them")
    parser.add_argument("--output", metavar="DIR", default="separated", help="where the stems go (default: separated)")
    add_chunking(parser)
    parser.add_argument("--stems", nargs="+", metavar="STEM", help="only these stems")
    parser.add_argument("--residual", action="store_true", help="also write the recording minus all estimates")
    parser.add_argument("--format", default="wav", choices=_FORMATS, help="wav is 32-bit float and never scaled")
    present = parser.add_mutually_exclusive_group()
    present.add_argument("--existing", default="error", choices=_EXISTING, help="what is done where stems are there")
    present.add_argument("--overwrite", dest="existing", action="store_const", const="overwrite", help="replace them")
    parser.add_argument("--report", action="store_true", help="also write <name>/report.html, to see and hear")
    add_model(parser, "model folder, or a name that `sepkit-model get` fetched")
    return run_command(parser, _separate, arguments)


def _separate(options: argparse.Namespace) -> int:
    from sepkit.inference import find_recordings, separate_catalogue
    from sepkit.processes import retain_freed_memory

    retain_freed_memory()
    check_chunking(options)
    recordings = find_recordings(options.recordings, options.output, print_line)
    model, folder = load_model(options, on_demand=True)
    shared = pick(options, "stems", "residual", "batch_size", "overlap", "shifts", "format", "existing", "report")
    result = separate_catalogue(model, recordings, options.output, **shared, run=folder, log=print_line)
    for failure in result.failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if result.failures else 0
