"""The roofline is the slower of computing and moving."""

import numpy as np
import pytest

from costmodels.features.roofline import SHORTEST_S, log_bound
from costmodels.features.schema import PER_STORE
from costmodels.kernel import KernelBatch, Task
from costmodels.testing.example_data import example_device


def batch_of(*stages, counts, size_bytes=None):
    """Stages as (operations, unique bytes); bytes in all are as many, unless given."""
    rows = np.zeros((len(stages), len(PER_STORE.columns)), np.float32)
    for row, (operations, unique) in zip(rows, stages, strict=True):
        row[PER_STORE.index["total.operations"]] = np.log2(operations + 1)
        row[PER_STORE.index["total.unique_bytes"]] = np.log2(unique + 1)
        row[PER_STORE.index["total.bytes"]] = np.log2((size_bytes or unique) + 1)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    task = (Task("t", example_device()),)
    return KernelBatch(PER_STORE, rows, offsets, task, np.zeros(len(counts), np.int64))


def test_computing_or_moving_whichever_is_slower():
    batch = batch_of((1.6e11, 8), (8, 3e10), counts=[1, 1])
    np.testing.assert_allclose(np.exp(log_bound(batch)), [1.0, 1.0], rtol=1e-5)


def test_operations_add_up_over_stages_and_the_largest_stage_moves():
    batch = batch_of((0.8e11, 8), (0.8e11, 8), counts=[2])
    assert np.exp(log_bound(batch)[0]) == pytest.approx(1.0, rel=1e-5)
    batch = batch_of((8, 3e10), (8, 3e10), counts=[2])
    assert np.exp(log_bound(batch)[0]) == pytest.approx(1.0, rel=1e-5)


def test_a_kernel_without_rows_has_a_bound():
    batch = batch_of((8, 8), counts=[1, 0])
    assert np.exp(log_bound(batch)[1]) == pytest.approx(SHORTEST_S)


def test_no_stage_moves_more_than_it_touches():
    """TVM takes all that the index of a gather can reach for touched."""
    batch = batch_of((8, 2**43), counts=[1], size_bytes=3e10)
    assert np.exp(log_bound(batch)[0]) == pytest.approx(1.0, rel=1e-5)
