"""A MetaSchedule runner that measures in one warm worker process, and stops early.

A candidate far slower than the best of its batch is not worth the time of a full measurement: two
calls of it tell enough.
"""

import functools
import os
import pickle
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from costmodels.errors import InputError
from costmodels.kernel import Failure
from tvm_integration.compat import (
    EvaluatorConfig,
    PyRunner,
    RunnerFuture,
    RunnerInput,
    RunnerResult,
    default_cleanup,
    default_run_evaluator,
    derived_object,
    tvm,
)
from tvm_integration.measure.callables import FunctionOrName, require_function, resolve
from tvm_integration.measure.in_network import evaluate_as_in_network
from tvm_integration.measure.kernel_arguments import allocate_arguments, read_ranges
from tvm_integration.measure.outcomes import runner_result
from tvm_integration.measure.value_dependent import branches_on_values, evaluate_in_turn, set_count
from tvm_integration.threads import (
    require_cores,
    require_whole_core,
    set_threads,
    thread_count,
)
from tvm_integration.workers.pool import JOBS_PER_WORKER, JobResult, WorkerPool, require_count

__all__ = ["MeasureNote", "WarmRunner", "done", "normal_evaluator_config"]

_Job: TypeAlias = tuple[str, str, tuple[Any, ...], float | None, int | None]
# Below this the call from Python (some microseconds) would count for too much in a single call.
_SHORTEST_STOP_S = 200e-6
_NOTES_KEPT = 4096


@dataclass(frozen=True)
class MeasureNote:
    """How a candidate was measured, which TVM's RunnerResult has no room for.

    Attributes
    ----------
    early_stopped : bool
        Whether it was so slow that one warm call was timed instead of a full measurement.
    runs : int
        Times in ``run_secs``; 0 when it failed.
    wall_s : float
        Seconds the measurement took in all.
    failure : Failure or None
        Why there are no times.
    """

    early_stopped: bool
    runs: int
    wall_s: float
    failure: Failure | None


