"""Kernels run on as many threads as their target has cores, and nothing is left bound."""

import os
import resource
import time

import numpy as np
import pytest

from costmodels.cores import core_count, usable_cpus
from costmodels.errors import InputError
from tvm_integration import WarmBuilder, WarmRunner, threads
from tvm_integration.compat import (
    BuilderInput,
    EvaluatorConfig,
    RunnerInput,
    Schedule,
    meta_schedule,
    normalize_prim_func,
    tvm,
)
from tvm_integration.targets import parse_target
from tvm_integration.threads import (
    KernelThread,
    require_cores,
    require_whole_core,
    set_threads,
    stock_thread_count,
    thread_count,
    thread_environment,
    unbound,
)
from tvm_integration.workers.pool import WorkerPool

needs_two_cores = pytest.mark.skipif(core_count() < 2, reason="the machine has one core")


def parallel_matmul(size=768):
    """A product of about 20 ms on two threads, its rows in parallel."""
    te = tvm.te
    a, b = (te.placeholder((size, size), name=name) for name in "AB")
    k = te.reduce_axis((0, size), name="k")
    c = te.compute((size, size), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    schedule = Schedule(normalize_prim_func(te.create_prim_func([a, b, c])))
    i, j, k = schedule.get_loops(schedule.get_sblock("C"))
    schedule.reorder(i, k, j)
    schedule.parallel(i)
    schedule.vectorize(schedule.split(j, [None, 8])[1])
    return schedule.mod


def cpu_over_wall(module, _device, _config, sets):
    """Stand in for TVM's evaluator: processor time over wall time of some calls."""
    kernel = module["main"]
    kernel(*sets[0])
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    for _ in range(12):
        kernel(*sets[0])
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [used_s / wall_s]


def measured(runner, target):
    module = parallel_matmul()
    builder = WarmBuilder(max_workers=1)
    (built,) = builder.build([BuilderInput(module, parse_target(target))])
    builder.close()
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True)
    (future,) = runner.run([RunnerInput(built.artifact_path, "cpu", arguments)])
    runner.close()
    result = future.result()
    assert result.error_msg is None
    return float(np.median([float(seconds) for seconds in result.run_secs]))


@needs_two_cores
def test_a_parallel_kernel_keeps_two_cores_busy():
    runner = WarmRunner(f_run_evaluator=cpu_over_wall, threads=2)
    assert measured(runner, "llvm -num-cores=2") > 1.7  # 1.9 and more on a quiet machine


def test_on_one_thread_it_keeps_one_core_busy():
    runner = WarmRunner(f_run_evaluator=cpu_over_wall, threads=1)
    assert 0.7 < measured(runner, "llvm -num-cores=1") < 1.1


@needs_two_cores
def test_two_threads_are_faster_than_one():
    """At least once of three times: other work on the machine takes one of the cores."""
    config = EvaluatorConfig(number=1, repeat=3, min_repeat_ms=60)
    ratios = []
    while len(ratios) < 3 and max(ratios, default=0) < 1.3:
        one, two = (
            measured(WarmRunner(evaluator_config=config, threads=count), "llvm -num-cores=2")
            for count in (1, 2)
        )
        ratios.append(one / two)
    assert max(ratios) > 1.3


def test_a_runner_without_a_number_takes_all_cores(monkeypatch):
    monkeypatch.delenv(threads.THREADS, raising=False)
    assert WarmRunner().threads == core_count()


def test_a_targets_cores_count_and_another_number_is_refused(monkeypatch):
    one = parse_target("llvm -num-cores=1")
    monkeypatch.delenv(threads.THREADS, raising=False)
    assert thread_count(one) == 1
    monkeypatch.setenv(threads.THREADS, "1")
    assert thread_count(one) == 1
    monkeypatch.setenv(threads.THREADS, "3")
    assert thread_count() == 3
    with pytest.raises(InputError) as error:
        thread_count(one)
    assert str(error.value) == (
        "TVM_NUM_THREADS must be 1, the num-cores of the target, or not set, got 3: unset it, or "
        "give -num-cores=3"
    )
    monkeypatch.setenv(threads.THREADS, "many")
    with pytest.raises(InputError, match="must be a number of at least 1, got 'many': unset it"):
        thread_count(one)


