"""Learn what latency networks have after tuning, and judge it on network families left out.

    python scripts/train_tuned_latency.py shipped:tuned_networks --out work/tuned_latency.ckpt

Data sets are those of `costmodels collect --networks --trials-each N`: networks that were tuned,
and the programs of each of their kernels in the order in which they were tried; also kernels alone,
imported from work directories of `costmodels tune`. Each part of the families is predicted by a
model that learned from the others, and from none of its kernels.
"""

import argparse
import contextlib
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
from benchmark_results import commit, machine
from scipy.stats import spearmanr

from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.kernel import Measured
from costmodels.networks.kernel_latency import measured_latency
from costmodels.tuned_latency.kernels import TunedKernel, TunedLatency
from costmodels.tuned_latency.networks import SumOfTunedKernels, TunedNetwork, kernels_of
from tvm_integration.compile.vector_math import may_be_rewritten
from tvm_integration.records.rows import workload_of
from tvm_integration.tir.kernel_graph import kernel_graph

TRIED_IN_ORDER = ("search", "import")
"""Origins of records that stand in the order in which the programs were tried."""
PARTS = 6
SEARCHED = 0.8
"""Share of the most trials that a kernel must have had for its estimate to be judged by."""
MIN_RANKED = 3
"""Networks of a family whose order is judged."""


def tuned_networks(path: str) -> list[TunedNetwork]:
    """The networks of a data set that were tuned."""
    dataset = read_dataset(path)
    run_s = _tried(dataset)
    found = []
    for row in dataset.networks:
        if row.schedules != "tuned":
            continue
        kernels = {}
        for key in row.graph.counts("kernel"):
            task = dataset.tasks[key]
            try:
                graph = kernel_graph(workload_of(task))
            except InputError:  # it computes nothing
                continue
            kernels[key] = TunedKernel(graph, row.device, run_s.get(key, ()), row.family)
        found.append(
            TunedNetwork(
                row.graph,
                row.device,
                row.latency_s,
                kernels,
                {each.task: measured_latency(Measured(each.run_s)) for each in row.kernels},
                max(len(kernel.run_s) for kernel in kernels.values()),
                row.family,
            )
        )
    return found


def tuned_kernels(path: str) -> list[TunedKernel]:
    """The kernels of a data set that were tuned, whether their networks were or not."""
    dataset = read_dataset(path)
    found = []
    for key, run_s in _tried(dataset).items():
        task = dataset.tasks[key]
        with contextlib.suppress(InputError):
            family = family_of(min(task.networks))
            found.append(TunedKernel(kernel_graph(workload_of(task)), task.device, run_s, family))
    return found


def family_of(network: str) -> str:
    """``zoo:fire,number=3`` is of the family fire."""
    return network.partition(",")[0].rpartition(":")[2]


def _tried(dataset: StoredDataset) -> dict[str, tuple[float, ...]]:
    """Key of a task -> seconds of each program that was tried, in order."""
    run_s: dict[str, list[float]] = {}
    for record in dataset.records:
        if record.origin in TRIED_IN_ORDER:
            found = record.measurement
            seconds = found.latency_s if isinstance(found, Measured) else float("inf")
            run_s.setdefault(record.task, []).append(seconds)
    return {key: tuple(each) for key, each in run_s.items()}


def measured_kernels(path: str) -> list[TunedKernel]:
    """The kernels of a data set of programs, which count as tried in an order by chance."""
    dataset = read_dataset(path)
    rng = np.random.default_rng(0)
    run_s: dict[str, list[float]] = {}
    for record in dataset.records:
        found = record.measurement
        seconds = found.latency_s if isinstance(found, Measured) else float("inf")
        run_s.setdefault(record.task, []).append(seconds)
    kernels = []
    for key, each in run_s.items():
        task = dataset.tasks[key]
        # Tuning computes these functions by vector arithmetic: the programs are others.
        if may_be_rewritten(task.workload):
            continue
        with contextlib.suppress(InputError):
            graph = kernel_graph(workload_of(task))
            tried = tuple(rng.permutation(each).tolist())
            group = min(task.networks, default=key)
            kernels.append(TunedKernel(graph, task.device, tried, group, searched=False))
    return kernels


