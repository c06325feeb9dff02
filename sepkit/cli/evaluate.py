"""The command sepkit-evaluate."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sepkit.cli._command import (
    add_chunking,
    add_model,
    check_chunking,
    explain,
    load_model,
    make_parser,
    pick,
    print_line,
    print_note,
    run_command,
)

if TYPE_CHECKING:
    from sepkit.evaluation import Scores
    from sepkit.separator import Separator


def evaluate_command(arguments: Sequence[str] | None = None) -> int:
    """Run `sepkit-evaluate`."""
    parser = make_parser(
        "sepkit-evaluate",
        "Score a model on songs, or estimates against references: museval's SDR, ISR, SIR and SAR, SI-SDR, uSDR, ...",
        "sepkit-evaluate --model runs/vocals --data demo\n"
        "sepkit-evaluate --model runs/vocals --musdb musdb18 --protocol musdb --workers 8 --output scores\n"
        "sepkit-evaluate --model runs/vocals --data my_songs --metrics SDR\n"
        "sepkit-evaluate --model default htdemucs runs/mine --data my_songs\n"
        "sepkit-evaluate --estimates separated --references my_songs/test\n"
        "sepkit-evaluate --compare evaluation/first evaluation/second --output comparison",
        "SDR, ISR, SIR and SAR are medians over frames of a second; the table gives medians over tracks.\n"
        "Beside a model stand the mixture divided by the number of targets, silence, and the ideal ratio mask.\n"
        "Stopped, the same command goes on: tracks of the same model, settings and files are not scored again.",
    )
    _add_material(parser)
    _add_scoring(parser)
    add_chunking(parser)
    parser.add_argument("--resample", action="store_true", help="let songs have another sample rate than the model")
    parser.add_argument("--verbose", action="store_true", help="means and the interval of every number, too")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes over tracks (default: 1)")
    add_model(
        parser,
        "model folder, or a name that `sepkit-model get` fetched (default: as for sepkit-separate); several: one table",
        several=True,
    )
    return run_command(parser, _evaluate, arguments)


def _add_material(parser: argparse.ArgumentParser) -> None:
    """Add the options about what is scored, and where the scores go."""
    songs = parser.add_mutually_exclusive_group()
    songs.add_argument("--data", metavar="ROOT", help="folder of songs, or demo for the built-in ones")
    songs.add_argument("--musdb", metavar="ROOT", dest="data", help="the same: MUSDB18, of stem.mp4 or wav")
    parser.add_argument("--layout", metavar="NAME", help="how files lie in it, as data.layout of a recipe")
    parser.add_argument(
        "--stems",
        nargs="+",
        metavar="STEM=A,B",
        help="the stems of the songs whose sum STEM is, as data.stems of a recipe: other=guitar,piano",
    )
    parser.add_argument("--split", default="test", choices=("train", "valid", "test"), help="default: test")
    parser.add_argument("--estimates", metavar="DIR", help="score these files: DIR/<track>/<stem>.wav")
    parser.add_argument("--references", metavar="DIR", help="against these of the same names, or against --data")
    parser.add_argument("--targets", nargs="+", metavar="STEM", help="only these, accompaniment among them")
    parser.add_argument("--compare", nargs="+", metavar="DIR", help="compare evaluations with the first of them")
    parser.add_argument("--output", metavar="DIR", help="for CSV and JSON (default: evaluation/<name>)")
    parser.add_argument("--report", action="store_true", help="also write report.html there, to see and hear")


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add the options about how it is scored."""
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="of SDR ISR SIR SAR SI-SDR SI-SDRi uSDR (these by default) SNR SD-SDR SI-SIR SI-SAR l1_freq bleedless "
        "fullness log_wmse PESQ STOI; only these are computed, SDR alone a hundred times faster",
    )
    parser.add_argument("--mode", default="v4", choices=("v4", "v3"), help="filters of the track or of each frame")
    parser.add_argument("--window", type=float, default=1.0, metavar="S", help="seconds per frame (default: 1)")
    parser.add_argument("--hop", type=float, default=1.0, metavar="S", help="seconds between frames (default: 1)")
    parser.add_argument("--silent", choices=("nan", "museval", "error"), help="what silent stems are (default: nan)")
    parser.add_argument("--protocol", default="sepkit", choices=("sepkit", "musdb"), help="what is scored together")
    parser.add_argument("--engine", default="sepkit", choices=("sepkit", "museval"), help="what computes the scores")
    parser.add_argument("--no-baselines", action="store_true", help="score the model alone")


