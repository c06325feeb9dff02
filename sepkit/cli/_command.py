"""What the commands share: the parser, exit codes, errors in a sentence.

Only the standard library is imported before a command knows what it has to do.
"""

import argparse
import errno
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from sepkit import __version__
from sepkit.terminal import ending_on_signals, surviving_streams

if TYPE_CHECKING:
    from sepkit.separator import Separator

DEVICES = "auto (the default: CUDA, else MPS, else CPU), cpu, cuda or mps"


def make_parser(name: str, description: str, examples: str, note: str = "") -> argparse.ArgumentParser:
    """Make a parser with what all commands share."""
    parser = argparse.ArgumentParser(
        name,
        description=description,
        epilog=_epilog(examples, note),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sepkit {__version__}")
    _add_debug(parser, False)
    return parser


class IntermixedParser(argparse.ArgumentParser):
    """A parser of one of several commands that takes options between two arguments, too."""

    _is_parsing = False

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Read options first, then arguments."""
        if self._is_parsing:  # as the method below does
            return super().parse_known_args(args, namespace)
        self._is_parsing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_parsing = False


def add_command(
    commands: "argparse._SubParsersAction", name: str, description: str, examples: str, note: str = ""
) -> argparse.ArgumentParser:
    """Add a command to those that `make_parser(...).add_subparsers()` gave."""
    parser = commands.add_parser(
        name,
        help=description,
        description=description,
        epilog=_epilog(examples, note),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_debug(parser, argparse.SUPPRESS)  # a default would hide the option before the command
    return parser


def _add_debug(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument("--debug", action="store_true", default=default, help="show where an error comes from")


def _epilog(examples: str, note: str) -> str:
    return f"{note}\n\nexamples:\n" + "\n".join(f"  {line}" for line in examples.splitlines())


def add_chunking(parser: argparse.ArgumentParser) -> None:
    """Add the options about chunks."""
    parser.add_argument("--batch-size", type=int, metavar="N", help="chunks at once (default: the model's, mostly 1)")
    parser.add_argument(
        "--overlap", type=float, metavar="X", help="of chunks, 0 to 0.9 (default: the model's, mostly 0.25)"
    )
    parser.add_argument(
        "--shifts",
        type=int,
        metavar="N",
        help="mean of N separations, each delayed at random, in N times the time (default: one without delay)",
    )


def check_chunking(options: argparse.Namespace) -> None:
    """Refuse numbers out of range under the names of their options, before a model is loaded."""
    from sepkit.chunking import Chunking

    given = {name: getattr(options, name) for name in ("batch_size", "overlap", "shifts")}
    try:
        Chunking(**{name: value for name, value in given.items() if value is not None})
    except ValueError as error:
        raise ValueError(f"--{error}".replace("batch_size", "batch-size")) from None


def add_model(parser: argparse.ArgumentParser, description: str, several: bool = False) -> None:
    """Add the options about the model, which `load_model` reads; or about several, each of which is given to it."""
    parser.add_argument("--model", metavar="DIR|NAME", nargs="+" if several else None, help=description)
    parser.add_argument("--device", help=DEVICES)
    parser.add_argument("--trust", action="store_true", help="let the model folder name any class, from here too")


def load_model(options: argparse.Namespace, on_demand: bool = False) -> tuple["Separator", Path]:
    """Load the model and print from which folder.

    Args:
        options: of `add_model`.
        on_demand: on a CPU, weights may stay in the file; not on Windows, where nobody could replace it meanwhile.
    """
    from sepkit import model_folder
    from sepkit.devices import choose_device
    from sepkit.inference import find_model

    if options.model == "":
        raise ValueError("--model is empty: name a folder")
    folder = model_folder.locate_model(find_model() if options.model is None else options.model)
    device = choose_device(options.device or "auto")
    on_demand = on_demand and device.type == "cpu" and os.name != "nt"
    model = model_folder.load_model(folder, device, options.trust, on_demand)
    described = f"{', '.join(model.sources)} at {model.sample_rate} Hz"
    if folder != model_folder.default_place():
        print(f"model {folder}: {described}")
        return model, folder
    score = model_folder.read_card(folder)["score"]
    print(f"model default, which comes with sepkit: {described}")
    print(f"  {score['metric']}: {score['stated']}, on {score['data set']}")
    print("  `sepkit-model get htdemucs` fetches one that was trained on hundreds of hours")
    return model, Path(model_folder.DEFAULT)


def pick(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Select options by name, as keyword arguments."""
    return {name: getattr(options, name) for name in names}


def _behind_dashes(arguments: Sequence[str]) -> list[str]:
    """Write -n.wav behind `--` as ./-n.wav, because argparse forgets the dashes where options may come anywhere."""
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    paths = (os.path.join(os.curdir, text) if text.startswith("-") else text for text in arguments[cut + 1 :])
    return [*arguments[: cut + 1], *paths]


def run_command(
    parser: argparse.ArgumentParser,
    job: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
    nested: bool = False,
) -> int:
    """Run a command: exit code 2 for a wrong call, 1 for a failed job, each with one line.

    Args:
        parser: reads the arguments.
        job: does the work, and returns an exit code.
        arguments: what was typed; None: sys.argv's.
        nested: the parser has commands of its own, with which argparse takes no options between two arguments.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(AttributeError, OSError, ValueError):  # notebooks have other streams; one may be closed
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text, nor in its encoding
    with surviving_streams():
        parse = parser.parse_args if nested else parser.parse_intermixed_args
        options = parse(_behind_dashes(sys.argv[1:] if arguments is None else arguments))
        try:
            _check_current_folder()
            if getattr(options, "trust", False):
                sys.path.insert(0, os.getcwd())  # where `python` looks for modules too
            with warnings.catch_warnings(), ending_on_signals():
                warnings.showwarning = _show_warning
                return job(options)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
        except Exception as error:
            sentence = f"{parser.prog}: {explain(error)}"
            if not _may_say(sentence, error):
                return _exit_code(error)
            if options.debug:
                raise
            print(sentence, file=sys.stderr)
            return _exit_code(error)


def print_line(line: str) -> None:
    """Print a line at once, also into a file that somebody watches."""
    print(line, flush=True)


def _check_current_folder() -> None:
    """Refuse to work in a folder that was removed, which torch and others stumble over where nobody expects it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        from sepkit.disk import OutputError

        raise OutputError("the current folder is gone: change into one that is there") from None


def _exit_code(error: Exception) -> int:
    """Return 2 for a wrong call, 1 for a failed job."""
    if not isinstance(error, ValueError):  # torch may be what cannot be imported
        return 1
    from sepkit.audio import AudioError
    from sepkit.datasets import DatasetError

    return 1 if isinstance(error, AudioError | DatasetError | UnicodeError) else 2


def explain(error: Exception) -> str:
    """Describe an error in a sentence; one that this package did not foresee is called by its name."""
    unmapped = isinstance(error, ImportError) and re.search("map segment|allocate memory", str(error))
    if "OutOfMemory" in type(error).__name__ or isinstance(error, MemoryError) or unmapped:
        return "out of memory: lower training.batch_size or raise training.accumulate; for separation, --batch-size 1"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "no more files may be open at once: `ulimit -n` allows more"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{shorten(str(error.filename), 80)} is longer than names can be: give a shorter one"
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}, check its permissions"
    foreseen = type(error).__module__.startswith("sepkit") or isinstance(error, ValueError)
    foreseen = foreseen and not isinstance(error, UnicodeError)
    return str(error) if foreseen else f"{type(error).__name__}: {shorten(str(error), 300)} (--debug shows where)"


def _show_warning(message, category, _filename, _line_number, _file=None, _line=None) -> None:
    """Print what users can act on in a line, and leave out what is meant for the developers of libraries."""
    is_for_users = not issubclass(category, DeprecationWarning | FutureWarning | ImportWarning | ResourceWarning)
    if is_for_users and _may_say(str(message)):
        print_note(message)


def _may_say(sentence: str, error: Exception | None = None) -> bool:
    """Return whether this process is the one of its job, if it is of one, that says something to the user."""
    if "sepkit.joining" not in sys.modules:  # which takes long to load
        return True
    from sepkit.joining import may_say

    return may_say(sentence, error)


def print_note(message: object) -> None:
    """Print what may need an action, and stops nothing."""
    print(f"note: {message}", file=sys.stderr)
