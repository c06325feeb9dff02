"""The folder that a trained separator lives in: `model.json` and `model.safetensors`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from sepkit import __version__
from sepkit.build import BuildError
from sepkit.separator import Separator

FORMAT = 1
CARD, WEIGHTS = "model.json", "model.safetensors"


class ModelError(ValueError):
    """A folder does not hold a separator that can be used."""


def save_model(
    separator: Separator,
    folder: str | Path,
    card: Mapping[str, Any] | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write a separator down; a reader finds the old weights or the new ones, never half of them.

    Args:
        separator: what is written.
        folder: created if need be.
        card: plain data about the training: data, licence, scores.
        weights: written in place of the separator's own, by the same names.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = separator.state_dict() if weights is None else weights
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    write_card(separator, folder, card or {})


def write_card(separator: Separator, folder: str | Path, card: Mapping[str, Any]) -> None:
    """Write `model.json` beside weights that are there already."""
    content = {"format": FORMAT, "sepkit": __version__, "separator": separator.settings, **card}
    with atomic(Path(folder) / CARD) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


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
    folder = Path(folder)
    missing = [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder} is no model folder: {' and '.join(missing)} missing, give a training run's")
    try:
        card = json.loads((folder / CARD).read_text())
        if card["format"] > FORMAT:
            raise ModelError(f"{folder} has format {card['format']}, sepkit reads {FORMAT}: install a newer one")
        card["separator"]["sources"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CARD} is not a model card ({error!r}): train again, or copy it again") from error
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
        weights = load_file(Path(folder) / WEIGHTS, device=str(device))
        separator.load_state_dict(weights)
    except (BuildError, TypeError) as error:
        raise ModelError(f"{Path(folder) / CARD}: {error}") from error
    except (safetensors.SafetensorError, OSError, RuntimeError) as error:
        raise ModelError(f"{Path(folder) / WEIGHTS} does not fit its model.json or is damaged: {error}") from error
    return separator.to(device).eval()
