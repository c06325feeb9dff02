"""What is stated beside the weights: configs, single values in their place, and which of it was read."""

import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from sepkit.importing._config import MissingError
from sepkit.importing._pickles import CheckpointError
from sepkit.importing._watched import Watched
from sepkit.plain import parse_json, parse_yaml, read_text
from sepkit.problems import show
from sepkit.separator import Separator

_LARGEST_TRANSFORM = 1 << 17  # samples of a window: a config must not fill the memory
_LARGEST = 10**10
_RATES = {
    "audio.sample_rate", "data.samplerate", "training.samplerate", "model.sample_rate", "samplerate", "sample_rate",
}  # fmt: skip
_LONGEST_CHUNK = 30_000_000  # samples, ten minutes
_HIGHEST = 1_000_000  # Hz
_NAMED = {"instruments", "sources", "stems"}  # keys of names, which may look like numbers
_WORDS = {"true": True, "false": False, "none": None, "null": None}
_TRAINING = {  # sections and values of configs that only training reads
    "training", "augmentations", "augmentation", "augment", "loss_multistft", "loss", "lora", "optimizer", "optim",
    "optimization", "scheduler", "ema", "name", "task", "data", "dset", "quant", "mp3", "dataset", "datasets",
    "epochs", "batch_size", "seed", "lr", "max_batches", "misc", "continue_best", "continue_from", "continue_opt",
    "continue_pretrained", "dora", "svd", "weights", "penalty", "early_stop", "test", "valid_apply", "logs", "metrics",
    "model_type", "is_roformer", "identifier", "ffmpeg", "solver", "num_workers", "wandb",
}  # fmt: skip
_UNUSED = {  # of these sections, what no network reads
    "audio": {
        "chunk_size", "dim_f", "dim_t", "hop_length", "n_fft", "num_channels", "sample_rate", "min_mean_abs",
        "max_mean_abs",
    },
    "inference": {"dim_t", "chunk_size"},
}  # fmt: skip
_EXAMPLES: dict[str, Any] = {
    "audio.sample_rate": 44100, "audio.chunk_size": 352800, "audio.num_channels": 2, "audio.n_fft": 8192,
    "audio.hop_length": 1024, "model.stft_n_fft": 2048, "model.stft_hop_length": 441, "model.stft_win_length": 2048,
    "model.zero_dc": False, "model.norm": "InstanceNorm", "model.act": "gelu", "model.nfft": 4096,
    "model.hop_size": 1024, "model.win_size": 4096, "model.normalized": True, "model.band_SR": [0.175, 0.392, 0.433],
    "model.band_stride": [1, 4, 16], "model.standardize": True, "model.band_specs": "musical",
    "model.band_type": "musical", "model.n_fft": 2048, "model.win_length": 2048, "model.hop_length": 512,
    "model.pad_mode": "reflect", "data.samplerate": 44100, "data.segment": 11, "samplerate": 44100,
    "sample_rate": 44100, "segment": 10, "n_hop": 1024, "nfft": 4096, "stride": 8, "n_blocks": 8, "norm_type": "gLN",
    "mask_act": "relu", "training.samplerate": 44100, "training.segment": 11, "training.channels": 2,
}  # fmt: skip
_NAMES = ("training.instruments", "model.sources", "sources")
_HINTS = {
    "model.zero_dc": "model.zero_dc is true for what Music-Source-Separation-Training trained since 2025-09-23, false "
    "before",
    "model.standardize": "model.standardize is true for SCNet's own code since 2024-09-24",
}


_NUMBER = re.compile(r"[+-]?(\d{1,12}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?")


def read_config(path: Path) -> dict[str, Any]:
    """Read a config, YAML or JSON, within bounds; of YAML's tags, tuples alone are known.

    Raises:
        CheckpointError: it cannot be read, or is no mapping.
    """
    check_file(path)
    try:
        text = read_text(path)
        content = parse_json(text) if path.suffix.lower() == ".json" else parse_yaml(text, tuples=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}, check the path") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{path} cannot be read: it is not UTF-8, as configs are: give yaml or JSON, or save it as that"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {str(error)[:300]}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a mapping, as configs do, got {show(content)}")
    return content


def check_file(path: Path) -> None:
    """Refuse what is there and is no file, as a device or a pipe, of which reading might never end.

    Raises:
        CheckpointError: it is none, or its name cannot be one.
    """
    try:
        found = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{str(path)[:300]} cannot be read: {reason}, check the path") from error
    if not stat.S_ISREG(found):
        kind = "a folder" if stat.S_ISDIR(found) else "a device or a pipe"
        raise CheckpointError(f"{path} must be a file, which {kind} is not: check the path")


