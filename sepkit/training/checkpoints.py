"""Checkpoints on disk: a folder each, hashed, which is there whole or not at all; the last two are kept."""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from sepkit.files import PREFIX, atomic_folder, hash_file, move_folder
from sepkit.model_folder import write_tensors
from sepkit.training.plain_state import flatten, restore

STATE_FORMAT = 3
EARLIER, _EARLIER_FORMAT = "state.pt", 2  # one file, which earlier versions wrote
TENSORS, PLAIN, HASHES = "state.safetensors", "state.json", "SHA256SUMS"
_KEPT = 2
_NAME = re.compile(r"step_(\d{8,})(?:_(\d+))?")
_DAMAGED = "damaged_"


class DamagedError(ValueError):
    """A checkpoint is not what was written."""


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: in which they lie, `training/`.

    Attributes:
        damaged: the newer checkpoints that `load` found damaged, and how.
        newest: the last that was loaded or saved; None as long as there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: dict[Path, str] = {}
        self.newest: Path | None = None

    def list(self) -> list[Path]:
        """List the checkpoints, whole or not, the newest first."""
        return sorted(filter(_number, self.folder.glob("step_*")), key=_number, reverse=True)

    def exist(self) -> bool:
        """Return whether anything was saved."""
        return bool(self.list()) or (self.folder / EARLIER).is_file()

    def load(self) -> dict[str, Any] | None:
        """Load the newest state that is whole; None where none was saved.

        Raises:
            ValueError: all are damaged, or it is of another format.
        """
        self.damaged = {}
        places = self.list()
        if (self.folder / EARLIER).is_file():
            places.append(self.folder / EARLIER)
        for place in places:
            try:
                state = read_earlier(place) if place.name == EARLIER else read_checkpoint(place)
            except DamagedError as error:
                self.damaged[place] = str(error)
            else:
                self.newest = place
                return state
        if not self.damaged:
            return None
        raise ValueError(f"{'; '.join(self.damaged.values())}: start anew with --restart")

    def save(self, state: Mapping[str, Any], step: int) -> None:
        """Write a state beside the one before, whole or not at all, and remove those before that.

        Args:
            state: see `flatten`.
            step: by which it is named.
        """
        self.folder.stat()  # a folder that went is not made again: the rest of the run is not in it
        self._set_damaged_aside()
        same = [number for at, number in map(_number, self.list()) if at == step]  # stopped before its epoch ended
        place = self.folder / (f"step_{step:08}_{max(same) + 1}" if same else f"step_{step:08}")
        with atomic_folder(place) as work:
            write_checkpoint(work, state)
        self.newest = place
        self._prune()

    def _set_damaged_aside(self) -> None:
        """Move what `load` passed over aside, so that what is saved from here on is newer."""
        for place in [place for place in self.damaged if place.name != EARLIER and place.exists()]:
            aside = place.with_name(f"{_DAMAGED}{place.name}")
            move_folder(place, aside)
        self.damaged = {}

    def _prune(self) -> None:
        """Keep the newest checkpoints; a kill leaves no half of one under its name."""
        (self.folder / EARLIER).unlink(missing_ok=True)
        places = self.list()
        old = places[_KEPT:] + (list(self.folder.glob(f"{_DAMAGED}*")) if len(places) >= _KEPT else [])
        for place in old:
            left = place.with_name(f"{PREFIX}{place.name}")
            move_folder(place, left)
            shutil.rmtree(left)

    def remove(self) -> None:
        """Remove all checkpoints."""
        (self.folder / EARLIER).unlink(missing_ok=True)
        for place in [*self.list(), *self.folder.glob(f"{_DAMAGED}step_*")]:
            shutil.rmtree(place)


def _number(place: Path) -> tuple[int, int] | None:
    """Return the step of a checkpoint, and how many there are of that step up to it; None: it is none."""
    match = _NAME.fullmatch(place.name)
    return (int(match[1]), int(match[2] or 1)) if match else None


def write_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a state into a folder: tensors, plain data, and the hashes of both.

    Args:
        folder: which is there.
        state: see `flatten`.
    """
    document, tensors = flatten(state)
    write_tensors(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / TENSORS, {"format": "pt"}
    )
    plain = json.dumps({"format": STATE_FORMAT, "state": document}, allow_nan=False)
    (folder / PLAIN).write_text(plain, encoding="utf-8")
    hashes = "".join(f"{hash_file(folder / name)}  {name}\n" for name in (TENSORS, PLAIN))
    (folder / HASHES).write_text(hashes, encoding="utf-8", newline="\n")  # as `sha256sum -c` reads it


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a state that `write_checkpoint` wrote.

    Args:
        folder: of the checkpoint.

    Raises:
        DamagedError: it is not what was written.
        ValueError: it is of another format.
    """
    try:
        tensors, plain = ((folder / name).read_bytes() for name in (TENSORS, PLAIN))
        stated = (folder / HASHES).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{folder} is damaged ({getattr(error, 'strerror', None) or 'no hashes'})") from error
    found = {TENSORS: tensors, PLAIN: plain}
    changed = [n for n, content in found.items() if f"{hashlib.sha256(content).hexdigest()}  {n}\n" not in stated]
    if changed:
        raise DamagedError(f"{folder} is damaged ({' and '.join(changed)} not as written)")
    content = json.loads(plain)
    if content["format"] != STATE_FORMAT:
        _refuse_format(folder, content["format"])
    loaded = {name: tensor.clone() for name, tensor in load(tensors).items()}
    return restore(content["state"], loaded)


def read_earlier(path: Path) -> dict[str, Any]:
    """Read the state of a run that an earlier version began.

    Args:
        path: of the file.

    Raises:
        DamagedError: it is not what was written.
        ValueError: it is of another format.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        form = state.pop("format")
    except Exception as error:  # whatever torch makes of a damaged file
        raise DamagedError(f"{path} is damaged") from error
    if form != _EARLIER_FORMAT:
        _refuse_format(path, form)
    return state


def _refuse_format(place: Path, form: object) -> None:
    raise ValueError(
        f"{place} has format {form}, sepkit goes on with {STATE_FORMAT}: go on with the sepkit that wrote it, or start "
        "anew with --restart"
    )
