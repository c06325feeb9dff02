"""Training with scaled gradients, as in float16 on a GPU: with the same scaler on a CPU."""

import pytest
import torch
from test_training_state import SMALL, differing, do_steps, make, root, stored, weights  # noqa: F401

from sepkit.training.loop import Trainer

CLIPPED = {"clip": SMALL["training"].get("clip") or 1.0}


@pytest.fixture
def scaled(make):  # noqa: F811
    """Build a trainer whose gradients are scaled."""

    def build(scale: float = 2.0**10, growth_interval: int = 100) -> Trainer:
        trainer = make(**CLIPPED)
        trainer.scaler = torch.amp.GradScaler("cpu", scale, growth_interval=growth_interval)
        trainer.checkpointer.parts["scaler"] = trainer.scaler
        return trainer

    return build


def test_a_power_of_two_changes_no_step(make, scaled):  # noqa: F811
    plain, found = do_steps(make(**CLIPPED), 4), do_steps(scaled(), 4)
    assert not differing(weights(found), weights(plain))
    assert found.totals.means()["grad_norm"] == plain.totals.means()["grad_norm"]
    assert {group["lr"] for group in found.optimizer.param_groups} == {
        group["lr"] for group in plain.optimizer.param_groups
    }


def test_a_scale_that_overflows_is_halved_until_steps_are_taken_and_none_counts_as_left_out(scaled):
    trainer = scaled(2.0**10)
    trainer.parameters[0].register_hook(
        lambda gradient: gradient * (torch.inf if trainer.scaler.get_scale() > 256 else 1)
    )
    before, seen = weights(trainer), []
    for _ in range(4):
        do_steps(trainer, 1)
        seen.append((trainer.scaler.get_scale(), trainer.guard.in_row, bool(differing(weights(trainer), before))))
    assert seen == [(512, 0, False), (256, 0, False), (256, 0, True), (256, 0, True)]


def test_a_gradient_that_overflows_at_the_least_scale_is_a_step_that_is_left_out(scaled):
    trainer = scaled(1.0)
    before = weights(trainer)
    trainer.parameters[0].register_hook(lambda gradient: gradient * torch.inf)
    do_steps(trainer, 1)
    assert not differing(weights(trainer), before)
    assert trainer.guard.in_row == 1


def test_a_stopped_training_goes_on_with_its_scale(scaled):
    whole, stopped = (do_steps(scaled(growth_interval=2), n_steps) for n_steps in (5, 3))
    going_on = scaled(2.0**3, growth_interval=2)
    going_on.checkpointer.load_state(stored(stopped))
    assert going_on.scaler.state_dict() == stopped.scaler.state_dict()
    do_steps(going_on, 2)
    assert going_on.scaler.get_scale() == whole.scaler.get_scale() == 2.0**12
    assert not differing(weights(going_on), weights(whole))
