"""A model folder, described for people."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sepkit.importing._pickles import printable
from sepkit.model_folder import CARD, WEIGHTS, ModelError, build_separator, read_card
from sepkit.registry import format_size

_TRANSFORM = ("n_fft", "hop_length", "window_size", "window", "normalized", "framing", "whole_hops")


def describe_model(folder: str | Path) -> str:
    """Describe a model folder: sources, network, transform, how it separates, where it is from, size.

    Args:
        folder: with `model.json` and `model.safetensors`; neither is executed.

    Returns:
        A line for each.

    Raises:
        sepkit.model_folder.ModelError: it holds no model.
    """
    card, folder = read_card(folder), Path(folder)
    settings = card["separator"]
    if not isinstance(settings, Mapping) or not isinstance(settings.get("network"), Mapping):
        raise ModelError(f"{folder / CARD} describes no separator: copy it again")
    n_values = _count_values(folder)
    try:
        lines = [(name, text) for name, text in _lines(folder, card, settings, n_values) if text]
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        reason = f"{type(error).__name__}: {str(error)[:100]}"
        raise ModelError(f"{folder / CARD} is damaged ({reason}): copy it again") from error
    return "\n".join(f"{name:<10} {printable(str(text))}" for name, text in lines)


def _lines(
    folder: Path, card: Mapping[str, Any], settings: Mapping[str, Any], n_values: int
) -> Iterator[tuple[str, str]]:
    yield "sources", ", ".join(map(str, settings["sources"]))
    yield "beside", str(settings.get("residual") or "")
    yield "network", _describe_network(settings, n_values)
    yield "audio", f"{settings.get('sample_rate', 44100)} Hz, {_channels(settings.get('n_channels', 2))}"
    transform = settings.get("transform") or {"class": "STFT"}
    yield "transform", _list(transform, _TRANSFORM, str(transform.get("class")))
    yield "chunks", _describe_chunks(settings)
    postfilter = settings.get("postfilter")
    yield "filter", _list(postfilter, list(postfilter)[1:], str(postfilter.get("class"))) if postfilter else ""
    source = card.get("source") or {}
    for file in source.get("files", [source]):
        yield "file", f"{file['file']}, sha256 {file.get('sha256', 'not known')}" if "file" in file else ""
    config = source.get("config") or {}
    yield "config", f"{config['file']}, sha256 {config['sha256']}" if config else ""
    yield "set", ", ".join(f"{key}={value}" for key, value in (source.get("set") or {}).items())
    yield "taken", "; ".join(source.get("taken", []))
    yield "address", source.get("address", "")
    yield "recipe", str(card.get("recipe") or "")
    base = card.get("base") or {}
    yield "began as", f"{base.get('model')}, licence {base.get('licence')}" if base else ""
    yield "data", str(card.get("data") or "")
    for each in card.get("sources", []):
        yield "trained on", _list(each, ("licence", "by", "address"), each["name"])
    yield "licence", str(card.get("licence") or "not stated")
    validation = card.get("validation")
    yield "validation", _list(validation, list(validation), "")[2:] if validation else ""
    yield "score", "" if validation else _describe_score(card)
    yield "size", format_size(sum((folder / name).stat().st_size for name in (CARD, WEIGHTS)))
    yield "folder", str(folder)


def _describe_network(settings: Mapping[str, Any], n_values: int) -> str:
    network = settings["network"]
    name = str(network.get("class")).rpartition(".")[2]
    members = network.get("members")
    if isinstance(members, list):
        name += f" of {', '.join(str(member['network']['class']) for member in members)}"
    return f"{name}, {_count_parameters(settings, n_values)}"


def _count_parameters(settings: Mapping[str, Any], n_values: int) -> str:
    """Count the parameters, or the values in the file where the network is not of this package."""
    try:
        n_parameters = sum(parameter.numel() for parameter in build_separator(settings).parameters())
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError):
        return f"{_millions(n_values)} values; its class is not of sepkit"
    return f"{_millions(n_parameters)} parameters"


def _count_values(folder: Path) -> int:
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - it is no mapping
    except SafetensorError as error:
        raise ModelError(f"{folder / WEIGHTS} is damaged ({str(error)[:100]}): copy it again") from error
    n_values = 0
    for shape in shapes:
        n_of_tensor = 1
        for length in shape:
            n_of_tensor *= length
        n_values += n_of_tensor
    return n_values


def _millions(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e5 else f"{number}"


def _channels(number: int) -> str:
    return {1: "mono", 2: "stereo"}.get(number, f"{number} channels")


def _list(mapping: Mapping[str, Any], keys: Any, begin: str) -> str:
    return ", ".join([begin, *(f"{key} {mapping[key]}" for key in keys if mapping.get(key) is not None)])


def _describe_chunks(settings: Mapping[str, Any]) -> str:
    chunking = settings.get("chunking") or {}
    listed = ", ".join(f"{key} {value}" for key, value in chunking.items())
    text = f"{settings.get('segment', 3.0):.4g} s{f', {listed}' if listed else ''}"
    return f"{text}; normalised by the whole recording" if settings.get("normalize") == "recording" else text


def _describe_score(card: Mapping[str, Any]) -> str:
    """Describe the score as it is stated, or what validation measured in training."""
    score = card.get("score")
    if isinstance(score, Mapping):
        return ", ".join(f"{key} {value}" for key, value in score.items())
    return str(score or "not stated")
