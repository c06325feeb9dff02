"""What checkpoints wrap their weights in, taken off, and said."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sepkit.importing._pickles import CheckpointError, ClassName, StoredTensor

_CONTAINERS = ("best_state", "state", "state_dict", "model_state_dict", "model")  # in this order
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "ema_model.")
_INSIDE = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")  # around parts of a network
_OF_TRAINING = re.compile(r"(train_|val(id)?_|test_)?(loss|losses|criterion|metric|metrics)(_fn|_func|_handler)?\.")
_AVERAGES = re.compile(r"(.*_)?(ema|swa|avg|averaged?)(_.*)?")  # names of parts that hold averaged weights
_OF_EMA = {"initted", "step"}  # what ema_pytorch counts
_PACKED = {"__quantized": "quantised", "compressed": "quantised"}


class Unwrapped(NamedTuple):
    """The weights of a checkpoint.

    Attributes:
        tensors: by name.
        class_name: of the original network, where the file names one.
        arguments: of its constructor, where the file has them.
        taken: what was taken, and what of names was dropped.
    """

    tensors: dict[str, Any]
    class_name: str | None
    arguments: dict[str, Any] | None
    taken: list[str]


def unwrap(content: Any, chosen: str | None = None) -> Unwrapped:
    """Take the weights, and the arguments beside them, out of a checkpoint.

    Args:
        content: what a file holds.
        chosen: the key, or what the names begin with, of the weights that are wanted where there are several.

    Raises:
        CheckpointError: there are none, not those that were chosen, or they are packed or adapters of other weights.
    """
    class_name, arguments, taken = _read_arguments(content)
    while (key := _container(content, chosen)) is not None:
        chosen = None if key == chosen else chosen
        others = [other for other in content if other != key and _holds_weights(content[other])]
        left = f", not {' or '.join(map(str, others[:3]))}, which {'is' if len(others) == 1 else 'are'} there too"
        taken.append(f"{key}{left if others else ''}")
        content = content[key]
    _refuse_packed(content)
    tensors = {name: value for name, value in content.items() if isinstance(value, StoredTensor | Tensor)}
    if not tensors:
        raise CheckpointError(f"it holds no weights by name but {', '.join(map(str, list(content)[:5])) or 'nothing'}")
    if len(tensors) < len(content):
        other = next(name for name in content if name not in tensors)
        raise CheckpointError(f"{other} stands among its weights and is no tensor: give a file of weights alone")
    if not all(isinstance(name, str) for name in tensors):
        raise CheckpointError("its tensors have numbers in place of names, which tell no network")
    if all("lora_" in name for name in tensors):
        raise CheckpointError("it holds LoRA adapters alone: merge them into their base where they were made")
    tensors = _choose(tensors, chosen, taken)
    return Unwrapped(_drop_prefixes(tensors, taken), class_name, arguments, taken)


def _choose(tensors: dict[str, Any], chosen: str | None, taken: list[str]) -> dict[str, Any]:
    """Take the weights of the part that was chosen, which is asked for where averages stand beside others."""
    parts = list(dict.fromkeys(name.partition(".")[0] for name in tensors if "." in name))
    if chosen is None:
        averages = [part for part in parts if _AVERAGES.fullmatch(part)]
        known = [part for part in parts if part not in averages and f"{part}." in _PREFIXES]
        if averages and known:
            raise CheckpointError(
                f"it holds weights below {' and '.join(known + averages)}: choose by --set weights={averages[0]} or "
                f"weights={known[0]}"
            )
        return tensors
    found = {name.removeprefix(f"{chosen}."): each for name, each in tensors.items() if name.startswith(f"{chosen}.")}
    if not found:
        raise CheckpointError(f"weights must name what its weights are below, {' or '.join(parts[:4])}, got {chosen}")
    taken.append(f"{chosen}, as chosen")
    return found


def _read_arguments(content: Any) -> tuple[str | None, dict[str, Any] | None, list[str]]:
    """Read the class and its arguments from a package of Demucs or a file of asteroid's hub."""
    if not isinstance(content, dict):
        return None, None, []
    if "klass" in content:
        if not isinstance(content["klass"], ClassName):
            raise CheckpointError("klass is no network of demucs, and no other package writes such files")
        if content.get("args") or not isinstance(content.get("kwargs"), dict):
            raise CheckpointError("args must be empty and kwargs a mapping, as demucs writes them")
        return str(content["klass"]), content["kwargs"], ["package of demucs"]
    if "model_name" in content and isinstance(content.get("model_args"), dict):
        if content["model_name"] != "ConvTasNet":
            raise CheckpointError(f"asteroid's ConvTasNet alone is supported, got {str(content['model_name'])[:60]}")
        return "asteroid.ConvTasNet", content["model_args"], ["file of asteroid's hub"]
    return None, None, []


