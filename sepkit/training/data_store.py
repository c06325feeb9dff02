"""Decode songs into the store ahead of a training."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sepkit.datasets.catalogue import probe
from sepkit.datasets.layout import DatasetError
from sepkit.datasets.sources import find, set_aside
from sepkit.datasets.stems import Stem, StemFile
from sepkit.datasets.store import DecodedStore, build_store
from sepkit.datasets.store_plan import plan_stems, plan_store
from sepkit.disk import format_size
from sepkit.recipe import load_recipe
from sepkit.training.opening import open_data

_RECIPES = (".yaml", ".yml")


def store_data(
    source: str | Path,
    overrides: Sequence[str] = (),
    rate: int | None = None,
    limit: float | None = None,
    workers: int | None = None,
    progress: bool = True,
    log: Callable[[str], object] = print,
) -> int:
    """Decode the songs to train on of a folder or a recipe; what is there is left, so that it goes on where it was.

    Args:
        source: folder of songs, manifest, or recipe: name or path.
        overrides: `key.sub=value` each, applied to the recipe.
        rate: to which songs of a folder are converted, Hz; None: each file's own. A recipe has its own.
        limit: GB that the store may take; None: the recipe's, else $SEPKIT_STORE_LIMIT, else 50.
        workers: threads that decode; None: one a core.
        progress: show a bar.
        log: called with each line meant for the user.

    Returns:
        1 where a file does not decode, else 0.

    Raises:
        sepkit.recipe.RecipeError: the recipe has mistakes.
        sepkit.datasets.DatasetError: there are no songs, or they cannot be used.
        ValueError: an argument is out of range, or does not go with the source.
        sepkit.disk.OutputError: the disk is full.
    """
    for name, value in (("rate", rate), ("limit", limit), ("workers", workers)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}: leave it out for the default")
    store = _plan(str(source), overrides, rate, limit)
    if store is None:
        log("nothing to decode: all files are 16-bit WAV at the wanted rate, which is read in place")
        return 0
    built = build_store(store, workers, progress, lambda failures: [log(f"error      {line}") for line in failures])
    n_files = len(store.entries) + store.n_left_out
    log(f"stored     {built.n_files} of {n_files} files, {format_size(built.n_bytes)}, in {store.folder}")
    return int(bool(built.failures))


def _plan(source: str, overrides: Sequence[str], rate: int | None, limit: float | None) -> DecodedStore | None:
    """Decide what is stored of a folder or manifest, or for a recipe."""
    place = Path(source)
    is_recipe = place.suffix.lower() in _RECIPES or not (place.exists() or source == "demo" or len(place.parts) > 1)
    if not is_recipe:
        if overrides:
            raise ValueError(f"{overrides[0]} changes a recipe, and {source} is none: leave it out, or name a recipe")
        return plan_stems(_list_stems(source, rate), limit)
    recipe = load_recipe(source, overrides)
    if rate is not None:
        raise ValueError(f"a recipe has its own rate, {recipe.separator.sample_rate} Hz: leave {rate} out")
    return plan_store(open_data(recipe)["train"], limit or recipe.data.store_limit)


def _list_stems(source: str, rate: int | None) -> Iterator[Stem]:
    """List the files to train on of a set, each as a stem."""
    manifest = set_aside(find(source, required=False), 0.1, 0, ())
    catalogue = probe(manifest.with_rows(row for row in manifest.rows if row.split == "train"))
    if catalogue.findings:
        raise DatasetError(manifest.root, [str(finding) for finding in catalogue.findings])
    for row in catalogue.manifest.rows:
        info = catalogue.infos[row.sound]
        ends = [None if at is None else round(at * info.sample_rate) for at in (row.start, row.end)]
        yield Stem((StemFile(info, *ends),), rate or info.sample_rate, info.n_channels)
