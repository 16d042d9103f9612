"""What is in a data set, in figures: counts, spread of latencies, failures, noise."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import numpy as np

from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.kernel_rows import RecordRow
from costmodels.kernel import Failure, Measured

MAX_NETWORKS = 200


def describe(dataset: StoredDataset) -> dict[str, Any]:
    """Sum up a data set.

    Returns
    -------
    dict
        JSON values. Latencies are in seconds; ``spread`` is worst over best latency of a task;
        ``repeat_cv`` the standard deviation of a program's repeats over their mean, at the median
        program; ``reference_drift`` the 95th over the 5th percentile of the reference kernel's
        readings.
    """
    measured = [record for record in dataset.records if isinstance(record.measurement, Measured)]
    by_task = latencies_by_task(measured)
    used = [task for key, task in dataset.tasks.items() if key in by_task]
    return {
        "name": dataset.name,
        "licence": dataset.info.get("licence"),
        "digest": dataset.digest(),
        "tasks": len({record.task for record in dataset.records}),
        "workloads": len({task.workload_key for task in used}),
        "records": len(dataset.records),
        "valid": len(measured),
        "failed": len(dataset.records) - len(measured),
        "failures": _counts(
            f"{record.failed_in}: {record.measurement.kind}"
            for record in dataset.records
            if isinstance(record.measurement, Failure)
        ),
        "early_stopped": sum(record.early_stopped for record in measured),
        "origins": _counts(record.origin for record in measured),
        "networks": _counts(network for task in used for network in task.networks),
        "operators": _counts(kind for task in used for kind in set(task.operators)),
        "dtypes": _counts(dtype for task in used for dtype in set(task.dtypes)),
        "devices": _counts(task.device.name for task in used),
        "targets": _counts(task.target for task in used),
        "processors": _counts(record.processor for record in dataset.records),
        "evaluators": _counts(record.evaluator for record in dataset.records),
        "records_per_task": _quantiles([len(values) for values in by_task.values()]),
        "latency_s": _quantiles([s for values in by_task.values() for s in values]),
        "best_s": _quantiles([min(values) for values in by_task.values()]),
        "spread": _quantiles([max(values) / min(values) for values in by_task.values()]),
        "repeat_cv": _quantiles([cv for record in measured if (cv := _cv(record)) is not None]),
        "reference_readings": len(dataset.reference),
        "reference_drift": _drift([relative for _, relative in reference_readings(dataset)]),
        "first_measured": _time(record.measured_at for record in dataset.records),
        "last_measured": _time((record.measured_at for record in dataset.records), last=True),
        "rows_kept_out": len(dataset.problems),
        "measured_networks": len(dataset.networks),
        "duplicates": dataset.duplicates,
    }


def reference_readings(dataset: StoredDataset) -> list[tuple[datetime, float]]:
    """Readings of reference kernels: when, and latency over that kernel's median latency."""
    by_kernel: dict[tuple[str, int, str], list[float]] = {}
    seconds = [float(np.median(row.run_s)) for row in dataset.reference]
    kernels = [(row.task, row.program, row.processor) for row in dataset.reference]
    for kernel, latency_s in zip(kernels, seconds, strict=True):
        by_kernel.setdefault(kernel, []).append(latency_s)
    usual = {kernel: float(np.median(values)) for kernel, values in by_kernel.items()}
    return [
        (row.measured_at, latency_s / usual[kernel])
        for row, kernel, latency_s in zip(dataset.reference, kernels, seconds, strict=True)
    ]


def latencies_by_task(records: Iterable[RecordRow]) -> dict[str, list[float]]:
    """Key of a task -> median seconds of its programs that ran."""
    found: dict[str, list[float]] = {}
    for record in records:
        if isinstance(record.measurement, Measured):
            found.setdefault(record.task, []).append(record.measurement.latency_s)
    return found


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common(MAX_NETWORKS))


def _quantiles(values: list[float] | list[int]) -> dict[str, float] | None:
    if not values:
        return None
    quantiles = np.quantile(np.array(values, np.float64), (0, 0.05, 0.5, 0.95, 1))
    names = ("least", "p5", "median", "p95", "most")
    return {name: float(value) for name, value in zip(names, quantiles, strict=True)}


def _cv(record: RecordRow) -> float | None:
    assert isinstance(record.measurement, Measured)
    times = np.array(record.measurement.run_s)
    return float(times.std() / times.mean()) if len(times) > 1 else None


def _drift(readings: list[float]) -> float | None:
    if len(readings) < 2:
        return None
    low, high = np.quantile(readings, (0.05, 0.95))
    return float(high / low)


def _time(moments: Iterable[Any], *, last: bool = False) -> str | None:
    known = list(moments)
    if not known:
        return None
    return str((max if last else min)(known).isoformat(timespec="seconds"))
