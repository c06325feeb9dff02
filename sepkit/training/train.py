"""The entry points: `train` and `dry_run`."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sepkit.devices import available_cores, peak_memory
from sepkit.generators import borrowed_generators
from sepkit.joining import has_begun, joined, mark_begun
from sepkit.model_folder import WEIGHTS
from sepkit.processes import Processes, end_if_spawned
from sepkit.recipe import Recipe, importable, load_recipe
from sepkit.report import Stopwatch
from sepkit.terminal import hiding_bars
from sepkit.training import afterwards
from sepkit.training.determinism import deterministic_algorithms
from sepkit.training.exchange import list_batch_statistics, share_state, share_weights
from sepkit.training.horizon import move_horizon, reason_to_stop
from sepkit.training.loading import loading, make_loader
from sepkit.training.loop import Trainer
from sepkit.training.memory import tell_memory
from sepkit.training.opening import open_data
from sepkit.training.out_of_memory import telling_memory
from sepkit.training.run_folder import RunFolder
from sepkit.training.sharding import check_sharding, shard_training
from sepkit.training.signals import StopRequest, TrainingError, TrainingInterrupted
from sepkit.training.weights import describe_weights, load_base

_FIT_ITEMS = 128  # examples from which a network may measure statistics before the first step
_LOADING = 2  # cores that computing on the CPU leaves


def train(
    recipe: str | Path | Mapping[str, Any],
    run: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    data: str | Path | None = None,
    restart: bool = False,
    initial: str | Path | None = None,
    trust: bool = False,
    device: str = "auto",
    observers: Sequence[object] = (),
    quiet: bool = False,
    verbose: bool = False,
    log: Callable[[str], object] = print,
) -> Path:
    """Train a separator, or go on with an unfinished training of the same recipe.

    Args:
        recipe: name of an installed recipe, path of a YAML file, or the mapping itself.
        run: the run folder; None: `runs/<recipe name>`.
        overrides: `key.sub=value` each, applied to the recipe.
        data: takes the place of the recipe's `data.root`.
        restart: start anew, and remove an earlier training from the folder once everything else is in order.
        initial: a model to start from, its folder or name, in place of the recipe's `separator.from`.
        trust: let that model name classes from outside this package.
        device: "auto", "cpu", "cuda" or "mps".
        observers: called during the training, see `sepkit.observers`, in addition to those of the recipe.
        quiet: show no progress bar.
        verbose: log more of each epoch: the terms of the loss, the rate, the gradient's norm, the memory.
        log: called with each line meant for the user, in the first of several processes.

    Returns:
        The run folder, with `model.json` and `model.safetensors` of the best epoch and, at the end, `report.html`.

    Raises:
        sepkit.recipe.RecipeError: the recipe has mistakes.
        sepkit.datasets.DatasetError: the data cannot be used.
        sepkit.model_folder.ModelError: the initial weights do not fit.
        sepkit.audio.AudioError: a song does not decode.
        ValueError: the folder holds another training, or another process trains in it.
        sepkit.disk.OutputError: the folder cannot be written to.
        TrainingError: the training cannot go on.
        TrainingInterrupted: a signal stopped it; the state was saved.
        sepkit.processes.LostProcessError: of several processes that torchrun started, another one has ended.
    """
    end_if_spawned()
    with joined(device) as (processes, chosen):
        log = _ignore_closed_output(log if processes.is_main else str)
        checked = load_recipe(recipe, overrides, data, initial, trust)
        place = Path(run or Path("runs") / checked.name)
        folder = RunFolder(place, checked, restart and not has_begun()) if processes.is_main else None
        with ExitStack() as stack:
            former = stack.enter_context(folder.held()) if folder else None
            stack.enter_context(importable(checked.path.parent if checked.path else None))
            stack.enter_context(borrowed_generators(chosen))
            stack.enter_context(hiding_bars(quiet))
            stack.enter_context(deterministic_algorithms(chosen, checked.training.deterministic))
            watch = Stopwatch()
            trainer = _open_training(checked, folder, chosen, processes, observers, verbose, log)
            if trainer is None:
                return place
            if former is not None:
                log(f"{place} was held by process {former.pid} on {former.host}, which is gone: taken over")
            _run(trainer, quiet)
            if folder:
                afterwards.write_report(trainer, folder.path, watch)
                _tell_end(trainer, folder.path, log)
        return place


def _open_training(
    recipe: Recipe,
    folder: RunFolder | None,
    device: torch.device,
    processes: Processes,
    observers: Sequence[object],
    verbose: bool,
    log: Callable[[str], object],
) -> Trainer | None:
    """Start a training, or go on with the one in the folder, which the main process has; None: it is finished."""
    state = share_state(processes, folder.load() if folder else None)
    for reason in folder.checkpoints.damaged.values() if folder else ():
        log(f"{reason}: the one before is used, {folder.checkpoints.newest}")
    if state and (reason := reason_to_stop(state, recipe)):
        if folder:
            log(f"{folder.path} is finished ({reason}): nothing to do; --restart trains anew")
            afterwards.write_missing(folder, state, device)
        return None
    sets: list[str] = []
    with processes.first_here():  # what is found in the songs is remembered
        trainer = Trainer(recipe, open_data(recipe, sets.append), device, folder, log, observers, verbose, processes)
    check_sharding(trainer)
    if state:
        _go_on(trainer, state)
    else:
        start(trainer)
        if folder:
            folder.begin()
            mark_begun()
    log("\n".join([describe(trainer), *sets]))
    if line := shard_training(trainer):
        log(line)
    if processes.world > 1 and (parts := list_batch_statistics(trainer.separator)):
        warnings.warn(
            f"{parts[0]}{' and others measure' if parts[1:] else ' measures'} over the items of a batch, of which each "
            f"process has its share: {processes.world} processes train otherwise than one",
            stacklevel=3,
        )
    return trainer


def _go_on(trainer: Trainer, state: Mapping[str, Any]) -> None:
    """Restore a training, and tell where it goes on."""
    if trainer.folder:
        trainer.checkpointer.refuse_others(state, trainer.folder.moved)
    trainer.checkpointer.load_state(state)
    moved = move_horizon(trainer)
    if not trainer.folder:
        return
    folder = trainer.folder
    folder.go_on()
    if trainer.guard.in_row:
        trainer.last_good = None
    repeated = describe_repeated(folder.steps.read() - trainer.step)
    trainer.log(f"going on in {folder.path} at epoch {trainer.epoch + 1}, step {trainer.step}, {repeated}")
    if moved:
        trainer.log(moved)


def _run(trainer: Trainer, quiet: bool) -> None:
    """Train, and draw the curves.

    Raises:
        TrainingInterrupted: a signal stopped it.
    """
    with StopRequest() as stop, _cores_for_loading(trainer), loading(trainer), telling_memory(trainer):
        trainer.run(stop, quiet)
    if trainer.history and trainer.folder:
        afterwards.draw_curves(trainer.folder, trainer.history)
    if stop.requested and not trainer.finished:
        trainer.processes.wait()  # none ends while another one still hears from it
        raise TrainingInterrupted(stop.requested)


def _tell_end(trainer: Trainer, folder: Path, log: Callable[[str], object]) -> None:
    """Show in the log how a finished training ended.

    Raises:
        TrainingError: its model is gone.
    """
    if not (folder / WEIGHTS).is_file():
        raise TrainingError(f"{folder} was removed while it was trained, and the model with it: train again")
    best = trainer.best
    gained = describe_gain(best["SDR"], trainer.base_scores.get("SDR"))
    log(f"finished {trainer.finished}; the best was epoch {best['epoch']} with {best['SDR']:.2f} dB SDR{gained}")


def describe_gain(score: float, base_score: float | None) -> str:
    """Describe what a score, dB, is above or below that of the base; nothing where there is none."""
    if base_score is None:
        return ""
    gain = score - base_score
    relation = "above" if gain >= 0 else "below"
    return f", {abs(gain):.2f} dB {relation} that of the model it began as"


def describe_repeated(n_steps: int) -> str:
    """Describe how many steps are taken again, since they came after the checkpoint that is gone on from."""
    if n_steps <= 0:
        return "no step is repeated"
    return "1 step is repeated" if n_steps == 1 else f"{n_steps} steps are repeated"


def _ignore_closed_output(log: Callable[[str], object]) -> Callable[[str], None]:
    """Drop lines whose terminal or pipe is closed, so that the training goes on."""

    def log_if_open(line: str) -> None:
        with suppress(OSError):
            log(line)

    return log_if_open


@contextmanager
def _cores_for_loading(trainer: Trainer) -> Iterator[None]:
    """Compute on all cores but two, on which examples are loaded, unless OMP_NUM_THREADS sets their number.

    Threads that wait for a core which a loading process has spin, and cost more than they bring. How many processes
    load does not matter, so that it does not decide how sums are rounded.
    """
    former = torch.get_num_threads()
    if trainer.device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, trainer.processes.share(available_cores()) - _LOADING))
    try:
        yield
    finally:
        torch.set_num_threads(former)


def start(trainer: Trainer) -> None:
    """Load the weights of the base, or fit the network's statistics to the first examples, if it has any.

    Raises:
        sepkit.model_folder.ModelError: the weights are damaged.
    """
    separator = trainer.separator
    if trainer.inheritance is not None:
        load_base(separator, trainer.recipe.base, trainer.inheritance)
    elif separator.facts.has_fit and trainer.processes.is_main:
        n_items = min(_FIT_ITEMS, len(trainer.dataset))
        mixtures = (trainer.dataset[i][0][None].to(trainer.device, trainer.dtype) for i in range(n_items))
        with torch.no_grad():
            separator.network.fit(separator.spectrogram(separator.normalized(mixture)) for mixture in mixtures)
    share_weights(trainer.processes, separator, trainer.objective)
    if trainer.ema:
        trainer.ema.reset()


def describe(trainer: Trainer) -> str:
    """Describe in a few lines what is trained on what."""
    songs, separator = trainer.dataset.songs, trainer.separator
    minutes = sum(song.n_samples for song in songs) / separator.sample_rate / 60
    terms = {term.name: term.loss.parameters() for term in trainer.objective.terms}
    counts = {name: sum(p.numel() for p in parameters if p.requires_grad) for name, parameters in terms.items()}
    learned = ", ".join(f"{count} of {name}" for name, count in counts.items() if count)
    learned = learned and f"parameters of losses, which are trained with the network: {learned}\n"
    network = getattr(separator.network, "wrapped", separator.network)
    n_values = sum(p.numel() for p in separator.network.parameters())
    together = f", by {trainer.processes.world} processes" if trainer.processes.world > 1 else ""
    weights = "".join(f"{line}\n" for line in describe_weights(separator, trainer.recipe, trainer.inheritance))
    return (
        f"{type(network).__name__} with {n_values / 1e6:.2f} M parameters for "
        f"{', '.join(separator.sources)}, on {trainer.device} in {str(trainer.precision).removeprefix('torch.')}"
        f"{together}\n"
        f"{weights}{learned}"
        f"{len(songs)} songs of {minutes:.0f} minutes in all, {len(trainer.valid_songs)} to validate on; "
        f"{trainer.recipe.training.epochs} epochs of {trainer.steps_per_epoch} steps"
        + "".join(f"\n{line}" for line in trainer.dataset.planner.sampling.describe())
    )


@dataclass(frozen=True)
class DryRun:
    """What one step of a recipe needs, of each process where several train.

    Attributes:
        description: what would be trained on what.
        loss: of the first batch.
        n_parameters: trainable values.
        shapes: of the tensors that flow, by name.
        peak_memory: bytes, of the device on CUDA, else of the process; None where it is not known.
        needed: bytes of a GPU that a step takes, from and to, as `sepkit.training.memory` estimates them; None where it
            cannot.
    """

    description: str
    loss: float
    n_parameters: int
    shapes: dict[str, tuple[int, ...]]
    peak_memory: int | None
    needed: tuple[int, int] | None


def dry_run(
    recipe: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    data: str | Path | None = None,
    initial: str | Path | None = None,
    trust: bool = False,
    device: str = "auto",
    log: Callable[[str], object] = str,
) -> DryRun:
    """Build everything that a recipe names, do one step, and write nothing.

    Args:
        recipe: name of an installed recipe, path of a YAML file, or the mapping itself.
        overrides: `key.sub=value` each, applied to the recipe.
        data: takes the place of the recipe's `data.root`.
        initial: a model to start from, its folder or name, in place of the recipe's `separator.from`.
        trust: let that model name classes from outside this package.
        device: "auto", "cpu", "cuda" or "mps".
        log: called before the step with lines on what is trained, and on the memory that a GPU needs for it, in the
            first of several processes.

    Raises:
        sepkit.recipe.RecipeError: the recipe has mistakes.
        sepkit.datasets.DatasetError: the data cannot be used.
        TrainingError: a step needs more memory than there is.
    """
    end_if_spawned()
    with joined(device) as (processes, chosen):
        log = log if processes.is_main else str
        checked = load_recipe(recipe, overrides, data, initial, trust)
        repeating = deterministic_algorithms(chosen, checked.training.deterministic)
        with importable(checked.path.parent if checked.path else None), borrowed_generators(chosen), repeating:
            trainer = _open_trial(checked, chosen, processes, log)
            needed = tell_memory(checked, chosen, log, processes.world)
            start(trainer)
            shard_training(trainer)
            with loading(trainer), telling_memory(trainer), closing(make_loader(trainer)) as loader:
                trainer.take_step(loader.batches(0))
        return _tell_trial(trainer, needed)


def _open_trial(recipe: Recipe, device: torch.device, processes: Processes, log: Callable[[str], object]) -> Trainer:
    """Build a training that writes nothing."""
    sets: list[str] = []
    with processes.first_here():
        trainer = Trainer(recipe, open_data(recipe, sets.append), device, processes=processes)
    check_sharding(trainer)
    log("\n".join([describe(trainer), *sets]))
    return trainer


def _tell_trial(trainer: Trainer, needed: tuple[int, int] | None) -> DryRun:
    """Return what a step of a training took."""
    mixture, targets = trainer.dataset[0]
    spectrogram = trainer.separator.spectrogram(mixture[None].to(trainer.device, trainer.dtype))
    batch = trainer.sampler.count_own(min(trainer.sampler.batch_size, len(trainer.dataset)))
    return DryRun(
        describe(trainer),
        trainer.totals.means()["loss"],
        trainer.separator.n_parameters,
        {
            "stems": (batch, len(trainer.dataset.stems), *mixture.shape),
            "mixture": (batch, *mixture.shape),
            "targets": (batch, *targets.shape),
            "spectrogram": (batch, *spectrogram.shape[1:]),
        },
        peak_memory(trainer.device),
        needed,
    )
