"""The commands: parse, call one function, say where the result lies.

Only the standard library is imported before a command knows what it has to do.
"""

import argparse
import errno
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten

from sepkit import __version__
from sepkit.terminal import ending_on_signals, surviving_streams

_FORMATS = ("wav", "wav24", "wav16", "flac", "flac16", "ogg", "mp3")
_DEVICES = "auto (CUDA, else MPS, else CPU), cpu, cuda or mps"


def train_command(arguments: Sequence[str] | None = None) -> int:
    """Run `sepkit-train`."""
    parser = _parser(
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
    parser.add_argument("--from", metavar="DIR", dest="initial", help="start from the weights of this model folder")
    parser.add_argument("--device", default="auto", help=_DEVICES)
    parser.add_argument("--dry-run", action="store_true", help="build everything, do one step, write nothing")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="no progress bar, no line an epoch")
    loudness.add_argument("--verbose", action="store_true", help="each epoch's losses by source, rate, memory, too")
    return _run(parser, _train, arguments)


def _train(options: argparse.Namespace) -> int:
    from sepkit import training
    from sepkit.processes import retain_freed_memory

    retain_freed_memory()
    if options.dry_run:
        result = training.dry_run(
            options.recipe,
            overrides=options.overrides,
            data=options.data,
            initial=options.initial,
            device=options.device,
        )
        print(result.description)
        for name, shape in result.shapes.items():
            print(f"  {name:12} {' x '.join(map(str, shape))}")
        peak = "unknown" if result.peak_memory is None else f"{result.peak_memory / 2**20:.0f} MB"
        print(f"  loss         {result.loss:.4f}\n  peak memory  {peak}")
        return 0
    try:
        folder = training.train(
            options.recipe,
            options.run,
            overrides=options.overrides,
            data=options.data,
            restart=options.restart,
            initial=options.initial,
            device=options.device,
            quiet=options.quiet,
            verbose=options.verbose,
            log=_keep_silent if options.quiet else _tell,
        )
    except training.TrainingInterrupted as stop:
        print(f"{stop}; everything is saved: the same command goes on from here", file=sys.stderr)
        return 128 + stop.signal
    print(f"model      {folder / 'model.safetensors'}")
    if (folder / "history.png").is_file():
        print(f"curves     {folder / 'history.png'}")
    if (folder / "report.html").is_file():
        print(f"report     {folder / 'report.html'}")
    if any(folder.glob("events.out.tfevents.*")):
        print(f"watch      tensorboard --logdir {folder.parent if folder.parent.name == 'runs' else folder}")
    print(f"next       sepkit-separate SONG --model {folder}")
    return 0


def _tell(line: str) -> None:
    """Print a line at once, also into a file that somebody watches."""
    print(line, flush=True)


def _keep_silent(_line: str) -> None:
    """Tell nobody."""


