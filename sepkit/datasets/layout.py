"""How songs lie in a root: the folders of subsets and songs, and what is taken for them by mistake."""

import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sepkit import audio
from sepkit.datasets.musdb.stem_files import VALIDATION_SONGS, is_stem_file, song_name
from sepkit.datasets.roles import missing_part, sort_stems

SUBSETS = ("train", "valid", "test")
_ALSO_CALLED = {
    "train": ("train", "training", "trainset", "tr"),
    "valid": ("valid", "val", "validation", "dev", "cv"),
    "test": ("test", "testing", "testset", "tt", "eval", "evaluation"),
}
_LITTER = ("__macosx", "__pycache__", "@eadir", "$recycle.bin", "lost+found", "system volume information")
_PARTS = {
    "vocals", "drums", "bass", "other", "guitar", "piano", "keys", "speech", "music", "sfx", "effects", "noise",
    "s1", "s2", "s3", "s4",
}  # fmt: skip
_DEPTH = 3  # folders below one without audio that are searched for it


class DatasetError(ValueError):
    """A root cannot be used: every finding on a line of its own; `stems` names those of its songs, where known."""

    def __init__(self, root: Path | str, findings: Sequence[str], stems: Iterable[str] = ()) -> None:
        self.root, self.findings, self.stems = root, list(findings), sorted(stems)
        shown = self.findings[:50]
        if len(self.findings) > len(shown):
            shown.append(f"and {len(self.findings) - len(shown)} more")
        separator = "\n  " if len(shown) > 1 else " "
        super().__init__(separator.join([f"{root} cannot be used as data:", *shown]))

    def __reduce__(self) -> tuple:
        """Rebuild it from its arguments in another process."""
        return DatasetError, (self.root, self.findings, self.stems)


def find_root(root: str | Path) -> Path:
    """Return the folder of a root, that of the built-in songs where it is "demo"."""
    if str(root) == "demo":
        from sepkit.datasets.demo import demo_root

        return demo_root()
    if not Path(root).is_dir():
        raise DatasetError(root, ["there is no such folder; give one with train/, valid/ and test/ folders of songs"])
    return Path(root)


def list_songs(
    root: Path,
    subset: str,
    targets: Sequence[str],
    valid_share: float,
    split_seed: int,
    valid_names: Collection[str],
) -> tuple[list[Path], list[str]]:
    """List the folders and files of the songs of a subset, and describe what was taken for songs by mistake.

    Args:
        root: the folder.
        subset: "train", "valid" or "test".
        targets: stems that every song must have.
        valid_share: as in `sepkit.datasets.open_songs`.
        split_seed: the same.
        valid_names: the same.

    Raises:
        DatasetError: there are none.
    """
    present = [name for name in SUBSETS if (root / name).is_dir()]
    misnamed = [
        f"the folder {folder.name}/ is not read; name it {name}/ ({_expected(root, name, *targets[:1])})"
        for folder, name in _misnamed(root, present)
    ]
    if misnamed:
        raise DatasetError(root, misnamed)
    if subset in present and (subset != "train" or "valid" in present):
        return _sort_places(root, _songs_in(root, root / subset), targets)
    if subset == "test" or (present and "train" not in present):
        wanted, found = "test" if subset == "test" else "train", ", ".join(present) or "songs, which count as train"
        raise DatasetError(root, [f"there is no folder {wanted}/ (found: {found})"])
    places, findings = _sort_places(root, _songs_in(root, root / "train" if present else root), targets)
    taken = _choose_valid([song_name(place) for place in places], valid_share, split_seed, valid_names)
    chosen = [place for place in places if (song_name(place) in taken) == (subset == "valid")]
    if not chosen and not findings:
        raise DatasetError(root, [f"train has no song that is for {subset}; add songs, or a folder valid/"])
    return chosen, findings


