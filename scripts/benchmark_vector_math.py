"""Compare exp, erf, tanh and sigmoid as arithmetic with TVM's calls of the C library.

    python scripts/benchmark_vector_math.py

Four kernels, each tuned in both forms with the same trials; the best programs of both are then
measured in turn. Writes docs/benchmarks/vector_math.json and prints a table.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_results import ROOT, Results
from benchmark_winners import best_of

from tvm_integration import MetaScheduleCostModel, SketchSearch, WarmBuilder, WarmRunner
from tvm_integration.compat import IRModule, meta_schedule, tvm
from tvm_integration.compile.vector_math import rewrite_function
from tvm_integration.targets import host_target
from tvm_integration.threads import KernelThread, thread_count

TRIALS, BATCH = 32, 16
ROUNDS = 15
POINTS = 1 << 20
te, tirx = tvm.te, tvm.tirx


def elementwise(shape: tuple[int, ...], function: Callable[[Any], Any]) -> Any:
    """A kernel of one element at a time."""
    data = te.placeholder(shape, name="data")
    result = te.compute(shape, lambda *place: function(data[place]), name="result")
    return te.create_prim_func([data, result])


def softmax(shape: tuple[int, ...]) -> Any:
    """Softmax along the last axis."""
    data = te.placeholder(shape, name="data")
    return te.create_prim_func([data, tvm.topi.nn.softmax(data, axis=-1)])


def _gelu(x: Any) -> Any:
    half = tirx.const(0.5, "float32")
    return x * (half + half * tirx.erf(x * tirx.const(0.70710678, "float32")))


KERNELS: dict[str, Callable[[], Any]] = {
    "softmax 3x197x197 (exp)": lambda: softmax((3, 197, 197)),
    "GELU 197x768 (erf)": lambda: elementwise((197, 768), _gelu),
    "SiLU 32x112x112 (sigmoid)": lambda: elementwise((32, 112, 112), lambda x: x * tirx.sigmoid(x)),
    "tanh 256x512": lambda: elementwise((256, 512), tirx.tanh),
}
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], float]] = {
    "exp": (tirx.exp, torch.exp, 85.0),
    "erf": (tirx.erf, torch.erf, 6.0),
    "tanh": (tirx.tanh, torch.tanh, 12.0),
    "sigmoid": (tirx.sigmoid, torch.sigmoid, 85.0),
}


def best_program(function: Any) -> Any:
    """Tune a kernel and compile its best program."""
    target = host_target()
    with tempfile.TemporaryDirectory() as work_dir:
        database = meta_schedule.tir_integration.tune_tir(
            IRModule({"main": function.with_attr("global_symbol", "main")}),
            target,
            work_dir,
            TRIALS,
            num_trials_per_iter=BATCH,
            builder=WarmBuilder(),
            runner=WarmRunner(threads=thread_count(target)),
            cost_model=MetaScheduleCostModel("gbt", work_dir=work_dir),
            strategy=SketchSearch(library=False),
            seed=1,
        )
        record = best_of(database.get_all_tuning_records())[0]
        return tvm.compile(record.as_measure_candidate().sch.mod, target)


def compare(name: str) -> dict[str, Any]:
    """Seconds of the best programs of both forms, in turn."""
    plain = KERNELS[name]()
    libraries = {"library": best_program(plain), "vector": best_program(rewrite_function(plain))}
    shape = tuple(int(n) for n in plain.params[0].shape)
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    data, result = tvm.runtime.tensor(values), tvm.runtime.tensor(np.zeros(shape, "float32"))
    times: dict[str, list[float]] = {form: [] for form in libraries}
    with KernelThread(thread_count(host_target())) as kernels:
        for _ in range(ROUNDS):
            for form, library in libraries.items():
                timed = library.mod.time_evaluator("main", tvm.cpu(), number=20, repeat=1)
                times[form].append(float(kernels.call(timed, data, result).results[0]))
    return {form: statistics.median(each) for form, each in times.items()}


def errors(name: str) -> dict[str, float]:
    """Largest relative error of both forms, away from zero and within what float32 holds."""
    function, right, most = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.uniform(-most, most, POINTS), rng.normal(size=POINTS)])
    values = values[np.abs(values) > 1e-3].astype("float32")
    plain = elementwise(values.shape, function)
    wanted = right(torch.from_numpy(values).double()).numpy()
    found = {}
    for form, kernel in (("library", plain), ("vector", rewrite_function(plain))):
        got = tvm.runtime.tensor(np.zeros_like(values))
        tvm.compile(kernel, host_target())(tvm.runtime.tensor(values), got)
        found[form] = float(np.abs(got.numpy() / wanted - 1).max())
    return found


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    options = parser.parse_args()
    path = Path(ROOT) / "docs/benchmarks/vector_math.json"
    results = Results(path, fresh=options.fresh)
    for name in KERNELS:
        results.get(name, compare, name)
    for name in FUNCTIONS:
        results.get(f"error of {name}", errors, name)
    print(results.header())
    print("\n| kernel | C library, µs | vectors, µs | ratio |\n|---|---|---|---|")
    for name in KERNELS:
        found = results.values[name]
        library, vector = found["library"], found["vector"]
        print(f"| {name} | {library * 1e6:.4g} | {vector * 1e6:.4g} | {vector / library:.2f} |")
    print("\n| largest relative error, \\|x\\| > 0.001 | C library | vectors |\n|---|---|---|")
    for name in FUNCTIONS:
        found = results.values[f"error of {name}"]
        print(f"| {name} | {found['library']:.1e} | {found['vector']:.1e} |")


if __name__ == "__main__":
    main()
