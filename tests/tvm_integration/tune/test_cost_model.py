"""The adapter keeps MetaSchedule's contract, whatever the model and the measurements do."""

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest
from search_tasks import (
    candidate,
    context_for,
    full,
    made_up_results,
    matmul,
    random_candidates,
    write_database,
)

from costmodels.checkpoint import load_checkpoint
from costmodels.device import detect_host
from costmodels.errors import CheckpointError, InputError
from costmodels.kernel import KernelPrediction
from costmodels.kernel_models.gbt.model import GradientBoostedTrees
from costmodels.kernel_models.random import RandomModel
from costmodels.testing.example_data import example_dataset
from tvm_integration import MetaScheduleCostModel
from tvm_integration.compat import RunnerResult, Target, meta_schedule
from tvm_integration.records.database import CHECKPOINT, RECORDS
from tvm_integration.tune.candidate_scores import EVEN_SCORE, scores_from_utility


@pytest.fixture
def task():
    return random_candidates()


def trained(**options):
    task = random_candidates()
    model = MetaScheduleCostModel("gbt", **options)
    model.update(task.context, task.candidates, made_up_results(len(task.candidates)))
    return model


class Stub(RandomModel):
    """Answers what it is told to."""

    name: ClassVar[str] = "stub"

    def __init__(self, answer=None):
        super().__init__()
        self.answer = answer
        self.updates = 0

    def predict(self, batch):
        if isinstance(self.answer, Exception):
            raise self.answer
        return KernelPrediction(self.answer(batch))

    def update(self, batch, measurements):
        self.updates += 1
        if isinstance(self.answer, Exception):
            raise self.answer


def test_scores_lie_between_0_and_1_and_rise_with_speed(task):
    model = trained()
    scores = model.predict(task.context, task.candidates)
    assert scores.dtype == np.float64
    assert np.all((scores > 0) & (scores <= 1))
    batch = model.tuning.scores._extractor.extract(
        task.context, task.candidates, model.tuning.scores._task(task.context)
    )
    utility = model.kernel_model.predict(batch).utility
    assert np.all(np.diff(scores[np.argsort(utility)]) >= 0)
    assert len(np.unique(scores)) > 1


def test_the_score_of_a_candidate_does_not_depend_on_its_batch(task):
    model = trained()
    scores = model.predict(task.context, task.candidates)
    for size in (1, 5):
        part = model.predict(task.context, task.candidates[:size])
        np.testing.assert_allclose(part, scores[:size], rtol=1e-6)


@pytest.mark.parametrize("utility", [-1e9, -50.0, 0.0, 50.0, 1e9])
def test_the_map_never_leaves_its_range(utility):
    (score,) = scores_from_utility(np.array([utility]), 0.0)
    assert 0 < score <= 1


def test_the_map_is_nearly_proportional_to_the_predicted_speed():
    one, two = scores_from_utility(np.log([10.0, 20.0]), 0.0)
    assert two / one == pytest.approx(2.0, rel=0.02)


def test_nothing_learned_gives_even_scores(task):
    scores = MetaScheduleCostModel().predict(task.context, task.candidates)
    np.testing.assert_array_equal(scores, np.full(len(task.candidates), EVEN_SCORE))


def test_a_trained_model_is_used_from_the_first_batch_on(task):
    """XGBModel predicts its first 100 samples at random."""
    results = made_up_results(24)
    model = MetaScheduleCostModel()
    model.update(task.context, task.candidates[:16], results[:16])
    first, again = (model.predict(task.context, task.candidates) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first)) > 1


def test_a_pretrained_model_is_used_at_once(task, tmp_path):
    rng = np.random.default_rng(0)
    GradientBoostedTrees().fit(example_dataset(rng), rng=rng).save(tmp_path / "m.ckpt")
    scores = MetaScheduleCostModel(tmp_path / "m.ckpt").predict(task.context, task.candidates)
    assert len(np.unique(scores)) > 1


