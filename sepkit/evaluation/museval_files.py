"""The JSON files that museval writes a track, and reads back into its TrackStore and EvalStore."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from sepkit import __version__
from sepkit.evaluation.scoring import FRAMEWISE, Measurement

_FORMAT = "0.4.1"  # the version of museval whose files these are like
_DECIMALS = 5


def write_track(
    path: Path, targets: Sequence[str], measurement: Measurement, window: float, hop: float
) -> None:
    """Write the scores of all frames, as museval does with 5 decimals, and NaN for infinity too.

    Args:
        path: `<split>/<track>.json`; its folder is created.
        targets: names of the S targets.
        measurement: of the track.
        window: seconds per frame.
        hop: seconds between frames.
    """
    content = {
        "targets": [
            {"name": name, "frames": _frames(measurement.frames[:, source].T.tolist(), window, hop)}
            for source, name in enumerate(targets)
        ],
        "museval_version": _FORMAT,
        "sepkit_version": __version__,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _frames(values: Sequence[Sequence[float]], window: float, hop: float) -> list[dict]:
    return [
        {"time": i * hop, "duration": window, "metrics": dict(zip(FRAMEWISE, map(_rounded, frame), strict=True))}
        for i, frame in enumerate(values)
    ]


def _rounded(value: float) -> float:
    return math.nan if math.isinf(value) else round(value, _DECIMALS)
