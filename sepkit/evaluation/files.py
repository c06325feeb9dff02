"""The files of an evaluation: museval's JSON, and beside it all scores with what they were made of.

`<split>/<track>.json` is what museval writes a track, and reads back into its TrackStore and EvalStore: NaN stands
bare in it. `tracks/<split>/<track>.json` is strict JSON, with null for what has no score; from it an evaluation goes
on, and evaluations are compared. The file of a track whose name not every system takes has a similar one.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from sepkit import __version__, audio
from sepkit.disk import not_left_empty, writing
from sepkit.evaluation.measure import FRAMEWISE
from sepkit.evaluation.runner import TrackScores
from sepkit.evaluation.scores import Score, Scores
from sepkit.evaluation.settings import Settings
from sepkit.evaluation.tracks import Track
from sepkit.files import atomic_file, safe_name, same_file_key
from sepkit.locks import locked
from sepkit.model_folder import hash_tensors
from sepkit.plain import parse_json
from sepkit.separator import Separator

FORMAT = 1
TRACKS = "tracks"  # folder of the strict JSON
_KEPT = "the tracks written before are kept: make room, or choose another output, and evaluate again"
_MUSEVAL = "0.4.1"  # the version of museval whose files these are like
_DECIMALS = 5
_INFINITE = {math.inf: "inf", -math.inf: "-inf"}


def hash_model(model: Separator) -> str:
    """Hash the weights and the settings of a separator, wherever it lies."""
    return hash_tensors(model.state_dict(), json.dumps(model.settings, sort_keys=True, default=str).encode())


def describe_origin(
    track: Track, settings: Settings, model: str | None, separation: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe what the scores of a track are made of; equal, they need not be made again."""
    files = [_describe_file(info) for info in track.files]
    scoring = {**asdict(settings), "targets": track.targets.names}
    shape = {"sample_rate": track.sample_rate, "n_samples": track.shape[-1]}
    origin = {"scoring": scoring, "shape": shape, "model": model, "separation": dict(separation), "files": files}
    return json.loads(json.dumps({**origin, "sepkit": __version__}))  # as it is read back


def _describe_file(info: audio.AudioInfo) -> list[Any]:
    """Describe a file as it is now, or as it was probed where it lies elsewhere."""
    if info.place is None:
        return [info.path, *info.version]
    status = os.stat(info.place)
    return [os.path.abspath(info.path), status.st_size, status.st_mtime_ns]


def write_track(output: Path, split: str, scores: TrackScores, origin: Mapping[str, Any]) -> None:
    """Write both files of a track; a reader finds the old ones or the new ones, never half of them."""
    window, hop = (origin["scoring"][name] for name in ("window", "hop"))
    targets = [{"name": name, "frames": _museval_frames(frames, window, hop)} for name, frames in scores.frames.items()]
    made_by = {"museval_version": _MUSEVAL, "sepkit_version": __version__}
    strict = {
        "format": FORMAT,
        "track": scores.track,
        "targets": _without_nan(targets),
        **made_by,
        "origin": origin,
        "scores": [[*row[:-1], _INFINITE.get(row.value, _without_nan(row.value))] for row in scores.rows],
        "remarks": scores.remarks,
        "warnings": scores.warnings,
    }
    file = file_name(scores.track)
    _write_json(output / split / file, {"targets": targets, **made_by}, allow_nan=True)
    # Last, because this file says that the track is done.
    _write_json(output / TRACKS / split / file, strict, allow_nan=False)


def file_name(track: str) -> str:
    """Name the file of a track."""
    return safe_name(track, ".json")


def check_files(tracks: Sequence[str]) -> None:
    """Refuse tracks whose files would be one."""
    met: dict[str, list[str]] = {}
    for track in tracks:
        met.setdefault(same_file_key(file_name(track)), []).append(track)
    clashes = [" and ".join(map(repr, same)) for same in met.values() if len(same) > 1]
    if clashes:
        raise ValueError(f"tracks would be written into one file, rename all but one of {'; '.join(clashes)}")


def _write_json(path: Path, content: Mapping[str, Any], allow_nan: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=allow_nan) + "\n", encoding="utf-8")


def _museval_frames(scores: Mapping[str, Sequence[float]], window: float, hop: float) -> list[dict]:
    return [
        {"time": i * hop, "duration": window, "metrics": dict(zip(FRAMEWISE, map(_rounded, frame), strict=True))}
        for i, frame in enumerate(zip(*(scores[name] for name in FRAMEWISE), strict=True))
    ]


def _rounded(value: float) -> float:
    return math.nan if math.isinf(value) else round(value, _DECIMALS)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_track(path: Path) -> tuple[TrackScores, dict[str, Any]] | None:
    """Read the scores of a track and their origin, frames excepted; None: there are none that this version wrote."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return None
        rows = [
            Score(*map(str, names), math.nan if value is None else float(value)) for *names, value in content["scores"]
        ]
        remarks = [(str(target), str(case)) for target, case in content["remarks"]]
        origin = {**content["origin"], **{part: {**content["origin"][part]} for part in ("scoring", "shape")}}
        return TrackScores(str(content["track"]), {}, rows, remarks, list(map(str, content["warnings"]))), origin
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


class OutputFolder(NamedTuple):
    """The folder into which an evaluation is written, and the split that names a folder in it."""

    output: Path
    split: str

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock other processes out while the context lasts; folders that are made for nothing are removed."""
        with ExitStack() as stack:
            with writing(self.output, "choose another output"):
                stack.enter_context(not_left_empty(self.output))
                stack.enter_context(locked(self.output, "wait for it, or choose another output"))
            yield

    def write(self, scores: TrackScores, origin: Mapping[str, Any]) -> None:
        """Write a track."""
        with writing(self.output, _KEPT):
            write_track(self.output, self.split, scores, origin)

    def find(
        self, names: Sequence[str], origins: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[int, TrackScores], list[str]]:
        """Find tracks that are scored already, and describe how many there are, and why others are not taken."""
        check_files(names)
        kept, changed = {}, set()
        for number, (name, origin) in enumerate(zip(names, origins, strict=True)):
            earlier = read_track(self.output / TRACKS / self.split / file_name(name))
            if earlier and earlier[1] == origin and (self.output / self.split / file_name(name)).is_file():
                kept[number] = earlier[0]
            elif earlier:
                changed |= {key for key in origin if earlier[1].get(key) != origin[key]}
        notes = []
        if kept:
            notes.append(f"{len(kept)} of {len(names)} tracks are taken over from an earlier evaluation")
        if changed:
            notes.append(f"earlier scores are replaced, made with other {', '.join(sorted(changed))}")
        return kept, notes

    def finish(self, scores: Scores, tracks: Sequence[str]) -> None:
        """Write the table, and note where everything lies."""
        files = self.output / self.split
        scores.folder = self.output
        with writing(self.output, _KEPT):
            self.output.mkdir(parents=True, exist_ok=True)
            scores.to_csv(self.output / "scores.csv")
        scores.notes.append(f"scores: {self.output / 'scores.csv'}; museval's JSON: {files}; all numbers: {TRACKS}/")
        others = {path.name for path in files.glob("*.json")} - set(map(file_name, tracks))
        if others:
            scores.notes.append(f"{files} holds JSON of {len(others)} more tracks, from an earlier evaluation")
