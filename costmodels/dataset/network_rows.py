"""What one row of the table of whole networks says, and its Arrow schema."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Self, TypeAlias

import pyarrow as pa

from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.json_text import from_values, parse_json
from costmodels.kernel import Measured
from costmodels.networks.fused_graph import FusedGraph

SCHEDULES = ("default", "model", "tuned")
"""Programs as TVM builds them unscheduled; chosen by a cost model without measuring; the fastest of
a tuning run, with vector math and rearranged weights, as `costmodels tune` builds them."""


NetworkIdentity: TypeAlias = tuple[str, str, str, bool]
"""Network, target, schedules, whether it is fused."""


def drift_of(run_s: Sequence[float]) -> float:
    """How much longer a network took before its kernels were measured than after, or the other way.

    Parameters
    ----------
    run_s : sequence of float
        Seconds of its repeats, the half of them before.

    Returns
    -------
    float
        0.2 is a fifth.

    Examples
    --------
    >>> drift_of([2.0, 2.0, 9.0, 1.0, 1.0, 1.0])
    1.0
    """
    half = len(run_s) // 2
    before, after = median(run_s[:half]), median(run_s[half:])
    return max(before / after, after / before) - 1


@dataclass(frozen=True, slots=True)
class MeasuredKernel:
    """A kernel of a network, measured alone while the network was.

    Parameters
    ----------
    task : str
        Key of its task.
    program : int
        Structural hash of the program that the network was built with.
    run_s : tuple of float
        Seconds of each repeat.
    """

    task: str
    program: int
    run_s: tuple[float, ...]

    @property
    def latency_s(self) -> float:
        """Median of the repeats."""
        return Measured(self.run_s).latency_s


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A whole network and what was measured of it, end to end and kernel by kernel.

    Parameters
    ----------
    network : str
        Its name: the MODEL that it was made from.
    target : str
        As TVM's JSON.
    device : Device
        What it ran on.
    schedules : str
        One of `SCHEDULES`.
    fused : bool
        Whether operators were fused; without, each is a kernel.
    graph : FusedGraph
        Its launches; a kernel goes by the key of its task.
    run_s : tuple of float
        Seconds of each repeat of the whole.
    kernels : tuple of MeasuredKernel
        Each once; those that could not be measured are missing.
    measured_at : datetime
        When, in UTC.
    processor : str
        Fingerprint of the machine.
    """

    network: str
    target: str
    device: Device
    schedules: str
    fused: bool
    graph: FusedGraph
    run_s: tuple[float, ...]
    kernels: tuple[MeasuredKernel, ...]
    measured_at: datetime
    processor: str

    def __post_init__(self) -> None:
        if not self.network or not self.target:
            raise InputError("a network must have a name and a target")
        if self.schedules not in SCHEDULES:
            raise InputError(
                f"schedules must be one of {', '.join(SCHEDULES)}, got {self.schedules!r}"
            )
        for run_s in (self.run_s, *(kernel.run_s for kernel in self.kernels)):
            Measured(run_s)

    @property
    def identity(self) -> NetworkIdentity:
        """What makes two rows the same: network, target, schedules and fusion."""
        return self.network, self.target, self.schedules, self.fused

    @property
    def family(self) -> str:
        """What networks of one kind share: of ``zoo:residual,number=7`` it is ``residual``."""
        head = self.network.partition(",")[0]
        return head.partition(":")[2] or head

    @property
    def latency_s(self) -> float:
        """Median of the repeats."""
        return Measured(self.run_s).latency_s

    @property
    def tasks(self) -> frozenset[str]:
        """Keys of the tasks that it launches."""
        return frozenset(self.graph.counts("kernel"))

    def as_values(self) -> dict[str, Any]:
        """Column -> value of a row of `NETWORKS`."""
        return {
            "network": self.network,
            "target": self.target,
            "device": json.dumps(self.device.as_dict()),
            "schedules": self.schedules,
            "fused": self.fused,
            "launches": json.dumps(self.graph.as_json(), separators=(",", ":")),
            "run_s": list(self.run_s),
            "kernels": [
                {"task": each.task, "program": each.program, "run_s": list(each.run_s)}
                for each in self.kernels
            ],
            "measured_at": self.measured_at,
            "processor": self.processor,
        }

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read a row of `NETWORKS`.

        Raises
        ------
        InputError
            When a value cannot be.
        """
        try:
            return cls(
                network=str(values["network"]),
                target=str(values["target"]),
                device=from_values(Device, parse_json(values["device"]), "device"),
                schedules=values["schedules"],
                fused=bool(values["fused"]),
                graph=FusedGraph.from_json(parse_json(values["launches"])),
                run_s=tuple(values["run_s"]),
                kernels=from_values(tuple[MeasuredKernel, ...], values["kernels"], "kernels"),
                measured_at=values["measured_at"],
                processor=str(values["processor"]),
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"a network must have every column in its type, got {error!r}"
            ) from None


NETWORKS = pa.schema(
    [
        ("network", pa.string()),
        ("target", pa.string()),
        ("device", pa.string()),
        ("schedules", pa.string()),
        ("fused", pa.bool_()),
        ("launches", pa.string()),
        ("run_s", pa.list_(pa.float64())),
        (
            "kernels",
            pa.list_(
                pa.struct(
                    [
                        ("task", pa.string()),
                        ("program", pa.uint64()),
                        ("run_s", pa.list_(pa.float64())),
                    ]
                )
            ),
        ),
        ("measured_at", pa.timestamp("ms", tz="UTC")),
        ("processor", pa.string()),
    ]
)
