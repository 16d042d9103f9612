"""A cheap guess of what the cost model would say of a program, from its decisions alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xgboost as xgb

from costmodels.kernel import FloatArray, IndexArray
from tvm_integration.tune.search.programs import Program
from tvm_integration.tune.search.sketch import Sketch

ROUNDS = 40
PARAMETERS: dict[str, Any] = {
    "max_depth": 5,
    "eta": 0.2,
    "min_child_weight": 1.0,
    "lambda": 1.0,
    "subsample": 0.8,
    "max_bin": 64,
    "tree_method": "hist",
    "verbosity": 0,
    "nthread": 1,  # hundreds of rows: threads would wait for each other
}


FEW = 8
"""Programs of a sketch, below which all its decisions are guessed alike."""


class Surrogate:
    """Trees over decisions, one set for each sketch that has enough programs.

    Parameters
    ----------
    sketches : mapping
        Key -> sketch.
    seed : int
        For xgboost.
    """

    def __init__(self, sketches: Mapping[str, Sketch], seed: int) -> None:
        self._sketches = sketches
        self._parameters = {**PARAMETERS, "seed": seed}
        self._trees: dict[str, xgb.Booster] = {}
        self._mean: dict[str, float] = {}

    def learn(self, programs: Sequence[Program], utility: FloatArray) -> None:
        """Learn what the cost model says of programs: utility [programs], higher for faster."""
        by_sketch: dict[str, list[int]] = {}
        for number, program in enumerate(programs):
            by_sketch.setdefault(program.sketch, []).append(number)
        for key, numbers in by_sketch.items():
            own = utility[numbers]
            self._mean[key] = float(own.mean())
            sketch = self._sketches[key]
            if len(numbers) < FEW or not sketch.variables:
                continue
            decisions = np.array([programs[number].decisions for number in numbers])
            data = xgb.QuantileDMatrix(
                sketch.features(decisions), own - self._mean[key], max_bin=PARAMETERS["max_bin"]
            )
            self._trees[key] = xgb.train(self._parameters, data, ROUNDS)

    def predict(self, sketch: Sketch, decisions: IndexArray) -> FloatArray:
        """Utility of rows of decisions [rows]; of an unknown sketch the best mean of all."""
        mean = self._mean.get(sketch.key, max(self._mean.values(), default=0.0))
        found = np.full(len(decisions), mean)
        if sketch.key in self._trees and len(decisions):
            found += self._trees[sketch.key].inplace_predict(sketch.features(decisions))
        return found
