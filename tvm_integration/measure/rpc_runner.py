"""A MetaSchedule runner that measures on devices elsewhere, through TVM's RPC tracker and servers.

Each of the warm worker processes holds one device at a time. A device that goes away in the middle
costs no measurement: what it was measuring goes to another. A program that takes a session down
again and again is at fault itself.
"""

import contextlib
import functools
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from costmodels.errors import InputError
from costmodels.kernel import Failure
from tvm_integration.compat import (
    EvaluatorConfig,
    PyRunner,
    RPCConfig,
    RunnerFuture,
    RunnerInput,
    RunnerResult,
    connect_rpc_tracker,
    derived_object,
    rpc_run_evaluator,
)
from tvm_integration.measure.kernel_arguments import RANDOM_FILL, allocate_arguments, read_ranges
from tvm_integration.measure.outcomes import runner_result
from tvm_integration.measure.runner import MeasureNote, done, normal_evaluator_config
from tvm_integration.threads import THREADS, check_threads
from tvm_integration.workers.pool import JOBS_PER_WORKER, WorkerPool

__all__ = ["WarmRPCRunner", "count_devices", "parse_rpc"]

_log = logging.getLogger(__name__)

_Job: TypeAlias = tuple[str, str, tuple[Any, ...]]
SESSION_TIMEOUT_S = 60
"""Seconds that a device may take for one program."""
_FASTEST_CORES = 1
"""TVM's own choice of cores, of those that are unequal."""
_SERVER = "python -m tvm.exec.rpc_server"
_ATTEMPTS = 3
"""Sessions that a program may lose before it counts as the cause."""
_CONNECT_TIMEOUT_S = 5.0
_DEVICES_TIMEOUT_S = 30.0
"""How long to wait for a device to come back when the last one is lost."""
_START_ALLOWANCE_S = 30.0
"""Beyond the session's own limit: waiting for a device, uploading, linking there."""


