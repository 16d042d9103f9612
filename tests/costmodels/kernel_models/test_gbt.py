"""Trees learn to rank, keep learning in bounded time, and never prefer what failed."""

import numpy as np
import pytest

from costmodels.errors import InputError
from costmodels.kernel import Failure, Measured
from costmodels.kernel_models.gbt.config import Growth, TreesConfig
from costmodels.kernel_models.gbt.model import GradientBoostedTrees
from costmodels.kernel_models.gbt.trees import (
    Labels,
    TreeParameters,
    pairwise,
    ranking_error,
    squared_error,
)
from costmodels.metrics import kendall_tau, median_ape, per_task
from costmodels.testing.example_data import example_dataset


def tau(model, dataset):
    ran = np.flatnonzero(dataset.measured)
    part = dataset.take(ran)
    utility = model.predict(part.batch).utility
    return per_task(kendall_tau, utility, np.exp(part.log_latency), part.batch.task_index).mean()


def in_batches(model, dataset, size=32):
    for start in range(0, len(dataset), size):
        part = dataset.take(np.arange(start, min(start + size, len(dataset))))
        model.update(part.batch, part.measurements)


@pytest.mark.parametrize(
    "objective", [pytest.param("squared_error", marks=pytest.mark.exhaustive), "pairwise"]
)
def test_ranks_new_kernels_of_a_task_it_learns_online(objective):
    dataset = example_dataset(np.random.default_rng(0), tasks=1, kernels_per_task=512)
    model = GradientBoostedTrees(TreesConfig(objective=objective))
    in_batches(model, dataset.take(np.arange(256)))
    assert tau(model, dataset.take(np.arange(256, 512))) > 0.2


@pytest.mark.parametrize(
    "objective", [pytest.param("squared_error", marks=pytest.mark.exhaustive), "pairwise"]
)
def test_ranks_kernels_of_tasks_it_never_saw(objective):
    rng = np.random.default_rng(0)
    model = GradientBoostedTrees(TreesConfig(objective=objective))
    model.fit(example_dataset(rng, tasks=12, kernels_per_task=96), rng=rng)
    assert tau(model, example_dataset(rng, tasks=4, kernels_per_task=48, first_task=50)) > 0.3


def test_seconds_of_a_learned_task_are_near():
    dataset = example_dataset(
        np.random.default_rng(0), tasks=3, kernels_per_task=128, failures=False
    )
    model = GradientBoostedTrees()
    in_batches(model, dataset)
    latency_s = model.predict(dataset.batch).latency_s
    assert median_ape(latency_s, np.exp(dataset.log_latency)) < 0.3


def test_seconds_of_an_unknown_task_are_positive_and_relative_to_its_work():
    rng = np.random.default_rng(0)
    model = GradientBoostedTrees().fit(example_dataset(rng, failures=False), rng=rng)
    new = example_dataset(rng, tasks=1, first_task=90)
    latency_s = model.predict(new.batch).latency_s
    assert np.all(latency_s > 0)
    assert np.all(np.isfinite(latency_s))


def test_the_number_of_trees_is_capped_over_fifty_rounds():
    config = TreesConfig(
        online=Growth(most_rounds=60), most_trees=80, rounds_per_update=10, memory=256
    )
    model = GradientBoostedTrees(config)
    dataset = example_dataset(np.random.default_rng(0), tasks=2, kernels_per_task=400)
    trees = []
    for start in range(0, 800, 16):
        part = dataset.take(np.arange(start, start + 16))
        model.update(part.batch, part.measurements)
        trees.append(model.n_trees)
    assert len(trees) == 50
    assert max(trees) <= 80
    assert len(model._memory) == 256


def test_updates_continue_from_the_trees_of_fit():
    rng = np.random.default_rng(0)
    model = GradientBoostedTrees().fit(example_dataset(rng), rng=rng)
    before = model.n_trees
    in_batches(model, example_dataset(rng, tasks=1, kernels_per_task=96, first_task=70))
    assert model.n_trees > before
    kept = model._rank[:before]
    assert kept.get_dump() == model._base().get_dump()


def test_tuning_on_new_tasks_does_not_forget_old_ones():
    rng = np.random.default_rng(0)
    old = example_dataset(rng, tasks=8, kernels_per_task=96)
    held_out = example_dataset(rng, tasks=4, kernels_per_task=64, first_task=30)
    model = GradientBoostedTrees().fit(old, rng=rng)
    before = tau(model, held_out)
    in_batches(model, example_dataset(rng, tasks=2, kernels_per_task=128, first_task=60))
    assert tau(model, held_out) > before - 0.05


