"""Compare sums of tuned kernels with their networks: kernels in a loop, and as in a network.

    python scripts/benchmark_in_network.py

Each network is tuned with a few trials a kernel; then, five times in turn: the network, its
kernels' programs called over and over, and the same programs as `costmodels tune` measures them.
Writes docs/benchmarks/in_network.json and prints a table.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results

from tvm_integration import TuneOptions, WarmBuilder, WarmRunner
from tvm_integration.collect.networks import UNSCHEDULED
from tvm_integration.compat import BuilderInput, RunnerInput, meta_schedule
from tvm_integration.compile.build import build, fuse
from tvm_integration.compile.execution import measure_s
from tvm_integration.compile.vector_math import with_vector_math
from tvm_integration.frontends.load import load_network
from tvm_integration.identity import trace_text
from tvm_integration.measure.settings import MEASURE, network_runner
from tvm_integration.records.rows import schedule_of
from tvm_integration.targets import host_target
from tvm_integration.threads import KernelThread, thread_count
from tvm_integration.tune.network_timing import fastest_record
from tvm_integration.tune.session import tune_kernels

NETWORKS = (
    "zoo:mlp",
    "zoo:encoder,number=1",
    "zoo:residual,number=1",
    "zoo:unet,number=1",
    "zoo:mobilenet_v2",
    "zoo:resnet18",
    "zoo:vit_tiny",
)
TRIALS_EACH = 32
ROUNDS = 5


def measured(name: str) -> dict[str, Any]:
    """Seconds of a network, and of the sums of its kernels measured both ways, round by round."""
    target = host_target()
    threads = thread_count(target)
    network = load_network(name)
    fused = with_vector_math(fuse(network.module, target))
    with tempfile.TemporaryDirectory() as folder:
        options = TuneOptions(
            Path(folder), trials_each=TRIALS_EACH, trials_per_iter=16, library=False
        )
        _, database = tune_kernels(fused, options)
        built = build(fused, database)
        schedules = []
        for task in fused.tasks:
            record = fastest_record(database, task.mod)
            trace = UNSCHEDULED if record is None else trace_text(record.trace)
            schedules.append(schedule_of(task.mod, trace))
        builder = WarmBuilder()
        artifacts = builder.build([BuilderInput(each.mod, target) for each in schedules])
        runners = {
            "in a loop": WarmRunner(evaluator_config=MEASURE, threads=threads),
            "as in the network": network_runner(target, fused.footprint_bytes),
        }
        found: dict[str, list[float]] = {name: [] for name in ("network", *runners)}
        inputs = [
            RunnerInput(
                artifact.artifact_path,
                "cpu",
                meta_schedule.arg_info.ArgInfo.from_entry_func(each.mod, remove_preproc=True),
            )
            for artifact, each in zip(artifacts, schedules, strict=True)
        ]
        with KernelThread(threads) as kernels:
            for _ in range(ROUNDS):
                found["network"] += kernels.call(measure_s, built, network.inputs, repeat=1)
                for way, runner in runners.items():
                    found[way].append(
                        sum(
                            task.weight * statistics.median(map(float, _run(runner, each)))
                            for task, each in zip(fused.tasks, inputs, strict=True)
                        )
                    )
        builder.close()
        for runner in runners.values():
            runner.close()
    return {**found, "launches": sum(task.weight for task in fused.tasks)}


def _run(runner: WarmRunner, given: RunnerInput) -> Any:
    # One at a time: kernels of the same shapes are no rivals, none may be stopped early.
    (future,) = runner.run([given])
    result = future.result()
    assert result.error_msg is None, result.error_msg
    return result.run_secs


def main() -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="measure all anew")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    options = parser.parse_args()
    results = Results(ROOT / "docs/benchmarks/in_network.json", fresh=options.fresh)
    for name in options.networks:
        results.get(name, measured, name)
    print(results.header())
    print()
    print(
        "| network | launches | ms | sum of kernels in a loop, over the network's "
        "| as in the network, over the network's |\n|---|---|---|---|---|"
    )
    for name in options.networks:
        each = results.values[name]
        whole = each["network"]
        ratios = [
            statistics.median(part / s for part, s in zip(each[way], whole, strict=True))
            for way in ("in a loop", "as in the network")
        ]
        print(
            f"| {name} | {each['launches']} | {statistics.median(whole) * 1e3:.3g} "
            f"| {ratios[0]:.2f} | {ratios[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
