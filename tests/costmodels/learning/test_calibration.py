"""Intervals hold the share that they promise, of kernels of tasks never seen."""

from dataclasses import asdict

import numpy as np
import pytest

from costmodels.learning.calibration import (
    KINDS,
    MIN_SPREAD,
    Interval,
    MondrianInterval,
    kind_of,
    spread_of,
)
from costmodels.testing.example_data import example_dataset


def drawn(seed: int, tasks: int, per_task: int = 30):
    """Errors that share a part within a task, larger where the spread is."""
    rng = np.random.default_rng(seed)
    task = np.repeat(np.arange(tasks), per_task)
    spread = rng.uniform(0.5, 3.0, len(task))
    error = spread * (rng.normal(size=tasks)[task] + 0.5 * rng.normal(size=len(task)))
    return error, spread, task


def inside(found: Interval, error, spread) -> float:
    low, high = found.around(np.zeros(len(error)), spread)
    return float(np.mean((low <= np.exp(error)) & (np.exp(error) <= high)))


def test_an_interval_keeps_the_share_of_what_it_learned():
    error, spread, task = drawn(0, tasks=1000)
    found = Interval.learn(error, spread, task)
    assert inside(found, error, spread) == pytest.approx(0.9, abs=0.005)
    unknown = np.r_[error, np.nan, np.inf], np.r_[spread, 1.0, 1.0], np.r_[task, 0, 1]
    assert Interval.learn(*unknown) == found


@pytest.mark.parametrize("tasks", [12, 40])
def test_few_tasks_promise_as_much_for_tasks_never_seen(tasks):
    held = []
    for seed in range(60):
        found = Interval.learn(*drawn(seed, tasks))
        error, spread, _ = drawn(1000 + seed, tasks=50)
        held.append(inside(found, error, spread))
    assert 0.88 < np.mean(held) < 0.97  # at least what is promised


def test_a_task_with_many_kernels_counts_as_one():
    error = np.r_[np.full(990, 0.1), np.linspace(1.0, 2.0, 10)]
    task = np.r_[np.zeros(990, int), np.arange(1, 11)]
    assert Interval.learn(error, np.ones(1000), task).reach >= 1.9


def test_an_interval_is_wide_where_models_disagree():
    spread = spread_of(np.array([[0.0, 0.0], [0.0, 2.0], [0.0, -1.0]]))
    assert spread.tolist() == [MIN_SPREAD, MIN_SPREAD + 3.0]
    low, high = Interval(1.0).around(np.log(np.array([2.0, 2.0])), spread)
    assert np.log(high / low) == pytest.approx(2 * spread)


def test_without_anything_to_learn_from_an_interval_stays_wide():
    nothing = np.empty(0), np.empty(0), np.empty(0, int)
    unknown = np.array([np.nan]), np.ones(1), np.zeros(1, int)
    for found in (Interval.learn(*nothing), Interval.learn(*unknown)):
        assert found == Interval()
        low, high = found.around(np.zeros(1), spread_of(np.zeros((1, 1))))
        assert high[0] / low[0] > 100


def test_the_largest_error_is_the_reach_of_very_few_tasks():
    assert Interval.learn(np.array([-0.5]), np.ones(1), np.zeros(1, int)) == Interval(0.5)


def test_the_two_ends_of_an_older_checkpoint_give_an_interval():
    found = Interval.from_dict({"low": -1.5, "high": 0.6})
    assert found.around(np.zeros(1), spread_of(np.zeros((1, 1))))[0] == pytest.approx(np.exp(-1.5))
    assert Interval.from_dict({"reach": 2.0}) == Interval(2.0)


def test_each_kind_has_its_own_reach():
    error, spread, task = drawn(2, tasks=900)
    kind = task % 3
    error = error * np.array([3.0, 1.0, 0.5])[kind]
    found = MondrianInterval.learn(kind, error, spread, task)
    one, other, third = (each.reach for each in found.intervals[:3])
    assert one == pytest.approx(3 * other, rel=0.2)
    assert other == pytest.approx(2 * third, rel=0.2)
    low, high = found.around(kind, np.zeros(len(error)), spread)
    inside_each = (low <= np.exp(error)) & (np.exp(error) <= high)
    for number in range(3):
        assert np.mean(inside_each[kind == number]) == pytest.approx(0.9, abs=0.01)
    assert MondrianInterval.from_dict(asdict(found)) == found


def test_a_kind_of_few_tasks_has_the_reach_of_all():
    error, spread, task = drawn(3, tasks=200)
    kind = np.where(task < 10, 0, 5)
    found = MondrianInterval.learn(kind, error, spread, task)
    assert found.intervals[0] == found.intervals[1] == Interval.learn(error, spread, task)
    assert MondrianInterval.from_dict({"reach": 2.0}) == MondrianInterval((Interval(2.0),) * KINDS)


def test_kinds_are_told_by_schedule_and_size():
    batch = example_dataset(np.random.default_rng(0), tasks=2, kernels_per_task=4).batch
    log_latency = np.log(np.array([1e-6, 3e-5, 2e-3, np.nan] * 2))
    marked = batch.sum_rows(batch.column("vectorize.loops")) > 0
    marked |= batch.sum_rows(batch.column("parallel.loops")) > 0
    marked |= batch.sum_rows(batch.column("unroll.loops")) > 0
    expected = np.array([0, 1, 2, 2] * 2) + 3 * marked
    assert kind_of(batch, log_latency).tolist() == expected.tolist()
