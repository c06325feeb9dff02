"""Check the sound of songs before they are used: ten seconds of each, or all of it."""

import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sepkit import audio
from sepkit.datasets.inspected import Memory, plain_inspection, rebuild_inspection
from sepkit.datasets.inspection import ALIKE, COPY, REPORTED, Copy, Mixing
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.measuring import in_batches
from sepkit.datasets.songs import RESIDUAL, Song
from sepkit.datasets.stems import StemFile

_SHOWN = 5  # songs of one finding
_OFTEN = 0.1  # share of the songs from which a silent stem is reported
_AUDIBLE = 1e-6  # of full scale
_BLOCK = 1 << 16  # samples read at a time
_LEVEL = 0.2  # dB of a factor that is reported
_UNLIKE = -3.0  # dB of the residual of a mixture which is not the sum in any way
_UNCOVERED = -20.0  # dB of a sum that no part holds, from which it is reported
_NOT_THE_SUM = (
    "the mixture is not the sum of its parts, and what differs stays out of remixed examples; align it, or remove it "
    "so that the sum takes its place, in"
)
_MORE = "the mixture holds more than its parts, which stays out of remixed examples, in"


def check_songs(
    root: str | Path, songs: Mapping[str, Sequence[Song]], targets: Collection[str], deep: bool = False
) -> None:
    """Check ten seconds of each song, and all samples of files that can hold NaN; warn of what is found.

    Args:
        root: how findings name the folder.
        songs: by subset.
        targets: stems that are wanted.
        deep: decode all other files, too.

    Raises:
        DatasetError: a file does not decode or holds NaN, a target is a copy of another part, a part is the sum of
            others, or a target is silent in all of train.
    """
    all_songs = [song for some in songs.values() for song in some]
    silent_in = _inspect(root, all_songs, deep)
    notices, errors = describe_inspections(all_songs, targets)
    alone = [song.name for song in all_songs if song.aligned and len(song.parts) == 1 and song.mixture is None]
    if alone:
        notices.append(f"one part stands alone, without a mixture or others, in {_few(alone)}")
    for name in dict.fromkeys(targets):
        lacking = [song.name for song in songs.get("train", ()) if song.aligned and not song.has(name)]
        if lacking:
            notices.append(f"{name} is in no loss of songs of train that lack it, {len(lacking)}: {_few(lacking)}")
    for subset, some in songs.items():
        for name, silent in _find_silent(some, silent_in).items() if subset != "valid" else ():
            if name in targets and subset == "train" and len(silent) == sum(song.has(name) for song in some):
                errors.append(f"{name} is silent in all songs of train; choose others, or add songs where it sounds")
            elif len(silent) >= _OFTEN * len(some):
                where = f"{len(silent)} of {len(some)} songs of {subset}"
                notices.append(f"{name} is silent throughout in {where}: {_few(silent)}")
    if errors:
        raise DatasetError(root, errors)
    for line in notices:
        warnings.warn(f"{root}: {line}", stacklevel=2)


def _inspect(root: str | Path, songs: Sequence[Song], deep: bool) -> dict[int, list[str]]:
    """Read songs, or recall what was found in the same files.

    Returns:
        By id of each song, the parts that are silent throughout.

    Raises:
        DatasetError: a file does not decode or holds NaN.
    """
    memory, silent_in, missing, faults = Memory("deep" if deep else "inspected"), {}, [], []
    for song, known in zip(songs, memory.recall(songs), strict=True):
        if known is None:
            missing.append(song)
        else:
            song.__dict__["inspection"], silent_in[id(song)] = rebuild_inspection(known[0]), known[1]
    for batch in in_batches(lambda song: _read(song, deep), missing, None, "reading songs", "song", True):
        faults += [fault for _, (_, found) in batch for fault in found]
        for song, (silent, found) in batch:
            if not found:
                silent_in[id(song)] = silent
        sound = [(song, silent) for song, (silent, found) in batch if not found]
        memory.keep((song, [plain_inspection(song.inspection), silent]) for song, silent in sound)
    if faults:
        raise DatasetError(root, list(dict.fromkeys(faults)))
    return silent_in


def _read(song: Song, deep: bool) -> tuple[list[str], list[str]]:
    """Read what is inspected of a song; name the parts that are silent throughout, and what does not decode."""
    faults = _find_faults(song, deep)
    silent = [] if faults else [name for name in song.inspection.silent if name in song.parts]
    return [name for name in silent if not any(map(_sounds, song.stems[name].files))], faults


def _find_faults(song: Song, deep: bool) -> list[str]:
    """Decode the files that may hold NaN, or all, inspect the song, and describe what does not decode."""
    files = [*song.stems.values(), *([song.mixture] if song.mixture else [])]
    faults = []
    for file in (file for stem in files for file in stem.files):
        info = file.info
        is_float = info.subtype.lower().startswith(("float", "double", "pcm_f32", "pcm_f64"))
        may_hold_nan = is_float and not file.is_packed  # what is packed was read for that
        try:
            if deep or may_hold_nan:
                with audio.AudioReader(info.path, allow_truncated=file.allow_damaged, info=info) as reader:
                    for _ in reader.blocks():
                        pass
        except audio.AudioError as error:
            faults.append(str(error))
    try:
        song.inspection  # noqa: B018 (kept by the song)
    except audio.AudioError as error:
        faults.append(str(error))
    return faults


