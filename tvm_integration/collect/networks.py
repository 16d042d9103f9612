"""Measure whole networks end to end, and each of their kernels alone in between."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.kernel_rows import RecordRow, TaskRow, now
from costmodels.dataset.network_rows import MeasuredKernel, NetworkRow, drift_of
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import CostModelError, InputError
from costmodels.kernel import Measured
from costmodels.load_model import load_kernel_model
from costmodels.task_keys import with_target
from tvm_integration.collect.network_process import (
    BuiltKernel,
    KnownProgram,
    NetworkProcess,
    Tuning,
    by_key,
)
from tvm_integration.collect.program_records import device_type, program_record
from tvm_integration.compat import (
    BuilderInput,
    RunnerInput,
    Schedule,
    Target,
    load_json,
    meta_schedule,
)
from tvm_integration.identity import target_text, task_key
from tvm_integration.measure.builder import WarmBuilder
from tvm_integration.measure.outcomes import Outcome, outcome_of
from tvm_integration.measure.runner import WarmRunner
from tvm_integration.measure.settings import MEASURE, MEASURE_IN_NETWORK, measures_in_network
from tvm_integration.measure.value_dependent import ARGUMENT_SETS
from tvm_integration.records.exchange import record_row, records_in_order
from tvm_integration.records.rows import (
    evaluator_text,
    processor_fingerprint,
    schedule_of,
    task_row,
    with_names_of,
)
from tvm_integration.threads import thread_count
from tvm_integration.tir.kernel_graph import operator_kinds

TUNING = "tuning"
"""Folder in the data set for networks that are being tuned."""
UNSCHEDULED = "[[],[]]"
"""The trace of a program that is not scheduled, as TVM's JSON."""
REPEATS = 3
"""Of the whole, before its kernels are measured and once more after them: machines drift."""
STEADY = 0.1
"""Share by which the whole may take longer before than after, or after than before."""
ATTEMPTS = 4
"""To measure a network steadily; the steadiest counts."""


@dataclass(frozen=True)
class NetworkProgress:
    """How far a collection of networks has come.

    Parameters
    ----------
    done, wanted : int
        Networks.
    failed : int
        Of those done.
    elapsed_s : float
        Since it began.
    done_now : int
        Of this run.
    current : str
        The network at work.
    """

    done: int
    wanted: int
    failed: int
    elapsed_s: float
    done_now: int
    current: str

    @property
    def remaining_s(self) -> float | None:
        """Estimate of the time left; None before anything is known."""
        if not self.done_now:
            return None
        return (self.wanted - self.done) * self.elapsed_s / self.done_now


def check_can_choose(name: str) -> None:
    """Raise InputError unless a model can choose schedules."""
    model = load_kernel_model(name, seed=0)
    if not (model.is_fitted and model.claims.ranks):
        raise InputError(
            f"schedules must be chosen by a model that has learned to rank, got {name!r}: take "
            "pretrained:best or a checkpoint of `costmodels train`"
        )


