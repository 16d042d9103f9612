"""Measurements around tuning: unscheduled kernels before it, the whole network after it."""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.kernel import LONGEST_S, Measured
from costmodels.task_keys import canonical_key
from tvm_integration.compat import BuilderInput, IRModule, RunnerInput, meta_schedule, tvm
from tvm_integration.compile.build import BuiltNetwork, FusedNetwork, build
from tvm_integration.compile.execution import OutputCheck, compare_outputs, measure_s, run
from tvm_integration.foreign_errors import one_line
from tvm_integration.frontends.network import Network
from tvm_integration.identity import task_key
from tvm_integration.measure.builder import WarmBuilder
from tvm_integration.measure.outcomes import measurement_of
from tvm_integration.measure.runner import WarmRunner
from tvm_integration.threads import KernelThread, thread_count
from tvm_integration.tune.state import TuneResult

UNTUNED = "untuned_kernels.json"
"""Identity of a kernel -> seconds of its unscheduled program, or null where it did not run."""


def known_untuned(work_dir: Path) -> dict[str, float | None]:
    """What a work directory knows of unscheduled programs; empty where that is nothing."""
    path = work_dir / UNTUNED
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    for value in known.values():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < LONGEST_S):
            raise InputError(
                f"{path} must hold seconds above 0, or null, got {value!r}: remove the file, "
                "`costmodels tune` measures them again"
            )
    return {canonical_key(key): value for key, value in known.items()}


def untuned_latencies(
    fused: FusedNetwork, work_dir: Path, builder: WarmBuilder, runner: WarmRunner
) -> list[float | None]:
    """Seconds of each kernel's unscheduled program; kept in the work directory."""
    keys = [task_key(task.mod, fused.target) for task in fused.tasks]
    known = known_untuned(work_dir)
    missing = [i for i, key in enumerate(keys) if key not in known]
    mods = [fused.tasks[i].mod for i in missing]
    built = builder.build([BuilderInput(mod, fused.target) for mod in mods])
    for i, mod, artifact in zip(missing, mods, built, strict=True):
        known[keys[i]] = None
        if artifact.error_msg is None:
            arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
            device = "cpu" if fused.target.kind.name == "llvm" else fused.target.kind.name
            (future,) = runner.run([RunnerInput(artifact.artifact_path, device, arguments)])
            measured = measurement_of(future.result().run_secs)
            if isinstance(measured, Measured):
                known[keys[i]] = measured.latency_s
            shutil.rmtree(os.path.dirname(str(artifact.artifact_path)), ignore_errors=True)
    if missing:
        write_atomically(work_dir / UNTUNED, json.dumps(known, indent=1).encode())
    return [known[key] for key in keys]


def checked_untuned(network: Network, fused: FusedNetwork) -> BuiltNetwork:
    """Build a network untuned, having compared what it computes: before hours of tuning.

    Raises
    ------
    InputError
        When it does not run, or outputs differ from those of its own framework.
    """
    built = build(fused)
    threads = thread_count(fused.target)
    network.reference.use_threads(threads)
    if network.reference.kind is None:
        return built
    with KernelThread(threads) as kernels:
        try:
            got = kernels.call(run, built, network.inputs)
        except tvm.error.InternalError as error:
            raise InputError(
                f"the built network must run, got {one_line(error)}: TVM's runtime lacks this for "
                "an operator or its type; cast before it, or cut the network there"
            ) from error
        check = check_outputs(got, network)
    network.reference.close()
    if not check.match:
        raise InputError(
            f"the network must compute what {network.reference.kind} computes, got {check.reason}: "
            "TVM imports or builds one of its operators wrongly; find it by cutting the network "
            "(`costmodels tune --no-check` tunes it all the same)"
        )
    return built


