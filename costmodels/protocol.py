"""The plugin points: what every cost model of kernels, and every one of networks, can do.

A model needs no base class. It registers itself by name (see `costmodels.registry`) and must pass
the checks in `costmodels.testing`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from costmodels.features.schema import FeatureSchema
from costmodels.kernel import KernelBatch, KernelDataset, KernelPrediction, Measurement

if TYPE_CHECKING:
    from costmodels.checkpoint import Checkpoint
    from costmodels.networks.sample import NetworkDataset, NetworkPrediction, NetworkSample


@dataclass(frozen=True, slots=True)
class Claims:
    """What a model's predictions are good for, and what they contain beside the utility.

    Parameters
    ----------
    ranks : bool
        Once fitted, utilities rise with the speed of kernels; only a baseline's need not.
    seconds : bool
        `KernelPrediction.latency_s` is given.
    interval : bool
        ``low_s`` and ``high_s`` are given, with their coverage.
    """

    ranks: bool = True
    seconds: bool = False
    interval: bool = False


@dataclass(frozen=True, slots=True)
class FitProgress:
    """Who is told how far a fit has come, and where it may keep what is not finished.

    Parameters
    ----------
    on_progress : callable, optional
        Told the steps done, the steps there are at most, and a text for people.
    unfinished : Path, optional
        A file of this fit alone, which a killed one can go on from. A fit that ends removes it.
    """

    on_progress: Callable[[int, int, str], None] | None = None
    unfinished: Path | None = None


@runtime_checkable
class Adaptable(Protocol):
    """A kernel model that can learn on from a data set; not every one can."""

    def adapt(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        progress: FitProgress | None = None,
    ) -> Self:
        """Learn on from other kernels or another device, for all kernels that are to come.

        Unlike `KernelCostModel.update`, after which a model knows better the tasks that were
        measured, and like `KernelCostModel.fit`, but from what it knows.

        Parameters
        ----------
        dataset : KernelDataset
            A few kernels are enough.
        rng : numpy.random.Generator
            Equal states give equal models.
        progress : FitProgress, optional
            Told how far it has come; one that takes seconds may ignore it.

        Raises
        ------
        SchemaError
            When the features do not have the model's schema.
        InputError
            When no kernel ran.
        """
        ...


class TableAnswer(Protocol):
    """What a table says of a kernel."""

    @property
    def distance(self) -> float:
        """0 for an entry of the kernel itself; else how far the entry is that answers."""
        ...


@runtime_checkable
class LooksUp(Protocol):
    """A kernel model that is a table of measurements; few are."""

    def look_up(self, batch: KernelBatch) -> Sequence[TableAnswer | None]:
        """What answers for each kernel; None where nothing does."""
        ...


def missing_members(model: object) -> tuple[str, ...]:
    """Which attributes and verbs of `KernelCostModel` a model or its class lacks; sorted."""
    return tuple(sorted(name for name in _MEMBERS if not hasattr(model, name)))


def missing_network_members(model: object) -> tuple[str, ...]:
    """Which attributes and verbs of `NetworkCostModel` a model or its class lacks; sorted."""
    return tuple(sorted(name for name in _NETWORK_MEMBERS if not hasattr(model, name)))


_SHARED = frozenset({"name", "paper", "claims", "schema", "is_fitted", "fit", "update", "predict"})
_MEMBERS = _SHARED | {"graphs", "save", "load"}
_NETWORK_MEMBERS = _SHARED | {"needs", "state", "from_state"}
NEEDS = ("graph", "kernels")
"""What a network model may ask of a `costmodels.networks.sample.NetworkSample`."""


@runtime_checkable
class KernelCostModel(Protocol):
    """Predicts which kernels of a task are fast.

    The constructor stores its configuration and takes ``rng`` as a keyword; it reads no file and
    starts no thread. Only `fit` and `update` change a model.
    """

    name: ClassVar[str]
    """Under which it is registered."""
    paper: ClassVar[str]
    """The publication it follows."""
    claims: ClassVar[Claims]
    schema: ClassVar[FeatureSchema]
    """Of the rows it needs."""
    graphs: ClassVar[bool]
    """Whether it needs the graphs of kernels as well."""

    @property
    def is_fitted(self) -> bool:
        """Whether it has learned anything; before that its predictions carry no information."""
        ...

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then learn from a data set.

        Parameters
        ----------
        dataset : KernelDataset
            Kernels of any number of tasks. Failures may occur.
        rng : numpy.random.Generator
            Equal states give equal models.
        validation : KernelDataset, optional
            Kernels of other tasks, to stop by and to calibrate with; without them a model may hold
            some of the tasks of `dataset` out.
        progress : FitProgress, optional
            For fits that take long; a short one may ignore it.

        Raises
        ------
        SchemaError
            When the features do not have the model's schema.
        """
        ...

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Learn from new measurements, keeping what was learned, in bounded time.

        Parameters
        ----------
        batch : KernelBatch
            The kernels; may be empty.
        measurements : sequence of Measurement
            One per kernel.

        Raises
        ------
        SchemaError
            When the features do not have the model's schema.
        """
        ...

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Predict each kernel on its own: nothing depends on the rest of the batch.

        Parameters
        ----------
        batch : KernelBatch
            The kernels; may be empty, and a kernel may have no rows.

        Raises
        ------
        SchemaError
            When the features do not have the model's schema.
        """
        ...

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint (see `costmodels.checkpoint`): one file, no pickle, atomically."""
        ...

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a checkpoint of this model.

        Raises
        ------
        CheckpointError
            When the file is missing, damaged or of another model.
        SchemaError
            When it was made with another feature schema.
        """
        ...


