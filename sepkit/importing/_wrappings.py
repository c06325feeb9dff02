"""What checkpoints wrap their weights in, taken off, and said."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sepkit.importing._pickles import CheckpointError, ClassName, StoredTensor

_CONTAINERS = ("best_state", "state", "state_dict", "model_state_dict", "model")  # in this order
_PREFIXES = ("module.", "_orig_mod.", "model.")
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


def unwrap(content: Any) -> Unwrapped:
    """Take the weights, and the arguments beside them, out of a checkpoint.

    Args:
        content: what a file holds.

    Raises:
        CheckpointError: there are none, or they are packed or adapters of other weights.
    """
    class_name, arguments, taken = _read_arguments(content)
    while (key := _container(content)) is not None:
        taken.append(key)
        content = content[key]
    _refuse_packed(content)
    tensors = {name: value for name, value in content.items() if isinstance(value, StoredTensor | Tensor)}
    if not tensors:
        raise CheckpointError(f"it holds no weights by name but {', '.join(map(str, list(content)[:5])) or 'nothing'}")
    if len(tensors) < len(content):
        other = next(name for name in content if name not in tensors)
        raise CheckpointError(f"{other} stands among its weights and is no tensor: give a file of weights alone")
    if all("lora_" in name for name in tensors):
        raise CheckpointError("it holds LoRA adapters alone: merge them into their base where they were made")
    return Unwrapped(_drop_prefixes(tensors, taken), class_name, arguments, taken)


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


def _container(content: Any) -> str | None:
    """Name the key under which the weights are, None where they are here."""
    if not isinstance(content, dict):
        raise CheckpointError(f"it holds no weights by name but {type(content).__name__}")
    inner = [key for key, value in content.items() if isinstance(value, dict) and isinstance(key, str)]
    averages = sorted(key for key in inner if key.startswith("ema"))
    return next(iter([*(key for key in _CONTAINERS if key in inner), *averages]), None)


def _refuse_packed(content: Mapping[str, Any]) -> None:
    for key in _PACKED:
        if key in content:
            raise CheckpointError(
                f"{key}: its weights are packed by DiffQ, which is not supported: take the model that is not quantised "
                "(mdx for mdx_q, mdx_extra for mdx_extra_q)"
            )


def _drop_prefixes(tensors: dict[str, Any], taken: list[str]) -> dict[str, Any]:
    if "n_averaged" in tensors:
        tensors = {name: tensor for name, tensor in tensors.items() if name != "n_averaged"}
        taken.append("averaged weights")
    while tensors:
        prefix = next((start for start in _PREFIXES if all(name.startswith(start) for name in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        taken.append(f"names without {prefix}")
    raise CheckpointError("it holds no weights but a counter of averages")
