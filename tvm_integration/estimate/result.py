"""What an estimate says: the network's latency, and what it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from costmodels.network_models.kernel_parts import MissingLaunches
from costmodels.network_models.kernel_sums import Total
from costmodels.network_models.overheads import Overheads
from costmodels.networks.fused_graph import FusedGraph
from costmodels.networks.kernel_latency import KernelLatency

__all__ = ["MANY_TRIALS", "SCHEDULES", "TRIALS", "Estimate", "EstimatedKernel", "TunedEstimate"]

SCHEDULES = {
    "default": "untuned",
    "database": "as tuned",
    "model": "with schedules that the model chose",
    "tuned": "tuned",
}
"""Of `EstimateOptions.schedules`: what a latency is of."""
TRIALS = 64
"""Of each kernel that matters, for an estimate of what tuning will reach."""
MANY_TRIALS = 1000
"""Of each, for one that is told beside it."""


@dataclass(frozen=True)
class TunedEstimate:
    """A network after tuning.

    Attributes
    ----------
    trials : int
        Of each kernel that matters.
    total : Total, optional
        Latency of the network; None while something is missing and a partial one was not asked for.
    kernels : mapping
        Name -> latency of one call.
    tuning_s : float
        How long tuning takes, roughly.
    is_learned : bool
        Whether any network was tuned on such a processor to learn from.
    overheads : Overheads
        What the kernels leave out, fitted on tuned networks.
    """

    trials: int
    total: Total | None
    kernels: Mapping[str, KernelLatency]
    tuning_s: float
    is_learned: bool
    overheads: Overheads

    def as_json(self) -> dict[str, Any]:
        """Part of the document that ``costmodels estimate --json`` prints."""
        total = self.total
        return {
            "trials": self.trials,
            "total_s": None if total is None else total.total_s,
            "low_s": None if total is None else total.low_s,
            "high_s": None if total is None else total.high_s,
            "tuning_s": self.tuning_s,
            "is_learned": self.is_learned,
            "kernels": {
                name: {"latency_s": k.latency_s, "low_s": k.low_s, "high_s": k.high_s}
                for name, k in self.kernels.items()
            },
        }


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
    tuned : tuple of TunedEstimate
        The same network after tuning, with few trials first; nothing on a GPU.
    """

    network: str
    graph: FusedGraph
    total: Total | None
    has_interval: bool
    kernels: tuple[EstimatedKernel, ...]
    unsupported: tuple[MissingLaunches, ...]
    provenance: Mapping[str, Any]
    tuned: tuple[TunedEstimate, ...] = ()

    @property
    def what(self) -> str:
        """What the total is of, in words."""
        schedules = self.provenance["schedules"]
        if schedules == "tuned":
            return f"after {self.tuned[0].trials:,} trials of each kernel that matters"
        return SCHEDULES[schedules]

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
            "tuned": [each.as_json() for each in self.tuned],
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
