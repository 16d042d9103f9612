"""What a network will take once it is tuned, and how long that takes: without tuning it."""

from collections.abc import Mapping
from dataclasses import replace

from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph
from costmodels.network_models.overheads import Overheads, Parameter
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.tuned_latency.networks import shipped_model
from tvm_integration.compile.vector_math import may_be_rewritten, rewrite_module
from tvm_integration.estimate.network_features import NetworkFeatures
from tvm_integration.estimate.result import TunedEstimate
from tvm_integration.tir.kernel_graph import kernel_graph

IN_NETWORK = Overheads(launch_s=Parameter(1e-6, 1e-6), residual=0.1)
"""What sums of kernels leave out that were measured as in their network: -11
to 16 % of seven networks (`scripts/benchmark_in_network.py`, 2026-12-01), by eye."""
SECONDS_PER_TRIAL = 0.5
"""Searching, building and running, in batches of 16, on two cores of an Intel Xeon (2026-12-01):
0.33 with light kernels, 0.7 with convolutions."""


def estimate_tuned(
    network: NetworkFeatures,
    device: Device,
    trials: int,
    untuned: Mapping[str, KernelLatency],
) -> TunedEstimate:
    """Estimate a network as `costmodels tune --trials-each` leaves it.

    Parameters
    ----------
    network : NetworkFeatures
        From `describe_network`.
    device : Device
        A CPU.
    trials : int
        Of each kernel that takes more than 1 % of the network, at least 1.
    untuned : mapping
        Name -> latency without a schedule: what kernels keep that no schedule changes.

    Raises
    ------
    InputError
        When the device is no CPU, or there are no trials.
    """
    if device.kind != "cpu":
        raise InputError(
            f"the latency after tuning is known of CPUs alone, got {device.name}, a {device.kind}: "
            "take schedules model, or tune it"
        )
    model = shipped_model()
    described = tuned_graphs(network)
    kept = {name: each for name, each in untuned.items() if name not in described}
    found = model.explain(network.graph, described, device, trials, kept)
    tried = sum(found.trials.values())
    return TunedEstimate(
        trials,
        found.total,
        found.kernels,
        SECONDS_PER_TRIAL * tried,
        device.name in model.devices,
        model.overheads,
    )


def between_tuned_kernels(overheads: Overheads) -> Overheads:
    """What the sum of a tuning run's kernels, measured as in their network, leaves out.

    Parameters
    ----------
    overheads : Overheads
        Typical, or calibrated on unscheduled networks, whose kernels found all data in the nearest
        cache, and take so long that little of what lies between them shows.

    Returns
    -------
    Overheads
        Launches alone: cold weights, and what threads find in each other's caches, are measured.
    """
    return replace(
        overheads,
        launch_s=IN_NETWORK.launch_s,
        cold_share=IN_NETWORK.cold_share,
        threads_s=IN_NETWORK.threads_s,
        residual=max(overheads.residual, IN_NETWORK.residual),
    )


def tuned_graphs(network: NetworkFeatures) -> dict[str, KernelGraph]:
    """Name -> what each kernel computes as it is tuned: with vector math.

    Kernels without any computation, as of a tensor without elements, are left out.
    """
    graphs = {}
    for kernel, program in zip(network.kernels, network.graphs, strict=True):
        graph = program.graph
        if may_be_rewritten(kernel.workload):
            graph = kernel_graph(rewrite_module(kernel.mod))
        if any(each.opcode != "parameter" for each in graph.operators):
            graphs[kernel.name] = graph
    return graphs
