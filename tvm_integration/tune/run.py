"""One tuning run: which kernels, how many trials, the loop around TVM, what is known after it."""

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.tuned_latency.gain import Gain, gain_of_network
from tvm_integration.compat import meta_schedule, without_notebook_tables
from tvm_integration.compile.build import FusedNetwork, FusedTask
from tvm_integration.interrupt import end_at_once
from tvm_integration.measure.builder import WarmBuilder
from tvm_integration.measure.measure_log import MeasureEvent, MeasureLog, measure_callbacks
from tvm_integration.measure.outcomes import measurement_of
from tvm_integration.measure.settings import network_runner
from tvm_integration.records.schedule_library import ScheduleLibrary
from tvm_integration.tune.folder import TVM_LOG
from tvm_integration.tune.network_timing import faster_records, untuned_latencies
from tvm_integration.tune.scheduler import EagerScheduler, that_matter
from tvm_integration.tune.search.asking import measured_programs
from tvm_integration.tune.search.evolution import UnrepeatedSearch
from tvm_integration.tune.search.strategy import DEFAULT_EFFORT, SketchSearch
from tvm_integration.tune.state import (
    NO_GAIN,
    UNLIMITED,
    KernelState,
    TuneOptions,
    TuneResult,
    TuneState,
    task_count,
)
from tvm_integration.tune.zero_trial import ChosenSchedule, choose_schedules, schedule_database

EVOLUTION = {"population_size": 256, "genetic_num_iters": 3}
"""Smaller than TVM's 512 and 4: scoring programs takes longer than measuring a batch of 32."""
SMALLEST_PART = 8
"""A last batch smaller than this part of the others is left out."""
SMALLEST_BATCH = 8
"""Candidates: each batch costs a search, whatever its size."""
MIN_FREE_BYTES = 64 << 20
"""Free space under which tuning ends in order instead of losing records."""


