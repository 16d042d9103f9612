"""Check that kernels have the cores that the target says, and references what they take alone.

Writes docs/benchmarks/threads.json and prints a table: processor time over wall time of a parallel
kernel in a worker; torch and onnxruntime in the process that `tune` measures them in, beside what
they take in a fresh process that does nothing else, in turn. With `--before` also the demo of an
earlier build and of this one, in turn.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmark_results import ROOT, Results

ROUNDS = 5
TURNS = 15
DEMOS = 3
NETWORKS = ("zoo:resnet18", "zoo:vit_tiny")
ALONE = """
import json, sys, time
import torch
from tvm_integration import zoo
network, inputs = zoo.build({name!r}, seed=0)
torch.set_num_threads({threads})
with torch.no_grad():
    for _ in range(3):
        network(*inputs)
    times = []
    for _ in range(3):
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < 0.3:
            network(*inputs)
            calls += 1
        times.append((time.perf_counter() - start) / calls)
print(json.dumps(sorted(times)[1]))
"""
ALONE_ONNX = """
import json, sys, time
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession({path!r}, options, providers=["CPUExecutionProvider"])
feed = {{x.name: np.random.default_rng(0).standard_normal(x.shape).astype("float32")
        for x in session.get_inputs()}}
for _ in range(3):
    session.run(None, feed)
times = []
for _ in range(3):
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < 0.3:
        session.run(None, feed)
        calls += 1
    times.append((time.perf_counter() - start) / calls)
print(json.dumps(sorted(times)[1]))
"""


def cpu_over_wall(module: Any, _device: Any, _config: Any, sets: Any) -> list[float]:
    """Stand in for TVM's evaluator: processor time over wall time of half a second of calls."""
    kernel = module["main"]
    kernel(*sets[0])
    found = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.perf_counter()
        calls = 0
        while time.perf_counter() - start < 0.5:
            kernel(*sets[0])
            calls += 1
        wall_s = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF)
        used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append(used_s / wall_s)
    return found


def parallel_kernel(size: int = 896) -> Any:
    """A product of about 20 ms on two threads, its rows in parallel."""
    from tvm_integration.compat import Schedule, normalize_prim_func, tvm

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


def in_a_worker() -> dict[str, Any]:
    """Processor time over wall time, and milliseconds, of the kernel on all cores."""
    from tvm_integration import WarmBuilder, WarmRunner
    from tvm_integration.compat import BuilderInput, EvaluatorConfig, RunnerInput, meta_schedule
    from tvm_integration.targets import host_target
    from tvm_integration.threads import thread_count

    mod, target = parallel_kernel(), host_target()
    builder = WarmBuilder(max_workers=1)
    (built,) = builder.build([BuilderInput(mod, target)])
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
    found: dict[str, Any] = {"threads": thread_count(target)}
    for name, options in (
        ("cpu_over_wall", {"f_run_evaluator": cpu_over_wall}),
        ("seconds", {"evaluator_config": EvaluatorConfig(number=1, repeat=5, min_repeat_ms=100)}),
    ):
        runner = WarmRunner(threads=thread_count(target), **options)
        (future,) = runner.run([RunnerInput(built.artifact_path, "cpu", arguments)])
        found[name] = [float(each) for each in future.result().run_secs]
        runner.close()
    builder.close()
    return found


def alone(code: str) -> float:
    """What a fresh process measures."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def reference_beside_alone(name: str) -> dict[str, list[float]]:
    """A network in torch, and as ONNX in onnxruntime: as `tune` measures it, and alone."""
    import torch

    from tvm_integration import zoo
    from tvm_integration.compile.build import build, fuse
    from tvm_integration.compile.execution import run
    from tvm_integration.frontends.load import load_network
    from tvm_integration.targets import host_target
    from tvm_integration.threads import KernelThread, thread_count

    target = host_target()
    threads = thread_count(target)
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.onnx")
        made, inputs = zoo.build(name.removeprefix("zoo:"), seed=0)
        torch.onnx.export(made, inputs, path, dynamo=True, external_data=False, verbose=False)
        networks = {"torch": load_network(name), "onnxruntime": load_network(path)}
        with KernelThread(threads) as kernels:  # TVM has run in this process, as in `tune`
            built = build(fuse(networks["torch"].module, target))
            kernels.call(run, built, networks["torch"].inputs)
        codes = {
            "torch": ALONE.format(name=name.removeprefix("zoo:"), threads=threads),
            "onnxruntime": ALONE_ONNX.format(path=path, threads=threads),
        }
        for kind, network in networks.items():
            network.reference.use_threads(threads)
            for _ in range(TURNS):
                times = network.reference.measure_s(3, min_repeat_ms=300)
                network.reference.close()  # each time a new process, as the one that is alone
                found.setdefault(f"{kind} beside", []).append(median(times))
                found.setdefault(f"{kind} alone", []).append(alone(codes[kind]))
    return found


def demo(source: Path) -> dict[str, float]:
    """Trials and tuned latency, in seconds, of the demo of a source tree."""
    done = subprocess.run(
        [sys.executable, source / "scripts/demo.py"],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    trials = re.search(r"(\d+)(?: of \d+)? trials", done.stdout)
    said = done.stdout.rpartition("tuned network:")[2]
    found = re.search(r"measured\s+([\d.]+)\s+(ms|s)\b", said)
    assert trials is not None, done.stdout
    assert found is not None, done.stdout
    unit = {"ms": 1e-3, "s": 1.0}[found[2]]
    return {"trials": int(trials[1]), "tuned_s": float(found[1]) * unit}


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="source tree of an earlier build"
    )
    parser.add_argument("--fresh", action="store_true", help="measure everything anew")
    options = parser.parse_args()
    results = Results(ROOT / "docs/benchmarks/threads.json", fresh=options.fresh)
    worker = results.get("worker", in_a_worker)
    print(results.header())
    print(
        f"parallel kernel of {1e3 * median(worker['seconds']):.1f} ms on {worker['threads']} "
        f"threads: processor time over wall time {median(worker['cpu_over_wall']):.2f}"
    )
    for name in NETWORKS:
        found = results.get(name, reference_beside_alone, name)
        for kind in ("torch", "onnxruntime"):
            beside, by_itself = (median(found[f"{kind} {what}"]) for what in ("beside", "alone"))
            print(f"{name} in {kind}: {beside / by_itself:.3f} of what it takes alone")

    if options.before is not None:
        for number in range(DEMOS):
            for name, source in (("before", options.before.resolve()), ("now", ROOT)):
                results.get(f"demo {name} {number}", demo, source)
    if f"demo now {DEMOS - 1}" in results.values:
        before, now = (
            [results.values[f"demo {name} {number}"] for number in range(DEMOS)]
            for name in ("before", "now")
        )
        for name, found in (("before", before), ("now", now)):
            print(
                f"demo {name}: "
                + ", ".join(f"{1e3 * each['tuned_s']:.1f} ms" for each in found)
                + f" after {', '.join(str(each['trials']) for each in found)} trials"
            )
        medians = [median(each["tuned_s"] for each in found) for found in (before, now)]
        print(f"tuned network {medians[0] / medians[1]:.2f} times as fast as before")


if __name__ == "__main__":
    main()
