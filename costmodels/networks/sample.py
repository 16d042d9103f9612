"""Networks as models of whole networks see them, and what such models say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from costmodels.checks import require_type
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.kernel import FloatArray, KernelBatch, Measured, Measurement, check_prediction
from costmodels.networks.fused_graph import FusedGraph
from costmodels.networks.graph import NetworkGraph
from costmodels.networks.kernel_latency import KernelLatency

__all__ = [
    "LaunchedKernels",
    "NetworkDataset",
    "NetworkPrediction",
    "NetworkSample",
    "UnsupportedNetwork",
]


@dataclass(frozen=True)
class LaunchedKernels:
    """A network after fusion: its launches, and the program of each kernel.

    Parameters
    ----------
    graph : FusedGraph
        The launches.
    names : tuple of str
        Of the kernels in `batch`, as launches call them, each once.
    batch : KernelBatch
        One program of each, with graphs.
    measured : mapping
        Name -> latency, of kernels that were measured alone; any of them, or none.

    Raises
    ------
    InputError
        When names and programs differ in number, or a launched kernel has no program.
    """

    graph: FusedGraph
    names: tuple[str, ...]
    batch: KernelBatch
    measured: Mapping[str, KernelLatency] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.names) != len(self.batch) or len(set(self.names)) != len(self.names):
            raise InputError(
                f"names must be one per kernel ({len(self.batch)}), each another, got "
                f"{len(self.names)}, {len(set(self.names))} of them different"
            )
        missing = sorted(self.graph.counts("kernel").keys() - set(self.names))
        if missing:
            raise InputError(
                f"every launched kernel must have a program, got none for {missing[0]}"
            )


@dataclass(frozen=True)
class NetworkSample:
    """A network on a device.

    Parameters
    ----------
    name : str
        For people.
    device : Device
        What it runs on.
    graph : NetworkGraph, optional
        Its operators before fusion.
    kernels : LaunchedKernels, optional
        Its kernels after fusion.

    Raises
    ------
    InputError
        When neither is given.
    """

    name: str
    device: Device
    graph: NetworkGraph | None = None
    kernels: LaunchedKernels | None = None

    def __post_init__(self) -> None:
        if self.graph is None and self.kernels is None:
            raise InputError(f"network {self.name} must have its operators or its kernels")


@dataclass(frozen=True)
class NetworkDataset:
    """Networks with what was measured of each.

    Parameters
    ----------
    networks : tuple of NetworkSample
        The networks.
    measurements : tuple of Measurement
        One per network.

    Raises
    ------
    InputError
        When the two have different lengths.
    """

    networks: tuple[NetworkSample, ...]
    measurements: tuple[Measurement, ...]

    def __post_init__(self) -> None:
        if len(self.networks) != len(self.measurements):
            raise InputError(
                f"measurements must be one per network ({len(self.networks)}), "
                f"got {len(self.measurements)}"
            )
        for kind, values in ((NetworkSample, self.networks), (Measurement, self.measurements)):
            for each in values:
                require_type("a network, or what was measured of it,", each, kind)

    def __len__(self) -> int:
        return len(self.networks)

    @cached_property
    def measured(self) -> NDArray[np.bool_]:
        """bool [networks]; which ran."""
        return np.array([isinstance(each, Measured) for each in self.measurements], bool)

    @cached_property
    def log_latency(self) -> FloatArray:
        """float64 [networks]; natural logarithm of the seconds, NaN where one failed."""
        seconds = [m.latency_s if isinstance(m, Measured) else np.nan for m in self.measurements]
        return np.log(np.array(seconds, np.float64))

    def take(self, networks: Sequence[int] | NDArray[np.integer]) -> "NetworkDataset":
        """Some of the networks, in the order given."""
        return NetworkDataset(
            tuple(self.networks[each] for each in networks),
            tuple(self.measurements[each] for each in networks),
        )


@dataclass(frozen=True, slots=True)
class UnsupportedNetwork:
    """A network that a model cannot handle.

    Parameters
    ----------
    network : int
        Position among those asked for.
    part : str
        The kernel or operator that is to blame; empty for the network as a whole.
    reason : str
        For people.
    """

    network: int
    part: str
    reason: str


@dataclass(frozen=True)
class NetworkPrediction:
    """What a model says of networks.

    Parameters
    ----------
    utility : numpy.ndarray
        float64 [networks], finite; higher is faster. It orders networks on one device. 0 for an
        unsupported network.
    latency_s : numpy.ndarray, optional
        float64 [networks], seconds; NaN for an unsupported network. None from a model that only
        ranks.
    low_s, high_s : numpy.ndarray, optional
        float64 [networks]; interval around `latency_s`, from models that claim one.
    coverage : float, optional
        Share of networks whose latency the interval is meant to hold.
    unsupported : tuple of UnsupportedNetwork
        Networks that the model cannot handle, each with at least one reason.

    Raises
    ------
    InputError
        When lengths differ or an interval comes without its coverage.
    """

    utility: FloatArray
    latency_s: FloatArray | None = None
    low_s: FloatArray | None = None
    high_s: FloatArray | None = None
    coverage: float | None = None
    unsupported: tuple[UnsupportedNetwork, ...] = ()

    def __post_init__(self) -> None:
        check_prediction(self)

    def __len__(self) -> int:
        return len(self.utility)
