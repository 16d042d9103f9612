"""Wall time of `tune_tir` with our three objects against stock TVM's, their start included.

Each run is a new process that has imported TVM and built the workload before the clock starts; ours
and stock's take turns. Two things are made easier for stock. Torch is hidden from it, which TVM
would otherwise import in each of its new processes. And its LocalBuilder gets five minutes a
candidate instead of 30 seconds: on two slow cores that limit can pass before a process has
imported TVM, and then every build fails.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results, run_child
from benchmark_tasks import TASKS

BATCHES = {16: 0.25, 64: 0.45}
"""Candidates of one batch -> the share of stock's time that ours may take."""
TRIALS = 64
WHO = ("ours", "stock")


def tune_once(who: str, task: str, batch: int, seed: int) -> dict[str, float]:
    """Tune one task in this process."""
    import tvm
    from tvm.s_tir.meta_schedule.tir_integration import tune_tir

    function = TASKS[task]()
    target = tvm.target.Target({"kind": "llvm", "mcpu": host_cpu(tvm), "num-cores": 2})
    with tempfile.TemporaryDirectory() as work_dir:
        start = time.perf_counter()
        if who == "stock":
            from tvm.s_tir.meta_schedule.builder import LocalBuilder

            options = {"builder": LocalBuilder(timeout_sec=300)}
        else:
            from tvm_integration import MetaScheduleCostModel, WarmBuilder, WarmRunner

            options = {
                "builder": WarmBuilder(),
                "runner": WarmRunner(),
                "cost_model": MetaScheduleCostModel("gbt", work_dir=work_dir),
            }
        database = tune_tir(
            function, target, work_dir, TRIALS, num_trials_per_iter=batch, seed=seed, **options
        )
        wall_s = time.perf_counter() - start
        records = database.get_all_tuning_records()
        best = min(statistics.median(float(t) for t in r.run_secs) for r in records)
    return {"wall_s": wall_s, "best_s": best, "records": len(records)}


def host_cpu(tvm: Any) -> str:
    """LLVM's name for this processor."""
    return str(tvm.target.codegen.llvm_get_system_cpu())


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/workers.json")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        who, task, batch, seed = options.child
        print(json.dumps(tune_once(who, task, int(batch), int(seed))))
        return
    results = Results(options.out, fresh=options.fresh)
    tasks = list(TASKS)[:2]
    for repeat, task, batch in itertools.product(range(options.repeats), tasks, BATCHES):
        for who in WHO:
            call = ("--child", who, task, str(batch), str(repeat + 1))
            results.get(
                f"{task} | {batch} | {repeat} | {who}",
                run_child,
                *call,
                hide_torch=who == "stock",
            )
    print(f"\n{results.header()}\n")
    print("| task | batch | ours, s | stock, s | ratio (min-max) | goal |")
    print("|---|---|---|---|---|---|")
    for task in tasks:
        for batch, limit in BATCHES.items():
            ours, stock = (
                [
                    results.values[f"{task} | {batch} | {r} | {who}"]["wall_s"]
                    for r in range(options.repeats)
                ]
                for who in WHO
            )
            ratios = [a / b for a, b in zip(ours, stock, strict=True)]
            print(
                f"| {task} | {batch} | {statistics.median(ours):.1f} "
                f"| {statistics.median(stock):.1f} | {statistics.median(ratios):.2f} "
                f"({min(ratios):.2f}-{max(ratios):.2f}) | {limit} |"
            )


if __name__ == "__main__":
    main()