def _find_silent(songs: Sequence[Song], silent_in: Mapping[int, Sequence[str]]) -> dict[str, list[str]]:
    """Name by part the songs in which it is silent throughout."""
    silent: dict[str, list[str]] = {}
    for song in songs:
        for name in silent_in[id(song)]:
            silent.setdefault(name, []).append(song.name)
    return silent


def _sounds(file: StemFile) -> bool:
    with audio.AudioReader(file.info.path, allow_truncated=file.allow_damaged, info=file.info) as reader:
        reader.seek(file.start)
        left = file.stop - file.start
        while left:
            block = reader.read(min(left, _BLOCK))
            if bool((block.abs() > _AUDIBLE).any()):
                return True
            left -= block.shape[-1]
    return False


def describe_inspections(songs: Iterable[Song], targets: Collection[str]) -> tuple[list[str], list[str]]:
    """Describe the findings of the inspections of songs.

    Args:
        songs: which.
        targets: stems that are wanted.

    Returns:
        Notices, and errors, which make numbers wrong.
    """
    notices: dict[str, list[str]] = {}
    errors: dict[str, list[str]] = {}
    for song in songs:
        for wrong, what, where in _describe_inspection(song, targets):
            (errors if wrong else notices).setdefault(what, []).append(where)
    return tuple([f"{what} {_few(places)}" for what, places in findings.items()] for findings in (notices, errors))


def _describe_inspection(song: Song, targets: Collection[str]) -> Iterator[tuple[bool, str, str]]:
    """Yield whether numbers would be wrong, what was found, and where."""
    inspection, mixing = song.inspection, song.inspection.mixing
    if mixing and mixing.residual > REPORTED and not song.lends(RESIDUAL, ()):
        yield False, _MORE if mixing.apart else _NOT_THE_SUM, f"{song.name} ({describe_mixing(mixing)})"
    for copy in inspection.copies:
        exact = abs(copy.correlation) > COPY and bool({copy.first, copy.second} & set(targets))
        yield exact, describe_copy(copy), song.name
    for name, of in inspection.doubles.items():
        what = f"{name} is the sum of {', '.join(of)}, which the mixture holds twice; remove it or them, in"
        yield True, what, song.name
    for name, of in inspection.nearly.items():
        yield False, f"{name} is nearly the sum of {', '.join(of)}; remove it if it is one, in", song.name
    for name, missing in inspection.uncovered.items():
        if missing > _UNCOVERED:
            what = f"{name} holds more than the parts, which is in no mixture, in"
            yield False, what, f"{song.name} ({missing:.1f} dB of it)"


def describe_mixing(mixing: Mixing) -> str:
    """Describe how a mixture differs from the sum of its parts.

    Args:
        mixing: with a residual.
    """
    if mixing.factor == 0:
        return "it is silent"
    clauses = [f"residual {mixing.residual:.1f} dB"]
    if mixing.apart or mixing.aligned > _UNLIKE:
        return clauses[0] + ("" if mixing.apart else ", unlike their sum")
    level = 20 * math.log10(max(abs(mixing.factor), 1e-6))
    if mixing.delay or abs(level) > _LEVEL or mixing.factor < 0:
        clauses.append(f"{mixing.aligned:.1f} dB where that is undone")
    if mixing.factor < 0:
        clauses.insert(0, "inverted")
    if abs(level) > _LEVEL:
        clauses.insert(0, f"{abs(level):.1f} dB {'louder' if level > 0 else 'softer'}")
    if mixing.delay:
        clauses.insert(0, f"{_samples(mixing.delay)} {'late' if mixing.delay > 0 else 'early'}")
    return ", ".join(clauses)


def describe_copy(copy: Copy) -> str:
    """Describe how two parts are alike; the more exact, the plainer."""
    original, other = sorted((copy.first, copy.second), key=lambda name: (len(name), name))
    delay = f", {_samples(copy.delay)} {'late' if (copy.delay > 0) == (other == copy.second) else 'early'},"
    delay = delay if copy.delay else ""
    if abs(copy.correlation) > COPY:
        return f"{other} is a copy{delay} of {original}, so that the mixture holds it twice; remove one, in"
    return f"{other} is nearly{delay} {original} (correlation above {ALIKE}); remove a forgotten copy, in"


def _samples(n: int) -> str:
    return f"{abs(n)} sample{'s' if abs(n) != 1 else ''}"


def _few(songs: Sequence[str]) -> str:
    more = f" and {len(songs) - _SHOWN} more songs" if len(songs) > _SHOWN else ""
    return f"{', '.join(songs[:_SHOWN])}{more}"
