"""Batches keep ragged rows together; measurements are never invented numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodels.errors import InputError, SchemaError
from costmodels.features.schema import DEVICE, PER_STORE
from costmodels.kernel import (
    Failure,
    KernelBatch,
    KernelDataset,
    KernelPrediction,
    Measured,
    Task,
    concatenate,
)
from costmodels.testing.example_data import example_dataset, example_device

COLUMNS = len(PER_STORE.columns)


def make_batch(counts, tasks=None):
    rows = np.arange(sum(counts) * COLUMNS, dtype=np.float32).reshape(-1, COLUMNS)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    names = tasks or ["a"] * len(counts)
    distinct = tuple(Task(name, example_device()) for name in dict.fromkeys(names))
    index = np.array([[t.key for t in distinct].index(name) for name in names], np.int64)
    return KernelBatch(PER_STORE, rows, offsets, distinct, index)


counts_lists = st.lists(st.integers(0, 4), min_size=1, max_size=8)


@given(counts=counts_lists, data=st.data())
def test_take_keeps_each_kernels_rows(counts, data):
    batch = make_batch(counts)
    chosen = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=10))
    part = batch.take(chosen)
    assert len(part) == len(chosen)
    for position, kernel in enumerate(chosen):
        rows = part.rows[part.row_offsets[position] : part.row_offsets[position + 1]]
        wanted = batch.rows[batch.row_offsets[kernel] : batch.row_offsets[kernel + 1]]
        np.testing.assert_array_equal(rows, wanted)


@given(counts=counts_lists)
def test_sum_rows_has_a_value_for_every_kernel(counts):
    batch = make_batch(counts)
    sums = batch.sum_rows(np.ones(len(batch.rows)))
    np.testing.assert_array_equal(sums, counts)


@given(first=counts_lists, second=counts_lists)
def test_concatenate_then_take_gives_the_parts_back(first, second):
    one, other = make_batch(first), make_batch(second, ["b"] * len(second))
    joined = concatenate([one, other])
    back = joined.take(np.arange(len(first), len(first) + len(second)))
    np.testing.assert_array_equal(back.rows, other.rows)
    assert [t.key for t in back.tasks] == ["b"]


def test_concatenate_keeps_a_shared_task_once():
    joined = concatenate([make_batch([1, 1], ["a", "b"]), make_batch([2], ["b"])])
    assert [task.key for task in joined.tasks] == ["a", "b"]
    assert joined.task_index.tolist() == [0, 1, 1]


def test_wrong_shapes_are_named():
    good = make_batch([1, 2])
    with pytest.raises(InputError, match=r"rows must be \[rows, 238\].*got \[3, 9\]"):
        KernelBatch(PER_STORE, np.zeros((3, 9), np.float32), *vars_of(good)[1:])
    with pytest.raises(InputError, match="row_offsets must go from 0 to 3"):
        KernelBatch(PER_STORE, good.rows, np.array([0, 1, 2]), good.tasks, good.task_index)
    with pytest.raises(InputError, match="row_offsets must never fall"):
        KernelBatch(PER_STORE, good.rows, np.array([0, 4, 3]), good.tasks, good.task_index)
    with pytest.raises(InputError, match="task_index must have 2 entries"):
        KernelBatch(PER_STORE, good.rows, good.row_offsets, good.tasks, np.zeros(3, np.int64))
    with pytest.raises(InputError, match="point into 1 tasks"):
        KernelBatch(PER_STORE, good.rows, good.row_offsets, good.tasks, np.array([0, 1]))


def vars_of(batch):
    return batch.rows, batch.row_offsets, batch.tasks, batch.task_index


def test_batches_of_different_schemas_do_not_join():
    device_rows = np.zeros((1, len(DEVICE.columns)), np.float32)
    other = KernelBatch(
        DEVICE, device_rows, np.array([0, 1]), (Task("a", example_device()),), np.array([0])
    )
    with pytest.raises(SchemaError):
        concatenate([make_batch([1]), other])


@pytest.mark.parametrize("times", [(), (0.0,), (-1.0,), (math.nan,), (math.inf,), (1e-3, 0.0)])
def test_times_that_cannot_be_are_refused(times):
    with pytest.raises(InputError, match="run_s must be positive finite seconds"):
        Measured(times)


def test_latency_is_the_median_and_failures_have_none():
    assert Measured((3.0, 1.0, 2.0)).latency_s == 2.0
    dataset = example_dataset(np.random.default_rng(0), tasks=1, kernels_per_task=12)
    assert isinstance(dataset.measurements[11], Failure)
    assert np.isnan(dataset.log_latency[11])
    assert not dataset.measured[11]
    assert np.isfinite(dataset.log_latency[:11]).all()


def test_a_dataset_needs_one_measurement_per_kernel():
    with pytest.raises(InputError, match=r"one per kernel \(2\), got 1"):
        KernelDataset(make_batch([1, 1]), (Measured((1.0,)),))


def test_an_interval_needs_its_coverage():
    utility = np.zeros(2)
    with pytest.raises(InputError, match="given together"):
        KernelPrediction(utility, utility, utility, utility)
    with pytest.raises(InputError, match=r"latency_s must be \[2\]"):
        KernelPrediction(utility, np.zeros(3))
