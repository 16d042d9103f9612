"""How fast programs are collected and featurized.

Collecting: valid records a second on the kernels of ResNet-18, building included; then the same
programs, some of them, built and measured by our workers and by stock TVM's in turn, under one
evaluator. Torch is hidden from stock, and its builder gets five minutes a program, as in
`benchmark_workers.py`. Measuring again: programs of the data set by `collect --programs-of`, which
is ended by ``kill -9`` and goes on in the next repeat; all that it had kept must be there.
Featurizing: traces applied, rows and graphs extracted, then read from the cache. Imports of TVM are
not counted.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results, run_child
from peak_memory import PeakMemory

MODEL = "zoo:resnet18"
PER_TASK = 16
MINUTES = 5.0
SAMPLE_PER_TASK = 3
FEATURIZED = 10_000
MANY = 100_000
AGAIN_S = 100.0
"""After which a process that measures programs again is killed."""


def collect(folder: Path) -> dict[str, float]:
    """Collect as `costmodels collect` does; start and fusion are not counted."""
    from costmodels.dataset.writer import DatasetWriter
    from tvm_integration.collect.kernels import CollectOptions, Collector
    from tvm_integration.collect.tasks import tasks_of_networks
    from tvm_integration.targets import device_of, host_target
    from tvm_integration.workers.fork_server_client import shared_session

    shared_session().root()  # has imported TVM
    target = host_target()
    device = device_of(target)
    tasks = tasks_of_networks([MODEL], target, device)
    with DatasetWriter(folder, {"licence": "none"}) as writer:
        writer.add(tasks)
        collector = Collector(
            writer, target, device, CollectOptions(per_task=PER_TASK, minutes=MINUTES)
        )
        try:
            start = time.perf_counter()
            state = collector.run([task.key for task in tasks])
            wall_s = time.perf_counter() - start
        finally:
            collector.close()
    return {"valid": state.measured, "failed": state.failed, "wall_s": wall_s}


def measure_sample(folder: Path, who: str) -> dict[str, float]:
    """Build and measure some of the programs collected."""
    from costmodels.dataset.folder import read_dataset
    from tvm_integration import WarmBuilder, WarmRunner
    from tvm_integration.compat import BuilderInput, RunnerInput, meta_schedule
    from tvm_integration.measure.settings import MEASURE
    from tvm_integration.records.rows import schedule_of, target_of, workload_of

    dataset = read_dataset(folder)
    inputs = []
    for key, task in dataset.tasks.items():
        mod = workload_of(task)
        records = [record for record in dataset.records if record.task == key]
        arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
        for record in records[1 : 1 + SAMPLE_PER_TASK]:
            program = schedule_of(mod, record.trace).mod
            inputs.append((BuilderInput(program, target_of(task)), arguments))
    if who == "stock":
        builder: Any = meta_schedule.builder.LocalBuilder(timeout_sec=300)
        runner: Any = meta_schedule.runner.LocalRunner(evaluator_config=MEASURE)
    else:
        builder = WarmBuilder()
        runner = WarmRunner(
            evaluator_config=MEASURE,
            early_stop_ratio=None,
        )
    valid = 0
    start = time.perf_counter()
    built = builder.build([each for each, _ in inputs])
    for artifact, (_, arguments) in zip(built, inputs, strict=True):
        if artifact.error_msg is None:
            (future,) = runner.run([RunnerInput(artifact.artifact_path, "cpu", arguments)])
            valid += future.result().error_msg is None
            shutil.rmtree(Path(str(artifact.artifact_path)).parent, ignore_errors=True)
    return {"valid": valid, "programs": len(inputs), "wall_s": time.perf_counter() - start}


def measure_again(folder: Path, dataset_name: str) -> dict[str, float]:
    """Measure programs again in a process that is killed in the middle; start is not counted."""
    from costmodels.dataset.folder import read_dataset

    before = read_dataset(folder).records if folder.exists() else ()
    command = [sys.executable, "-m", "tvm_integration.cli", "collect", "--programs-of"]
    process = subprocess.Popen(
        [*command, dataset_name, "--out", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.wait(AGAIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    after = read_dataset(folder).records
    if after[: len(before)] != before:
        raise RuntimeError(f"{folder}: programs that were kept before kill -9 are missing")
    new = after[len(before) :]
    wall_s = (new[-1].measured_at - new[0].measured_at).total_seconds()
    return {"valid": len(new) - 1, "wall_s": wall_s, "kept": len(after)}


def featurize(dataset_name: str) -> dict[str, float]:
    """Extract the features of programs, then read them from the cache."""
    from costmodels.dataset.folder import read_dataset
    from tvm_integration.collect import featurize as module
    from tvm_integration.workers.fork_server_client import shared_session

    whole = read_dataset(dataset_name)
    dataset = replace(whole, records=whole.records[:FEATURIZED], files_digest="a part")
    shared_session().root()  # has imported TVM
    with _own_cache():
        start = time.perf_counter()
        module.featurize(dataset)
        extracted_s = time.perf_counter() - start
        cached = []
        for _ in range(5):
            start = time.perf_counter()
            module.featurize(dataset)
            cached.append(time.perf_counter() - start)
    programs = len(dataset.records)
    return {
        "programs": programs,
        "extracted_per_s": programs / extracted_s,
        "cached_per_s": programs / statistics.median(cached),
    }


def memory(dataset_name: str) -> dict[str, float]:
    """Peak memory of featurizing many programs: those of the data set, again and again."""
    from costmodels.dataset.folder import read_dataset
    from tvm_integration.collect import featurize as module

    whole = read_dataset(dataset_name)
    many = (whole.records * (MANY // len(whole.records) + 1))[:MANY]
    with _own_cache(), PeakMemory() as used:
        module.featurize(replace(whole, records=many, files_digest="many"))
    return {"programs": len(many), "peak_gib": used.peak_bytes / 2**30}


@contextmanager
def _own_cache() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        yield


def main() -> None:
    """Measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dataset", default="shipped:cpu", help="what is featurized")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/collect.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.out.parent / "collected"
    if options.child:
        print(json.dumps(_child(folder, *options.child)))
        return
    results = Results(options.out, fresh=options.fresh)
    if options.fresh:
        shutil.rmtree(folder.with_name("again"), ignore_errors=True)

    def get(repeat: int, what: str, who: str = "ours", *, hide_torch: bool = False) -> Any:
        call = ("--out", str(options.out), "--child", what, who)
        key = f"{repeat} | {what} | {who}"
        return results.get(key, lambda: run_child(*call, hide_torch=hide_torch, timeout_s=7200))

    rounds = range(options.repeats)
    again = [get(repeat, "again", options.dataset) for repeat in rounds]
    collected = [get(repeat, "collect") for repeat in rounds]
    sampled: dict[str, list[Any]] = {"ours": [], "stock": []}
    for repeat in rounds:  # in turn
        for who, found in sampled.items():
            found.append(get(repeat, "sample", who, hide_torch=who == "stock"))
    featurized = [get(repeat, "featurize", options.dataset) for repeat in rounds]
    used = get(0, "memory", options.dataset)
    print(f"\n{results.header()}\n\n| | median (min-max) | goal |\n|---|---|---|")
    valid, programs = sampled["stock"][0]["valid"], sampled["stock"][0]["programs"]
    lines = {
        f"{MODEL}: valid records collected a second": ([_rate(each) for each in collected], "2.5"),
        f"{programs} of these programs, ours: valid a second": (
            [_rate(each) for each in sampled["ours"]],
            "",
        ),
        f"the same, stock TVM ({valid} valid)": ([_rate(each) for each in sampled["stock"]], ""),
        f"measured again, resumed {len(again) - 1} times after kill -9, a second": (
            [_rate(each) for each in again],
            "3",
        ),
        f"{featurized[0]['programs']} programs featurized, a second": (
            [each["extracted_per_s"] for each in featurized],
            "300",
        ),
        "from the cache, a second": ([each["cached_per_s"] for each in featurized], "100000"),
        f"{used['programs']} programs featurized, GiB": ([used["peak_gib"]], "4"),
    }
    for name, (values, goal) in lines.items():
        least, most = min(values), max(values)
        print(f"| {name} | {statistics.median(values):.3g} ({least:.3g}-{most:.3g}) | {goal} |")


def _child(folder: Path, what: str, who: str) -> dict[str, float]:
    if what == "collect":
        shutil.rmtree(folder, ignore_errors=True)
        return collect(folder)
    if what == "again":
        return measure_again(folder.with_name("again"), who)
    if what == "sample":
        return measure_sample(folder, who)
    return memory(who) if what == "memory" else featurize(who)


def _rate(found: dict[str, float]) -> float:
    return found["valid"] / found["wall_s"]


if __name__ == "__main__":
    main()
