"""Separate many recordings: find them, give each a folder, go on where one fails."""

import math
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from sepkit import audio
from sepkit.disk import OutputError
from sepkit.files import safe_name, same_file_key
from sepkit.inference.files import Destination, Separated, output_name, separate_file
from sepkit.inference.stems import choose_stems
from sepkit.inference.streaming import choose_chunking
from sepkit.model_folder import CARD, DEFAULT, ModelError, read_card
from sepkit.separator import Separator

if TYPE_CHECKING:
    from sepkit.report import Stopwatch

Log = Callable[[str], object]


@dataclass(frozen=True)
class CatalogueResult:
    """The outcome for each recording of a catalogue.

    Attributes:
        separated: stems by the name of the recording, also where they were there already.
        failures: of the other recordings, a sentence each.
    """

    separated: dict[str, Separated] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def separate_catalogue(
    model: Separator,
    recordings: Mapping[str, Path],
    output: str | os.PathLike,
    *,
    stems: Sequence[str] | None = None,
    residual: bool = False,
    batch_size: int | None = None,
    overlap: float | None = None,
    shifts: int | None = None,
    seed: int | None = None,
    format: str = "wav",  # noqa: A002
    existing: str = "error",
    report: bool = False,
    run: str | os.PathLike = "",
    log: Log | None = None,
) -> CatalogueResult:
    """Separate recordings one by one into `output/<name>/<stem>.<suffix>`; a broken one does not stop the others.

    Of damaged files, what decodes is separated. A bar shows the progress where stderr is a terminal.

    Args:
        model: the separator.
        recordings: files by the name of their folder in the output, as `find_recordings` lists them.
        output: folder, created if need be.
        stems: names of the stems to write; None: all.
        residual: write the residual, too.
        batch_size: chunks that the network sees at once, >= 1; None: the model's.
        overlap: share of a chunk that the next one covers again, in [0, 0.9]; None: the model's.
        shifts: delayed separations whose mean is written, as in `separate`; None: the model's.
        seed: of the delays; None: the model's.
        format: of the files, as in `separate_file`.
        existing: of stems that are there, as in `separate_file`: "error", "skip" or "overwrite".
        report: write `<name>/report.html`, too.
        run: folder of the model, named in the reports.
        log: called with lines about each recording.

    Raises:
        ValueError: an option is out of range, or the output is a file.
    """
    from sepkit.report import Stopwatch  # late, because it imports what draws

    chunks = {"batch_size": batch_size, "overlap": overlap, "shifts": shifts, "seed": seed}
    choose_chunking(model, **chunks)
    destination, log = Destination(output, format, existing), log or (lambda _line: None)
    names = choose_stems(model.sources, stems, residual, getattr(model, "residual", None))
    options = {"stems": names, "format": format, "existing": existing, **chunks}
    result, durations = CatalogueResult(), {}
    for name, path in recordings.items():
        with _keeping_failures(result, path, output):
            paths = destination.paths(name, names, path)
            if destination.may_skip(paths):
                result.separated[name] = Separated(path, dict(zip(names, paths, strict=True)), skipped=True)
            else:
                durations[name] = audio.probe(path).duration
    unit = {"unit": "s", "unit_scale": True, "disable": None, "leave": False}
    with tqdm(total=sum(durations.values()), desc="separating", **unit) as bar:
        for name in durations:
            path, watch = recordings[name], Stopwatch()
            with _keeping_failures(result, path, output):
                separated = separate_file(
                    model, path, output, name=name, allow_truncated=True, progress=bar.update, **options
                )
                result.separated[name] = separated
                lines = describe_separated(separated)
                if report and not separated.skipped:
                    lines += _report(model, run, name, separated, watch)
                with bar.external_write_mode(sys.stdout):
                    for line in lines:
                        log(line)
    n_skipped = sum(separated.skipped for separated in result.separated.values())
    if n_skipped:
        log(f"skipped: {n_skipped} recording{'s' if n_skipped > 1 else ''} whose stems are there already")
    return result


