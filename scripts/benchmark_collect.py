"""How fast programs are collected and featurised.

Collecting: valid records a second on the kernels of ResNet-18, building included; then the same
programs, some of them, built and measured by our workers and by stock TVM's in turn, under one
evaluator. Torch is hidden from stock, and its builder gets five minutes a program, as in
`benchmark_workers.py`. Featurising: traces applied, rows and graphs extracted, then read from the
cache. Imports of TVM are not counted.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results, run_child

MODEL = "zoo:resnet18"
PER_TASK = 16
MINUTES = 5.0
SAMPLE_PER_TASK = 3
FEATURISED = 10_000
MANY = 100_000


def collect(folder: Path) -> dict[str, float]:
    """Collect as `costmodels collect` does; start and fusion are not counted."""
    from costmodels.dataset.writer import DatasetWriter
    from tvm_integration.collect import CollectOptions, Collector
    from tvm_integration.collect_tasks import tasks_of_networks
    from tvm_integration.targets import device_of, host_target

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
    from tvm_integration.collect import MEASURE
    from tvm_integration.compat import BuilderInput, RunnerInput, meta_schedule
    from tvm_integration.dataset_rows import schedule_of, target_of, workload_of
    from tvm_integration.tune_measure import allocate_safe_arguments

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
            f_alloc_argument=allocate_safe_arguments,
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


def featurise(dataset_name: str) -> dict[str, float]:
    """Extract the features of programs, read them from the cache, and watch the memory."""
    from costmodels.dataset.folder import read_dataset
    from costmodels.dataset.shipped import dataset_path
    from tvm_integration import featurise as module
    from tvm_integration.worker_session import shared_session

    whole = read_dataset(dataset_path(dataset_name))
    records = whole.records[:FEATURISED]
    dataset = replace(whole, records=records, files_digest="a part")
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp()
    shared_session().root()  # has imported TVM
    start = time.perf_counter()
    module.featurise(dataset)
    extracted_s = time.perf_counter() - start
    start = time.perf_counter()
    module.featurise(dataset)
    cached_s = time.perf_counter() - start
    many = (records * (MANY // len(records) + 1))[:MANY]
    with _PeakMemory() as memory:
        module.featurise(replace(whole, records=many, files_digest="many"))
    shutil.rmtree(os.environ["XDG_CACHE_HOME"])
    return {
        "programs": len(records),
        "extracted_per_s": len(records) / extracted_s,
        "cached_per_s": len(records) / cached_s,
        "many": len(many),
        "peak_gib": memory.peak_bytes / 2**30,
    }


class _PeakMemory:
    """Largest memory of this process and all it started, sampled twice a second."""

    def __enter__(self) -> "_PeakMemory":
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._stop.wait(0.5):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    memory = process.memory_full_info()
                except psutil.Error:
                    continue  # it ended meanwhile
                total += memory.pss
            self.peak_bytes = max(self.peak_bytes, total)


def main() -> None:
    """Measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dataset", default="shipped:cpu", help="what is featurised")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/collect.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.out.parent / "collected"
    if options.child:
        what, who = options.child
        if what == "collect":
            found: dict[str, float] = collect(folder)
        elif what == "sample":
            found = measure_sample(folder, who)
        else:
            found = featurise(who)
        print(json.dumps(found))
        return
    results = Results(options.out, fresh=options.fresh)
    out = ("--out", str(options.out))
    if "collect" not in results.values:
        shutil.rmtree(folder, ignore_errors=True)
    rate = results.get("collect", lambda: run_child(*out, "--child", "collect", "-"))
    for repeat in range(options.repeats):
        for who in ("ours", "stock"):
            results.get(
                f"sample | {repeat} | {who}",
                lambda who=who: run_child(
                    *out, "--child", "sample", who, hide_torch=who == "stock"
                ),
            )
    speed = results.get(
        f"featurise | {options.dataset}",
        lambda: run_child(*out, "--child", "featurise", options.dataset),
    )
    print(f"\n{results.header()}\n")
    print(
        f"{MODEL}: {rate['valid']} valid and {rate['failed']} failed records in "
        f"{rate['wall_s']:.0f} s: {rate['valid'] / rate['wall_s']:.2f} valid a second (goal 2.5)\n"
    )
    print("| the same programs | valid | valid a second, by repeat |\n|---|---|---|")
    for who in ("ours", "stock"):
        found = [results.values[f"sample | {r} | {who}"] for r in range(options.repeats)]
        rates = ", ".join(f"{each['valid'] / each['wall_s']:.2f}" for each in found)
        print(f"| {who} | {found[0]['valid']} of {found[0]['programs']} | {rates} |")
    print(
        f"\n{options.dataset}: {speed['programs']} programs featurised at "
        f"{speed['extracted_per_s']:.0f} a second (goal 300), from the cache at "
        f"{speed['cached_per_s']:.0f} (goal 100000); {speed['many']} programs within "
        f"{speed['peak_gib']:.2f} GiB (goal 4)"
    )


if __name__ == "__main__":
    main()
