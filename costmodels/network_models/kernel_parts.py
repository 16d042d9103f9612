"""What a kernel model says of each kernel of a network, and what it cannot say."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from costmodels.device import Device
from costmodels.features.operator_costs import kernel_cost
from costmodels.kernel import KernelBatch
from costmodels.learning.calibration import NORMAL_REACH
from costmodels.network_models.kernel_sums import Total
from costmodels.network_models.overheads import Overheads
from costmodels.networks.fused_graph import FusedGraph
from costmodels.networks.kernel_latency import KernelLatency, predicted_latencies
from costmodels.networks.sample import LaunchedKernels
from costmodels.protocol import KernelCostModel, LooksUp

__all__ = ["KernelParts", "KernelSum", "MissingLaunches", "missing_launches"]

FILLED = "it writes constants: its bytes over the bandwidth"
FILLED_WITHIN = 4.0
"""Times as long or short as memory needs for the bytes; caches are faster, plain loops slower."""


@dataclass(frozen=True, slots=True)
class MissingLaunches:
    """Launches that are not in a total: name, how many, and why."""

    name: str
    count: int
    reason: str


@dataclass(frozen=True)
class KernelSum:
    """What a network's latency is made of.

    Parameters
    ----------
    total : Total
        Of what is known.
    kernels : mapping
        Name -> latency of one call with the interval that holds for it alone.
    notes : mapping
        Name -> how its latency came about, or why it has none, where that is to be told.
    missing : tuple of MissingLaunches
        What the total is without.
    """

    total: Total
    kernels: Mapping[str, KernelLatency]
    notes: Mapping[str, str]
    missing: tuple[MissingLaunches, ...]


@dataclass
class KernelParts:
    """The kernels of a network, as they become known.

    Parameters
    ----------
    kernels : LaunchedKernels
        The network.
    device : Device
        What it runs on.
    overheads : Overheads
        Of the device; the bias and the discrepancy count here.
    known, shown, notes
        Name of a kernel -> its latency in the sum; its latency by itself; how it came about.
    """

    kernels: LaunchedKernels
    device: Device
    overheads: Overheads
    known: dict[str, KernelLatency] = field(default_factory=dict)
    shown: dict[str, KernelLatency] = field(default_factory=dict)
    """Those whose interval alone is wider than in the sum, which has a term for that."""
    notes: dict[str, str] = field(default_factory=dict)

    def predict(self, model: KernelCostModel) -> None:
        """Ask a model for all that was not measured."""
        names, batch = self.kernels.names, self.kernels.batch
        self.known = {name: each for name, each in self.kernels.measured.items() if name in names}
        asked_for = [place for place, name in enumerate(names) if name not in self.known]
        asked = batch.take(asked_for)
        prediction = model.predict(asked)
        predicted = predicted_latencies(prediction)
        notes = {problem.kernel: problem.reason for problem in prediction.unsupported}
        if isinstance(model, LooksUp):
            notes |= _looked_up(model, asked, predicted)
        if self.overheads.discrepancy is not None:
            predicted = self.overheads.discrepancy.corrected(asked, predicted)
        scale = math.exp(self.overheads.bias)
        empty = {each.name for each in self.kernels.graph.launches if not each.output_bytes}
        for place, kernel in enumerate(asked_for):
            name, latency = names[kernel], predicted[place]
            if latency is not None:
                is_predicted = latency.source == "predicted"
                self.known[name] = latency.times(scale) if is_predicted else latency
                error = self.overheads.device_error
                self.shown[name] = _of_unseen_device(self.known[name], error)
            if note := notes.get(place):
                self.notes[name] = note
            if latency is None and name in empty:
                self.notes[name] = "it writes a tensor without elements"
            elif latency is None and not asked.row_counts[place] and asked.graphs:
                self.known[name] = self.shown[name] = _filled(batch, kernel, self.device)
                self.notes[name] = FILLED


def _of_unseen_device(latency: KernelLatency, device_error: float) -> KernelLatency:
    """A prediction with the interval that holds on a device that the model never saw."""
    if latency.source != "predicted" or not device_error:
        return latency
    reach = NORMAL_REACH * math.hypot(latency.deviation, device_error)
    middle = math.sqrt(latency.low_s * latency.high_s)
    low_s, high_s = middle * math.exp(-reach), middle * math.exp(reach)
    return replace(latency, low_s=min(low_s, latency.low_s), high_s=max(high_s, latency.high_s))


def _looked_up(
    model: LooksUp, batch: KernelBatch, predicted: list[KernelLatency | None]
) -> dict[int, str]:
    """Name the entries that are the kernel itself, in place, and the distance of the others."""
    notes = {}
    for place, found in enumerate(model.look_up(batch)):
        latency = predicted[place]
        if found is None or latency is None:
            continue
        if found.distance == 0:
            predicted[place] = replace(latency, source="looked up")
        else:
            notes[place] = f"nearest entry at distance {found.distance:.1f}"
    return notes


def _filled(batch: KernelBatch, kernel: int, device: Device) -> KernelLatency:
    """Of a kernel that writes only constants: TVM extracts no features of such a program."""
    assert batch.graph_index is not None
    cost = kernel_cost(batch.graphs[batch.graph_index[kernel]].graph)
    seconds = cost.moved_bytes / device.bandwidth_byte_per_s
    return KernelLatency(
        seconds, seconds / FILLED_WITHIN, seconds * FILLED_WITHIN, source="predicted"
    )


def missing_launches(
    graph: FusedGraph, known: Mapping[str, KernelLatency], notes: Mapping[str, str]
) -> tuple[MissingLaunches, ...]:
    """Launches of a network that have no latency, each with the reason."""
    found = [
        MissingLaunches(name, count, notes.get(name) or "the model has no seconds for it")
        for name, count in graph.counts("kernel").items()
        if name not in known
    ]
    for kind in ("library", "unsupported"):
        reasons = {each.name: each.reason for each in graph.launches if each.kind == kind}
        found += [MissingLaunches(n, count, reasons[n]) for n, count in graph.counts(kind).items()]
    return tuple(found)