def put(config: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted key of a config.

    Raises:
        ValueError: what is on the way is no mapping.
    """
    *places, last = key.split(".")
    for place in places:
        if config.get(place) is None:
            config[place] = {}
        config = config[place]
        if not isinstance(config, dict):
            raise ValueError(f"{key} cannot be set, since {place} is {show(config)} in the config")
    config[last] = value


def read_numbers(value: Any, key: str = "") -> Any:
    """Return a config in which numbers, truth values and nothing that stand there as text are such.

    Args:
        value: the config, or a value in it; YAML reads `1e-5` as text, and some configs have `'44100'` or `147.0`.
        key: of the value, without the sections that it is in.
    """
    if isinstance(value, Mapping):
        return {name: read_numbers(each, str(name).rpartition(".")[2]) for name, each in value.items()}
    if key in _NAMED:
        return value
    if isinstance(value, list | tuple):
        return [read_numbers(each) for each in value]
    if isinstance(value, str):
        if value.lower() in _WORDS:
            return _WORDS[value.lower()]
        if key == "target_instrument" or not _NUMBER.fullmatch(value):
            return value
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST else value


def check_numbers(config: Mapping[str, Any]) -> None:
    """Refuse numbers that would take all memory.

    Raises:
        ValueError: there is one.
    """
    for key, value in leaves(config):
        name = str(key).rpartition(".")[2]
        if key in _RATES and value is not None and not (type(value) in (int, float) and 1 <= value <= _HIGHEST):
            raise ValueError(f"{key} must be 1 to {_HIGHEST} Hz, got {show(value)}")
        is_size = any(part in name for part in ("fft", "win", "hop", "bins"))
        most = _LARGEST_TRANSFORM if is_size else _LARGEST
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int | float) and not abs(number) <= most:
                raise ValueError(f"{key} must be at most {most}, got {show(number)}")


def leaves(config: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    """List all values of a config by their dotted keys."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def ask(make: Callable[[Mapping[str, Any]], dict[str, Any]], config: dict[str, Any], read: set[str]) -> dict[str, Any]:
    """Return settings, or ask for all at once that a config lacks.

    Args:
        make: reads the settings.
        config: what is stated.
        read: gets the dotted keys of values that are read.

    Raises:
        ValueError: something is missing, or does not fit.
    """
    try:
        return make(Watched(config, read))
    except MissingError as error:
        asked = _find_missing(make, config, error.key)
    hints = "; ".join(_HINTS[key] for key in asked if key in _HINTS)
    examples = " ".join(f"{key}={_write(value)}" for key, value in asked.items())
    if config:
        remedy = "which neither the weights nor what came with them tell: add"
    else:
        remedy = "which the weights cannot tell: give the config that came with them by --config, or"
    hints = f" ({hints})" if hints else ""
    raise ValueError(f"{', '.join(asked)} must be stated, {remedy} for example --set {examples}{hints}")


def _find_missing(make: Callable[[Mapping[str, Any]], Any], config: dict[str, Any], key: str) -> dict[str, Any]:
    """Find what else is missing, by putting examples in the place of what is."""
    trial, asked = deepcopy(config), {}
    while key not in asked:
        names = [[f"stem{number + 1}" for number in range(n_names)] for n_names in range(1, 13)]
        asked[key] = names[0] if key in _NAMES else _EXAMPLES.get(key)
        for example in names if key in _NAMES else [asked[key]]:
            put(trial, key, example)
            found = _try(make, trial)
            if found is not None:
                asked[key] = example
                break
        if not found:
            break
        key = found
    return asked


def _try(make: Callable[[Mapping[str, Any]], Any], trial: dict[str, Any]) -> str | None:
    """Name what is missing next, "" for nothing, None where an example does not fit."""
    try:
        make(Watched(trial, set()))
    except MissingError as error:
        return error.key
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError):
        return None
    return ""


def _write(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "VALUE"
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def check_read(config: Mapping[str, Any], read: set[str], overrides: Iterable[str], unused: Iterable[str]) -> None:
    """Refuse what is stated and was not read, unless it is for training alone.

    Args:
        config: what is stated.
        read: dotted keys of what was read.
        overrides: keys that were set by hand.
        unused: further dotted keys, or "section." for all of a section, that no network of this family reads.

    Raises:
        ValueError: a key is not understood.
    """
    unread = [key for key, value in leaves(config) if key not in read and value is not None]
    for key in overrides:
        if any(name == key or name.startswith(f"{key}.") for name in unread):
            near = [name for name in sorted(read) if name.rpartition(".")[2] == key.rpartition(".")[2]]
            near = near or get_close_matches(key, sorted(read), 1)
            meant = f": {near[0]} is there" if near else ""
            raise ValueError(f"--set {key} is read by nothing in this model{meant}")
    unused = (*unused, *chain(*([f"{section}.{name}" for name in names] for section, names in _UNUSED.items())))
    for key in unread:
        known = key.partition(".")[0] in _TRAINING or key in unused or f"{key.partition('.')[0]}." in unused
        if not known:
            raise ValueError(
                f"{key} of the config is not understood and could change what the model gives: give the model's own "
                f"config, or, if it is for training alone, take it out by --set {key}=null"
            )


def check_settings(settings: Mapping[str, Any], read: Iterable[str]) -> None:
    """Refuse numbers and names that no Separator takes, and chunks that no memory holds.

    Args:
        settings: of the Separator.
        read: dotted keys of the config that they were read from.

    Raises:
        ValueError: there is one.
    """
    problems = Separator.problems(settings)
    if problems:
        keys = [f"{key}=[NAME,..]" for key in (*_NAMES, "model.stems") if key in read]
        keys = keys or ["training.target_instrument=NAME"]
        known = {"sources": keys[0], "residual": "training.instruments=[NAME,..]"}
        key = next((known[problem.path[0]] for problem in problems if problem.path[0] in known), "KEY=VALUE")
        raise ValueError(f"{'; '.join(map(str, problems))}: correct the config by --set {key}")
    n_samples = settings["segment"] * settings["sample_rate"]
    if n_samples > _LONGEST_CHUNK:
        raise ValueError(f"a chunk must have at most {_LONGEST_CHUNK} samples, got {n_samples:.0f}: correct the config")
