"""Made-up kernels to check and test kernel models with, the same on every machine."""

import numpy as np

from costmodels.device import Device
from costmodels.features.kernel_graph import KernelGraph, Operator, StagedGraph
from costmodels.features.schema import FLAG, PER_STORE, FeatureSchema
from costmodels.kernel import (
    Failure,
    KernelBatch,
    KernelDataset,
    Measured,
    Measurement,
    RowArray,
    Task,
    concatenate,
)


def example_device(name: str = "example") -> Device:
    """A plausible processor that is the same on every machine."""
    return Device(
        name=name,
        kind="cpu",
        cores=2,
        vector_bits=256,
        l1_bytes=32 << 10,
        l2_bytes=1 << 20,
        l3_bytes=32 << 20,
        clock_hz=2.5e9,
        peak_flop_per_s=1.6e11,
        bandwidth_byte_per_s=3e10,
    )


def example_dataset(
    rng: np.random.Generator,
    *,
    tasks: int = 6,
    kernels_per_task: int = 24,
    schema: FeatureSchema = PER_STORE,
    failures: bool = True,
    first_task: int = 0,
) -> KernelDataset:
    """Made-up kernels whose latency depends on their rows, with noise; some fail.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws everything.
    tasks, kernels_per_task : int
        Size.
    schema : FeatureSchema
        Of the rows.
    failures : bool
        Whether one kernel in twelve fails.
    first_task : int
        Number of the first task, for data sets of different tasks.
    """
    weights = np.zeros(len(schema.columns))
    weights[::12] = np.random.default_rng(0).normal(size=len(weights[::12])) / 8
    flags = np.array([column.scale == FLAG for column in schema.columns])
    parts, measurements = [], []
    for number in range(first_task, first_task + tasks):
        rows_each = int(rng.integers(1, 4))
        drawn = rng.uniform(0, 20, size=(kernels_per_task * rows_each, len(schema.columns)))
        rows: RowArray = np.where(flags, drawn > 10, drawn).astype(np.float32)
        offsets = np.arange(kernels_per_task + 1) * rows_each
        task = Task(f"task {number}", example_device())
        index = np.zeros(kernels_per_task, np.int64)
        graph = _chain(number, rows_each)
        part = KernelBatch(schema, rows, offsets.astype(np.int64), (task,), index, (graph,), index)
        parts.append(part)
        noise = rng.normal(scale=0.05, size=kernels_per_task)
        log_latency = -8.0 + number % 5 + part.sum_rows(rows @ weights) / rows_each + noise
        for position, value in enumerate(log_latency):
            failed = failures and position % 12 == 11
            measurements.append(_measurement(float(value), failed))
    return KernelDataset(concatenate(parts), tuple(measurements))


def _chain(number: int, stages: int) -> StagedGraph:
    """Operators in a row, each in a stage of its own, of sizes that differ from task to task."""
    shape = (16 << number % 4, 64)
    nodes = [Operator("parameter", "float32", shape)]
    for stage in range(stages):
        opcode = ("matmul", "add", "relu")[(number + stage) % 3]
        reduction = (64,) if opcode == "matmul" else ()
        nodes.append(Operator(opcode, "float32", shape, shape, reduction, operations={"add": 1}))
    edges = tuple((node, node + 1) for node in range(stages))
    placed = tuple((stage + 1, stage) for stage in range(stages))
    return StagedGraph(KernelGraph(tuple(nodes), edges), placed, stages)


def _measurement(log_latency: float, failed: bool) -> Measurement:
    if failed:
        return Failure("run", "made up")
    return Measured((float(np.exp(log_latency)), float(np.exp(log_latency + 0.001))))
