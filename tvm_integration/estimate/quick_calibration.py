"""Calibrate in less than a minute: on kernels alone, those that matter most in many networks."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from costmodels.dataset.featurized import FeaturizedRecords
from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.kernel_rows import ReferenceRow, TaskRow
from costmodels.dataset.network_rows import NetworkRow
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.network_models.kernel_sums import MeasuredNetwork
from costmodels.network_models.overheads import Overheads
from costmodels.network_models.overheads_fit import corrected_by_others, fit_errors
from costmodels.networks.kernel_latency import measured_latency
from costmodels.progress import OnProgress, no_progress
from costmodels.protocol import KernelCostModel
from costmodels.task_keys import with_target
from tvm_integration.collect.featurize import featurize
from tvm_integration.collect.networks import UNSCHEDULED
from tvm_integration.collect.program_measurer import ProgramMeasurer
from tvm_integration.compat import MeasureCandidate, Target, load_json, meta_schedule
from tvm_integration.estimate.measured_networks import (
    places_of_tasks,
    predicted_programs,
)
from tvm_integration.identity import target_text
from tvm_integration.records.rows import schedule_of

DATASET = "shipped:networks"
"""Has the kernels; no network is imported."""
SHARE = 0.85
"""Of a network's time that its kernels cover, if so many do."""
MAX_OF_NETWORK = 8
"""Kernels of one network."""
AT_ONCE = 8
"""Kernels that are built before they are measured."""
REFERENCE_EVERY = 3
"""Batches between two readings of the reference kernel."""
SECONDS = 28.0
"""After which no more kernels are begun; a few networks are covered within half of that."""


def calibrate_quickly(
    target: Target,
    device: Device,
    model: KernelCostModel,
    *,
    seconds: float = SECONDS,
    on_progress: OnProgress = no_progress,
) -> Overheads:
    """Measure kernels and fit by which factor a model is off on this device.

    What lies between kernels stays what is typical.

    Parameters
    ----------
    target : Target
        What to build for; this machine must run it.
    device : Device
        This machine.
    model : KernelCostModel
        Whose errors are learned.
    seconds : float
        After which no more kernels are begun.
    on_progress : callable
        Told how many kernels were measured, and how many there are.

    Raises
    ------
    InputError
        When too few could be measured.
    """
    stored = read_dataset(DATASET)
    networks = one_of_each_family(stored)
    tasks = [stored.tasks[key] for key in in_turn([kernels_by_share(each) for each in networks])]
    with TemporaryDirectory(prefix="costmodels-calibrate-") as folder:
        with DatasetWriter(Path(folder) / "kernels") as writer:
            _measure(writer, tasks, target, device, seconds, on_progress)
            disturbance = disturbance_of(writer.reference)
        found = read_dataset(Path(folder) / "kernels")
        records = featurize(found)
    # The data set that ships has the same tasks for another target.
    here = {key: with_target(key, target_text(target)) for row in networks for key in row.tasks}
    there = places_of_tasks(records)
    sums, discrepancy = corrected_by_others(
        _known_kernels(networks, device, model, records, here),
        [row.family for row in networks],
        records.kernels.batch,
        {key: there[own] for key, own in here.items() if own in there},
    )
    return replace(fit_errors(sums), disturbance=disturbance, discrepancy=discrepancy)


def _known_kernels(
    networks: Sequence[NetworkRow],
    device: Device,
    model: KernelCostModel,
    records: FeaturizedRecords,
    here: Mapping[str, str],
) -> list[MeasuredNetwork]:
    """Networks of another device with those of their kernels that were measured on this one."""
    measured = {
        record.task: measured_latency(record.measurement)
        for record in records.records
        if isinstance(record.measurement, Measured)
    }
    wanted = {record.identity for record in records.records}
    programs = predicted_programs(model, records, wanted)
    predicted = {task: latency for (task, _), latency in programs.items()}
    found = []
    for row in networks:
        known = [key for key in row.tasks if here[key] in measured and here[key] in predicted]
        found.append(
            MeasuredNetwork(
                row.graph,
                device,
                row.latency_s,
                {key: measured[here[key]] for key in known},
                {key: predicted[here[key]] for key in known},
            )
        )
    return found


def one_of_each_family(dataset: StoredDataset) -> list[NetworkRow]:
    """Of each family of networks with default schedules the one of middling latency."""
    families: dict[str, list[NetworkRow]] = {}
    for row in dataset.networks:
        if row.schedules == "default" and row.fused:
            families.setdefault(row.family, []).append(row)
    middling = []
    for _, rows in sorted(families.items()):
        rows.sort(key=lambda row: row.latency_s)
        middling.append(rows[len(rows) // 2])
    return middling


def kernels_by_share(network: NetworkRow) -> list[str]:
    """Keys of the tasks that a network spends most of its time in, the largest share first."""
    calls = network.graph.counts("kernel")
    seconds = {each.task: calls[each.task] * each.latency_s for each in network.kernels}
    order = sorted(seconds, key=lambda task: -seconds[task])
    covered = np.cumsum([seconds[task] for task in order]) / sum(seconds.values())
    return order[: min(MAX_OF_NETWORK, int(np.searchsorted(covered, SHARE)) + 1)]


def in_turn(lists: Sequence[Sequence[str]]) -> list[str]:
    """The first of each list, then the second of each, and so on; nothing twice."""
    rounds = itertools.zip_longest(*lists)
    return list(dict.fromkeys(each for some in rounds for each in some if each is not None))


def disturbance_of(readings: Sequence[ReferenceRow]) -> float:
    """How much longer than at its fastest the same kernel took at its slowest: 0.2 is a fifth."""
    seconds = [float(np.median(row.run_s)) for row in readings]
    return max(seconds) / min(seconds) - 1 if seconds else 0.0


def _measure(
    writer: DatasetWriter,
    tasks: Sequence[TaskRow],
    target: Target,
    device: Device,
    seconds: float,
    on_progress: OnProgress,
) -> None:
    text = target_text(target)
    rows = [
        replace(task, key=with_target(task.key, text), target=text, device=device) for task in tasks
    ]
    writer.add(rows)
    end = time.monotonic() + seconds
    measurer = ProgramMeasurer(writer, target, device)
    try:
        for number, start in enumerate(range(0, len(rows), AT_ONCE)):
            on_progress(start, len(rows))
            if time.monotonic() > end:
                break
            if number % REFERENCE_EVERY == 0:
                measurer.read_reference()
            some = rows[start : start + AT_ONCE]
            parts = [(row.key, [_unscheduled(row)], ["default"]) for row in some]
            writer.add([record for each in measurer.measure_tasks(parts) for record in each])
        measurer.read_reference()
    finally:
        measurer.close()
    if not any(isinstance(r.measurement, Measured) for r in writer.records.values()):
        why = next((str(r.measurement) for r in writer.records.values()), "the time was over")
        raise InputError(f"kernels must run to calibrate with them, got none that did: {why}")


def _unscheduled(row: TaskRow) -> MeasureCandidate:
    schedule = schedule_of(load_json(row.workload), UNSCHEDULED)
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(schedule.mod, remove_preproc=True)
    return MeasureCandidate(schedule, arguments)
