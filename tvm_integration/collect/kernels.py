"""Measure a data set: networks -> tasks -> programs of a stated mixture -> records.

The tasks take turns, so that what there is at any time is balanced; what is measured is on the disk
after each batch, and the same call goes on where a killed one ended.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from costmodels.checks import check_fields, check_seed
from costmodels.dataset.kernel_rows import RecordRow
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.kernel import Failure, Measured, Task
from tvm_integration.collect.acquisition import MIXTURE, Acquisition, QueryByCommittee, deficits
from tvm_integration.collect.candidates import CandidateSource
from tvm_integration.collect.program_measurer import ProgramMeasurer, require_free_disk
from tvm_integration.compat import (
    MeasureCandidate,
    RPCConfig,
    Target,
)
from tvm_integration.records.rows import (
    TraceApplier,
    target_of,
    workload_of,
)
from tvm_integration.tir.features import FeatureExtractor

PER_TASK = 64
"""Programs of a task by default."""
REFERENCE_EVERY = 8
"""Batches between two readings of the reference kernel."""
SOURCES_KEPT = 48
"""Design spaces kept in memory; making one takes a second."""
RELEARNED = 1024
"""Records that the models learn again when a run is continued."""


@dataclass(frozen=True)
class CollectOptions:
    """What to measure.

    Parameters
    ----------
    per_task : int, optional
        Programs of each task, failures included; `PER_TASK`, or all of a data set whose programs
        are measured again, by default.
    batch : int
        Programs built and measured at a time.
    mixture : mapping
        Shares of where they come from.
    minutes : float, optional
        Begin no batch after so many.
    seed : int
        Of what is drawn.
    """

    per_task: int | None = None
    batch: int = 16
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(MIXTURE))
    minutes: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_seed(self.seed)
        if (self.per_task is not None and self.per_task < 1) or self.batch < 1:
            raise InputError(
                f"per-task and batch must be at least 1, got {self.per_task} and {self.batch}"
            )
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"minutes must be above 0, got {self.minutes}")


@dataclass(frozen=True)
class CollectState:
    """How far a collection has come.

    Parameters
    ----------
    tasks, begun, finished : int
        Tasks in all, those that have a program, and those that are complete.
    wanted, measured, failed : int
        Programs.
    measured_now : int
        Of this run; for the rate.
    elapsed_s : float
        Of this run.
    reference_s : tuple of float
        Medians of the readings of the reference kernel.
    current : str
        Name of the task at work.
    is_out_of_time : bool
        Whether the limit of minutes ended it.
    unusable : int
        Programs of another data set whose traces do not apply to this target.
    """

    tasks: int
    begun: int
    finished: int
    wanted: int
    measured: int
    failed: int
    measured_now: int = 0
    elapsed_s: float = 0.0
    reference_s: tuple[float, ...] = ()
    current: str = ""
    is_out_of_time: bool = False
    unusable: int = 0

    @property
    def remaining_s(self) -> float | None:
        """Estimate of the time left; None before anything is known."""
        if not self.measured_now:
            return None
        left = self.wanted - self.measured - self.failed
        return max(0, left) * self.elapsed_s / self.measured_now


def measure_batches(
    measurer: ProgramMeasurer,
    folder: Path,
    minutes: float | None,
    *,
    next_batch: Callable[[], tuple[str, Callable[[], int]] | None],
    state: Callable[[], CollectState],
    on_state: Callable[[CollectState], None],
    should_stop: Callable[[], bool],
) -> CollectState:
    """Measure batch after batch, and the reference kernel in between.

    Parameters
    ----------
    measurer : ProgramMeasurer
        Reads the reference kernel.
    folder : Path
        Of the data set, whose disk must have room.
    minutes : float, optional
        After which no batch begins.
    next_batch : callable
        Gives what a batch is of, and what measures it and returns how many programs that were;
        None when all is done.
    state : callable
        Tells how far it has come, but for this run's own figures.
    on_state, should_stop : callable
        Told, and asked, before each batch.

    Raises
    ------
    InputError
        When the disk is full.
    """
    start = time.perf_counter()
    measured_now = batches = 0
    while (batch := next_batch()) is not None:
        name, measure = batch
        elapsed_s = time.perf_counter() - start
        on_state(replace(state(), measured_now=measured_now, elapsed_s=elapsed_s, current=name))
        if should_stop():
            break
        if minutes is not None and elapsed_s > minutes * 60:
            return replace(state(), is_out_of_time=True)
        require_free_disk(folder)
        if batches % REFERENCE_EVERY == 0:
            measurer.read_reference()
        batches += 1
        measured_now += measure()
    return state()


class Collector:
    """Measures programs of tasks into a data set.

    Parameters
    ----------
    writer : DatasetWriter
        Holds the tasks.
    target : Target
        Of the tasks to be measured.
    device : Device
        What it is measured on.
    options : CollectOptions
        What to measure.
    on_state : callable
        Told how far it has come.
    should_stop : callable
        Asked before each batch.
    rpc : RPCConfig, optional
        Where to measure; on this machine by default.

    Raises
    ------
    InputError
        When `rpc` names no tracker that has a device.
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
        self._target = target
        self._device = device
        self._options = options
        self._per_task = PER_TASK if options.per_task is None else options.per_task
        self._on_state = on_state
        self._should_stop = should_stop
        self._rng = np.random.default_rng(options.seed)
        self._committee = QueryByCommittee(self._rng)
        self._extractor = FeatureExtractor()
        self._choosers: dict[str, Acquisition] = {}
        self._exhausted: set[str] = set()
        self._counts: dict[str, Counter[str]] = {}
        self._best: dict[str, list[tuple[float, str]]] = {}
        for record in writer.records.values():
            self._count(record)
        self._measurer = ProgramMeasurer(writer, target, device, rpc)

    def close(self) -> None:
        """End the worker processes."""
        self._measurer.close()

    def run(self, keys: Sequence[str]) -> CollectState:
        """Measure until every task has what it shall have.

        Parameters
        ----------
        keys : sequence of str
            Tasks of the data set.

        Raises
        ------
        InputError
            When the disk is full.
        """
        self._relearn(keys)

        def next_batch() -> tuple[str, Callable[[], int]] | None:
            key = self._next(keys)
            if key is None:
                return None
            return self._writer.tasks[key].name, partial(self._measure_batch, key)

        return measure_batches(
            self._measurer,
            self._writer.path,
            self._options.minutes,
            next_batch=next_batch,
            state=lambda: self._state(keys),
            on_state=self._on_state,
            should_stop=self._should_stop,
        )

    def _next(self, keys: Sequence[str]) -> str | None:
        """The task with the smallest part of what it shall have; None when all are complete."""
        open_keys = [k for k in keys if k not in self._exhausted and any(self._missing(k).values())]
        return min(open_keys, key=lambda k: self._counts.get(k, Counter()).total(), default=None)

    def _missing(self, key: str) -> dict[str, int]:
        counts = self._counts.get(key, Counter())
        return deficits(counts, self._per_task, self._options.mixture)

    def _measure_batch(self, key: str) -> int:
        chooser = self._chooser(key)
        applier = TraceApplier(workload_of(self._writer.tasks[key]))
        best = [applier.schedule(text).trace for _, text in self._best.get(key, [])[:8]]
        chosen = chooser.choose(self._missing(key), self._options.batch, best)
        if not chosen:
            self._exhausted.add(key)
            return 0
        # The unscheduled program can take seconds; behind a faster one it is stopped early.
        chosen.sort(key=lambda each: each[0] == "default")
        candidates = [candidate for _, candidate in chosen]
        origins = [origin for origin, _ in chosen]
        records = self._measurer.measure(key, candidates, origins)
        self._writer.add(records)
        for record in records:
            self._count(record)
        self._committee.learn(chooser.extract(candidates), [r.measurement for r in records])
        return len(records)

    def _chooser(self, key: str) -> Acquisition:
        if key in self._choosers:
            self._choosers[key] = self._choosers.pop(key)
            return self._choosers[key]
        if len(self._choosers) >= SOURCES_KEPT:
            del self._choosers[next(iter(self._choosers))]
        row = self._writer.tasks[key]
        known = [program for task, program in self._writer.records if task == key]
        source = CandidateSource(
            workload_of(row),
            target_of(row),
            name=row.name,
            rng=self._rng.spawn(1)[0],
            known=known,
        )
        task = Task(key, row.device)
        self._choosers[key] = Acquisition(source, self._extractor, task, self._committee)
        return self._choosers[key]

    def _count(self, record: RecordRow) -> None:
        self._counts.setdefault(record.task, Counter())[record.origin] += 1
        if isinstance(record.measurement, Measured):
            best = self._best.setdefault(record.task, [])
            best.append((record.measurement.latency_s, record.trace))
            best.sort()
            del best[16:]

    def _relearn(self, keys: Sequence[str]) -> None:
        """Let the models learn the newest records of an earlier run."""
        wanted = set(keys)
        newest = [r for r in self._writer.records.values() if r.task in wanted][-RELEARNED:]
        by_task: dict[str, list[RecordRow]] = {}
        for record in newest:
            by_task.setdefault(record.task, []).append(record)
        for key, records in by_task.items():
            chooser = self._chooser(key)
            applier = TraceApplier(workload_of(self._writer.tasks[key]))
            kept, candidates = [], []
            for record in records:
                try:
                    schedule = applier.schedule(record.trace)
                except InputError:
                    continue
                kept.append(record)
                candidates.append(MeasureCandidate(schedule, []))
            self._committee.learn(chooser.extract(candidates), [r.measurement for r in kept])

    def _state(self, keys: Sequence[str]) -> CollectState:
        wanted = set(keys)
        records = [r for r in self._writer.records.values() if r.task in wanted]
        failed = sum(isinstance(record.measurement, Failure) for record in records)
        counts = {key: self._counts.get(key, Counter()).total() for key in keys}
        finished = {k for k in keys if k in self._exhausted or not any(self._missing(k).values())}
        readings = tuple(float(np.median(row.run_s)) for row in self._writer.reference)
        return CollectState(
            tasks=len(keys),
            begun=len({record.task for record in records}),
            finished=len(finished),
            wanted=sum(counts[k] if k in finished else self._per_task for k in keys),
            measured=len(records) - failed,
            failed=failed,
            reference_s=readings,
        )
