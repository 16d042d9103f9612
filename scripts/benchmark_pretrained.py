"""Tuning kernels of unseen networks from a trained model, against TVM's XGBModel from nothing.

The six heaviest kernels (calls times latency) of the test networks of `shipped:cpu`; models learned
its training networks alone. All runs use our workers; the best programs of each are measured again
side by side, and only those times are compared. Goals: after 32 trials no worse than XGBModel after
128; without a trial at most 1.6 times the best of 512 trials of XGBModel.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results, run_child
from benchmark_winners import (
    best_of,
    geometric_mean,
    measure_in_child,
    measure_side_by_side,
    record_text,
)

DATASET, SPLIT = "shipped:cpu", "networks"
TASKS = 6
MIN_PROGRAMS = 32
"""Kernels with fewer different programs leave nothing to choose."""
STOCK_TRIALS, STOCK_EARLY, STOCK_BATCH = 512, 128, 32
TRIALS, BATCH = 32, 16
STOCK = "stock"
GOALS = {"tuned": 1.0, "untried": 1.6}
"""Ratios to XGBModel after 128 trials, and after 512."""


def heaviest() -> list[str]:
    """Keys of the kernels of test networks that take longest in their network, on one device."""
    from collections import Counter

    from costmodels.dataset.folder import read_dataset
    from costmodels.dataset.splits import read_split
    from costmodels.kernel import Measured

    dataset = read_dataset(DATASET)
    test = read_split(dataset, SPLIT).test
    devices = Counter(dataset.tasks[record.task].target for record in dataset.records)
    target = devices.most_common(1)[0][0]
    best: dict[str, float] = {}
    programs = Counter[str]()
    for record in dataset.records:
        known = record.task in test and dataset.tasks[record.task].target == target
        if known and isinstance(record.measurement, Measured):
            latency_s = record.measurement.latency_s
            best[record.task] = min(best.get(record.task, latency_s), latency_s)
            programs[record.task] += 1
    calls = {key: max(dataset.tasks[key].networks.values(), default=0) for key in best}
    to_choose = [key for key in best if programs[key] >= MIN_PROGRAMS]
    return sorted(to_choose, key=lambda key: -best[key] * calls[key])[:TASKS]


def workload(key: str) -> tuple[str, Any]:
    """Name and program of a task."""
    from costmodels.dataset.folder import read_dataset
    from tvm_integration.records.rows import workload_of

    task = read_dataset(DATASET).tasks[key]
    return task.name, workload_of(task)


def tune_once(model: str, key: str, seed: int, trials: int, batch: int) -> dict[str, Any]:
    """Tune one kernel in this process and return its winners, early and in the end."""
    from tvm.s_tir import meta_schedule as ms

    from tvm_integration import MetaScheduleCostModel, WarmBuilder, WarmRunner
    from tvm_integration.records.database import RECORDS
    from tvm_integration.targets import host_target

    _, mod = workload(key)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as work_dir:
        cost_model = (
            ms.cost_model.XGBModel()
            if model == STOCK
            else MetaScheduleCostModel(model, work_dir=work_dir, seed=seed)
        )
        database = ms.tir_integration.tune_tir(
            mod,
            host_target(),
            work_dir,
            trials,
            num_trials_per_iter=batch,
            builder=WarmBuilder(),
            runner=WarmRunner(),
            cost_model=cost_model,
            seed=seed,
        )
        wall_s = time.perf_counter() - start
        lines = (Path(work_dir) / RECORDS).read_text().splitlines()
        early_workload = database.commit_workload(mod)
        early = [
            ms.database.TuningRecord.from_json(json.loads(line)[1], early_workload)
            for line in lines[:STOCK_EARLY]
        ]
        return {
            "winners": [record_text(each) for each in best_of(database.get_all_tuning_records())],
            "early": [record_text(each) for each in best_of(early)],
            "wall_s": wall_s,
        }


def choose_once(model: str, key: str, seed: int) -> dict[str, Any]:
    """Let a model choose a program of one kernel alone."""
    from tvm.s_tir import meta_schedule as ms

    from tvm_integration import MetaScheduleCostModel
    from tvm_integration.compile.fusion import FusedTask
    from tvm_integration.targets import host_target
    from tvm_integration.tune.zero_trial import choose_schedules

    name, mod = workload(key)
    target = host_target()
    start = time.perf_counter()
    task = FusedTask(name, 1, mod, (name,), 0.0)
    cost_model = MetaScheduleCostModel(model, seed=seed)
    chosen = choose_schedules([task], target, cost_model, seed=seed, library=False)[name]
    arguments = ms.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
    trace = chosen.trace or ms.Schedule(mod).trace
    record = ms.database.TuningRecord(trace, ms.database.Workload(mod), [1.0], target, arguments)
    return {
        "winners": [record_text(record)],
        "predicted_s": chosen.predicted_s,
        "wall_s": time.perf_counter() - start,
    }


def train(model: str, path: Path) -> None:
    """Train a model on the training networks, unless that was done."""
    from costmodels.dataset.folder import read_dataset
    from tvm_integration.learn.train import train_model

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train_model(read_dataset(DATASET), model, path, split=SPLIT)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["gbt", "graphsage", "halide"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/pretrained.json")
    parser.add_argument("--tune", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--choose", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--winners", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tune:
        model, key, *numbers = options.tune
        print(json.dumps(tune_once(model, key, *map(int, numbers))))
        return
    if options.choose:
        model, key, seed = options.choose
        print(json.dumps(choose_once(model, key, int(seed))))
        return
    if options.winners:
        key, file = options.winners
        _, mod = workload(key)
        print(json.dumps(measure_side_by_side(mod["main"], json.loads(Path(file).read_text()))))
        return
    measure_all(options)


def measure_all(options: argparse.Namespace) -> None:
    """Tune, choose, measure side by side, print."""
    results = Results(options.out, fresh=options.fresh)
    files = {
        model: options.out.with_name(f"pretrained-{model}.ckpt").resolve()
        for model in options.models
    }
    for model, path in files.items():
        train(model, path)
    keys = results.get("tasks", heaviest)
    seeds = range(1, options.seeds + 1)
    for seed in seeds:
        for key in keys:
            for model, path in files.items():
                tune = ("--tune", str(path), key, str(seed), str(TRIALS), str(BATCH))
                choose = ("--choose", str(path), key, str(seed))
                results.get(f"{key} | {seed} | {model}", run_child, *tune)
                results.get(f"{key} | {seed} | {model} | 0", run_child, *choose)
            call = ("--tune", STOCK, key, str(seed), str(STOCK_TRIALS), str(STOCK_BATCH))
            results.get(f"{key} | {seed} | {STOCK}", run_child, *call, timeout_s=7200)
        for key in keys:
            results.get(
                f"{key} | {seed} | winners",
                winners,
                results,
                key,
                seed,
                options.models,
            )
    print_table(results, keys, seeds, options.models)


def winners(results: Results, key: str, seed: int, models: list[str]) -> dict[str, Any]:
    """Measure the best programs of all runs of a kernel and a seed again."""
    values = results.values
    runs = {
        f"{STOCK} {STOCK_EARLY}": values[f"{key} | {seed} | {STOCK}"]["early"],
        f"{STOCK} {STOCK_TRIALS}": values[f"{key} | {seed} | {STOCK}"]["winners"],
    }
    for model in models:
        runs[f"{model} {TRIALS}"] = values[f"{key} | {seed} | {model}"]["winners"]
        runs[f"{model} 0"] = values[f"{key} | {seed} | {model} | 0"]["winners"]
    return measure_in_child(key, runs)


def print_table(results: Results, keys: list[str], seeds: range, models: list[str]) -> None:
    """Ratios to XGBModel, geometric means over the seeds."""
    names = {key: workload(key)[0] for key in keys}

    def best(key: str, seed: int, run: str) -> float:
        return float(min(results.values[f"{key} | {seed} | winners"][run]))

    print(f"\n{results.header()}\n")
    heads = []
    for model in models:
        heads += [
            (model, f"{model} {TRIALS}", f"{STOCK} {STOCK_EARLY}"),
            (model, f"{model} 0", f"{STOCK} {STOCK_TRIALS}"),
        ]
    print("| kernel | " + " | ".join(f"{own} / {other}" for _, own, other in heads) + " |")
    print("|---" * (1 + len(heads)) + "|")
    everything: dict[str, list[float]] = {}
    for key in keys:
        cells = []
        for _, own, other in heads:
            ratios = [best(key, seed, own) / best(key, seed, other) for seed in seeds]
            everything.setdefault(own, []).extend(ratios)
            spread = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            cells.append(f"{geometric_mean(ratios):.2f} ({spread})")
        print(f"| {names[key]} | " + " | ".join(cells) + " |")
    means = " | ".join(f"**{geometric_mean(everything[own]):.2f}**" for _, own, _ in heads)
    print(f"| geometric mean | {means} |")
    goals = " | ".join(
        f"{GOALS['untried' if own.endswith(' 0') else 'tuned']}" for _, own, _ in heads
    )
    print(f"| goal | {goals} |\n")
    print_times(results, keys, seeds, models)


def print_times(results: Results, keys: list[str], seeds: range, models: list[str]) -> None:
    """Median seconds of the runs, start included; seconds predicted over measured."""
    values = results.values
    for run in (STOCK, *(f"{model}{more}" for model in models for more in ("", " | 0"))):
        walls = [values[f"{key} | {seed} | {run}"]["wall_s"] for key in keys for seed in seeds]
        print(f"{run}: {statistics.median(walls):.0f} s ({min(walls):.0f} to {max(walls):.0f})")
    for model in models:
        ratios = [
            values[f"{key} | {seed} | {model} | 0"]["predicted_s"]
            / min(values[f"{key} | {seed} | winners"][f"{model} 0"])
            for key in keys
            for seed in seeds
        ]
        print(f"{model}, predicted over measured: {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
