"""Estimates of whole networks of families never seen, against their measured latency.

Models learn the kernels of `shipped:cpu` and of the training families in `shipped:networks`, but no
kernel of the test families; what a sum leaves out is fitted on networks of training families that
no model learned from, and how far a model is off on families that it never saw is learned by
leaving out training families in turn (with the first seed). Writes docs/networks.md and a chart.
"""

import argparse
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results
from collect_networks import TEST_FAMILIES
from leaderboard import SEEDS, shown
from left_out_families import (
    Case,
    calibrates,
    cases,
    fitted_overheads,
    known_networks,
    learn_factors,
    networks_of,
    stored,
    trained,
)
from scipy.stats import spearmanr

from costmodels.dataset.network_rows import NetworkRow
from costmodels.files import write_atomically
from costmodels.network_models.kernel_sums import MeasuredNetwork, add_up
from costmodels.network_models.overheads import NO_OVERHEADS, Overheads

TEST = frozenset(TEST_FAMILIES)
MODELS = ("ensemble", "gbt", "graphsage", "halide", "paleo", "lookup_table", "sparse_polynomial")
DATA = (
    "Networks of `shipped:networks` were measured on November 27 and 28, 2026, all on one thread: "
    "default schedules are serial, and those that a model chose are told as of one core. Networks "
    "with chosen schedules on two cores are those of `shipped:chosen_networks`, measured on the "
    "29th on two threads of a Zen 4."
)
COLUMNS: tuple[str, ...] = ("networks", "supported", "mape", "median_ape", "within_10pct")
COLUMNS += ("spearman", "spearman_in_family", "coverage", "interval_width")


def judge(
    networks: Sequence[MeasuredNetwork],
    families: Sequence[str],
    overheads: Overheads,
    *,
    measured: bool = False,
) -> dict[str, float | None]:
    """Errors of the totals; networks with a kernel of unknown latency are left out."""
    actual, totals, kept = [], [], []
    for network, family in zip(networks, families, strict=True):
        kernels = network.measured if measured else network.predicted
        if kernels.keys() >= network.graph.counts("kernel").keys():
            actual.append(network.latency_s)
            totals.append(add_up(network.graph, kernels, network.device, overheads))
            kept.append(family)
    found: dict[str, float | None] = dict.fromkeys(COLUMNS)
    found |= {"networks": float(len(networks)), "supported": len(actual) / len(networks)}
    if len(actual) < 3:
        return found
    estimated = np.array([total.total_s for total in totals])
    truth = np.array(actual)
    error = np.abs(estimated - truth) / truth
    by_family = [
        float(spearmanr(estimated[own], truth[own]).statistic)
        for family in sorted(set(kept))
        if len(own := np.flatnonzero(np.array(kept) == family)) > 2
    ]
    inside = [t.low_s <= a <= t.high_s for t, a in zip(totals, actual, strict=True)]
    width = [(t.high_s - t.low_s) / a for t, a in zip(totals, actual, strict=True)]
    return found | {
        "mape": float(error.mean()),
        "median_ape": float(np.median(error)),
        "within_10pct": float(np.mean(error <= 0.1)),
        "spearman": float(spearmanr(estimated, truth).statistic),
        "spearman_in_family": statistics.median(by_family) if by_family else None,
        "coverage": float(np.mean(inside)),
        "interval_width": float(np.median(width)),
    }


def overheads_of(case: Case, name: str, seed: int, factors: Mapping[str, float]) -> Overheads:
    """What a sum leaves out, and how far the model is off on families that it never saw."""
    found = fitted_overheads(case, known_networks(name, seed, TEST), TEST)
    return replace(found, unseen_factor=factors.get(case.name, found.unseen_factor))


