"""The manifest: which files are which stems of which tracks, the one thing that is known of every set of songs."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from sepkit.arguments import is_integer, is_number
from sepkit.audio import AudioInfo
from sepkit.datasets.findings import Finding
from sepkit.datasets.keys import normalize_key
from sepkit.problems import did_you_mean, show

SPLITS = ("train", "valid", "test")
_LATEST = 1e9  # s
_LARGEST_GAIN = 120  # dB, beyond which a stem would be silence, or no number
_PLAIN = (0.0, None, None, 0.0, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Row:
    """One file of a track, or a part of it.

    Rows of one stem of a track are summed. A `.stem.mp4` has its row for each stem.

    Attributes:
        path: of the file.
        stem: its name; "mixture" is the recorded mixture.
        track: name of the song.
        split: "train", "valid" or "test".
        start: first second of the file that counts, >= 0.
        end: second at which it ends; None: the file's end.
        rate: Hz that the file must have; None: any.
        gain: dB by which it is raised, -120 to 120.
        tempo: of the track, beats per minute; None: unknown.
        key: of the track, as "A minor"; None: unknown.
        licence: of the file; None: unknown.
        programs: what plays in the file, as names of instruments with commas between; None: unknown.
    """

    path: Path
    stem: str
    track: str
    split: str
    start: float = 0.0
    end: float | None = None
    rate: int | None = None
    gain: float = 0.0
    tempo: float | None = None
    key: str | None = None
    licence: str | None = None
    programs: str | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS or any(type(name) is not str or not name for name in (self.stem, self.track)):
            raise ValueError(next(_find_problems(self)))
        values = (self.start, self.end, self.rate, self.gain, self.tempo, self.key, self.licence, self.programs)
        if values == _PLAIN:  # of most rows
            return
        problem = next(_find_problems(self), None)
        if problem:
            raise ValueError(problem)
        if self.key is not None:
            object.__setattr__(self, "key", normalize_key(self.key))

    @property
    def sound(self) -> tuple[str, str]:
        """Return what is equal for rows of the same sound: the file, and the stem where the file has several."""
        name = str(self.path)
        return name, self.stem if name[-9:].lower() == ".stem.mp4" else ""

    def overlaps(self, other: "Row") -> bool:
        """Return whether a part of the same file counts in both."""
        return self.sound == other.sound and self.start < _end(other) and other.start < _end(self)


COLUMNS = tuple(field.name for field in fields(Row))
NEEDED = COLUMNS[:4]
NUMBERS = ("start", "end", "rate", "gain", "tempo")


@dataclass(frozen=True)
class Manifest:
    """The files of a root.

    Attributes:
        root: the folder.
        layout: how the files lie in it, by the name of the adapter that found them.
        rows: in order of split, track and stem where an adapter found them, else as they are written.
        findings: what was passed over in finding them, or taken for something by mistake.
        known: what files hold, by `Row.sound`, where that is known without looking.
    """

    root: Path
    layout: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...] = ()
    known: Mapping[tuple[str, str], AudioInfo] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that have tracks, in order."""
        present = {row.split for row in self.rows}
        return tuple(split for split in SPLITS if split in present)

    def tracks(self) -> dict[tuple[str, str], list[Row]]:
        """Return the rows of each track by split and name."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.split, row.track), []).append(row)
        return found

    def is_aligned(self, split: str) -> bool:
        """Return whether the stems of a split's tracks belong together; not where each track has one stem alone.

        A song folder with one stem counts as a song whose other stems are unknown.
        """
        if self.layout == "song_folders":
            return True
        first: dict[str, str] = {}
        rows = [row for row in self.rows if row.split == split]
        several = any(first.setdefault(row.track, row.stem) != row.stem for row in rows)
        return several or len(set(first.values())) < 2

    def with_rows(self, rows: Iterable[Row]) -> "Manifest":
        """Return it with other rows."""
        return replace(self, rows=tuple(rows))


def _find_problems(row: Row) -> Iterator[str]:
    """Yield what is wrong with the values of a row."""
    for name in ("stem", "track", "split"):
        value = getattr(row, name)
        if not isinstance(value, str) or not value:
            yield f"{name} must be a name, got {show(value)}"
    if row.split not in SPLITS:
        near = did_you_mean(row.split, SPLITS, 0.4)
        yield f"split must be one of {', '.join(SPLITS)}, got {show(row.split)}{near}"
    for name in NUMBERS:
        value = getattr(row, name)
        is_needed = name in ("start", "gain")
        if (value is not None or is_needed) and not (is_number(value) and math.isfinite(value)):
            yield f"{name} must be a finite number, got {show(value)}"
    if abs(row.gain) > _LARGEST_GAIN:
        yield f"gain must be {-_LARGEST_GAIN} to {_LARGEST_GAIN} dB, got {row.gain:g}; for silence leave the row out"
    if row.start < 0:
        yield f"start must be 0 s or later, got {row.start:g}"
    for name in ("start", "end"):
        if (value := getattr(row, name)) is not None and value > _LATEST:
            yield f"{name} must be a number of seconds, at most {_LATEST:g}, got {value:g}"
    if row.end is not None and row.end <= row.start:
        yield f"end must lie behind start, which is {row.start:g} s, got {row.end:g}"
    if row.rate is not None and (not is_integer(row.rate) or row.rate < 1):
        yield f"rate must be a whole number of Hz above 0, got {show(row.rate)}"
    if row.tempo is not None and row.tempo <= 0:
        yield f"tempo must be above 0 beats per minute, got {row.tempo:g}"
    for name in ("key", "licence", "programs"):
        value = getattr(row, name)
        if value is not None and (not isinstance(value, str) or not value):
            yield f"{name} must be text, got {show(value)}"


def find_contradictions(rows: Iterable[Row]) -> Iterator[tuple[int, int, str]]:
    """Yield pairs of rows that cannot both be right: their indices, the later one first, and why."""
    by_file: dict[tuple[str, str], list[int]] = {}
    by_track: dict[tuple[str, str], dict[str, int]] = {}
    rows = list(rows)
    for i, row in enumerate(rows):
        by_file.setdefault(row.sound, []).append(i)
        known = by_track.setdefault((row.split, row.track), {})
        for name in ("tempo", "key"):
            value = getattr(row, name)
            if value is None:
                continue
            first = known.setdefault(name, i)
            if getattr(rows[first], name) != value:
                former = getattr(rows[first], name)
                yield i, first, f"the {name} of the track {row.track!r} is {value} here and {former} there; keep one"
    for same in by_file.values():
        if len(same) > 1:
            yield from _find_contradictions_in_file(rows, same)


def _find_contradictions_in_file(rows: Sequence[Row], same: Sequence[int]) -> Iterator[tuple[int, int, str]]:
    """Yield such pairs of rows of one file, each row as the later one of a pair at most once.

    In the order of their beginnings, each row is compared with the first that has a rate, and with those which reach
    furthest: of its track, and of each stem of a split.
    """
    rate = next((i for i in same if rows[i].rate is not None), None)
    of_track: dict[str, int] = {}
    of_stem: dict[tuple[str, str], int] = {}
    told: set[int] = set()
    for i in sorted(same, key=lambda i: rows[i].start):
        row = rows[i]
        for j in sorted({*of_stem.values(), of_track.get(row.track, i), i if rate is None else rate} - {i}):
            later, earlier = max(i, j), min(i, j)
            why = "" if later in told else _contradict(rows[later], rows[earlier])
            if why:
                told.add(later)
                yield later, earlier, why
        for furthest, key in ((of_track, row.track), (of_stem, (row.split, row.stem))):
            if key not in furthest or _end(row) > _end(rows[furthest[key]]):
                furthest[key] = i


def _end(row: Row) -> float:
    return math.inf if row.end is None else row.end


def _contradict(row: Row, other: Row) -> str:
    """Describe why two rows of the same file cannot both be right; "": they can."""
    if None not in (row.rate, other.rate) and row.rate != other.rate:
        return f"{row.path.name} has {row.rate} Hz here and {other.rate} Hz there; keep one"
    if not row.overlaps(other):
        return ""
    if row.split != other.split:
        return f"{row.path.name} is in {row.split} here and in {other.split} there; keep one"
    if row.stem != other.stem:
        return f"{row.path.name} is {row.stem!r} here and {other.stem!r} there; keep one"
    if row.track == other.track:
        return f"{row.path.name} would be summed twice; remove one"
    return ""
