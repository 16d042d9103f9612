"""How long an estimate takes, and how long it takes to measure what it estimates.

ResNet-50 as an ONNX file: the first estimate, with nothing kept; the second, which finds the
network in the cache; then the network built with unscheduled kernels and run. And 1,000 kernels,
the unscheduled programs of that many tasks of `shipped:cpu`, predicted in one batch. Every repeat
is a process of its own; imports of Python packages are not counted.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results, run_child
from peak_memory import PeakMemory

NETWORK, MODEL = "resnet50", "pretrained:best"
DATASET, KERNELS = "shipped:cpu", 1000
GOALS = {"first_s": 20.0, "cached_s": 1.0, "predict_share": 1.5, "peak_gib": 3.0}


def write_onnx(path: Path) -> None:
    """Export the network as torch does it."""
    import torch

    from tvm_integration import zoo

    network, inputs = zoo.build(NETWORK)
    torch.onnx.export(network, inputs, str(path), dynamo=False)


def _import_packages() -> None:
    """Import what is otherwise imported when first needed, so that it is not counted."""
    for name in ("onnx", "torch", "tvm_integration.frontends.onnx_file"):
        import_module(name)


def estimate(path: str) -> dict[str, float]:
    """Estimate a network with the cache that the environment names."""
    _import_packages()
    from costmodels.load_model import load_kernel_model
    from tvm_integration.estimate.estimate import estimate_network
    from tvm_integration.estimate.network_features import describe_network
    from tvm_integration.targets import device_of, host_target

    target = host_target()
    device = device_of(target)
    with PeakMemory() as used:
        start = time.perf_counter()
        network = describe_network(path, target)
        described_s = time.perf_counter() - start
        model = load_kernel_model(MODEL, seed=0)
        loaded_s = time.perf_counter() - start - described_s
        found = estimate_network(network, target, device, model)
        wall_s = time.perf_counter() - start
    assert found.total is not None
    return {
        "wall_s": wall_s,
        "described_s": described_s,
        "loaded_s": loaded_s,
        "total_s": found.total.total_s,
        "kernels": len(found.kernels),
        "peak_gib": used.peak_bytes / 2**30,
    }


def measure(path: str) -> dict[str, float]:
    """Import, fuse, build and run it: what the estimate saves."""
    _import_packages()
    from tvm_integration.compile.build import build, fuse
    from tvm_integration.compile.execution import measure_s
    from tvm_integration.frontends.load import load_network
    from tvm_integration.targets import host_target

    start = time.perf_counter()
    network = load_network(path)
    built = build(fuse(network.module, host_target(), prepack_weights=False), None)
    built_s = time.perf_counter() - start
    latency_s = statistics.median(measure_s(built, network.inputs, repeat=5))
    return {
        "wall_s": time.perf_counter() - start,
        "built_s": built_s,
        "latency_s": latency_s,
    }


def predict_many() -> dict[str, float]:
    """Extract the features of many kernels, then predict them in one batch."""
    from costmodels.dataset.folder import read_dataset
    from costmodels.kernel import Task, concatenate
    from costmodels.load_model import load_kernel_model
    from tvm_integration.compat import MeasureCandidate, Schedule, meta_schedule
    from tvm_integration.records.rows import workload_of
    from tvm_integration.targets import device_of, host_target
    from tvm_integration.tir.features import FeatureExtractor

    target = host_target()
    device = device_of(target)
    model = load_kernel_model(MODEL, seed=0)
    tasks = list(read_dataset(DATASET).tasks.values())[:KERNELS]
    mods = [workload_of(task) for task in tasks]
    with PeakMemory() as used:
        extractor = FeatureExtractor(programs_kept=0)
        parts = []
        start = time.perf_counter()
        for task, mod in zip(tasks, mods, strict=True):
            context = meta_schedule.TuneContext(mod, target=target, num_threads=1)
            candidate = MeasureCandidate(Schedule(mod), [])
            part = extractor.extract(context, [candidate], Task(task.key, device), graphs=True)
            parts.append(part)
        batch = concatenate(parts)
        features_s = time.perf_counter() - start
        model.predict(batch)
        predict_s = time.perf_counter() - start - features_s
    return {
        "kernels": len(tasks),
        "features_s": features_s,
        "predict_s": predict_s,
        "peak_gib": used.peak_bytes / 2**30,
    }


def once(path: Path) -> dict[str, Any]:
    """One round of everything, with a cache of its own."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for what in ("first", "cached"):
            found[what] = run_child("--child", "estimate", str(path))
        found["measured"] = run_child("--child", "measure", str(path))
        found["many"] = run_child("--child", "many", str(path))
    return found


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/estimate.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, path = options.child
        if what == "many":
            print(json.dumps(predict_many()))
        else:
            print(json.dumps((estimate if what == "estimate" else measure)(path)))
        return
    results = Results(options.out, fresh=options.fresh)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{NETWORK}.onnx"
        write_onnx(path)
        rounds = [results.get(str(repeat), lambda: once(path)) for repeat in range(options.repeats)]
    print(f"\n{results.header()}\n\n| | median (least to most) | goal |\n|---|---|---|")
    peak = [max(r["first"]["peak_gib"], r["many"]["peak_gib"]) for r in rounds]
    lines: dict[str, tuple[list[float], float | None]] = {
        f"{NETWORK}.onnx, first estimate, s": (
            [r["first"]["wall_s"] for r in rounds],
            GOALS["first_s"],
        ),
        "from the cache, s": ([r["cached"]["wall_s"] for r in rounds], GOALS["cached_s"]),
        "building and measuring it, s": ([r["measured"]["wall_s"] for r in rounds], None),
        f"predicting {KERNELS} kernels over extracting their features": (
            [r["many"]["predict_s"] / r["many"]["features_s"] for r in rounds],
            GOALS["predict_share"],
        ),
        "memory, GiB": (peak, GOALS["peak_gib"]),
    }
    for name, (values, goal) in lines.items():
        spread = f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
        print(f"| {name} | {spread} | {'' if goal is None else f'{goal:g}'} |")


if __name__ == "__main__":
    main()
