"""What searching costs, and what it finds: this search beside that of the build before.

Five kernels, three seeds, 64 trials in batches of 16, with a model that begins with nothing, all in
turn. Search time is all but building and running: drawing, applying, describing, predicting and
learning. The best programs of each run are measured again side by side in one process. ``--before``
names the interpreter of an environment in which the build of fce22e0 is installed.
"""

import argparse
import itertools
import json
import os
import sys
from pathlib import Path

from benchmark_results import ROOT, Results, run_child
from benchmark_tasks import TASKS
from benchmark_winners import geometric_mean, measure_in_child, measure_side_by_side

from costmodels.cores import core_count

RUNS = ("now", "before")
CHILD = str(Path(__file__).with_name("tune_one_kernel.py"))
BATCHES = 4


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--model", default="gbt")
    parser.add_argument("--before", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/sketches.json")
    parser.add_argument("--winners", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.winners:
        task, path = options.winners
        print(json.dumps(measure_side_by_side(TASKS[task](), json.loads(Path(path).read_text()))))
        return
    # The build before took half of them (see docs/measuring.md).
    os.environ["TVM_NUM_THREADS"] = str(core_count())
    results = Results(options.out, fresh=options.fresh)
    pythons = {"now": sys.executable, "before": options.before}
    for seed in range(1, options.seeds + 1):
        for task, run in itertools.product(TASKS, RUNS):
            results.get(
                f"{task} | {seed} | {run}",
                lambda run=run, task=task, seed=seed: run_child(
                    run, options.model, task, str(seed), python=pythons[run], script=CHILD
                ),
            )
    for task in TASKS:
        results.get(f"{task} | winners", _winners, results, task, options.seeds)
    print_table(results, options.seeds)


def _winners(results: Results, task: str, seeds: int) -> dict[str, list[float]]:
    runs = {
        f"{run} | {seed}": results.values[f"{task} | {seed} | {run}"]["winners"]
        for run, seed in itertools.product(RUNS, range(1, seeds + 1))
    }
    return measure_in_child(task, runs)


def print_table(results: Results, seeds: int) -> None:
    """Search time, wall time and the best latency, now and over before."""
    print(f"\n{results.header()}\n")
    print("| kernel | search of a batch, s | over before | 64 trials, s | over before | ", end="")
    print("best, µs | over before (by seed) |")
    print("|---|---|---|---|---|---|---|")
    search_ratios, best_ratios = [], []
    for task in TASKS:
        found = {
            run: [results.values[f"{task} | {seed} | {run}"] for seed in range(1, seeds + 1)]
            for run in RUNS
        }
        search = {
            run: geometric_mean([(each["search_s"] + each["learn_s"]) / BATCHES for each in runs])
            for run, runs in found.items()
        }
        wall = {
            run: geometric_mean([each["wall_s"] for each in runs]) for run, runs in found.items()
        }
        winners = results.values[f"{task} | winners"]
        best = {
            run: [min(winners[f"{run} | {seed}"]) for seed in range(1, seeds + 1)] for run in RUNS
        }
        ratios = [now / before for now, before in zip(best["now"], best["before"], strict=True)]
        search_ratios.append(search["now"] / search["before"])
        best_ratios.append(geometric_mean(ratios))
        spread = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"| {task} | {search['now']:.2f} | {search_ratios[-1]:.2f} | {wall['now']:.1f} "
            f"| {wall['now'] / wall['before']:.2f} | {geometric_mean(best['now']) * 1e6:.4g} "
            f"| {best_ratios[-1]:.2f} ({spread}) |"
        )
    print(f"| geometric mean | | {geometric_mean(search_ratios):.2f} | | | ", end="")
    print(f"| **{geometric_mean(best_ratios):.2f}** |")


if __name__ == "__main__":
    main()