def test_labels_do_not_move_when_a_better_kernel_is_found():
    dataset = example_dataset(
        np.random.default_rng(0), tasks=1, kernels_per_task=64, failures=False
    )
    model = GradientBoostedTrees()
    model.update(dataset.batch.take(range(32)), dataset.measurements[:32])
    origin = dict(model._offsets)
    faster = [Measured((m.latency_s / 100,)) for m in dataset.measurements[32:]]
    model.update(dataset.batch.take(range(32, 64)), faster)
    assert model._offsets == origin


def test_a_task_of_failures_only_is_not_preferred():
    """TVM's XGBModel labels every candidate of such a task 1.0, the best there is."""
    rng = np.random.default_rng(0)
    good = example_dataset(rng, tasks=1, kernels_per_task=64, failures=False)
    bad = example_dataset(rng, tasks=1, kernels_per_task=64, first_task=1)
    model = GradientBoostedTrees()
    model.update(good.batch, good.measurements)
    before = model.predict(bad.batch).utility
    model.update(bad.batch, [Failure("crash", "made up")] * 64)
    np.testing.assert_array_equal(model.predict(bad.batch).utility, before)


def test_failed_kernels_are_learned_as_no_better_than_the_slowest():
    rng = np.random.default_rng(0)
    dataset = example_dataset(rng, tasks=1, kernels_per_task=256, failures=False)
    column = dataset.batch.rows[dataset.batch.row_offsets[:-1], 3]
    failing = column > np.median(column)
    measurements = [
        Failure("crash", "made up") if fails else m
        for fails, m in zip(failing, dataset.measurements, strict=True)
    ]
    model = GradientBoostedTrees()
    model.update(dataset.batch, measurements)
    utility = model.predict(dataset.batch).utility
    assert utility[failing].mean() < utility[~failing].mean() - 0.1


def test_one_sided_error_leaves_slow_predictions_of_failures_alone():
    labels = Labels(np.array([1.0, 1.0, 1.0]), np.array([False, True, True]), np.zeros(3, np.int64))
    gradient, _ = squared_error(labels)(np.array([2.0, 2.0, 0.5]))
    assert gradient.tolist() == [1.0, 1.0, 0.0]


def test_the_pairwise_gradient_is_that_of_its_loss():
    rng = np.random.default_rng(0)
    labels = Labels(rng.normal(size=10), np.zeros(10, bool), np.repeat([0, 1], 5))
    prediction = rng.normal(size=10)

    def gradient_at(values):
        return pairwise(labels, rng=np.random.default_rng(1))(values)

    gradient, curvature = gradient_at(prediction.copy())
    for kernel in range(10):
        step = np.zeros(10)
        step[kernel] = 1e-5
        slope = (gradient_at(prediction + step)[0] - gradient_at(prediction - step)[0]) / 2e-5
        assert slope[kernel] == pytest.approx(curvature[kernel] - 1e-3, rel=1e-4)
    assert gradient[:5].sum() == pytest.approx(0.0, abs=1e-12)
    assert gradient[5:].sum() == pytest.approx(0.0, abs=1e-12)


def test_validation_ignores_a_constant_per_task():
    rng = np.random.default_rng(0)
    labels = Labels(rng.normal(size=8), np.zeros(8, bool), np.repeat([0, 1], 4))
    shifted = labels.log_speed + np.repeat([3.0, -7.0], 4)
    assert ranking_error(shifted, labels) == pytest.approx(0.0, abs=1e-12)


def test_settings_survive_saving(tmp_path):
    config = TreesConfig(
        objective="pairwise", online=Growth(TreeParameters(max_depth=3)), memory=64
    )
    model = GradientBoostedTrees(config, rng=np.random.default_rng(5))
    model.save(tmp_path / "m.ckpt")
    assert GradientBoostedTrees.load(tmp_path / "m.ckpt").config == config


def test_an_unknown_objective_is_refused():
    with pytest.raises(InputError, match="objective must be 'squared_error' or 'pairwise'"):
        TreesConfig(objective="lambda")


def test_updates_keep_what_a_data_set_taught_of_seconds():
    rng = np.random.default_rng(0)
    model = GradientBoostedTrees().fit(example_dataset(rng, tasks=8), rng=rng)
    unknown = example_dataset(rng, tasks=1, first_task=90).batch
    before = model.predict(unknown).latency_s
    in_batches(model, example_dataset(rng, tasks=2, kernels_per_task=128, first_task=60))
    np.testing.assert_array_equal(model.predict(unknown).latency_s, before)