def _misnamed(root: Path, present: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Find folders that are called almost as a subset that is not there, and how that is called."""
    for folder in _visible(root):
        for name, others in _ALSO_CALLED.items():
            called = name not in present and folder.name.casefold() in others and folder.is_dir()
            if called and (present or not _has_audio(folder)):
                yield folder, name


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name.casefold() not in _LITTER)


def _has_audio(folder: Path) -> bool:
    return any(audio.is_audio_name(path) and path.is_file() for path in _visible(folder))


def _expected(root: Path, subset: str = "train", stem: str = "vocals") -> str:
    return f"wanted is {root / subset}/<song>/{stem}.wav"


def _songs_in(root: Path, folder: Path) -> list[Path]:
    paths = _visible(folder)
    places = [path for path in paths if path.is_dir() or is_stem_file(path)]
    loose = [path for path in paths if audio.is_audio_name(path) and path not in places]
    if not places and loose:
        raise DatasetError(
            root, [f"{folder} holds audio and no folders of songs: put each song's stems into one; {_expected(root)}"]
        )
    if not places:
        raise DatasetError(root, [f"{folder} holds no songs; a song is a folder of stems, or a .stem.mp4"])
    if loose:
        warnings.warn(f"{folder}: {_first(loose)} not read: it lies in no folder of a song", stacklevel=4)
    return places


def _first(paths: Sequence[Path]) -> str:
    """Name the first of some, and count the others."""
    return f"{paths[0]} is" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more are"


def _choose_valid(
    names: Sequence[str], valid_share: float, split_seed: int, valid_names: Collection[str]
) -> Collection[str]:
    """Choose the songs of train that become valid; a single song stays in train."""
    if valid_names or not valid_share:
        return valid_names
    if set(names) >= VALIDATION_SONGS:
        return VALIDATION_SONGS
    n_valid = max(0, min(len(names) - 1, max(1, round(valid_share * len(names)))))
    return {names[i] for i in np.random.default_rng(split_seed).permutation(len(names))[:n_valid]}


def _sort_places(root: Path, places: Sequence[Path], targets: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split songs from what was taken for one by mistake, and describe that, each kind in a sentence."""
    songs, deep, of_stems, findings = [], [], [], []
    for place in places:
        if is_stem_file(place):
            songs.append(place)
        elif _is_deeper(place, targets):
            deep.append(place)
        elif not _has_audio(place):
            findings.append(f"{place}: holds no audio and counts as a song; remove it")
        elif _is_stem_folder(place, targets):
            of_stems.append(place)
        else:
            songs.append(place)
    expected = _expected(root, "train", *targets[:1])
    if deep:
        inner = next(_audio_below(deep[0]))
        is_root = any((deep[0] / subset).is_dir() for subset in SUBSETS)
        remedy = f"give {deep[0]} as the root" if is_root else expected
        findings.append(f"{_first(deep)} taken for a song, and its stems lie deeper, as {inner}; {remedy}")
    if of_stems:
        findings.append(
            f"{_first(of_stems)} taken for a song, by the name of a stem: a folder is wanted for each song, not for "
            f"each stem; {expected}"
        )
    return songs, findings


def _audio_below(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Yield audio files in the folders of a folder, down to some depth."""
    for inner in (path for path in _visible(folder) if path.is_dir()):
        yield from (path for path in _visible(inner) if audio.is_audio_name(path) and path.is_file())
        if depth > 1:
            yield from _audio_below(inner, depth - 1)


def _is_deeper(folder: Path, targets: Sequence[str]) -> bool:
    """Return whether a folder is no song but holds songs, or stems in folders of their own."""
    held = {path.stem for path in _visible(folder) if audio.is_audio_name(path)}
    return not held & set(targets) and not (held and not targets) and next(_audio_below(folder), None) is not None


def _is_stem_folder(folder: Path, targets: Sequence[str]) -> bool:
    """Return whether a folder holds one stem of many songs: it is named as a stem, and has none of the targets."""
    name = folder.name.casefold()
    called = name in _PARTS or folder.name in targets or not sort_stems([name]).parts or missing_part(name)
    held = {path.stem for path in _visible(folder) if audio.is_audio_name(path)}
    return bool(called) and not held & {*(targets or ()), *_PARTS}
