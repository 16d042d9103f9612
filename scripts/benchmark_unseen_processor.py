"""Networks of a processor that no model learned from: not calibrated, and calibrated there.

The ensemble learns all programs but those of one processor, whose networks with default schedules
`shipped:networks` has. Then it is calibrated there by two networks each of the families that
`costmodels calibrate` measures, or by some kernels of one each as `--quick` does, and judged on the
other networks of these families, and on families that calibrate nothing. The correction of single
kernels was not chosen by these networks; what launches and cold weights are taken for before any
calibration was, by those of them with chosen schedules. The networks were measured on November 27
and 28, 2026, on one thread: default schedules are serial. Writes docs/unseen_processor.md.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmark_network import judge
from benchmark_results import ROOT, Results
from few_shot import data, trained
from leaderboard import SEEDS, shown

from costmodels.dataset.network_rows import NetworkRow
from costmodels.files import write_atomically
from costmodels.network_models.discrepancy import Discrepancy
from costmodels.network_models.kernel_sums import MeasuredNetwork
from costmodels.network_models.overheads import DEFAULT_OVERHEADS, UNSEEN_DEVICE_ERROR, Overheads
from costmodels.network_models.overheads_fit import (
    corrected_by_others,
    fit_errors,
    fit_overheads,
)
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.protocol import KernelCostModel
from tvm_integration.estimate.measured_networks import measured_networks, places_of_tasks
from tvm_integration.estimate.network_calibration import NETWORKS
from tvm_integration.estimate.quick_calibration import in_turn, kernels_by_share

DATASET = "shipped:networks"
CALIBRATE = {name.removeprefix("zoo:").partition(",")[0] for name in NETWORKS}
"""Families that `calibrate` measures."""
CALIBRATING = (1, 2)
"""Numbers of their networks that calibrate; none of these is judged."""
MAX_KERNELS = 60
"""Of a quick calibration: about as many as it measures in its time."""
WAYS = {
    "none": "not calibrated",
    "quick": "`calibrate --quick`",
    "bias": "`calibrate`, without correcting single kernels",
    "networks": "`calibrate`",
}
FAMILIES = ("calibrating families", "other families")
COLUMNS: tuple[str, ...] = ("networks", "supported", "mape", "median_ape", "within_10pct")
COLUMNS += ("spearman", "coverage", "interval_width")


@dataclass(frozen=True)
class Networks:
    """Networks of one target, and their kernels as a model predicts them.

    Parameters
    ----------
    rows : sequence of NetworkRow
        Of one target.
    known : sequence of MeasuredNetwork
        Of each row.
    """

    rows: Sequence[NetworkRow]
    known: Sequence[MeasuredNetwork]

    def those(self, *, calibrating: bool) -> "Networks":
        """Those that calibrate, or all that do not."""
        both = zip(self.rows, self.known, strict=True)
        kept = [(r, k) for r, k in both if _calibrates(r) == calibrating]
        kept = [(r, k) for r, k in kept if calibrating or _number(r) not in CALIBRATING]
        return Networks([r for r, _ in kept], [k for _, k in kept])


def _number(row: NetworkRow) -> int:
    return int(row.network.rpartition("=")[2])


def _calibrates(row: NetworkRow) -> bool:
    return row.family in CALIBRATE and _number(row) in CALIBRATING


def targets() -> dict[str, list[NetworkRow]]:
    """Fused networks with default schedules by target."""
    stored, _ = data(DATASET)
    found: dict[str, list[NetworkRow]] = {}
    for row in stored.networks:
        if row.schedules == "default" and row.fused:
            cores = "one core" if row.device.cores == 1 else f"{row.device.cores} cores"
            name = f"{row.device.name}, {cores}, vectors of {row.device.vector_bits} bits"
            found.setdefault(name, []).append(row)
    return found


def calibrated(networks: Networks, way: str) -> tuple[Overheads, Discrepancy | None]:
    """What a way to calibrate tells, from the networks that calibrate."""
    if way == "none":
        return replace(DEFAULT_OVERHEADS, device_error=UNSEEN_DEVICE_ERROR), None
    chosen = networks.those(calibrating=True)
    if way == "bias":
        return fit_overheads(chosen.known), None
    if way == "quick":
        chosen = kernels_alone(chosen)
    _, records = data(DATASET)
    families = [row.family for row in chosen.rows]
    corrected, discrepancy = corrected_by_others(
        chosen.known, families, records.kernels.batch, places_of_tasks(records)
    )
    return (fit_errors if way == "quick" else fit_overheads)(corrected), discrepancy


def kernels_alone(networks: Networks) -> Networks:
    """One of each family, with those of their kernels that matter most."""
    firsts = [n for n, row in enumerate(networks.rows) if _number(row) == CALIBRATING[0]]
    rows = [networks.rows[n] for n in firsts]
    kept = set(in_turn([kernels_by_share(row) for row in rows])[:MAX_KERNELS])

    def some(latencies: Mapping[str, KernelLatency]) -> dict[str, KernelLatency]:
        return {name: latency for name, latency in latencies.items() if name in kept}

    whole = [networks.known[n] for n in firsts]
    return Networks(
        rows, [replace(n, measured=some(n.measured), predicted=some(n.predicted)) for n in whole]
    )


def corrected_by(networks: Networks, discrepancy: Discrepancy | None) -> list[MeasuredNetwork]:
    """The networks with their predictions corrected."""
    if discrepancy is None:
        return list(networks.known)
    _, records = data(DATASET)
    places = places_of_tasks(records)
    found = []
    for network in networks.known:
        names = list(network.predicted)
        batch = records.kernels.batch.take([places[name] for name in names])
        latencies = discrepancy.corrected(batch, [network.predicted[name] for name in names])
        both = zip(names, latencies, strict=True)
        found.append(replace(network, predicted={n: each for n, each in both if each is not None}))
    return found


def run(rows: Sequence[NetworkRow], model: KernelCostModel) -> dict[str, dict[str, float | None]]:
    """Judge every way on the families that calibrate, and on the others."""
    stored, _ = data(DATASET)
    networks = Networks(rows, measured_networks(stored, model, rows))
    judged = networks.those(calibrating=False)
    scores = {}
    for way in WAYS:
        overheads, discrepancy = calibrated(networks, way)
        found = corrected_by(judged, discrepancy)
        for name in FAMILIES:
            wanted = name == FAMILIES[0]
            own = [n for n, row in enumerate(judged.rows) if (row.family in CALIBRATE) == wanted]
            families = [judged.rows[n].family for n in own]
            scores[f"{way} | {name}"] = judge([found[n] for n in own], families, overheads)
    return scores


def run_on(
    rows: Sequence[NetworkRow], processor: str, seed: int, folder: Path
) -> dict[str, dict[str, float | None]]:
    """Judge what learned nothing of a processor."""
    return run(rows, trained(processor, "known networks", seed, folder))


def table(values: Mapping[str, Any], target: str, seeds: Sequence[int]) -> str:
    """Of one target, as Markdown."""
    lines = ["| judged on | | " + " | ".join(COLUMNS) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    for families in FAMILIES:
        for way, label in WAYS.items():
            found = [values[f"{target} | {seed}"][f"{way} | {families}"] for seed in seeds]
            cells = [shown([each[column] for each in found]) for column in COLUMNS]
            lines.append(f"| {families} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--fresh", action="store_true", help="judge everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/unseen_processor.json")
    parser.add_argument("--trained", type=Path, default=ROOT / "work/left_out_processors")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/unseen_processor.md")
    options = parser.parse_args()
    results = Results(options.out, fresh=options.fresh)
    options.trained.mkdir(parents=True, exist_ok=True)
    known = targets()
    for seed in options.seeds:
        for target, rows in known.items():
            processor = rows[0].device.name
            results.get(
                f"{target} | {seed}",
                run_on,
                rows,
                processor,
                seed,
                options.trained,
            )
    parts = [f"## {name}\n\n{table(results.values, name, options.seeds)}" for name in known]
    about = (__doc__ or "").split("\n\n")
    page = (
        f"# A processor that no model learned from\n\n{results.header()}\n\n{about[0]}\n\n"
        f"{about[1].strip()}\n\n" + "\n\n".join(parts) + "\n\nMean over "
        f"{len(options.seeds)} seeds, in brackets least and most. `coverage` and "
        "`interval_width`: of the 90 % intervals, the width over the latency.\n"
    )
    write_atomically(options.page, page.encode())
    print(page)


if __name__ == "__main__":
    main()
