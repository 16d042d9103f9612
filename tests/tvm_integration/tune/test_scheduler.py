"""The scheduler commits each batch at once, prefers heavy tasks, and stops when told to."""

import tempfile

import pytest
from search_tasks import TARGET, matmul, relu

from tvm_integration import EagerScheduler, MeasureLog
from tvm_integration.compat import (
    BuilderResult,
    PyBuilder,
    PyRunner,
    PyRunnerFuture,
    RunnerResult,
    derived_object,
    meta_schedule,
)
from tvm_integration.measure.measure_log import measure_callbacks


@derived_object
class NoBuilder(PyBuilder):
    """Builds nothing: scheduling is what is tested."""

    def build(self, build_inputs):
        folders = [tempfile.mkdtemp(prefix="costmodels-test-") for _ in build_inputs]
        return [BuilderResult(f"{folder}/artifact.tar", None) for folder in folders]


@derived_object
class Future(PyRunnerFuture):
    def __init__(self, run_s):
        super().__init__()
        self.run_s = run_s

    def done(self):
        return True

    def result(self):
        if self.run_s is None:
            return RunnerResult(None, "made up")
        return RunnerResult([self.run_s], None)


@derived_object
class ScriptedRunner(PyRunner):
    """Times by the number of arguments: two for relu, three for matmul."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def run(self, runner_inputs):
        return [Future(self.seconds[len(i.args_info)]) for i in runner_inputs]


def tune(tmp_path, scheduler, seconds, trials=32, weights=(1.0, 1.0)):
    contexts = [
        meta_schedule.TuneContext(
            mod=module,
            target=TARGET,
            space_generator="post-order-apply",
            search_strategy="replay-trace",
            task_name=name,
            rand_state=1,
        ).clone()
        for name, module in (("matmul", matmul()), ("relu", relu()))
    ]
    log = MeasureLog()
    database = meta_schedule.tune_tasks(
        tasks=contexts,
        task_weights=list(weights),
        work_dir=str(tmp_path),
        max_trials_global=trials,
        num_trials_per_iter=4,
        builder=NoBuilder(),
        runner=ScriptedRunner(seconds),
        cost_model="none",
        task_scheduler=scheduler,
        measure_callbacks=measure_callbacks(log),
    )
    return [event.task_name for event in log.events], database


def test_the_heavy_task_gets_more_trials(tmp_path):
    scheduler = EagerScheduler(untuned_s=[1e-2, 1e-3])
    names, _ = tune(tmp_path, scheduler, {3: 5e-3, 2: 5e-4})
    assert names[0] == "matmul"
    assert names.count("matmul") > names.count("relu") > 0


def test_weights_count(tmp_path):
    scheduler = EagerScheduler(untuned_s=[1e-3, 1e-3])
    names, _ = tune(tmp_path, scheduler, {3: 5e-4, 2: 5e-4}, weights=(1.0, 10.0))
    assert names[0] == "relu"
    assert names.count("relu") > names.count("matmul")


def test_a_kernel_that_matters_is_reached_before_another_gets_more(tmp_path):
    """Untuned it takes a thousandth of the network, and a fifth of what is left."""
    scheduler = EagerScheduler(untuned_s=[1.0, 1e-3])
    names, _ = tune(tmp_path, scheduler, {3: 4e-3, 2: 1e-3})
    assert names[:8] == ["matmul"] * 4 + ["relu"] * 4


def test_a_kernel_that_does_not_matter_waits(tmp_path):
    scheduler = EagerScheduler(untuned_s=[1.0, 1e-6])
    names, _ = tune(tmp_path, scheduler, {3: 4e-3, 2: 1e-6})
    assert set(names) == {"matmul"}


def test_every_batch_is_committed_before_the_next_is_chosen(tmp_path):
    """Stock schedulers commit nothing until each task has had its first batch."""
    records = tmp_path / "database_tuning_record.json"
    sizes = []

    def on_batch(_):
        sizes.append(len(records.read_text().splitlines()))

    tune(tmp_path, EagerScheduler(on_batch=on_batch), {3: 1e-3, 2: 1e-3}, trials=16)
    assert sizes[0] == 4
    assert sizes == sorted(sizes)


def test_it_stops_when_told_to(tmp_path):
    batches = []
    scheduler = EagerScheduler(should_stop=lambda: len(batches) >= 2, on_batch=batches.append)
    names, database = tune(tmp_path, scheduler, {3: 1e-3, 2: 1e-3})
    assert len(names) == len(database) == 8


def test_a_task_that_only_fails_does_not_take_all_trials(tmp_path):
    scheduler = EagerScheduler(untuned_s=[1e-2, 8e-3])
    names, _ = tune(tmp_path, scheduler, {3: None, 2: 1e-3})
    assert names.count("relu") > 4


@pytest.mark.parametrize("known", [[], [1e-3, 1e-3]])
def test_latencies_of_earlier_runs_are_optional(tmp_path, known):
    names, _ = tune(tmp_path, EagerScheduler(best_s=known), {3: 1e-3, 2: 1e-3}, trials=8)
    assert len(names) == 8


def test_each_task_that_matters_gets_its_trials_and_no_more(tmp_path):
    scheduler = EagerScheduler(trials=[8, 0], trials_each=16)
    names, _ = tune(tmp_path, scheduler, {3: 2e-3, 2: 1e-3}, trials=1000)
    assert (names.count("matmul"), names.count("relu")) == (8, 16)


def test_a_light_task_gets_none_where_each_that_matters_has_its_trials(tmp_path):
    scheduler = EagerScheduler(untuned_s=[1e-2, 1e-6], trials_each=8)
    names, _ = tune(tmp_path, scheduler, {3: 1e-2, 2: 1e-6}, trials=1000)
    assert names == ["matmul"] * 8