class NetworkCollector:
    """Measures networks into a data set.

    Parameters
    ----------
    writer : DatasetWriter
        Where to.
    target : Target
        What to build for; this machine must run it.
    device : Device
        What is measured on.
    schedules_by : str, optional
        A trained model that chooses the schedules; unscheduled kernels by default.
    fused : bool
        Whether operators are fused.
    trials_each : int, optional
        Instead of choosing by a model: tune, with so many trials of each kernel above 1 % of its
        network. All that is measured joins the data set.
    """

    def __init__(
        self,
        writer: DatasetWriter,
        target: Target,
        device: Device,
        *,
        schedules_by: str | None = None,
        fused: bool = True,
        trials_each: int | None = None,
    ) -> None:
        self._writer = writer
        self._trials_each = trials_each
        self._target = target
        self._device = device
        self._schedules_by = schedules_by
        self._fused = fused
        self._builder = WarmBuilder()
        # Kernels of one network can have arguments of the same shapes; none is another's rival.
        self._runner = WarmRunner(
            evaluator_config=MEASURE,
            argument_sets=ARGUMENT_SETS,
            threads=thread_count(target),
            early_stop_ratio=None,
        )

    def close(self) -> None:
        """End the worker processes."""
        self._builder.close()
        self._runner.close()

    def run(
        self,
        models: Sequence[str],
        *,
        on_progress: Callable[[NetworkProgress], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, str]:
        """Measure the networks that are not there yet.

        Parameters
        ----------
        models : sequence of str
            As `costmodels tune` takes them.
        on_progress : callable
            Told before each.
        should_stop : callable
            Asked before each.

        Returns
        -------
        dict
            Network -> why it could not be measured.
        """
        schedules = "default" if self._schedules_by is None else "model"
        if self._trials_each is not None:
            schedules = "tuned"
        wanted = [_Wanted(model, schedules, self._fused) for model in models]
        return self._measure_all(wanted, on_progress, should_stop)

    def run_again(
        self,
        source: StoredDataset,
        *,
        on_progress: Callable[[NetworkProgress], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, str]:
        """Measure the networks of a data set here, with the same programs, as far as not yet there.

        Parameters
        ----------
        source : StoredDataset
            Of any target: its traces must apply to this one.
        on_progress, should_stop : callable
            As of `run`.

        Returns
        -------
        dict
            Network -> why it could not be measured.

        Raises
        ------
        InputError
            When it has no networks.
        """
        if not source.networks:
            raise InputError(
                f"{source.path} must have whole networks to measure again, got none: leave "
                "--networks out to measure its programs"
            )
        records = {record.identity: record for record in source.records}
        wanted = []
        for row in source.networks:
            programs = {}
            for kernel in row.kernels:
                record = records.get((kernel.task, kernel.program))
                if record is not None and record.origin != "default":
                    key = with_target(kernel.task, target_text(self._target))
                    workload = source.tasks[kernel.task].workload
                    programs[key] = KnownProgram(workload, record.trace)
            wanted.append(_Wanted(row.network, row.schedules, row.fused, programs))
        return self._measure_all(wanted, on_progress, should_stop)

    def _measure_all(
        self,
        wanted: Sequence["_Wanted"],
        on_progress: Callable[[NetworkProgress], None],
        should_stop: Callable[[], bool],
    ) -> dict[str, str]:
        target = target_text(self._target)
        known = self._writer.networks.keys()
        missing = [w for w in wanted if (w.model, target, w.schedules, w.fused) not in known]
        failed: dict[str, str] = {}
        start = time.perf_counter()
        for number, each in enumerate(missing):
            elapsed_s = time.perf_counter() - start
            done = len(wanted) - len(missing) + number
            on_progress(
                NetworkProgress(done, len(wanted), len(failed), elapsed_s, number, each.model)
            )
            if should_stop():
                break
            try:
                self._measure(each)
            except CostModelError as error:
                failed[each.model] = str(error)
        return failed

    def _measure(self, wanted: "_Wanted") -> None:
        target = target_text(self._target)
        tuned = wanted.schedules == "tuned"
        tuning = None
        if self._trials_each is not None and tuned and not wanted.programs:
            tuning = Tuning(str(self._tuned_in(wanted.model)), self._trials_each)
        with NetworkProcess(
            wanted.model,
            target,
            schedules_by=self._schedules_by,
            programs=wanted.programs,
            fused=wanted.fused,
            as_tuned=tuned,
            tuning=tuning,
        ) as network:
            found = network.description
            # Those of unscheduled networks take so long that it hardly matters where data are.
            in_network = tuned and measures_in_network(self._target)
            self._runner.network_bytes = found.footprint_bytes if in_network else None
            tasks = [self._task(wanted.model, kernel) for kernel in found.kernels]
            with self._built(found.kernels) as built:
                run_s, records = self._steadiest(
                    network, lambda: self._measure_kernels(built, tasks, wanted.schedules)
                )
        keys = {kernel.name: row.key for kernel, row in zip(found.kernels, tasks, strict=True)}
        row = NetworkRow(
            network=wanted.model,
            target=target,
            device=self._device,
            schedules=wanted.schedules,
            fused=wanted.fused,
            graph=by_key(found.graph, keys),
            run_s=tuple(run_s),
            kernels=tuple(
                MeasuredKernel(record.task, record.program, record.measurement.run_s)
                for record in records
                if isinstance(record.measurement, Measured)
            ),
            measured_at=now(),
            processor=processor_fingerprint(self._runner.threads),
        )
        self._writer.add(tasks)
        known = self._writer.tasks
        named = [
            with_names_of(record, task, known[task.key])
            for record, task in zip(records, tasks, strict=True)
        ]
        searched = [] if tuning is None else self._searched(Path(tuning.work_dir), tasks)
        # Those of the search first: which of a kernel's programs came when is told by their order.
        known_programs = {record.identity for record in searched}
        named = [record for record in named if record.identity not in known_programs]
        self._writer.add([*searched, *named, row])
        if tuning is not None:
            shutil.rmtree(tuning.work_dir, ignore_errors=True)

    def _tuned_in(self, model: str) -> Path:
        """The work directory of a network that is being tuned."""
        name = blake2b(f"{model} {target_text(self._target)}".encode(), digest_size=8).hexdigest()
        return self._writer.path / TUNING / name

    def _searched(self, work_dir: Path, tasks: Sequence[TaskRow]) -> list[RecordRow]:
        """What a tuning run measured, kernel by kernel, in the order in which it did."""
        wanted = {task.key for task in tasks}
        in_network = measures_in_network(self._target)
        keys: dict[int, str] = {}
        found = []
        for _, index, record in records_in_order(work_dir, []):
            if index not in keys:
                keys[index] = task_key(record.workload.mod, self._target)
            if keys[index] in wanted:
                row = replace(
                    record_row(record, keys[index], now()),
                    origin="search",
                    evaluator=evaluator_text(
                        MEASURE_IN_NETWORK if in_network else MEASURE, in_network=in_network
                    ),
                    processor=processor_fingerprint(self._runner.threads),
                )
                found.append(row)
        return found

    def _task(self, model: str, kernel: BuiltKernel) -> TaskRow:
        mod = load_json(kernel.workload)
        return task_row(
            mod,
            self._target,
            self._device,
            name=kernel.name,
            networks={model: kernel.weight},
            operators=operator_kinds(mod),
        )

    @contextmanager
    def _built(self, kernels: Sequence[BuiltKernel]) -> Iterator[list["_Built"]]:
        """Build each kernel alone; what was built is removed at the end."""
        chosen = [schedule_of(load_json(k.workload), k.trace or UNSCHEDULED) for k in kernels]
        built = self._builder.build([BuilderInput(each.mod, self._target) for each in chosen])
        try:
            yield [_Built(*each) for each in zip(kernels, chosen, built, strict=True)]
        finally:
            for artifact in built:
                if artifact.error_msg is None:
                    folder = Path(str(artifact.artifact_path)).parent
                    shutil.rmtree(folder, ignore_errors=True)

    def _steadiest(
        self, network: NetworkProcess, measure_kernels: Callable[[], list[RecordRow]]
    ) -> tuple[list[float], list[RecordRow]]:
        """Measure the whole, its kernels and the whole until neither end was disturbed.

        Other work on the machine takes up to half of it for seconds, and then the whole and its
        kernels tell of different machines.
        """
        attempts = []
        for _ in range(ATTEMPTS):
            run_s = network.measure_s(REPEATS)
            records = measure_kernels()
            run_s += network.measure_s(REPEATS)
            attempts.append((run_s, records))
            if drift_of(run_s) <= STEADY:
                break
        return min(attempts, key=lambda each: drift_of(each[0]))

    def _measure_kernels(
        self, built: Sequence["_Built"], tasks: Sequence[TaskRow], schedules: str
    ) -> list[RecordRow]:
        return [
            program_record(
                task.key,
                each.schedule,
                self._outcome(each),
                origin=_ORIGINS[schedules] if each.kernel.trace else "default",
                processor=processor_fingerprint(self._runner.threads),
                in_network=self._runner.network_bytes is not None,
            )
            for each, task in zip(built, tasks, strict=True)
        ]

    def _outcome(self, built: "_Built") -> Outcome:
        if built.artifact.error_msg is not None:
            return outcome_of(None, built.artifact)
        path = str(built.artifact.artifact_path)
        arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(
            built.schedule.mod, remove_preproc=True
        )
        (future,) = self._runner.run([RunnerInput(path, device_type(self._target), arguments)])
        return outcome_of(future.result())


_ORIGINS = {"model": "model", "tuned": "search", "default": "default"}
"""How the programs of a network with schedules came about."""


@dataclass(frozen=True)
class _Wanted:
    """A network to measure; its kernels are those programs, or unscheduled."""

    model: str
    schedules: str
    fused: bool
    programs: Mapping[str, KnownProgram] = field(default_factory=dict)


@dataclass(frozen=True)
class _Built:
    """A kernel, its schedule and what the builder made of it."""

    kernel: BuiltKernel
    schedule: Schedule
    artifact: Any
