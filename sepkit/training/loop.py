"""The loop: epochs of steps, validation, and a state from which a run goes on as if it had never stopped."""

import copy
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sepkit.audio import AudioError
from sepkit.datasets import EpochSampler, Example, Song, SongDataset, augment_and_mix
from sepkit.devices import available_cores, choose_precision, peak_memory
from sepkit.excerpts import Excerpt
from sepkit.generators import get_generators, seed_generators, set_generators
from sepkit.instantiate import instantiate
from sepkit.model_folder import save_model, write_card
from sepkit.objective import Objective
from sepkit.observers import TrainingView
from sepkit.processes import init_worker
from sepkit.recipe import Recipe
from sepkit.separator import Separator
from sepkit.training.console import EpochTable
from sepkit.training.loading import choose_workers
from sepkit.training.observer_list import ObserverList
from sepkit.training.run_folder import RunFolder
from sepkit.training.signals import StopRequest, TrainingError
from sepkit.training.songs import NOTHING_TO_SCORE
from sepkit.training.validation import validate

_FIT_ITEMS = 128  # examples from which a network may measure statistics before the first step
_CHECK_EVERY = 10  # steps between looks at the loss, each of which waits for the device


class Trainer:
    """Everything that a training consists of, and where it stands.

    Args:
        recipe: what is trained, and how.
        songs: by subset, "train" and "valid".
        device: where.
        folder: of the run; None: nothing is written.
        log: called with a line for the user at the end of each epoch.
        observers: who looks on, beside those of the recipe; nobody does where no folder is given.
        verbose: tell the terms of the loss, the rate, the gradient's norm and the memory too.
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
    ) -> None:
        self.recipe, self.device, self.folder, self.log = recipe, device, folder, log
        self.verbose = verbose
        self.valid_songs = songs["valid"]
        settings, plain = recipe.training, recipe.to_dict()
        seed_generators(settings.seed, device)
        self.separator = Separator(**plain["separator"]).to(device)
        self.objective = Objective(plain["losses"], self.separator).to(device)
        self.augment = [instantiate(spec, "sepkit.augment") for spec in recipe.data.augment]
        self.dataset = SongDataset(
            songs["train"],
            recipe.separator.sources,
            round(recipe.separator.segment * recipe.separator.sample_rate),
            recipe.data.items_per_epoch,
            recipe.data.remix,
            self.augment,
            settings.seed,
        )
        self.sampler = EpochSampler(len(self.dataset), settings.batch_size // settings.accumulate)
        learned = [parameter for parameter in self.objective.parameters() if parameter.requires_grad]
        self.parameters = [*self.separator.parameters(), *learned]
        self.optimizer = instantiate(settings.optimizer, "torch.optim", {"params": self.parameters})
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule = instantiate(settings.schedule, "sepkit.schedules")
        self.ema = copy.deepcopy(self.separator) if settings.ema is not None else None
        self.precision = choose_precision(settings.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.precision is torch.float16)
        built = [instantiate(spec, "sepkit.observers") for spec in recipe.observers]
        self.audience = ObserverList([*built, *observers], device)
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.sums: dict[str, float] = {}  # of the current epoch
        self.history: list[dict[str, Any]] = []
        self.shown: dict[str, Any] | None = None  # to observers, the same all through an epoch
        self.best: dict[str, float] = {}
        self.finished: str | None = None
        self.excerpts: tuple[Excerpt, ...] = ()  # of the last validation
        self.table: EpochTable | None = None
        if settings.compile:
            getattr(self.separator.network, "core", self.separator.network).compile()
        self._check_state()

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return math.ceil(len(self.dataset) / self.recipe.training.batch_size)

    @property
    def progress(self) -> float:
        """Share of the training at which the next step lies: in steps, or in time where that is limited and further.

        Neither the first step lies at 0, where a warm-up would not move anything, nor the last at 1.
        """
        settings = self.recipe.training
        share = (self.step + 1) / (settings.epochs * self.steps_per_epoch + 1)
        if settings.max_minutes:
            share = max(share, self.seconds / (60 * settings.max_minutes))
        return min(1.0, share)

    @property
    def averaged(self) -> Separator:
        """The separator that is validated and saved: with averaged weights where the recipe asks for them."""
        return self.ema or self.separator

    def run(self, stop: StopRequest, quiet: bool = False) -> None:
        """Train to the end, or until a stop is requested; the state is saved in both cases."""
        try:
            loader = self.load(choose_workers(self, min(self.recipe.data.workers, available_cores())))
            while not self.finished and not stop.requested:
                self._run_epoch(loader, stop, quiet)
        finally:
            self._notify("on_end", self.history[-1] if self.history else {})

    def load(self, n_workers: int) -> DataLoader:
        """Give the batches of stems of the epoch and first batch that the sampler is set to."""
        return DataLoader(
            StemItems(self.dataset),
            batch_sampler=self.sampler,
            num_workers=n_workers,
            worker_init_fn=init_worker,
            persistent_workers=n_workers > 0,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),
        )

    def fit(self) -> None:
        """Let the network measure its statistics on the first examples, where it wants to."""
        fit = getattr(self.separator.network, "fit", None)
        if fit is None:
            return
        n_items = min(_FIT_ITEMS, len(self.dataset))
        mixtures = (self.dataset[i][0][None].to(self.device) for i in range(n_items))
        with torch.no_grad():
            fit(self.separator.spectrogram(mixture) for mixture in mixtures)
        if self.ema:
            self.ema.load_state_dict(self.separator.state_dict())

    def _run_epoch(self, loader: DataLoader, stop: StopRequest, quiet: bool) -> None:
        """Do the steps of an epoch that are left, then validate; a requested stop ends it between two steps."""
        done = self.step - self.epoch * self.steps_per_epoch
        self.sampler.epoch = self.epoch
        self.sampler.first_batch = done * self.recipe.training.accumulate
        limit = self.recipe.training.max_minutes
        label = f"epoch {self.epoch + 1}/{self.recipe.training.epochs}"
        batches = iter(loader)
        with tqdm(
            total=self.steps_per_epoch, initial=done, desc=label, unit="step", leave=False, disable=quiet or None
        ) as bar:
            for position in range(done, self.steps_per_epoch):
                self.take_step(batches, position)
                if self.step % _CHECK_EVERY == 0:
                    bar.set_postfix(loss=f"{self._mean_loss():.4f}", refresh=False)
                bar.update()
                if stop.requested:
                    self._mean_loss()
                    self.save()
                    return
                if limit and self.seconds >= 60 * limit:
                    self.finished = f"after {limit} minutes"
                    break
        self._mean_loss()
        self._end_epoch()

    def take_step(self, batches: Iterator, position: int = 0) -> None:
        """Do one optimizer step, the `position`-th of its epoch, on the next batches of stems."""
        started = time.perf_counter()
        settings = self.recipe.training
        self.optimizer.zero_grad(set_to_none=True)  # not after the step, so that observers see the gradients
        n_items = min(settings.batch_size, len(self.dataset) - position * settings.batch_size)
        report: dict[str, Tensor] = {}
        seen = 0
        while seen < n_items:
            example = self._next(batches)
            part = self._forward(example)
            share = len(example.stems) / n_items
            self.scaler.scale(part["loss"] * share).backward()
            for name, value in part.items():
                report[name] = report.get(name, 0.0) + value.detach() * share
            seen += len(example.stems)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * self.schedule.factor(self.progress)
        report["grad_norm"] = self._update()
        for name, value in {**report, "steps": 1}.items():
            self._add(name, value)
        self.step += 1
        self._notify("on_step", report)
        self.seconds += time.perf_counter() - started

    def _next(self, batches: Iterator) -> Example:
        """Wait for the next batch; a file that does not decode is named in its sentence, also by a worker."""
        started = time.perf_counter()
        try:
            batch = next(batches)
        except AudioError as error:
            sentence = str(error).strip().splitlines()[-1]
            raise AudioError(sentence.rpartition("AudioError: ")[2]) from error
        self._add("data_wait", time.perf_counter() - started)
        return batch

    def _forward(self, example: Example) -> dict[str, Tensor]:
        """Augment and sum stems (B, K, C, T), separate the mixture, and judge it."""
        stems = example.stems.to(self.device, non_blocking=True)
        mixture, targets = augment_and_mix(stems, example.parameters, self.augment, len(self.separator.sources))
        enabled = self.precision is not torch.float32
        with torch.autocast(self.device.type, self.precision, enabled=enabled):
            separation = self.separator.analyze(mixture, targets)
        present = None if example.present.numpy().all() else example.present  # on the CPU, without a wait
        return self.objective(separation, present, self.step / self.steps_per_epoch)

    def _update(self) -> Tensor:
        """Clip the gradients, step the optimizer, average the weights; give the norm of the gradient."""
        settings = self.recipe.training
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, settings.clip or math.inf).detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        # The scaler leaves out a step whose gradient is not finite, and tries a smaller scale.
        if self.scaler.is_enabled() and not norm.isfinite():
            return torch.zeros_like(norm)
        if self.ema:
            average(self.ema, self.separator, min(settings.ema, (1 + self.step) / (10 + self.step)))
        return norm

    def _add(self, name: str, value: float | Tensor) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value

    def _mean_loss(self) -> float:
        """Mean loss of the epoch so far; a training whose loss or gradient is not finite cannot go on."""
        loss, norm = (float(self.sums[name]) / self.sums["steps"] for name in ("loss", "grad_norm"))
        if math.isfinite(loss) and math.isfinite(norm):
            return loss
        terms = [term.name for term in self.objective.terms if not math.isfinite(float(self.sums[term.name]))]
        what = f"the loss became {loss}" if not math.isfinite(loss) else f"the gradient became {norm}"
        raise TrainingError(
            f"{what} by step {self.step} ({', '.join(terms) or 'all terms are finite'}): lower the learning "
            "rate, set training.clip, or choose precision float32; the last saved state is untouched"
        )

    def _end_epoch(self) -> None:
        """Validate, keep the best, write the epoch down."""
        started = time.perf_counter()
        settings = self.recipe.training
        self.epoch += 1
        if self.epoch >= settings.epochs:
            self.finished = self.finished or f"after {settings.epochs} epochs"
        row = self._averages()
        if self.epoch % self.recipe.validation.every == 0 or self.finished:
            row.update(self._validate())
            self._compare(row)
        self.seconds += time.perf_counter() - started
        row["seconds"] = round(self.seconds - (self.history[-1]["total_seconds"] if self.history else 0.0), 3)
        row["total_seconds"] = round(self.seconds, 3)
        memory = peak_memory(self.device)
        if memory is not None:
            row["memory"] = round(memory / 2**20)
        self.history.append(row)
        self.shown = None
        self.sums = {}
        self._write(row)
        self._notify("on_epoch", row)
        self.excerpts = ()
        self._tell_epoch(row)

    def _tell_epoch(self, row: Mapping[str, Any]) -> None:
        """Tell an epoch in a line, the first one below the names of the columns."""
        if self.table is None:
            names = tuple(term.name for term in self.objective.terms)
            terms = [name for name in row if name in names or name.startswith(tuple(f"{name}/" for name in names))]
            self.table = EpochTable(
                self.recipe.training.epochs, self.separator.sources, terms if self.verbose else None
            )
            self.log(self.table.header())
        self.log(self.table.line(row))

    def _compare(self, row: dict[str, Any]) -> None:
        """Find out whether an epoch is the best, and whether to wait for a better one."""
        self.schedule.observe(row["SDR"])
        if not self.best or row["SDR"] > self.best["SDR"]:
            self.best = {name: value for name, value in row.items() if name.startswith(("epoch", "SDR"))}
            row["best"] = True
        waited, patience = self.epoch - self.best["epoch"], self.recipe.training.early_stop
        if patience and waited >= patience:
            self.finished = self.finished or f"after {waited} epochs without a better score"

    def _write(self, row: Mapping[str, Any]) -> None:
        """Write the model where it is the best; the state comes last, so that a kill repeats the epoch."""
        if self.folder and row.get("best"):
            save_model(self.averaged, self.folder.path, self.card())
        elif self.folder and self.finished:
            write_card(self.separator, self.folder.path, self.card())
        self.save()

    def _notify(self, moment: str, row: Mapping[str, Any]) -> None:
        """Let the observers look."""
        if not self.folder or not self.audience.waits_for(moment):
            return
        if self.shown is None:
            rows = tuple(map(MappingProxyType, self.history))
            self.shown = {"history": rows, "recipe": MappingProxyType(self.recipe.to_dict())}
        view = TrainingView(
            epoch=self.epoch,
            step=self.step,
            row=MappingProxyType(row),
            separator=self.averaged,
            folder=self.folder.path,
            finished=self.finished,
            trained=self.separator,
            excerpts=self.excerpts,
            **self.shown,
        )
        self.audience.call(moment, view)

    def _averages(self) -> dict[str, Any]:
        """What the steps of the epoch gave: means, except the total of the seconds waited for data."""
        n_steps = self.sums["steps"]
        row = {"epoch": self.epoch, "step": self.step, "lr": self.optimizer.param_groups[0]["lr"]}
        means = {name: float(value) / n_steps for name, value in self.sums.items() if name != "steps"}
        means["data_wait"] *= n_steps
        return {**row, **{name: float(f"{value:.6g}") for name, value in means.items()}}

    def _validate(self) -> dict[str, float]:
        settings = self.recipe.validation
        batch_size = settings.batch_size or self.sampler.batch_size
        shown: list[Excerpt] = []
        look = shown.append if self.folder and self.audience.waits_for("on_epoch") else None
        scores = validate(self.averaged, self.valid_songs, settings.excerpt, batch_size, look)
        self.excerpts = tuple(shown)
        known = [score for score in scores.values() if not math.isnan(score)]
        if not known:
            raise TrainingError(NOTHING_TO_SCORE)
        named = {f"SDR/{source}": round(score, 4) for source, score in scores.items()} if len(scores) > 1 else {}
        return {"SDR": round(sum(known) / len(known), 4), **named}

    def card(self) -> dict[str, Any]:
        """What the model card says about the training."""
        return {
            "recipe": self.recipe.name,
            "data": Path(self.recipe.data.root).resolve().name,  # the card travels with the weights: no path of here
            "licence": None,
            "validation": {name: None if math.isnan(value) else value for name, value in self.best.items()},
            "finished": self.finished,
        }

    def save(self) -> None:
        """Save all that a run needs to go on."""
        if self.folder:
            self.folder.save(self.state())

    def state(self) -> dict[str, Any]:
        """Everything that decides how the training goes on, as tensors and plain data."""
        return {
            "separator": self.separator.state_dict(),
            "ema": self.ema.state_dict() if self.ema else None,
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": dict(vars(self.schedule)),
            "scaler": self.scaler.state_dict(),
            "random": get_generators(self.device),
            "sums": {name: float(value) for name, value in self.sums.items()},
            **{name: getattr(self, name) for name in _COUNTERS},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `state` gave.

        Raises:
            ValueError: it is the state of another network, or of other losses.
        """
        _load("the network is not what it was", self.separator, state["separator"])
        _load("the losses are not what they were", self.objective, state.get("objective", {}))
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        vars(self.schedule).update(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        set_generators(state["random"], self.device)
        self.sums, self.shown = dict(state["sums"]), None
        for name in _COUNTERS:
            setattr(self, name, state[name])

    def _check_state(self) -> None:
        """Refuse parts of a user's own whose state could be written, but not be read again.

        Raises:
            ValueError: with the part.
        """
        parts = {term.name: _plain(term.loss.state_dict()) for term in self.objective.terms}
        parts[type(self.schedule).__name__] = vars(self.schedule)
        parts[type(self.optimizer).__name__] = self.optimizer.state_dict()["param_groups"]
        for name, state in parts.items():
            written = io.BytesIO()
            try:
                torch.save(state, written)
                written.seek(0)
                torch.load(written, weights_only=True)
            except Exception as error:  # whatever pickle makes of a strange object
                raise ValueError(
                    f"the state of {name} must be of tensors, numbers, strings, and lists or mappings of these, so "
                    "that a stopped training can go on: change what its attributes or its get_extra_state hold"
                ) from error


_COUNTERS = ("epoch", "step", "seconds", "history", "best", "finished")


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the tensors of a state."""
    return {name: value for name, value in state.items() if not isinstance(value, Tensor)}


def _load(what: str, module: nn.Module, state: Mapping[str, Any]) -> None:
    """Load the state of a run's module, of which `what` tells that it is another."""
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{what} when this run began: bring the code back, or start with --restart") from error


class StemItems(torch.utils.data.Dataset):
    """The stems of a SongDataset before augmentation, which is done on the device."""

    def __init__(self, dataset: SongDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: tuple[int, int]) -> Example:
        return self.dataset.read(number)


@torch.no_grad()
def average(averaged: nn.Module, trained: nn.Module, decay: float) -> None:
    """Move the weights of `averaged` towards those of `trained`: kept = decay * kept + (1 - decay) * trained."""
    if weights := list(averaged.parameters()):
        torch._foreach_lerp_(weights, list(trained.parameters()), 1 - decay)
    buffers = dict(averaged.named_buffers())
    for name, new in trained.named_buffers():
        own = buffers.get(name)  # tables that a network makes when it first runs, or lengthens, it makes again
        if own is not None and own.shape == new.shape:
            own.copy_(new)
