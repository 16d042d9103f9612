"""A cheap guess of what the cost model would say of a program, from its decisions alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodels.kernel import FloatArray, IndexArray
from tvm_integration.tune.search.programs import Program
from tvm_integration.tune.search.sketch import Sketch

if TYPE_CHECKING:
    import xgboost as xgb

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


Family = tuple[tuple[str, tuple[int, ...]], ...]
FEW = 8
"""Programs of a family, below which all its decisions are guessed alike."""


class Surrogate:
    """Trees over decisions, one set for each family of sketches that has enough programs.

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
        self._number = {key: number for number, key in enumerate(sketches)}
        self._trees: dict[Family, xgb.Booster] = {}
        self._mean: dict[Family, float] = {}

    def learn(self, programs: Sequence[Program], utility: FloatArray) -> None:
        """Learn what the cost model says of programs: utility [programs], higher for faster."""
        import xgboost as xgb  # estimates import this file, and have no use for its 50 MB

        by_family: dict[Family, list[int]] = {}
        for number, program in enumerate(programs):
            by_family.setdefault(self._sketches[program.sketch].family, []).append(number)
        for family, numbers in by_family.items():
            own = utility[numbers]
            self._mean[family] = float(own.mean())
            if len(numbers) < FEW or not family:
                continue
            rows = [
                self._features(
                    self._sketches[programs[number].sketch], programs[number].decisions[None]
                )
                for number in numbers
            ]
            data = xgb.QuantileDMatrix(
                np.concatenate(rows), own - self._mean[family], max_bin=PARAMETERS["max_bin"]
            )
            self._trees[family] = xgb.train(self._parameters, data, ROUNDS)

    def predict(self, sketch: Sketch, decisions: IndexArray) -> FloatArray:
        """Utility of rows of decisions [rows]; of an unknown sketch the best mean of all."""
        mean = self._mean.get(sketch.family, max(self._mean.values(), default=0.0))
        found = np.full(len(decisions), mean)
        if sketch.family in self._trees and len(decisions):
            found += self._trees[sketch.family].inplace_predict(self._features(sketch, decisions))
        return found

    def _features(self, sketch: Sketch, decisions: IndexArray) -> FloatArray:
        """Those of the sketch, and which it is."""
        number = np.full((len(decisions), 1), self._number[sketch.key], np.float32)
        return np.hstack([sketch.features(decisions), number])