def test_tvm_calls_it_through_its_own_interface(task):
    """CostModel.predict writes into an array of TVM's, where a wrong shape would be broadcast."""
    model = trained()
    base = meta_schedule.cost_model.CostModel
    assert isinstance(model, base)
    scores = base.predict(model, task.context, task.candidates)
    np.testing.assert_array_equal(scores, model.predict(task.context, task.candidates))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda batch: np.full(len(batch), np.nan), "utilities that are not finite"),
        (lambda batch: np.full(len(batch), np.inf), "utilities that are not finite"),
        (lambda batch: np.zeros(len(batch)), "the same utility to every candidate"),
        (lambda batch: np.zeros(1), r"must give 24 utilities, got shape \[1\]"),
        (RuntimeError("broken"), "stub raised in predict"),
    ],
)
def test_a_useless_answer_is_reported_once_and_replaced(task, caplog, answer, message):
    model = MetaScheduleCostModel(Stub(answer))
    caplog.clear()
    for _ in range(3):
        scores = model.predict(task.context, task.candidates)
        np.testing.assert_array_equal(scores, np.full(24, EVEN_SCORE))
    reports = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(reports) == 1
    assert __import__("re").search(message, reports[0].getMessage())
    assert bool(reports[0].exc_info) == isinstance(answer, Exception)


def test_equal_programs_are_no_fault_of_the_model(task, caplog):
    model = trained()
    caplog.clear()
    scores = model.predict(task.context, [task.candidates[0]] * 5)
    np.testing.assert_array_equal(scores, np.full(5, scores[0]))
    assert not caplog.records


def test_an_exception_in_update_keeps_the_last_good_model(task, caplog):
    model = trained()
    before = model.predict(task.context, task.candidates)
    good = model.kernel_model
    broken = type("Broken", (GradientBoostedTrees,), {"_grow": None, "_refit": None})
    model.tuning.scores.model.__class__ = broken
    model.update(task.context, task.candidates, made_up_results(24, seed=1))
    model.tuning.scores.model.__class__ = GradientBoostedTrees
    assert model.kernel_model is good
    np.testing.assert_array_equal(model.predict(task.context, task.candidates), before)
    assert "Traceback" in caplog.text


def test_what_cannot_be_learned_is_dropped_and_counted(task, caplog):
    model = MetaScheduleCostModel()
    times = [[0.0], [-1.0], [math.nan], [math.inf], [1e-3, 0.0], [1e-3], [2e-3]]
    results = [RunnerResult(list(t), None) for t in times]
    model.update(task.context, task.candidates[:7], results)
    assert "5 of 7 times were zero, negative, infinite or no numbers" in caplog.text
    assert (model.reports[-1].measured, model.reports[-1].dropped) == (2, 5)


def test_failures_are_failures_however_they_are_written(task):
    """A failed run has no times when it comes from a runner, and 1e10 s from a database."""
    model = MetaScheduleCostModel()
    results = [
        RunnerResult(None, "crashed"),
        RunnerResult([1e10], None),
        *made_up_results(6),
    ]
    model.update(task.context, task.candidates[:8], results)
    assert (model.reports[-1].measured, model.reports[-1].failed) == (6, 2)
    latencies = model.kernel_model._memory.log_latency
    assert np.isnan(latencies).sum() == 2
    assert np.nanmax(latencies) < 0


def test_a_task_whose_every_candidate_failed_is_not_preferred(task):
    """XGBModel labels each of them 1.0, the best there is."""
    model = trained()
    other = random_candidates("relu")
    before = model.predict(other.context, other.candidates)
    model.update(other.context, other.candidates, [RunnerResult(None, "crashed")] * 24)
    np.testing.assert_array_equal(model.predict(other.context, other.candidates), before)


def test_an_empty_update_is_no_reason_to_raise(task):
    """XGBModel handles this one, but not NaN; MLPModel neither."""
    model = trained()
    model.update(task.context, [], [])
    model.update(task.context, task.candidates[:1], [RunnerResult([math.nan], None)])


