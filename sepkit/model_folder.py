"""The folder that a trained separator lives in: `model.json` and `model.safetensors`."""

import hashlib
import inspect
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import safetensors
import torch
from safetensors.torch import load, load_file, save, save_file
from torch.overrides import TorchFunctionMode

from sepkit import __version__
from sepkit.arguments import check_path
from sepkit.cache import model_place
from sepkit.files import atomic_file, readable
from sepkit.generators import borrowed_generators
from sepkit.lending import WeightsFile, choose_lent, lend, stand_in
from sepkit.plain import parse_json, read_text
from sepkit.problems import show
from sepkit.registry import is_registered, suggest_name
from sepkit.separator import Separator

FORMAT = 1
CARD, WEIGHTS = "model.json", "model.safetensors"
DEFAULT = "default"  # name of the model that comes with the package
_MARK = "weights"  # key in the card and in the header of the weights, by which they know each other
_LONGEST_HEADER = 100_000_000  # bytes, of the format


class ModelError(ValueError):
    """A folder does not hold a separator that can be used."""


def save_model(separator: Separator, folder: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Write a separator down; a reader finds the old weights or the new ones, never half of them.

    Weights and card are two files, and hold the same hash: those of two different saves are refused by `load_model`.

    Args:
        separator: what is written.
        folder: created if need be.
        card: plain data about the training: data, licence, scores.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in separator.state_dict().items()}
    mark = hash_tensors(tensors)
    content = _describe(separator, card or {}, mark)
    with atomic_file(folder / CARD) as card_file, atomic_file(folder / WEIGHTS) as weights_file:
        card_file.write_text(content, encoding="utf-8")
        write_tensors(tensors, weights_file, {_MARK: mark})
        weights_file.chmod(card_file.stat().st_mode)  # safetensors keeps it from all other users


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write safetensors; what the disk refuses is an OSError, as everywhere.

    Args:
        tensors: by name, on the CPU and contiguous; they may share memory.
        path: the file.
        metadata: of its header.
    """
    tensors = _part(tensors)
    if readable(str(path)) != str(path):  # safetensors opens no other paths
        path.write_bytes(save(tensors, metadata))
        return
    try:
        save_file(tensors, path, metadata)
    except safetensors.SafetensorError as error:
        refusal = re.search(r"os error (\d+)", str(error))
        if refusal is None:
            raise
        raise OSError(int(refusal[1]), os.strerror(int(refusal[1])), str(path)) from error


def _part(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy tensors whose memory is also another's, which safetensors refuses."""
    places = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    return {
        name: tensor.clone() if places[tensor.untyped_storage().data_ptr()] > 1 else tensor
        for name, tensor in tensors.items()
    }


def write_card(separator: Separator, folder: str | Path, card: Mapping[str, Any]) -> None:
    """Write `model.json` for weights that are in the folder already."""
    weights = Path(folder) / WEIGHTS
    content = _describe(separator, card, _read_mark(weights) if weights.is_file() else None)
    with atomic_file(Path(folder) / CARD) as temporary:
        temporary.write_text(content, encoding="utf-8")


def _describe(separator: Separator, card: Mapping[str, Any], mark: str | None) -> str:
    content = {"format": FORMAT, "sepkit": __version__, "separator": separator.settings, **card, _MARK: mark}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def hash_tensors(tensors: Mapping[str, torch.Tensor], start: bytes = b"") -> str:
    """Hash names, types, shapes and values of tensors.

    Args:
        tensors: by name, on any device.
        start: what is hashed before them.
    """
    found = hashlib.sha256(start)
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(values.numpy())
    return found.hexdigest()


def _read_mark(weights: Path) -> str | None:
    """Read the hash in the header of weights; None: another program wrote them, or an older version."""
    with _naming_damage(weights), weights.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return parse_json(file.read(min(size, _LONGEST_HEADER)).decode()).get("__metadata__", {}).get(_MARK)


@contextmanager
def _naming_damage(weights: Path) -> Iterator[None]:
    """Turn what is raised on damaged weights into a sentence."""
    try:
        with _naming_refusal(weights):
            yield
    except ModelError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ModelError(f"{weights} is damaged ({show(str(error))}): copy it again") from error