def measure_network(
    result: TuneResult,
    network: Network,
    fused: FusedNetwork,
    schedules: Any,
    untuned: BuiltNetwork,
) -> TuneResult:
    """Build the network with the schedules of a database, check outputs, time it and untuned.

    Parameters
    ----------
    result : TuneResult
        What is known before.
    network : Network
        With the reference, which runs on as many threads.
    fused : FusedNetwork
        Its kernels.
    schedules : Database
        Of the tuned kernels.
    untuned : BuiltNetwork
        As TVM builds it without any of this.

    Returns
    -------
    TuneResult
        With latencies measured in turn, each while nothing else of this program runs. A network
        that takes far longer than the sum of its kernels is timed on one thread, too. Its own
        framework always is, after the others, and the faster of both counts.
    """
    built = build(fused, schedules)
    threads = thread_count(fused.target)
    inputs, reference = network.inputs, network.reference
    reference.use_threads(threads)
    with KernelThread(threads) as kernels:
        contenders: dict[str, Callable[[], list[float]]] = {
            "tuned": lambda: kernels.call(measure_s, built, inputs, repeat=1),
            "untuned": lambda: kernels.call(measure_s, untuned, inputs, repeat=1),
        }
        kind = reference.kind
        match, note = None, reference.reason
        if kind is not None:
            check = check_outputs(kernels.call(run, built, inputs), network)
            match, note = check.match, check.reason
            contenders["reference"] = lambda: reference.measure_s(repeat=1)
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(_ROUNDS):
            for name, measure in contenders.items():
                if sum(times[name]) < _UNTUNED_ENOUGH_S:
                    time.sleep(_PAUSE_S)
                    times[name] += measure()
    reference_threads = threads
    if threads > 1 and "reference" in times:
        # Where others keep a core busy threads that wait for each other may lose to a single one.
        reference.use_threads(1)
        alone = reference.measure_s(repeat=_ONE_THREAD_READINGS)
        if median(alone) < median(times["reference"]):
            times["reference"], reference_threads = alone, 1
    reference.close()
    tuned_s = median(times["tuned"])
    expected_s = result.sum_of_kernels_s
    one_thread_s = None
    if threads > 1 and expected_s is not None and tuned_s > _FAR_ABOVE * expected_s:
        with KernelThread(1) as kernels:
            one_thread_s = median(kernels.call(measure_s, built, inputs, repeat=3))
    return replace(
        result,
        built=built,
        tuned_s=tuned_s,
        one_thread_s=one_thread_s,
        threads=threads,
        untuned_s=median(times["untuned"]),
        reference_s=median(times["reference"]) if "reference" in times else None,
        ranges_s={name: (min(each), max(each)) for name, each in times.items()},
        reference_kind=kind,
        reference_threads=reference_threads,
        outputs_match=match,
        outputs_note=note,
    )


def check_outputs(got: Sequence[np.ndarray], network: Network) -> OutputCheck:
    """Compare outputs with those of the network's own framework.

    onnxruntime's optimizations of quantized networks move values by a step of quantization: where
    outputs differ they are compared with what it computes without them.
    """
    inputs = network.inputs
    check = compare_outputs(got, network.reference.run(inputs))
    if check.match or network.reference.kind != "onnxruntime":
        return check
    plain = compare_outputs(got, network.reference.run(inputs, optimized=False))
    return plain if plain.match else check


_ROUNDS = 5
_ONE_THREAD_READINGS = 3
"""Readings of the framework on one thread."""
_PAUSE_S = 0.1
"""After which threads of the one before have ceased to spin."""
_FAR_ABOVE = 2.0
"""Times the sum of its kernels above which a network's threads must be waiting for each other."""
_UNTUNED_ENOUGH_S = 6.0
"""An untuned network can take seconds a run; then fewer runs must do."""


def faster_records(result: TuneResult, fused: FusedNetwork, database: Any) -> Any:
    """The best record of each kernel that is faster than its unscheduled program."""
    best = meta_schedule.database.MemoryDatabase()
    states = {kernel.name: kernel for kernel in result.kernels}
    for task in fused.tasks:
        kernel = states[task.name]
        if kernel.best_s is None or kernel.used_s != kernel.best_s:
            continue
        record = fastest_record(database, task.mod)
        if record is not None:
            workload = best.commit_workload(task.mod)
            best.commit_tuning_record(
                meta_schedule.database.TuningRecord(
                    record.trace, workload, record.run_secs, record.target, record.args_info
                )
            )
    return best


def fastest_record(database: Any, mod: IRModule) -> Any:
    """The record of the least median, which is what is reported; TVM asks for the least mean."""
    if not database.has_workload(mod):
        return None  # asking for it would write it
    workload = database.commit_workload(mod)
    fastest, least_s = None, float("inf")
    for record in database.get_top_k(workload, len(database)):
        measured = measurement_of(record.run_secs)
        if isinstance(measured, Measured) and measured.latency_s < least_s:
            fastest, least_s = record, measured.latency_s
    return fastest