@contextmanager
def _keeping_failures(result: CatalogueResult, recording: Path, output: str | os.PathLike) -> Iterator[None]:
    """Append what fails with a recording to the result, in a sentence that names the recording."""
    try:
        yield
    except (audio.AudioError, OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OutputError):
            reason = f"{recording}: {error}"
        elif isinstance(error, OSError | UnicodeError) and not isinstance(error, FileExistsError):
            reason = f"{recording} cannot be separated into {output}: {error}"
        result.failures.append(reason)


def _report(model: Separator, run: str | os.PathLike, name: str, separated: Separated, watch: "Stopwatch") -> list[str]:
    """Write the report of a recording beside its stems, and name it in a line; whatever fails, the stems are there."""
    from sepkit import report

    try:
        path = report.report_separation(
            next(iter(separated.stems.values())).parent / report.FILE,
            name,
            separated.recording,
            separated.stems,
            seconds=separated.duration,
            gain=separated.gain,
            model=str(run),
            cost=watch.read(),
            device=next((part.device for part in model.parameters()), torch.device("cpu")),
        )
    except Exception as error:
        warnings.warn(
            f"{separated.recording} is separated, but there is no report of it: {type(error).__name__}: {error}; with "
            "--overwrite the same command makes both again",
            stacklevel=3,
        )
        return []
    return [f"  report: {path}"]


def describe_separated(separated: Separated) -> list[str]:
    """Describe in lines where the stems of a recording lie, and what had to be done to them."""
    if separated.skipped:
        return []
    paths = list(separated.stems.values())
    lines = [f"{separated.recording} -> {paths[0].parent}/{{{','.join(path.name for path in paths)}}}"]
    if separated.gain < 1:
        level = 20 * math.log10(separated.gain)
        lines.append(f"  all stems scaled by {level:.2f} dB to fit the format; wav keeps them as they are")
    if separated.missing is None:
        lines.append(f"  the recording is truncated: {separated.duration:.2f} s of it decode")
    elif separated.missing:
        lines.append(
            f"  the recording is truncated: {separated.missing} samples are missing, {separated.duration:.2f} s decode"
        )
    if separated.damage:
        lines.append(f"  the recording {audio.describe_damage(separated.damage, separated.sample_rate)}")
    if separated.remarks:
        lines.append(f"  the recording: {'; '.join(separated.remarks)}")
    return lines


def find_recordings(
    places: Sequence[str | os.PathLike] | str | os.PathLike, output: str | os.PathLike, log: Log | None = None
) -> dict[str, Path]:
    """List the recordings in files and folders, by the name of their folder in the output.

    A file is named as `output_name` says, and in a folder by its path below it, too: `a/01.wav` is "a/01". Of a
    folder, all audio files are taken, at any depth and also behind links, but none that is hidden or in the folder of
    the output; where one is called `mixture`, it alone.

    Args:
        places: files and folders; one may stand without a list.
        output: folder of the stems, which may lie in a given one.
        log: called with a line about what is passed over.

    Raises:
        ValueError: something does not exist, or recordings would be written into the same folders, with all of them.
    """
    places = [places] if isinstance(places, str | os.PathLike) else list(places)
    if not all(map(os.fspath, places)):
        raise ValueError("a recording has no name: one of the arguments is empty")  # Path would make it this folder
    named: list[tuple[str, Path]] = []
    passed: list[str] = []
    for place in map(Path, places):
        if place.is_dir():
            if _real(place) == _real(output):
                raise ValueError(f"{place} cannot hold the recordings and the stems: choose another output")
            named += [(_name_below(place, path), path) for path in _recordings_in(place, Path(output), passed)]
        elif place.exists():
            named.append((output_name(place), place))
        else:
            raise ValueError(f"{place} does not exist")
    passed_over = f"passed over: {'; '.join(passed)}" if passed else ""
    if not named:
        reason = f" ({passed_over})" if passed else ""
        raise ValueError(f"there is no audio file in {', '.join(map(str, places))}{reason}")
    recordings = _refuse_clashes(named)
    if passed and log:
        log(passed_over)
    return recordings


