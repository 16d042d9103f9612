"""Operators of a network -> one vector a network, for any model that stands on them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from costmodels.errors import InputError
from costmodels.learning.layers import (
    SageLayer,
    Standardise,
    feed_forward,
    segment_max,
    segment_mean,
    segment_sum,
)
from costmodels.learning.network_tensors import NetworkEncoding, NetworkTensors
from costmodels.networks.features import NETWORK_OPERATOR
from costmodels.networks.opcodes import OPCODES

__all__ = ["POOLINGS", "EncoderShape", "NetworkEncoder"]

POOLINGS = {"sum": segment_sum, "mean": segment_mean, "max": segment_max}


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """Sizes of an encoder.

    Parameters
    ----------
    size : int
        Of the vector of an operator.
    embedding : int
        Of an opcode's.
    layers : int
        GraphSAGE layers: how far an operator sees.
    pooling : tuple of str
        Which of `POOLINGS` make one vector of all operators; side by side. A sum grows with the
        network, as latency does.
    """

    size: int = 64
    embedding: int = 24
    layers: int = 2
    pooling: tuple[str, ...] = ("sum",)

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("embedding", 1), ("layers", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        is_tuple = isinstance(self.pooling, tuple)
        if not is_tuple or not self.pooling or not set(self.pooling) <= POOLINGS.keys():
            raise InputError(
                f"pooling must be a tuple of some of {', '.join(POOLINGS)}, got {self.pooling!r}"
            )

    @property
    def encoded(self) -> int:
        """Size of a network's vector."""
        return self.size * len(self.pooling)


class NetworkEncoder(nn.Module):
    """Opcode embedding and features of operators, then GraphSAGE over producers and consumers.

    Parameters
    ----------
    shape : EncoderShape
        Its sizes.
    """

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        columns = len(NETWORK_OPERATOR.columns)
        self.scale = Standardise(columns)
        self.opcode = nn.Embedding(len(OPCODES), shape.embedding)
        self.operator = feed_forward((shape.embedding + columns, shape.size, shape.size))
        self.sage = nn.ModuleList(SageLayer(shape.size) for _ in range(shape.layers))

    def standardise(self, networks: NetworkEncoding) -> None:
        """Learn how features are distributed, from the networks that it will be trained on."""
        self.scale.learn(networks.features)

    def forward(self, networks: NetworkTensors) -> Tensor:
        """float32 [networks, `EncoderShape.encoded`]."""
        own = torch.cat([self.opcode(networks.opcode), self.scale(networks.features)], dim=1)
        nodes: Tensor = torch.relu(self.operator(own))
        for layer in self.sage:
            nodes = layer(nodes, networks.producer, networks.consumer)
        pooled = [
            POOLINGS[name](nodes, networks.node_network, networks.networks)
            for name in self.shape.pooling
        ]
        return torch.cat(pooled, dim=1)