@derived_object
class WarmRunner(PyRunner):
    """Measures candidates one after the other, in a process forked from one that imported TVM.

    A drop-in for TVM's `LocalRunner`: the same parameters with the same meaning, and any artifact
    that TVM's runners take. `run` returns when all is measured. A candidate that fails gives a
    RunnerResult with an ``error_msg``, whatever it did to its process.

    Parameters
    ----------
    timeout_sec : float
        Seconds one measurement may take.
    evaluator_config : EvaluatorConfig, optional
        How often to call a kernel; TVM's default if not given.
    cooldown_sec : float
        Seconds to wait after each candidate.
    alloc_repeat : int
        How often to allocate the arguments anew.
    f_alloc_argument, f_run_evaluator, f_cleanup : callable or str, optional
        As of `LocalRunner`: functions, or their names in TVM's registry on the worker. By default
        arguments hold numbers as networks have them (`tvm_integration.measure.kernel_arguments`);
        whole numbers of artifacts that are not `WarmBuilder`'s are zeros.
    initializer : callable, optional
        Called in each new worker.
    threads : int, optional
        Threads that kernels run on: give the ``num-cores`` of the target. By default
        ``TVM_NUM_THREADS``, or else all cores that this process can keep busy.
    jobs_per_worker : int
        The worker is replaced after so many measurements.
    early_stop_ratio : float or None
        A candidate is measured by one warm call only, when that call takes more than this many
        times the median of the best of the same `run` with arguments of the same shapes. None
        measures all in full, as do an `f_run_evaluator` and cache flushing.
    argument_sets : int
        Sets of arguments for a kernel whose time depends on their values, called in turn: see
        `tvm_integration.measure.value_dependent`. With 1, as in TVM, no kernel is treated so, nor
        is any with an `f_run_evaluator`.
    network_bytes : int, optional
        What one run of the kernels' network touches, `FusedNetwork.footprint_bytes`: on a CPU each
        call then finds its data where that network leaves them, see
        `tvm_integration.measure.in_network`. Without it, or with an `f_run_evaluator` or cache
        flushing, where the call before left them, as in TVM.

    Attributes
    ----------
    network_bytes : int or None
        May be changed between two calls of `run`.

    Raises
    ------
    InputError
        For a parameter that cannot be, or another system than Linux.

    Notes
    -----
    TVM's import in the workers does not see torch (`tvm_integration.workers.fork_server` says
    why): a function that hands torch tensors to TVM converts them with `tvm.runtime.from_dlpack`.
    """

    def __init__(
        self,
        *,
        timeout_sec: float = 30.0,
        evaluator_config: EvaluatorConfig | None = None,
        cooldown_sec: float = 0.0,
        alloc_repeat: int = 1,
        f_alloc_argument: FunctionOrName = None,
        f_run_evaluator: FunctionOrName = None,
        f_cleanup: FunctionOrName = None,
        initializer: Callable[[], None] | None = None,
        threads: int | None = None,
        jobs_per_worker: int = JOBS_PER_WORKER,
        early_stop_ratio: float | None = 5.0,
        argument_sets: int = 1,
        network_bytes: int | None = None,
    ) -> None:
        super().__init__()
        config = normal_evaluator_config(evaluator_config)
        if threads is not None:
            require_count("threads", threads)
        require_whole_core()
        require_count("alloc_repeat", alloc_repeat)
        require_count("argument_sets", argument_sets)
        if not 0 <= cooldown_sec < float("inf"):
            raise InputError(f"cooldown_sec must be finite and at least 0, got {cooldown_sec!r}")
        if early_stop_ratio is not None and not early_stop_ratio > 1:
            raise InputError(
                f"early_stop_ratio must be above 1, got {early_stop_ratio!r}: pass None to "
                "measure every candidate in full"
            )
        functions = {
            "f_alloc_argument": f_alloc_argument,
            "f_run_evaluator": f_run_evaluator,
            "f_cleanup": f_cleanup,
        }
        for name, function in functions.items():
            require_function(name, function)
        if network_bytes:
            require_count("network_bytes", network_bytes)
        self.network_bytes = network_bytes
        self._as_in_network = f_run_evaluator is None and not config.enable_cpu_cache_flush
        if not self._as_in_network:
            early_stop_ratio = None
        if f_run_evaluator is not None:
            argument_sets = 1
        self.timeout_sec = timeout_sec
        self.evaluator_config = config
        self.cooldown_sec = cooldown_sec
        self.alloc_repeat = alloc_repeat
        self.early_stop_ratio = early_stop_ratio
        self.threads = thread_count() if threads is None else threads
        self._notes: dict[str, MeasureNote] = {}
        self._pool = WorkerPool(
            functools.partial(
                _prepare_run,
                functions,
                tuple(config),
                alloc_repeat,
                early_stop_ratio,
                argument_sets,
                self.threads,
            ),
            stage="run",
            initializer=initializer,
            timeout_sec=timeout_sec,
            jobs_per_worker=jobs_per_worker,
        )

    def run(self, runner_inputs: list[RunnerInput]) -> list[RunnerFuture]:
        """Measure candidates of one task.

        Parameters
        ----------
        runner_inputs : list of RunnerInput
            One for each artifact.

        Returns
        -------
        list of RunnerFuture
            All done, in the same order; ``run_secs`` in seconds, or ``WarmRunner: kind: reason``.

        Raises
        ------
        InputError
            When a function is not registered on the worker, TVM's pool has another number of
            threads there, or this process may no longer use so many cores.
        WorkerError
            When no worker can be started, or `initializer` raises.
        """
        require_cores(self.threads)
        if self.network_bytes:
            require_count("network_bytes", self.network_bytes)
        network_bytes = self.network_bytes if self._as_in_network else None
        best_s: dict[bytes, float] = {}
        futures = []
        for runner_input in runner_inputs:
            arguments = tuple(info.as_json() for info in runner_input.args_info)
            device_type = str(runner_input.device_type)
            key = pickle.dumps((device_type, arguments))
            path = str(runner_input.artifact_path)
            job: _Job = (path, device_type, arguments, best_s.get(key), network_bytes)
            (result,) = self._pool.map([job])
            futures.append(done(self._record(path, result)))
            if result.failure is None and not result.value["early_stopped"]:
                median_s = statistics.median(result.value["run_secs"])
                best_s[key] = min(median_s, best_s.get(key, median_s))
            time.sleep(self.cooldown_sec)
        return futures

    def _record(self, path: str, result: JobResult) -> RunnerResult:
        run_secs = None if result.failure else result.value["run_secs"]
        self._notes[path] = MeasureNote(
            early_stopped=run_secs is not None and result.value["early_stopped"],
            runs=len(run_secs or ()),
            wall_s=result.wall_s,
            failure=result.failure,
        )
        if len(self._notes) > _NOTES_KEPT:  # nobody reads them
            del self._notes[next(iter(self._notes))]
        if result.failure:
            return runner_result("WarmRunner", result.failure)
        return RunnerResult(run_secs, None)

    def take_note(self, artifact_path: str) -> MeasureNote | None:
        """Take out what is known of how an artifact was measured.

        Parameters
        ----------
        artifact_path : str
            As in the RunnerInput.

        Returns
        -------
        MeasureNote or None
            None when it was not measured here, or its note was taken before.
        """
        return self._notes.pop(str(artifact_path), None)

    def close(self) -> None:
        """End the worker. Closing twice is allowed."""
        self._pool.close()


