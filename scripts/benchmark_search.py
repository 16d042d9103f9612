"""Best program found by our trees, TVM's XGBModel and a random model, on the same workers.

Five tasks, three seeds, 128 trials in batches of 32. The best programs of each run are measured
again side by side under one evaluator, and only those times are compared.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results, run_child
from benchmark_tasks import TASKS
from benchmark_winners import (
    best_of,
    geometric_mean,
    measure_in_child,
    measure_side_by_side,
    record_text,
)
from benchmark_workers import host_cpu

MODELS = ("gbt", "stock", "random")
TRIALS, BATCH = 128, 32
SHOWN_RATIO = 4.0
"""Latencies up to so many times the best are charted."""


def tune_once(model: str, task: str, seed: int) -> dict[str, object]:
    """Tune one task in this process and return its winners and the way to them."""
    import tvm
    from tvm.s_tir import meta_schedule as ms

    from tvm_integration import MeasureLog, MetaScheduleCostModel, WarmBuilder, WarmRunner
    from tvm_integration.measure.measure_log import measure_callbacks

    target = tvm.target.Target({"kind": "llvm", "mcpu": host_cpu(tvm), "num-cores": 2})
    curve = []
    start = time.perf_counter()

    def on_event(event: Any) -> None:
        run_secs = event.run_secs
        latency_s = statistics.median(run_secs) if run_secs else None
        curve.append((time.perf_counter() - start, latency_s))

    runner = WarmRunner()
    with tempfile.TemporaryDirectory() as work_dir:
        cost_model = {
            "gbt": lambda: MetaScheduleCostModel("gbt", work_dir=work_dir, seed=seed),
            "stock": ms.cost_model.XGBModel,
            "random": lambda: ms.cost_model.RandomModel(seed=seed),
        }[model]()
        database = ms.tir_integration.tune_tir(
            TASKS[task](),
            target,
            work_dir,
            TRIALS,
            num_trials_per_iter=BATCH,
            builder=WarmBuilder(),
            runner=runner,
            cost_model=cost_model,
            measure_callbacks=measure_callbacks(MeasureLog(runner, on_event=on_event)),
            seed=seed,
        )
        winners = [record_text(record) for record in best_of(database.get_all_tuning_records())]
    return {"winners": winners, "curve": curve, "wall_s": time.perf_counter() - start}


def draw(results: Results, seeds: int, path: Path) -> None:
    """Chart the best latency so far against trials and against wall time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(TASKS), figsize=(4 * len(TASKS), 7), squeeze=False)
    colors = {"gbt": "tab:blue", "stock": "tab:orange", "random": "tab:grey"}
    labels = {"gbt": "our trees", "stock": "TVM's XGBModel", "random": "random"}
    for column, task in enumerate(TASKS):
        for model, seed in itertools.product(MODELS, range(1, seeds + 1)):
            curve = results.values[f"{task} | {seed} | {model}"]["curve"]
            times = [point[0] for point in curve]
            best = np.fmin.accumulate([point[1] or math.inf for point in curve]) * 1e6
            label = labels[model] if seed == 1 else None
            style = {
                "color": colors[model],
                "alpha": 0.75,
                "label": label,
                "drawstyle": "steps-post",
            }
            axes[0, column].plot(range(1, len(best) + 1), best, **style)
            axes[1, column].plot(times, best, **style)
        axes[0, column].set_title(task)
        axes[0, column].set_xlabel("trials")
        axes[1, column].set_xlabel("wall time, s")
        winners = results.values[f"{task} | winners"].values()
        best_us = min(min(seconds) for seconds in winners) * 1e6
        for axis in axes[:, column]:
            axis.set_yscale("log")
            axis.set_ylim(best_us * 0.95, best_us * SHOWN_RATIO)
    for axis in axes[:, 0]:
        axis.set_ylabel("best latency so far, µs")
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure what is missing, then print the table and draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/search.json")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--winners", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        model, task, seed = options.child
        print(json.dumps(tune_once(model, task, int(seed))))
        return
    if options.winners:
        task, path = options.winners
        print(json.dumps(measure_side_by_side(TASKS[task](), json.loads(Path(path).read_text()))))
        return
    results = Results(options.out, fresh=options.fresh)
    for seed in range(1, options.seeds + 1):
        for task, model in itertools.product(TASKS, MODELS):
            call = ("--child", model, task, str(seed))
            results.get(f"{task} | {seed} | {model}", run_child, *call)
    for task in TASKS:
        results.get(f"{task} | winners", _winners, results, task, options.seeds)
    print_table(results, options.seeds)
    draw(results, options.seeds, options.out.with_suffix(".png"))


def _winners(results: Results, task: str, seeds: int) -> dict[str, list[float]]:
    runs = {
        f"{model} | {seed}": results.values[f"{task} | {seed} | {model}"]["winners"]
        for model, seed in itertools.product(MODELS, range(1, seeds + 1))
    }
    return measure_in_child(task, runs)


def print_table(results: Results, seeds: int) -> None:
    """Latencies of the winners, and ratios to stock's."""
    print(f"\n{results.header()}\n")
    print("| task | our trees, µs | XGBModel, µs | random, µs | ours / XGBModel (by seed) |")
    print("|---|---|---|---|---|")
    all_ratios = []
    for task in TASKS:
        winners = results.values[f"{task} | winners"]
        best = {
            model: [min(winners[f"{model} | {seed}"]) for seed in range(1, seeds + 1)]
            for model in MODELS
        }
        ratios = [a / b for a, b in zip(best["gbt"], best["stock"], strict=True)]
        all_ratios += ratios
        cells = " | ".join(f"{geometric_mean(best[m]) * 1e6:.4g}" for m in MODELS)
        spread = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"| {task} | {cells} | {geometric_mean(ratios):.2f} ({spread}) |")
    low, high = min(all_ratios), max(all_ratios)
    mean = geometric_mean(all_ratios)
    print(f"| geometric mean | | | | **{mean:.2f}** ({low:.2f}-{high:.2f}) |")


if __name__ == "__main__":
    main()
