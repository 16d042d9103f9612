"""Kernels and networks as if they had been tuned: what models of tuned latencies learn in tests."""

import numpy as np

from costmodels.device import Device, read_device
from costmodels.features.kernel_graph import KernelGraph, Operator
from costmodels.networks.fused_graph import FusedGraph, Launch
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.tuned_latency.kernels import TunedKernel, bound_s
from costmodels.tuned_latency.networks import TunedNetwork

ZEN4, XEON = read_device("amd-epyc-zen4-2-cores"), read_device("intel-xeon-2-cores")
LAUNCH_S = 5e-6
"""Beside each kernel of a network."""


def matmul(m: int, n: int, k: int) -> KernelGraph:
    """With a ReLU after it."""
    return KernelGraph(
        (
            Operator("parameter", "float32", (m, k)),
            Operator("parameter", "float32", (k, n)),
            Operator(
                "matmul", "float32", (m, n), spatial=(m, n), reduction=(k,),
                operations={"add": 1, "mul": 1},
            ),
            Operator("relu", "float32", (m, n), spatial=(m, n), operations={"max": 1}),
        ),
        ((0, 2), (1, 2), (2, 3)),
    )  # fmt: skip


def tuned(
    graph: KernelGraph, group: str, rng: np.random.Generator, device: Device = ZEN4
) -> TunedKernel:
    """Twice its bound at best; the first programs are far worse."""
    best = 2 * bound_s(graph, device) * np.exp(rng.normal(0, 0.1))
    run_s = best * (1 + rng.exponential(2.0, 64))
    run_s[rng.integers(8, 64)] = best
    return TunedKernel(graph, device, tuple(run_s.tolist()), group)


def network(number: int, rng: np.random.Generator, device: Device = ZEN4) -> TunedNetwork:
    """Each launch takes so much longer than its kernel alone; the last kernel hardly matters."""
    family = f"family {number % 8}"
    sizes = [*(2 ** rng.integers(5, 11, (5, 3))).tolist(), [4, 4, 4]]
    kernels = {
        f"{number}.{i}": tuned(matmul(*size), family, rng, device) for i, size in enumerate(sizes)
    }
    launches = tuple(
        Launch(name, "kernel", (place - 1,) if place else (), 0, 64)
        for place, name in enumerate(kernels)
    )
    best = {name: min(kernel.run_s) for name, kernel in kernels.items()}
    return TunedNetwork(
        FusedGraph(launches),
        device,
        sum(best.values()) + LAUNCH_S * len(launches),
        kernels,
        {name: KernelLatency(s, s / 1.01, s * 1.01, "measured") for name, s in best.items()},
        64,
        family,
    )
