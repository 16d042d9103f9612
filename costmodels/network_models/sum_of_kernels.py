"""The latency of a network as the sum of what a kernel model says of its kernels.

It is *given* a kernel model and learns what a sum leaves out, on each device for itself.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import ClassVar, Self

import numpy as np

from costmodels.checkpoint import Checkpoint, checkpoint_bytes, parse_checkpoint
from costmodels.checks import require_type
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.json_text import from_values
from costmodels.kernel import (
    Failure,
    KernelDataset,
    Measured,
    Measurement,
    concatenate,
)
from costmodels.learning.calibration import COVERAGE
from costmodels.model_state import Stored, model_of_state, state_of
from costmodels.network_models.kernel_parts import KernelParts, KernelSum, missing_launches
from costmodels.network_models.kernel_sums import MeasuredNetwork, Total, add_up
from costmodels.network_models.overheads import (
    DEFAULT_OVERHEADS,
    UNSEEN_DEVICE_ERROR,
    Overheads,
)
from costmodels.network_models.overheads_fit import fit_bias, fit_overheads
from costmodels.networks.sample import (
    NetworkDataset,
    NetworkPrediction,
    NetworkSample,
    UnsupportedNetwork,
)
from costmodels.protocol import Claims, FitProgress, KernelCostModel
from costmodels.registry import new_kernel_model

__all__ = ["SumOfKernels"]

MIN_NETWORKS = 4
"""To fit what a sum leaves out."""
HELD_OUT = 4
"""One in so many networks teaches what a sum leaves out, and the others the kernels."""
REMEMBERED = 256
"""Networks of a device, the last ones."""


class SumOfKernels(Stored):
    """Kernels added up, and what lies between them.

    Parameters
    ----------
    kernel_model : KernelCostModel, optional
        One that gives seconds. One that has learned is kept as it is; one that has not, trees by
        default, learns from the kernels of `fit`'s networks that were measured alone.
    overheads : Overheads, optional
        What a sum leaves out, on any device; by default what was learned of each, and
        `DEFAULT_OVERHEADS` of a device that was not learned of.
    rng : numpy.random.Generator, optional
        Of a new kernel model.

    Raises
    ------
    InputError
        When the kernel model only ranks.
    """

    name: ClassVar[str] = "sum_of_kernels"
    paper: ClassVar[str] = (
        "Kaufman et al., A Learned Performance Model for Tensor Processing Units, MLSys 2021; what "
        "a sum leaves out is of this project"
    )
    claims: ClassVar[Claims] = Claims(ranks=True, seconds=True, interval=True)
    schema: ClassVar[FeatureSchema] = PER_STORE
    needs: ClassVar[frozenset[str]] = frozenset({"kernels"})

    def __init__(
        self,
        kernel_model: KernelCostModel | None = None,
        overheads: Overheads | None = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        if kernel_model is None:
            kernel_model = new_kernel_model("gbt", rng=rng or np.random.default_rng(0))
        if not isinstance(kernel_model, KernelCostModel) or isinstance(kernel_model, type):
            raise InputError(
                f"kernel_model must be a KernelCostModel, got {type(kernel_model).__name__}: "
                "costmodels.load_kernel_model gives one by its name"
            )
        require_type("overheads", overheads, Overheads | None)
        if not kernel_model.claims.seconds:
            raise InputError(
                f"a kernel model must give seconds to be added up, got {kernel_model.name!r}, "
                "which ranks: take pretrained:best"
            )
        self.kernel_model = kernel_model
        self.overheads = overheads
        self._is_given = kernel_model.is_fitted
        self._networks: dict[str, list[MeasuredNetwork]] = {}
        self._learned: dict[str, Overheads] = {}

    @property
    def is_fitted(self) -> bool:
        """Whether its kernel model has learned."""
        return self.kernel_model.is_fitted

    def fit(
        self,
        dataset: NetworkDataset,
        *,
        rng: np.random.Generator,
        validation: NetworkDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then learn what a sum leaves out, and the kernels unless they were known.

        Parameters
        ----------
        dataset : NetworkDataset
            Networks with their kernels. A device of which fewer than `MIN_NETWORKS` ran is not
            learned of.
        rng : numpy.random.Generator
            Of the kernel model, and of which networks teach what.
        validation : NetworkDataset, optional
            Networks that teach what a sum leaves out; by default some of `dataset`.
        progress : FitProgress, optional
            Of the kernel model.

        Raises
        ------
        InputError
            When no network that has its kernels ran, or no kernel of one was measured that a new
            kernel model could learn from.
        """
        require_type("dataset", dataset, NetworkDataset)
        usable = _with_kernels(dataset)
        if not len(usable):
            raise InputError(
                f"{self.name} must be given networks that ran, with their kernels after fusion, "
                f"got none of {len(dataset)}"
            )
        taught, judged = usable, usable
        if validation is not None and len(held_out := _with_kernels(validation)):
            judged = held_out
        elif not self._is_given and len(usable) >= MIN_NETWORKS * HELD_OUT:
            order = rng.permutation(len(usable))
            judged, taught = (
                usable.take(np.sort(order[: len(usable) // HELD_OUT])),
                usable.take(np.sort(order[len(usable) // HELD_OUT :])),
            )
        kernel_model = self.kernel_model
        if not self._is_given:
            kernels = _kernels_of(taught)
            if not np.any(kernels.measured):
                raise InputError(
                    f"{self.name} must be given kernels that were measured alone to learn them, "
                    f"got none in {len(taught)} networks: collect them (`costmodels collect "
                    "--networks`), or give a kernel model that has learned"
                )
            kernel_model = copy.deepcopy(self.kernel_model)  # where fitting fails the old one stays
            kernel_model.fit(kernels, rng=rng, progress=progress)
        self.kernel_model, self._networks, self._learned = kernel_model, {}, {}
        self._remember(judged)
        return self

    def update(
        self, networks: Sequence[NetworkSample], measurements: Sequence[Measurement]
    ) -> None:
        """Learn from new measurements what a sum leaves out; the kernel model stays.

        A model whose kernels nothing is known of learns them, too, from kernels measured alone.

        Parameters
        ----------
        networks : sequence of NetworkSample
            May be empty; those without kernels teach nothing.
        measurements : sequence of Measurement
            One per network.
        """
        usable = _with_kernels(NetworkDataset(tuple(networks), tuple(measurements)))
        if not len(usable):
            return
        if not self._is_given:
            kernels = _kernels_of(usable)
            if np.any(kernels.measured):
                self.kernel_model.update(kernels.batch, kernels.measurements)
        if self.kernel_model.is_fitted:
            self._remember(usable)

    def predict(self, networks: Sequence[NetworkSample]) -> NetworkPrediction:
        """Add up each network on its own; one with a launch of unknown latency is unsupported."""
        totals: list[Total | None] = []
        unsupported: list[UnsupportedNetwork] = []
        for place, network in enumerate(networks):
            if network.kernels is None or not self.is_fitted:
                reason = (
                    "its kernels after fusion are needed, and only its operators are given"
                    if network.kernels is None
                    else "the kernel model has learned nothing"
                )
                unsupported.append(UnsupportedNetwork(place, "", reason))
                totals.append(None)
                continue
            found = self.explain(network)
            unsupported += [
                UnsupportedNetwork(place, each.name, each.reason) for each in found.missing
            ]
            if not found.missing and found.total.total_s == 0:
                unsupported.append(UnsupportedNetwork(place, "", "it launches nothing"))
            is_known = not found.missing and found.total.total_s > 0
            totals.append(found.total if is_known else None)
        both = [None if t is None else (t.total_s, t.low_s, t.high_s) for t in totals]
        nothing = (np.nan, np.nan, np.nan)
        columns = np.array([each or nothing for each in both], np.float64).reshape(-1, 3)
        latency_s, low_s, high_s = (columns[:, column].copy() for column in range(3))
        utility = np.where(np.isnan(latency_s), 0.0, -np.log(latency_s))
        return NetworkPrediction(utility, latency_s, low_s, high_s, COVERAGE, tuple(unsupported))

    def overheads_on(self, device: Device) -> Overheads:
        """What a sum leaves out on a device: as it was given or learned, or what is typical."""
        if self.overheads is not None:
            return self.overheads
        return self._learned.get(
            _device_key(device), replace(DEFAULT_OVERHEADS, device_error=UNSEEN_DEVICE_ERROR)
        )

    def explain(self, network: NetworkSample) -> KernelSum:
        """What the latency of a network is made of.

        Parameters
        ----------
        network : NetworkSample
            With its kernels.

        Returns
        -------
        KernelSum
            Also where something is missing.

        Raises
        ------
        InputError
            When its kernels are not given.
        """
        kernels = network.kernels
        if kernels is None:
            raise InputError(f"network {network.name} must have its kernels after fusion")
        overheads = self.overheads_on(network.device)
        parts = KernelParts(kernels, network.device, overheads)
        parts.predict(self.kernel_model)
        total = add_up(kernels.graph, parts.known, network.device, replace(overheads, bias=0.0))
        shown = {**parts.known, **parts.shown}
        return KernelSum(
            total, shown, parts.notes, missing_launches(kernels.graph, shown, parts.notes)
        )

    def state(self) -> Checkpoint:
        """Return what a checkpoint holds: that of the kernel model, and what was learned."""
        content = checkpoint_bytes(state_of(self.kernel_model))
        return Checkpoint.of(
            self.name,
            self.schema,
            arrays={"kernel_model": np.frombuffer(content, np.uint8)},
            settings={
                "overheads": None if self.overheads is None else asdict(self.overheads),
                "learned": {key: asdict(each) for key, each in self._learned.items()},
                "networks": {
                    key: [asdict(each) for each in networks]
                    for key, networks in self._networks.items()
                },
                "is_given": self._is_given,
            },
        )

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        content = parse_checkpoint(state.arrays["kernel_model"].tobytes(), "kernel_model")
        settings = state.settings
        given = settings["overheads"]
        model = cls(
            model_of_state(content, path="kernel_model"),
            None if given is None else from_values(Overheads, given, "overheads"),
        )
        model._is_given = bool(settings["is_given"])
        model._learned = {
            key: from_values(Overheads, each, "learned overheads")
            for key, each in settings["learned"].items()
        }
        model._networks = {
            key: list(from_values(tuple[MeasuredNetwork, ...], networks, "networks"))
            for key, networks in settings["networks"].items()
        }
        return model

    def _remember(self, usable: NetworkDataset) -> None:
        """Add networks to what is known of their devices, and fit these again."""
        changed = set()
        for network, measurement in zip(usable.networks, usable.measurements, strict=True):
            kernels = network.kernels
            assert kernels is not None
            assert isinstance(measurement, Measured)
            parts = KernelParts(replace(kernels, measured={}), network.device, Overheads())
            parts.predict(self.kernel_model)
            key = _device_key(network.device)
            found = MeasuredNetwork(
                kernels.graph,
                network.device,
                measurement.latency_s,
                dict(kernels.measured),
                parts.known,
            )
            kept = [*self._networks.get(key, ()), found]
            self._networks[key] = kept[-REMEMBERED:]
            changed.add(key)
        for key in changed:
            learned = _learned(self._networks[key])
            if learned is None:
                continue
            if not self.kernel_model.claims.interval:  # how far off it is, networks alone tell
                error = _root_mean_square(self._networks[key], learned)
                learned = replace(learned, residual=max(learned.residual, error))
            self._learned[key] = learned


def _with_kernels(dataset: NetworkDataset) -> NetworkDataset:
    """Networks that ran, with their kernels, and nothing else that they launch."""
    return dataset.take(
        [
            place
            for place, network in enumerate(dataset.networks)
            if dataset.measured[place]
            and network.kernels is not None
            # What a library takes would be learned as if kernels and launches took it.
            and {launch.kind for launch in network.kernels.graph.launches} == {"kernel"}
        ]
    )


def _kernels_of(dataset: NetworkDataset) -> KernelDataset:
    """The kernels of networks; those that were not measured alone count as failed."""
    batches, measurements = [], []
    for network in dataset.networks:
        assert network.kernels is not None
        batches.append(network.kernels.batch)
        for name in network.kernels.names:
            latency = network.kernels.measured.get(name)
            measurements.append(
                Failure("unknown", "it was not measured alone")
                if latency is None
                else Measured((latency.latency_s,))
            )
    batch = concatenate(batches)
    kernels = KernelDataset(batch, tuple(measurements))
    return kernels.take(np.flatnonzero(kernels.measured))


def _learned(networks: Sequence[MeasuredNetwork]) -> Overheads | None:
    """What a sum leaves out on a device; None where too little is known of it."""
    complete = [n for n in networks if n.measured.keys() >= n.graph.counts("kernel").keys()]
    if len(complete) >= MIN_NETWORKS:
        return fit_overheads(complete)
    predicted = [n for n in networks if n.predicted.keys() >= n.graph.counts("kernel").keys()]
    return fit_bias(predicted) if len(predicted) >= MIN_NETWORKS else None


def _root_mean_square(networks: Sequence[MeasuredNetwork], overheads: Overheads) -> float:
    """Of the log errors of the networks whose kernels are all predicted; 0 without any."""
    errors = [
        math.log(
            each.latency_s / add_up(each.graph, each.predicted, each.device, overheads).total_s
        )
        for each in networks
        if each.predicted.keys() >= each.graph.counts("kernel").keys()
    ]
    return math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else 0.0


def _device_key(device: Device) -> str:
    return f"{device.name}, {device.cores} cores"
