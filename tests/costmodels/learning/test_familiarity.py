"""Intervals are wider on devices and for sizes that a model has not learned from."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels.features.schema import PER_STORE
from costmodels.kernel import Task, concatenate
from costmodels.kernel_models.ensemble import Ensemble
from costmodels.learning.familiarity import PER_DOUBLING, UNSEEN_DEVICE, Familiarity, device_key
from costmodels.testing.example_data import example_dataset
from halide_style.model import HalideStyleModel


def rng(seed=0):
    return np.random.default_rng(seed)


def elsewhere(batch, **changes):
    tasks = tuple(
        Task(f"{task.key} elsewhere", replace(task.device, **changes)) for task in batch.tasks
    )
    return replace(batch, tasks=tasks)


def larger(batch, doublings):
    rows = batch.rows.copy()
    for name in ("total.operations", "total.unique_bytes", "total.bytes"):
        rows[:, PER_STORE.index[name]] += doublings
    return replace(batch, rows=rows)


def usual(batch):
    """Kernels of no size that only few have."""
    return batch.take(np.flatnonzero(Familiarity.of(batch).spread_factor(batch) == 1.0))


@pytest.fixture(scope="module")
def data():
    return example_dataset(rng(), tasks=12, kernels_per_task=12, failures=False)


def test_a_device_goes_by_what_it_is_not_by_its_name_or_a_reading(data):
    device = data.batch.tasks[0].device
    other_reading = replace(device, name="b", bandwidth_byte_per_s=1.1e10, peak_flop_per_s=1e11)
    assert device_key(other_reading) == device_key(device)
    assert device_key(replace(device, cores=device.cores + 1)) != device_key(device)
    assert device_key(replace(device, l2_bytes=2 * device.l2_bytes)) != device_key(device)


def test_what_was_learned_is_familiar(data):
    found = Familiarity.of(data.batch)
    known = usual(data.batch)
    assert len(known) >= 0.97 * len(data.batch)
    assert Familiarity.from_dict(found.as_dict()) == found
    there = elsewhere(known, cores=96)
    np.testing.assert_array_equal(found.spread_factor(there), UNSEEN_DEVICE)
    np.testing.assert_array_equal(found.and_of(there).spread_factor(there), 1.0)
    keys = {task.key for task in there.tasks}
    np.testing.assert_array_equal(found.spread_factor(there, keys), 1.0)


def test_each_doubling_beyond_the_largest_counts(data):
    found = Familiarity.of(data.batch)
    at_most = found.spread_factor(larger(usual(data.batch), 2.0)).max()
    assert at_most == pytest.approx(1.0 + 2 * PER_DOUBLING, rel=0.05)
    few = data.batch.take(range(20))
    found = Familiarity.of(few)
    np.testing.assert_array_equal(found.spread_factor(few), 1.0)
    assert found.spread_factor(larger(few, 2.0)).max() == pytest.approx(1.0 + 2 * PER_DOUBLING)


def test_one_kernel_of_strange_size_makes_no_others_familiar():
    many = example_dataset(rng(), tasks=12, kernels_per_task=24, failures=False).batch
    one = larger(many.take([0]), 40.0)
    found = Familiarity.of(concatenate([many, one]))
    assert found.largest == pytest.approx(Familiarity.of(many).largest, rel=0.01)
    assert found.spread_factor(one)[0] > 10.0


def test_of_what_does_not_say_nothing_is_unfamiliar(data):
    for found in (Familiarity(), Familiarity.from_dict({})):
        factor = found.and_of(data.batch).spread_factor(elsewhere(data.batch, cores=96))
        np.testing.assert_array_equal(factor, 1.0)
    assert len(Familiarity.of(data.batch).spread_factor(data.batch.take([]))) == 0


@pytest.mark.parametrize("make", [HalideStyleModel, Ensemble])
def test_intervals_of_models_are_wider_there(make, data, tmp_path):
    model = make().fit(data, rng=rng())
    here, there = (
        data.batch,
        elsewhere(data.batch, clock_hz=1.1 * data.batch.tasks[0].device.clock_hz),
    )

    def widths(model, batch):
        found = model.predict(batch)
        return np.log(found.high_s / found.low_s)

    assert np.median(widths(model, there) / widths(model, here)) == pytest.approx(
        UNSEEN_DEVICE, rel=0.15
    )
    model.save(tmp_path / "model.ckpt")
    np.testing.assert_array_equal(
        widths(make.load(tmp_path / "model.ckpt"), there), widths(model, there)
    )
