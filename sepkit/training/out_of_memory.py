"""A device whose memory a step does not fit: told in one message; and the largest batch that fits, found by trying."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sepkit.devices import choose_device, peak_memory, total_memory
from sepkit.generators import borrowed_generators
from sepkit.joining import is_job
from sepkit.processes import end_if_spawned
from sepkit.recipe import Recipe, importable, load_recipe
from sepkit.training.determinism import deterministic_algorithms
from sepkit.training.memory import estimate_memory, share_of
from sepkit.training.opening import open_data
from sepkit.training.signals import TrainingError
from sepkit.training.stepping import judge, move

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer

_GB = 2**30  # bytes
_TYPES = ("cuda",)  # of devices whose full memory is an error that can be caught
_SIGNS = ("out of memory", "ALLOC_FAILED")  # in errors of CUDA's libraries and of other devices, which have no class
_N_STEPS = 2  # the first of which makes the optimizer's values


@contextmanager
def telling_memory(trainer: "Trainer") -> Iterator[None]:
    """Turn what a device without memory raises into a sentence with the batch, what it needs, and what to change.

    Raises:
        TrainingError: a step, or a validation, needs more memory than there is.
    """
    try:
        yield
    except RuntimeError as error:
        if not _tells_of_memory(error):
            raise
        way_on = f"; {trainer.folder.way_on()}" if trainer.folder and trainer.step else ""
        raise TrainingError(describe_lack(trainer.recipe, trainer.device, trainer.processes.world) + way_on) from error


def _tells_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in _SIGNS)


def describe_lack(recipe: Recipe, device: torch.device, world: int = 1) -> str:
    """Describe that a step does not fit into the memory of a device, and three things that change it.

    Args:
        recipe: which is trained.
        device: of this process.
        world: processes that share each batch.
    """
    training, segment = recipe.training, recipe.separator.segment
    size = training.batch_size // training.accumulate
    total = total_memory(device)
    has = f", which has {total / _GB:.1f} GB" if total is not None else ""
    parts = f" in {training.accumulate} parts of {size}" if training.accumulate > 1 else ""
    shared = f", which {world} processes share," if world > 1 else ""
    remedies = ", ".join(_list_remedies(recipe, world)[:3])
    return (
        f"out of memory on {device}{has}: a batch of {training.batch_size} segments of {segment:g} s{parts}{shared} "
        f"needs {_describe_need(recipe, world)}: {remedies}; or see what fits by sepkit-train --find-batch"
    )


def _describe_need(recipe: Recipe, world: int) -> str:
    if world > 1 and recipe.training.sharding:
        return "more than that"
    try:
        low, high = (each / _GB for each in estimate_memory(share_of(recipe, world)))
    except Exception:  # whatever a network from elsewhere does with tensors that have no values
        return "more than that"
    return f"{low:.1f} to {high:.1f} GB{' in each' if world > 1 else ''}, as estimated"


def _list_remedies(recipe: Recipe, world: int) -> list[str]:
    """List what needs less memory and is not in the recipe yet, what changes the result least first."""
    training, segment = recipe.training, recipe.separator.segment
    size = training.batch_size
    share = -(-size // training.accumulate // world)  # at a time
    more = next((n for n in range(training.accumulate + 1, size + 1) if size % (n * world) == 0), 0)
    validated = recipe.validation.batch_size or share
    validate_fewer = ["set validation.batch_size=1"] if validated > 1 else []
    return [
        *(validate_fewer if validated > share else []),
        *([f"set training.accumulate={more} (parts of {size // more})"] if more else []),
        *(["set training.recompute=true"] if not training.recompute else []),
        *(["set training.precision=bfloat16"] if training.precision not in ("auto", "bfloat16", "float16") else []),
        f"set separator.segment={segment / 2:g}",
        *(validate_fewer if validated <= share else []),
        "take a smaller network",
    ]


class Fit(NamedTuple):
    """The largest batch that fits.

    Attributes:
        n_items: segments that a step computes at a time; 0: not even one fits.
        peak: bytes that they take; None where it is not known.
        limited: whether more might fit: an epoch has no more.
    """

    n_items: int
    peak: int | None
    limited: bool


def find_batch(
    recipe: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    data: str | Path | None = None,
    initial: str | Path | None = None,
    trust: bool = False,
    device: str = "auto",
    log: Callable[[str], object] = str,
) -> Fit:
    """Find the largest batch of a recipe whose steps fit into the memory of a GPU, by steps on noise.

    Batches are doubled until one does not fit, then halved in between: as many steps as the number has digits, twice.
    Nothing is written, and no song is read.

    Args:
        recipe: name of an installed recipe, path of a YAML file, or the mapping itself.
        overrides: `key.sub=value` each, applied to the recipe.
        data: takes the place of the recipe's `data.root`.
        initial: a model to start from, its folder or name, in place of the recipe's `separator.from`.
        trust: let that model name classes from outside this package.
        device: "auto" or "cuda".
        log: called with a line on each batch that is tried, and with the settings that fit.

    Raises:
        ValueError: the device is no GPU whose memory ends with an error, or torchrun started several processes.
        sepkit.recipe.RecipeError: the recipe has mistakes.
        sepkit.datasets.DatasetError: the data cannot be used.
        TrainingError: not even one segment fits.
    """
    end_if_spawned()
    if is_job():
        raise ValueError(
            "--find-batch tries what one GPU holds: start it without torchrun; n processes hold n times as many"
        )
    chosen = choose_device(device)
    if chosen.type not in _TYPES:
        raise ValueError(f"--find-batch needs a GPU with CUDA, got {chosen}: set training.batch_size by hand")
    unread = ["data.sampling.activity=null", "data.variants=[]", "data.store=off"]
    checked = load_recipe(recipe, [*overrides, *unread], data, initial, trust)
    repeating = deterministic_algorithms(chosen, checked.training.deterministic)
    with importable(checked.path.parent if checked.path else None), borrowed_generators(chosen), repeating:
        from sepkit.training.loop import Trainer  # which tells of lacking memory by this module

        trainer = Trainer(checked, open_data(checked), chosen)
        most, peaks = len(trainer.dataset), {}
        n_items = find_largest(lambda size: _try(trainer, size, peaks, log), most)
    if not n_items:
        raise TrainingError(describe_lack(checked, chosen))
    fit = Fit(n_items, peaks[n_items], n_items == most)
    log(_advise(checked, fit))
    return fit


def find_largest(fits: Callable[[int], bool], most: int) -> int:
    """Find the largest number that fits: doubled until one does not, then halved in between; 0: not even 1.

    Args:
        fits: called with a number; what fits is smaller than what does not.
        most: the largest that is tried, >= 1.
    """
    good, bad, size = 0, most + 1, 1
    while good + 1 < bad:
        if fits(size):
            good = size
        else:
            bad = size
        size = min(2 * good, most) if bad > most else (good + bad) // 2
    return good


def _try(trainer: "Trainer", n_items: int, peaks: dict[int, int | None], log: Callable[[str], object]) -> bool:
    """Take steps on a batch, and return whether it fits; if so, keep what it took."""
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    try:
        for _ in range(_N_STEPS):
            _take_step(trainer, n_items)
        fits, peaks[n_items] = True, peak_memory(trainer.device)
    except RuntimeError as error:
        if not _tells_of_memory(error):
            raise
        fits = False
    trainer.optimizer.zero_grad(set_to_none=True)
    gc.collect()  # what failed holds tensors until then
    if trainer.device.type == "cuda":
        torch.cuda.empty_cache()
    log(f"batch of {n_items}: {'fits' if fits else 'does not fit'}")
    return fits


def _take_step(trainer: "Trainer", n_items: int) -> None:
    """Compute what a step does, on noise."""
    separator, device = trainer.separator, trainer.device
    shape = (separator.n_channels, round(separator.segment * separator.sample_rate))
    targets = 0.1 * torch.randn(n_items, len(separator.sources), *shape, device=device, dtype=trainer.dtype)
    trainer.optimizer.zero_grad(set_to_none=True)
    loss = trainer.objective.loss(judge(trainer, targets.sum(1), targets))
    del targets
    trainer.scaler.scale(loss).backward()
    move(trainer, loss.detach())
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _advise(recipe: Recipe, fit: Fit) -> str:
    """Write the settings that fit: the largest batch, and the recipe's own in as few parts as possible."""
    peak = f", {fit.peak / _GB:.1f} GB" if fit.peak else ""
    largest = f"training.batch_size={fit.n_items} training.accumulate=1 fits{peak}"
    if fit.limited:
        largest += ", as many as an epoch has examples (data.items_per_epoch)"
    batch_size = recipe.training.batch_size
    n_parts = next(n for n in range(1, batch_size + 1) if batch_size % n == 0 and batch_size // n <= fit.n_items)
    return f"{largest}; the recipe's own batch of {batch_size}: training.accumulate={n_parts}"