def normal_evaluator_config(config: EvaluatorConfig | None) -> EvaluatorConfig:
    """How often kernels are to be called, TVM's default filled in; InputError if it cannot be."""
    if not isinstance(config, EvaluatorConfig | None):
        raise InputError(f"evaluator_config must be an EvaluatorConfig, got {config!r}")
    config = EvaluatorConfig._normalized(config)
    require_count("evaluator_config.number", config.number)
    require_count("evaluator_config.repeat", config.repeat)
    if config.min_repeat_ms < 0:
        raise InputError(
            f"evaluator_config.min_repeat_ms must be at least 0, got {config.min_repeat_ms}"
        )
    return config


def done(result: RunnerResult) -> RunnerFuture:
    """A future whose result is there already."""
    return RunnerFuture(f_done=lambda: True, f_result=lambda: result)


def _prepare_run(
    functions: dict[str, FunctionOrName],
    config: tuple[Any, ...],
    alloc_repeat: int,
    early_stop_ratio: float | None,
    argument_sets: int,
    threads: int,
) -> Callable[[_Job], dict[str, Any]]:
    """Make the function that does a job; called in the worker."""
    set_threads(threads)
    evaluator_config = EvaluatorConfig(*config)
    defaults = {
        "f_alloc_argument": allocate_arguments,
        "f_run_evaluator": default_run_evaluator,
        "f_cleanup": default_cleanup,
    }
    allocate, evaluate, clean_up = (
        resolve(name, given, defaults[name]) for name, given in functions.items()
    )

    def work(job: _Job) -> dict[str, Any]:
        path, device_type, arguments, best_s, network_bytes = job
        try:
            module = _load(path)
            device = tvm.runtime.device(device_type, 0)
            sets = 1
            if argument_sets > 1 and branches_on_values(path):
                sets = set_count(arguments, argument_sets)
            known = {"ranges": read_ranges(path)} if allocate is allocate_arguments else {}
            repeated = allocate(device, arguments, max(alloc_repeat, sets), **known)
            if best_s is not None and early_stop_ratio is not None:
                limit_s = max(early_stop_ratio * best_s, _SHORTEST_STOP_S)
                slow_s = _slow_call_s(module, device, repeated[0], limit_s)
                if slow_s is not None:
                    return {"run_secs": [slow_s], "early_stopped": True}
            measure = evaluate if sets == 1 else evaluate_in_turn
            if network_bytes and sets == 1 and device_type == "cpu":
                measure = functools.partial(
                    evaluate_as_in_network, threads=threads, network_bytes=network_bytes
                )
            run_secs = [float(s) for s in measure(module, device, evaluator_config, repeated)]
            if not run_secs:
                raise InputError("f_run_evaluator must give at least one time, got none")
            return {"run_secs": run_secs, "early_stopped": False}
        finally:
            clean_up()

    return work


def _load(path: str) -> "tvm.runtime.Module":
    """Load an artifact, from the library that `WarmBuilder` linked beside it if there is one."""
    linked = f"{path}.so"
    if os.path.exists(linked) and os.path.getmtime(linked) >= os.path.getmtime(path):
        return tvm.runtime.load_module(linked)
    return tvm.runtime.load_module(path)


def _slow_call_s(
    module: "tvm.runtime.Module", device: "tvm.runtime.Device", arguments: Any, limit_s: float
) -> float | None:
    """Give the seconds of a warm call, or None when the first or it stays within the limit."""
    kernel = module[module.entry_name]
    seconds = 0.0
    for _ in range(2):  # the first call may also start threads and touch new memory
        device.sync()
        start = time.perf_counter()
        kernel(*arguments)
        device.sync()
        seconds = time.perf_counter() - start
        if seconds <= limit_s:
            return None
    return seconds