class TuningRun:
    """The workers, the kernels' states, and the loop around TVM's.

    Parameters
    ----------
    fused : FusedNetwork
        What is tuned.
    database : Database
        TVM's, of the work directory.
    cost_model : CostModel
        TVM's interface.
    options : TuneOptions
        With a work directory.
    on_state : callable
        Told how far it has come.
    """

    def __init__(
        self,
        fused: FusedNetwork,
        database: Any,
        cost_model: Any,
        options: TuneOptions,
        on_state: Callable[[TuneState], None],
    ) -> None:
        self.fused = fused
        self.database = database
        self.cost_model = cost_model
        self.options = options
        self.on_state = on_state
        self.builder = WarmBuilder()
        self.runner = network_runner(fused.target, fused.footprint_bytes)
        self.state = TuneState("measuring the untuned kernels", trials_wanted=options.trials)
        self._selected: list[FusedTask] = []
        self._replayed = len(getattr(cost_model, "reports", ()))
        self._chosen: dict[str, ChosenSchedule] = {}
        self._disk_full = False
        self._late = False
        self._interrupted = False

    def close(self) -> None:
        """End the worker processes."""
        self.builder.close()
        self.runner.close()

    def tune(self) -> bool:
        """Measure the unscheduled kernels, then tune until the budget is used up.

        Returns
        -------
        bool
            Whether Ctrl-C ended it.
        """
        self._measure_untuned_kernels()
        return self._tune_kernels()

    def _measure_untuned_kernels(self) -> None:
        """Measure each kernel's unscheduled program, and choose which kernels to tune."""
        self.on_state(self.state)
        untuned_s = untuned_latencies(self.fused, self.options.folder, self.builder, self.runner)
        shares = [t.weight * (s or 0.0) for t, s in zip(self.fused.tasks, untuned_s, strict=True)]
        selected = select_tasks(self.fused.tasks, shares, self.options.tasks)
        kernels = []
        for task, latency_s in zip(self.fused.tasks, untuned_s, strict=True):
            records = self._records(task)
            measured = [m for m in (measurement_of(r.run_secs) for r in records) if m is not None]
            times = [m.latency_s for m in measured if isinstance(m, Measured)]
            kernels.append(
                KernelState(
                    task.name,
                    task.weight,
                    latency_s,
                    task.name in selected,
                    trials=len(records),
                    failures=len(measured) - len(times),
                    best_s=min(times, default=None),
                )
            )
        self._selected = [task for task in self.fused.tasks if task.name in selected]
        before = sum(kernel.trials for kernel in kernels)
        self.state = replace(
            self.state, kernels=tuple(kernels), trials=before, trials_before=before
        )
        self.state = replace(self.state, trials_wanted=self._trials_wanted())

    def _records(self, task: FusedTask) -> list[Any]:
        if not self.database.has_workload(task.mod):
            return []
        workload = self.database.commit_workload(task.mod)
        records = self.database.get_all_tuning_records()
        return [record for record in records if record.workload.same_as(workload)]

    def _tune_kernels(self) -> bool:
        """Tune until the budget is used up; whether Ctrl-C ended it."""
        left = self._trials_left()
        if left <= 0 or not self._selected:
            return False
        each = self.options.trials_each
        batch = (
            batch_size(left, len(self._selected), self.options.trials_per_iter)
            if each is None
            else min(each, self.options.trials_per_iter)
        )
        limit_s = None if self.options.minutes is None else self.options.minutes * 60
        self.state = replace(self.state, stage="tuning", limit_s=limit_s)
        self.on_state(self.state)
        begin = time.perf_counter()

        def on_event(event: MeasureEvent) -> None:
            self._count(self._selected[event.task_id].name, event, time.perf_counter() - begin)

        def on_batch(_: int) -> None:
            reports = tuple(getattr(self.cost_model, "reports", ()))
            self.state = replace(self.state, reports=reports)
            self.state = replace(self.state, trials_wanted=self._trials_wanted(), gain=self._gain())
            self.on_state(self.state)

        def should_stop() -> bool:
            self._disk_full = shutil.disk_usage(self.options.folder).free < MIN_FREE_BYTES
            self._late = limit_s is not None and time.perf_counter() - begin > limit_s
            # What is left after an uneven batch is not worth the search for it.
            done = each is None and self._trials_left() < batch / SMALLEST_PART
            gain = self.state.gain if self.options.until_no_gain else None
            done |= gain is not None and gain.at_most < NO_GAIN
            return done or self._late or self._disk_full or self._interrupted

        states = {kernel.name: kernel for kernel in self.state.kernels}
        scheduler = EagerScheduler(
            untuned_s=[states[task.name].untuned_s for task in self._selected],
            best_s=[states[task.name].best_s for task in self._selected],
            should_stop=should_stop,
            on_batch=on_batch,
            trials=[states[task.name].trials for task in self._selected],
            trials_each=each,
        )
        with self._orderly_interrupt(), without_notebook_tables():
            meta_schedule.tune_tasks(
                tasks=self._contexts(),
                task_weights=[float(task.weight) for task in self._selected],
                work_dir=str(self.options.folder),
                max_trials_global=left,
                num_trials_per_iter=batch,
                builder=self.builder,
                runner=self.runner,
                database=self.database,
                cost_model=self.cost_model,
                measure_callbacks=measure_callbacks(
                    MeasureLog(self.runner, max_events=1, on_event=on_event)
                ),
                task_scheduler=scheduler,
            )
        if self._disk_full:
            raise InputError(
                f"the disk of {self.options.folder} must have {MIN_FREE_BYTES >> 20} MiB free, "
                "got less: free some space and give the same command again, nothing is lost"
            )
        return self._interrupted

    def choose_by_model(self) -> bool:
        """Choose a program of each kernel by the model alone.

        Returns
        -------
        bool
            Whether Ctrl-C ended it.
        """
        tasks = self.fused.tasks
        shares = [task.weight * task.flop for task in tasks]
        selected = select_tasks(tasks, shares, self.options.tasks)
        self._selected = [task for task in tasks if task.name in selected]
        kernels = [KernelState(t.name, t.weight, None, t.name in selected) for t in tasks]
        begin = time.perf_counter()
        self.state = TuneState(
            "searching by the model alone",
            tuple(kernels),
            trials_wanted=len(self._selected),
            unit="kernels",
        )

        def on_kernel(done: int) -> None:
            elapsed_s = time.perf_counter() - begin
            self.state = replace(self.state, trials=done, elapsed_s=elapsed_s)
            self.on_state(self.state)

        on_kernel(0)
        with self._orderly_interrupt():
            self._chosen = choose_schedules(
                self._selected,
                self.fused.target,
                self.cost_model,
                seed=self.options.seed,
                library=self.options.library,
                on_kernel=on_kernel,
                should_stop=lambda: self._interrupted,
            )
        predicted = {name: each.predicted_s for name, each in self._chosen.items()}
        kernels = [replace(each, predicted_s=predicted.get(each.name)) for each in kernels]
        self.state = replace(self.state, kernels=tuple(kernels), trials=0, trials_wanted=0)
        return self._interrupted

    def schedules(self, result: TuneResult) -> Any:
        """The schedules to build the network with."""
        if self.options.trials:
            return faster_records(result, self.fused, self.database)
        return schedule_database(self._selected, self._chosen)

    def _trials_left(self) -> int:
        if self.options.trials_each is not None:  # the scheduler ends it
            return UNLIMITED
        return self.options.trials - self.state.trials

    def _trials_wanted(self) -> int:
        """Those asked for; of each kernel that matters as things are now."""
        each, kernels = self.options.trials_each, self.state.kernels
        if each is None:
            return self.options.trials
        heavy = that_matter([kernel.total_s for kernel in kernels])
        return sum(
            max(each, k.trials) if k.selected and is_heavy else k.trials
            for k, is_heavy in zip(kernels, heavy, strict=True)
        )

    def _gain(self) -> Gain | None:
        """What twice the trials would save; of kernels that are left out nothing."""
        known = [k for k in self.state.kernels if k.selected and k.total_s is not None]
        whole_s = sum(k.total_s or 0.0 for k in self.state.kernels)
        own = [(k.total_s or 0.0, k.trials) for k in known]
        own_s = sum(seconds for seconds, _ in own)
        if not own_s:
            return None
        found = gain_of_network(own)
        share = own_s / whole_s
        return Gain(found.expected * share, found.at_most * share)

    def _is_informed(self) -> bool:
        if isinstance(self.cost_model, meta_schedule.cost_model.XGBModel):
            return bool(self.cost_model.data_size >= self.cost_model.num_warmup_samples)
        return bool(self.cost_model.kernel_model.is_fitted)

    def _contexts(self) -> list[Any]:
        measured = measured_programs(self.database.get_all_tuning_records())
        search = (
            SketchSearch(
                DEFAULT_EFFORT,
                measured,
                self._trials_left,
                self._leave_out,
                library=self.options.library and ScheduleLibrary(grows=True),
            )
            if self.options.search == "sketch"
            else UnrepeatedSearch(
                measured, self._is_informed, self._trials_left, self._leave_out, **EVOLUTION
            )
        )
        task_log = logging.getLogger(f"{TVM_LOG}.task")
        # An earlier part of the same run must not draw the same candidates again.
        seed = (self.options.seed + 7919 * self.state.trials) % (2**31 - 1) + 1
        seeds = meta_schedule.utils.fork_seed(seed, n=len(self._selected))
        return [
            meta_schedule.TuneContext(
                mod=task.mod,
                target=self.fused.target,
                space_generator="post-order-apply",
                search_strategy=search,
                task_name=task.name,
                rand_state=rand_state,
                logger=task_log,
            ).clone()
            for task, rand_state in zip(self._selected, seeds, strict=True)
        ]

    def _leave_out(self, name: str) -> None:
        kernels = [replace(k, selected=k.selected and k.name != name) for k in self.state.kernels]
        self.state = replace(self.state, kernels=tuple(kernels))

    def _count(self, name: str, event: MeasureEvent, elapsed_s: float) -> None:
        kernels = []
        for kernel in self.state.kernels:
            if kernel.name == name:
                known = [s for s in (kernel.best_s,) if s is not None]
                if isinstance(event.measurement, Measured):
                    known.append(event.measurement.latency_s)
                kernel = replace(
                    kernel,
                    trials=kernel.trials + 1,
                    failures=kernel.failures + (event.failure is not None),
                    best_s=min(known, default=None),
                )
            kernels.append(kernel)
        self.state = replace(
            self.state, kernels=tuple(kernels), trials=self.state.trials + 1, elapsed_s=elapsed_s
        )

    @contextmanager
    def _orderly_interrupt(self) -> Iterator[None]:
        """Let the first Ctrl-C end tuning after the batch in flight, and the second at once."""

        def interrupt(*_: object) -> None:
            if self._interrupted:
                end_at_once()
            self._interrupted = True
            # Not through the display: it may be in the middle of a line of its own.
            os.write(2, b"\nending after this batch; press Ctrl-C again to end at once\n")

        if threading.current_thread() is not threading.main_thread():
            yield  # Ctrl-C goes to the main thread, which is not ours
            return
        previous = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def result(self, interrupted: bool) -> TuneResult:
        """What is known before the network is built."""
        by_model = None
        reports = getattr(self.cost_model, "reports", None)
        if reports is not None:
            chosen = [report for report in reports[self._replayed :] if report.predicted]
            by_model = sum(report.measured + report.failed + report.dropped for report in chosen)
        return TuneResult(
            kernels=self.state.kernels,
            trials=self.state.trials,
            trials_wanted=self._trials_wanted(),
            trials_before=self.state.trials_before,
            trials_by_model=by_model,
            untunable=self.fused.untunable,
            wall_s=0.0,
            interrupted=interrupted,
            ended_by_limit=self._late,
            gain=self._gain() if self.options.trials else None,
        )


