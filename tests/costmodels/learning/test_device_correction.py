"""A few kernels of a device tell by which factor predictions are off there, and on which."""

import json

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.example_data import example_dataset
from costmodels.learning.device_correction import (
    PROPERTIES,
    DeviceCorrection,
    errors_left,
    properties,
)


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
    assert np.all(np.isnan(errors_left(batch.take(one), predicted[one], error, rng())))


def test_errors_left_are_those_of_tasks_that_were_not_learned(kernels):
    batch, predicted = kernels
    by_task = rng(3).normal(scale=0.5, size=len(batch.tasks))
    error = 1.0 + by_task[batch.task_index]
    left = errors_left(batch, predicted, error, rng())
    assert 0.3 < np.std(left) < 0.9  # nothing tells of a task's own error
    assert abs(np.median(left)) < 0.3  # but of what all have in common


def test_what_is_not_known_is_left_alone(kernels):
    batch, predicted = kernels
    unknown = np.full(len(batch), np.nan)
    with pytest.raises(InputError, match="kernels that ran, got none"):
        DeviceCorrection.learn(batch, predicted, unknown)
    assert np.all(np.isnan(DeviceCorrection().apply(batch, unknown)))
    with pytest.raises(InputError, match="a number for each of constant, size"):
        DeviceCorrection.from_dict({"constant": 1.0})
