"""The folder that a trained separator lives in: `model.json` and `model.safetensors`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save

from sepkit import __version__
from sepkit.arguments import check_path
from sepkit.separator import Separator

FORMAT = 1
CARD, WEIGHTS = "model.json", "model.safetensors"


class ModelError(ValueError):
    """A folder does not hold a separator that can be used."""


def save_model(separator: Separator, folder: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Write a separator down; a reader finds the old weights or the new ones, never half of them.

    Args:
        separator: what is written.
        folder: created if need be.
        card: plain data about the training: data, licence, scores.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Cloned, because weights that share memory are refused.
    tensors = {name: tensor.detach().cpu().clone() for name, tensor in separator.state_dict().items()}
    with atomic(folder / WEIGHTS) as temporary:
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        temporary.write_bytes(save(contiguous))  # save_file would keep it from all other users
    write_card(separator, folder, card or {})


def write_card(separator: Separator, folder: str | Path, card: Mapping[str, Any]) -> None:
    """Write `model.json` beside weights that are there already."""
    content = {"format": FORMAT, "sepkit": __version__, "separator": separator.settings, **card}
    with atomic(Path(folder) / CARD) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


class atomic:  # noqa: N801
    """Give a temporary path beside `path`, which takes the name of `path` when the block ends without error."""

    def __init__(self, path: Path) -> None:
        self.path, self.temporary = path, path.with_name(f".{path.name}.{os.getpid()}")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind: type | None, *exception: object) -> None:
        if kind is None:
            with open(self.temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def read_card(folder: str | Path) -> dict[str, Any]:
    """Read `model.json` of a folder.

    Raises:
        ModelError: the folder holds no separator, or one of a later format.
    """
    check_path(folder, "folder")
    folder = Path(folder)
    missing = [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder} is no model folder: {' and '.join(missing)} missing, give a training run's")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        if card["format"] > FORMAT:
            raise ModelError(f"{folder} has format {card['format']}, sepkit reads {FORMAT}: install a newer one")
        card["separator"]["sources"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CARD} is not a model card ({error!r}): train again, or copy it again") from error
    except OSError as error:
        raise ModelError(f"{folder / CARD} cannot be read: {error.strerror}, check its permissions") from error
    return card


def load_model(folder: str | Path, device: str | torch.device = "cpu", trust: bool = False) -> Separator:
    """Load a trained separator, ready to separate.

    Only plain data and safetensors are read; nothing in the folder is executed.

    Args:
        folder: with `model.json` and `model.safetensors`.
        device: where it is put.
        trust: let the model card name classes outside this package, which are then imported.

    Raises:
        ModelError: the folder does not hold a separator that can be used.
    """
    card = read_card(folder)
    try:
        separator = Separator(**card["separator"], trusted=trust)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"{Path(folder) / CARD} describes no separator: {error}") from error
    load_weights(separator, folder)
    return separator.to(device).eval()


def load_weights(separator: Separator, folder: str | Path) -> None:
    """Give a separator the weights of a model folder; what else the folder says is not looked at.

    Args:
        separator: what gets the weights.
        folder: with `model.json` and `model.safetensors`.

    Raises:
        ModelError: there are none, or their names or shapes are not the separator's.
    """
    read_card(folder)
    path = Path(folder) / WEIGHTS
    try:
        weights = load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy it again") from error
    own = {name: tensor.shape for name, tensor in separator.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    different = sorted(name for name in {**own, **found} if own.get(name) != found.get(name))
    if different:
        shown = ", ".join(different[:5]) + (f" and {len(different) - 5} more" if len(different) > 5 else "")
        raise ModelError(f"{path} does not fit this separator: {shown} differ, give a model of the same settings")
    separator.load_state_dict(weights)