def _evaluate(options: argparse.Namespace) -> int:
    if options.compare:
        return _compare(options)
    if options.references is not None and (options.estimates is None or options.data is not None):
        raise ValueError("--estimates and --references belong together: give both, without --data")
    if options.estimates is None and options.data is None:
        raise ValueError("choose what is scored: --data ROOT for a model, or --estimates DIR and --references DIR")
    if options.estimates is not None and options.references is None and options.data is None:
        raise ValueError("--estimates needs what they are compared with: give --references DIR or --data ROOT")
    if options.estimates is not None and options.model is not None:
        raise ValueError("--model and --estimates exclude each other: the estimates are scored as they are")
    if options.estimates is not None:
        _refuse(options, _OF_MODEL, "is for a model that separates, --estimates are scored as they are")
    if options.data is None:
        _refuse(options, ("layout", "stems"), "says how the songs of --data lie")
    _read_stem_map(options.stems)
    from sepkit.processes import retain_freed_memory

    retain_freed_memory()
    if options.estimates is None:
        check_chunking(options)
    if len(options.model or ()) > 1:
        return _evaluate_several(options)
    options.model = options.model[0] if options.model else None
    model, folder = load_model(options) if options.estimates is None else (None, None)
    name = folder.resolve().name if folder else "estimates"
    output = Path(options.output or Path("evaluation") / name)
    print(_score(options, model, folder, output).table(options.verbose))
    _print_places(options, output)
    return 0


def _evaluate_several(options: argparse.Namespace) -> int:
    """Score models one after the other, each into a folder of its own, and print one table."""
    from sepkit.evaluation import join_scores
    from sepkit.evaluation.joining import name_models
    from sepkit.files import safe_name
    from sepkit.model_folder import locate_model, read_card

    if "" in options.model:
        raise ValueError("--model is empty: name a folder")
    models, scores = name_models(options.model), {}
    for each in models.values():
        read_card(locate_model(each))  # before the first is scored, which takes long
    outputs = {name: Path(options.output or "evaluation") / safe_name(name) for name in models}
    for number, (name, each) in enumerate(models.items()):
        model, folder = load_model(argparse.Namespace(**{**vars(options), "model": each}))
        scores[name] = _score(options, model, folder, outputs[name])
        print_line(f"{name} was scored, {number + 1} of {len(models)}")
    print(join_scores(scores).table(options.verbose))
    for output in outputs.values():
        _print_places(options, output)
    return 0


def _score(options: argparse.Namespace, model: "Separator | None", folder: Path | None, output: Path) -> "Scores":
    from sepkit.evaluation import DEFAULT_METRICS, evaluate

    return evaluate(
        model,
        options.data,
        output=output,
        stems=_read_stem_map(options.stems),
        metrics=options.metrics or DEFAULT_METRICS,
        baselines=not options.no_baselines,
        run=folder if options.report else None,
        log=print_line,
        **pick(options, "split", "layout", "estimates", "references", "targets", "mode", "window", "hop", "silent"),
        **pick(options, "protocol", "engine", "batch_size", "overlap", "shifts", "resample", "workers", "report"),
    )


def _print_places(options: argparse.Namespace, output: Path) -> None:
    from sepkit.report import FILE

    print(f"scores     {output / 'scores.csv'}")
    if options.report and (output / FILE).is_file():
        print(f"report     {output / FILE}")


def _read_stem_map(given: Sequence[str] | None) -> dict[str, list[str]]:
    """Read a stem map; a stem that is named twice is refused, as in a recipe."""
    stems: dict[str, list[str]] = {}
    for text in given or ():
        name, _, parts = text.partition("=")
        held = [part.strip() for part in parts.split(",")]
        if not name or not all(held):
            raise ValueError(f"--stems must be like other=guitar,piano, got {text!r}")
        if name in stems:
            raise ValueError(f"--stems must name each stem once, {name!r} is there twice")
        stems[name] = held
    folded = [part.casefold() for held in stems.values() for part in held]
    twice = next((part for part in folded if folded.count(part) > 1), None)
    if twice is not None:
        raise ValueError(f"--stems must name each stem once, {twice!r} is there twice")
    return stems


_OF_MODEL = ("device", "batch_size", "overlap", "shifts", "resample", "trust")


def _refuse(options: argparse.Namespace, names: Sequence[str], reason: str) -> None:
    """Refuse options that would be ignored."""
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) not in (None, False)]
    if given:
        raise ValueError(f"{given[0]} {reason}: leave out {', '.join(given)}")


def _compare(options: argparse.Namespace) -> int:
    names = ("model", "data", "layout", "stems", "estimates", "references", "targets", "metrics", "silent", *_OF_MODEL)
    _refuse(options, names, "does not go with --compare, which takes evaluations that are done")
    from sepkit.evaluation import compare, report_compared

    output = Path(options.output or Path("evaluation") / "comparison")
    comparison = compare(options.compare, output)
    print(comparison.table())
    if options.report:
        try:
            print(f"report     {report_compared(comparison, output)}")
        except Exception as error:  # whatever it is, the comparison is there
            print_note(f"there is no report of the comparison: {explain(error)}")
    return 0
