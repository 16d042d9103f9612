"""Neural models learn on without forgetting, and say how sure they are."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.kernel import Failure
from costmodels.kernel_models.graphsage import GraphSage, GraphSageShape
from costmodels.learning.kernel_training import TrainingConfig
from costmodels.learning.neural_model import NeuralConfig
from costmodels.metrics import kendall_tau, median_ape, per_task
from costmodels.testing.example_data import example_dataset
from halide_style.model import HalideStyleModel

MODELS = [GraphSage, HalideStyleModel]


def rng(seed=0):
    return np.random.default_rng(seed)


def tau(model, dataset):
    part = dataset.take(np.flatnonzero(dataset.measured))
    utility = model.predict(part.batch).utility
    return per_task(kendall_tau, utility, np.exp(part.log_latency), part.batch.task_index).mean()


@pytest.mark.parametrize("make", MODELS)
def test_ranks_kernels_of_tasks_it_never_saw(make):
    model = make().fit(example_dataset(rng(), tasks=12, kernels_per_task=96), rng=rng())
    unseen = example_dataset(rng(1), tasks=4, kernels_per_task=48, first_task=50)
    assert tau(model, unseen) > 0.3


@pytest.mark.parametrize("make", MODELS)
def test_learning_on_helps_new_tasks_and_changes_nothing_for_old_ones(make):
    model = make().fit(example_dataset(rng(), tasks=8, kernels_per_task=64), rng=rng())
    old = example_dataset(rng(1), tasks=4, kernels_per_task=48, first_task=50)
    before = model.predict(old.batch)
    new = example_dataset(rng(2), tasks=1, kernels_per_task=128, first_task=70, failures=False)
    rest = new.take(np.arange(64, 128))
    seconds = median_ape(model.predict(rest.batch).latency_s, np.exp(rest.log_latency))
    for start in (0, 32):
        part = new.take(np.arange(start, start + 32))
        model.update(part.batch, part.measurements)
    after = median_ape(model.predict(rest.batch).latency_s, np.exp(rest.log_latency))
    assert after < seconds
    np.testing.assert_array_equal(model.predict(old.batch).utility, before.utility)
    np.testing.assert_array_equal(model.predict(old.batch).latency_s, before.latency_s)


@pytest.mark.parametrize("make", MODELS)
def test_the_memory_and_so_the_time_of_an_update_is_bounded(make):
    config = NeuralConfig(TrainingConfig(epochs=2), memory=96, first_steps=1, later_steps=1)
    model = make(config=config)
    data = example_dataset(rng(), tasks=10, kernels_per_task=32)
    model.fit(data, rng=rng())
    for start in range(0, 320, 32):
        part = data.take(np.arange(start, start + 32))
        model.update(part.batch, part.measurements)
        assert len(model._memory) <= 96


@pytest.mark.parametrize("make", MODELS)
def test_intervals_hold_about_as_often_as_they_say(make):
    model = make().fit(
        example_dataset(rng(), tasks=20, kernels_per_task=32),
        rng=rng(),
        validation=example_dataset(rng(1), tasks=20, kernels_per_task=32, first_task=100),
    )
    test = example_dataset(rng(2), tasks=20, kernels_per_task=32, first_task=200, failures=False)
    found = model.predict(test.batch)
    inside = (found.low_s <= np.exp(test.log_latency)) & (np.exp(test.log_latency) <= found.high_s)
    assert found.coverage == 0.9
    assert 0.8 < inside.mean() < 0.97


@pytest.mark.parametrize("pooling", [("mean",), ("max",), ("mean", "max"), ("sum",)])
@pytest.mark.parametrize("schedule", ["nodes", "kernel", "both", "none"])
def test_every_shape_learns_and_survives_saving(pooling, schedule, tmp_path):
    shape = GraphSageShape(size=16, layers=1, pooling=pooling, schedule=schedule)
    config = NeuralConfig(TrainingConfig(epochs=3))
    data = example_dataset(rng(), tasks=8)
    model = GraphSage(shape, config).fit(data, rng=rng())
    model.save(tmp_path / "m.ckpt")
    loaded = GraphSage.load(tmp_path / "m.ckpt")
    assert (loaded.shape, loaded.config) == (shape, config)
    utility = model.predict(data.batch).utility
    np.testing.assert_array_equal(loaded.predict(data.batch).utility, utility)
    spread = max(np.ptp(utility[data.batch.task_index == task]) for task in range(8))
    assert (spread < 1e-5) == (schedule == "none"), "without the schedule, programs look alike"


def test_a_model_without_graph_needs_none(tmp_path):
    model = GraphSage(GraphSageShape(graph=False, schedule="kernel"))
    data = example_dataset(rng(), tasks=8)
    model.fit(data, rng=rng())
    assert tau(model, data) > 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "edges"}, "schedule must be one of nodes, kernel, both, none, got 'edges'"),
        ({"pooling": ("median",)}, "pooling must be a tuple of some of mean, max, sum"),
        ({"pooling": ()}, "pooling must be a tuple of some of mean, max, sum"),
        ({"pooling": "mean"}, "pooling must be a tuple of some of mean, max, sum, got 'mean'"),
        ({"size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"layers": -1}, "layers must be a whole number of at least 0, got -1"),
        ({"graph": False}, "schedule must be 'kernel' for a model without graph, got 'both'"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        GraphSageShape(**options)


def test_no_model_without_members():
    with pytest.raises(InputError, match="members must be at least 1, got 0"):
        NeuralConfig(members=0)


def test_a_refused_update_changes_nothing():
    data = example_dataset(rng(), tasks=2)
    model = GraphSage()
    with pytest.raises(InputError, match="must be given kernels with graphs, got rows alone"):
        model.update(data.batch.without_graphs(), data.measurements)
    model.update(data.batch, data.measurements)
    assert model.is_fitted


@pytest.mark.parametrize("make", MODELS)
def test_rows_that_are_no_numbers_stay_with_their_kernels(make):
    data = example_dataset(rng(), tasks=8)
    rows = data.batch.rows.copy()
    rows[0], rows[1], rows[2], rows[3] = np.nan, np.inf, -1e38, 3e38
    bad = replace(data, batch=replace(data.batch, rows=rows))
    config = NeuralConfig(TrainingConfig(epochs=3), first_steps=3, later_steps=3)
    model = make(config=config).fit(bad, rng=rng())
    model.update(bad.batch, bad.measurements)
    found = model.predict(data.batch)
    assert np.all(np.isfinite(found.utility))
    assert np.all(np.isfinite(model.predict(bad.batch).utility))


@pytest.mark.parametrize("make", MODELS)
def test_a_fit_needs_a_kernel_that_ran(make):
    data = example_dataset(rng(), tasks=2)
    failed = replace(data, measurements=(Failure("run", "made up"),) * len(data))
    for nothing in (data.take([]), failed):
        with pytest.raises(InputError, match="must be given kernels that ran"):
            make().fit(nothing, rng=rng())
    config = NeuralConfig(TrainingConfig(epochs=1))
    assert make(config=config).fit(data, rng=rng(), validation=data.take([])).is_fitted
