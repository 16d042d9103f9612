"""PALEO's time of a training step on many workers: data parallel and model parallel.

Qi et al., "Paleo: A Performance Model for Deep Neural Networks", ICLR 2017: a step is a forward
pass, a backward pass, an update of the weights, and the exchange of gradients, one after the other.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import CONTRACTIONS, KernelGraph
from costmodels.features.operator_costs import Cost, kernel_cost, size_bytes
from costmodels.kernel_models.paleo import FULL_PEAK, Platform, time_of


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of a network that is trained.

    Parameters
    ----------
    graph : KernelGraph
        Its operator; of a contraction the first parameter is the data and the second the weights.
    is_first : bool
        Whether nobody needs the gradient of its input.
    """

    graph: KernelGraph
    is_first: bool = False

    @property
    def weight_bytes(self) -> float:
        """Of its weights; 0 for a layer without any."""
        if self.graph.operators[-1].opcode not in CONTRACTIONS:
            return 0.0
        return size_bytes(self.graph.operators[1])

    def backward_costs(self) -> tuple[Cost, ...]:
        """Of the gradients of the data and of the weights, each as much work as the layer itself.

        A layer without weights costs backward what it costs forward.
        """
        forward = kernel_cost(self.graph)
        if not self.weight_bytes:
            return (forward,)
        data, result = size_bytes(self.graph.operators[0]), forward.written_bytes
        of_weights = Cost(forward.flop, data + result, self.weight_bytes)
        of_data = Cost(forward.flop, result + self.weight_bytes, data)
        return (of_weights,) if self.is_first else (of_data, of_weights)


@dataclass(frozen=True, slots=True)
class Link:
    """What joins the workers.

    Parameters
    ----------
    byte_per_s : float
        In one direction.
    share : float
        What is reached of it ("platform percent of peak" of communication).
    """

    byte_per_s: float
    share: float = 1.0

    def send_s(self, size: float) -> float:
        """Seconds to send so many bytes."""
        return size / (self.byte_per_s * self.share)


Exchange: TypeAlias = Callable[[int, float, Link], float]
"""(workers, bytes of the gradients, link) -> seconds until all have the sum."""


def _one_to_all(workers: int, size: float, link: Link) -> float:
    return 2 * link.send_s(size * (workers - 1))


def _tree(workers: int, size: float, link: Link) -> float:
    return 2 * math.ceil(math.log2(workers)) * link.send_s(size)


def _butterfly(workers: int, size: float, link: Link) -> float:
    return math.ceil(math.log2(workers)) * link.send_s(size)


def _mixing(workers: int, size: float, link: Link) -> float:
    return link.send_s(size) if workers > 1 else 0.0


EXCHANGES: Mapping[str, Exchange] = {
    "one_to_all": _one_to_all,
    "tree_all_reduce": _tree,
    "butterfly_all_reduce": _butterfly,
    "butterfly_mixing": _mixing,
}
"""A master that hears and tells everyone; up a tree and down again; pairs that swap, the partner
changing each round; one such round alone, after which workers differ (Zhao and Canny, 2013)."""


@dataclass(frozen=True, slots=True)
class Step:
    """Seconds of a training step.

    Parameters
    ----------
    forward_s, backward_s, update_s, exchange_s : float
        Of a worker; they do not overlap.
    """

    forward_s: float
    backward_s: float
    update_s: float
    exchange_s: float

    @property
    def total_s(self) -> float:
        """Their sum."""
        return self.forward_s + self.backward_s + self.update_s + self.exchange_s


def data_parallel_step(
    layers: Callable[[int], Sequence[Layer]],
    batch: int,
    workers: int,
    device: Device,
    link: Link,
    *,
    platform: Platform = FULL_PEAK,
    exchange: str = "tree_all_reduce",
) -> Step:
    """Time of a step in which every worker has all weights and a part of the batch.

    Parameters
    ----------
    layers : callable
        Size of a batch -> the network's layers.
    batch : int
        Of all workers together; for weak scaling give so many times more.
    workers : int
        How many.
    device : Device
        Each of them.
    link : Link
        Between them.
    platform : Platform
        What is reached of the device's peaks.
    exchange : str
        One of `EXCHANGES`.

    Raises
    ------
    InputError
        When there is no worker, or no such exchange.
    """
    if workers < 1 or batch < 1:
        raise InputError(f"workers and batch must be at least 1, got {workers} and {batch}")
    if exchange not in EXCHANGES:
        raise InputError(f"exchange must be one of {', '.join(EXCHANGES)}, got {exchange!r}")
    own = layers(math.ceil(batch / workers))
    weights = sum(layer.weight_bytes for layer in own)
    backward = [cost for layer in own for cost in layer.backward_costs()]
    update = Cost(2.0 * weights / 4.0, 2 * weights, weights)  # w - rate * gradient, of float32
    return Step(
        sum(time_of(kernel_cost(layer.graph), device, platform).total_s for layer in own),
        sum(time_of(cost, device, platform).total_s for cost in backward),
        time_of(update, device, platform).total_s,
        EXCHANGES[exchange](workers, weights, link),
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds at least, when branches run beside each other, and at most, when they do not."""

    low_s: float
    high_s: float


def model_parallel_s(blocks: Sequence[float | Sequence[Sequence[float]]]) -> Bounds:
    """Time of a network whose branches lie on different workers.

    Parameters
    ----------
    blocks : sequence
        In order: seconds of a layer, with what it fetches from other workers; or branches, each the
        seconds of its layers.

    Examples
    --------
    >>> model_parallel_s([1.0, [[2.0, 2.0], [3.0]], 1.0])
    Bounds(low_s=6.0, high_s=9.0)
    """
    low_s = high_s = 0.0
    for block in blocks:
        if isinstance(block, float | int):
            low_s, high_s = low_s + block, high_s + block
        else:
            branches = [sum(branch) for branch in block]
            low_s, high_s = low_s + max(branches), high_s + sum(branches)
    return Bounds(low_s, high_s)
