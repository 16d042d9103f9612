"""Networks as tensors: the operators of several as one graph of many parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from costmodels.errors import InputError
from costmodels.kernel import IndexArray, RowArray
from costmodels.networks.features import NETWORK_OPERATOR, network_features
from costmodels.networks.graph import NetworkGraph
from costmodels.networks.opcodes import opcode_numbers
from costmodels.ragged import gather, offsets_of, owners

__all__ = ["NetworkEncoding", "NetworkTensors"]


@dataclass(frozen=True)
class NetworkTensors:
    """The operators of some networks.

    Parameters
    ----------
    networks : int
        How many.
    opcode : Tensor
        int64 [nodes]; position in `costmodels.networks.opcodes.OPCODES`.
    features : Tensor
        float32 [nodes, columns of `costmodels.networks.features.NETWORK_OPERATOR`].
    node_network : Tensor
        int64 [nodes]; the network of each node, never falling.
    producer, consumer : Tensor
        int64 [edges]; nodes.
    """

    networks: int
    opcode: Tensor
    features: Tensor
    node_network: Tensor
    producer: Tensor
    consumer: Tensor


class NetworkEncoding:
    """Networks made ready to cut tensors from.

    Parameters
    ----------
    graphs : sequence of NetworkGraph
        All of whose operators are known.

    Raises
    ------
    InputError
        When one has an operator that is not in the vocabulary.
    """

    def __init__(self, graphs: Sequence[NetworkGraph]) -> None:
        for graph in graphs:
            if graph.unknown:
                raise InputError(
                    f"operators of a network must be of ONNX's vocabulary to be encoded, got "
                    f"{', '.join(graph.unknown)} in {graph.name or 'a network'}"
                )
        self._node_offsets = offsets_of(np.array([len(each) for each in graphs], np.int64))
        self._edge_offsets = offsets_of(np.array([len(each.edges) for each in graphs], np.int64))
        edges = [pair for each in graphs for pair in each.edges]
        self._edges: IndexArray = np.array(edges, np.int64).reshape(len(edges), 2)
        self._opcode = opcode_numbers([node.opcode for each in graphs for node in each.operators])
        rows = [network_features(each) for each in graphs]
        empty = np.empty((0, len(NETWORK_OPERATOR.columns)), np.float32)
        self.features: RowArray = np.concatenate([empty, *rows])
        """float32 [nodes, columns]; of all networks."""

    def __len__(self) -> int:
        return len(self._node_offsets) - 1

    def tensors(self, networks: IndexArray) -> NetworkTensors:
        """Tensors of some of the networks.

        Parameters
        ----------
        networks : numpy.ndarray
            int64 [networks]; positions among all; may repeat.
        """
        node, node_offsets = gather(self._node_offsets, networks)
        edge, edge_offsets = gather(self._edge_offsets, networks)
        first_node = node_offsets[owners(edge_offsets)]
        return NetworkTensors(
            len(networks),
            _tensor(self._opcode[node]),
            _tensor(self.features[node]),
            _tensor(owners(node_offsets)),
            _tensor(self._edges[edge, 0] + first_node),
            _tensor(self._edges[edge, 1] + first_node),
        )


def _tensor(values: NDArray[Any]) -> Tensor:
    """A copy where torch wants it: sums over memory aligned otherwise round otherwise."""
    return torch.tensor(values)