def test_a_pool_that_cannot_be_resized_is_told():
    def prepare():
        set_threads(1)
        tvm.runtime.num_threads()
        try:
            set_threads(2)
        except InputError as error:
            message = str(error)
        return lambda _: message

    with WorkerPool(prepare, stage="run") as pool:
        (result,) = pool.map([0])
    assert result.value == (
        "TVM's thread pool must have 2 threads, the cores of the target, got 1: start the process "
        "that runs kernels with TVM_NUM_THREADS=2 set"
    )


def test_an_affinity_that_changes_on_the_way_is_told(monkeypatch):
    runner = WarmRunner(threads=core_count())
    monkeypatch.setattr(threads, "core_count", lambda: runner.threads - 1)
    with pytest.raises(InputError, match="cores that this process can keep busy now, got"):
        runner.run([])


def test_a_quota_below_one_core_is_told(monkeypatch):
    monkeypatch.setattr(threads, "cpu_quota", lambda: 0.5)
    with pytest.raises(InputError, match=r"at least one core to measure latencies, got 0\.5"):
        require_whole_core()
    with pytest.raises(InputError, match="run it where the control group grants more"):
        WarmRunner()


def test_more_threads_than_cores_are_refused():
    require_cores(core_count())
    with pytest.raises(InputError, match="got 4096 threads: give -num-cores="):
        require_cores(4096)


@pytest.mark.parametrize("count", [1, 2])
def test_a_kernel_thread_has_its_own_pool_and_leaves_the_caller_alone(count):
    usual = tvm.runtime.num_threads()
    bound = os.sched_getaffinity(0)
    with KernelThread(count) as kernels:
        assert kernels.call(tvm.runtime.num_threads) == count
        assert kernels.call(lambda a, *, b: a + b, 1, b=2) == 3
        with pytest.raises(ZeroDivisionError):
            kernels.call(lambda: 1 / 0)
        assert kernels.call(os.sched_getaffinity, 0) == usable_cpus()
    assert tvm.runtime.num_threads() == usual
    assert os.sched_getaffinity(0) == bound
    assert os.environ.get(threads.THREADS) is None


@needs_two_cores
def test_kernels_of_a_kernel_thread_keep_as_many_cores_busy():
    """The pool's number alone does not tell: TVM asks the environment at each launch."""
    builder = WarmBuilder(max_workers=1)
    (built,) = builder.build([BuilderInput(parallel_matmul(), parse_target("llvm -num-cores=2"))])
    builder.close()
    module = tvm.runtime.load_module(f"{built.artifact_path}.so")
    arrays = [tvm.runtime.tensor(np.ones((768, 768), "float32")) for _ in range(3)]
    for count, least, most in ((1, 0.7, 1.2), (2, 1.6, 2.1)):
        with KernelThread(count) as kernels:
            (ratio,) = kernels.call(cpu_over_wall, module, None, None, [arrays])
        assert least < ratio < most


def test_folding_constants_binds_no_thread():
    """In a fresh process, for the first kernel binds its thread."""

    def job(_):
        from tvm_integration.compile.build import build, fuse
        from tvm_integration.frontends.load import load_network
        from tvm_integration.targets import parse_target

        del os.environ[threads.BINDING]
        before = os.sched_getaffinity(0)
        target = parse_target("llvm -opt-level=0")
        build(fuse(load_network("zoo:nasbench201,number=3").module, target))
        return [before == os.sched_getaffinity(0), os.environ.get(threads.BINDING)]

    with WorkerPool(lambda: job, stage="run", timeout_sec=300) as pool:
        (result,) = pool.map([0])
    assert result.failure is None
    assert result.value == [True, None]


def test_the_environment_comes_back(monkeypatch):
    monkeypatch.setenv(threads.BINDING, "1")
    with unbound():
        assert os.environ[threads.BINDING] == "0"
    assert os.environ[threads.BINDING] == "1"
    assert thread_environment(3) == {"TVM_NUM_THREADS": "3", "TVM_BIND_THREADS": "0"}


def test_what_tvm_does_alone_is_known(monkeypatch):
    """In a worker that no setting of ours has reached."""
    for name in (threads.THREADS, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with WorkerPool(lambda: lambda _: tvm.runtime.num_threads(), stage="run") as pool:
        assert pool.map([0])[0].value == stock_thread_count()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert stock_thread_count() == 3