def separate_command(arguments: Sequence[str] | None = None) -> int:
    """Run `sepkit-separate`."""
    parser = _parser(
        "sepkit-separate",
        "Separate recordings into stems, OUTPUT/<name>/<stem>.wav.",
        "sepkit-separate song.mp3\n"
        "sepkit-separate album/ --model runs/vocals --output stems --format flac\n"
        "sepkit-separate song.wav --stems vocals --batch-size 4 --device cuda",
        "Without --model, the folder in $SEPKIT_MODEL is taken, else the newest finished run under runs/.",
    )
    parser.add_argument("recordings", metavar="FILE|FOLDER", nargs="+", help="audio files, or folders of them")
    parser.add_argument("--model", metavar="DIR", help="model folder")
    parser.add_argument("--output", metavar="DIR", default="separated", help="where the stems go (default: separated)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="chunks at once (default: 1)")
    parser.add_argument("--overlap", type=float, default=0.25, metavar="X", help="of chunks, 0 to 0.9 (default: 0.25)")
    parser.add_argument("--stems", nargs="+", metavar="STEM", help="only these stems")
    parser.add_argument("--residual", action="store_true", help="also write the recording minus all estimates")
    parser.add_argument("--format", default="wav", choices=_FORMATS, help="wav is 32-bit float and never scaled")
    parser.add_argument("--device", default="auto", help=_DEVICES)
    parser.add_argument("--overwrite", action="store_true", help="replace stems that exist")
    parser.add_argument("--report", action="store_true", help="also write <name>/report.html, to look and listen")
    parser.add_argument("--trust", action="store_true", help="let the model folder name any class, from here too")
    return _run(parser, _separate, arguments)


def _separate(options: argparse.Namespace) -> int:
    from sepkit.devices import choose_device
    from sepkit.model_folder import load_model
    from sepkit.processes import retain_freed_memory

    retain_freed_memory()
    _check_chunks(options)
    recordings = find_recordings(options.recordings, options.output)
    folder = options.model or find_model()
    separator = load_model(folder, choose_device(options.device), options.trust)
    print(f"model {folder}: {', '.join(separator.sources)} at {separator.sample_rate} Hz")
    return separate_all(separator, folder, recordings, options)


def _check_chunks(options: argparse.Namespace) -> None:
    """Refuse --batch-size and --overlap out of range under these names, before a model is loaded."""
    from sepkit.inference import check_chunks

    try:
        check_chunks(options.batch_size, options.overlap)
    except ValueError as error:
        raise ValueError(f"--{error}".replace("batch_size", "batch-size")) from None


def separate_all(separator, folder: str | Path, recordings: dict[str, Path], options: argparse.Namespace) -> int:
    """Separate recordings one by one; a broken one does not stop the others.

    Args:
        separator: the model.
        folder: of the model.
        recordings: by name of their output folder.
        options: of `sepkit-separate`.

    Returns:
        The exit code: 1 if any failed.
    """
    from tqdm import tqdm

    from sepkit import audio
    from sepkit.inference import choose_stems, separate_file
    from sepkit.report import Stopwatch

    choose_stems(separator.sources, options.stems, options.residual)
    durations, failures = {}, []
    for name, path in recordings.items():
        try:
            durations[name] = audio.probe(path).duration
        except audio.AudioError as error:
            failures.append(str(error))
    unit = {"unit": "s", "unit_scale": True, "disable": None, "leave": False}
    with tqdm(total=sum(durations.values()), desc="separating", **unit) as bar:
        for name in durations:
            watch = Stopwatch()
            try:
                result = separate_file(
                    separator,
                    recordings[name],
                    options.output,
                    name=name,
                    stems=options.stems,
                    residual=options.residual,
                    batch_size=options.batch_size,
                    overlap=options.overlap,
                    format=options.format,
                    overwrite=options.overwrite,
                    allow_truncated=True,
                    progress=bar.update,
                )
            except (audio.AudioError, OSError, ValueError) as error:
                if isinstance(error, ValueError) and Path(options.output).is_file():  # which holds for all recordings
                    raise
                failures.append(_describe_failure(error, recordings[name], options.output))
                continue
            for line in describe_separated(result):
                bar.write(line, file=sys.stdout)
            if options.report:
                try:
                    bar.write(f"  report: {report_separated(separator, folder, name, result, watch)}", file=sys.stdout)
                except Exception as error:  # whatever it is, the stems are there
                    _note(
                        f"{recordings[name]} is separated, but there is no report of it: {_explain(error)}; with "
                        "--overwrite the same command makes both again"
                    )
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _describe_failure(error: Exception, recording: Path, output: str) -> str:
    from sepkit.disk import OutputError

    if isinstance(error, OutputError):
        return f"{recording}: {error}"
    if isinstance(error, OSError | UnicodeError) and not isinstance(error, FileExistsError):
        return f"{recording} cannot be separated into {output}: {error}"
    return str(error)


def report_separated(separator, folder: str | Path, name: str, result, watch) -> Path:
    """Write the report of a separated recording beside its stems.

    Args:
        separator: the model.
        folder: of the model.
        name: of the recording.
        result: what came of it.
        watch: started before it was separated.
    """
    import torch

    from sepkit.report import FILE, report_separation

    device = next((part.device for part in separator.parameters()), torch.device("cpu"))
    return report_separation(
        next(iter(result.stems.values())).parent / FILE,
        name,
        result.recording,
        result.stems,
        seconds=result.duration,
        gain=result.gain,
        model=str(folder),
        cost=watch.read(),
        device=device,
    )


def describe_separated(result) -> Iterable[str]:
    """Say where the stems of a recording lie, and what had to be done to them."""
    from sepkit.audio import describe_damage

    folder = next(iter(result.stems.values())).parent
    yield f"{result.recording} -> {folder}/{{{','.join(path.name for path in result.stems.values())}}}"
    if result.gain < 1:
        from math import log10

        yield f"  all stems scaled by {20 * log10(result.gain):.2f} dB to fit the format; wav keeps them as they are"
    if result.missing is None:
        yield f"  the recording is truncated: {result.duration:.2f} s of it decode"
    elif result.missing:
        yield f"  the recording is truncated: {result.missing} samples are missing, {result.duration:.2f} s decode"
    if result.damage:
        yield f"  the recording {describe_damage(result.damage, result.sample_rate)}"
    if result.remarks:
        yield f"  the recording: {'; '.join(result.remarks)}"


def find_recordings(given: Sequence[str], output: str) -> dict[str, Path]:
    """List the recordings in files and folders, by the name of their output folder.

    Of a folder, all audio files are taken, at any depth and also behind links, but none that is hidden or in the
    folder of the output; where one is called `mixture`, it alone. A line tells what is passed over.

    Args:
        given: files and folders.
        output: folder of the stems, which may lie in a given one.

    Raises:
        ValueError: something does not exist, or recordings would be written into the same folders, with all of them.
    """
    if not all(given):
        raise ValueError("a recording has no name: one of the arguments is empty")  # Path would make it this folder
    paths: list[Path] = []
    passed: list[str] = []
    for entry in map(Path, given):
        if entry.is_dir():
            paths += _recordings_in(entry, Path(output), passed)
        elif entry.exists():
            paths.append(entry)
        else:
            raise ValueError(f"{entry} does not exist")
    told = f"passed over: {'; '.join(passed)}" if passed else ""
    if not paths:
        raise ValueError(f"there is no audio file in {', '.join(map(str, given))}" + (f" ({told})" if told else ""))
    named = _name_outputs(paths)
    if told:
        _tell(told)
    return named


def _recordings_in(folder: Path, output: Path, passed: list[str]) -> list[Path]:
    """List the audio files of a folder, and note what is passed over."""
    from collections import Counter

    from sepkit.audio import is_audio_name

    files, n_linked, unread = _files_below(folder, output)
    found = [path for path in files if is_audio_name(path)]
    mixed = {path.parent for path in found if path.stem == "mixture"}
    taken = [path for path in found if path.parent not in mixed or path.stem == "mixture"]
    kinds = Counter(path.suffix.lower() or "without suffix" for path in files if not is_audio_name(path))
    counts = [
        (kinds.total(), "file", f" ({_shown([f'{kind} {n}' for kind, n in kinds.most_common()], 8, ', ')})"),
        (len(found) - len(taken), "file", " beside a mixture"),
        (n_linked, "linked folder", ""),
        (len(unread), "folder", f" that cannot be read ({_shown(unread, 3, ', ')})"),
    ]
    told = [f"{n} {what}{'s' if n > 1 else ''}{more}" for n, what, more in counts if n]
    passed += [", ".join(told)] if told else []
    return taken


def _name_outputs(paths: Iterable[Path]) -> dict[str, Path]:
    """Give each recording the name of its output folder; names that some system takes for one are refused."""
    from sepkit.files import same_file_key
    from sepkit.inference import output_name

    named: dict[str, dict[str, Path]] = {}
    for path in paths:
        named.setdefault(same_file_key(output_name(path)), {}).setdefault(os.path.realpath(path), path)
    together = [list(same.values()) for same in named.values()]
    clashes = [f"{output_name(same[0])}/ of {_shown(same, 5, ', ')}" for same in together if len(same) > 1]
    if clashes:
        raise ValueError(
            "recordings of the same name would be written to one folder, rename them or give each an --output of its "
            f"own: {_shown(clashes, 50, '; ')}"
        )
    return {output_name(path): path for (path,) in together}


def _shown(items: Sequence[object], n_shown: int, separator: str) -> str:
    """List the first of many, and say how many there are beside them."""
    more = [f"and {len(items) - n_shown} more"] if len(items) > n_shown else []
    return separator.join([*map(str, items[:n_shown]), *more])


def _files_below(folder: Path, left_out: Path) -> tuple[list[Path], int, list[str]]:
    """List the files in a folder at any depth and behind links, neither hidden nor in the folder that is left out.

    Returns:
        The files; how many links lead to folders that are searched anyway; the folders that cannot be read.
    """
    found, unread, n_back = [], [], 0
    waiting, seen, output, above = [folder], set(), _real(left_out), _real(folder).parents
    while waiting:
        top = waiting.pop(0)
        if _real(top) in seen or _real(top) in above:
            n_back += 1
            continue
        for place, folders, names in os.walk(top, onerror=lambda error: unread.append(error.filename)):
            seen.add(_real(place))
            below = [Path(place, name) for name in sorted(folders) if not name.startswith(".")]
            below = [path for path in below if output not in (_real(path), *_real(path).parents)]
            waiting += [path for path in below if path.is_symlink()]
            folders[:] = [path.name for path in below if not path.is_symlink() and _real(path) not in seen]
            found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found), n_back, unread


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


