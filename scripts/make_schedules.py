"""Make the library of schedules that travels with the package, from a shipped data set.

    python scripts/make_schedules.py

The two fastest programs of each kernel of `shipped:cpu`, as decisions of their sketches; a minute.
`tvm_integration.records.schedule_library` says what is kept.
"""

import gzip
from collections.abc import Iterator
from importlib.metadata import version

from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.kernel_rows import RecordRow, TaskRow
from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.kernel import Measured
from tvm_integration.records.rows import TraceApplier, target_of, workload_of
from tvm_integration.records.schedule_library import KnownSchedule, lines_of, shipped_path
from tvm_integration.tune.search.library import KernelPlace
from tvm_integration.tune.search.sketch import Sketch

KEPT = 2
"""Of one kernel on one device; a third is seldom near."""


def schedules_of(task: TaskRow, records: list[RecordRow]) -> Iterator[KnownSchedule]:
    """The fastest programs of a kernel, as far as they are those of a sketch."""
    mod = workload_of(task)
    place = KernelPlace(mod, target_of(task))
    applier = TraceApplier(mod)
    found = 0
    for record in records:
        trace = applier.schedule(record.trace).trace
        if trace is None or found == KEPT:
            return
        sketch = Sketch(trace, task.device.cores)
        decisions = sketch.read(trace)
        if decisions is None or not sketch.variables:
            continue
        found += 1
        yield KnownSchedule(
            sketch=sketch.key,
            workload=place.workload,
            extents=place.extents,
            decisions=sketch.sizes(decisions),
            latency_s=float(f"{latency_s(record):.4g}"),
            device=task.device.name,
            cores=task.device.cores,
            vector_bits=task.device.vector_bits,
            tvm=version("apache-tvm"),
        )


def latency_s(record: RecordRow) -> float:
    """Median of the readings; infinite for a failure."""
    found = record.measurement
    return found.latency_s if isinstance(found, Measured) else float("inf")


def all_schedules(dataset: StoredDataset) -> Iterator[KnownSchedule]:
    """Those of a data set, task by task."""
    records: dict[str, list[RecordRow]] = {}
    for record in dataset.records:
        if latency_s(record) < float("inf") and record.trace:
            records.setdefault(record.task, []).append(record)
    for number, (key, own) in enumerate(records.items(), start=1):
        try:
            yield from schedules_of(dataset.tasks[key], sorted(own, key=latency_s))
        except InputError as error:
            print(f"{key}: left out: {error}")
        if number % 200 == 0:
            print(f"{number} of {len(records)} kernels", flush=True)


def main() -> None:
    """Write the file."""
    schedules = list(all_schedules(read_dataset("shipped:cpu")))
    # Without the time of day in its header: the same schedules, the same file.
    write_atomically(shipped_path(), gzip.compress(lines_of(schedules), mtime=0))
    kernels = len({(each.workload, each.device) for each in schedules})
    print(f"{len(schedules)} schedules of {kernels} kernels: {shipped_path()}")


if __name__ == "__main__":
    main()
