"""One optimizer step: forward and backward over the parts of a batch, clip, step, average the weights."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sepkit.datasets.loader import Batch
from sepkit.devices import HALVES
from sepkit.objective import Judgement
from sepkit.training.exchange import share_buffers, sum_gradients, sum_judgement
from sepkit.training.sharding import clip_gradients
from sepkit.training.step_guard import report_skipped

if TYPE_CHECKING:
    from sepkit.training.loop import Trainer


@dataclass
class Pass:
    """What the parts of a batch add up to.

    Attributes:
        judged: sums and counts of the terms.
        loss: of the batch, ().
        n_seen: examples, of this process.
        computed: seconds of forward and backward.
    """

    judged: Judgement
    loss: Tensor | float = 0.0
    n_seen: int = 0
    computed: float = 0.0


def take_step(trainer: "Trainer", batches: Iterator[Batch], position: int = 0) -> float:
    """Train on the next batches, in the optimizer step with this position in its epoch.

    Args:
        trainer: whose weights move.
        batches: the examples of the step come next.
        position: from 0.

    Returns:
        The seconds of forward, backward and step, those in which a device was waited for included.
    """
    started, size = time.perf_counter(), trainer.recipe.training.batch_size
    items = range(len(trainer.dataset))[position * size : (position + 1) * size]
    trainer.guard.begin()
    trainer.optimizer.zero_grad(set_to_none=True)  # not after the step, so that observers see the gradients
    done = _differentiate(trainer, batches, items)
    began = time.perf_counter()
    done.loss = sum_gradients(trainer.processes, trainer.parameters, done.loss)
    norm, taken = move(trainer, done.loss)
    share_buffers(trainer.processes, [trainer.objective])  # not only for checkpoints, whose times change nothing
    computed = done.computed + time.perf_counter() - began
    _count(trainer, done, items, norm, taken)
    trainer.step += 1
    if trainer.folder:
        trainer.folder.steps.write(trainer.step)
    if trainer.watches_steps:
        means = sum_judgement(trainer.processes, done.judged).means()
        trainer.observers.notify("on_step", trainer, {**means, "loss": done.loss, "grad_norm": norm})
    trainer.seconds += time.perf_counter() - started
    return computed


def judge(trainer: "Trainer", mixture: Tensor, targets: Tensor, present: Tensor | None = None) -> Judgement:
    """Evaluate waveforms as the training does: in its precision, and keeping what the backward pass needs alone.

    Args:
        trainer: whose separator and objective.
        mixture: (B, C, T).
        targets: (B, S, C, T).
        present: bool (B, S), as `Objective` takes it.
    """
    precision = trainer.precision
    with torch.autocast(trainer.device.type, precision, enabled=precision in HALVES):
        separation = trainer.separator.analyze(
            mixture.to(trainer.dtype), targets.to(trainer.dtype), wanted=trainer.objective.wanted
        )
    return trainer.objective(separation, present)


def _differentiate(trainer: "Trainer", batches: Iterator[Batch], items: Sequence[int]) -> Pass:
    """Compute the gradient of a batch, part by part."""
    objective = trainer.objective
    present = trainer.dataset.presence([(trainer.epoch, i) for i in items])
    counts, epoch = objective.count(present), trainer.step / trainer.steps_per_epoch  # of all parts
    done, n_own = Pass(Judgement({}, {})), trainer.sampler.count_own(len(items))
    while done.n_seen < n_own:
        batch = next(batches)
        trainer.note(batch)
        mixture, targets = batch.mix()
        present, began = batch.present, time.perf_counter() - batch.held
        judgement = judge(trainer, mixture, targets, None if present.numpy().all() else present)
        del mixture, targets  # what the backward pass needs is kept by it
        loss = objective.loss(judgement, counts, epoch)
        trainer.scaler.scale(loss).backward()
        done.judged, done.loss, done.n_seen = (
            done.judged + judgement,
            done.loss + loss.detach(),
            done.n_seen + len(batch),
        )
        done.computed += time.perf_counter() - began
    return done


def move(trainer: "Trainer", loss: Tensor) -> tuple[Tensor, bool]:
    """Move the weights along the clipped gradient; return its norm, and whether the step was taken.

    Args:
        trainer: whose weights have gradients.
        loss: of the batch, ().
    """
    for group, rate in zip(trainer.optimizer.param_groups, trainer.base_rates, strict=True):
        group["lr"] = rate * trainer.schedule.factor(trainer.place)
    trainer.scaler.unscale_(trainer.optimizer)
    norm = clip_gradients(trainer.parameters, trainer.recipe.training.clip or math.inf)
    taken = trainer.guard.allows(loss, norm, trainer.scaler)
    if taken:
        trainer.scaler.step(trainer.optimizer)
        if trainer.ema:
            trainer.ema.update(trainer.step)
    trainer.scaler.update()
    return norm, taken


def _count(trainer: "Trainer", done: Pass, items: Sequence[int], norm: Tensor, taken: bool) -> None:
    """Add a step to the totals of its epoch, or say that it was left out."""
    if not taken and trainer.guard.in_row:
        report_skipped(trainer, items, sum_judgement(trainer.processes, done.judged), trainer.log)
        return
    norm = norm if taken else torch.zeros_like(norm)  # the scaler leaves out steps, too, while it looks for its scale
    trainer.totals.add(done.judged.sums, done.judged.counts)
    if trainer.processes.is_main:  # they are the same in all
        trainer.totals.add({"loss": done.loss * len(items), "grad_norm": norm}, {"loss": len(items), "grad_norm": 1})
