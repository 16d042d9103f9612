"""The baseline that knows nothing: utilities drawn at random, by content."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar, Self

import numpy as np

from costmodels.checkpoint import Checkpoint
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.kernel import KernelBatch, KernelDataset, KernelPrediction, Measurement
from costmodels.model_state import Stored
from costmodels.protocol import Claims, FitProgress


class RandomModel(Stored):
    """Gives every kernel a utility that depends on nothing but its features and a seed.

    A kernel keeps its utility, whichever batch it comes in: what TVM's RandomModel does not.

    Parameters
    ----------
    rng : numpy.random.Generator, optional
        Draws the seed; without it the seed is 0.
    """

    name: ClassVar[str] = "random"
    paper: ClassVar[str] = "none: a baseline"
    claims: ClassVar[Claims] = Claims(ranks=False)
    schema: ClassVar[FeatureSchema] = PER_STORE
    graphs: ClassVar[bool] = False

    def __init__(self, *, rng: np.random.Generator | None = None) -> None:
        self.seed = 0 if rng is None else int(rng.integers(2**31))

    @property
    def is_fitted(self) -> bool:
        """Always: there is nothing to learn."""
        return True

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Draw a new seed."""
        del validation, progress
        self.schema.require(dataset.batch.schema, owner="random")
        self.seed = int(rng.integers(2**31))
        return self

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Learn nothing."""
        del measurements
        self.schema.require(batch.schema, owner="random")

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Utilities from a standard normal distribution."""
        self.schema.require(batch.schema, owner="random")
        utility = np.empty(len(batch))
        for kernel in range(len(batch)):
            rows = batch.rows[batch.row_offsets[kernel] : batch.row_offsets[kernel + 1]]
            digest = blake2b(rows.tobytes(), digest_size=8, key=self.seed.to_bytes(4)).digest()
            utility[kernel] = np.random.default_rng(int.from_bytes(digest)).standard_normal()
        return KernelPrediction(utility)

    def state(self) -> Checkpoint:
        """Return what a checkpoint holds."""
        settings = {"seed": self.seed}
        return Checkpoint.of(self.name, self.schema, settings=settings)

    @classmethod
    def from_state(cls, state: Checkpoint) -> Self:
        """Make the model of a state."""
        model = cls()
        model.seed = int(state.settings["seed"])
        return model
