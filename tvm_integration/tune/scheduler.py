"""A task scheduler that commits every batch at once and can be told to stop.

Stock schedulers join a task's batch when they come back to it, so that in the first round nothing
is in the database and nothing is learned until every task has had a batch.
"""

from collections.abc import Callable, Sequence

import numpy as np

from costmodels.tuned_latency.gain import further_gain
from costmodels.tuned_latency.networks import MATTERS
from tvm_integration.compat import PyTaskScheduler, RunnerResult, TaskRecord, derived_object
from tvm_integration.measure.outcomes import measurement_of

BATCH = 16
"""Trials that a kernel would get next, as far as its promise goes."""
FAILED_BATCH_SHARE = 0.25
"""What is left of a task's promise after a batch in which every candidate failed."""


@derived_object
class EagerScheduler(PyTaskScheduler):
    """Gives the next batch to the task that promises to shorten the network most.

    The promise is what a batch is expected to save, by the law of
    `costmodels.tuned_latency.gain`: weight x latency x a share that falls with the trials it had.
    A task without any counts with half of its untuned latency, or of its operations at 1 Gflop/s
    where that is not known. First those get a batch, the heaviest first, that take more than
    `MATTERS` of the network as it is now, which gets shorter; kernels that take less may get none
    at all.

    Parameters
    ----------
    untuned_s : sequence of float or None, optional
        Latency of each task's unscheduled program, in seconds, in the order of the tasks.
    best_s : sequence of float or None, optional
        Best latency of each task known from earlier runs.
    should_stop : callable, optional
        Asked before each batch; true ends the tuning in order.
    on_batch : callable, optional
        Called with the index of a task after its batch has been committed and learned.
    trials : sequence of int, optional
        Trials that each task had in earlier runs; one, where its best latency is known, by default.
    trials_each : int, optional
        Give each task that takes more than `MATTERS` so many trials, and end then.
    """

    def __init__(
        self,
        *,
        untuned_s: Sequence[float | None] = (),
        best_s: Sequence[float | None] = (),
        should_stop: Callable[[], bool] | None = None,
        on_batch: Callable[[int], None] | None = None,
        trials: Sequence[int] = (),
        trials_each: int | None = None,
    ) -> None:
        super().__init__()
        tried = trials or [0 if seconds is None else 1 for seconds in best_s]
        self._trials = dict(enumerate(tried))
        self._trials_each = trials_each
        self._untuned_s = list(untuned_s)
        self._known_s = list(best_s)
        self._should_stop = should_stop
        self._on_batch = on_batch
        self._history: dict[int, list[float]] = {}

    def next_task_id(self) -> int:
        """Commit the batch in flight, then choose; called by TVM.

        Returns
        -------
        int
            Index of a task; -1 to end.
        """
        tasks = self._outer().tasks_
        for index, task in enumerate(tasks):
            if task.runner_futures is not None:
                self._note(index, self.join_running_task(index))
                if self._on_batch is not None:
                    self._on_batch(index)
        if self._should_stop is not None and self._should_stop():
            return -1
        alive = [i for i, task in enumerate(tasks) if not task.is_terminated]
        if not alive:
            return -1
        unreached = self._unreached(alive, tasks)
        if self._trials_each is not None and not unreached:
            return -1
        return max(unreached or alive, key=lambda i: self._promise_s(i, tasks[i]))

    def _unreached(self, alive: Sequence[int], tasks: Sequence[TaskRecord]) -> list[int]:
        """Tasks with too few trials that take more than `MATTERS` of the network as it is now."""
        wanted = self._trials_each or 1
        now_s = [float(task.task_weight) * self._now_s(i, task) for i, task in enumerate(tasks)]
        heavy = that_matter(now_s)
        return [i for i in alive if self._trials.get(i, 0) < wanted and heavy[i]]

    def _now_s(self, index: int, task: TaskRecord) -> float:
        """Latency of a task's kernel: the best known, or else that of its unscheduled program."""
        found = [*self._history.get(index, [])[-1:], *_known(self._known_s, index)]
        found += _known(self._untuned_s, index) or [task.flop / 1e9]
        return min(found)

    def _note(self, index: int, results: Sequence[RunnerResult]) -> None:
        self._trials[index] = self._trials.get(index, 0) + len(results)
        times = [measurement_of(result.run_secs) for result in results]
        medians = [getattr(measured, "latency_s", float("inf")) for measured in times]
        history = self._history.setdefault(index, [])
        history.append(min([*medians, *history[-1:]], default=float("inf")))

    def _promise_s(self, index: int, task: TaskRecord) -> float:
        """Seconds of the network that the next batch of a task may save."""
        history = self._history.get(index, [])
        weight = float(task.task_weight)
        best = min([*history[-1:], *_known(self._known_s, index), float("inf")])
        if not np.isfinite(best):
            untuned = _known(self._untuned_s, index) or [task.flop / 1e9]
            return weight * untuned[0] / 2 * FAILED_BATCH_SHARE ** len(history)
        return weight * best * further_gain(max(1, self._trials.get(index, 0)), BATCH)


def that_matter(total_s: Sequence[float | None]) -> list[bool]:
    """Whether kernels take more than `MATTERS` of their network.

    Parameters
    ----------
    total_s : sequence of float or None
        Seconds of the network that each takes; one of unknown latency matters.

    Examples
    --------
    >>> that_matter([1.0, 0.001, None])
    [True, False, True]
    """
    least = MATTERS * sum(each or 0.0 for each in total_s)
    return [each is None or each > least for each in total_s]


def _known(values: Sequence[float | None], index: int) -> list[float]:
    value = values[index] if index < len(values) else None
    return [] if value is None else [value]
