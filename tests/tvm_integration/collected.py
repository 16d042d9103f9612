"""Tasks and data sets for the tests of collecting, exchanging and evaluating."""

from search_tasks import matmul, relu

from costmodels.dataset.writer import DatasetWriter
from tvm_integration.collect.kernels import CollectOptions, Collector
from tvm_integration.compat import Target
from tvm_integration.records.rows import target_of, task_row
from tvm_integration.targets import device_of, host_target
from tvm_integration.tir.kernel_graph import operator_kinds


def rows(*sizes: int, target: Target | None = None):
    """Tasks: matrix products of these sizes, and one activation."""
    target = target or host_target()
    device = device_of(target)
    found = []
    for size in sizes:
        mod = matmul(size)
        networks = {f"net{size}": 2}
        kinds = operator_kinds(mod)
        found.append(
            task_row(mod, target, device, name=f"matmul{size}", networks=networks, operators=kinds)
        )
    mod = relu(128)
    found.append(
        task_row(mod, target, device, name="relu", networks={"net16": 1}, operators=("relu",))
    )
    return found


def collect(folder, tasks, **options):
    """Measure; returns the last state."""
    with DatasetWriter(folder, {"name": "test", "licence": "Apache-2.0"}) as writer:
        writer.add(tasks)
        collector = Collector(
            writer, target_of(tasks[0]), tasks[0].device, CollectOptions(**options)
        )
        try:
            return collector.run([task.key for task in tasks])
        finally:
            collector.close()
