"""The command sepkit-model: published models by name, and weights of other packages."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from sepkit.cli._command import add_command, make_parser, print_line, run_command


def model_command(arguments: Sequence[str] | None = None) -> int:
    """Run `sepkit-model`."""
    parser = make_parser(
        "sepkit-model",
        "List published models, fetch one by name, turn weights of other packages into a model folder, describe one.",
        "sepkit-model list --stem vocals\n"
        "sepkit-model get htdemucs\n"
        "sepkit-model import model.ckpt --config config.yaml --output models/mine\n"
        "sepkit-model info models/mine",
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _add_list(commands)
    _add_get(commands)
    _add_import(commands)
    _add_info(commands)
    return run_command(parser, lambda options: options.job(options), arguments, nested=True)


def _add_list(commands: "argparse._SubParsersAction") -> None:
    parser = add_command(
        commands,
        "list",
        "List published models: stems, size, licence and score as their sources state them.",
        "sepkit-model list\n"
        "sepkit-model list --stem drums --architecture scnet\n"
        "sepkit-model list --licence 'CC BY-NC-SA 4.0'",
        "Scores of different data sets and metrics cannot be compared.",
    )
    parser.add_argument("--stem", metavar="NAME", help="only models that estimate this stem")
    parser.add_argument("--architecture", metavar="NAME", help="only models of this architecture")
    parser.add_argument("--licence", metavar="NAME", help="only models whose weights have this licence")
    parser.set_defaults(job=_list)


def _add_get(commands: "argparse._SubParsersAction") -> None:
    parser = add_command(
        commands,
        "get",
        "Fetch a published model by its name, after showing its licence and address.",
        "sepkit-model get htdemucs\nsepkit-model get umxl --output models/umxl --yes",
        "A model that was fetched is used by its name: sepkit-separate song.wav --model htdemucs.\n"
        "What broke off goes on with the same command.",
    )
    parser.add_argument("name", metavar="NAME", help="of `sepkit-model list`")
    parser.add_argument("--output", metavar="DIR", help="model folder (default: in the cache, found by its name)")
    parser.add_argument("--yes", action="store_true", help="do not ask whether the licence is agreed to")
    _add_set(parser)
    parser.set_defaults(job=_get)


def _add_import(commands: "argparse._SubParsersAction") -> None:
    parser = add_command(
        commands,
        "import",
        "Turn weights of another package into a model folder; nothing in the files is executed.",
        "sepkit-model import model.ckpt --config config.yaml\n"
        "sepkit-model import htdemucs.th --output models/htdemucs\n"
        "sepkit-model import model.ckpt --config config.yaml --set model.zero_dc=true",
        "Reads checkpoint and yaml of Music-Source-Separation-Training and its relatives, Demucs' files and bags,\n"
        "folders of Open-Unmix, SCNet, bandit, asteroid's hub files and torchaudio's HDemucs.\n"
        "What the files do not tell is asked for, all of it at once; nothing is guessed.",
    )
    parser.add_argument("weights", metavar="WEIGHTS", help="file of weights, .yaml of a bag, or folder of Open-Unmix")
    parser.add_argument("--config", metavar="FILE", help="yaml or json that came with the weights")
    parser.add_argument("--output", metavar="DIR", help="model folder (default: named after the weights, here)")
    _add_set(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    parser.set_defaults(job=_import)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="what neither weights nor config state, or state wrongly; values in YAML",
    )


def _add_info(commands: "argparse._SubParsersAction") -> None:
    parser = add_command(
        commands,
        "info",
        "Describe a model: sources, rate, network, size, origin, licence, score.",
        "sepkit-model info htdemucs\nsepkit-model info runs/vocals",
    )
    parser.add_argument("model", metavar="MODEL", help="model folder, or a name that `get` fetched")
    parser.set_defaults(job=_info)


def _list(options: argparse.Namespace) -> int:
    from sepkit.cache import model_place
    from sepkit.registry import format_models, list_models, terminal_width

    models = list_models(options.stem, options.architecture, options.licence)
    brought = {model.name for model in models if (model_place(model.name) / "model.json").is_file()}
    if not sys.stdout.isatty():
        print(format_models(models, brought))
        return 0
    print(format_models(models, brought, terminal_width()))
    print(f"\nmodels     {len(models)}, * fetched; size, licence and score as their sources state them")
    print("next       sepkit-model get NAME")
    return 0


def _get(options: argparse.Namespace) -> int:
    from sepkit.zoo import get_model

    ask, overrides = None if options.yes else _ask, _overrides(options)
    folder = get_model(options.name, options.output, overrides=overrides, ask=ask, log=print_line)
    print(f"model      {folder}")
    print(f"next       sepkit-separate SONG {_model_option(options.output or options.name)}")
    return 0


def _model_option(model: object) -> str:
    """Write an option as a shell takes it, whatever the name of a folder."""
    return f"--model{'=' if str(model).startswith('-') else ' '}{shlex.quote(str(model))}"


def _ask(question: str) -> bool:
    """Put a question on the terminal; only yes is yes."""
    if not sys.stdin or not sys.stdin.isatty():
        raise ValueError("there is no terminal to ask on: agree to what is stated above with --yes")
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _import(options: argparse.Namespace) -> int:
    from sepkit.importing.model import import_model

    folder = import_model(
        options.weights,
        options.config,
        options.output,
        _overrides(options),
        overwrite=options.overwrite,
        log=print_line,
    )
    print(f"model      {folder}")
    print(f"next       sepkit-separate SONG {_model_option(folder)}")
    return 0


def _info(options: argparse.Namespace) -> int:
    from sepkit.importing.card import describe_model
    from sepkit.model_folder import locate_model

    print(describe_model(locate_model(options.model)))
    return 0


def _overrides(options: argparse.Namespace) -> dict[str, object]:
    """Read --set KEY=VALUE, with values in YAML."""
    from sepkit.plain import parse_yaml

    values = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set wants KEY=VALUE, got {text}: write for example --set model.zero_dc=true")
        try:
            values[key.strip()] = parse_yaml(value)
        except ValueError as error:
            raise ValueError(f"--set {key.strip()} wants a value in YAML, got {value}: {error}") from None
    return values
