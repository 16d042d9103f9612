"""Kernels as tensors: rows of stages, and the nodes and edges of their graphs.

What depends on a whole batch is made once by `KernelEncoding`; its method `tensors` then cuts out
any kernels of it, which training does at each step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from costmodels.features.kernel_graph import KernelGraph, StagedGraph
from costmodels.features.operator_features import opcode_numbers, operator_features
from costmodels.features.roofline import log_bound
from costmodels.features.schema import OPERATOR
from costmodels.kernel import FloatArray, IndexArray, KernelBatch, RowArray
from costmodels.ragged import gather, offsets_of, owners


@dataclass(frozen=True)
class GraphTensors:
    """The graphs of some kernels as one graph of many parts.

    Nodes of kernels that come from one workload are equal before they meet a schedule: `opcode` and
    `features` hold those that differ, and `node` says which one each node is.

    Parameters
    ----------
    opcode : Tensor
        int64 [distinct nodes]; position in `costmodels.features.kernel_graph.OPCODES`.
    features : Tensor
        float32 [distinct nodes, columns of `costmodels.features.schema.OPERATOR`].
    node : Tensor
        int64 [nodes]; position among the distinct ones.
    node_kernel : Tensor
        int64 [nodes]; the kernel of each node, never falling.
    producer, consumer : Tensor
        int64 [edges]; nodes.
    stage_node, stage_row : Tensor
        int64 [stages]; a node and a row that it is computed in.
    """

    opcode: Tensor
    features: Tensor
    node: Tensor
    node_kernel: Tensor
    producer: Tensor
    consumer: Tensor
    stage_node: Tensor
    stage_row: Tensor


@dataclass(frozen=True)
class KernelTensors:
    """Some kernels for a network.

    Parameters
    ----------
    kernels : int
        How many.
    rows : Tensor
        float32 [rows, inputs]; what the network is told of each stage.
    row_kernel : Tensor
        int64 [rows]; the kernel of each row, never falling.
    log_bound : Tensor
        float32 [kernels]; logarithm of the roofline of each kernel in seconds.
    graph : GraphTensors, optional
        For networks that want one.
    """

    kernels: int
    rows: Tensor
    row_kernel: Tensor
    log_bound: Tensor
    graph: GraphTensors | None = None


RowInputs: TypeAlias = Callable[[KernelBatch], RowArray]
"""A batch -> float32 [rows, inputs]; each row on its own."""


def rows_with_device(batch: KernelBatch) -> RowArray:
    """float32 [rows, columns + 9]: each row with the features of its kernel's device."""
    return batch.rows_with_device


@dataclass(frozen=True, slots=True)
class KernelInputs:
    """What a network wants to be told of kernels.

    Parameters
    ----------
    rows : callable
        Of their stages.
    graphs : bool
        Whether their graphs are wanted.
    """

    rows: RowInputs = rows_with_device
    graphs: bool = False


LARGEST = 1e4
"""No feature of a real program is larger."""


class KernelEncoding:
    """A batch made ready to cut tensors from.

    Parameters
    ----------
    batch : KernelBatch
        The kernels.
    inputs : KernelInputs
        What is wanted.

    Raises
    ------
    InputError
        When graphs are wanted and the batch has none.
    """

    def __init__(self, batch: KernelBatch, inputs: KernelInputs) -> None:
        self._batch = batch
        # Numbers that are none, and beyond any real logarithm, must not reach the weights.
        finite = np.nan_to_num(batch.rows, nan=0.0, posinf=LARGEST, neginf=-LARGEST)
        batch = replace(batch, rows=np.clip(finite, -LARGEST, LARGEST))
        self.rows: RowArray = inputs.rows(batch)
        """float32 [rows, inputs]; of all kernels."""
        self.log_bound: FloatArray = log_bound(batch)
        """float64 [kernels]; logarithm of the roofline."""
        self._graphs: _GraphTable | None = None
        if inputs.graphs and len(batch):
            batch.require_graphs("this network")
            self._graphs = _GraphTable(batch.graphs)

    def __len__(self) -> int:
        return len(self._batch)

    @property
    def operators(self) -> RowArray:
        """float32 [nodes, columns of `features.schema.OPERATOR`]: each workload's once."""
        return (
            np.empty((0, len(OPERATOR.columns)), np.float32)
            if self._graphs is None
            else self._graphs.features
        )

    def tensors(self, kernels: IndexArray) -> KernelTensors:
        """Tensors of some of the kernels.

        Parameters
        ----------
        kernels : numpy.ndarray
            int64 [kernels]; positions in the batch.
        """
        rows, row_offsets = gather(self._batch.row_offsets, kernels)
        graph = None
        if self._graphs is not None and self._batch.graph_index is not None:
            graph = self._graphs.tensors(self._batch.graph_index[kernels], row_offsets)
        return KernelTensors(
            len(kernels),
            _tensor(self.rows[rows]),
            _tensor(owners(row_offsets)),
            _tensor(self.log_bound[kernels]).float(),
            graph,
        )


def _tensor(values: NDArray[Any]) -> Tensor:
    """A copy where torch wants it: sums over memory aligned otherwise round otherwise."""
    return torch.tensor(values)


class _GraphTable:
    """Graphs laid end to end; those of one workload share their nodes and edges."""

    def __init__(self, graphs: Sequence[StagedGraph]) -> None:
        kernels: dict[int, KernelGraph] = {id(each.graph): each.graph for each in graphs}
        number = {key: position for position, key in enumerate(kernels)}
        own = list(kernels.values())
        self._kernel = np.array([number[id(each.graph)] for each in graphs], np.int64)
        self._node_offsets = offsets_of(np.array([len(each.operators) for each in own], np.int64))
        self._edge_offsets = offsets_of(np.array([len(each.edges) for each in own], np.int64))
        self._stage_offsets = offsets_of(np.array([len(each.stages) for each in graphs], np.int64))
        self._edges = _pairs([pair for each in own for pair in each.edges])
        self._stages = _pairs([pair for each in graphs for pair in each.stages])
        operators = [operator for each in own for operator in each.operators]
        self._opcode = opcode_numbers(operators)
        self.features = operator_features(operators)

    def tensors(self, graphs: IndexArray, row_offsets: IndexArray) -> GraphTensors:
        """Tensors of the graphs of some kernels, whose rows begin at these offsets."""
        used, own = np.unique(self._kernel[graphs], return_inverse=True)
        distinct, distinct_offsets = gather(self._node_offsets, used)
        node, node_offsets = gather(distinct_offsets, own)
        edge, edge_offsets = gather(self._edge_offsets, used[own])
        stage, stage_offsets = gather(self._stage_offsets, graphs)
        first_node = node_offsets[owners(edge_offsets)]
        in_kernel = owners(stage_offsets)
        return GraphTensors(
            opcode=_tensor(self._opcode[distinct]),
            features=_tensor(self.features[distinct]),
            node=_tensor(node),
            node_kernel=_tensor(owners(node_offsets)),
            producer=_tensor(self._edges[edge, 0] + first_node),
            consumer=_tensor(self._edges[edge, 1] + first_node),
            stage_node=_tensor(self._stages[stage, 0] + node_offsets[in_kernel]),
            stage_row=_tensor(self._stages[stage, 1] + row_offsets[in_kernel]),
        )


def _pairs(pairs: Sequence[tuple[int, int]]) -> IndexArray:
    return np.array(pairs, np.int64).reshape(len(pairs), 2)
