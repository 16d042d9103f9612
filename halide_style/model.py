"""The Halide-style kernel model: hand-made terms, weighted by a small network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from costmodels.errors import InputError
from costmodels.kernel import FloatArray, KernelBatch
from costmodels.learning.kernel_network import KernelNetwork
from costmodels.learning.kernel_tensors import KernelInputs
from costmodels.learning.neural_model import NeuralKernelModel
from halide_style.features import halide_inputs
from halide_style.network import HalideNetwork, HalideShape
from halide_style.stages import Stages
from halide_style.terms import TERMS, term_seconds


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


class HalideStyleModel(NeuralKernelModel):
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
    members: ClassVar[int] = 4
    shape: HalideShape

    @classmethod
    def make_shape(cls, values: Mapping[str, Any]) -> HalideShape:
        """From JSON."""
        return HalideShape(**values)

    def make_network(self) -> KernelNetwork:
        """A network with random weights."""
        return HalideNetwork(self.shape)

    def inputs(self) -> KernelInputs:
        """Terms, operator histogram and schedule of each stage."""
        return KernelInputs(halide_inputs)

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
        for kernels, networks in self.parts(batch):
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
