"""Weights of one network, and what the files beside them state, from a file or a folder of Open-Unmix."""

import json
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sepkit import files
from sepkit.importing import open_unmix
from sepkit.importing._checkpoints import open_checkpoint
from sepkit.importing._given import check_file, read_config, read_numbers
from sepkit.importing._pickles import CheckpointError
from sepkit.importing._wrappings import unwrap
from sepkit.problems import show

_HASHED = re.compile(r".+-([0-9a-f]{8})\.(th|pth)")  # names that state how the file's sha256 begins
_TARGET = re.compile(r"([^.].*?)(?:-[0-9a-f]{8})?\.(pth|chkpnt)")
_ORDER = ("vocals", "drums", "bass", "other")  # of Open-Unmix' outputs
_NOTHING = {"0", "false", "none", "null", ""}


class Material(NamedTuple):
    """What is known of one network before its family is.

    Attributes:
        tensors: by their original names.
        config: what the files themselves state.
        class_name: of the original network, where a file names one.
        files: of weights: name and sha256.
        taken: what was taken, and what was dropped.
        stated: what a file states about itself: licence, address.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    class_name: str | None
    files: list[dict[str, str]]
    taken: list[str]
    stated: dict[str, str]


def read_file(path: Path, chosen: str | None = None) -> Material:
    """Read a file of weights.

    Args:
        path: the file.
        chosen: where the weights that are wanted are, as in `unwrap`.

    Raises:
        CheckpointError: it is none, lacks what was chosen, or its hash is not the one in its name.
    """
    check_file(path)
    sha256 = hash_file(path)
    name = _HASHED.fullmatch(path.name)
    if name and not sha256.startswith(name[1]):
        raise CheckpointError(
            f"{path} must have a sha256 that begins with {name[1]}, as its name says, got {sha256[:8]}"
        )
    with open_checkpoint(path) as checkpoint:
        try:
            content = _read_metadata(checkpoint.content, checkpoint.metadata)
            class_name, arguments = content.pop("class_name", None), content.pop("arguments", None)
            unwrapped = unwrap(content.pop("content"), chosen)
        except RecursionError:
            raise CheckpointError("it is nested too deep") from None
        tensors = checkpoint.load(unwrapped.tensors)
    _check_finite(tensors, path)
    infos = checkpoint.content.get("infos") if isinstance(checkpoint.content, dict) else None
    of_hub = infos.get("license") if isinstance(infos, dict) else None  # asteroid's
    stated = {
        "licence": checkpoint.metadata.get("license") or checkpoint.metadata.get("licence") or _short(of_hub),
        "address": checkpoint.metadata.get("source"),
    }
    return Material(
        tensors,
        dict(arguments or unwrapped.arguments or {}),
        class_name or unwrapped.class_name,
        [{"file": path.name, "sha256": sha256}],
        (["metadata of demucs' hub"] if class_name else []) + unwrapped.taken,
        {key: value for key, value in stated.items() if value},
    )


def _short(text: Any) -> str | None:
    return text[:200] if isinstance(text, str) else None


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if (tensor.is_floating_point() or tensor.is_complex()) and not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path} must hold finite numbers, got others in {name}: its training failed, or it was stored in too "
                "short a format; take another file of the model"
            )


def _read_metadata(content: Any, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Read the class and the arguments that Demucs' hub files have beside their tensors."""
    if str(metadata.get("structure", "")).lower() not in _NOTHING:
        raise CheckpointError(
            "structure: its weights are packed by DiffQ, which is not supported: take the model that is not quantised"
        )
    if "klass" not in metadata:
        return {"content": content}
    try:
        arguments = json.loads(metadata.get("kwargs", ""), object_hook=_read_fraction)
        positional = json.loads(metadata.get("args", "[]"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"kwargs in its metadata are no JSON: {str(error)[:80]}") from error
    if positional or not isinstance(arguments, dict):
        raise CheckpointError("args must be empty and kwargs a mapping, as demucs writes them")
    return {"content": content, "class_name": metadata["klass"], "arguments": arguments}


def _read_fraction(mapping: dict[str, Any]) -> Any:
    if mapping.get("_type") != "fraction":
        return mapping
    terms = (mapping.get("numerator"), mapping.get("denominator"))
    if not all(type(term) is int and abs(term) < 10**12 for term in terms) or terms[1] == 0:
        raise ValueError("a fraction must be of two numbers below 1e12")
    return Fraction(*terms)


def hash_file(path: Path) -> str:
    """Compute the sha256 of a file.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return files.hash_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}, check the path") from error


def read_folder(folder: Path) -> Material:
    """Read a folder of Open-Unmix: weights of each target, and what is stated beside them.

    Raises:
        CheckpointError: it is none, or its files contradict each other.
    """
    paths = _find_targets(folder)
    targets = sorted(paths, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    described = folder / "separator.json"
    config = read_numbers(read_config(described)) if described.is_file() else {}  # openunmix writes a rate of 44100.0
    tensors, files, taken, stated = {}, [], [f"folder of {', '.join(targets)}"], {}
    for target in targets:
        material = read_file(paths[target])
        own = {name: tensor for name, tensor in material.tensors.items() if not name.startswith(open_unmix.BESIDES)}
        if not open_unmix.detect(own):
            raise CheckpointError(
                f"{paths[target]} must hold weights of Open-Unmix, as the folder of a model does, got "
                f"{', '.join(list(own)[:3])}: move it away"
            )
        tensors |= {f"target_models.{target}.{name}": tensor for name, tensor in own.items()}
        if "sample_rate" in material.tensors:
            tensors["sample_rate"] = material.tensors["sample_rate"]
        files += material.files
        taken += [f"{what} of {target}" for what in material.taken]
        stated |= material.stated
        described = folder / f"{target}.json"
        if described.is_file():
            _add(config, read_numbers(read_config(described)).get("args") or {}, described.name)
    config.setdefault("sources", targets)
    return Material(tensors, config, None, files, taken, stated)


def _find_targets(folder: Path) -> dict[str, Path]:
    """Find the file of each target; weights come before a state of training."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = _TARGET.fullmatch(path.name)
        if name and path.is_file():
            found.setdefault(name[1], []).append(path)
    if not found:
        raise CheckpointError(
            f"{folder} must hold weights of Open-Unmix, TARGET.pth, and holds none: give a file of weights, or the "
            "yaml of a bag of Demucs"
        )
    chosen = {}
    for target, paths in found.items():
        weights = [path for path in paths if path.suffix == ".pth"] or paths
        if len(weights) > 1:
            names = " and ".join(path.name for path in weights)
            raise CheckpointError(f"{folder} must hold one file of {target}, got {names}: move one away")
        chosen[target] = weights[0]
    return chosen


_ARGUMENTS = {  # of openunmix' training -> of its separator
    "nfft": "nfft", "nhop": "nhop", "nb_channels": "nb_channels", "hidden_size": "hidden_size",
    "unidirectional": "unidirectional", "nb_layers": "nb_layers", "seq_dur": "segment",
}  # fmt: skip


def _add(config: dict[str, Any], arguments: Mapping[str, Any], file: str) -> None:
    """Add what is stated beside the weights of a target."""
    for theirs, key in _ARGUMENTS.items():
        value = arguments.get(theirs) if isinstance(arguments, Mapping) else None
        if value is None:
            continue
        if config.get(key) not in (None, value):
            raise CheckpointError(
                f"{key} must be the same in all files of the folder, got {config[key]} and, in {file}, {value}"
            )
        config[key] = value


def merge(config: dict[str, Any], other: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """Return a config with what another states.

    Args:
        config: of the weights' own file.
        other: given beside it.
        place: dotted key of both.

    Raises:
        ValueError: they contradict each other.
    """
    merged = dict(config)
    for key, value in other.items():
        if value is None:
            continue
        own = config.get(key)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            value = merge(dict(own), value, f"{place}{key}.")
        elif own is not None and _plain(own) != _plain(value):
            raise ValueError(
                f"{place}{key} must be {show(own)}, as the weights' file has it, got {show(value)} in the config"
            )
        merged[key] = value if own is None or isinstance(value, Mapping) else own
    return merged


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return Fraction(str(value)) if isinstance(value, float) and value == value and abs(value) < 1e12 else value