@contextmanager
def _naming_refusal(path: Path) -> Iterator[None]:
    """Turn what the system refuses to read into a sentence."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}, check its permissions") from error


def default_place() -> Path:
    """Return the folder of the model that comes with the package."""
    return Path(__file__).with_name("data") / DEFAULT


def locate_model(name_or_folder: str | Path) -> Path:
    """Find the folder of a model: the one that is named, else the package's own, else a published one's.

    Args:
        name_or_folder: a folder, which comes first, "default", or a name of `sepkit-model list` that was fetched.

    Raises:
        ModelError: there is none, or the published model was not fetched.
    """
    check_path(name_or_folder, "model")
    folder = Path(name_or_folder)
    name = folder.as_posix()
    if (folder / CARD).is_file():
        return folder
    if name == DEFAULT:
        return default_place()
    if is_registered(name):
        place = model_place(name)
        if (place / CARD).is_file():
            return place
        if not folder.exists():
            raise ModelError(f"{name} is a published model that was not fetched: `sepkit-model get {name}` fetches it")
    if not folder.exists() and (nearest := suggest_name(name)):
        raise ModelError(
            f"{folder} is no model folder: {CARD} and {WEIGHTS} missing, give a training run's, or a published model's "
            f"name{nearest} `sepkit-model get NAME` fetches one"
        )
    return folder


def read_card(folder: str | Path) -> dict[str, Any]:
    """Read `model.json` of a folder.

    Raises:
        ModelError: the folder holds no separator, or one of a later format.
    """
    check_path(folder, "folder")
    folder = Path(folder)
    with _naming_refusal(folder):
        missing = [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder} is no model folder: {' and '.join(missing)} missing, give a training run's")
    try:
        with _naming_refusal(folder / CARD):
            card = parse_json(read_text(folder / CARD))
        if card["format"] > FORMAT:
            raise ModelError(f"{folder} has format {card['format']}, sepkit reads {FORMAT}: install a newer one")
        card["separator"]["sources"]
    except ModelError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CARD} is not a model card ({error!r}): train again, or copy it again") from error
    return card


def load_model(
    folder: str | Path, device: str | torch.device = "cpu", trust: bool = False, on_demand: bool = False
) -> Separator:
    """Load a trained separator, ready to separate.

    Only plain data and safetensors are read; nothing in the folder is executed.

    Args:
        folder: with `model.json` and `model.safetensors`, or the name of a published model that was fetched, or
            "default", the model that comes with the package.
        device: where it is put.
        trust: let the model card name classes outside this package, which are then imported.
        on_demand: leave weights that are only used now and then in the file, where they are many, and read them each
            time: RoFormers, most of whose weights make masks, take a quarter of the memory, and bags that of one
            member. They can then neither be trained nor saved, serve one thread, and the file stays open.

    Raises:
        ModelError: the folder does not hold a separator that can be used.
    """
    folder = locate_model(folder)
    card = read_card(folder)
    try:
        separator = build_separator(card["separator"], trust)
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError, AttributeError, MemoryError) as error:
        raise ModelError(f"{Path(folder) / CARD} describes no separator: {shorten(str(error), 300)}") from error
    give_some = _give_on_demand if on_demand else _give_all
    give_some(separator, folder)
    return separator.to(device).eval()


def _give_all(separator: Separator, folder: str | Path) -> None:
    give_weights(separator, _read_fitting(separator, folder))


def _give_on_demand(separator: Separator, folder: str | Path) -> None:
    """Load the weights of a separator, all but those that stay in the file."""
    survey_weights(folder)  # which refuses what is damaged
    path = Path(folder) / WEIGHTS
    with _naming_refusal(path):
        file = WeightsFile(path)
    own = separator.state_dict()
    lent = {name: stand_in(file, name, own[name]) for name in choose_lent(separator, file)}
    give_weights(separator, _read_fitting(separator, folder, lent))
    lend(separator, file, lent)


def build_separator(settings: Mapping[str, Any], trusted: bool = False) -> Separator:
    """Build a separator that `give_weights` is called on next.

    The weights of this package's classes take no memory until then. Those of others are drawn, because what they
    compute from them cannot be known.

    Args:
        settings: arguments of `Separator`.
        trusted: classes may be of other packages.
    """
    with borrowed_generators(torch.device("cpu")):
        if trusted:
            return Separator(**settings, trusted=True)
        with _Hollow():
            return Separator(**settings, trusted=False)


class _Hollow(TorchFunctionMode):
    """Let tensors that nothing is in yet, as weights are before they are drawn, have a shape alone."""

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        return func(*args, **({**kwargs, "device": "meta"} if func is torch.empty else kwargs))


def give_weights(separator: Separator, weights: Mapping[str, torch.Tensor]) -> None:
    """Make tensors the weights of a separator, in its precision; they are not copied where it is theirs.

    Args:
        separator: what gets them.
        weights: by the names of its state.
    """
    own = separator.state_dict()
    separator.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in weights.items()}, assign=True)


def load_weights(separator: Separator, folder: str | Path) -> None:
    """Load the weights of a model folder into a separator; the settings in the folder are ignored.

    Args:
        separator: what gets the weights.
        folder: with `model.json` and `model.safetensors`.

    Raises:
        ModelError: there are none, or their names or shapes are not the separator's, or the card is of other weights.
    """
    separator.load_state_dict(_read_fitting(separator, folder))


def _read_fitting(
    separator: Separator, folder: str | Path, lent: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """Read the weights of a model folder, which must be those of a separator, all but those that are given."""
    weights, path = {**read_weights(folder, lent or ()), **(lent or {})}, Path(folder) / WEIGHTS
    own, stored = (
        {name: (tensor.shape, tensor.is_complex(), tensor.is_floating_point()) for name, tensor in state.items()}
        for state in (separator.state_dict(), weights)
    )
    different = sorted(name for name in {**own, **stored} if own.get(name) != stored.get(name))
    if different:
        names = (name if name.isprintable() and len(name) < 100 else show(name) for name in different[:5])
        shown = ", ".join(names) + (f" and {len(different) - 5} more" if different[5:] else "")
        raise ModelError(f"{path} does not fit this separator: {shown} differ, give a model of the same settings")
    return weights


def read_weights(folder: str | Path, without: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """Read the weights of a model folder by name.

    Args:
        folder: with `model.json` and `model.safetensors`.
        without: names that are left out.

    Raises:
        ModelError: there are none, they are damaged, or the card is of other weights.
    """
    card, path = read_card(folder), Path(folder) / WEIGHTS
    mark = _read_mark(path)
    if mark is not None and card.get(_MARK) != mark:
        raise ModelError(
            f"{Path(folder) / CARD} and {WEIGHTS} are of two different saves, of which the second broke off: train on "
            "with the same command, or copy both again"
        )
    with _naming_damage(path):
        is_text = readable(str(path)) == str(path)  # safetensors opens no other paths
        weights = _load(path, without) if is_text else load(path.read_bytes())
        return {name: tensor for name, tensor in weights.items() if name not in without}


def _load(path: Path, without: Collection[str]) -> dict[str, torch.Tensor]:
    """Copy tensors out of a file, one by one: no result depends on where they lie in it, and nothing keeps it open."""
    options = {"backend": "pread"} if "backend" in inspect.signature(load_file).parameters else {}  # from 0.8 on
    with safetensors.safe_open(path, "pt", **options) as file:
        return {name: file.get_tensor(name).clone() for name in file.keys() if name not in without}  # noqa: SIM118


def survey_weights(folder: str | Path) -> tuple[str, dict[str, tuple[int, ...]]]:
    """Return the hash of the weights of a model folder, and their shapes by name.

    They are not loaded, unless another program wrote them, without their hash.

    Raises:
        ModelError: there are none, or they are damaged.
    """
    read_card(folder)
    path = Path(folder) / WEIGHTS
    mark = _read_mark(path)
    if mark is None or readable(str(path)) != str(path):
        weights = read_weights(folder)
        return mark or hash_tensors(weights), {name: tuple(tensor.shape) for name, tensor in weights.items()}
    with _naming_damage(path), safetensors.safe_open(path, "pt") as file:
        return mark, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
