"""What kernel models achieve on the shipped data sets, by task and by network, over three seeds.

Each line is `costmodels evaluate`; the mean over the seeds with the least and the most of them.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results

MODELS = ("gbt",)
SEEDS = (0, 1, 2)
SPLITS = ("networks", "tasks")
SHOWN = ("top1", "top1_weighted", "top5", "top1_gain", "kendall_tau", "pair_accuracy", "median_ape")


def evaluate(dataset: str, split: str, seed: int) -> dict[str, Any]:
    """Run `costmodels evaluate`."""
    command = [sys.executable, "-m", "tvm_integration.cli", "evaluate", dataset]
    command += ["--split", split, "--seed", str(seed), "--json"]
    command += [word for model in MODELS for word in ("--model", model)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Evaluate what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["shipped:cpu", "shipped:h200"])
    parser.add_argument("--fresh", action="store_true", help="evaluate everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/evaluate.json")
    options = parser.parse_args()
    results = Results(options.out, fresh=options.fresh)
    for dataset in options.datasets:
        for split in SPLITS:
            for seed in SEEDS:
                results.get(
                    f"{dataset} | {split} | {seed}",
                    lambda dataset=dataset, split=split, seed=seed: evaluate(dataset, split, seed),
                )
    print(f"\n{results.header()}\n")
    print("| data set | split | test programs (tasks) | model | " + " | ".join(SHOWN) + " |")
    print("|---" * (4 + len(SHOWN)) + "|")
    for dataset in options.datasets:
        for split in SPLITS:
            found = [results.values[f"{dataset} | {split} | {seed}"] for seed in SEEDS]
            size = f"{found[0]['records']} ({found[0]['tasks']})"
            for model in found[0]["models"]:
                cells = [shown([each["models"][model][name] for each in found]) for name in SHOWN]
                print(f"| {dataset} | {split} | {size} | {model} | " + " | ".join(cells) + " |")


def shown(values: list[float | None]) -> str:
    """Mean, least and most."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = statistics.fmean(known)
    if max(known) - min(known) < 5e-4:
        return f"{mean:.3f}"
    return f"{mean:.3f} ({min(known):.3f}-{max(known):.3f})"


if __name__ == "__main__":
    main()
