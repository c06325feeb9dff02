"""Models of other packages -> a Separator's settings and state, or a model folder; nothing in a file is run."""

import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sepkit.arguments import check_path
from sepkit.bag import join_states
from sepkit.disk import is_there, not_left_empty, writing
from sepkit.importing import open_unmix
from sepkit.importing._bags import make_bag, read_bag
from sepkit.importing._config import stated
from sepkit.importing._families import (
    MOST_CHUNKS,
    Family,
    drop_common,
    find_family,
    flatten_demucs,
    name_residual,
    read_settings,
    refuse_other_family,
)
from sepkit.importing._given import ask, check_numbers, check_read, check_settings, put, read_config, read_numbers
from sepkit.importing._materials import Material, hash_file, merge, read_file, read_folder
from sepkit.importing._pickles import CheckpointError, printable
from sepkit.importing._splifft import is_splifft, translate
from sepkit.model_folder import CARD, WEIGHTS, build_separator, give_weights, save_model
from sepkit.problems import show
from sepkit.separator import Separator

_TEXTS = {".yaml", ".yml", ".json"}


class Imported(NamedTuple):
    """A model of another package.

    Attributes:
        settings: arguments of `sepkit.separator.Separator`.
        state: its weights.
        card: what is known of its origin: `source`, `licence`, `score`.
    """

    settings: dict[str, Any]
    state: dict[str, Tensor]
    card: dict[str, Any]


def read_model(
    weights: str | Path, config: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Imported:
    """Read weights of another package, and what is stated beside them.

    Args:
        weights: a file of weights; the yaml of a bag of Demucs, with its models beside it; or a folder of Open-Unmix.
        config: YAML or JSON that came with the weights.
        overrides: values by their dotted keys in the config, of what it lacks or states wrongly; `weights`: where
            those that are wanted are in a file of several, a key or what their names begin with.

    Raises:
        ValueError: a file cannot be read safely, something is missing, files contradict each other, or the network is
            of a kind that is not supported.
    """
    check_path(weights, "weights")
    if not str(weights):
        raise CheckpointError("weights must be a file or a folder, got no name")
    path, given = Path(weights), {} if config is None else read_config(Path(config))
    _refuse_own(path)
    given, overrides = read_numbers(given), read_numbers(dict(overrides or {}))
    if os.path.isdir(path):  # False for names that cannot be
        imported = _assemble(read_folder(path), given, overrides)
    elif path.suffix.lower() in _TEXTS:
        if config is not None:
            raise CheckpointError(f"{path} is a bag of Demucs or a config, beside which --config has no place")
        imported = _read_bag(path, overrides)
    else:
        others = {key: value for key, value in overrides.items() if key != "weights"}
        imported = _assemble(read_file(path, _read_choice(overrides)), given, others)
    if config is not None:
        imported.card["source"]["config"] = {"file": Path(config).name, "sha256": hash_file(Path(config))}
    if overrides:
        imported.card["source"]["set"] = deepcopy(overrides)
    return imported


def _read_choice(overrides: Mapping[str, Any]) -> str | None:
    """Return where the weights that are wanted are in their file."""
    chosen = overrides.get("weights")
    if "weights" in overrides and (not isinstance(chosen, str) or not chosen):
        raise CheckpointError(f"weights must be a name, as in --set weights=ema_model, got {show(chosen)}")
    return chosen


def import_model(
    weights: str | Path,
    config: str | Path | None = None,
    output: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    card: Mapping[str, Any] | None = None,
    log: Callable[[str], None] | None = None,
) -> Path:
    """Turn weights of another package into a model folder.

    Args:
        weights: a file of weights; the yaml of a bag of Demucs, with its models beside it; or a folder of Open-Unmix.
        config: YAML or JSON that came with the weights.
        output: the folder; None: named after the weights, here.
        overrides: values by their dotted keys in the config, of what it lacks or states wrongly.
        overwrite: replace a model that is there.
        card: what else is known: `licence`, `score`, and `source` with `address`, which are written as they are.
        log: is called with each line about what is done.

    Returns:
        The folder.

    Raises:
        ValueError: the folder is there, or `read_model` refuses.
        sepkit.disk.OutputError: the folder cannot be written to.
    """
    check_path(weights, "weights")
    log = log or (lambda _line: None)
    folder = Path(Path(weights).resolve().stem if output is None else output)
    _check_folder(folder, overwrite)
    log(printable(f"reading    {weights}"))
    separator, known = _build(read_model(weights, config, overrides), log)
    stated = dict(card or {})
    source = {**known["source"], **stated.pop("source", {})}
    _check_folder(folder, overwrite)  # which another process may have written meanwhile
    log(printable(f"writing    {folder}"))
    with writing(folder, "give another folder by --output"), not_left_empty(folder):
        save_model(separator, folder, {**known, **stated, "source": source})
    return folder


def _refuse_own(path: Path) -> None:
    """Refuse a model folder of this package, and what is in it."""
    folder = path if os.path.isdir(path) else path.parent
    if os.path.isfile(folder / CARD) and (folder == path or path.name in (CARD, WEIGHTS)):
        raise CheckpointError(f"{folder} is a model folder of sepkit already: use it as it is")


def _build(imported: Imported, log: Callable[[str], None]) -> tuple[Separator, dict[str, Any]]:
    """Build the separator, whose weights are those that were read, not copies; return it and the card."""
    for line in _describe(imported):
        log(line)
    separator = build_separator(imported.settings)
    give_weights(separator, imported.state)
    return separator, imported.card


def _check_folder(folder: Path, overwrite: bool) -> None:
    if not is_there(folder):
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / CARD).is_file()):
        raise CheckpointError(f"{folder} is there and is no model folder: give another by --output")
    if (folder / "training").exists():
        raise CheckpointError(f"{folder} is a training run, which nothing replaces: give another folder by --output")
    if (folder / CARD).is_file() and not overwrite:
        raise CheckpointError(f"{folder} holds a model already: give another folder by --output, or --overwrite")


