"""How the learning rate moves: rises, falls and waits."""

import math

import pytest
import torch

from sepkit.schedules import Constant, Cosine, Plateau, WarmRestarts


@pytest.mark.parametrize("schedule", [Constant(0.2), Cosine(0.2), Plateau(warmup=0.2)])
@pytest.mark.parametrize(("progress", "factor"), [(0.0, 0.0), (0.05, 0.25), (0.1, 0.5), (0.2, 1.0)])
def test_the_rate_rises_in_a_straight_line_during_the_warm_up(schedule, progress, factor):
    assert schedule.factor(progress) == pytest.approx(factor)


@pytest.mark.parametrize("schedule", [Constant(), Cosine(), Plateau()])
def test_without_warm_up_the_rate_is_whole_from_the_start(schedule):
    assert schedule.factor(0.0) == 1


@pytest.mark.parametrize("schedule", [Constant(0.2), Plateau(warmup=0.2)])
@pytest.mark.parametrize("progress", [0.2, 0.5, 1.0])
def test_the_rate_stays_after_the_warm_up(schedule, progress):
    assert schedule.factor(progress) == 1


@pytest.mark.parametrize(("progress", "factor"), [(0.2, 1.0), (0.6, 0.55), (1.0, 0.1), (1.5, 0.1)])
def test_a_cosine_falls_from_whole_to_final(progress, factor):
    assert Cosine(0.2, 0.1).factor(progress) == pytest.approx(factor)


def test_a_plateau_of_scores_lowers_the_rate_once():
    schedule, factors = Plateau(0.5, patience=2), []
    for score in (1.0, 2.0, 1.9, 2.0, 1.0, 1.0, 3.0, 2.0):
        schedule.observe(score)
        factors.append(schedule.factor(0.5))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_a_score_that_is_no_number_counts_as_no_better():
    schedule = Plateau(0.5, patience=2)
    schedule.observe(1.0)
    schedule.observe(math.nan)
    schedule.observe(math.nan)
    assert schedule.factor(0.5) == 0.5
    schedule.observe(2.0)
    assert schedule.best == 2.0


@pytest.mark.parametrize("schedule", [Constant(0.1), Cosine(0.1)])
def test_scores_do_not_move_the_others(schedule):
    before = schedule.factor(0.5)
    schedule.observe(1.0)
    assert schedule.factor(0.5) == before


@pytest.mark.parametrize("schedule", [Constant, Cosine, Plateau])
@pytest.mark.parametrize("progress", [0.05, 0.5])
def test_its_attributes_are_its_state(schedule, progress):
    running, other = schedule(warmup=0.1), schedule()
    for _ in range(7):
        running.observe(0.0)
    vars(other).update(vars(running))
    running.observe(1.0)
    other.observe(1.0)
    assert other.factor(progress) == running.factor(progress)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(1.0), r"warmup must lie in \[0, 1\), got 1.0"),
        (lambda: Cosine(-0.1), r"warmup must lie in \[0, 1\), got -0.1"),
        (lambda: Cosine(0.1, 1.1), r"final must lie in \[0, 1\], got 1.1"),
        (lambda: Constant(unit="epochs"), "unit must be training, steps or minutes, got epochs"),
        (lambda: Constant(-1, "steps"), "warmup must be a number of steps >= 0, got -1"),
        (lambda: Constant(math.inf, "minutes"), "warmup must be a number of minutes >= 0, got inf"),
        (lambda: Cosine(unit="steps"), "end must be given in steps: where the rate has fallen"),
        (lambda: Cosine(0.5, end=0.5), r"end must lie above warmup, 0\.5, got 0\.5"),
        (lambda: Cosine(end="soon"), r"end must lie above warmup, 0\.0, got soon"),
        (lambda: WarmRestarts(0), r"period must be above 0 and growth at least 1, got 0 and 1\.0"),
        (lambda: WarmRestarts(1, 0.5), r"period must be above 0 and growth at least 1, got 1 and 0\.5"),
        (lambda: WarmRestarts(1, final=2), r"final must lie in \[0, 1\], got 2"),
        (lambda: Plateau(1.0), r"decay must lie in \(0, 1\) and patience be at least 1, got 1.0 and 5"),
        (lambda: Plateau(0.5, 0), r"decay must lie in \(0, 1\) and patience be at least 1, got 0.5 and 0"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("unit", ["steps", "minutes"])
@pytest.mark.parametrize(("place", "factor"), [(0, 0), (50, 0.5), (100, 1), (600, 0.55), (1100, 0.1), (9999, 0.1)])
def test_a_cosine_in_a_unit_falls_to_its_end(unit, place, factor):
    assert Cosine(100, 0.1, 1100, unit).factor(place) == pytest.approx(factor)


@pytest.mark.parametrize("growth", [1, 2])
def test_a_rate_that_restarts_falls_again_in_each_period(growth):
    schedule = WarmRestarts(10, growth, final=0.0, warmup=4, unit="steps")
    assert [schedule.factor(place) for place in (0, 2, 4, 9, 14)] == pytest.approx([0, 0.5, 1, 0.5, 1])
    length = 10 * growth
    assert schedule.factor(14 + length / 2) == pytest.approx(0.5)
    assert schedule.factor(14 + length * (1 - 1e-9)) == pytest.approx(0, abs=1e-9)
    assert schedule.factor(14 + length) == 1


def test_restarts_are_those_of_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 7, 3, eta_min=0.05)
    ours = WarmRestarts(7, 3, final=0.05, unit="steps")
    for step in range(100):
        assert ours.factor(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
