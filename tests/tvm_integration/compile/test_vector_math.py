"""exp, erf, tanh and sigmoid as arithmetic: how exact, how fast, and that nothing else changes."""

import statistics
import time

import numpy as np
import pytest
import torch

from tvm_integration.compat import IRModule, Schedule, structural_equal, tvm
from tvm_integration.compile.build import build
from tvm_integration.compile.fusion import fuse
from tvm_integration.compile.vector_math import (
    MAX_RELATIVE_ERROR,
    SMALLEST_EXP,
    rewrite_function,
    rewrite_module,
    with_vector_math,
)
from tvm_integration.frontends.load import load_network
from tvm_integration.targets import host_target

FUNCTIONS = {"exp": torch.exp, "erf": torch.erf, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


def kernel(name, size, dtype="float32"):
    te = tvm.te
    data = te.placeholder((size,), dtype, "data")
    result = te.compute((size,), lambda i: getattr(tvm.tirx, name)(data[i]), name="result")
    return te.create_prim_func([data, result]).with_attr("global_symbol", "main")


def vectorized(function):
    schedule = Schedule(IRModule({"main": function}))
    (loop,) = schedule.get_loops(schedule.get_sblock("result"))
    schedule.vectorize(schedule.split(loop, [None, 16])[1])
    return tvm.compile(schedule.mod, host_target())


def computed(library, values):
    into = tvm.runtime.tensor(np.zeros_like(values))
    library(tvm.runtime.tensor(values), into)
    return into.numpy()


def padded(values):
    return np.resize(values, -(-len(values) // 16) * 16).astype("float32")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_as_exact_as_they_say(name):
    rng = np.random.default_rng(0)
    spread = np.concatenate(
        [
            rng.uniform(-95, 95, 200_000),
            rng.normal(0, 2, 200_000),
            10.0 ** rng.uniform(-30, 2, 50_000) * rng.choice([-1, 1], 50_000),
            [0.0, -0.0, 3.92, 3.93, 3.94, 8.99, 9.0, 9.01, 88.7228, -86.6],
        ]
    )
    values = padded(spread)
    got = computed(vectorized(rewrite_function(kernel(name, len(values)))), values)
    wanted = FUNCTIONS[name](torch.from_numpy(values).double()).numpy()
    normal = (np.abs(wanted) > 1.05 * SMALLEST_EXP) & (wanted < np.finfo(np.float32).max)
    error = np.abs(got[normal] / wanted[normal] - 1)
    assert error.max() <= MAX_RELATIVE_ERROR
    rest = ~normal & (wanted < 1)
    np.testing.assert_allclose(got[rest], wanted[rest], atol=1.1 * SMALLEST_EXP)
    if name in ("erf", "tanh", "sigmoid"):
        assert np.abs(got).max() <= 1.0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_limits_and_nan(name):
    values = padded(np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, -8.7e6, 0.0, 89.0, -1e-40]))
    got = computed(vectorized(rewrite_function(kernel(name, len(values)))), values)
    wanted = FUNCTIONS[name](torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(got, wanted, rtol=MAX_RELATIVE_ERROR, atol=SMALLEST_EXP)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vectors_are_faster_than_the_library(name):
    values = padded(np.random.default_rng(0).normal(0, 2, 65_536))
    libraries = [
        vectorized(function)
        for plain in [kernel(name, len(values))]
        for function in (plain, rewrite_function(plain))
    ]
    arguments = [tvm.runtime.tensor(values), tvm.runtime.tensor(values)]
    times = [[], []]
    for _ in range(9):
        for library, each in zip(libraries, times, strict=True):
            begin = time.perf_counter()
            library(*arguments)
            each.append(time.perf_counter() - begin)
    plain_s, ours_s = map(statistics.median, times)
    assert ours_s < 0.7 * plain_s


def test_other_types_and_kernels_are_left_alone():
    double = kernel("exp", 16, "float64")
    assert rewrite_function(double) is double
    root = kernel("sqrt", 16)
    assert rewrite_function(root) is root
    module = IRModule({"main": root})
    assert rewrite_module(module) is module


def test_what_tvm_cannot_tune_is_left_alone():
    te, tirx = tvm.te, tvm.tirx
    data, square = te.placeholder((16,), name="data"), tirx.Var("square", "float32")
    named = te.compute(
        (16,), lambda i: tirx.Let(square, data[i] * data[i], tirx.exp(square) + square)
    )
    function = te.create_prim_func([data, named])
    assert rewrite_function(function) is function


def test_the_rest_of_a_module_stays():
    module = IRModule({"main": kernel("exp", 16), "other": kernel("sqrt", 16)})
    module = module.with_attr("mine", 1)
    changed = rewrite_module(module)
    assert not structural_equal(changed["main"], module["main"])
    assert structural_equal(changed["other"], module["other"])
    assert int(changed.attrs["mine"]) == 1
    assert "estimated_flops" not in (module["main"].attrs or {}), "the one given is as it was"


def test_a_network_computes_the_same_with_kernels_of_its_own():
    network = load_network("zoo:vit_tiny", seed=0)
    target = host_target()
    fused = fuse(network.module, target)
    ours = with_vector_math(fused)
    assert [task.name for task in ours.tasks] == [task.name for task in fused.tasks]
    assert [task.flop for task in ours.tasks] == [task.flop for task in fused.tasks]
    changed = [
        a.name
        for a, b in zip(fused.tasks, ours.tasks, strict=True)
        if not structural_equal(a.mod, b.mod)
    ]
    assert [("gelu" in name or "softmax" in name) for name in changed] == [True, True]
    assert with_vector_math(ours) is not fused
    results = [
        tvm.relax.VirtualMachine(build(each).executable, tvm.cpu())["main"](
            *[tvm.runtime.tensor(value) for value in network.inputs]
        )
        for each in (fused, ours)
    ]
    np.testing.assert_allclose(results[1].numpy(), results[0].numpy(), rtol=1e-5, atol=1e-5)
