"""A pool of warm worker processes that run one function on many inputs.

An input that hangs, crashes its process or prints garbage costs one failure and one worker.
Workers are forked from a process that has imported TVM (`fork_server`), never from the user's.
"""

import math
import os
import pickle
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import cloudpickle

from costmodels.errors import InputError
from tvm_integration.workers.batch import (
    Batch,
    JobResult,
    OnResult,
    PoolSettings,
    ignore_result,
)
from tvm_integration.workers.fork_server_client import Session, WorkerError, shared_session
from tvm_integration.workers.worker_handle import Worker

__all__ = [
    "JOBS_PER_WORKER",
    "JobResult",
    "WorkerError",
    "WorkerPool",
    "require_count",
    "require_seconds",
]

JOBS_PER_WORKER = 200
_END_TIMEOUT_S = 2.0


class WorkerPool:
    """Worker processes that are forked on first use, kept, and replaced after some jobs.

    Parameters
    ----------
    prepare : callable
        Called in each new worker; returns the function that does a job. What that function
        returns must be something JSON can hold. Lambdas and functions of the user's script are
        allowed: they travel by value.
    stage : str
        ``"build"`` or ``"run"``: the kind of a failure by exception.
    initializer : callable, optional
        Called in each new worker before `prepare`.
    max_workers : int
        Most workers at a time.
    timeout_sec : float
        Seconds a job may take; after that its worker is killed with all it started.
    jobs_per_worker : int
        A worker is replaced after so many jobs, because long-lived workers may leak memory
        (TVM's own builder warns of it).

    Raises
    ------
    InputError
        For a parameter that cannot be, a function that cannot be pickled, another system than
        Linux.
    """

    def __init__(
        self,
        prepare: Callable[[], Callable[[Any], Any]],
        *,
        stage: str,
        initializer: Callable[[], None] | None = None,
        max_workers: int = 1,
        timeout_sec: float = 30.0,
        jobs_per_worker: int = JOBS_PER_WORKER,
    ) -> None:
        require_count("max_workers", max_workers)
        require_count("jobs_per_worker", jobs_per_worker)
        require_seconds("timeout_sec", timeout_sec)
        if initializer is not None and not callable(initializer):
            raise InputError(f"initializer must be a function, got {initializer!r}: pass None")
        functions = _pickled(initializer, prepare)
        self._settings = PoolSettings(stage, functions, max_workers, timeout_sec, jobs_per_worker)
        self._workers: list[Worker] = []
        self._session = shared_session()
        self._guard = threading.Lock()
        self._finalizer = weakref.finalize(self, _discard, self._session, self._workers)

    def map(
        self,
        inputs: Sequence[Any],
        encode: Callable[[Any], bytes] = pickle.dumps,
        on_result: OnResult = ignore_result,
        *,
        timeout_sec: float | None = None,
    ) -> list[JobResult]:
        """Run a job for each input.

        Parameters
        ----------
        inputs : sequence
            One for each job.
        encode : callable
            Turns an input into the pickle of what the worker's function is called with; called
            when a worker is free.
        on_result : callable
            Told the position and the result of each job when it is done, in the order in which they
            are; the other jobs go on meanwhile.
        timeout_sec : float, optional
            Another time limit than that of the pool.

        Returns
        -------
        list of JobResult
            In the order of the inputs.

        Raises
        ------
        InputError
            When `prepare` refuses its parameters.
        WorkerError
            When the pool is closed, workers cannot be started, or `initializer` raises.
        """
        with self._guard:
            if not self._finalizer.alive:
                raise WorkerError("the pool of workers must be open, it was closed: make a new one")
            self._renew_session()
            settings = self._settings
            if timeout_sec is not None:
                settings = replace(settings, timeout_sec=timeout_sec)
            batch = Batch(settings, self._session, self._workers, on_result)
            return batch.run(inputs, encode)

    def root(self) -> Path:
        """Wait for the forking process and give the folder of this session's temporary files."""
        self._renew_session()
        return self._session.root()

    def _renew_session(self) -> None:
        """Take this process's session: ours may be closed, or this be a fork of its process."""
        session = shared_session()
        if session is not self._session:
            _discard(self._session, self._workers)
            self._session = session
            self._finalizer.detach()
            self._finalizer = weakref.finalize(self, _discard, session, self._workers)

    def close(self) -> None:
        """End this pool's workers; closing twice is allowed. The forking process stays."""
        self._finalizer()

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _discard(session: Session, workers: list[Worker]) -> None:
    if session.owner_pid == os.getpid() and not session.closed:
        for worker in workers:
            session.kill(worker.ends.key)
        for worker in workers:
            worker.await_status(_END_TIMEOUT_S)
    for worker in workers:
        worker.ends.close()
    workers.clear()


def _pickled(*functions: Callable[..., Any] | None) -> bytes:
    try:
        return bytes(cloudpickle.dumps(functions))
    except Exception as error:  # pickling runs the functions' own code, which may raise anything
        raise InputError(
            f"functions for the workers must be picklable, got {error}: "
            "give a Python function, or register one in `initializer` and give its name"
        ) from error


def require_count(name: str, value: int) -> None:
    """Check a number of things.

    Raises
    ------
    InputError
        When it is not a whole number of at least 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")


def require_seconds(name: str, value: float) -> None:
    """Check a time limit.

    Raises
    ------
    InputError
        When it is not a positive, finite number.
    """
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InputError(f"{name} must be a positive, finite number of seconds, got {value!r}")
