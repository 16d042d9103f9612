"""One batch of jobs on a pool's workers: hand out, collect, kill what hangs, replace what died.

A job whose process crashes is run again once, in another worker, if that process had done other
jobs before or the forking process died: another job may be to blame, and each failure must be that
of its own candidate.

A single loop over descriptors, without threads. A worker has three lines: its channel (requests
and answers), its output (stdout and stderr) and its status (the forking process reports how it
ended). The status is the last word on a worker: when the line closes without one, the forking
process itself has died.
"""

import json
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from costmodels.errors import InputError
from costmodels.kernel import Failure
from tvm_integration.workers.fork_server_client import START_TIMEOUT_S, Session, WorkerError
from tvm_integration.workers.messages import GarbageError
from tvm_integration.workers.worker_handle import Worker, WorkerState
from tvm_integration.workers.worker_process import encode_setup

__all__ = ["Batch", "JobResult", "PoolSettings"]

_PIECE_BYTES = 1 << 16
_END_TIMEOUT_S = 10.0
# From the end of a channel to the status of a worker that is really dying.
_CLOSED_TIMEOUT_S = 1.0
# A start that fails without an exception (no memory for a fork, say) is tried again so often.
_START_ATTEMPTS = 3


@dataclass(frozen=True)
class PoolSettings:
    """What the jobs of a pool have in common; see `WorkerPool`."""

    stage: str
    functions: bytes
    max_workers: int
    timeout_sec: float
    jobs_per_worker: int


@dataclass(frozen=True)
class JobResult:
    """What became of one job.

    Attributes
    ----------
    value : Any
        What the function returned, as JSON gives it; None when it failed.
    failure : Failure or None
        Why there is no value.
    pid : int or None
        The worker's process; None when no worker took the job.
    wall_s : float
        Seconds from handing the job out to its end.
    """

    value: Any
    failure: Failure | None
    pid: int | None
    wall_s: float


OnResult: TypeAlias = Callable[[int, JobResult], None]
"""Told the position of a job and its result."""


def ignore_result(index: int, result: JobResult) -> None:
    """Do nothing."""


