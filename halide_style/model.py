"""The Halide-style kernel model: hand-made terms, weighted by a small network."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import numpy as np
import torch

from costmodels.checkpoint import load_checkpoint, require
from costmodels.errors import InputError
from costmodels.kernel import FloatArray, KernelBatch, KernelDataset, KernelPrediction, Measurement
from costmodels.learning.kernel_tensors import KernelInputs
from costmodels.learning.neural_model import NeuralConfig, NeuralModel
from costmodels.protocol import Claims, FitProgress
from costmodels.schema import PER_STORE, FeatureSchema
from halide_style.features import halide_inputs
from halide_style.network import HalideNetwork, HalideShape
from halide_style.stages import Stages
from halide_style.terms import TERMS, term_seconds

MEMBERS = 4
"""Networks whose mean counts: each is small, and trained in seconds."""


@dataclass(frozen=True)
class TermTable:
    """Why stages take as long as they are predicted to take.

    Parameters
    ----------
    seconds : numpy.ndarray
        float64 [rows, terms]; what each term of `halide_style.terms.TERMS` adds.
    nominal_s : numpy.ndarray
        float64 [rows, terms]; the terms before they are weighted.
    """

    seconds: FloatArray
    nominal_s: FloatArray

    @property
    def coefficients(self) -> FloatArray:
        """float64 [rows, terms]; NaN where a term is 0."""
        unknown = np.full(self.seconds.shape, np.nan)
        found: FloatArray = np.divide(
            self.seconds, self.nominal_s, out=unknown, where=self.nominal_s > 0
        )
        return found


class HalideStyleModel:
    """Hand-made cost terms, weighted by a small network; its seconds are a sum of its terms.

    Parameters
    ----------
    shape : HalideShape, optional
        Of the network.
    config : NeuralConfig, optional
        How it learns.
    rng : numpy.random.Generator, optional
        Draws the seed of all later randomness; without it the seed is 0.
    """

    name: ClassVar[str] = "halide"
    paper: ClassVar[str] = (
        "Adams et al., Learning to Optimize Halide with Tree Search and Random Programs, "
        "SIGGRAPH 2019"
    )
    claims: ClassVar[Claims] = Claims(seconds=True, interval=True)
    schema: ClassVar[FeatureSchema] = PER_STORE
    graphs: ClassVar[bool] = False

    def __init__(
        self,
        shape: HalideShape | None = None,
        config: NeuralConfig | None = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.shape = shape or HalideShape()
        self.config = config or NeuralConfig(members=MEMBERS)
        self._model = NeuralModel(
            self.name,
            lambda: HalideNetwork(self.shape),
            KernelInputs(halide_inputs),
            self.config,
            seed=0 if rng is None else int(rng.integers(2**31)),
        )

    @property
    def is_fitted(self) -> bool:
        """Whether any measured kernel has been learned."""
        return self._model.is_fitted

    def fit(
        self,
        dataset: KernelDataset,
        *,
        rng: np.random.Generator,
        validation: KernelDataset | None = None,
        progress: FitProgress | None = None,
    ) -> Self:
        """Forget, then learn from a data set; see `NeuralModel.fit`."""
        self._model.fit(dataset, rng=rng, validation=validation, progress=progress)
        return self

    def update(self, batch: KernelBatch, measurements: Sequence[Measurement]) -> None:
        """Learn new measurements in bounded time, together with some of the older ones."""
        self._model.update(batch, measurements)

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Predict each kernel on its own; one without rows is unsupported."""
        return self._model.predict(batch)

    def explain(self, batch: KernelBatch) -> "TermTable":
        """What each term adds to the predicted seconds of each stage.

        Parameters
        ----------
        batch : KernelBatch
            The kernels.

        Returns
        -------
        TermTable
            Its seconds add up to `KernelPrediction.latency_s`.

        Raises
        ------
        InputError
            When the model has learned nothing.
        """
        if not self.is_fitted:
            raise InputError(
                "the model must have learned something to explain, got a new one: train it, or "
                "take pretrained:halide"
            )
        relative = np.zeros((len(batch.rows), len(TERMS)))
        for kernels, networks in self._model.parts(batch):
            rows = np.isin(batch.row_kernel, kernels)
            inputs = torch.from_numpy(halide_inputs(batch)[rows])
            with torch.no_grad():
                costs = [each.costs(inputs) for each in networks if isinstance(each, HalideNetwork)]
            relative[rows] = torch.stack(costs).mean(dim=0).double().numpy()
        latency_s = self.predict(batch).latency_s
        assert latency_s is not None
        total = batch.sum_rows(relative.sum(axis=1))
        # Several networks are averaged as logarithms: their terms are brought to the same sum.
        scale = np.divide(latency_s, total, out=np.zeros(len(batch)), where=total > 0)
        return TermTable(relative * scale[batch.row_kernel, None], term_seconds(Stages(batch)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""
        self._model.save(path, asdict(self.shape))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a checkpoint, also one saved before anything was learned."""
        checkpoint = load_checkpoint(path)
        require(checkpoint, path=path, model=cls.name, schema=cls.schema)
        model = cls(
            HalideShape(**checkpoint.settings["shape"]),
            NeuralConfig.from_dict(checkpoint.settings["config"]),
        )
        model._model.restore(checkpoint)
        return model
