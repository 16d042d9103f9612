"""The baseline that knows nothing: utilities drawn at random, by content."""

import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar, Self

import numpy as np

from costmodels.checkpoint import load_checkpoint, require, save_checkpoint
from costmodels.features.schema import PER_STORE, FeatureSchema
from costmodels.kernel import KernelBatch, KernelDataset, KernelPrediction, Measurement
from costmodels.protocol import Claims, FitProgress


class RandomModel:
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        settings = {"seed": self.seed}
        save_checkpoint(path, model=self.name, schema=self.schema, arrays={}, settings=settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a checkpoint."""
        checkpoint = load_checkpoint(path)
        require(checkpoint, path=path, model=cls.name, schema=cls.schema)
        model = cls()
        model.seed = int(checkpoint.settings["seed"])
        return model
