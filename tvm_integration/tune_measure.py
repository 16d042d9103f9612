"""Measurements around tuning: unscheduled kernels before it, the whole network after it."""

import functools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.kernel import LONGEST_S, Measured
from tvm_integration.builder import WarmBuilder
from tvm_integration.candidate_scores import task_key
from tvm_integration.compat import BuilderInput, IRModule, RunnerInput, meta_schedule, tvm
from tvm_integration.execution import compare_outputs, measure_s, run
from tvm_integration.network import Network
from tvm_integration.pipeline import FusedNetwork, build
from tvm_integration.runner import WarmRunner
from tvm_integration.tune_state import TuneResult
from tvm_integration.work_dir import measurement_of

RANDOM_FILL = "tvm.contrib.random.random_fill_for_measure"
"""TVM's function that fills an array with numbers between 1 and 10."""
_BLOCK = 1 << 16
"""Numbers drawn; arguments repeat them, each from another one on."""
_STEP = 4099
_LEAST = 1e-3
"""Far from where float16 becomes slow."""
_ACTIVATIONS, _WEIGHTS = 1.0, 0.1
"""Standard deviations of a kernel's first argument and of the others: so an erf after a product of
both meets numbers as in a network, where its time depends on them."""


def allocate_safe_arguments(
    device: Any, args_info: Any, alloc_repeat: int, *, fill: Callable[[Any], None] | None = None
) -> list[list[Any]]:
    """Allocate a kernel's arguments: floats as in networks, whole numbers as zeros.

    TVM fills floats with numbers between 1 and 10, where an erf, of a GELU for one, takes another
    time than between the small numbers of a network. It fills integers at random, too; a kernel
    that gathers by them, an embedding for one, then reads outside its table and crashes.

    Parameters
    ----------
    device : Device
        Where; of an RPC session, or of this machine.
    args_info : sequence
        TVM's descriptions of the arguments.
    alloc_repeat : int
        How often, each time with other numbers.
    fill : callable, optional
        TVM's function that fills an array where it is: for devices that are far away.
    """
    repeats = []
    for repeat in range(alloc_repeat):
        arguments: list[Any] = []
        for number, (_, dtype, shape) in enumerate(args_info):
            if "float" not in str(dtype):
                argument = tvm.runtime.tensor(np.zeros(tuple(shape), str(dtype)), device)
            elif fill is None and (block := _numbers(str(dtype), is_first=not number)) is not None:
                moved = np.roll(block, -_STEP * (repeat * len(args_info) + number))
                argument = tvm.runtime.tensor(np.resize(moved, tuple(shape)), device)
            else:
                argument = tvm.runtime.empty(shape, dtype, device)
                (fill or tvm.get_global_func(RANDOM_FILL))(argument)
            arguments.append(argument)
        repeats.append(arguments)
    return repeats


@functools.cache
def _numbers(dtype: str, *, is_first: bool) -> NDArray[Any] | None:
    """Normal numbers for the first argument or for another; None where numpy has none."""
    try:
        wanted = np.dtype(dtype)
    except TypeError:  # bfloat16 and the like
        return None
    scale = _ACTIVATIONS if is_first else _WEIGHTS
    block = scale * np.random.default_rng(0).standard_normal(_BLOCK)
    return np.copysign(np.maximum(np.abs(block), _LEAST), block).astype(wanted)


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
    return known


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


def measure_network(
    result: TuneResult, network: Network, fused: FusedNetwork, schedules: Any
) -> TuneResult:
    """Build the network untuned and with the schedules of a database, check outputs, time both."""
    built = build(fused, schedules)
    untuned = build(fused)
    contenders: dict[str, Callable[[], list[float]]] = {
        "tuned": lambda: measure_s(built, network.inputs, repeat=1),
        "untuned": lambda: measure_s(untuned, network.inputs, repeat=1, min_repeat_ms=1),
    }
    reference = network.reference
    match, note = None, getattr(reference, "reason", "")
    if reference.kind is not None:
        check = compare_outputs(run(built, network.inputs), reference.run(network.inputs))
        match, note = check.match, check.reason
        contenders["reference"] = lambda: reference.measure_s(repeat=1)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(5):
        for name, measure in contenders.items():
            if sum(times[name]) < _UNTUNED_ENOUGH_S:
                times[name] += measure()
    return replace(
        result,
        built=built,
        tuned_s=median(times["tuned"]),
        untuned_s=median(times["untuned"]),
        reference_s=median(times["reference"]) if "reference" in times else None,
        ranges_s={name: (min(each), max(each)) for name, each in times.items()},
        reference_kind=reference.kind,
        outputs_match=match,
        outputs_note=note,
    )


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