def find_model() -> Path:
    """Find the model to use when none is named: `$SEPKIT_MODEL`, else the newest finished run under `runs/`.

    Raises:
        ValueError: there is none.
    """
    if os.environ.get("SEPKIT_MODEL"):
        return Path(os.environ["SEPKIT_MODEL"])
    from sepkit.model_folder import CARD, ModelError, read_card

    finished = []
    for card in Path("runs").glob(f"*/{CARD}"):
        try:
            if read_card(card.parent).get("finished"):
                finished.append(card)
        except ModelError:
            continue
    if not finished:
        raise ValueError("no model: name one with --model or $SEPKIT_MODEL, or train one with `sepkit-train vocals`")
    return max(finished, key=lambda card: card.stat().st_mtime).parent


def evaluate_command(arguments: Sequence[str] | None = None) -> int:
    """Run `sepkit-evaluate`."""
    parser = _parser(
        "sepkit-evaluate",
        "Score a model on songs, or estimates against references: museval's SDR, ISR, SIR and SAR, SI-SDR, uSDR, ...",
        "sepkit-evaluate --model runs/vocals --data demo\n"
        "sepkit-evaluate --model runs/vocals --musdb musdb18 --protocol musdb --workers 8 --output scores\n"
        "sepkit-evaluate --model runs/vocals --data my_songs --metrics SDR\n"
        "sepkit-evaluate --estimates separated --references my_songs/test\n"
        "sepkit-evaluate --compare evaluation/first evaluation/second --output comparison",
        "SDR, ISR, SIR and SAR are medians over frames of a second; the table gives medians over tracks.\n"
        "Beside a model stand the mixture divided by the number of targets, silence, and the ideal ratio mask.\n"
        "Stopped, the same command goes on: tracks of the same model, settings and files are not scored again.",
    )
    _add_material(parser)
    _add_scoring(parser)
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="chunks at once (default: 1)")
    parser.add_argument("--overlap", type=float, default=0.25, metavar="X", help="of chunks, 0 to 0.9 (default: 0.25)")
    parser.add_argument("--resample", action="store_true", help="let songs have another sample rate than the model")
    parser.add_argument("--verbose", action="store_true", help="means and the interval of every number, too")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes over tracks (default: 1)")
    parser.add_argument("--device", default="auto", help=_DEVICES)
    parser.add_argument("--trust", action="store_true", help="let the model folder name any class, from here too")
    return _run(parser, _evaluate, arguments)


