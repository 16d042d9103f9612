import logging

import matmul_task
import pytest

from costmodels.errors import InputError
from costmodels.kernel import Failure, Measured
from tvm_integration import MeasureLog, WarmBuilder, WarmRunner
from tvm_integration.compat import (
    EvaluatorConfig,
    IRModule,
    PyRunner,
    RunnerFuture,
    RunnerResult,
    derived_object,
    tvm,
)
from tvm_integration.measure.measure_log import measure_callbacks
from tvm_integration.measure.outcomes import failure_from_message, failure_message

SLOW = matmul_task.matmul(200)


def first_fast_then_failing_then_slow(mod, target, _params, state={"builds": 0}):  # noqa: B006
    state["builds"] += 1
    if state["builds"] == 2:
        raise ValueError("no such intrinsic")
    return tvm.compile(mod if state["builds"] == 1 else SLOW, target).mod


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A tuning run whose candidates behave as planned."""
    told = []
    builder = WarmBuilder(max_workers=1, f_build=first_fast_then_failing_then_slow)
    config = EvaluatorConfig(number=3, repeat=1, min_repeat_ms=20)
    runner = WarmRunner(evaluator_config=config, early_stop_ratio=5)
    log = MeasureLog(runner, on_event=told.append)
    database = matmul_task.tune(
        matmul_task.matmul(),
        str(tmp_path_factory.mktemp("tuning")),
        max_trials_global=4,
        num_trials_per_iter=4,
        builder=builder,
        runner=runner,
        measure_callbacks=measure_callbacks(log),
    )
    return log, told, database, runner


def test_each_candidate_is_an_event(tuned):
    log, told, database, _ = tuned
    assert told == log.events
    assert [event.trial for event in log.events] == [0, 1, 2, 3]
    assert {(event.task_id, event.task_name) for event in log.events} == {(0, "main")}
    assert len(database) == 4


def test_failures_of_builds_keep_their_reason(tuned):
    event = tuned[0].events[1]
    assert event.failed_in == "build"
    assert event.failure.kind == "build"
    assert event.failure.reason.startswith("ValueError: no such intrinsic\nTraceback")
    assert event.run_secs is None
    assert event.note is None


def test_early_stops_are_told(tuned):
    log, _, _, runner = tuned
    assert [event.early_stopped for event in log.events] == [False, False, True, True]
    assert log.events[2].note.runs == 1
    assert log.events[2].run_secs[0] > 5 * log.events[0].run_secs[0]
    assert not runner._notes  # all were taken


def test_our_callback_comes_before_stocks():
    log = MeasureLog()
    names = [type(callback).__name__ for callback in measure_callbacks(log)]
    assert names == ["MeasureLog", "AddToDatabase", "RemoveBuildArtifact", "UpdateCostModel"]
    assert len(measure_callbacks()) == 3


@derived_object
class ScriptedRunner(PyRunner):
    """A runner of somebody else, which measures nothing."""

    def __init__(self, *results):
        super().__init__()
        self.results = results

    def run(self, runner_inputs):
        del runner_inputs
        return [RunnerFuture(lambda: True, lambda result=result: result) for result in self.results]


@pytest.fixture(scope="module")
def tune(tmp_path_factory):
    """Tune two kernels, two candidates each, on a runner that gives the same to both."""
    builder = WarmBuilder(max_workers=1)

    def tune_with(log, *results):
        matmul_task.tune(
            IRModule({name: matmul_task.matmul(1 + ord(name))["main"] for name in "ab"}),
            str(tmp_path_factory.mktemp("tuning")),
            max_trials_global=4,
            num_trials_per_iter=2,
            builder=builder,
            runner=ScriptedRunner(*results),
            measure_callbacks=measure_callbacks(log),
        )

    yield tune_with
    builder.close()


def test_events_are_bounded_and_count_for_each_task(tune):
    log = MeasureLog(max_events=3)
    tune(log, RunnerResult([0.5, 0.25], None), RunnerResult([1.0], None))
    found = [(event.task_id, event.task_name, event.trial) for event in log.events]
    assert found == [(0, "a", 1), (1, "b", 0), (1, "b", 1)]
    assert [event.measurement for event in log.events[1:]] == [
        Measured((0.5, 0.25)),
        Measured((1.0,)),
    ]


def test_stock_messages_and_unusable_times_are_failures(tune):
    log = MeasureLog()
    stock = "LocalRunner: Timeout, killed after 30 seconds\n"
    tune(log, RunnerResult(None, stock), RunnerResult([0.0], None))
    assert [event.failed_in for event in log.events] == ["run"] * 4
    assert log.events[0].failure == Failure("unknown", stock)
    assert "positive finite seconds" in log.events[1].failure.reason


def test_an_on_event_that_raises_is_logged_once(tune, caplog):
    seen = []

    def on_event(event):
        seen.append(event)
        raise ValueError("no terminal")

    log = MeasureLog(on_event=on_event)
    with caplog.at_level(logging.ERROR):
        tune(log, RunnerResult([1.0], None), RunnerResult([2.0], None))
    assert len(log.events) == 4
    assert len(seen) == 1
    assert "no terminal" in caplog.text


def test_parameters_are_checked():
    with pytest.raises(InputError, match="runner must be a WarmRunner or None, got str"):
        MeasureLog("local")
    with pytest.raises(InputError, match="max_events must be a whole number"):
        MeasureLog(max_events=0)


@pytest.mark.parametrize("kind", ["build", "crash", "run", "timeout"])
def test_failures_travel_through_messages(kind):
    failure = Failure(kind, "it said: no\nand more")
    assert failure_from_message(failure_message("WarmBuilder", failure)) == failure