def _container(content: Any, chosen: str | None) -> str | None:
    """Name the key under which the weights are, the chosen one if there is, None where they are here."""
    if not isinstance(content, dict):
        kind = "one tensor" if isinstance(content, StoredTensor | Tensor) else f"a {type(content).__name__}"
        raise CheckpointError(f"it holds no weights by name but {kind}")
    inner = [key for key, value in content.items() if isinstance(value, dict) and isinstance(key, str)]
    if chosen in inner and _holds_weights(content[chosen]):
        return chosen
    averages = sorted(key for key in inner if key.startswith("ema"))
    known = [*(key for key in _CONTAINERS if key in inner), *averages]
    if not known and not any(isinstance(value, StoredTensor | Tensor) for value in content.values()):
        unknown = [key for key in inner if _holds_weights(content[key])]
        known = unknown if len(unknown) == 1 else []  # of two, none is known to be the right one
    return known[0] if known else None


def _holds_weights(value: Any, wrapped: bool = True) -> bool:
    """Return whether a value is a mapping of names to tensors, or, `wrapped`, holds one where those are looked for."""
    if not isinstance(value, dict) or not value:
        return False
    if wrapped and any(_holds_weights(value.get(key), wrapped=False) for key in _CONTAINERS):
        return True
    return all(isinstance(key, str) and isinstance(each, StoredTensor | Tensor) for key, each in value.items())


def _refuse_packed(content: Mapping[str, Any]) -> None:
    for key in _PACKED:
        if key in content:
            raise CheckpointError(
                f"{key}: its weights are packed by DiffQ, which is not supported: take the model that is not quantised "
                "(mdx for mdx_q, mdx_extra for mdx_extra_q)"
            )


def _drop_prefixes(tensors: dict[str, Any], taken: list[str]) -> dict[str, Any]:
    tensors = _drop_training(tensors, taken)
    while tensors:
        tensors = _take_averages(tensors, taken)
        prefix = next((start for start in _PREFIXES if all(name.startswith(start) for name in tensors)), None)
        if prefix is None:
            return _drop_inside(tensors, taken)
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        taken.append(f"names without {prefix}")
    raise CheckpointError("it holds no weights but a counter of averages")


def _drop_training(tensors: dict[str, Any], taken: list[str]) -> dict[str, Any]:
    """Drop what Lightning keeps of losses and metrics, as their windows, beside a network below a prefix."""
    kept = {name: tensor for name, tensor in tensors.items() if not _OF_TRAINING.match(name)}
    if len(kept) in (0, len(tensors)) or not any(all(name.startswith(start) for name in kept) for start in _PREFIXES):
        return tensors
    first, *others = (name for name in tensors if name not in kept)
    taken.append(f"not {first}{f' and {len(others)} more' if others else ''} of losses and metrics")
    return kept


def _take_averages(tensors: dict[str, Any], taken: list[str]) -> dict[str, Any]:
    """Take averaged weights out of what torch and ema_pytorch keep beside them."""
    if "n_averaged" in tensors:
        taken.append("averaged weights")
        return {name: tensor for name, tensor in tensors.items() if name != "n_averaged"}
    averages = {name: tensor for name, tensor in tensors.items() if name.startswith("ema_model.")}
    others = [name for name in tensors if name not in averages and name not in _OF_EMA]
    if not averages or len(averages) == len(tensors) or not all(name.startswith("online_model.") for name in others):
        return tensors
    taken.append(f"averaged weights{', not online_model, which is there too' if others else ''}")
    return averages


def _drop_inside(tensors: dict[str, Any], taken: list[str]) -> dict[str, Any]:
    for part in _INSIDE:
        if any(f".{part}" in name for name in tensors):
            tensors = {name.replace(f".{part}", "."): tensor for name, tensor in tensors.items()}
            taken.append(f"names without .{part}")
    return tensors