class Batch:
    """Runs the jobs of one call.

    Parameters
    ----------
    settings : PoolSettings
        Of the pool.
    session : Session
        Where workers come from.
    workers : list of Worker
        The pool's workers, changed in place. None of them has a job at the end, even when an
        exception comes through.
    on_result : callable
        Told of each job that is done.
    """

    def __init__(
        self,
        settings: PoolSettings,
        session: Session,
        workers: list[Worker],
        on_result: OnResult = ignore_result,
    ) -> None:
        self._settings = settings
        self._session = session
        self._workers = workers
        self._on_result = on_result
        self._selector = selectors.DefaultSelector()
        self._failed_starts: set[tuple[str, int]] = set()
        self._retried: set[int] = set()
        self._number = max((worker.number for worker in workers), default=0)

    def run(self, inputs: Sequence[Any], encode: Callable[[Any], bytes]) -> list[JobResult]:
        """Run all jobs and give their results in order."""
        self._inputs, self._encode = inputs, encode
        self._results: list[JobResult | None] = [None] * len(inputs)
        self._waiting = deque(range(len(inputs)))
        try:
            self._take_over()
            while True:
                self._spawn_workers()
                if not self._waiting and not any(worker.occupied for worker in self._workers):
                    break
                for key, mask in self._selector.select(self._seconds_to_deadline()):
                    worker, handler = key.data
                    if worker in self._workers:  # an earlier event may have ended it
                        handler(worker, mask)
                self._enforce_deadlines()
        finally:
            for worker in [worker for worker in self._workers if worker.occupied]:
                self._drop(worker)
            self._selector.close()
        return [result for result in self._results if result is not None]

    def _take_over(self) -> None:
        """Watch the workers that an earlier batch has left, but for those that died since."""
        for worker in list(self._workers):
            # Silence of one that starts is not asked for: its readiness may have arrived.
            idle = worker.state is WorkerState.IDLE and worker.silent()
            if not idle and worker.state is not WorkerState.STARTING:
                self._drop(worker)
            else:
                worker.deadline = time.monotonic() + START_TIMEOUT_S
                self._watch(worker)

    def _spawn_workers(self) -> None:
        """Give idle workers jobs, and fork as many workers as there are jobs for."""
        for worker in self._workers:
            if worker.state is WorkerState.IDLE:
                self._hand_out(worker)
        starting = sum(worker.state is WorkerState.STARTING for worker in self._workers)
        room = self._settings.max_workers - len(self._workers)
        for _ in range(min(room, len(self._waiting) - starting)):
            setup = encode_setup(self._settings.functions)
            ends = self._session.spawn()
            worker = Worker(ends, setup, time.monotonic() + START_TIMEOUT_S)
            self._workers.append(worker)
            self._watch(worker)

    def _hand_out(self, worker: Worker) -> None:
        while self._waiting:
            index = self._waiting.popleft()
            try:
                body = self._encode(self._inputs[index])
            except Exception as error:  # an input that cannot be sent is a failure of its own
                reason = f"it cannot be sent to a worker: {error}"
                failure = Failure(self._settings.stage, reason)
                self._record(index, JobResult(None, failure, None, 0.0))
                continue
            self._number += 1
            deadline = time.monotonic() + self._settings.timeout_sec
            worker.begin(self._number, index, body, deadline)
            self._watch_channel(worker)
            return

    def _watch(self, worker: Worker) -> None:
        events = selectors.EVENT_READ
        self._selector.register(worker.ends.channel, events, (worker, self._on_channel))
        self._selector.register(worker.ends.output, events, (worker, self._on_output))
        self._selector.register(worker.ends.status, events, (worker, self._on_status))
        self._watch_channel(worker)

    def _watch_channel(self, worker: Worker) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.outgoing else 0)
        self._selector.modify(worker.ends.channel, events, (worker, self._on_channel))

    def _on_channel(self, worker: Worker, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            worker.write()
            if not worker.outgoing:
                self._watch_channel(worker)
        if mask & selectors.EVENT_READ:
            is_open = worker.read_channel()
            self._take_answer(worker)
            if not is_open and worker in self._workers:
                self._selector.unregister(worker.ends.channel)
                if worker.state is not WorkerState.ENDING:
                    worker.state = WorkerState.CLOSED
                    worker.deadline = time.monotonic() + _CLOSED_TIMEOUT_S

    def _on_output(self, worker: Worker, _mask: int) -> None:
        if not worker.read_output():
            self._selector.unregister(worker.ends.output)

    def _on_status(self, worker: Worker, _mask: int) -> None:
        try:
            report = json.loads(worker.ends.status.recv(_PIECE_BYTES) or b"{}")
        except (OSError, ValueError):
            report = {}
        if worker.state is not WorkerState.ENDING:
            worker.read_channel()  # it may have answered before it ended
            self._take_answer(worker)
        if worker in self._workers:
            self._conclude(worker, self._exit_reason(worker, report))

    def _exit_reason(self, worker: Worker, report: dict[str, Any]) -> str:
        """Say in words how a worker ended."""
        if "refused" in report:
            return str(report["refused"])
        if "status" not in report:
            if self._session.has_ended(worker.ends.forker_pid, _CLOSED_TIMEOUT_S):
                return "the process that forks workers ended"
            return "the process that forks workers could not take it on"
        code = os.waitstatus_to_exitcode(report["status"])
        if code >= 0:
            return f"its process exited with status {code} before it answered"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = " (out of memory, or killed by hand)" if name == "SIGKILL" else ""
        return f"its process was killed by signal {name}{hint}"

    def _take_answer(self, worker: Worker) -> None:
        """Act on the answer that has arrived, if it is complete."""
        try:
            taken = worker.answers.take()
        except GarbageError as error:
            if worker.state is not WorkerState.ENDING:
                self._end(worker, Failure("crash", f"it wrote to its channel: {error}"))
            return
        if taken is None or worker.state is WorkerState.ENDING:
            return
        number, answer = taken
        if worker.state is WorkerState.STARTING:
            self._started(worker, answer)
        elif worker.state is WorkerState.BUSY and number == worker.number:
            self._finish(worker, answer)
        else:
            self._end(worker, Failure("crash", "it answered what was not asked"))
        if len(worker.answers) and worker in self._workers and worker.state is WorkerState.IDLE:
            self._drop(worker)

    def _started(self, worker: Worker, answer: dict[str, Any]) -> None:
        if "ready" in answer:
            worker.pid, worker.state = answer["ready"], WorkerState.IDLE
            self._failed_starts.clear()
            return
        reason = worker.explain(str(answer.get("refused", answer)))
        self._drop(worker)
        if answer.get("input"):
            raise InputError(reason)
        raise WorkerError(f"a worker must set itself up, it raised {reason}")

    def _finish(self, worker: Worker, answer: dict[str, Any]) -> None:
        failure = None
        if "value" not in answer:
            reason = worker.explain(str(answer.get("exception", "an answer without a value")))
            failure = Failure(self._settings.stage, reason)
        self._settle(worker, answer.get("value"), failure)
        worker.jobs_done += 1
        worker.state = WorkerState.IDLE
        if worker.jobs_done >= self._settings.jobs_per_worker:
            self._drop(worker)

    def _settle(self, worker: Worker, value: Any, failure: Failure | None) -> None:
        assert worker.index is not None
        wall_s = time.monotonic() - worker.started
        index, worker.index = worker.index, None
        self._record(index, JobResult(value, failure, worker.pid, wall_s))

    def _record(self, index: int, result: JobResult) -> None:
        self._results[index] = result
        self._on_result(index, result)

    def _end(self, worker: Worker, verdict: Failure) -> None:
        """Kill a worker for a reason and wait for its status."""
        worker.state, worker.verdict = WorkerState.ENDING, verdict
        worker.deadline = time.monotonic() + _END_TIMEOUT_S
        self._session.kill(worker.ends.key)

    def _conclude(self, worker: Worker, story: str) -> None:
        """Settle what a worker leaves open that has ended, and forget it."""
        failure = worker.verdict or Failure("crash", story)
        reason = worker.explain(failure.reason)
        self._drop(worker)
        if worker.index is None:
            if worker.pid is None:
                self._note_failed_start(worker, reason)
        elif self._should_retry(worker, failure):
            self._retried.add(worker.index)
            self._waiting.appendleft(worker.index)
        else:
            self._settle(worker, None, Failure(failure.kind, reason))

    def _should_retry(self, worker: Worker, failure: Failure) -> bool:
        """Whether another job can be why a process crashed: it may have spoilt its memory."""
        if failure.kind != "crash" or worker.index in self._retried:
            return False
        return worker.jobs_done > 0 or self._session.has_ended(worker.ends.forker_pid, 0)

    def _note_failed_start(self, worker: Worker, reason: str) -> None:
        # The end of a forking process, which takes several workers along, counts once.
        ended = self._session.has_ended(worker.ends.forker_pid, 0)
        cause = ("forker", worker.ends.forker_pid) if ended else ("worker", worker.ends.key)
        self._failed_starts.add(cause)
        if len(self._failed_starts) >= _START_ATTEMPTS:
            raise WorkerError(f"a worker must start, {_START_ATTEMPTS} in a row did not: {reason}")

    def _drop(self, worker: Worker) -> None:
        """Part with a worker without waiting for its end."""
        self._workers.remove(worker)
        if self._selector.get_map() is not None:
            for line in (worker.ends.channel, worker.ends.output, worker.ends.status):
                if line in self._selector.get_map():
                    self._selector.unregister(line)
        self._session.kill(worker.ends.key)
        worker.ends.close()

    def _seconds_to_deadline(self) -> float | None:
        waiting = [w.deadline for w in self._workers if w.state is not WorkerState.IDLE]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.state is WorkerState.IDLE or now < worker.deadline:
                continue
            if worker.state is WorkerState.ENDING:
                self._conclude(worker, "its process cannot be killed")
            elif worker.state is WorkerState.BUSY:
                limit = f"killed after {self._settings.timeout_sec:g} seconds"
                self._end(worker, Failure("timeout", limit))
            elif worker.state is WorkerState.CLOSED:
                self._end(worker, Failure("crash", "it closed its channel without an answer"))
            else:
                self._drop(worker)
                raise WorkerError(f"a worker must set itself up within {START_TIMEOUT_S:g} s")