def test_candidates_without_rows_at_the_end(task):
    """XGBModel's bincount has no length: its answer then comes out short."""
    model = trained()
    context = context_for(matmul())
    mixed = [*task.candidates[:3], candidate(full())]
    scores = model.predict(context, mixed)
    assert scores.shape == (4,)
    assert np.all(np.isfinite(scores))
    only = model.predict(context_for(full()), [candidate(full())])
    assert only.shape == (1,)


def test_one_task_is_enough(task):
    """MLPModel crashes at the first update with fewer than five tasks."""
    assert trained().kernel_model.is_fitted


def test_measurements_are_judged_before_they_are_learned(task):
    model = trained()
    model.update(task.context, task.candidates, made_up_results(24))
    first, second = model.reports
    assert not first.predicted
    assert math.isnan(first.kendall_tau)
    assert second.predicted
    assert second.kendall_tau > 0.3  # the same candidates and times again: learned by then
    # And with the times upside down: of all that was predicted half is wrong then.
    model.update(task.context, task.candidates, made_up_results(24)[::-1])
    third = model.reports[2]
    of_its_batch = 2 * third.pair_accuracy - 1
    assert of_its_batch < third.kendall_tau < second.kendall_tau


def test_without_work_dir_it_says_once_that_nothing_is_saved(task, caplog):
    trained()
    said = [r for r in caplog.records if "nothing is saved" in r.getMessage()]
    assert len(said) == 1


def test_the_checkpoint_is_written_after_every_update(task, tmp_path):
    model = trained(work_dir=tmp_path)
    first = (tmp_path / CHECKPOINT).read_bytes()
    assert load_checkpoint(tmp_path / CHECKPOINT).model == "gbt"
    model.update(task.context, task.candidates[:8], made_up_results(8, seed=2))
    assert (tmp_path / CHECKPOINT).read_bytes() != first
    assert sorted(p.name for p in tmp_path.iterdir()) == [CHECKPOINT]


def test_a_later_run_starts_warm(task, tmp_path):
    before = trained(work_dir=tmp_path).predict(task.context, task.candidates)
    after = MetaScheduleCostModel("gbt", work_dir=tmp_path).predict(task.context, task.candidates)
    np.testing.assert_array_equal(after, before)


class Unregistered(GradientBoostedTrees):
    """A model of somebody's own, handed over as an object."""

    name: ClassVar[str] = "unregistered"


def test_a_model_that_is_not_registered_resumes_too(task, tmp_path):
    first = MetaScheduleCostModel(Unregistered(), work_dir=tmp_path)
    first.update(task.context, task.candidates, made_up_results(24))
    again = MetaScheduleCostModel(Unregistered(), work_dir=tmp_path)
    assert isinstance(again.kernel_model, Unregistered)
    np.testing.assert_array_equal(
        again.predict(task.context, task.candidates), first.predict(task.context, task.candidates)
    )


def resumed_over_given(caplog):
    return [r for r in caplog.records if "the model given is not used" in r.getMessage()]


def test_a_given_model_that_gives_way_to_the_folders_own_is_named(task, tmp_path, caplog):
    given = tmp_path / "given.ckpt"
    trained().save(str(given))
    work_dir = tmp_path / "work"
    model = MetaScheduleCostModel(given, work_dir=work_dir)
    model.update(task.context, task.candidates[:8], made_up_results(8, seed=2))
    MetaScheduleCostModel(given, work_dir=work_dir)
    MetaScheduleCostModel("gbt", work_dir=work_dir)
    assert not resumed_over_given(caplog), "it goes on with what it began with"
    other = trained()
    other.update(task.context, task.candidates[:8], made_up_results(8, seed=3))
    MetaScheduleCostModel(other.kernel_model, work_dir=work_dir)
    assert len(resumed_over_given(caplog)) == 1
    other.save(str(given))
    MetaScheduleCostModel(given, work_dir=work_dir)
    assert len(resumed_over_given(caplog)) == 2


