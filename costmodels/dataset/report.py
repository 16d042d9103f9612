"""A data set as a page to look at: one self-contained HTML file with charts."""

from typing import Any

import numpy as np

from costmodels.dataset.describe import (
    describe,
    latencies_by_task,
    reference_readings,
)
from costmodels.dataset.folder import StoredDataset
from costmodels.kernel import Failure, Measured
from costmodels.pages.render import render, svg

TABLES = ("networks", "operators", "dtypes", "origins", "failures", "devices", "processors")
"""Counts of a description that get a table."""


def report_html(dataset: StoredDataset) -> str:
    """Describe a data set as a page that needs no network.

    Returns
    -------
    str
        HTML.
    """
    found = describe(dataset)
    spread, cv = found["spread"], found["repeat_cv"]
    drift = found["reference_drift"]
    figures = {
        "tasks": f"{found['tasks']:,}",
        "programs that ran": f"{found['valid']:,}",
        "programs that failed": f"{found['failed']:,}",
        "networks": f"{len(found['networks']):,}",
        "worst / best of a task (median)": "-" if spread is None else f"{spread['median']:.0f}×",
        "repeats differ by (median)": "-" if cv is None else f"{cv['median']:.2%}",
        "reference kernel drifts by": "-" if drift is None else f"{drift - 1:.1%}",
        "early stopped": f"{found['early_stopped']:,}",
    }
    return render(
        "dataset.html",
        **{name: found[name] for name in ("licence", "digest", "first_measured", "last_measured")},
        name=dataset.name,
        figures=figures,
        charts={
            "Tasks: all their programs, best to worst": _spread_chart(dataset),
            "How good programs of each origin are": _origin_chart(dataset),
            "The reference kernel over time": _reference_chart(dataset),
            "Latencies": _latency_chart(dataset),
        },
        tables={name: found[name] for name in TABLES},
    )


def _spread_chart(dataset: StoredDataset) -> str:
    tasks = sorted(latencies_by_task(dataset.records).values(), key=min)
    if not tasks:
        return ""

    def plot(axis: Any) -> None:
        position = np.concatenate([np.full(len(values), i) for i, values in enumerate(tasks)])
        seconds = np.concatenate([np.array(values) for values in tasks])
        axis.scatter(position, seconds * 1e6, s=3, color="#9db4c8", linewidths=0, rasterized=True)
        best = np.array([min(values) for values in tasks]) * 1e6
        axis.plot(range(len(tasks)), best, color="#d1495b", linewidth=1.4, label="best")
        axis.set_yscale("log")
        axis.set_ylabel("latency, µs")
        axis.set_xlabel("task, by its best")
        axis.locator_params(axis="x", integer=True)
        axis.legend(frameon=False)

    return svg(plot)


def _origin_chart(dataset: StoredDataset) -> str:
    best = {task: min(values) for task, values in latencies_by_task(dataset.records).items()}
    by_origin: dict[str, list[float]] = {}
    for record in dataset.records:
        if isinstance(record.measurement, Measured):
            ratio = best[record.task] / record.measurement.latency_s
            by_origin.setdefault(record.origin, []).append(ratio)
    if not by_origin:
        return ""

    def plot(axis: Any) -> None:
        for origin, ratios in sorted(by_origin.items(), key=lambda item: -np.median(item[1])):
            share = np.linspace(1, 0, len(ratios))
            axis.plot(np.sort(ratios), share, label=f"{origin} ({len(ratios):,})")
        axis.set_xlabel("best latency of the task / latency of the program")
        axis.set_ylabel("share of programs at least so good")
        axis.set_xlim(0, 1)
        axis.legend(frameon=False)

    return svg(plot)


def _reference_chart(dataset: StoredDataset) -> str:
    if len(dataset.reference) < 2:
        return ""

    def plot(axis: Any) -> None:
        times, relative = zip(*reference_readings(dataset), strict=True)
        axis.plot(times, relative, ".", markersize=4, color="#2f6690")
        axis.axhline(1, color="#9db4c8", linewidth=0.8)
        axis.set_ylabel("latency / its median")
        axis.tick_params(axis="x", rotation=20)

    return svg(plot, height=2.4)


def _latency_chart(dataset: StoredDataset) -> str:
    by_task = latencies_by_task(dataset.records)
    if not by_task:
        return ""
    failed = sum(isinstance(record.measurement, Failure) for record in dataset.records)

    def plot(axis: Any) -> None:
        everything = np.log10([s * 1e6 for values in by_task.values() for s in values])
        axis.hist(everything, bins=60, color="#9db4c8", label="programs")
        best = np.log10([min(values) * 1e6 for values in by_task.values()])
        axis.hist(best, bins=60, color="#d1495b", label="best of each task")
        ticks = range(int(np.floor(everything.min())), int(np.ceil(everything.max())) + 1)
        axis.set_xticks(list(ticks), [f"$10^{{{tick}}}$" for tick in ticks])
        axis.set_xlabel(f"latency, µs ({failed:,} programs failed and have none)")
        axis.set_yscale("log")
        axis.legend(frameon=False)

    return svg(plot)
