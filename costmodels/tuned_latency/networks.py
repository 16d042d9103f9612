"""The latency of a network once its kernels are tuned, as the sum of theirs.

It learns from networks that were tuned: `TunedLatency` their kernels, and beside it what a sum of
tuned kernels leaves out. Kernels that take little get few trials, as `costmodels tune` gives them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from costmodels.checkpoint import Checkpoint, checkpoint_bytes, parse_checkpoint
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import KernelGraph
from costmodels.features.kernel_summary import KERNEL_SUMMARY, kernel_summary
from costmodels.features.schema import FeatureSchema
from costmodels.json_text import from_values
from costmodels.model_state import Stored
from costmodels.network_models.kernel_sums import MeasuredNetwork, Total, add_up
from costmodels.network_models.overheads import UNSEEN_DEVICE_ERROR, Overheads
from costmodels.network_models.overheads_fit import fit_overheads
from costmodels.networks.fused_graph import FusedGraph
from costmodels.networks.kernel_latency import KernelLatency
from costmodels.tuned_latency.kernels import TunedKernel, TunedLatency

MATTERS = 0.01
"""Share of a network above which a kernel is tuned on its own account."""
LIGHT_TRIALS = 8
"""Others have about so many trials: once, when the heavy ones were slow still, they mattered."""
FOLDS = 5
SHIPPED = Path(__file__).parent.parent / "shipped" / "tuned_latency.ckpt"


@dataclass(frozen=True)
class TunedNetwork:
    """A network that was tuned and then measured.

    Parameters
    ----------
    graph : FusedGraph
        Its launches.
    device : Device
        What it ran on.
    latency_s : float
        Of the whole, in seconds.
    kernels : mapping
        Name of a kernel -> how its tuning went.
    measured : mapping
        Name -> latency alone, of the program that the network was built with.
    trials : int
        Of each kernel that matters.
    group : str
        Its family: no estimate is judged by networks of families that it learned from.
    """

    graph: FusedGraph
    device: Device
    latency_s: float
    kernels: Mapping[str, TunedKernel]
    measured: Mapping[str, KernelLatency]
    trials: int
    group: str

    @property
    def is_complete(self) -> bool:
        """Whether each kernel was measured alone and can be described."""
        names = self.graph.counts("kernel").keys()
        return names <= self.measured.keys() and names <= self.kernels.keys()


@dataclass(frozen=True)
class TunedSum:
    """What a network will take once it is tuned.

    Attributes
    ----------
    total : Total
        Of the kernels that are known.
    kernels : mapping
        Name -> latency of one call.
    trials : mapping
        Name -> how many programs of it are tried.
    """

    total: Total
    kernels: Mapping[str, KernelLatency]
    trials: Mapping[str, int]


class SumOfTunedKernels(Stored):
    """Predicts the latency of networks after tuning.

    Parameters
    ----------
    rng : numpy.random.Generator, optional
        Of the trees, and of which families are left out together.
    """

    name: ClassVar[str] = "sum_of_tuned_kernels"
    schema: ClassVar[FeatureSchema] = KERNEL_SUMMARY

    def __init__(self, *, rng: np.random.Generator | None = None) -> None:
        self._rng = rng or np.random.default_rng(0)
        self.kernel_model = TunedLatency(rng=self._rng)
        self.overheads = Overheads()
        self.devices: frozenset[str] = frozenset()

    @property
    def is_fitted(self) -> bool:
        """Whether it has learned."""
        return self.kernel_model.is_fitted

    def fit(
        self,
        networks: Sequence[TunedNetwork],
        kernels: Sequence[TunedKernel] = (),
        *,
        without: Sequence[TunedNetwork] = (),
    ) -> Self:
        """Forget, then learn kernels, and from predictions of families left out what a sum lacks.

        Parameters
        ----------
        networks : sequence of TunedNetwork
            Of at least `FOLDS` families.
        kernels : sequence of TunedKernel
            More to learn from.
        without : sequence of TunedNetwork
            What it will be judged by: none of their kernels is learned.

        Raises
        ------
        InputError
            When there are fewer families, or no four networks have all their kernels measured.
        """
        families = sorted({network.group for network in networks})
        if len(families) < FOLDS:
            raise InputError(
                f"tuned networks must be of at least {FOLDS} families, got {len(families)}"
            )
        judged: list[MeasuredNetwork] = []
        for left_out in np.array_split(self._rng.permutation(families), FOLDS):
            out = [network for network in networks if network.group in left_out]
            others = [network for network in networks if network.group not in left_out]
            learned = kernels_of(others, kernels, without=[*out, *without])
            model = TunedLatency(rng=self._rng).fit(learned, folds=FOLDS - 1)
            judged += [_with_predictions(model, network) for network in out if network.is_complete]
        overheads = fit_overheads(judged, threaded=True)
        learned = kernels_of(networks, kernels, without=without)
        self.kernel_model = TunedLatency(rng=self._rng).fit(learned, folds=FOLDS - 1)
        self.overheads = overheads
        self.devices = frozenset(network.device.name for network in networks)
        return self

    def explain(
        self,
        graph: FusedGraph,
        kernels: Mapping[str, KernelGraph],
        device: Device,
        trials: int,
        known: Mapping[str, KernelLatency] | None = None,
    ) -> TunedSum:
        """Estimate a network.

        Parameters
        ----------
        graph : FusedGraph
            Its launches.
        kernels : mapping
            Name of a kernel -> what it computes, as it is tuned.
        device : Device
            What it runs on.
        trials : int
            Of each kernel that matters.
        known : mapping, optional
            Name -> latency of kernels that no schedule changes.

        Returns
        -------
        TunedSum
            Launches that are neither described nor known are in no sum.

        Raises
        ------
        InputError
            When it has not learned, or there are no trials.
        """
        latencies, tried = _predicted(self.kernel_model, kernels, graph, device, trials)
        bias = math.exp(self.overheads.bias)
        error = 0.0 if device.name in self.devices else UNSEEN_DEVICE_ERROR
        everything = {**(known or {}), **latencies}
        total = add_up(graph, everything, device, replace(self.overheads, device_error=error))
        told = {name: latency.times(bias) for name, latency in latencies.items()}
        return TunedSum(total, {**everything, **told}, tried)

    def state(self) -> Checkpoint:
        """What a checkpoint of it holds."""
        content = checkpoint_bytes(self.kernel_model.state())
        return Checkpoint.of(
            self.name,
            self.schema,
            arrays={"kernel_model": np.frombuffer(content, np.uint8)},
            settings={"overheads": asdict(self.overheads), "devices": sorted(self.devices)},
        )

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        content = parse_checkpoint(state.arrays["kernel_model"].tobytes(), "kernel_model")
        model = cls()
        model.kernel_model = TunedLatency.from_state(content)
        model.overheads = from_values(Overheads, state.settings["overheads"], "overheads")
        model.devices = frozenset(state.settings["devices"])
        return model


@cache
def shipped_model() -> SumOfTunedKernels:
    """Read the model that travels with the package, once."""
    return SumOfTunedKernels.load(SHIPPED)


def kernels_of(
    networks: Sequence[TunedNetwork],
    kernels: Sequence[TunedKernel] = (),
    *,
    without: Sequence[TunedNetwork] = (),
) -> list[TunedKernel]:
    """The kernels of networks of which a program was tried, each once, and some more.

    Parameters
    ----------
    networks : sequence of TunedNetwork
        These.
    kernels : sequence of TunedKernel
        Those that networks have, too, are left out.
    without : sequence of TunedNetwork
        What is judged: no kernel is given that looks like one of theirs.
    """
    judged = {_appearance(kernel) for network in without for kernel in network.kernels.values()}
    tuned = [kernel for network in networks for kernel in network.kernels.values()]
    found: dict[bytes, TunedKernel] = {}
    for kernel in (*tuned, *kernels):
        appearance = _appearance(kernel)
        if kernel.run_s and appearance not in judged:
            found.setdefault(appearance, kernel)
    return list(found.values())


def _appearance(kernel: TunedKernel) -> bytes:
    """What a model sees of a kernel."""
    return kernel_summary(kernel.graph, kernel.device).tobytes()


def _with_predictions(model: TunedLatency, network: TunedNetwork) -> MeasuredNetwork:
    graphs = {name: kernel.graph for name, kernel in network.kernels.items()}
    predicted, _ = _predicted(model, graphs, network.graph, network.device, network.trials)
    return MeasuredNetwork(
        network.graph, network.device, network.latency_s, network.measured, predicted
    )


def _predicted(
    model: TunedLatency,
    kernels: Mapping[str, KernelGraph],
    graph: FusedGraph,
    device: Device,
    trials: int,
) -> tuple[dict[str, KernelLatency], dict[str, int]]:
    """Latency of each kernel that is launched and described, and after how many trials."""
    counts = graph.counts("kernel")
    names = [name for name in counts if name in kernels]
    graphs = [kernels[name] for name in names]
    tuned = model.predict(graphs, device, trials)
    whole_s = sum(counts[name] * each.latency_s for name, each in zip(names, tuned, strict=True))
    light = model.predict(graphs, device, min(trials, LIGHT_TRIALS))
    latencies, tried = {}, {}
    for name, own, hardly in zip(names, tuned, light, strict=True):
        is_light = counts[name] * own.latency_s <= MATTERS * whole_s
        latencies[name] = hardly if is_light else own
        tried[name] = min(trials, LIGHT_TRIALS) if is_light else trials
    return latencies, tried
