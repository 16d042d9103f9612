"""Kernels measured with their data where a network leaves them."""

import statistics

import numpy as np
import pytest

from costmodels.errors import InputError
from tvm_integration.compat import (
    BuilderInput,
    EvaluatorConfig,
    RunnerInput,
    Schedule,
    meta_schedule,
    te,
    tvm,
)
from tvm_integration.measure.builder import WarmBuilder
from tvm_integration.measure.in_network import evaluate_as_in_network
from tvm_integration.measure.runner import WarmRunner
from tvm_integration.targets import host_target
from tvm_integration.threads import KernelThread

QUICK = EvaluatorConfig(number=1, repeat=3, min_repeat_ms=10)
LARGE = 64 << 20
"""Bytes of a network that no cache near a core holds."""


def add(count: int) -> "tvm.IRModule":
    """A kernel that only moves data: the sum of two vectors."""
    left, right = (te.placeholder((count,), name=name) for name in "ab")
    total = te.compute((count,), lambda i: left[i] + right[i])
    schedule = Schedule(te.create_prim_func([left, right, total]))
    (block,) = schedule.get_child_blocks(schedule.get_sblock("root"))
    (loop,) = schedule.get_loops(block)
    _, inner = schedule.split(loop, [None, 16])
    schedule.vectorize(inner)
    return schedule.mod


def vectors(count: int) -> list:
    """Arguments of the sum, the last one to be written."""
    rng = np.random.default_rng(0)
    arrays = [rng.random(count, np.float32) for _ in range(2)]
    return [tvm.runtime.tensor(each) for each in (*arrays, np.zeros(count, np.float32))]


def measured(count: int, network_bytes: int) -> tuple[list[float], list]:
    """Readings of the sum, and its arguments afterwards."""
    module, arguments = tvm.compile(add(count), target=host_target()).mod, vectors(count)
    with KernelThread(1) as kernels:
        found = kernels.call(
            evaluate_as_in_network,
            module,
            tvm.cpu(0),
            QUICK,
            [arguments],
            threads=1,
            network_bytes=network_bytes,
        )
    return found, arguments


def test_a_large_network_leaves_little_in_the_caches():
    count = 1 << 16  # 768 KB in all: a second-level cache holds them
    alone, _ = measured(count, network_bytes=1)
    among_others, _ = measured(count, network_bytes=LARGE)
    assert len(among_others) == QUICK.repeat
    # The guess is twice at least: 256 KB of another vector each time come from far away.
    assert statistics.median(among_others) > 1.3 * statistics.median(alone)


def test_data_stay_what_they_are():
    expected = vectors(1000)
    _, arguments = measured(1000, network_bytes=LARGE)
    for got, wanted in zip(arguments[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(got.numpy(), wanted.numpy())
    total = expected[0].numpy() + expected[1].numpy()
    np.testing.assert_array_equal(arguments[2].numpy(), total)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "bfloat16", "float64", "int64"])
@pytest.mark.parametrize("shape", [(), (3,), (0,), (5, 7)])
def test_first_arguments_of_every_kind_are_written_anew(dtype, shape):
    given = te.placeholder(shape, dtype)
    copied = te.compute(shape, lambda *indices: given[indices] if indices else given())
    module = tvm.compile(te.create_prim_func([given, copied]), target="llvm").mod
    arguments = [tvm.runtime.empty(shape, dtype) for _ in range(2)]
    (seconds,) = evaluate_as_in_network(
        module,
        tvm.cpu(0),
        EvaluatorConfig(number=1, repeat=1, min_repeat_ms=1),
        [arguments],
        threads=1,
        network_bytes=LARGE,
    )
    assert seconds > 0


def test_a_kernel_without_inputs_is_measured():
    result = te.compute((100,), lambda i: i.astype("float32"))
    module = tvm.compile(te.create_prim_func([result]), target="llvm").mod
    found = evaluate_as_in_network(
        module,
        tvm.cpu(0),
        QUICK,
        [[tvm.runtime.empty((100,), "float32")]],
        threads=1,
        network_bytes=LARGE,
    )
    assert len(found) == QUICK.repeat


@pytest.mark.parametrize("network_bytes", [-1, 1.5, "25 MB", True])
def test_bytes_that_cannot_be_are_refused_before_a_process_starts(network_bytes):
    with pytest.raises(InputError, match="network_bytes must be a whole number"):
        WarmRunner(threads=1, network_bytes=network_bytes)


def test_a_runner_measures_as_in_the_network_it_is_told_of():
    mod, target = add(1 << 16), host_target()
    builder, runner = WarmBuilder(), WarmRunner(evaluator_config=QUICK, threads=1)
    try:
        (artifact,) = builder.build([BuilderInput(mod, target)])
        arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
        given = [RunnerInput(artifact.artifact_path, "cpu", arguments)]
        medians = []
        for network_bytes in (None, LARGE):
            runner.network_bytes = network_bytes
            (future,) = runner.run(given)
            medians.append(statistics.median(map(float, future.result().run_secs)))
        runner.network_bytes = -1
        with pytest.raises(InputError, match="network_bytes must be a whole number"):
            runner.run(given)
    finally:
        builder.close()
        runner.close()
    assert medians[1] > 1.3 * medians[0]
