"""The latency of a network as the sum of its kernels, and what a sum leaves out.

Between two kernels the virtual machine dispatches and allocates; weights that a kernel finds in its
core's cache while it is measured over and over come from further away in a network; threads find
what the other ones wrote in their caches; and the errors of a model on the kernels of one network
go together: see `costmodels.network_models.overheads`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from costmodels.device import Device
from costmodels.kernel import FloatArray
from costmodels.learning.calibration import NORMAL_REACH
from costmodels.network_models.overheads import NO_OVERHEADS, THREADS_FROM_S, Overheads
from costmodels.networks.fused_graph import FusedGraph
from costmodels.networks.kernel_latency import KernelLatency


@dataclass(frozen=True, slots=True)
class Total:
    """Latency of a whole network.

    Parameters
    ----------
    total_s, low_s, high_s : float
        The interval holds 90 %.
    kernels_s, launches_s, cold_s : float
        What `total_s` is made of.
    """

    total_s: float
    low_s: float
    high_s: float
    kernels_s: float
    launches_s: float
    cold_s: float


def add_up(
    graph: FusedGraph,
    kernels: Mapping[str, KernelLatency],
    device: Device,
    overheads: Overheads = NO_OVERHEADS,
) -> Total:
    """Add up the kernels of a network and what lies between them.

    Parameters
    ----------
    graph : FusedGraph
        The network.
    kernels : mapping
        Name -> latency. Launches without one are left out: what that means is the caller's to say.
    device : Device
        What it runs on.
    overheads : Overheads
        Of the target; nothing by default, and then this is a plain sum.

    Returns
    -------
    Total
    """
    counts = {name: count for name, count in graph.counts("kernel").items() if name in kernels}
    is_predicted = np.array([kernels[name].source == "predicted" for name in counts], bool)
    scale = np.where(is_predicted, math.exp(overheads.bias), 1.0)
    parts = scale * [count * kernels[name].latency_s for name, count in counts.items()]
    deviations = np.array([kernels[name].deviation for name in counts])
    factor = np.where(is_predicted, overheads.unseen_factor, 1.0)
    known = [
        launch for launch in graph.launches if launch.kind == "kernel" and launch.name in counts
    ]
    threaded = sum(on_threads(kernels[each.name].latency_s, device) for each in known)
    launches_s = overheads.launch_s.value * len(known) + overheads.threads_s.value * threaded
    cold_s_at_peak = cold_bytes(graph, device) / device.bandwidth_byte_per_s
    cold_s = overheads.cold_share.value * cold_s_at_peak
    kernels_s = float(parts.sum())
    total_s = kernels_s + launches_s + cold_s
    if not total_s > 0:
        return Total(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    variance = (
        _variance(parts * factor, deviations, overheads.common_error)
        + (overheads.launch_s.deviation * len(known)) ** 2
        + (overheads.threads_s.deviation * threaded) ** 2
        + (overheads.cold_share.deviation * cold_s_at_peak) ** 2
        + (overheads.residual * total_s) ** 2
        + float(parts[is_predicted].sum()) ** 2 * math.expm1(overheads.device_error**2)
    )
    # Of the logarithm: a latency has no negative side, and errors of models are factors.
    reach = NORMAL_REACH * math.sqrt(math.log1p(variance / total_s**2))
    low_s, high_s = total_s * math.exp(-reach), total_s * math.exp(reach)
    return Total(total_s, low_s, high_s, kernels_s, launches_s, cold_s)


def on_threads(latency_s: float, device: Device) -> float:
    """How far a scheduled kernel that takes so long is taken to run on several threads: 0 to 1."""
    return min(1.0, latency_s / THREADS_FROM_S) if device.cores > 1 else 0.0


def _variance(parts: FloatArray, deviations: FloatArray, correlation: float) -> float:
    """Of a sum of log-normal parts whose errors are correlated."""
    each = parts * np.sqrt(np.expm1(np.minimum(deviations, 3.0) ** 2))
    together, alone = float(each.sum()) ** 2, float((each**2).sum())
    return correlation * together + (1.0 - correlation) * alone


def cold_bytes(graph: FusedGraph, device: Device) -> float:
    """Weights that a kernel finds in the second-level caches in a loop of its own, but not here.

    Those of one launch count up to what these caches hold, of which each core has one: of more it
    finds nothing in a loop either. What an earlier launch has read is nearer than memory.
    A network whose weights all fit finds them, run after run.

    Parameters
    ----------
    graph : FusedGraph
        The network.
    device : Device
        What it runs on.
    """
    caches = device.l2_bytes * device.cores
    held = sum(min(each.constant_bytes - each.tied_bytes, caches) for each in graph.launches)
    return float(max(0, held - caches))


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network that was measured, and what is known of its kernels.

    Parameters
    ----------
    graph : FusedGraph
        The network.
    device : Device
        What it ran on.
    latency_s : float
        Of the whole.
    measured, predicted : mapping
        Name of a kernel -> latency; the latter may be empty.
    """

    graph: FusedGraph
    device: Device
    latency_s: float
    measured: Mapping[str, KernelLatency]
    predicted: Mapping[str, KernelLatency]
