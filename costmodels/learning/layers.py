"""Layers that several networks are made of: scaling, sums over lists, GraphSAGE."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

MAX_DEVIATION = 6.0
"""Standard deviations beyond which an input is cut off: what was never seen is not extrapolated."""
MIN_DEVIATION = 0.1
"""Of an input in units of log2; one that hardly varied in training says little by itself."""


class Standardise(nn.Module):
    """Inputs minus their mean over their standard deviation, cut off far outside.

    Parameters
    ----------
    columns : int
        Of the inputs. Before `learn` it takes logarithms of counts as they usually are.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((columns,), 5.0))
        self.register_buffer("deviation", torch.full((columns,), 8.0))

    def learn(self, values: NDArray[np.floating]) -> None:
        """Take mean and deviation from values [entries, columns]; without any, stay."""
        if not len(values):
            return
        wide = values.astype(np.float64)
        self.mean = torch.from_numpy(wide.mean(axis=0)).float()
        deviation = torch.from_numpy(wide.std(axis=0)).float()
        self.deviation = deviation.clamp_min(MIN_DEVIATION)

    def forward(self, values: Tensor) -> Tensor:
        """[..., columns] -> the same shape, each within six deviations."""
        scaled = (values - self.mean) / self.deviation
        return scaled.clamp(-MAX_DEVIATION, MAX_DEVIATION)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Entries of [entries, size] at [chosen]: [chosen, size].

    What ``values[index]`` gives, but its gradients are added up in order: training repeats bit for
    bit.
    """
    return values.index_select(0, index)


def segment_sum(values: Tensor, segment: Tensor, segments: int) -> Tensor:
    """Add up [entries, size] over the entries of each segment: [segments, size]."""
    found = values.new_zeros(segments, values.shape[1])
    return found.index_add(0, segment, values)


def segment_mean(values: Tensor, segment: Tensor, segments: int) -> Tensor:
    """Mean over the entries of each segment, 0 for one without any: [segments, size]."""
    counts = torch.bincount(segment, minlength=segments).clamp_min(1).to(values.dtype)
    return segment_sum(values, segment, segments) / counts[:, None]


def segment_max(values: Tensor, segment: Tensor, segments: int) -> Tensor:
    """Maximum over the entries of each segment, 0 for one without any: [segments, size]."""
    found = values.new_zeros(segments, values.shape[1])
    index = segment[:, None].expand_as(values)
    return found.scatter_reduce(0, index, values, "amax", include_self=False)


def feed_forward(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them, none after the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class SageLayer(nn.Module):
    """GraphSAGE with the mean over producers and that over consumers (Hamilton et al., NIPS 2017).

    A node gets ``relu(W [own, mean of producers, mean of consumers])``, scaled to unit length,
    added to what it was.

    Parameters
    ----------
    size : int
        Of a node's vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.joined = nn.Linear(3 * size, size)

    def forward(self, nodes: Tensor, producer: Tensor, consumer: Tensor) -> Tensor:
        """[nodes, size], two times [edges] -> [nodes, size]."""
        from_producers = segment_mean(take(nodes, producer), consumer, len(nodes))
        from_consumers = segment_mean(take(nodes, consumer), producer, len(nodes))
        joined = self.joined(torch.cat([nodes, from_producers, from_consumers], dim=1))
        return nodes + functional.normalize(torch.relu(joined), dim=1)
