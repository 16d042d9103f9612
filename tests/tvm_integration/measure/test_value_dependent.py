"""Kernels that branch on their values are known, and measured with several sets of values."""

import math

import matmul_task
import pytest

from tvm_integration import WarmBuilder, WarmRunner
from tvm_integration.compat import BuilderInput, EvaluatorConfig, RunnerInput, meta_schedule, tvm
from tvm_integration.measure import value_dependent as branching_kernels
from tvm_integration.measure.kernel_arguments import allocate_arguments
from tvm_integration.measure.value_dependent import (
    MAX_BYTES,
    branches_on_values,
    evaluate_in_turn,
    set_count,
)

CONFIG = EvaluatorConfig(number=1, repeat=3, min_repeat_ms=20)
te = tvm.te


@pytest.fixture(scope="module")
def erf():
    given = te.placeholder((128, 128), "float32")
    result = te.compute((128, 128), lambda i, j: tvm.tirx.erf(given[i, j]))
    return tvm.IRModule({"main": te.create_prim_func([given, result])})


@pytest.fixture(scope="module")
def paths(erf):
    builder = WarmBuilder(max_workers=1)
    modules = (erf, matmul_task.matmul(1))
    results = builder.build([BuilderInput(module, matmul_task.TARGET) for module in modules])
    builder.close()
    return [str(result.artifact_path) for result in results]


def measured(module, path, **options):
    runner = WarmRunner(evaluator_config=CONFIG, **options)
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True)
    (future,) = runner.run([RunnerInput(path, "cpu", arguments)])
    runner.close()
    result = future.result()
    assert result.error_msg is None
    return [float(seconds) for seconds in result.run_secs]


def test_kernels_that_branch_are_told_from_others(paths):
    assert [branches_on_values(path) for path in paths] == [True, False]


def test_several_sets_are_called_in_turn(erf, paths):
    for _ in range(3):  # other work may slow down the one or the other
        by_heart = measured(erf, paths[0])
        in_turn = measured(erf, paths[0], argument_sets=8)
        if min(in_turn) > 0.8 * min(by_heart):
            break
    assert len(in_turn) == len(by_heart) == 3
    assert all(0 < seconds < math.inf for seconds in in_turn)
    assert min(in_turn) > 0.8 * min(by_heart)  # on a processor that learns nothing they are equal
    matmul = matmul_task.matmul(1)
    alike = measured(matmul, paths[1], argument_sets=8)
    assert len(alike) == 3


def test_a_slow_kernel_is_measured_with_one_set(paths, monkeypatch):
    monkeypatch.setattr(branching_kernels, "SLOWEST_S", 0.0)
    module = tvm.runtime.load_module(f"{paths[0]}.so")
    calls = []
    monkeypatch.setattr(
        branching_kernels,
        "default_run_evaluator",
        lambda *arguments: calls.append(len(arguments[-1])) or [1.0],
    )
    arguments = [["TENSOR", "float32", [128, 128]]] * 2
    sets = allocate_arguments(tvm.cpu(), arguments, 8)
    assert evaluate_in_turn(module, tvm.cpu(), CONFIG, sets) == [1.0]
    assert calls == [1]


def test_an_evaluator_of_the_user_gets_one_set(erf, paths):
    runner = WarmRunner(
        f_run_evaluator=lambda _module, _device, _config, sets: [float(len(sets))],
        argument_sets=8,
    )
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(erf, remove_preproc=True)
    (future,) = runner.run([RunnerInput(paths[0], "cpu", arguments)])
    assert [float(value) for value in future.result().run_secs] == [1.0]


def test_large_arguments_have_fewer_sets():
    def argument(elements):
        return ["TENSOR", "float32", [elements]]

    assert set_count([argument(1024)], 8) == 8
    assert set_count([argument(MAX_BYTES // 16), argument(MAX_BYTES // 16)], 8) == 2
    assert set_count([argument(MAX_BYTES)], 8) == 1
