"""The plugin point: what every kernel cost model, learned or analytical, can do.

A model needs no base class. It registers itself by name (see `costmodels.registry`) and must pass
the checks in `costmodels.testing`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np

from costmodels.features.schema import FeatureSchema
from costmodels.kernel import KernelBatch, KernelDataset, KernelPrediction, Measurement


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


def missing_members(model: object) -> tuple[str, ...]:
    """Which attributes and verbs of `KernelCostModel` a model or its class lacks; sorted."""
    return tuple(sorted(name for name in _MEMBERS if not hasattr(model, name)))


_MEMBERS = frozenset(
    {"name", "paper", "claims", "schema", "graphs"}
    | {"is_fitted", "fit", "update", "predict", "save", "load"}
)


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
