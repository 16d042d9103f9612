"""Made-up networks to check and test network models with, the same on every machine."""

from dataclasses import replace

import numpy as np

from costmodels.kernel import Failure, Measured, Measurement
from costmodels.networks.fused_graph import FusedGraph, Launch
from costmodels.networks.graph import (
    AttributeValue,
    NetworkGraph,
    NetworkOperator,
    TensorType,
)
from costmodels.networks.kernel_latency import measured_latency
from costmodels.networks.opcodes import INPUT
from costmodels.networks.sample import LaunchedKernels, NetworkDataset, NetworkSample
from costmodels.testing.example_data import example_dataset

LAUNCH_S = 2e-6
"""That each launch of a made-up network takes beside its kernel."""


def example_networks(
    rng: np.random.Generator, *, networks: int = 24, failures: bool = True, first: int = 0
) -> NetworkDataset:
    """Made-up networks with operators and kernels, whose latency is nearly the sum of the latter.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws everything.
    networks : int
        How many.
    failures : bool
        Whether one in eight could not be run.
    first : int
        Number of the first network, for data sets of different ones.
    """
    samples, measurements = [], []
    for number in range(first, first + networks):
        depth = int(rng.integers(2, 6))
        sample, latency_s = _network(number, depth, rng)
        samples.append(sample)
        noise = float(np.exp(rng.normal(scale=0.02)))
        measurement: Measurement = Measured((latency_s * noise,))
        if failures and number % 8 == 7:
            measurement = Failure("run", "made up")
        measurements.append(measurement)
    return NetworkDataset(tuple(samples), tuple(measurements))


def _network(number: int, depth: int, rng: np.random.Generator) -> tuple[NetworkSample, float]:
    """A chain of kernels, some of them launched twice, and its seconds."""
    kernels = example_dataset(
        rng, tasks=depth, kernels_per_task=1, failures=False, first_task=number * 8
    )
    names = tuple(f"kernel{place}" for place in range(depth))
    launched = [name for place, name in enumerate(names) for _ in range(1 + place % 2)]
    launches = tuple(
        Launch(name, "kernel", (place - 1,) if place else (), 1 << 12, 1 << 12)
        for place, name in enumerate(launched)
    )
    alone = {
        name: measured_latency(each)
        for name, each in zip(names, kernels.measurements, strict=True)
        if isinstance(each, Measured)
    }
    latency_s = sum(alone[name].latency_s + LAUNCH_S for name in launched)
    sample = NetworkSample(
        f"network {number}",
        kernels.batch.tasks[0].device,
        _operators(latency_s, depth, number),
        LaunchedKernels(FusedGraph(launches), names, kernels.batch, alone),
    )
    return sample, latency_s


def _operators(latency_s: float, depth: int, number: int) -> NetworkGraph:
    """Two branches of convolutions that meet, as wide as the network is slow."""
    channels = max(1, round(latency_s * 1e6))
    image = TensorType((1, channels, 14, 14), "float32")
    weight = TensorType((channels, channels, 3, 3), "float32")
    window: dict[str, AttributeValue] = {
        "kernel_shape": (3, 3),
        "strides": (1, 1),
        "pads": (1, 1, 1, 1),
        "group": 1,
    }
    operators = [NetworkOperator(INPUT, (), (image,), name="image")]
    ends = []
    for branch in range(2):
        last = 0
        for layer in range(depth):
            name = f"{number}.{branch}.{layer}"
            operators.append(
                NetworkOperator(
                    "Conv", ((last, 0),), (image,), (weight,), attributes=window, name=name
                )
            )
            operators.append(NetworkOperator("Relu", ((len(operators) - 1, 0),), (image,)))
            last = len(operators) - 1
        ends.append((last, 0))
    operators.append(NetworkOperator("Add", tuple(ends), (image,), name="meet"))
    return NetworkGraph(tuple(operators), f"network {number}")


def with_unknown_operator(network: NetworkSample) -> NetworkSample:
    """The same with an operator that no vocabulary has, and a launch that nothing is known of."""
    graph, kernels = network.graph, network.kernels
    if graph is not None:
        last = len(graph) - 1
        strange = NetworkOperator("made.Up", ((last, 0),), graph.operators[last].outputs)
        graph = replace(graph, operators=(*graph.operators, strange))
    if kernels is not None:
        launch = Launch("made_up", "unsupported", (), 0, 4, "nobody knows it")
        launches = (*kernels.graph.launches, launch)
        kernels = replace(kernels, graph=FusedGraph(launches))
    return replace(network, graph=graph, kernels=kernels)


def reordered(network: NetworkSample) -> NetworkSample:
    """The same network in another topological order, with other names of its operators."""
    if network.graph is None:
        return replace(network, name="renamed")
    graph = network.graph
    waiting = {number: {s for s, _ in each.inputs} for number, each in enumerate(graph.operators)}
    order: list[int] = []
    while waiting:
        ready = max(number for number, sources in waiting.items() if sources <= set(order))
        order.append(ready)
        del waiting[ready]
    other = graph.reordered(order)
    renamed = tuple(
        replace(each, name=f"other {place}") for place, each in enumerate(other.operators)
    )
    return replace(network, name="renamed", graph=replace(other, operators=renamed))