@derived_object
class WarmRPCRunner(PyRunner):
    """Measures candidates on all devices that a tracker has under a key, in parallel.

    A drop-in for TVM's `RPCRunner`, with warm workers, and safe with devices that fail.

    Parameters
    ----------
    rpc_config : RPCConfig, optional
        As of `RPCRunner`: tracker, key, priority, seconds a session may take; what is not given
        comes from ``TVM_TRACKER_HOST``, ``TVM_TRACKER_PORT`` and ``TVM_TRACKER_KEY``.
    evaluator_config : EvaluatorConfig, optional
        How often to call a kernel; TVM's default if not given.
    alloc_repeat : int
        How often to allocate the arguments anew.
    max_workers : int, optional
        Most devices to use at a time; all that are there at the start by default.
    threads : int, optional
        Threads that kernels run on there: give the ``num-cores`` of the target. By default as many
        as the server's pool has, which on x86 is half of its logical processors unless it was
        started with ``TVM_NUM_THREADS``.
    jobs_per_worker : int
        A worker is replaced after so many measurements.

    Raises
    ------
    InputError
        When no tracker answers, or it has no device under the key.
    """

    def __init__(
        self,
        rpc_config: RPCConfig | None = None,
        evaluator_config: EvaluatorConfig | None = None,
        *,
        alloc_repeat: int = 1,
        max_workers: int | None = None,
        threads: int | None = None,
        jobs_per_worker: int = JOBS_PER_WORKER,
    ) -> None:
        super().__init__()
        if not isinstance(rpc_config, RPCConfig | None):
            raise InputError(f"rpc_config must be an RPCConfig, got {rpc_config!r}")
        try:
            self.rpc_config = RPCConfig._normalized(rpc_config)
        except ValueError as error:
            raise InputError(f"rpc_config must name a tracker and a key: {error}") from None
        config = normal_evaluator_config(evaluator_config)
        devices = count_devices(self.rpc_config)
        if not devices:
            raise InputError(_no_device(self.rpc_config))
        self.evaluator_config = config
        self._told_waiting = False
        self._pool = WorkerPool(
            functools.partial(
                _prepare,
                tuple(self.rpc_config),
                tuple(config),
                alloc_repeat,
                threads,
                _START_ALLOWANCE_S,
            ),
            stage="run",
            max_workers=devices if max_workers is None else max_workers,
            timeout_sec=self.rpc_config.session_timeout_sec + _START_ALLOWANCE_S,
            jobs_per_worker=jobs_per_worker,
        )

    def run(self, runner_inputs: list[RunnerInput]) -> list[RunnerFuture]:
        """Measure candidates.

        Parameters
        ----------
        runner_inputs : list of RunnerInput
            One for each artifact.

        Returns
        -------
        list of RunnerFuture
            All done, in the same order; ``run_secs`` in seconds, or ``WarmRPCRunner: kind:
            reason``.

        Raises
        ------
        InputError
            When no device is left.
        """
        jobs: list[_Job] = [
            (
                str(each.artifact_path),
                str(each.device_type),
                tuple(info.as_json() for info in each.args_info),
            )
            for each in runner_inputs
        ]
        results: dict[int, RunnerResult] = {}
        losses: Counter[int] = Counter()
        while open_jobs := [i for i in range(len(jobs)) if i not in results]:
            self._await_device()
            for i, result in zip(
                open_jobs, self._pool.map([jobs[i] for i in open_jobs]), strict=True
            ):
                if result.failure is not None:
                    results[i] = _failed(result.failure)
                elif "run_secs" in result.value:
                    results[i] = RunnerResult(result.value["run_secs"], None)
                elif "refused" in result.value:
                    raise InputError(result.value["refused"])
                elif "waited" in result.value:
                    self._tell_waiting()
                else:
                    losses[i] += 1
                    if losses[i] == _ATTEMPTS:
                        reason = f"lost its session {_ATTEMPTS} times: {result.value['lost']}"
                        results[i] = _failed(Failure("crash", reason))
        return [done(results[i]) for i in range(len(jobs))]

    def _tell_waiting(self) -> None:
        if not self._told_waiting:
            self._told_waiting = True
            _log.warning(
                "waiting for a device of key %r: others hold all that the tracker has",
                self.rpc_config.tracker_key,
            )

    def _await_device(self) -> None:
        """Wait until the tracker has a device; a server comes back some seconds after a loss."""
        end = time.monotonic() + _DEVICES_TIMEOUT_S
        while not count_devices(self.rpc_config):
            if time.monotonic() > end:
                raise InputError(_no_device(self.rpc_config))
            time.sleep(1.0)

    def take_note(self, artifact_path: str) -> MeasureNote | None:
        """As of `WarmRunner`: nothing is stopped early here, so there is nothing to note."""
        del artifact_path
        return None

    def close(self) -> None:
        """End the workers. Closing twice is allowed."""
        self._pool.close()


def count_devices(config: RPCConfig) -> int:
    """Ask a tracker how many servers it has under a key, busy ones included.

    Raises
    ------
    InputError
        When no tracker answers.
    """
    address = (str(config.tracker_host), int(config.tracker_port))
    try:
        socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S).close()
        tracker = connect_rpc_tracker(*address)
        servers = tracker.summary()["server_info"]
        tracker.close()
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"an RPC tracker must answer at {address[0]}:{address[1]}, got: {error}: start one "
            "with `python -m tvm.exec.rpc_tracker`"
        ) from None
    return sum(each["key"].partition(":")[2] == config.tracker_key for each in servers)


