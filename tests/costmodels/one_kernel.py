"""Kernels made by hand: a graph, and rows that say nothing."""

from collections.abc import Sequence

import numpy as np

from costmodels.device import Device
from costmodels.features.kernel_graph import KernelGraph, Operator, StagedGraph
from costmodels.features.schema import PER_STORE
from costmodels.kernel import KernelBatch, KernelDataset, Measured, Task
from costmodels.testing.example_data import example_device

MULTIPLY_ADD = {"add": 1, "mul": 1}


def matmul(m: int, n: int, k: int, *, then: Sequence[str] = ()) -> KernelGraph:
    """A matrix product of float32, followed by elementwise operators."""
    operators = [
        Operator("parameter", "float32", (m, k)),
        Operator("parameter", "float32", (k, n)),
        Operator("matmul", "float32", (m, n), (m, n), (k,), operations=MULTIPLY_ADD),
    ]
    edges = [(0, 2), (1, 2)]
    for opcode in then:
        edges.append((len(operators) - 1, len(operators)))
        kind = {"relu": "max"}.get(opcode, opcode)
        operators.append(Operator(opcode, "float32", (m, n), (m, n), operations={kind: 1}))
    return KernelGraph(tuple(operators), tuple(edges))


def convolution(
    images: int,
    inputs: int,
    outputs: int,
    image: int,
    window: int,
    *,
    stride: int = 1,
    padding: int = 0,
) -> KernelGraph:
    """A convolution of square images."""
    side = (image + 2 * padding - window) // stride + 1
    shape = (images, outputs, side, side)
    operators = (
        Operator("parameter", "float32", (images, inputs, image, image)),
        Operator("parameter", "float32", (outputs, inputs, window, window)),
        Operator(
            "conv",
            "float32",
            shape,
            shape,
            (inputs, window, window),
            window=(window, window),
            stride=(stride, stride),
            dilation=(1, 1),
            padding=((padding, padding),) * 2,
            operations=MULTIPLY_ADD,
        ),
    )
    return KernelGraph(operators, ((0, 2), (1, 2)))


def kernels(*graphs: KernelGraph, device: Device | None = None) -> KernelBatch:
    """A batch of kernels with a row each, every one a task of its own."""
    device = device or example_device()
    size = len(graphs)
    index = np.arange(size)
    tasks = tuple(Task(f"task {number}", device) for number in range(size))
    return KernelBatch(
        PER_STORE,
        np.zeros((size, len(PER_STORE.columns)), np.float32),
        np.arange(size + 1),
        tasks,
        index,
        tuple(StagedGraph(graph, (), 1) for graph in graphs),
        index,
    )


def measured(*seconds: float) -> tuple[Measured, ...]:
    """A measurement of each."""
    return tuple(Measured((each,)) for each in seconds)


def dataset(graphs: Sequence[KernelGraph], seconds: Sequence[float]) -> KernelDataset:
    """Kernels with their seconds."""
    return KernelDataset(kernels(*graphs), measured(*seconds))