def test_two_models_save_to_one_place_at_once(tmp_path):
    path = tmp_path / "m.ckpt"
    models = [trained(), trained(seed=5)]

    def save_often(model):
        for _ in range(30):
            model.save(str(path))
            load_checkpoint(path)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(save_often, models))
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.ckpt"]


def test_records_it_has_not_learned_are_replayed(task, tmp_path):
    results = [*made_up_results(20), *[RunnerResult(None, "crashed")] * 4]
    write_database(tmp_path, task, results)
    model = MetaScheduleCostModel("gbt", work_dir=tmp_path)
    assert model.kernel_model.is_fitted
    assert (model.reports[0].measured, model.reports[0].failed) == (20, 4)
    again = MetaScheduleCostModel("gbt", work_dir=tmp_path)
    assert again.reports == []
    np.testing.assert_array_equal(
        again.predict(task.context, task.candidates), model.predict(task.context, task.candidates)
    )


def test_records_learned_in_tuning_are_not_replayed(task, tmp_path):
    results = made_up_results(24)
    model = MetaScheduleCostModel("gbt", work_dir=tmp_path)
    model.update(task.context, task.candidates[:16], results[:16])
    write_database(tmp_path, task, results)
    again = MetaScheduleCostModel("gbt", work_dir=tmp_path)
    assert [report.measured for report in again.reports] == [8]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trained(work_dir=tmp_path)
    with pytest.raises(CheckpointError, match="must be of model 'random', got 'gbt'"):
        MetaScheduleCostModel("random", work_dir=tmp_path)


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="damaged or other file"):
        MetaScheduleCostModel("gbt", work_dir=tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == b"nonsense"


def test_a_checkpoint_saved_before_training_loads(tmp_path):
    """XGBModel then raises UnboundLocalError."""
    path = str(tmp_path / "m.ckpt")
    MetaScheduleCostModel().save(path)
    model = MetaScheduleCostModel()
    model.load(path)
    assert not model.kernel_model.is_fitted


def test_loading_runs_no_code(tmp_path):
    """XGBModel saves its data as a pickle."""
    path = tmp_path / "m.ckpt"
    trained().save(str(path))
    assert b"pickle" not in path.read_bytes()
    assert all(a.dtype != object for a in load_checkpoint(path).arrays.values())


@pytest.mark.parametrize("model", ["nope", 3, GradientBoostedTrees])
def test_an_unknown_model_is_refused(model):
    with pytest.raises(InputError, match="model must be"):
        MetaScheduleCostModel(model)


def test_other_parameters_are_checked():
    with pytest.raises(InputError, match="work_dir must be a path, got 3"):
        MetaScheduleCostModel(work_dir=3)
    with pytest.raises(InputError, match=r"seed must be in 0 \.\.\. 2147483646, got -1"):
        MetaScheduleCostModel("gbt", seed=-1)


def test_a_checkpoint_that_cannot_be_written_is_named():
    with pytest.raises(CheckpointError, match="checkpoint /proc/x cannot be written"):
        trained().save("/proc/x")


def test_a_missing_checkpoint_is_refused():
    with pytest.raises(CheckpointError, match="cannot be read"):
        MetaScheduleCostModel("missing.ckpt")


def test_a_target_whose_device_is_unknown_needs_a_device(task):
    context = meta_schedule.TuneContext(
        mod=matmul(), target=Target("nvidia/nvidia-t4"), task_name="t", num_threads=2
    )
    with pytest.raises(InputError, match="a device file must be given for target kind 'cuda'"):
        MetaScheduleCostModel().predict(context, task.candidates)
    scores = MetaScheduleCostModel(device=detect_host()).predict(context, task.candidates)
    assert len(scores) == 24


def test_a_half_written_database_is_replayed(task, tmp_path, caplog):
    write_database(tmp_path, task, made_up_results(24))
    path = tmp_path / RECORDS
    path.write_bytes(path.read_bytes()[:-50])
    model = MetaScheduleCostModel("gbt", work_dir=tmp_path)
    assert "half written and was cut off" in caplog.text
    assert model.reports[0].measured == 23
