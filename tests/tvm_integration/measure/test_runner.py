import os
import signal
from pathlib import Path

import matmul_task
import numpy as np
import pytest

from costmodels.errors import InputError
from tvm_integration import WarmBuilder, WarmRunner
from tvm_integration.compat import (
    BuilderInput,
    EvaluatorConfig,
    default_run_evaluator,
    meta_schedule,
    tvm,
)
from tvm_integration.workers.pool import WorkerError

QUICK = EvaluatorConfig(number=1, repeat=2, min_repeat_ms=0)
SLOWER = 200


def results_of(runner, paths):
    futures = runner.run([matmul_task.runner_input(path) for path in paths])
    assert all(future.done() for future in futures)
    return [future.result() for future in futures]


def seconds(result):
    return [float(run_s) for run_s in result.run_secs]


@pytest.fixture(scope="module")
def artifacts():
    """A fast kernel, a slow one, and the fast one again."""
    builder = WarmBuilder(max_workers=2)
    modules = [matmul_task.matmul(repeats) for repeats in (1, SLOWER, 1)]
    results = builder.build([BuilderInput(module, matmul_task.TARGET) for module in modules])
    builder.close()
    return [str(result.artifact_path) for result in results]


@pytest.fixture(scope="module")
def runner():
    runner = WarmRunner(evaluator_config=QUICK, early_stop_ratio=None)
    yield runner
    runner.close()


def test_it_is_a_runner_of_tvm(runner):
    assert isinstance(runner, meta_schedule.runner.Runner)
    assert runner.evaluator_config == QUICK


def test_the_default_configuration_is_stocks():
    assert WarmRunner().evaluator_config == EvaluatorConfig()


def test_results_have_the_form_of_stocks(runner, artifacts):
    ours = results_of(runner, artifacts)
    stock = results_of(meta_schedule.runner.LocalRunner(evaluator_config=QUICK), artifacts)
    for our, their in zip(ours, stock, strict=True):
        assert our.error_msg is None
        assert their.error_msg is None
        assert [type(run_s) for run_s in our.run_secs] == [type(run_s) for run_s in their.run_secs]
        assert len(our.run_secs) == 2
    times = [min(map(float, result.run_secs)) for result in ours]
    assert times[1] > 5 * times[0]


def test_an_artifact_of_the_stock_builder_runs(runner):
    # Its own f_build would import TVM's tensor intrinsics in each new worker, for 15 s.
    builder = meta_schedule.builder.LocalBuilder(
        max_workers=1, f_build=lambda mod, target, _: tvm.compile(mod, target).mod
    )
    (built,) = builder.build(matmul_task.build_inputs(1))
    path = str(built.artifact_path)
    (result,) = results_of(runner, [path])
    assert result.error_msg is None
    meta_schedule.utils.remove_build_dir(path)


def test_a_slow_candidate_is_stopped_early(artifacts):
    fast, slow, fast_again = artifacts
    config = EvaluatorConfig(number=3, repeat=3, min_repeat_ms=20)
    runner = WarmRunner(evaluator_config=config, early_stop_ratio=5)
    results = results_of(runner, [fast, slow, fast_again])
    notes = [runner.take_note(path) for path in artifacts]
    assert [note.early_stopped for note in notes] == [False, True, False]
    assert [note.runs for note in notes] == [3, 1, 3]
    assert [len(result.run_secs) for result in results] == [3, 1, 3]
    full = float(results_of(runner, [slow])[0].run_secs[0])  # the first of a run: nothing to beat
    assert float(results[1].run_secs[0]) == pytest.approx(full, rel=0.7)
    assert notes[1].wall_s < runner.take_note(slow).wall_s
    assert runner.take_note(fast) is None


def test_the_best_is_of_arguments_of_the_same_shapes(artifacts):
    def f_alloc_argument(device, args_info, alloc_repeat):
        del args_info
        shape = (matmul_task.SIZE, matmul_task.SIZE)
        return [[tvm.runtime.empty(shape, "float32", device)] * 3] * alloc_repeat

    info = meta_schedule.arg_info.TensorInfo
    runner = WarmRunner(f_alloc_argument=f_alloc_argument, evaluator_config=QUICK)
    inputs = [
        meta_schedule.runner.RunnerInput(path, "cpu", [info("float32", [size])])
        for path, size in zip(artifacts[:2], (1, 2), strict=True)
    ]
    assert all(future.result().error_msg is None for future in runner.run(inputs))
    assert not any(runner.take_note(path).early_stopped for path in artifacts[:2])