@runtime_checkable
class NetworkCostModel(Protocol):
    """Predicts the latency of whole networks.

    As of `KernelCostModel`: the constructor stores its configuration and takes ``rng`` as a
    keyword, and only `fit` and `update` change a model.
    """

    name: ClassVar[str]
    """Under which it is registered."""
    paper: ClassVar[str]
    """The publication it follows."""
    claims: ClassVar[Claims]
    schema: ClassVar[FeatureSchema]
    """Of the features it needs: of operators, or of the programs of kernels."""
    needs: ClassVar[frozenset[str]]
    """Some of `NEEDS`: what a network must come with."""

    @property
    def is_fitted(self) -> bool:
        """Whether it has learned anything."""
        ...

    def fit(
        self,
        dataset: "NetworkDataset",
        *,
        rng: np.random.Generator,
        validation: "NetworkDataset | None" = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then learn from a data set.

        Parameters
        ----------
        dataset : NetworkDataset
            Networks of any number of devices. Failures may occur.
        rng : numpy.random.Generator
            Equal states give equal models.
        validation : NetworkDataset, optional
            Other networks, to stop by and to calibrate with.
        progress : FitProgress, optional
            For fits that take long; a short one may ignore it.

        Raises
        ------
        InputError
            When no network ran that comes with what the model needs.
        """
        ...

    def update(
        self, networks: Sequence["NetworkSample"], measurements: Sequence[Measurement]
    ) -> None:
        """Learn from new measurements, keeping what was learned, in bounded time.

        Parameters
        ----------
        networks : sequence of NetworkSample
            May be empty.
        measurements : sequence of Measurement
            One per network.
        """
        ...

    def predict(self, networks: Sequence["NetworkSample"]) -> "NetworkPrediction":
        """Predict each network on its own.

        Parameters
        ----------
        networks : sequence of NetworkSample
            May be empty. What the model cannot handle, an operator that it does not know say, is
            named in the prediction, never left out of a sum.
        """
        ...

    def state(self) -> "Checkpoint":
        """Return what a checkpoint of it holds, which `write_checkpoint` writes."""
        ...

    @classmethod
    def from_state(cls, state: "Checkpoint") -> Self:
        """Make the model of a state, which is of this model and schema."""
        ...
