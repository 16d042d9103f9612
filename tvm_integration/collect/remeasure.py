"""Measure the programs of a data set again: on another device, target or number of threads.

What two devices measured of the same programs teaches models how devices differ, and how a user
teaches them one. The tasks take turns: at any time each has about the same share of its programs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.kernel_rows import RecordRow, TaskRow
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.json_text import parse_json
from costmodels.kernel import Failure, Measured
from costmodels.task_keys import with_target
from tvm_integration.collect.kernels import CollectOptions, CollectState, measure_batches
from tvm_integration.collect.program_measurer import ProgramMeasurer
from tvm_integration.compat import MeasureCandidate, RPCConfig, Target, meta_schedule
from tvm_integration.identity import target_text
from tvm_integration.records.rows import TraceApplier, with_names_of, workload_of

AT_ONCE = 4
"""Programs of a task in one batch: one far slower than the best of them is stopped early."""


@dataclass(frozen=True)
class WantedTask:
    """A task to measure, and the programs of it that a data set has.

    Parameters
    ----------
    row : TaskRow
        On the new target and device.
    programs : tuple of RecordRow
        Their traces apply to the workload of `row`. Each program once.
    """

    row: TaskRow
    programs: tuple[RecordRow, ...]


def wanted_tasks(
    dataset: StoredDataset,
    target: Target,
    device: Device,
    *,
    per_task: int | None = None,
    rng: np.random.Generator,
) -> dict[str, WantedTask]:
    """The programs of a data set that ran, as tasks of another target.

    Parameters
    ----------
    dataset : StoredDataset
        Of one target or several; of a workload that several have all programs count, those made
        for as many cores first.
    target : Target
        What to measure for.
    device : Device
        What to measure on.
    per_task : int, optional
        Most programs of a workload; all by default.
    rng : numpy.random.Generator
        Draws their order.

    Returns
    -------
    dict
        Key -> task, in the order of the data set.

    Raises
    ------
    InputError
        When no program is of this kind of target.
    """
    rows: dict[str, TaskRow] = {}
    found: dict[str, dict[int, tuple[bool, float, RecordRow]]] = {}
    cores, kind = target.attrs.get("num-cores"), target.kind.name
    targets = {row.target: parse_json(row.target) for row in dataset.tasks.values()}
    for record in dataset.records:
        source = dataset.tasks[record.task]
        values = targets[source.target]
        if not isinstance(record.measurement, Measured) or values.get("kind") != kind:
            continue
        key = with_target(source.key, target_text(target))
        row = replace(source, key=key, target=target_text(target), device=device)
        known = rows.setdefault(key, row)
        rows[key] = known.with_networks(source.networks)
        is_other = cores is not None and values.get("num-cores") != int(cores)
        named = with_names_of(record, source, known)
        each = (is_other, float(rng.random()), replace(named, task=key))
        programs = found.setdefault(key, {})
        if record.program not in programs or each[0] < programs[record.program][0]:
            programs[record.program] = each
    if not found:
        raise InputError(
            f"{dataset.path} must have programs for {kind}, got none that ran: give another "
            "data set or target"
        )
    return {
        key: WantedTask(
            rows[key],
            tuple(r for _, _, r in sorted(programs.values(), key=lambda p: p[:2])[:per_task]),
        )
        for key, programs in found.items()
    }


class Remeasurer:
    """Measures wanted programs into a data set.

    Parameters
    ----------
    writer : DatasetWriter
        Where to; what it has of these programs is not measured again.
    target : Target
        Of all tasks.
    device : Device
        What it is measured on.
    options : CollectOptions
        Programs at a time, and how long.
    on_state : callable
        Told how far it has come.
    should_stop : callable
        Asked before each batch.
    rpc : RPCConfig, optional
        Where to measure; on this machine by default.
    """

    def __init__(
        self,
        writer: DatasetWriter,
        target: Target,
        device: Device,
        options: CollectOptions,
        on_state: Callable[[CollectState], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
        rpc: RPCConfig | None = None,
    ) -> None:
        self._writer = writer
        self._options = options
        self._on_state = on_state
        self._should_stop = should_stop
        self._measurer = ProgramMeasurer(writer, target, device, rpc)
        self._appliers: dict[str, TraceApplier] = {}
        self._open: dict[str, list[RecordRow]] = {}
        self._wanted: Mapping[str, WantedTask] = {}
        self._unusable = 0

    def close(self) -> None:
        """End the worker processes."""
        self._measurer.close()

    def run(self, wanted: Mapping[str, WantedTask]) -> CollectState:
        """Measure until every task has its programs, the time is over, or it shall stop.

        Parameters
        ----------
        wanted : mapping
            From `wanted_tasks`.

        Raises
        ------
        InputError
            When the disk is full.
        """
        self._wanted = wanted
        self._writer.add([each.row for each in wanted.values()])
        records = self._writer.records
        self._open = {
            key: [r for r in each.programs if r.identity not in records]
            for key, each in wanted.items()
        }

        def next_batch() -> tuple[str, Callable[[], int]] | None:
            keys = self._next()
            return (wanted[keys[0]].row.name, partial(self._measure, keys)) if keys else None

        return measure_batches(
            self._measurer,
            self._writer.path,
            self._options.minutes,
            next_batch=next_batch,
            state=self._state,
            on_state=self._on_state,
            should_stop=self._should_stop,
        )

    def _next(self) -> list[str]:
        """The tasks with the smallest share of what they shall have."""
        left = [key for key, programs in self._open.items() if programs]
        left.sort(key=lambda key: -len(self._open[key]) / len(self._wanted[key].programs))
        return left[: max(1, self._options.batch // AT_ONCE)]

    def _measure(self, keys: Sequence[str]) -> int:
        parts = []
        for key in keys:
            programs = self._open[key][:AT_ONCE]
            del self._open[key][:AT_ONCE]
            programs.sort(key=_seconds)
            candidates, origins = [], []
            for program in programs:
                candidate = self._candidate(program)
                if candidate is not None:
                    candidates.append(candidate)
                    origins.append(program.origin)
            if candidates:
                parts.append((key, candidates, origins))
        records = [r for some in self._measurer.measure_tasks(parts) for r in some]
        self._writer.add(records)
        return len(records)

    def _candidate(self, program: RecordRow) -> MeasureCandidate | None:
        """The program; None when its trace does not apply."""
        if program.task not in self._appliers:
            mod = workload_of(self._writer.tasks[program.task])
            self._appliers[program.task] = TraceApplier(mod)
        try:
            schedule = self._appliers[program.task].schedule(program.trace)
        except InputError:
            self._unusable += 1
            return None
        # Of the program, not of the workload: a schedule may change the layout of weights.
        arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(
            schedule.mod, remove_preproc=True
        )
        return MeasureCandidate(schedule, arguments)

    def _state(self) -> CollectState:
        records = [r for r in self._writer.records.values() if r.task in self._wanted]
        failed = sum(isinstance(record.measurement, Failure) for record in records)
        readings = tuple(float(np.median(row.run_s)) for row in self._writer.reference)
        left = sum(map(len, self._open.values()))
        return CollectState(
            tasks=len(self._wanted),
            begun=len({record.task for record in records}),
            finished=sum(not programs for programs in self._open.values()),
            wanted=len(records) + left,
            measured=len(records) - failed,
            failed=failed,
            reference_s=readings,
            unusable=self._unusable,
        )


def _seconds(record: RecordRow) -> float:
    measurement = record.measurement
    return measurement.latency_s if isinstance(measurement, Measured) else float("inf")