def _name_below(folder: Path, recording: Path) -> str:
    """Name the output of a recording in a folder: the path below it, in names that every system takes."""
    parents = list(map(safe_name, recording.relative_to(folder).parent.parts))
    if recording.stem == "mixture" and parents:
        return "/".join(parents)
    return "/".join([*parents, output_name(recording)])


def _recordings_in(folder: Path, output: Path, passed: list[str]) -> list[Path]:
    """List the audio files of a folder, and append to `passed` what is left out."""
    files, n_linked, unread = _files_below(folder, output)
    audible = [path for path in files if audio.is_audio_name(path)]
    mixed = {path.parent for path in audible if path.stem == "mixture"}
    taken = [path for path in audible if path.parent not in mixed or path.stem == "mixture"]
    kinds = Counter(path.suffix.lower() or "without suffix" for path in files if not audio.is_audio_name(path))
    counts = [
        (kinds.total(), "file", f" ({_join_first([f'{kind} {n}' for kind, n in kinds.most_common()], 8, ', ')})"),
        (len(audible) - len(taken), "file", " beside a mixture"),
        (n_linked, "linked folder", ""),
        (len(unread), "folder", f" that cannot be read ({_join_first(unread, 3, ', ')})"),
    ]
    parts = [f"{n} {what}{'s' if n > 1 else ''}{more}" for n, what, more in counts if n]
    passed += [", ".join(parts)] if parts else []
    return taken


def _refuse_clashes(named: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    """Map names to recordings; those that some system takes for one are refused, the same file is taken once."""
    by_key: dict[str, dict[str, tuple[str, Path]]] = {}
    for name, path in named:
        by_key.setdefault(same_file_key(name), {}).setdefault(os.path.realpath(path), (name, path))
    clashes = [list(alike.values()) for alike in by_key.values() if len(alike) > 1]
    if clashes:
        listed = [f"{alike[0][0]}/ of {_join_first([path for _, path in alike], 5, ', ')}" for alike in clashes]
        raise ValueError(
            "recordings of the same name would be written to one folder, rename them or give each an --output of its "
            f"own: {_join_first(listed, 50, '; ')}"
        )
    return dict(named for alike in by_key.values() for named in alike.values())


def _join_first(items: Sequence[object], n_shown: int, separator: str) -> str:
    more = [f"and {len(items) - n_shown} more"] if len(items) > n_shown else []
    return separator.join([*map(str, items[:n_shown]), *more])


def _files_below(folder: Path, excluded: Path) -> tuple[list[Path], int, list[str]]:
    """List the files in a folder at any depth and behind links, neither hidden nor in the folder that is excluded.

    Returns:
        The files; how many links lead to folders that are searched anyway; the folders that cannot be read.
    """
    files, unread, n_linked = [], [], 0
    waiting, seen, output, above = [folder], set(), _real(excluded), _real(folder).parents
    output = None if output in above else output  # stems beside the folder are not in it
    while waiting:
        top = waiting.pop(0)
        if _real(top) in seen or _real(top) in above:
            n_linked += 1
            continue
        for place, folders, names in os.walk(top, onerror=lambda error: unread.append(error.filename)):
            seen.add(_real(place))
            below = [Path(place, name) for name in sorted(folders) if not name.startswith(".")]
            below = [path for path in below if output not in (_real(path), *_real(path).parents)]
            waiting += [path for path in below if path.is_symlink()]
            folders[:] = [path.name for path in below if not path.is_symlink() and _real(path) not in seen]
            files += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(files), n_linked, unread


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


def find_model() -> Path:
    """Find the model to use when none is named.

    Returns:
        What `$SEPKIT_MODEL` holds, a folder or a model's name; else the newest finished run under `runs/`; else the
        name of the model that comes with the package.
    """
    if os.environ.get("SEPKIT_MODEL"):
        return Path(os.environ["SEPKIT_MODEL"])
    finished = []
    for card in Path("runs").glob(f"*/{CARD}"):
        try:
            if read_card(card.parent).get("finished"):
                finished.append(card)
        except ModelError:
            continue
    if not finished:
        return Path(DEFAULT)
    return max(finished, key=lambda card: card.stat().st_mtime).parent
