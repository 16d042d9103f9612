"""Networks whose kernels follow each other, and what is known of these."""

from costmodels.networks.fused_graph import FusedGraph, Launch
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.testing.example_data import example_device

MB = 1 << 20
DEVICE = example_device()
CACHES = DEVICE.l2_bytes * DEVICE.cores


def chain(*names: str, constant_bytes: int = 0) -> FusedGraph:
    launches = [
        Launch(name, "kernel", (number - 1,) if number else (), constant_bytes, 4)
        for number, name in enumerate(names)
    ]
    return FusedGraph(tuple(launches))


def known(latency_s: float, width: float = 1.0, source: str = "predicted") -> KernelLatency:
    return KernelLatency(latency_s, latency_s / width, latency_s * width, source)