def run(case: Case, name: str, seed: int, factors: Mapping[str, float]) -> dict[str, Any]:
    """Judge one model on one kind of networks, with what a sum leaves out and without."""
    rows = [row for row in case.rows() if row.family in TEST]
    judged = networks_of(rows, known_networks(name, seed, TEST))
    families = [row.family for row in rows]
    is_measured = name == "measured"
    overheads = overheads_of(case, name, seed, factors)
    totals = []
    for network in judged:
        kernels = network.measured if is_measured else network.predicted
        if kernels.keys() >= network.graph.counts("kernel").keys():
            total = add_up(network.graph, kernels, network.device, overheads)
            totals.append([network.latency_s, total.total_s])
    return {
        "plain": judge(judged, families, NO_OVERHEADS, measured=is_measured),
        "with": judge(judged, families, overheads, measured=is_measured),
        "overheads": asdict(overheads),
        "totals": totals,
    }


def compare_fusion(
    unfused: Case, name: str, seed: int, factors: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    """Judge sums over unfused and over fused kernels by the latency of the fused network."""
    fused = replace(unfused, fused=True)
    both = {
        case.fused: {row.network: row for row in case.rows() if row.family in TEST}
        for case in (unfused, fused)
    }
    networks = sorted(both[False].keys() & both[True].keys())
    families = [both[True][network].family for network in networks]
    known = known_networks(name, seed, TEST)
    found = {}
    for case, overheads in (
        (unfused, NO_OVERHEADS),
        (fused, overheads_of(fused, name, seed, factors)),
    ):
        rows = [both[case.fused][network] for network in networks]
        judged = [
            replace(each, latency_s=both[True][network].latency_s)
            for each, network in zip(networks_of(rows, known), networks, strict=True)
        ]
        found["fused" if case.fused else "unfused"] = judge(
            judged, families, overheads, measured=name == "measured"
        )
    return found


def operation_counts(case: Case) -> dict[str, float | None]:
    """Operations alone: seconds by the rate of the calibrating networks."""
    rows = case.rows()

    def flop(row: NetworkRow) -> float:
        counts = row.graph.counts("kernel")
        return sum(stored().tasks[key].flop * count for key, count in counts.items())

    rates = [row.latency_s / max(flop(row), 1.0) for row in rows if calibrates(row, TEST)]
    test = [row for row in rows if row.family in TEST]
    truth = np.array([row.latency_s for row in test])
    estimated = np.array([flop(row) for row in test]) * statistics.median(rates)
    error = np.abs(estimated - truth) / truth
    families = np.array([row.family for row in test])
    return dict.fromkeys(COLUMNS) | {
        "networks": float(len(test)),
        "supported": 1.0,
        "mape": float(error.mean()),
        "median_ape": float(np.median(error)),
        "within_10pct": float(np.mean(error <= 0.1)),
        "spearman": float(spearmanr(estimated, truth).statistic),
        "spearman_in_family": statistics.median(
            float(spearmanr(estimated[own], truth[own]).statistic)
            for family in sorted(set(families))
            if len(own := np.flatnonzero(families == family)) > 2
        ),
    }


def table(results: Mapping[str, Any], case: Case, models: Sequence[str]) -> str:
    """Rows of one kind of networks as Markdown."""
    lines = ["| kernels | overheads | " + " | ".join(COLUMNS) + " |"]
    lines.append("|---" * (2 + len(COLUMNS)) + "|")
    for name in ("measured", *models):
        seeds = SEEDS if name != "measured" else SEEDS[:1]
        found = [results[f"{case.name} | {name} | {seed}"] for seed in seeds]
        for way, label in (("plain", "-"), ("with", "fitted")):
            cells = [shown([each[way][column] for each in found]) for column in COLUMNS]
            lines.append(f"| {name} | {label} | " + " | ".join(cells) + " |")
    counts = results[f"{case.name} | operation counts"]
    cells = [shown([counts[column]]) for column in COLUMNS]
    lines.append("| operation counts | rate fitted | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def fusion_table(results: Mapping[str, Any], case: Case, models: Sequence[str]) -> str:
    """What fusion changes, as Markdown."""
    columns = ("supported", "mape", "median_ape", "spearman")
    ways = ("unfused", "fused")
    names = [f"{way}: {column}" for way in ways for column in columns]
    lines = ["| kernels | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for name in ("measured", *models):
        seeds = SEEDS if name != "measured" else SEEDS[:1]
        found = [results[f"fusion | {case.name} | {name} | {seed}"] for seed in seeds]
        cells = [shown([each[way][column] for each in found]) for way in ways for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def chart(results: Mapping[str, Any], case: Case, models: Sequence[str], path: Path) -> None:
    """Estimated against measured latency, a panel for each model."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = ("measured", *models)
    columns = 4
    rows = math.ceil(len(names) / columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(11, 2.9 * rows), layout="constrained", sharex=True, sharey=True
    )
    for axes, name in zip(grid.flat, names, strict=False):
        pairs = np.array(results[f"{case.name} | {name} | 0"]["totals"]).reshape(-1, 2) * 1e3
        axes.set_title(f"{name} ({len(pairs)} networks)", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if len(pairs):
            ends = pairs[:, 0].min(), pairs[:, 0].max()
            axes.plot(ends, ends, color="#9db4c8", linewidth=0.8)
            axes.scatter(pairs[:, 0], pairs[:, 1], s=8, color="#2f6690")
            axes.set_xscale("log")
            axes.set_yscale("log")
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("measured, ms", fontsize=9)
    figure.supylabel("estimated, ms", fontsize=9)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=120)
    write_atomically(path, held.getvalue())


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--fresh", action="store_true", help="train everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/networks.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/networks.md")
    options = parser.parse_args()
    results = Results(options.out, fresh=options.fresh)
    kinds = cases()
    learned = learn_factors(results, options.models, TEST)
    factors = {
        name: {case: each.factor for case, each in by_case.items()}
        for name, by_case in learned.items()
    }
    for seed in SEEDS:
        for name in (*(("measured",) if seed == SEEDS[0] else ()), *options.models):
            known = factors.get(name, {})
            for case in kinds:
                results.get(
                    f"{case.name} | {name} | {seed}",
                    run,
                    case,
                    name,
                    seed,
                    known,
                )
                if not case.fused:
                    results.get(
                        f"fusion | {case.name} | {name} | {seed}",
                        compare_fusion,
                        case,
                        name,
                        seed,
                        known,
                    )
        trained.cache_clear()
    parts = []
    for case in kinds:
        results.get(f"{case.name} | operation counts", operation_counts, case)
        parts.append(f"## {case.name}\n\n{table(results.values, case, options.models)}")
        if not case.fused:
            parts.append(
                "## What fusion changes\n\nPlain sums over unfused kernels, and sums over fused "
                "kernels with overheads, both against the latency of the fused network.\n\n"
                f"{fusion_table(results.values, case, options.models)}"
            )
    picture = options.page.with_suffix(".png")
    chart(results.values, kinds[0], options.models, picture)
    about = (__doc__ or "").split("\n\n")
    page = (
        f"# Whole networks\n\n{results.header()}\n\n{about[0]}\n\n{about[1].strip()}\n\n{DATA}\n\n"
        f"![estimated against measured latency]({picture.name})\n\n" + "\n\n".join(parts) + "\n\n"
        f"Test families: {', '.join(TEST_FAMILIES)}. Mean over three seeds, in brackets least and "
        "most. `supported`: share of networks all of whose kernels a model has seconds for; the "
        "others do not count. `coverage` and `interval_width`: of the 90 % intervals, the width "
        "over the latency. Overheads: launches, cold weights, the model's bias, how its errors go "
        "together, and how far it is off on families never seen, learned on other families.\n"
    )
    write_atomically(options.page, page.encode())
    print(page)


if __name__ == "__main__":
    main()
