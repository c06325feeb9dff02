"""The loop: epochs of steps, validation, and what is written after each."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from sepkit.datasets import EpochSampler, Song
from sepkit.datasets.loader import Batch, Loader
from sepkit.devices import choose_precision, peak_memory
from sepkit.excerpts import Excerpt
from sepkit.generators import seed_generators
from sepkit.instantiate import instantiate
from sepkit.objective import Objective
from sepkit.processes import Processes
from sepkit.recipe import Recipe
from sepkit.separator import Separator
from sepkit.training.best_models import save_models
from sepkit.training.checkpointer import Attributes, Checkpointer, Generators, check_readable
from sepkit.training.console import EpochTable, term_columns
from sepkit.training.examples import Drawing, make_dataset
from sepkit.training.exchange import share_buffers
from sepkit.training.loading import make_loader
from sepkit.training.observer_list import ObserverList
from sepkit.training.optimizers import make_optimizer, try_optimizer
from sepkit.training.recomputation import recompute_blocks
from sepkit.training.run_folder import RunFolder
from sepkit.training.scoring import score_training
from sepkit.training.signals import StopRequest
from sepkit.training.step_guard import StepGuard
from sepkit.training.stepping import take_step
from sepkit.training.totals import Totals
from sepkit.training.weight_average import list_averaged, make_average
from sepkit.training.weights import limit_training, plan_inheritance

_SHOW_EVERY = 10  # steps between losses in the bar, each of which waits for the device
_COUNTERS = ("epoch", "step", "seconds", "history", "best", "base_scores", "finished", "horizon")


class Trainer:
    """A training: its parts, and the loop over them.

    Args:
        recipe: what is trained, and how.
        songs: by subset, "train" and "valid".
        device: where.
        folder: of the run; None: nothing is written.
        log: called with a line for the user at the end of each epoch.
        observers: in addition to those of the recipe; none is called where no folder is given.
        verbose: log the terms of the loss, the rate, the gradient's norm and the memory too.
        processes: which train together.
    """

    def __init__(
        self,
        recipe: Recipe,
        songs: Mapping[str, Sequence[Song]],
        device: torch.device,
        folder: RunFolder | None = None,
        log: Callable[[str], object] = print,
        observers: Sequence[object] = (),
        verbose: bool = False,
        processes: Processes | None = None,
    ) -> None:
        self.recipe, self.device, self.verbose = recipe, device, verbose
        self.processes = processes or Processes()
        self.folder, self.log = (folder, log) if self.processes.is_main else (None, str)
        self.valid_songs = songs["valid"]
        settings, plain = recipe.training, recipe.to_dict()
        seed_generators(settings.seed, device)
        self.separator = Separator(**recipe.separator_settings())
        self.inheritance = plan_inheritance(recipe)
        limit_training(self.separator, recipe, self.inheritance)
        self.precision = choose_precision(settings.precision, device)
        self.dtype = torch.float64 if self.precision is torch.float64 else torch.float32  # of weights and waveforms
        self.separator.to(device, self.dtype)
        self.objective = Objective(plain["losses"], self.separator).to(device, self.dtype)
        self.dataset = make_dataset(recipe, songs["train"])
        size = settings.batch_size // settings.accumulate
        self.sampler = EpochSampler(len(self.dataset), size, rank=self.processes.rank, world=self.processes.world)
        parameters = [*self.separator.parameters(), *self.objective.parameters()]
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimizer = make_optimizer(settings.optimizer, self.parameters, device)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule = instantiate(settings.schedule, "sepkit.schedules")
        self.ema = make_average(self.separator, settings.ema)
        self.whole: Separator | None = None  # a copy to validate and save, where the separator itself is sharded
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is torch.float16)
        built = [instantiate(config, "sepkit.observers") for config in recipe.observers]
        self.observers = ObserverList([*built, *observers], device)
        self.watches_steps = self.observers.waits_for("on_step")
        self.epoch = self.step = 0
        self.horizon = settings.epochs  # at which the schedule ends
        self.seconds = 0.0
        self.totals = Totals(self.processes)  # of the current epoch
        self.failures: Counter[str] = Counter()  # why examples were drawn anew, since it was last told
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, float] = {}
        self.base_scores: dict[str, float] = {}  # of the base, before the first step
        self.finished: str | None = None
        self.excerpts: tuple[Excerpt, ...] = ()  # of the last validation
        self.table: EpochTable | None = None
        if settings.recompute:
            recompute_blocks(self.separator)
        if settings.compile:
            self.separator.facts.core.compile()
        self.guard = StepGuard(self.separator, settings.max_skipped)
        self.last_good = self.folder.checkpoints.newest if self.folder else None  # checkpoint
        self.random = Generators(device, self.processes)
        self.random.seed(settings.seed)
        self.checkpointer = self._make_checkpointer()

    def _make_checkpointer(self) -> Checkpointer:
        """List what decides how the training goes on, and refuse what of it could not be read again."""
        states = {term.name: term.loss.state_dict() for term in self.objective.terms}
        states[type(self.schedule).__name__] = vars(self.schedule)
        tried = try_optimizer(self.recipe.training.optimizer, self.device)
        states[type(self.optimizer).__name__] = {"groups": self.optimizer.state_dict()["param_groups"], **tried}
        check_readable(states)
        parts = {
            "separator": self.separator,
            "objective": self.objective,
            "optimizer": self.optimizer,
            "schedule": Attributes(self.schedule),
            "scaler": self.scaler,
            "random": self.random,
            "plan": Drawing(self.dataset, self.valid_songs),
            "totals": self.totals,
            "progress": Attributes(self, _COUNTERS),
            "guard": self.guard,
            **({"ema": self.ema} if self.ema else {}),
        }
        return Checkpointer(parts, self.folder, self.recipe.training.checkpoint_minutes, self.processes)

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of optimizer steps in an epoch."""
        return math.ceil(len(self.dataset) / self.recipe.training.batch_size)

    @property
    def progress(self) -> float:
        """Return the share of the training, in steps or in limited time, at which the next step lies.

        Neither the first step lies at 0, where a warm-up would not move anything, nor the last at 1.
        """
        settings = self.recipe.training
        share = (self.step + 1) / (self.horizon * self.steps_per_epoch + 1)
        if settings.max_minutes:
            share = max(share, self.seconds / (60 * settings.max_minutes))
        return min(1.0, share)

    @property
    def place(self) -> float:
        """Return where the next step lies, in the unit of the schedule."""
        unit = getattr(self.schedule, "unit", "training")
        if unit == "training":
            return self.progress
        return self.step + 1 if unit == "steps" else max(1.0, self.seconds) / 60  # the first lies behind 0, too

    @property
    def averaged(self) -> Separator:
        """Return the separator that is validated and saved: with averaged weights where the recipe asks for them."""
        return self.ema.averaged if self.ema else self.whole or self.separator

    def run(self, stop: StopRequest, quiet: bool = False) -> None:
        """Train to the end, or until a stop is requested; the state is saved in both cases."""
        loader = None
        try:
            loader = make_loader(self)
            (self.watches_steps,) = self.processes.broadcast((self.watches_steps,))
            if self.folder:
                self.folder.steps.open()
            if self.inheritance and not self.inheritance.new and not self.step and not self.base_scores:
                self._score_base()
            while not self.finished and not self._is_stopped(stop):
                self._run_epoch(loader, stop, quiet)
        finally:
            if loader:
                loader.close()
            if self.folder:
                self.folder.steps.close()
            self.observers.notify("on_end", self, self.history[-1] if self.history else {})

    def _score_base(self) -> None:
        """Validate before the first step: what is gained later is gained over the base."""
        started = time.perf_counter()
        self.base_scores, self.excerpts = score_training(self)[0], ()
        self._add_seconds(started)
        self.log(f"before the first step: {self.base_scores['SDR']:.2f} dB SDR")

    def _is_stopped(self, stop: StopRequest) -> bool:
        """Return whether any process is asked to stop, and let all know by which signal."""
        (stopped,) = self.processes.largest(stop.requested)
        stop.requested = stop.requested or int(stopped)
        return bool(stopped)

    def _add_seconds(self, started: float) -> None:
        """Add the time since then, of the main process, by whose clock all go."""
        self.seconds += time.perf_counter() - started
        (self.seconds,) = self.processes.broadcast((self.seconds,))

    def _agree(self, stop: StopRequest) -> tuple[bool, bool]:
        """Return whether all processes stop, and whether all save; the time is that of the main one."""
        is_main = self.processes.is_main
        due = stop.save_requested or (is_main and self.checkpointer.is_due())
        wanted = self.processes.largest(
            stop.requested, stop.save_requested, due, self.seconds if is_main else -math.inf
        )
        stopped, asked, due, self.seconds = wanted
        stop.requested = stop.requested or int(stopped)
        stop.save_requested = bool(asked)
        return bool(stopped), bool(due)

    def _run_epoch(self, loader: Loader, stop: StopRequest, quiet: bool) -> None:
        """Take the steps that an epoch still has, then validate; a requested stop ends it between two steps."""
        done = self.step - self.epoch * self.steps_per_epoch
        limit = self.recipe.training.max_minutes
        label = f"epoch {self.epoch + 1}/{self.recipe.training.epochs}"
        batches = loader.batches(self.epoch, done * self.recipe.training.accumulate)
        before = time.perf_counter()
        with tqdm(
            total=self.steps_per_epoch,
            initial=done,
            desc=label,
            unit="step",
            leave=False,
            disable=quiet or not self.processes.is_main or None,
        ) as bar:
            for position in range(done, self.steps_per_epoch):
                computed = self.take_step(batches, position)
                if self.step % _SHOW_EVERY == 0:
                    bar.set_postfix(loss=f"{self._mean_loss():.4f}", refresh=False)
                bar.update()
                stopped, due = self._agree(stop)
                before = self._count_overhead(before, computed)
                if stopped or due:
                    self._save(stop)
                if stopped:
                    return
                if limit and self.seconds >= 60 * limit:
                    self.finished = f"after {limit} minutes"
                    break
        self._tell_failures()
        if not self.finished and self.epoch + 1 < self.recipe.training.epochs:
            loader.begin(self.epoch + 1)  # while this process validates
        self._end_epoch()

    def _save(self, stop: StopRequest) -> None:
        """Write a checkpoint between two steps, and say so where a user asked for that alone."""
        self._tell_failures()
        self._save_state()
        if stop.save_requested and not stop.requested:
            self.log(f"saved at step {self.step}, as SIGUSR1 asked")
        stop.save_requested = False

    def _save_state(self) -> None:
        """Write a checkpoint, which is good unless the last steps were left out."""
        share_buffers(self.processes, [self.separator, self.objective, *list_averaged(self.ema)])
        self.checkpointer.save()
        if self.folder and not self.guard.in_row:
            self.last_good = self.folder.checkpoints.newest

    def _count_overhead(self, before: float, computed: float) -> float:
        """Add the time since the last step, in ms so that none is too short to divide by, and return the time."""
        now = time.perf_counter()
        wall = 1000 * (now - before)
        self.totals.add({"overhead": wall - 1000 * computed}, {"overhead": wall})
        return now

    def note(self, batch: Batch) -> None:
        """Add what a batch says of its loading."""
        self.totals.add({"data_wait": batch.waited / self.processes.world})
        if self.dataset.on_error == "skip":
            self.totals.add({"skipped": len(batch.failures)})
            self.failures.update(batch.failures)

    def _tell_failures(self) -> None:
        """Print why examples of this epoch were drawn anew."""
        failures = Counter()
        for each in self.processes.gather([self.failures]):
            failures.update(each)
        for sentence, count in failures.items():
            self.log(f"skipped {count} example{'s' if count > 1 else ''}: {sentence}")
        self.failures.clear()

    def take_step(self, batches: Iterator[Batch], position: int = 0) -> float:
        """Take the optimizer step with this position in its epoch on the next batches; return the seconds computed."""
        return take_step(self, batches, position)

    def _mean_loss(self) -> float:
        """Return the mean loss of the epoch so far; NaN where no step was taken."""
        return float(self.totals.sums.get("loss", math.nan)) / self.totals.counts.get("loss", 1)

    def _end_epoch(self) -> None:
        """Validate, save the best, add the epoch to the history; the state comes last, so that a kill repeats it."""
        started = time.perf_counter()
        settings = self.recipe.training
        self.epoch += 1
        if self.epoch >= settings.epochs:
            self.finished = self.finished or f"after {settings.epochs} epochs"
        row = {"epoch": self.epoch, "step": self.step, "lr": self.optimizer.param_groups[0]["lr"]}
        row.update({name: float(f"{value:.6g}") for name, value in self.totals.means().items()})
        if self.epoch % self.recipe.validation.every == 0 or self.finished:
            scores, self.excerpts = score_training(self)
            row.update(scores)
            self._compare(row)
        self._add_seconds(started)
        row["seconds"] = round(self.seconds - (self.history[-1]["total_seconds"] if self.history else 0.0), 3)
        row["total_seconds"] = round(self.seconds, 3)
        if (memory := peak_memory(self.device)) is not None:
            row["memory"] = round(memory / 2**20)
        self.history.append(row)
        self.totals.clear()
        if self.folder:
            save_models(self, row)
        self._save_state()
        self.observers.notify("on_epoch", self, row)
        self.excerpts = ()
        if self.table is None:
            terms = [term.name for term in self.objective.terms] if self.verbose else None
            self.table = EpochTable(settings.epochs, self.separator.sources, terms and term_columns(row, terms))
            self.log(self.table.header())
        self.log(self.table.line(row))

    def _compare(self, row: dict[str, Any]) -> None:
        """Mark an epoch that is the best, and end a training that has waited for a better one long enough."""
        self.schedule.observe(row["SDR"])
        if not self.best or row["SDR"] > self.best["SDR"]:
            self.best = {
                name: value for name, value in row.items() if name in ("epoch", "SDR") or name.startswith("SDR/")
            }
            row["best"] = True
        waited, patience = self.epoch - self.best["epoch"], self.recipe.training.early_stop
        if patience and waited >= patience:
            self.finished = self.finished or f"after {waited} epochs without a better score"
