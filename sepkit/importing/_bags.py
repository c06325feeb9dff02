"""Bags of Demucs: a yaml that names several models and the weight of each for each source."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sepkit.bag import join_members
from sepkit.importing._demucs_checks import segment_length
from sepkit.importing._pickles import CheckpointError
from sepkit.problems import show

_SIGNATURE = re.compile(r"[A-Za-z0-9_]{1,64}")
_MOST = 32  # members


class BagFile(NamedTuple):
    """What the yaml of a bag says.

    Attributes:
        members: files of weights.
        weights: of each, one number a source; None: all the same.
        segment: seconds that all of them take at a time; None: each its own.
    """

    members: list[Path]
    weights: list[list[float]] | None
    segment: float | None


def read_bag(path: Path, content: Mapping[str, Any]) -> BagFile:
    """Find the members of a bag beside its yaml.

    Args:
        path: of the yaml.
        content: what it says.

    Raises:
        CheckpointError: it is none, or a member is missing or there twice.
    """
    signatures = content.get("models")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= _MOST:
        raise CheckpointError(
            f"{path} must list the models of a bag of Demucs, got {', '.join(map(str, list(content)[:4]))}: give the "
            "weights first, and their config by --config"
        )
    unknown = sorted(content.keys() - {"models", "weights", "segment"})
    if unknown:
        raise CheckpointError(f"{path} must hold models, weights and segment alone, got {show(unknown[0])}")
    return BagFile(
        [_find_member(path, str(signature)) for signature in signatures],
        _read_weights(path, content.get("weights"), len(signatures)),
        _read_segment(path, content.get("segment")),
    )


def _find_member(path: Path, signature: str) -> Path:
    if not _SIGNATURE.fullmatch(signature):
        raise CheckpointError(f"{path} must name models by letters and digits, got {show(signature)}")
    folder = path.parent
    twin = folder / f"{signature}.safetensors"
    packages = sorted({*folder.glob(f"{signature}-*.th"), *folder.glob(f"{signature}.th")})
    if len(packages) > 1:
        names = " and ".join(package.name for package in packages)
        raise CheckpointError(f"{folder} must hold one file of {signature}, got {names}: move one away")
    if twin.is_file():
        return twin
    if not packages:
        wanted = f"{signature}-xxxxxxxx.th, {signature}.th or {twin.name}"
        raise CheckpointError(f"{folder} must hold {wanted}, which {path.name} names, and holds none: put it there")
    return packages[0]


def _read_weights(path: Path, weights: Any, n_members: int) -> list[list[float]] | None:
    if weights is None:
        return None
    are_numbers = isinstance(weights, list) and all(
        isinstance(row, list) and row and all(type(weight) in (int, float) and 0 <= weight < 1e6 for weight in row)
        for row in weights
    )
    if not are_numbers or len(weights) != n_members or len({*map(len, weights)}) != 1:
        raise CheckpointError(f"{path} must have weights of {n_members} models, as many for each, got {show(weights)}")
    return [list(map(float, row)) for row in weights]


def _read_segment(path: Path, segment: Any) -> float | None:
    if segment is not None and (type(segment) not in (int, float) or not 0 < segment < 1e4):
        raise CheckpointError(f"{path} must have a segment in seconds, got {show(segment)}")
    return segment


def make_bag(bag: BagFile, members: list[dict[str, Any]]) -> tuple[dict[str, Any], list[int]]:
    """Make the settings of a Separator of those of its members.

    Args:
        bag: what the yaml says.
        members: settings of each.

    Returns:
        The settings, and which members are in use.

    Raises:
        CheckpointError: the members do not go together.
    """
    n_sources = len(members[0]["sources"])
    weights = bag.weights or [[1.0] * n_sources] * len(members)
    if len(weights[0]) != n_sources:
        raise CheckpointError(f"weights must be of {n_sources} sources, got {len(weights[0])} for each model")
    if not all(map(any, zip(*weights, strict=True))):
        raise CheckpointError("weights must be above 0 in one model at least for each source")
    members = [_set_segment(member, bag.segment) for member in members]
    used = [number for number, row in enumerate(weights) if any(row)]
    try:
        joined = join_members(members, weights)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if len(used) == 1:
        return members[used[0]], used
    if len(used) < len(members):
        joined = join_members([members[number] for number in used], [weights[number] for number in used])
    return joined, used


def _set_segment(member: dict[str, Any], segment: float | None) -> dict[str, Any]:
    if segment is None:
        return member
    network = dict(member["network"])
    n_samples = segment_length({"segment": segment, "samplerate": member["sample_rate"]})
    longest = network.get("training_length")
    if longest is not None:  # of an HTDemucs, which fills chunks up to it
        if n_samples > longest:
            found = f"{segment} in the bag for {longest / member['sample_rate']:g} s"
            raise CheckpointError(f"segment must not be longer than that of the training of an HTDemucs, got {found}")
        network["training_length"] = n_samples
    return {**member, "segment": float(segment), "network": network}
