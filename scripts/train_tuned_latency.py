"""Learn what latency kernels have after tuning, and judge it on network families left out.

    python scripts/train_tuned_latency.py work/tuned_networks --out work/tuned_latency.ckpt

Data sets are those of `costmodels collect --networks --trials-each N`: the programs of each kernel
in the order in which they were tried. Each part of the families is predicted by a model that
learned from the others.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from costmodels.dataset.folder import read_dataset
from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.tuned_latency import TunedKernel, TunedLatency
from tvm_integration.records.rows import workload_of
from tvm_integration.tir.kernel_graph import kernel_graph

PARTS = 6
SEARCHED = 0.8
"""Share of the most trials that a kernel must have had to judge by."""


def family_of(network: str) -> str:
    """``zoo:fire,number=3`` is of the family fire."""
    return network.partition(",")[0].rpartition(":")[2]


def tuned_kernels(path: Path) -> Iterator[TunedKernel]:
    """The kernels of a data set that were searched."""
    dataset = read_dataset(path)
    run_s: dict[str, list[float]] = {}
    for record in dataset.records:
        if record.origin == "search":
            found = record.measurement
            seconds = found.latency_s if isinstance(found, Measured) else float("inf")
            run_s.setdefault(record.task, []).append(seconds)
    for key, each in run_s.items():
        task = dataset.tasks[key]
        try:
            graph = kernel_graph(workload_of(task))
        except InputError:
            continue
        yield TunedKernel(graph, task.device, tuple(each), family_of(next(iter(task.networks))))


def judge(kernels: list[TunedKernel]) -> None:
    """Print errors and intervals, by family and together."""
    families = sorted({kernel.group for kernel in kernels})
    most = max(len(kernel.run_s) for kernel in kernels)
    errors: dict[str, list[float]] = {family: [] for family in families}
    held: dict[str, list[bool]] = {family: [] for family in families}
    order = np.random.default_rng(0).permutation(families)
    for part in np.array_split(order, min(PARTS, len(families))):
        model = TunedLatency().fit([k for k in kernels if k.group not in part])
        for kernel in kernels:
            best, trials = min(kernel.run_s), len(kernel.run_s)
            if kernel.group in part and np.isfinite(best) and trials >= SEARCHED * most:
                (found,) = model.predict([kernel.graph], kernel.device, trials)
                errors[kernel.group].append(abs(found.latency_s / best - 1))
                held[kernel.group].append(found.low_s <= best <= found.high_s)
    print("| family | kernels | median error | within 20 % | intervals that hold |")
    print("|---|---|---|---|---|")
    everything = np.concatenate([each for each in errors.values() if each])
    rows = {family: np.array(each) for family, each in errors.items() if each}
    for family, each in rows.items():
        print(_row(family, each, np.mean(held[family])))
    print(_row("all", everything, np.mean([x for each in held.values() for x in each])))


def _row(name: str, errors: "np.typing.NDArray[np.float64]", held: "np.floating") -> str:
    near = np.mean(errors < 0.2)
    return f"| {name} | {len(errors)} | {np.median(errors):.1%} | {near:.0%} | {held:.0%} |"


def main() -> None:
    """Judge, then learn from all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, help="write the model here")
    options = parser.parse_args()
    kernels = [kernel for path in options.datasets for kernel in tuned_kernels(path)]
    print(f"{len(kernels)} kernels of {len({kernel.group for kernel in kernels})} families\n")
    judge(kernels)
    if options.out is not None:
        TunedLatency().fit(kernels).save(options.out)


if __name__ == "__main__":
    main()