def _add_material(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is scored, and where the scores go."""
    parser.add_argument("--model", metavar="DIR", help="model folder (default: as for sepkit-separate)")
    songs = parser.add_mutually_exclusive_group()
    songs.add_argument("--data", metavar="ROOT", help="folder of songs, or demo for the built-in ones")
    songs.add_argument("--musdb", metavar="ROOT", dest="data", help="the same: MUSDB18, of stem.mp4 or wav")
    parser.add_argument("--split", default="test", choices=("train", "valid", "test"), help="default: test")
    parser.add_argument("--estimates", metavar="DIR", help="score these files: DIR/<track>/<stem>.wav")
    parser.add_argument("--references", metavar="DIR", help="against these of the same names, or against --data")
    parser.add_argument("--targets", nargs="+", metavar="STEM", help="only these, accompaniment among them")
    parser.add_argument("--compare", nargs="+", metavar="DIR", help="compare evaluations with the first of them")
    parser.add_argument("--output", metavar="DIR", help="for CSV and JSON (default: evaluation/<name>)")
    parser.add_argument("--report", action="store_true", help="also write report.html there, to look and listen")


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how it is scored."""
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
        raise ValueError("say what is scored: --data ROOT for a model, or --estimates DIR and --references DIR")
    if options.estimates is not None and options.references is None and options.data is None:
        raise ValueError("--estimates needs what they are compared with: give --references DIR or --data ROOT")
    if options.estimates is not None and options.model is not None:
        raise ValueError("--model and --estimates exclude each other: the estimates are scored as they are")
    from sepkit.evaluation import DEFAULT_METRICS, evaluate
    from sepkit.processes import retain_freed_memory
    from sepkit.report import FILE

    retain_freed_memory()
    model, folder = _load_evaluated(options) if options.estimates is None else (None, None)
    name = folder.resolve().name if folder else "estimates"
    output = Path(options.output or Path("evaluation") / name)
    scores = evaluate(
        model,
        options.data,
        split=options.split,
        estimates=options.estimates,
        references=options.references,
        targets=options.targets,
        output=output,
        metrics=options.metrics or DEFAULT_METRICS,
        mode=options.mode,
        window=options.window,
        hop=options.hop,
        silent=options.silent,
        protocol=options.protocol,
        engine=options.engine,
        baselines=not options.no_baselines,
        batch_size=options.batch_size,
        overlap=options.overlap,
        resample=options.resample,
        workers=options.workers,
        report=options.report,
        run=folder if options.report else None,
        log=_tell,
    )
    print(scores.table(options.verbose))
    print(f"scores     {output / 'scores.csv'}")
    if options.report and (output / FILE).is_file():
        print(f"report     {output / FILE}")
    return 0


def _load_evaluated(options: argparse.Namespace) -> tuple:
    """Load the model and say from which folder."""
    from sepkit.devices import choose_device
    from sepkit.model_folder import load_model

    _check_chunks(options)
    folder = Path(options.model or find_model())
    model = load_model(folder, choose_device(options.device), options.trust)
    print(f"model {folder}: {', '.join(model.sources)} at {model.sample_rate} Hz")
    return model, folder


def _compare(options: argparse.Namespace) -> int:
    if options.model or options.data or options.estimates or options.references:
        raise ValueError("--compare takes evaluations that are done: leave out --model, --data and --estimates")
    from sepkit.evaluation import compare, report_compared

    output = Path(options.output or Path("evaluation") / "comparison")
    comparison = compare(options.compare, output)
    print(comparison.table())
    if options.report:
        try:
            print(f"report     {report_compared(comparison, output)}")
        except Exception as error:  # whatever it is, the comparison is there
            _note(f"there is no report of the comparison: {_explain(error)}")
    return 0


def _parser(name: str, description: str, examples: str, note: str = "") -> argparse.ArgumentParser:
    """Make a parser with what all commands share."""
    parser = argparse.ArgumentParser(
        name,
        description=description,
        epilog=f"{note}\n\nexamples:\n" + "\n".join(f"  {line}" for line in examples.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sepkit {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where an error comes from")
    return parser


def _behind_dashes(arguments: Sequence[str]) -> list[str]:
    """Write -n.wav behind `--` as ./-n.wav, because argparse forgets the dashes where options may come anywhere."""
    cut = list(arguments).index("--") if "--" in arguments else len(arguments)
    paths = (os.path.join(os.curdir, text) if text.startswith("-") else text for text in arguments[cut + 1 :])
    return [*arguments[: cut + 1], *paths]


def _run(
    parser: argparse.ArgumentParser,
    job: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
) -> int:
    """Parse and do the job: exit code 2 for a wrong call, 1 for a failed job, each with one line."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(AttributeError, OSError, ValueError):  # notebooks have other streams; one may be closed
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text, nor in its encoding
    with surviving_streams():
        options = parser.parse_intermixed_args(_behind_dashes(sys.argv[1:] if arguments is None else arguments))
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
            if options.debug:
                raise
            print(f"{parser.prog}: {_explain(error)}", file=sys.stderr)
            return _exit_code(error)


def _check_current_folder() -> None:
    """Refuse to work in a folder that was removed, which torch and others stumble over where nobody expects it."""
    try:
        os.getcwd()
    except FileNotFoundError:
        from sepkit.disk import OutputError

        raise OutputError("the current folder is gone: change into one that is there") from None


def _exit_code(error: Exception) -> int:
    """Tell a wrong call, 2, from a failed job, 1."""
    if not isinstance(error, ValueError):  # torch may be what cannot be imported
        return 1
    from sepkit.audio import AudioError
    from sepkit.datasets import DatasetError

    return 1 if isinstance(error, AudioError | DatasetError | UnicodeError) else 2


def _explain(error: Exception) -> str:
    """Say an error in a sentence; what this package did not foresee is called by its name."""
    unmapped = isinstance(error, ImportError) and re.search("map segment|allocate memory", str(error))
    if "OutOfMemory" in type(error).__name__ or isinstance(error, MemoryError) or unmapped:
        return "out of memory: lower training.batch_size or raise training.accumulate; for separation, --batch-size 1"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "no more files may be open at once: `ulimit -n` allows more"
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}, check its permissions"
    foreseen = type(error).__module__.startswith("sepkit") or isinstance(error, ValueError)
    foreseen = foreseen and not isinstance(error, UnicodeError)
    return str(error) if foreseen else f"{type(error).__name__}: {shorten(str(error), 300)} (--debug shows where)"


def _show_warning(message, category, _filename, _line_number, _file=None, _line=None) -> None:
    """Show what users can act on in a line, and leave out what libraries tell their developers."""
    if not issubclass(category, DeprecationWarning | FutureWarning | ImportWarning | ResourceWarning):
        _note(message)


def _note(message: object) -> None:
    print(f"note: {message}", file=sys.stderr)
