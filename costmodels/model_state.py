"""Models as state: what a checkpoint holds, without a file in between."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from costmodels.checkpoint import Checkpoint, load_checkpoint, require, write_checkpoint
from costmodels.errors import CheckpointError
from costmodels.features.schema import FeatureSchema
from costmodels.protocol import KernelCostModel, NetworkCostModel
from costmodels.registry import kernel_model_class, network_model_class

__all__ = ["Stateful", "Stored", "model_of_state", "network_model_of_state", "state_of"]


@runtime_checkable
class Stateful(Protocol):
    """A model that gives its state and takes it; one of kernels need not."""

    def state(self) -> Checkpoint:
        """Return what a checkpoint of it holds."""
        ...

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state, which is of this model and schema."""
        ...


class Stored(ABC):
    """`save` and `load` of a model by its `state` and `from_state`."""

    name: ClassVar[str]
    schema: ClassVar[FeatureSchema]

    @abstractmethod
    def state(self) -> Checkpoint:
        """Return what a checkpoint of it holds."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state, which is of this model and schema."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: one file, no pickle, atomically."""
        write_checkpoint(path, self.state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a checkpoint, also one saved before anything was learned.

        Raises
        ------
        CheckpointError
            When the file is missing, damaged or of another model.
        SchemaError
            When it was made with another feature schema.
        """
        state = load_checkpoint(path)
        require(state, path=path, model=cls.name, schema=cls.schema)
        return cls.from_state(state)


def state_of(model: KernelCostModel) -> Checkpoint:
    """Return what a checkpoint of a model holds, of one that only writes files too."""
    if isinstance(model, Stateful):
        return model.state()
    with TemporaryDirectory(prefix="costmodels-state-") as folder:
        path = Path(folder) / "model.ckpt"
        model.save(path)
        return load_checkpoint(path)


def model_of_state(state: Checkpoint, *, path: Any, known: Any = None) -> KernelCostModel:
    """Make the model that a state is of.

    Parameters
    ----------
    state : Checkpoint
        What was read.
    path : path
        Where from; for errors.
    known : type, optional
        A class that is not registered, of which the state may be.

    Raises
    ------
    InputError
        When no model has its name.
    CheckpointError, SchemaError
        When it does not fit the model.
    """
    is_known = known is not None and known.name == state.model
    made: Any = known if is_known else kernel_model_class(state.model)
    if not issubclass(made, Stateful):
        found: KernelCostModel = made.load(path)
        return found
    require(state, path=path, model=made.name, schema=made.schema)
    with _complete(state, path):
        restored: KernelCostModel = made.from_state(state)
    return restored


@contextmanager
def _complete(state: Checkpoint, path: Any) -> Iterator[None]:
    """Say which checkpoint lacks something, whatever a model raises then."""
    try:
        yield
    except (KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"checkpoint {path} must hold all of a {state.model}, got {error!r}: it is of another "
            "release, or made by hand; train the model again"
        ) from error


def network_model_of_state(state: Checkpoint, *, path: Any) -> NetworkCostModel:
    """Make the network model that a state is of.

    Parameters
    ----------
    state : Checkpoint
        What was read.
    path : path
        Where from; for errors.

    Raises
    ------
    InputError
        When no network model has its name.
    CheckpointError, SchemaError
        When it does not fit the model.
    """
    made = network_model_class(state.model)
    require(state, path=path, model=made.name, schema=made.schema)
    with _complete(state, path):
        return made.from_state(state)