def judge(
    networks: Sequence[TunedNetwork], more: Sequence[TunedKernel]
) -> dict[str, dict[str, float]]:
    """Errors and intervals of kernels and networks, by family and together."""
    families = sorted({network.group for network in networks})
    kernels: dict[str, list[tuple[float, bool]]] = {}
    wholes: dict[str, list[tuple[float, float, bool]]] = {}
    order = np.random.default_rng(0).permutation(families)
    for part in np.array_split(order, min(PARTS, len(families))):
        out = [network for network in networks if network.group in part]
        others = [network for network in networks if network.group not in part]
        model = SumOfTunedKernels()
        unrelated = [kernel for kernel in more if kernel.group not in part]
        model.fit(others, unrelated, without=out)
        for network in out:
            graphs = {name: kernel.graph for name, kernel in network.kernels.items()}
            found = model.explain(network.graph, graphs, network.device, network.trials)
            total = found.total
            holds = total.low_s <= network.latency_s <= total.high_s
            wholes.setdefault(network.group, []).append((total.total_s, network.latency_s, holds))
            for kernel in network.kernels.values():
                kernels.setdefault(network.group, []).extend(
                    _judged(model.kernel_model, kernel, network.trials)
                )
    table = {}
    for family in [*families, "all"]:
        own_kernels = [x for f, each in kernels.items() if family in (f, "all") for x in each]
        own = [x for f, each in wholes.items() if family in (f, "all") for x in each]
        table[family] = _figures(own_kernels, own)
    ranked = [t["spearman"] for f, t in table.items() if f != "all" and np.isfinite(t["spearman"])]
    table["all"]["spearman"] = float(np.mean(ranked)) if ranked else float("nan")
    return table


def _judged(model: TunedLatency, kernel: TunedKernel, trials: int) -> list[tuple[float, bool]]:
    """Relative error, and whether the interval holds; nothing of a kernel with few trials."""
    tried = len(kernel.run_s)
    if tried < SEARCHED * trials or not np.isfinite(min(kernel.run_s)):
        return []
    best = min(kernel.run_s)
    (found,) = model.predict([kernel.graph], kernel.device, tried)
    return [(abs(found.latency_s / best - 1), found.low_s <= best <= found.high_s)]


def _figures(
    kernels: Sequence[tuple[float, bool]], networks: Sequence[tuple[float, float, bool]]
) -> dict[str, float]:
    off = np.array([error for error, _ in kernels])
    predicted, measured, holds = (np.array(each) for each in zip(*networks, strict=True))
    errors = np.abs(predicted / measured - 1)
    rank = spearmanr(predicted, measured).statistic if len(errors) >= MIN_RANKED else np.nan
    return {
        "networks": len(errors),
        "MAPE": float(np.mean(errors)),
        "within 20 %": float(np.mean(errors <= 0.2)),
        "spearman": float(rank),
        "intervals that hold": float(np.mean(holds)),
        "predicted over measured": float(np.exp(np.median(np.log(predicted / measured)))),
        "kernels": len(off),
        "kernels' median error": float(np.median(off)) if len(off) else float("nan"),
        "kernels within 20 %": float(np.mean(off <= 0.2)) if len(off) else float("nan"),
        "kernels' intervals that hold": float(np.mean([held for _, held in kernels]))
        if len(off)
        else float("nan"),
    }


def print_table(table: dict[str, dict[str, float]]) -> None:
    """As Markdown."""
    columns = list(next(iter(table.values())))
    print(f"| family | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for family, row in table.items():
        print(f"| {family} | " + " | ".join(_cell(each, row[each]) for each in columns) + " |")


def _cell(column: str, value: float) -> str:
    if not np.isfinite(value):
        return "-"
    if column in ("networks", "kernels"):
        return f"{value:.0f}"
    return f"{value:.2f}" if column in ("spearman", "predicted over measured") else f"{value:.1%}"


def main() -> None:
    """Judge, then learn from all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="+", help="folders, or shipped:NAME")
    parser.add_argument("--out", type=Path, help="write the model here")
    parser.add_argument("--figures", type=Path, help="write what was judged here, as JSON")
    parser.add_argument("--programs-of", nargs="*", default=[], help="data sets to learn from too")
    options = parser.parse_args()
    more = [kernel for path in options.datasets for kernel in tuned_kernels(path)]
    more += [kernel for path in options.programs_of for kernel in measured_kernels(path)]
    networks = [network for path in options.datasets for network in tuned_networks(path)]
    families = {network.group for network in networks}
    kernels = len(kernels_of(networks))
    print(
        f"{len(networks)} networks of {len(families)} families, {kernels} kernels of theirs and "
        f"{len(kernels_of(networks, more)) - kernels} others\n"
    )
    table = judge(networks, more)
    print_table(table)
    if options.figures is not None:
        told = {"commit": commit(), "machine": machine(), "date": date.today().isoformat()}
        known = {
            family: {name: value if np.isfinite(value) else None for name, value in row.items()}
            for family, row in table.items()
        }
        document = json.dumps({"families": known, "provenance": told}, indent=1)
        write_atomically(options.figures, document.encode())
    if options.out is not None:
        SumOfTunedKernels().fit(networks, more).save(options.out)


if __name__ == "__main__":
    main()
