"""How the learning rate moves: rises, falls and waits."""

import math

import pytest

from sepkit.schedules import Constant, Cosine, Plateau


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
        (lambda: Plateau(1.0), r"decay must lie in \(0, 1\) and patience be at least 1, got 1.0 and 5"),
        (lambda: Plateau(0.5, 0), r"decay must lie in \(0, 1\) and patience be at least 1, got 0.5 and 0"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
