"""A few kernels of a device tell by which factor predictions are off there, and on which."""

import json

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.learning.device_correction import (
    PROPERTIES,
    DeviceCorrection,
    DeviceCorrections,
    properties,
    share_that_holds,
    told_by_others,
)
from costmodels.testing.example_data import example_dataset


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def kernels():
    """Kernels with what a model predicts of them: right but for the noise of its own."""
    dataset = example_dataset(rng(), tasks=40, kernels_per_task=8, failures=False)
    predicted = dataset.log_latency + rng(1).normal(scale=0.1, size=len(dataset))
    return dataset.batch, predicted


def test_each_property_is_about_one_in_size(kernels):
    batch, predicted = kernels
    found = properties(batch, predicted)
    assert found.shape == (len(batch), len(PROPERTIES))
    assert np.all(np.isfinite(found))
    assert np.abs(found).max() < 20


def test_what_a_device_does_otherwise_is_learned_from_few_kernels(kernels):
    """Everything takes three times as long there, and parallel kernels six times."""
    batch, predicted = kernels
    is_parallel = properties(batch, predicted)[:, PROPERTIES.index("parallel")]
    error = np.log(3.0) + np.log(2.0) * is_parallel + rng(2).normal(scale=0.1, size=len(batch))
    given = np.flatnonzero(batch.task_index < 16)
    others = np.flatnonzero(batch.task_index >= 16)
    found = DeviceCorrection.learn(batch.take(given), predicted[given], error[given])
    left = error[others] - (found.apply(batch.take(others), predicted[others]) - predicted[others])
    assert np.median(np.abs(left)) < 0.15
    assert DeviceCorrection.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_one_wild_measurement_counts_little(kernels):
    batch, predicted = kernels
    error = np.full(len(batch), np.log(2.0))
    error[::10] += 5.0
    found = DeviceCorrection.learn(batch, predicted, error)
    added = found.apply(batch, predicted) - predicted
    assert np.median(added) == pytest.approx(np.log(2.0), abs=0.1)


def test_of_a_single_task_only_the_factor_is_learned(kernels):
    batch, predicted = kernels
    one = np.flatnonzero(batch.task_index == 0)
    error = np.full(len(one), -0.7)
    found = DeviceCorrection.learn(batch.take(one), predicted[one], error)
    assert found.coefficients[0] == pytest.approx(-0.7, abs=0.05)
    assert np.abs(found.coefficients[1:]).max() < 1e-3
    told = told_by_others(batch.take(one), predicted[one], error, rng())
    assert np.all(np.isnan(told))
    assert share_that_holds(error, told, batch.task_index[one]) == 1.0


def test_a_task_is_told_what_the_others_have_in_common(kernels):
    batch, predicted = kernels
    by_task = rng(3).normal(scale=0.5, size=len(batch.tasks))
    error = 1.0 + by_task[batch.task_index]
    told = told_by_others(batch, predicted, error, rng())
    left = error - told
    assert 0.3 < np.std(left) < 0.9  # nothing tells of a task's own error
    assert abs(np.median(left)) < 0.3
    assert share_that_holds(error, told, batch.task_index) > 0.8


def test_a_device_on_which_a_model_is_right_is_hardly_corrected(kernels):
    """Errors that differ from task to task say nothing of the device, however few there are."""
    batch, predicted = kernels
    some = np.flatnonzero((batch.task_index < 16) & (np.arange(len(batch)) % 2 == 0))
    worse = []
    for seed in range(8):
        error = rng(seed).normal(scale=0.6, size=len(batch.tasks))[batch.task_index]
        told = told_by_others(batch.take(some), predicted[some], error[some], rng(seed))
        share = share_that_holds(error[some], told, batch.task_index[some])
        found = DeviceCorrection.learn(batch.take(some), predicted[some], error[some])
        sizes = [
            np.abs(each.apply(batch, predicted) - predicted).mean()
            for each in (found, found.times(share))
        ]
        worse.append(sizes[1] / sizes[0])
    assert np.median(worse) < 0.2


def test_what_is_not_known_is_left_alone(kernels):
    batch, predicted = kernels
    unknown = np.full(len(batch), np.nan)
    with pytest.raises(InputError, match="kernels that ran, got none"):
        DeviceCorrection.learn(batch, predicted, unknown)
    assert np.all(np.isnan(DeviceCorrection().apply(batch, unknown)))
    with pytest.raises(InputError, match="a number for each of constant, size"):
        DeviceCorrection.from_dict({"constant": 1.0})


def test_few_tasks_leave_intervals_as_wide_as_they_were():
    """Three programs of one task corrected a model's seconds, and made its intervals endless."""
    dataset = example_dataset(rng(), tasks=60, kernels_per_task=4, failures=False)
    predicted = dataset.log_latency - np.log(2.0) + rng(3).normal(scale=0.2, size=len(dataset))
    spread = np.full(len(dataset), 1.0)

    def ends_after(tasks):
        given = np.flatnonzero(dataset.batch.task_index < tasks)
        known = DeviceCorrections()
        known.learn(dataset.take(given), predicted[given], spread[given], rng())
        known = DeviceCorrections.from_state(json.loads(json.dumps(known.state())))
        log_latency = predicted.copy()
        ends = np.exp(predicted) / 4.0, np.exp(predicted) * 4.0
        known.apply(dataset.batch, log_latency, spread, ends)
        assert np.all((ends[0] < np.exp(log_latency)) & (np.exp(log_latency) < ends[1]))
        assert np.median(log_latency - predicted) == pytest.approx(np.log(2.0), abs=0.2)
        return np.log(ends[1] / ends[0])

    for tasks in (1, 3, 12):
        np.testing.assert_allclose(ends_after(tasks), np.log(16.0))
    assert np.all(ends_after(50) < np.log(8.0)), "so many tell how far off it is"
