"""What an estimate says: the network's latency, and what it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from costmodels.network_models.kernel_parts import MissingLaunches
from costmodels.network_models.kernel_sums import Total
from costmodels.networks.fused_graph import FusedGraph
from costmodels.networks.kernel_latency import KernelLatency

__all__ = ["SCHEDULES", "Estimate", "EstimatedKernel"]

SCHEDULES = {
    "default": "untuned",
    "database": "as tuned",
    "model": "with schedules that the model chose",
}
"""Of `EstimateOptions.schedules`: what a latency is of."""


@dataclass(frozen=True, slots=True)
class EstimatedKernel:
    """One kernel of an estimate.

    Attributes
    ----------
    name : str
        TVM's name for it.
    count : int
        How often the network calls it.
    latency : KernelLatency, optional
        Of one call; None where nothing is known.
    bound : str
        ``"compute"`` or ``"memory"``: what limits it at the device's peaks.
    note : str
        Why nothing is known, or how far the table's entry is.
    layers : tuple of str
        Layers of the user's network whose weights it reads, over all calls; as far as they are
        known.
    """

    name: str
    count: int
    latency: KernelLatency | None
    bound: str
    note: str = ""
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """The latency of a network, and what it is made of.

    Attributes
    ----------
    network : str
        Its name.
    graph : FusedGraph
        Its launches.
    total : Total, optional
        None while something is missing and a partial one was not asked for.
    has_interval : bool
        Whether the model gives intervals; without one that of the total means nothing.
    kernels : tuple of EstimatedKernel
        The largest share first; those of unknown latency at the end.
    unsupported : tuple of MissingLaunches
        What is missing.
    provenance : mapping
        Model, schedules, target, device, releases.
    """

    network: str
    graph: FusedGraph
    total: Total | None
    has_interval: bool
    kernels: tuple[EstimatedKernel, ...]
    unsupported: tuple[MissingLaunches, ...]
    provenance: Mapping[str, Any]

    @property
    def calibration(self) -> str:
        """What the model's errors on this device are known from.

        Returns
        -------
        str
            ``"networks"``, ``"kernels"`` alone, or ``"none"``.
        """
        overheads = self.provenance["overheads"]
        return next((each for each in ("networks", "kernels") if overheads[each]), "none")

    def as_json(self) -> dict[str, Any]:
        """The document that ``costmodels estimate --json`` prints."""
        total, interval = self.total, self.has_interval
        return {
            "network": self.network,
            "total_s": None if total is None else total.total_s,
            "low_s": None if total is None or not interval else total.low_s,
            "high_s": None if total is None or not interval else total.high_s,
            "kernels_s": None if total is None else total.kernels_s,
            "launches_s": None if total is None else total.launches_s,
            "cold_s": None if total is None else total.cold_s,
            "kernels": [_kernel_json(kernel, interval) for kernel in self.kernels],
            "unsupported": [
                {"name": each.name, "count": each.count, "reason": each.reason}
                for each in self.unsupported
            ],
            "provenance": dict(self.provenance),
        }


def _kernel_json(kernel: EstimatedKernel, has_interval: bool) -> dict[str, Any]:
    latency = kernel.latency
    interval = latency is not None and (has_interval or latency.source == "measured")
    return {
        "name": kernel.name,
        "count": kernel.count,
        "latency_s": None if latency is None else latency.latency_s,
        "low_s": latency.low_s if latency is not None and interval else None,
        "high_s": latency.high_s if latency is not None and interval else None,
        "source": None if latency is None else latency.source,
        "bound": kernel.bound,
        "note": kernel.note,
        "layers": list(kernel.layers),
    }
