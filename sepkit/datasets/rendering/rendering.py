"""MIDI files to a root of stems: each rendered by FluidSynth, played, placed and mastered in its own way."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sepkit import audio
from sepkit.arguments import check_path, is_integer, is_number
from sepkit.datasets.keys import transpose_key
from sepkit.datasets.manifest import SPLITS, Manifest, Row
from sepkit.datasets.manifest_files import read_manifest, write_manifest
from sepkit.datasets.rendering.errors import RenderingError
from sepkit.datasets.rendering.fluidsynth import RATE, SoundFont, find_fluidsynth, read_font
from sepkit.datasets.rendering.instruments import STEMS, name_instrument
from sepkit.datasets.rendering.midi import SUFFIXES, Note, import_mido, read_piece
from sepkit.datasets.rendering.performance import draw_take, perform
from sepkit.datasets.rendering.recording import record
from sepkit.devices import available_cores
from sepkit.disk import writing
from sepkit.files import PREFIX, atomic_file, atomic_folder, hash_file, in_a_line, readable, safe_name
from sepkit.processes import thread_pool

RECORD = "render.json"  # what a root was rendered from
FACTS = "piece.json"  # what is known of a track, in its folder
_REMEDY = "make room, or choose another --output; pieces that are complete stay, and the same command goes on"


@dataclass(frozen=True)
class RenderSettings:
    """How pieces are rendered.

    Attributes:
        seed: of all that is drawn, >= 0.
        takes: renderings of each piece, >= 1; the first as it is written, others in another key, tempo and with
            other instruments of the same kind.
        humanise: how loosely notes come and how unlike their loudness is, as people play, 0 to 4; 0: as it is written.
        seconds: of a piece that are rendered, 1 to 3600, before it rings out; None: all.
        split: "train", "valid" or "test".
        licence: of the pieces, for the manifest; None: unknown.
    """

    seed: int = 0
    takes: int = 1
    humanise: float = 1.0
    seconds: float | None = None
    split: str = "train"
    licence: str | None = None

    def __post_init__(self) -> None:
        if not is_integer(self.seed) or self.seed < 0:
            raise ValueError(f"seed must be a whole number from 0, got {self.seed}")
        if not is_integer(self.takes) or not 1 <= self.takes <= 1000:
            raise ValueError(f"takes must be a whole number, 1 to 1000, got {self.takes}")
        if not is_number(self.humanise) or not 0 <= self.humanise <= 4:
            raise ValueError(f"humanise must lie in 0 to 4, got {self.humanise}")
        if self.seconds is not None and (not is_number(self.seconds) or not 1 <= self.seconds <= 3600):
            raise ValueError(f"seconds must lie in 1 to 3600, got {self.seconds}")
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {self.split!r}")
        if self.licence is not None and (not isinstance(self.licence, str) or not self.licence.strip()):
            raise ValueError(f"licence must be text, got {self.licence!r}")


@dataclass(frozen=True)
class _Job:
    """A rendering of a piece: its file, the number of the take, and the name of the track."""

    path: Path
    take: int
    track: str


def render(
    midi: Sequence[str | Path],
    soundfonts: Sequence[str | Path],
    output: str | Path,
    settings: RenderSettings | None = None,
    workers: int | None = None,
    log: Callable[[str], Any] = print,
    progress: bool = True,
) -> Path:
    """Render MIDI files into a root of stems: drums, bass and other, 16-bit WAV, and a manifest.

    The same call gives the same files, with the same FluidSynth. What broke off goes on with the same call. Files that
    cannot be read are named and passed over. Tracks of earlier calls with the same settings stay in the manifest.

    Args:
        midi: files, and folders that are searched for them.
        soundfonts: of which each rendering takes one.
        output: the root.
        settings: how; None: the defaults.
        workers: pieces at a time; None: as there are cores.
        log: called with each line meant for the user.
        progress: show a bar, on a terminal.

    Returns:
        Path of the manifest.

    Raises:
        ValueError: an argument is wrong, or the root was rendered otherwise.
        RenderingError: FluidSynth, mido or a sound font is missing, or no file can be read.
        sepkit.disk.OutputError: the root cannot be written.
    """
    check_path(output, "output")
    settings, output = settings or RenderSettings(), Path(output)
    if workers is not None and (not is_integer(workers) or workers < 1):
        raise ValueError(f"workers must be a whole number from 1, got {workers}")
    find_fluidsynth()
    import_mido()
    jobs = _list_jobs(list_midi(midi), settings)
    fonts = [read_font(Path(font)) for font in soundfonts]
    if not fonts:
        raise ValueError("a sound font is wanted, got none: give one by --soundfont")
    with writing(output, _REMEDY):
        output.mkdir(parents=True, exist_ok=True)
        _check_record(output, settings, fonts)
        told = _render_all(jobs, fonts, output, settings, workers or available_cores(), progress)
    failed = {job.path: told[job] for job in jobs if isinstance(told[job], str)}
    for path, reason in failed.items():
        log(f"passed over {in_a_line(str(path))}: {in_a_line(reason)}")
    if len(failed) == len({job.path for job in jobs}):
        raise RenderingError(f"none of {len(failed)} MIDI files could be rendered: see above why")
    rows = [row for job in jobs if job.path not in failed for row in _list_rows(output, job.track, told[job], settings)]
    write_manifest(Manifest(output, "manifest", (*_list_former(output, rows), *rows)), output / "manifest.csv")
    _tell(rows, told.values(), settings, log)
    return output / "manifest.csv"


def list_midi(places: Sequence[str | Path]) -> dict[str, Path]:
    """List MIDI files: those given, and those in given folders.

    Args:
        places: files and folders.

    Returns:
        Paths by a name of their own, in order.

    Raises:
        ValueError: one is not there, or there is none in all.
    """
    listed = list(dict.fromkeys(found for place in map(Path, places) for found in _search(place)))
    if not listed:
        raise ValueError("MIDI files are wanted, got none")
    named, taken, seen = {}, set(), set()
    for path, name in listed:
        if (real := path.resolve()) in seen:
            continue
        seen.add(real)
        candidates = (safe_name(name if n == 1 else f"{name} #{n}") for n in count(1))
        free = next(each for each in candidates if each.casefold() not in taken)
        taken.add(free.casefold())
        named[free] = path
    return named


def _search(place: Path) -> Iterator[tuple[Path, str]]:
    """Yield the MIDI files of a place, each with the name that it has there.

    Raises:
        ValueError: the place is not there, or holds none.
    """
    if place.is_file():
        yield place, place.stem
        return
    if not place.exists():
        raise ValueError(f"{place} is not there: give MIDI files, or folders of them")
    found = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise ValueError(f"{place} holds no MIDI file ({', '.join(SUFFIXES)})")
    for path in found:
        yield path, "_".join(path.relative_to(place).with_suffix("").parts)


def _list_jobs(pieces: dict[str, Path], settings: RenderSettings) -> list[_Job]:
    """List the renderings; those of a piece that has several bear their numbers."""
    return [
        _Job(path, take, name if settings.takes == 1 else safe_name(f"{name} take {take + 1}"))
        for name, path in pieces.items()
        for take in range(settings.takes)
    ]


def _check_record(output: Path, settings: RenderSettings, fonts: Sequence[SoundFont]) -> None:
    """Write what a root is rendered from, or compare it with what is written.

    Raises:
        ValueError: the root was rendered otherwise.
    """
    chosen = {name: value for name, value in asdict(settings).items() if name not in ("split", "licence")}
    listed = [{"name": font.name, "copyright": font.copyright, "sha256": font.digest} for font in fonts]
    record = {"settings": chosen, "soundfonts": listed}
    file = output / RECORD
    if file.is_file():
        try:
            former = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            former = None
        if former != record:
            raise ValueError(f"{output} was rendered with other settings or sound fonts: choose another --output")
        return
    if any(not path.name.startswith(PREFIX) for path in output.iterdir()):
        raise ValueError(f"{output} holds something else than rendered pieces: choose another --output")
    with atomic_file(file) as written:
        written.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _render_all(
    jobs: Sequence[_Job],
    fonts: Sequence[SoundFont],
    output: Path,
    settings: RenderSettings,
    workers: int,
    progress: bool,
) -> dict[_Job, dict[str, Any] | str]:
    """Render what is not there yet, and return the facts of each rendering, or why it failed."""
    told: dict[_Job, dict[str, Any] | str] = {}
    pool = thread_pool(workers)
    try:
        futures: dict[Future, _Job] = {pool.submit(_render, job, fonts, output, settings): job for job in jobs}
        bar = tqdm(
            as_completed(futures), desc="rendering", unit="piece", total=len(jobs), disable=None if progress else True
        )
        for future in bar:
            try:
                told[futures[future]] = future.result()
            except RenderingError as error:
                told[futures[future]] = str(error)
    finally:
        pool.shutdown(cancel_futures=True)
    return told


def _render(job: _Job, fonts: Sequence[SoundFont], output: Path, settings: RenderSettings) -> dict[str, Any]:
    """Render a take of a piece into its folder, unless it is there, and return its facts.

    All draws depend on the seed, what the file holds, and the number of the take.
    """
    folder = output / settings.split / job.track
    digest = _hash_piece(job.path)
    if (folder / FACTS).is_file():
        return _read_facts(folder / FACTS, digest, job)
    seed = (settings.seed, int(digest[:16], 16), job.take)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    piece = read_piece(job.path, settings.seconds)
    font = fonts[rng.integers(len(fonts))]
    take = draw_take(rng, piece, job.take == 0)
    parts = perform(rng, piece, take, settings.humanise)
    if not parts:
        raise RenderingError(f"{job.path.name} has voices alone, which are left out")
    stems = record(rng, piece, take, parts, font)
    if not stems:
        raise RenderingError(f"{job.path.name} is silent: it is turned off, or {font.name} has no instrument for it")
    facts = {
        "source": readable(job.path.name),
        "sha256": digest,
        "soundfont": font.name,
        "tempo": None if piece.tempo is None else round(piece.tempo * take.speed, 2),
        "key": None if piece.key is None else transpose_key(piece.key, take.semitones),
        "programs": {stem: _name_programs(parts[stem]) for stem in STEMS if stem in stems},
        "without": sorted(set(parts) - set(stems)),
        "seconds": round(next(iter(stems.values())).shape[-1] / RATE, 2),
    }
    with atomic_folder(folder) as work:
        for stem, waveform in stems.items():
            audio.write(work / f"{stem}.wav", waveform, RATE, "PCM_16")
        (work / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return facts


def _hash_piece(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise RenderingError(f"{path.name} cannot be read: {error.strerror or error}") from error


def _read_facts(file: Path, digest: str, job: _Job) -> dict[str, Any]:
    """Read what is known of a track that is there.

    Raises:
        RenderingError: it was rendered from another piece.
    """
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        same = facts["sha256"] == digest
    except (ValueError, LookupError, TypeError):
        same = False
    if not same:
        raise RenderingError(
            f"{file.parent} is there, and was rendered from another file than {job.path.name}: remove it, or choose "
            "another --output"
        )
    return facts


def _name_programs(notes: Sequence[Note]) -> str:
    return ", ".join(dict.fromkeys(map(name_instrument, notes)))


def _list_rows(output: Path, track: str, facts: dict[str, Any], settings: RenderSettings) -> Iterator[Row]:
    folder = output.absolute() / settings.split / track
    for stem, programs in facts["programs"].items():
        yield Row(
            folder / f"{stem}.wav", stem, track, settings.split,
            tempo=facts["tempo"], key=facts["key"], licence=settings.licence, programs=programs,
        )  # fmt: skip


def _list_former(output: Path, rows: Sequence[Row]) -> list[Row]:
    """List the rows of tracks that earlier calls rendered into the root."""
    if not (output / "manifest.csv").is_file():
        return []
    made = {(row.split, row.track) for row in rows}
    return [row for row in read_manifest(output / "manifest.csv").rows if (row.split, row.track) not in made]


def _tell(rows: Sequence[Row], told: Any, settings: RenderSettings, log: Callable[[str], Any]) -> None:
    """Show what was rendered, and what is not known of it."""
    facts = [each for each in told if isinstance(each, dict)]
    tracks = {row.track: row for row in rows}
    minutes = sum(each["seconds"] for each in facts) / 60
    log(f"rendered   {len(tracks)} tracks, {minutes:.0f} minutes: {', '.join(_count_stems(rows))}")
    for name in ("tempo", "key"):
        unknown = sum(getattr(row, name) is None for row in tracks.values())
        if unknown:
            log(f"{name:10} unknown of {unknown} tracks")
    for each in facts:
        if each["without"]:
            stems, font = ", ".join(each["without"]), each["soundfont"]
            log(f"without    {stems} in {each['source']}: {font} has no such instrument")
    if settings.licence is None:
        log("licence    not stated: --licence TEXT writes it into the manifest")


def _count_stems(rows: Sequence[Row]) -> Iterator[str]:
    for stem in STEMS:
        count = sum(row.stem == stem for row in rows)
        if count:
            yield f"{stem} in {count}"
