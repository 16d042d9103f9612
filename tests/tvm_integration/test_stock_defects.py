"""Defects of TVM's own cost models, shown as they are; the tests beside each say what ours does.

If one of these fails, TVM has mended it: then the README's table is out of date.
"""

import numpy as np
import pytest
from search_tasks import candidate, context_for, full, made_up_results, matmul, random_candidates

from tvm_integration import MetaScheduleCostModel
from tvm_integration.compat import RunnerResult, meta_schedule


@pytest.fixture
def task():
    return random_candidates()


def stock(**options):
    return meta_schedule.cost_model.XGBModel(num_warmup_samples=4, **options)


def test_the_tree_method_is_lost():
    assert stock(tree_method="exact").config.tree_method == "auto"


def test_our_tree_parameters_arrive():
    from costmodels.kernel_models.gbt.config import Growth, TreesConfig
    from costmodels.kernel_models.gbt.model import GradientBoostedTrees
    from costmodels.kernel_models.gbt.trees import TreeParameters, TreeTrainer
    from costmodels.testing.example_data import example_dataset

    config = TreesConfig(online=Growth(TreeParameters(max_depth=2)))
    model = MetaScheduleCostModel(GradientBoostedTrees(config))
    trained = model.kernel_model
    dataset = example_dataset(np.random.default_rng(0), tasks=1)
    trained.update(dataset.batch, dataset.measurements)
    assert max(tree.count("leaf") for tree in trained._rank.get_dump()) <= 4
    assert TreeTrainer(dataset.batch, config.online.trees, 0)._parameters["max_depth"] == 2


def test_a_model_saved_before_training_does_not_load(tmp_path):
    """Ours: `test_cost_model.test_a_checkpoint_saved_before_training_loads`."""
    path = str(tmp_path / "model.tar")
    model = meta_schedule.cost_model.XGBModel()
    model.save(path)
    with pytest.raises((UnboundLocalError, RuntimeError)):
        model.load(path)


def test_a_task_of_failures_gets_the_best_label(task):
    """Ours: `test_cost_model.test_a_task_whose_every_candidate_failed_is_not_preferred`."""
    model = stock()
    failures = [RunnerResult(None, "crashed")] * len(task.candidates)
    model.update(task.context, task.candidates, failures)
    scores = model.predict(task.context, task.candidates)
    assert scores.mean() > 0.9


def test_candidates_without_rows_shorten_the_answer(task):
    """Ours: `test_cost_model.test_candidates_without_rows_at_the_end`."""
    model = stock()
    model.update(task.context, task.candidates, made_up_results(len(task.candidates)))
    mixed = [*task.candidates[:3], candidate(full())]
    with pytest.raises(TypeError, match="Cannot cast array data"):
        model.predict(context_for(matmul()), mixed)


def test_a_time_that_is_no_number_ends_the_run(task):
    """Ours: `test_cost_model.test_an_empty_update_is_no_reason_to_raise`."""
    model = stock()
    results = made_up_results(len(task.candidates) - 1)
    with pytest.raises(RuntimeError, match="Label contains NaN"):
        model.update(task.context, task.candidates, [*results, RunnerResult([float("nan")], None)])


def test_the_mlp_needs_five_tasks(task):
    """Ours: `test_cost_model.test_one_task_is_enough`."""
    from tvm.s_tir.meta_schedule.cost_model.mlp_model import MLPModel

    model = MLPModel()
    with pytest.raises(ValueError, match="need at least one array"):
        model.update(task.context, task.candidates, made_up_results(len(task.candidates)))


def test_our_normalizer_does_not_depend_on_the_call():
    """MLPModel divides by the largest value of the current call and does not save it.

    Ours: `check_batch_independence` and `check_save_load` of `costmodels.testing`.
    """
    from costmodels.testing import KERNEL_MODEL_CHECKS, check_batch_independence, check_save_load

    assert {check_batch_independence, check_save_load} <= set(KERNEL_MODEL_CHECKS)


def test_our_early_stopping_watches_kernels_held_out(monkeypatch):
    """XGBModel stops on its training error, after up to 10 000 rounds."""
    from costmodels.kernel_models.gbt import model as gbt
    from costmodels.testing.example_data import example_dataset

    seen = []
    real = gbt.TreeTrainer.best_rounds

    def spy(self, objective, most, *, start, validation, patience):
        seen.append((len(self._batch), set(validation[1].task_index.tolist()), most))
        return real(self, objective, most, start=start, validation=validation, patience=patience)

    monkeypatch.setattr(gbt.TreeTrainer, "best_rounds", spy)
    model = gbt.GradientBoostedTrees()
    many = example_dataset(np.random.default_rng(0), tasks=10, kernels_per_task=12)
    model.fit(many, rng=np.random.default_rng(0))
    learned, tasks_held_out, most = seen.pop()
    assert learned == 120 - 12 * len(tasks_held_out)
    assert len(tasks_held_out) == 2
    assert most <= 400

    model = gbt.GradientBoostedTrees()
    one = example_dataset(np.random.default_rng(0), tasks=1, kernels_per_task=64)
    for begin in (0, 32):
        part = one.take(np.arange(begin, begin + 32))
        model.update(part.batch, part.measurements)
    assert [learned for learned, _, _ in seen] == [32], "the newest batch is held out"