def batch_size(trials: int, kernels: int, most: int) -> int:
    """Candidates of a batch: fewer where kernels would otherwise go without any.

    Parameters
    ----------
    trials : int
        Candidates in all.
    kernels : int
        To tune.
    most : int
        See `TuneOptions.trials_per_iter`.

    Examples
    --------
    >>> [batch_size(trials, 6, 32) for trials in (512, 96, 48, 5)]
    [32, 16, 8, 5]
    """
    return min(most, trials, max(SMALLEST_BATCH, trials // kernels))


def select_tasks(
    tasks: Sequence[FusedTask], shares: Sequence[float], wanted: str | None
) -> frozenset[str]:
    """Names of the kernels to tune.

    Parameters
    ----------
    tasks : sequence of FusedTask
        All kernels.
    shares : sequence of float
        Seconds of the untuned network that each takes.
    wanted : str, optional
        See `TuneOptions.tasks`.

    Raises
    ------
    InputError
        When a part of a name fits no kernel.
    """
    names = [task.name for task in tasks]
    if wanted is None:
        return frozenset(names)
    count = task_count(wanted)
    if count is not None:
        heaviest = sorted(range(len(tasks)), key=lambda i: -shares[i])[:count]
        return frozenset(names[i] for i in heaviest)
    selected = set()
    for part in wanted.split(","):
        found = [name for name in names if part.strip() in name]
        if not found or not part.strip():
            raise InputError(
                f"tasks must be a number or parts of kernel names, got {part!r}: "
                f"the kernels are {', '.join(names)}"
            )
        selected.update(found)
    return frozenset(selected)