def _assemble(material: Material, given: Mapping[str, Any], overrides: Mapping[str, Any]) -> Imported:
    """Build settings, state and card of one network."""
    try:
        given, translated = translate(given) if is_splifft(given) else (given, [])
        tensors, dropped = drop_common(material.tensors)
        if dropped:
            material = material._replace(tensors=tensors, taken=[*material.taken, f"names without {dropped}"])
        family = find_family(material.tensors)
        refuse_other_family(family, given)
        config, taken = _join(family, material, given)
        for key, value in overrides.items():
            put(config, key, value)
        check_numbers(config)
        read: set[str] = set()
        settings = ask(read_settings(family, material.tensors, material.class_name), config, read)
        check_read(config, read, overrides, family.unused)
        settings |= name_residual(config, settings["sources"])
        check_settings(settings, read)
        taken += _limited(config)
        state = family.module.convert(material.tensors, settings)
    except CheckpointError:
        raise
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RuntimeError) as error:
        names = ", ".join(file["file"] for file in material.files[:4])
        raise CheckpointError(f"{names}: {_explain(error)}") from error
    source = {**_name_files(material.files), "taken": [*material.taken, *translated, *taken]}
    if "address" in material.stated:
        source["address"] = material.stated["address"]
    licence = material.stated.get("licence", "not stated")
    return Imported(settings, state, {"source": source, "licence": licence, "score": "not stated"})


def _limited(config: Mapping[str, Any]) -> list[str]:
    """Return a line where a config asks for more overlap than there is."""
    n_chunks = stated(config, "inference.num_overlap")
    if type(n_chunks) not in (int, float) or n_chunks <= MOST_CHUNKS:
        return []
    return [f"overlap {1 - 1 / MOST_CHUNKS}, the most, for num_overlap {n_chunks}"]


def _explain(error: Exception) -> str:
    if isinstance(error, ValueError):
        return str(error)
    return f"a value of the config has not the form that it must have ({type(error).__name__}: {str(error)[:200]})"


def _name_files(files: list[dict[str, str]]) -> dict[str, Any]:
    return dict(files[0]) if len(files) == 1 else {"files": files}


def _join(family: Family, material: Material, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Join what the files state, and list what is taken as the original's code always takes it."""
    is_package = material.class_name is not None and isinstance(given.get("model"), str)
    if is_package:  # of Demucs, with a config of the community, which states the arguments again
        arguments = dict(flatten_demucs(given, material.tensors))
        own = {name: value for name, value in material.config.items() if name not in ("segment", "use_train_segment")}
        merge(own, {name: value for name, value in arguments.items() if name in own})
        return deepcopy(dict(given)), ["arguments of the config, in place of the package's"]
    config, taken = deepcopy(merge(material.config, given)), []
    n_targets = len({name.split(".")[1] for name in material.tensors if name.startswith("target_models.")})
    if family.module is open_unmix and n_targets > 1 and config.get("niter") is None:
        config["niter"] = 1
        taken.append("niter 1, as openunmix loads its models")
    return config, taken


def _read_bag(path: Path, overrides: Mapping[str, Any]) -> Imported:
    """Build settings, state and card of a bag of Demucs."""
    bag = read_bag(path, read_config(path))
    members = [_assemble(read_file(member), {}, overrides) for member in bag.members]
    try:
        settings, used = make_bag(bag, [member.settings for member in members])
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    left_out = [f"{bag.members[number].name} has weight 0" for number in range(len(members)) if number not in used]
    taken = [f"bag of {len(used)}", *members[used[0]].card["source"]["taken"], *left_out]
    files = [members[number].card["source"] for number in used]
    card = {
        **members[used[0]].card,
        "source": {"file": path.name, "sha256": hash_file(path), "taken": taken, "files": files},
    }
    if len(used) == 1:
        return Imported(settings, members[used[0]].state, card)
    return Imported(settings, join_states([members[number].state for number in used]), card)


def _describe(imported: Imported) -> list[str]:
    """Return lines about what was read."""
    source, settings = imported.card["source"], imported.settings
    files = source.get("files", [source])
    lines = [f"file       {file['file']}, sha256 {file['sha256'][:16]}.." for file in files]
    if source["taken"]:
        lines.append(f"taken      {'; '.join(source['taken'])}")
    lines.append(f"network    {settings['network']['class'].rpartition('.')[2]}: {', '.join(settings['sources'])}")
    lines.append(f"licence    {imported.card['licence']}")
    return [printable(line) for line in lines]
