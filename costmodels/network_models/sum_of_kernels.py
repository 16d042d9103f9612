"""The latency of a network as the sum of its kernels, and what a sum leaves out.

Between two kernels the virtual machine dispatches and allocates; weights that a kernel finds in its
core's cache while it is measured over and over come from further away in a network; and the errors
of a model on the kernels of one network go together. Each of these is one number, fitted on whole
networks: see `costmodels.network_models.overheads_fit`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.kernel import FloatArray
from costmodels.learning.calibration import NORMAL_REACH
from costmodels.network_models.discrepancy import Discrepancy
from costmodels.network_models.kernel_latency import KernelLatency
from costmodels.networks.fused_graph import FusedGraph

MAX_PARAMETER = 1e3
"""Seconds of a launch, or times the bytes of cold weights: more is a damaged file."""
MIN_RESIDUAL = 0.01
"""Of a network's latency: what is left unexplained where nothing is known of it."""


def _check(name: str, value: Any, least: float, most: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= most or value == math.inf:
        bounds = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
        raise InputError(f"{name} of overheads must be a number {bounds}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A fitted number and its standard deviation."""

    value: float = 0.0
    deviation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("value", "deviation"):
            _check(name, getattr(self, name), 0.0, MAX_PARAMETER)


@dataclass(frozen=True, slots=True)
class Overheads:
    """What a sum of kernels leaves out, on one target.

    Parameters
    ----------
    launch_s : Parameter
        Seconds of a launch beyond the kernel: dispatch, allocation.
    cold_share : Parameter
        Share of the time that fetching cold weights at the device's bandwidth takes, by which a
        kernel takes longer than in a loop. May be above 1.
    residual : float
        Standard deviation of what is then left unexplained, over the network's latency.
    common_error : float
        Correlation of the errors of predicted kernels of one network, 0 to 1.
    bias : float
        Log of the measured over the predicted sum, on average, as far as it is believed: for
        models that are off on a target as a whole. It counts for predicted kernels alone.
    unseen_factor : float
        Times the deviation of the sum of predicted kernels: how much farther off networks of
        families are that the model never saw; see `costmodels.network_models.unseen_families`.
    device_error : float
        Standard deviation of the log of the factor by which all predicted kernels are off together;
        on a device that the model never saw and that was not calibrated.
    networks : int
        On how many it was fitted; 0 for what is assumed.
    kernels : int
        On how many kernels, measured alone, the bias was fitted where no whole network was.
    disturbance : float
        How much longer the same program took at its slowest than at its fastest while all this
        was measured: 0.2 is a fifth.
    discrepancy : Discrepancy, optional
        By which factors predictions of untuned kernels are off, before the bias. It is the caller
        of `add_up` who corrects them.
    """

    launch_s: Parameter = Parameter()
    cold_share: Parameter = Parameter()
    residual: float = MIN_RESIDUAL
    common_error: float = 0.5
    bias: float = 0.0
    unseen_factor: float = 1.0
    device_error: float = 0.0
    networks: int = 0
    kernels: int = 0
    disturbance: float = 0.0
    discrepancy: Discrepancy | None = None

    def __post_init__(self) -> None:
        _check("residual", self.residual, 0.0, 10.0)
        _check("common_error", self.common_error, 0.0, 1.0)
        _check("bias", self.bias, -20.0, 20.0)
        _check("unseen_factor", self.unseen_factor, 0.0, MAX_PARAMETER)
        _check("device_error", self.device_error, 0.0, 10.0)
        _check("networks", self.networks, 0, math.inf)
        _check("kernels", self.kernels, 0, math.inf)
        _check("disturbance", self.disturbance, 0.0, math.inf)

    @property
    def is_calibrated(self) -> bool:
        """Whether anything of it was measured on the device."""
        return self.networks > 0 or self.kernels > 0

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `as_dict`.

        Raises
        ------
        InputError
            When a value is missing or of another kind.
        """
        try:
            both = {name: Parameter(**values[name]) for name in ("launch_s", "cold_share")}
            told = values.get("discrepancy")
            discrepancy = None if told is None else Discrepancy.from_dict(told)
            return cls(**{**values, **both, "discrepancy": discrepancy})
        except (KeyError, TypeError) as error:
            raise InputError(f"overheads must have all their fields, got {error!r}") from None


NO_OVERHEADS = Overheads()
"""The plain sum."""
DEFAULT_OVERHEADS = Overheads(
    launch_s=Parameter(0.4e-6, 0.5e-6), cold_share=Parameter(0.5, 0.5), residual=0.06
)
"""Of a CPU that was never calibrated: what fits the networks of `shipped:networks` with chosen
schedules, which ran on one thread, with room for other machines; the residual is 0.02 with default
ones."""
UNSEEN_DEVICE_ERROR = 0.45
"""`Overheads.device_error` where a model never saw the device. The logs of 25 networks of timm on a
Zen 4 that was left out of training (2026-11-29) have a root mean square of 0.12, those of seven on
an Intel Xeon that earlier models did not know one of 0.23; but 14 on a Zen 4 that models of one
thread hardly knew were off by a factor of 1.53 at the median, and on one core of a Zen 5 without
AVX networks are off by one of 2.2, beyond what this allows for."""


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
    launches_s = overheads.launch_s.value * len(known)
    cold_s_at_peak = cold_bytes(graph, device) / device.bandwidth_byte_per_s
    cold_s = overheads.cold_share.value * cold_s_at_peak
    kernels_s = float(parts.sum())
    total_s = kernels_s + launches_s + cold_s
    if not total_s > 0:
        return Total(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    variance = (
        _variance(parts * factor, deviations, overheads.common_error)
        + (overheads.launch_s.deviation * len(known)) ** 2
        + (overheads.cold_share.deviation * cold_s_at_peak) ** 2
        + (overheads.residual * total_s) ** 2
        + float(parts[is_predicted].sum()) ** 2 * math.expm1(overheads.device_error**2)
    )
    # Of the logarithm: a latency has no negative side, and errors of models are factors.
    reach = NORMAL_REACH * math.sqrt(math.log1p(variance / total_s**2))
    low_s, high_s = total_s * math.exp(-reach), total_s * math.exp(reach)
    return Total(total_s, low_s, high_s, kernels_s, launches_s, cold_s)


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