def parse_rpc(tracker: str | None, key: str | None) -> RPCConfig | None:
    """Read ``HOST:PORT`` and the key of devices.

    Returns
    -------
    RPCConfig or None
        None when neither is given.

    Raises
    ------
    InputError
        When only one is given, or the port is no number.
    """
    if tracker is None and key is None:
        return None
    if tracker is None or key is None:
        raise InputError("tracker and key of RPC must be given together, got one of them")
    host, _, port = tracker.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"tracker of RPC must be HOST:PORT, got {tracker!r}")
    return RPCConfig(host, int(port), key, session_timeout_sec=SESSION_TIMEOUT_S)


def _no_device(config: RPCConfig) -> str:
    return (
        f"the tracker {config.tracker_host}:{config.tracker_port} must have a server of key "
        f"{config.tracker_key!r}, got none: start one on the device with `python -m "
        f"tvm.exec.rpc_server --tracker HOST:PORT --key {config.tracker_key}`"
    )


def _failed(failure: Failure) -> RunnerResult:
    return runner_result("WarmRPCRunner", failure)


def _prepare(
    rpc_config: tuple[Any, ...],
    evaluator_config: tuple[Any, ...],
    alloc_repeat: int,
    threads: int | None,
    wait_s: float,
) -> Callable[[_Job], dict[str, Any]]:
    """Make the function that does a job; called in the worker."""
    config = RPCConfig(*rpc_config)
    evaluator = EvaluatorConfig(*evaluator_config)
    socket.setdefaulttimeout(wait_s)  # of the wait for a device

    def work(job: _Job) -> dict[str, Any]:
        path, device_type, arguments = job
        try:
            tracker = connect_rpc_tracker(str(config.tracker_host), int(config.tracker_port))
            session = tracker.request(
                config.tracker_key,
                priority=config.session_priority,
                session_timeout=config.session_timeout_sec,
                max_retry=1,
            )
        except (OSError, RuntimeError) as error:
            # Others may hold the devices for long: that is no fault of the program.
            reason = _first_line(error)
            return {"waited" if "timed out" in reason else "lost": reason}
        start = time.monotonic()
        try:
            return {"run_secs": measure(session, path, device_type, arguments)}
        except InputError as error:
            return {"refused": f"{error} there, as in `{THREADS}={threads} {_SERVER}`"}
        except (OSError, RuntimeError, ValueError) as error:
            if time.monotonic() - start > 0.95 * config.session_timeout_sec:
                raise TimeoutError(
                    f"took longer than the {config.session_timeout_sec} s of a session"
                ) from None
            if not _answers(session):
                return {"lost": _first_line(error)}
            raise

    def measure(
        session: Any, path: str, device_type: str, arguments: tuple[Any, ...]
    ) -> list[float]:
        with _uploaded(session, path) as module:
            device = session.device(device_type, 0)
            if threads is not None:
                _set_threads(threads, session.get_function)
            allocated = allocate_arguments(
                device,
                arguments,
                alloc_repeat,
                ranges=read_ranges(path),
                fill=session.get_function(RANDOM_FILL),
            )
            times = rpc_run_evaluator(session, module, device, evaluator, allocated)
        return [float(each) for each in times]

    return work


def _set_threads(count: int, find: Callable[[str], Any]) -> None:
    """Let kernels of a session run on so many threads; its pool can shrink but never grow.

    Raises
    ------
    InputError
        When the pool has fewer.
    """
    find("runtime.config_threadpool")(_FASTEST_CORES, count)
    check_threads(count, find("runtime.NumThreads"))


@contextlib.contextmanager
def _uploaded(session: Any, path: str) -> Iterator[Any]:
    """Load an artifact on the device; take it away afterwards."""
    name = f"{os.getpid()}-{os.path.basename(path)}"
    session.upload(path, name)
    try:
        yield session.load_module(name)
    finally:
        with contextlib.suppress(OSError, RuntimeError):
            session.remove(name)
            session.remove(f"{name}.so")


def _answers(session: Any) -> bool:
    """Whether the device still does what it is told."""
    try:
        session.get_function(RANDOM_FILL)
    except (OSError, RuntimeError, AttributeError):
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
