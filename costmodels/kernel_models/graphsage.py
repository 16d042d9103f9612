"""Opcode embedding and GraphSAGE over the operators of a kernel: the learned TPU cost model.

Kaufman et al., "A Learned Performance Model for Tensor Processing Units", MLSys 2021 (arXiv
2008.01040). Nodes are the kernel's operators before scheduling; what a schedule makes of them are
the rows of its stages, joined to the operators that each stage computes, to the embedding of the
kernel, or to both. Mean and maximum over the nodes are the embedding of the kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from costmodels.errors import InputError
from costmodels.features.kernel_graph import OPCODES
from costmodels.features.schema import DEVICE, OPERATOR, PER_STORE
from costmodels.learning.kernel_network import KernelNetwork
from costmodels.learning.kernel_tensors import (
    GraphTensors,
    KernelEncoding,
    KernelInputs,
    KernelTensors,
)
from costmodels.learning.layers import (
    SageLayer,
    Standardise,
    feed_forward,
    segment_max,
    segment_mean,
    segment_sum,
    take,
)
from costmodels.learning.neural_model import NeuralKernelModel

POOLINGS = {"mean": segment_mean, "max": segment_max, "sum": segment_sum}
SCHEDULES = ("nodes", "kernel", "both", "none")


@dataclass(frozen=True, slots=True)
class GraphSageShape:
    """Shape of the network.

    Parameters
    ----------
    size : int
        Of the vector of a node.
    embedding : int
        Of the vector of an opcode.
    layers : int
        Of GraphSAGE; with 0 operators do not see their neighbors.
    pooling : tuple of str
        Over the nodes: some of ``"mean"``, ``"max"``, ``"sum"``.
    schedule : str
        Where rows are joined: ``"nodes"``, ``"kernel"``, ``"both"`` or ``"none"``.
    graph : bool
        Whether operators are looked at; without them the rows alone are added up.
    """

    size: int = 64
    embedding: int = 24
    layers: int = 2
    pooling: tuple[str, ...] = ("mean", "max")
    schedule: str = "both"
    graph: bool = True

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("embedding", 1), ("layers", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        if self.schedule not in SCHEDULES:
            raise InputError(
                f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}"
            )
        distinct = isinstance(self.pooling, tuple) and len(set(self.pooling)) == len(self.pooling)
        if not self.pooling or not distinct or not set(self.pooling) <= POOLINGS.keys():
            raise InputError(
                f"pooling must be a tuple of some of {', '.join(POOLINGS)}, got {self.pooling!r}"
            )
        if not self.graph and self.schedule != "kernel":
            raise InputError(
                f"schedule must be 'kernel' for a model without graph, got {self.schedule!r}"
            )


class GraphSageNetwork(KernelNetwork):
    """Tensors of kernels -> utility, and log seconds above the roofline.

    Parameters
    ----------
    shape : GraphSageShape
        Its shape.
    """

    def __init__(self, shape: GraphSageShape) -> None:
        super().__init__()
        size = shape.size
        self.shape = shape
        columns = len(PER_STORE.columns) + len(DEVICE.columns)
        self.row_scale = Standardise(columns)
        self.row = feed_forward((columns, 2 * size, size))
        kernel_size = 0
        if shape.graph:
            self.operator_scale = Standardise(len(OPERATOR.columns))
            self.opcode = nn.Embedding(len(OPCODES), shape.embedding)
            own = shape.embedding + len(OPERATOR.columns)
            self.operator = feed_forward((own, size, size))
            joined = 2 * size if shape.schedule in ("nodes", "both") else size
            self.node = feed_forward((joined, size, size))
            self.sage = nn.ModuleList(SageLayer(size) for _ in range(shape.layers))
            kernel_size += size * len(shape.pooling)
        if shape.schedule in ("kernel", "both"):
            kernel_size += size
        self.head = feed_forward((kernel_size, size, size, 2))

    def standardise(self, kernels: KernelEncoding) -> None:
        """Learn how rows and operators are distributed."""
        self.row_scale.learn(kernels.rows)
        if self.shape.graph:
            self.operator_scale.learn(kernels.operators)

    def forward(self, kernels: KernelTensors) -> Tensor:
        """Predict."""
        rows = torch.relu(self.row(self.row_scale(kernels.rows)))
        parts = []
        if self.shape.graph:
            if kernels.graph is None:
                return rows.new_zeros(kernels.kernels, 2)  # of no kernels
            nodes = self._nodes(kernels.graph, rows)
            node_kernel = kernels.graph.node_kernel
            parts = [
                POOLINGS[name](nodes, node_kernel, kernels.kernels) for name in self.shape.pooling
            ]
        if self.shape.schedule in ("kernel", "both"):
            parts.append(segment_sum(rows, kernels.row_kernel, kernels.kernels))
        found: Tensor = self.head(torch.cat(parts, dim=1))
        return found

    def _nodes(self, graph: GraphTensors, rows: Tensor) -> Tensor:
        own = torch.cat([self.opcode(graph.opcode), self.operator_scale(graph.features)], dim=1)
        nodes: Tensor = take(torch.relu(self.operator(own)), graph.node)
        if self.shape.schedule in ("nodes", "both"):
            stages = segment_sum(take(rows, graph.stage_row), graph.stage_node, len(nodes))
            nodes = torch.cat([nodes, stages], dim=1)
        nodes = torch.relu(self.node(nodes))
        for layer in self.sage:
            nodes = layer(nodes, graph.producer, graph.consumer)
        return nodes


class GraphSage(NeuralKernelModel):
    """A graph network that ranks the schedules of a task and predicts their seconds.

    Parameters
    ----------
    shape : GraphSageShape, optional
        Of the network.
    config : NeuralConfig, optional
        How it learns.
    rng : numpy.random.Generator, optional
        Draws the seed of all later randomness; without it the seed is 0.
    """

    name: ClassVar[str] = "graphsage"
    paper: ClassVar[str] = (
        "Kaufman et al., A Learned Performance Model for Tensor Processing Units, MLSys 2021"
    )
    graphs: ClassVar[bool] = True
    members: ClassVar[int] = 3
    shape: GraphSageShape

    @classmethod
    def make_shape(cls, values: Mapping[str, Any]) -> GraphSageShape:
        """From JSON, which has lists for tuples."""
        pooling = {"pooling": tuple(values["pooling"])} if "pooling" in values else {}
        return GraphSageShape(**{**values, **pooling})

    def make_network(self) -> KernelNetwork:
        """A network with random weights."""
        return GraphSageNetwork(self.shape)

    def inputs(self) -> KernelInputs:
        """Rows and, unless the shape leaves it out, the graph."""
        return KernelInputs(graphs=self.shape.graph)
