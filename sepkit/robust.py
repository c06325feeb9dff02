"""Losses that leave out the worst frames of each item, where stems hold what does not belong to them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sepkit.arguments import is_number
from sepkit.problems import Problem, did_you_mean, show
from sepkit.quantities import QUANTITIES

_KEYS = ("share", "frame")


@dataclass(frozen=True)
class Robust:
    """Which frames of an item a loss leaves out: those of the greatest values, whatever else is in the batch.

    Attributes:
        share: of the frames that is left out, (0, 1).
        frame: s, > 0; rounded so that frames of one length fill the item.
    """

    share: float
    frame: float = 0.1

    def count(self, seconds: float) -> tuple[int, int]:
        """Count the frames of an item of a length, and how many of them are left out."""
        n_frames = max(1, round(seconds / self.frame))
        return n_frames, math.floor(self.share * n_frames + 1e-6)  # 0.29 * 100 is 28.999999999999996


def list_robust_problems(
    settings: Any, inputs: Mapping[str, str] | None = None, segment: float | None = None
) -> list[Problem]:
    """List what is wrong with the `robust` of a loss.

    Args:
        settings: of any content.
        inputs: argument of the loss -> quantity; None: unknown.
        segment: seconds of an item; None: unknown.
    """
    if not isinstance(settings, Mapping) or "share" not in settings:
        return [Problem(("robust",), f"must be a mapping with `share`, such as {{share: 0.1}}, got {show(settings)}")]
    problems = [
        Problem(("robust", key), f"unknown key{did_you_mean(key, _KEYS) or ' (there are: share, frame)'}", at_key=True)
        for key in settings
        if key not in _KEYS
    ]
    robust = Robust(**{key: settings[key] for key in _KEYS if key in settings})
    is_right = {"share": is_number(robust.share) and 0 < robust.share < 1}
    is_right["frame"] = is_number(robust.frame) and 0 < robust.frame < math.inf
    wanted = {"share": "above 0 and below 1", "frame": "a number of seconds above 0"}
    problems += [
        Problem(("robust", key), f"must be {wanted[key]}, got {show(settings[key])}")
        for key in _KEYS
        if not is_right[key]
    ]
    timeless = [quantity for quantity in (inputs or {}).values() if quantity not in QUANTITIES]
    if timeless:
        message = f"must be left out: {', '.join(timeless)} cannot be cut into frames"
        problems.append(Problem(("robust",), message, at_key=True))
    if segment is None or not all(is_right.values()):
        return problems
    n_frames, n_left_out = robust.count(segment)
    if not n_left_out:
        message = f"leaves out none of the {n_frames} frames of {segment:g} s: set a shorter robust.frame or more share"
        problems.append(Problem(("robust", "share"), message))
    return problems


def cut_frames(quantities: Mapping[str, Tensor], n_frames: int) -> dict[str, Tensor]:
    """Cut the last dimension of quantities into frames, which become items of their own.

    Args:
        quantities: by name, (P, ..., L) of any lengths L.
        n_frames: of each item; where L is no multiple, they overlap by what rounding takes.

    Returns:
        By name (P * n_frames, ..., l), the frames of an item one after another.

    Raises:
        ValueError: a quantity has fewer columns than frames are wanted.
    """
    frames = {}
    for name, quantity in quantities.items():
        length = quantity.shape[-1]
        if length < n_frames:
            raise ValueError(
                f"frames must be as long as a column of {name} at least, got {n_frames} frames of {length} columns; "
                "take a shorter hop"
            )
        size = -(-length // n_frames)
        if length % n_frames:
            starts = torch.tensor([round(n * (length - size) / (n_frames - 1)) for n in range(n_frames)])
            columns = (starts[:, None] + torch.arange(size)).flatten().to(quantity.device, non_blocking=True)
            quantity = quantity.index_select(-1, columns)
        frames[name] = quantity.unflatten(-1, (n_frames, size)).movedim(-2, 1).flatten(0, 1)
    return frames


def choose_frames(values: Tensor, n_left_out: int) -> Tensor:
    """Choose the frames of each item that count: all but those of the greatest values.

    Args:
        values: of frames (P, N).
        n_left_out: of each item, below N.

    Returns:
        Their indices (P, N - n_left_out).
    """
    return values.detach().argsort(1)[:, : values.shape[1] - n_left_out]


def average_frames(values: Tensor, chosen: Tensor) -> Tensor:
    """Average the chosen frames of each item; what is not finite in the others shows, too.

    Args:
        values: of frames (P, N).
        chosen: indices (P, n).

    Returns:
        (P,).
    """
    return values.gather(1, chosen).mean(1) + (0 * values.detach()).sum(1)  # no sum that overflows
