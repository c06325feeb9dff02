"""Published models by their names: shown, agreed to, fetched, and turned into a model folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sepkit.cache import cache_directory, model_place, writing_to_cache
from sepkit.disk import is_there, not_left_empty, writing
from sepkit.downloads import DownloadError, download
from sepkit.importing.model import import_model
from sepkit.locks import locked
from sepkit.model_folder import CARD, ModelError
from sepkit.plain import LARGEST, parse_yaml, read_text
from sepkit.registry import RegisteredModel, describe_entry, find_model_entry

_OF_DEMUCS, _OF_OPEN_UNMIX = "demucs", "openunmix"  # registries whose files belong together
_KNOWN: dict[str, dict[str, Any]] = {  # of a kind of file, what its network has and neither tensors nor config state
    "open-unmix": {"sample_rate": 44100, "n_hop": 1024, "segment": 6.0},
    "hdemucs (torchaudio keys)": {"samplerate": 44100, "nfft": 4096, "segment": 10},
    # Today's default where these configs come from; it was added later than most of them.
    **{kind: {"model.zero_dc": True} for kind in ("bs_roformer", "mel_band_roformer", "bs_roformer (PoPE)")},
}


def get_model(
    name: str,
    output: str | Path | None = None,
    *,
    overrides: Mapping[str, Any] | None = None,
    ask: Callable[[str], bool] | None = None,
    log: Callable[[str], Any] | None = None,
) -> Path:
    """Get a published model by its name, as a model folder.

    What its sources state is logged before anything is loaded. Files that were fetched are not fetched again.

    Args:
        name: of `sepkit.registry.list_models`.
        output: the model folder; None: in the cache, where `load_model` and the commands find it by its name.
        overrides: values by their dotted keys in the config, of what neither weights nor config state.
        ask: is asked once whether the model may be fetched as it was described; None: the call itself is the consent.
        log: gets each line about the model and what is done; None: nobody.

    Returns:
        The model folder.

    Raises:
        ValueError: there is no such model, its files cannot be read, something must be
            stated by `overrides`, or another process fetches it.
        sepkit.model_folder.ModelError: `output` is there already, and is no empty folder.
        sepkit.downloads.DownloadError: a file could not be had, or `ask` said no.
        sepkit.disk.OutputError: the disk refused.
    """
    model, log = find_model_entry(name), log or (lambda _line: None)
    folder = model_place(model.name) if output is None else Path(output)
    if output is not None and is_there(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise ModelError(f"{folder} is there already: give another --output, or remove it")
    if output is not None:
        _try_to_write(folder)
    if (folder / CARD).is_file() and not overrides:
        log(f"{model.name} was fetched before")
        return folder
    for line in describe_entry(model):
        log(line)
    if ask is not None and not ask(f"fetch {model.name}, as it is described above?"):
        raise DownloadError(f"{model.name} was not fetched, because the question was not answered with yes")
    place = cache_directory() / "downloads" / model.group
    with writing_to_cache():
        place.mkdir(parents=True, exist_ok=True)
    with locked(place, "wait until it is done", f"the download of {model.group}"):
        return _fetch(model, place / "files", folder, dict(overrides or {}), log)


def _try_to_write(folder: Path) -> None:
    """Write a file into a folder and remove it again, before anything is fetched for it."""
    with writing(folder, "give another --output"), not_left_empty(folder):
        probe = folder / ".sepkit-probe"
        probe.touch()
        probe.unlink()


def _fetch(
    model: RegisteredModel, place: Path, folder: Path, overrides: dict[str, Any], log: Callable[[str], Any]
) -> Path:
    for row in model.files:
        download(row.weights_url, place / row.file, row.sha256_start, row.size, log=log)
    config = None
    if model.config_url:
        config = place / model.config_file
        download(model.config_url, config, largest=LARGEST, log=log)
    weights, config, known = _choose_files(model, place, config)
    for key, value in known.items():
        if key not in overrides:
            log(f"set        {key}={_write(value)}, which its files do not state (--set {key}=VALUE for another)")
    return import_model(
        weights, config, folder, {**known, **overrides}, overwrite=True, card=_make_card(model), log=log
    )


def _choose_files(model: RegisteredModel, place: Path, config: Path | None) -> tuple[Path, Path | None, dict[str, Any]]:
    """Return which file or folder is imported, by which config, and what is known besides."""
    known, stated = dict(_KNOWN.get(model.architecture, {})), _read_config(config)
    if _OF_DEMUCS in model.listed_in:  # a config of theirs names the members of a bag
        if model.is_member:
            return place / model.file, None, {key: stated[key] for key in ("segment",) if key in stated}
        return config, None, {}
    if model.members:
        return place, None, known
    if config is None:
        known["sources"] = list(model.stems)
    known = {key: value for key, value in known.items() if not _is_stated(stated, key)}
    return place / model.file, config, known


def _write(value: Any) -> str:
    """Write a value as --set takes it."""
    return f"[{','.join(value)}]" if isinstance(value, list) else str(value).lower()


def _read_config(path: Path | None) -> Mapping[str, Any]:
    """Read a config, as far as it can be read; what is wrong with it is told where it is imported."""
    try:
        content = {} if path is None else parse_yaml(read_text(path), tuples=True)
    except ValueError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _is_stated(config: Any, key: str) -> bool:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config is not None


def _make_card(model: RegisteredModel) -> dict[str, Any]:
    """Return what the registry states, for the model card."""
    addresses = [model.config_url] * bool(model.members and model.config_url) or [
        row.weights_url for row in model.files
    ]
    card: dict[str, Any] = {
        "source": {"name": model.name, "address": ", ".join(addresses)},
        "licence": model.licence,
    }
    if model.score:
        card["score"] = {
            "stated": model.score,
            "metric": model.score_metric,
            "data set": model.score_dataset,
            "by": model.score_from,
        }
    return card
