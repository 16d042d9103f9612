"""Write the figures of a shipped data set into its card, between two markers."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any

from costmodels.dataset.describe import describe
from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.network_rows import NetworkRow
from costmodels.dataset.splits import read_split
from costmodels.files import write_atomically
from costmodels.kernel import Measured
from tvm_integration.cli.formatting import seconds_text

BEGIN, END = "<!-- figures: scripts/dataset_card.py -->\n", "<!-- end of figures -->"


def figures(dataset: StoredDataset) -> str:
    """The tables of a card."""
    found = describe(dataset)
    lines = [
        f"{found['valid']:,} programs ran and {found['failed']:,} failed, of {found['tasks']} "
        f"tasks ({found['workloads']} workloads); measured from {found['first_measured']} to "
        f"{found['last_measured']}.",
        "",
        "| target | tasks | programs that ran | random | mutation | model | disagreement | other |",
        "|---|---|---|---|---|---|---|---|",
    ]
    by_target: dict[str, Counter[str]] = {}
    tasks: dict[str, set[str]] = {}
    for record in dataset.records:
        if isinstance(record.measurement, Measured):
            device = dataset.tasks[record.task].device
            cores = "1 core" if device.cores == 1 else f"{device.cores} cores"
            target = f"{device.name}, {cores}, {device.vector_bits}-bit vectors"
            by_target.setdefault(target, Counter())[record.origin] += 1
            tasks.setdefault(target, set()).add(record.task)
    shown = ("random", "mutation", "model", "disagreement")
    for target, origins in by_target.items():
        other = origins.total() - sum(origins[name] for name in shown)
        counts = [len(tasks[target]), origins.total(), *(origins[name] for name in shown), other]
        lines.append(f"| {target} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    if dataset.networks:
        lines += ["", *_whole_networks(dataset)]
    split = read_split(dataset, "families" if dataset.networks else "networks")
    lines += ["", f"| split `{split.name}` | tasks | programs that ran |", "|---|---|---|"]
    for part in ("train", "validation", "test"):
        keys = set(split.part(part))
        count = sum(
            record.task in keys and isinstance(record.measurement, Measured)
            for record in dataset.records
        )
        if keys:
            lines.append(f"| {part} | {len(keys):,} | {count:,} |")
    spread, latency, noise = found["spread"], found["latency_s"], found["repeat_cv"]
    lines += [
        "",
        f"Latencies from {seconds_text(latency['least'])} to {seconds_text(latency['most'])}; the "
        f"slowest program of a task takes {spread['median']:.1f} times as long as its fastest at "
        f"the median task. Repeats of a program differ by {noise['median']:.2%} (standard "
        f"deviation over mean) at the median, {noise['p95']:.1%} at the 95th percentile."
        + _drift(found),
        "",
        f"Failures: {counted(found['failures']) or 'none'}.",
        "",
        f"Tasks by element type of an argument: {counted(found['dtypes'])}.",
        "",
    ]
    if not dataset.networks:
        names = ", ".join(f"`{name}` ({count})" for name, count in found["networks"].items())
        lines += [f"Networks: {names}.", ""]
    return "\n".join(lines)


def _drift(found: Mapping[str, Any]) -> str:
    if not found["reference_readings"]:
        return ""
    return (
        f" A reference kernel was measured {found['reference_readings']} times: the 95th "
        f"percentile of its readings is {found['reference_drift'] - 1:.1%} above the 5th."
    )


def _whole_networks(dataset: StoredDataset) -> list[str]:
    """Networks by device, schedules and fusion, then by family."""
    kinds: dict[str, list[NetworkRow]] = {}
    for row in dataset.networks:
        cores = "1 core" if row.device.cores == 1 else f"{row.device.cores} cores"
        device = f"{row.device.name}, {cores}, {row.device.vector_bits}-bit vectors"
        fused = "fused" if row.fused else "not fused"
        kinds.setdefault(f"{device} | {row.schedules} | {fused}", []).append(row)
    lines = ["| target | schedules | fusion | networks | ms, least | median | most | launches |"]
    lines.append("|---" * 8 + "|")
    for kind, rows in kinds.items():
        ms = [row.latency_s * 1e3 for row in rows]
        times = f"{min(ms):.2f} | {median(ms):.1f} | {max(ms):.0f}"
        launches = median(len(row.graph.launches) for row in rows)
        lines.append(f"| {kind} | {len(rows)} | {times} | {launches:.0f} |")
    families = Counter(row.family for row in dataset.networks)
    return [*lines, "", f"Measurements by family: {counted(families)}."]


def counted(found: dict[str, int]) -> str:
    """Names with their counts."""
    return ", ".join(f"{name} {count:,}" for name, count in found.items())


def main() -> None:
    """Write the figures, or say that the card has others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="shipped:NAME")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    dataset = read_dataset(options.dataset)
    path = dataset.path / "CARD.md"
    text = path.read_text()
    if BEGIN not in text or END not in text:
        sys.exit(f"{path} must have the lines {BEGIN.strip()!r} and {END!r}")
    head, _, rest = text.partition(BEGIN)
    card = head + BEGIN + figures(dataset) + END + rest.partition(END)[2]
    if options.check:
        sys.exit(0 if card == text else f"{path} has other figures: write them again")
    write_atomically(path, card.encode())


if __name__ == "__main__":
    main()
