"""The best programs of tuning runs, measured again side by side, so that runs can be compared."""

import json
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

WINNERS = 3
"""Programs of each run that are measured again; the best of them counts."""
ROUNDS = 7


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(statistics.fmean(math.log(v) for v in values))


def best_of(records: Sequence[Any]) -> list[Any]:
    """The fastest records of a run; failures are none."""
    ran = [record for record in records if record.run_secs and float(record.run_secs[0]) < 1e9]
    return sorted(ran, key=lambda r: statistics.median(map(float, r.run_secs)))[:WINNERS]


def record_text(record: Any) -> str:
    """A tuning record as JSON."""
    return json.dumps(record.as_json(), default=lambda x: x.value)


def measure_in_child(kernel: str, runs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Start the script anew with ``--winners KERNEL FILE``, which calls `measure_side_by_side`."""
    from benchmark_results import (
        run_child,  # builds of old, which tune_one_kernel.py runs, lack its imports
    )

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(runs, file)
        file.flush()
        return run_child("--winners", kernel, file.name)


def measure_side_by_side(function: Any, runs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Measure programs of one kernel in turn in this process.

    Parameters
    ----------
    function : PrimFunc
        The kernel.
    runs : mapping
        Name of a run -> records of its programs, from `record_text`.

    Returns
    -------
    dict
        Name of a run -> seconds of each program, medians of seven rounds.
    """
    import tvm
    from tvm.s_tir import meta_schedule as ms

    workload = ms.database.Workload(
        tvm.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")(function)
    )
    kernels = []
    arguments: list[Any] = []
    for name, records in runs.items():
        for text in records:
            record = ms.database.TuningRecord.from_json(json.loads(text), workload)
            candidate = record.as_measure_candidate()
            module = ms.builder.local_builder.default_build(candidate.sch.mod, record.target, None)
            kernels.append((name, tvm.runtime.Executable(module).jit()))
            arguments = arguments or [
                tvm.runtime.empty(tuple(int(n) for n in info.shape), info.dtype)
                for info in candidate.args_info
            ]
    fill = tvm.get_global_func("tvm.contrib.random.random_fill_for_measure")
    for argument in arguments:
        fill(argument)
    times: dict[int, list[float]] = {}
    for _ in range(ROUNDS):
        for index, (_, kernel) in enumerate(kernels):
            evaluate = kernel.time_evaluator("main", tvm.cpu(), number=1, min_repeat_ms=60)
            times.setdefault(index, []).append(float(evaluate(*arguments).mean))
    found: dict[str, Any] = {}
    for index, (name, _) in enumerate(kernels):
        found.setdefault(name, []).append(statistics.median(times[index]))
    return found