def test_no_early_stop_with_an_evaluator_of_the_user(artifacts):
    runner = WarmRunner(
        f_run_evaluator=lambda *arguments: default_run_evaluator(*arguments)[:1],
        evaluator_config=QUICK,
        early_stop_ratio=2,
    )
    assert [len(result.run_secs) for result in results_of(runner, artifacts)] == [1, 1, 1]
    assert runner.early_stop_ratio is None
    assert not any(runner.take_note(path).early_stopped for path in artifacts)


def test_arguments_are_allocated_as_often_as_asked(artifacts):
    runner = WarmRunner(evaluator_config=QUICK, alloc_repeat=3)
    assert len(results_of(runner, artifacts[:1])[0].run_secs) == 6


def test_users_functions_are_called(artifacts, tmp_path):
    def f_alloc_argument(device, args_info, alloc_repeat):
        assert [tuple(info[2]) for info in args_info] == [(64, 64)] * 3
        ones = np.ones((64, 64), "float32")
        return [[tvm.runtime.tensor(ones, device) for _ in args_info]] * alloc_repeat

    def f_run_evaluator(module, device, config, repeated):
        del device, config
        module["main"](*repeated[0])
        return [float(repeated[0][2].numpy()[0, 0])]

    runner = WarmRunner(
        f_alloc_argument=f_alloc_argument,
        f_run_evaluator=f_run_evaluator,
        f_cleanup=lambda: (tmp_path / "cleaned").touch(),
    )
    assert seconds(results_of(runner, artifacts[:1])[0]) == [64.0]
    assert (tmp_path / "cleaned").exists()


def test_what_a_candidate_does_costs_one_failure(artifacts):
    def f_run_evaluator(module, device, config, repeated):
        behavior = Path(counter).stat().st_size
        with open(counter, "a") as file:
            file.write("x")
        if behavior == 1:
            while True:
                pass
        if behavior == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        if behavior == 3:
            raise ValueError("no such device")
        return default_run_evaluator(module, device, config, repeated)

    counter = str(Path(artifacts[0]).parent / "counter")
    Path(counter).touch()
    runner = WarmRunner(f_run_evaluator=f_run_evaluator, evaluator_config=QUICK, timeout_sec=1)
    results = results_of(runner, artifacts[:1] * 5)
    kinds = [r.error_msg and str(r.error_msg).split(": ")[1] for r in results]
    assert kinds == [None, "timeout", "crash", "run", None]
    assert "killed after 1 seconds" in results[1].error_msg
    assert "signal SIGSEGV" in results[2].error_msg
    assert "ValueError: no such device" in results[3].error_msg
    assert [result.run_secs is None for result in results] == [False, True, True, True, False]


def test_a_missing_artifact_is_a_failure_that_its_note_keeps(runner):
    (result,) = results_of(runner, ["/no/such/kernel.tar"])
    assert "cannot find file /no/such/kernel.tar" in result.error_msg
    note = runner.take_note("/no/such/kernel.tar")
    assert note.failure.kind == "run"
    assert note.runs == 0


def test_kernels_run_on_as_many_threads_as_the_user_asks_for(artifacts, monkeypatch):
    monkeypatch.setenv("TVM_NUM_THREADS", "2")
    runner = WarmRunner(f_run_evaluator=lambda *_: [tvm.runtime.num_threads()])
    assert seconds(results_of(runner, artifacts[:1])[0]) == [2.0]


def test_a_name_that_is_not_registered_is_an_error_at_the_first_run(artifacts):
    runner = WarmRunner(f_cleanup="no.such.function")
    with pytest.raises(InputError, match="f_cleanup must be registered"):
        results_of(runner, artifacts[:1])


def test_an_initializer_that_raises_is_an_error_at_the_first_run(artifacts):
    runner = WarmRunner(initializer=lambda: 1 / 0)
    with pytest.raises(WorkerError, match="ZeroDivisionError"):
        results_of(runner, artifacts[:1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"timeout_sec": -3}, "timeout_sec must be a positive, finite number of seconds, got -3"),
        ({"early_stop_ratio": 1}, "early_stop_ratio must be above 1, got 1: pass None"),
        ({"early_stop_ratio": float("nan")}, "early_stop_ratio must be above 1, got nan"),
        ({"cooldown_sec": -1}, "cooldown_sec must be finite and at least 0, got -1"),
        ({"alloc_repeat": 0}, "alloc_repeat must be a whole number of at least 1, got 0"),
        ({"evaluator_config": EvaluatorConfig(repeat=0)}, "evaluator_config.repeat must be"),
        ({"evaluator_config": 3}, "evaluator_config must be an EvaluatorConfig, got 3"),
        ({"f_cleanup": 3}, "f_cleanup must be a function"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises(InputError, match=message):
        WarmRunner(**parameters)
