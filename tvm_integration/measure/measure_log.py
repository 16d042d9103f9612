"""A measure callback that keeps what happened to each candidate, reasons of failures included.

In TVM's database a failed candidate is a time of 1e10 seconds without a reason, and a build that
failed never reaches the cost model.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from costmodels.errors import InputError
from costmodels.kernel import Failure, Measured, Measurement
from tvm_integration.compat import (
    BuilderResult,
    MeasureCallback,
    MeasureCandidate,
    PyMeasureCallback,
    RunnerResult,
    derived_object,
)
from tvm_integration.measure.outcomes import outcome_of
from tvm_integration.measure.runner import MeasureNote, WarmRunner
from tvm_integration.workers.pool import require_count

__all__ = ["MeasureEvent", "MeasureLog", "measure_callbacks"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeasureEvent:
    """What happened to one candidate.

    Attributes
    ----------
    task_id : int
        Index of the task in the scheduler.
    task_name : str
        Its name.
    trial : int
        Index of the candidate among those of its task that this log has seen, from 0.
    measurement : Measured or Failure
        The times in seconds, or why there are none.
    failed_in : str or None
        ``"build"`` or ``"run"`` when there are none.
    note : MeasureNote or None
        How it was measured, when the log knows the WarmRunner.
    """

    task_id: int
    task_name: str
    trial: int
    measurement: Measurement
    failed_in: Literal["build", "run"] | None
    note: MeasureNote | None

    @property
    def run_secs(self) -> tuple[float, ...] | None:
        """Seconds of each repeat; None when it failed."""
        return self.measurement.run_s if isinstance(self.measurement, Measured) else None

    @property
    def failure(self) -> Failure | None:
        """Why there are no times; None when there are."""
        return self.measurement if isinstance(self.measurement, Failure) else None

    @property
    def early_stopped(self) -> bool:
        """Whether the time is of one warm call, because the candidate is far from the best."""
        return self.note is not None and self.note.early_stopped


@derived_object
class MeasureLog(PyMeasureCallback):
    """Keeps an event for each candidate; pass it in ``measure_callbacks``.

    Parameters
    ----------
    runner : WarmRunner, optional
        The runner of the same tuning run, to have its notes.
    max_events : int
        Only the newest events are kept.
    on_event : callable, optional
        Called with each MeasureEvent. If it raises, the error is logged and it is not called
        again: a faulty display must not end hours of tuning.

    Raises
    ------
    InputError
        For a parameter that cannot be.
    """

    def __init__(
        self,
        runner: WarmRunner | None = None,
        *,
        max_events: int = 100_000,
        on_event: Callable[[MeasureEvent], None] | None = None,
    ) -> None:
        super().__init__()
        require_count("max_events", max_events)
        if runner is not None and not isinstance(runner, WarmRunner):
            raise InputError(f"runner must be a WarmRunner or None, got {type(runner).__name__}")
        self._runner = runner
        self._events: deque[MeasureEvent] = deque(maxlen=max_events)
        self._on_event = on_event
        self._trials: Counter[int] = Counter()

    @property
    def events(self) -> list[MeasureEvent]:
        """The events, oldest first."""
        return list(self._events)

    def apply(
        self,
        task_scheduler: Any,
        task_id: int,
        measure_candidates: list[MeasureCandidate],
        builder_results: list[BuilderResult],
        runner_results: list[RunnerResult],
    ) -> None:
        """Take in one batch; called by TVM.

        Parameters
        ----------
        task_scheduler : TaskScheduler
            Knows the task's name.
        task_id : int
            Index of the task.
        measure_candidates : list of MeasureCandidate
            The candidates.
        builder_results : list of BuilderResult
            One for each candidate.
        runner_results : list of RunnerResult
            One for each candidate; of those that were not built, with the builder's error.
        """
        del measure_candidates
        task_name = str(task_scheduler.tasks_[task_id].ctx.task_name)
        for built, ran in zip(builder_results, runner_results, strict=True):
            measurement, failed_in = outcome_of(ran, built)
            path = built.artifact_path
            note = self._runner.take_note(path) if self._runner and path is not None else None
            trial = self._trials[task_id]
            self._trials[task_id] += 1
            event = MeasureEvent(task_id, task_name, trial, measurement, failed_in, note)
            self._events.append(event)
            self._tell(event)

    def _tell(self, event: MeasureEvent) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # the user's code may raise anything, and tuning must go on
            _log.exception("on_event raised and is not called again")
            self._on_event = None


def measure_callbacks(log: MeasureLog | None = None) -> list[MeasureCallback]:
    """Give TVM's default measure callbacks, with a log before them.

    Parameters
    ----------
    log : MeasureLog, optional
        Goes first, while the artifacts still exist.

    Returns
    -------
    list of MeasureCallback
        The log, AddToDatabase, RemoveBuildArtifact, UpdateCostModel: for ``measure_callbacks`` of
        `tune_tir`, `tune_tasks` and `tune_relax`.
    """
    return [*([] if log is None else [log]), *MeasureCallback.create("default")]
