"""Intervals hold the share that they promise, of kernels of tasks never seen."""

import numpy as np
import pytest

from costmodels.learning.calibration import LEAST_SPREAD, Interval, spread_of


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
    assert spread.tolist() == [LEAST_SPREAD, LEAST_SPREAD + 3.0]
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
