"""Gradient-boosted trees whose prediction for a kernel is the sum over its rows.

The sum over stages is TVM's (Chen et al., NeurIPS 2018, arXiv 1805.08166; "pack sum" in
MetaSchedule's XGBModel). The objectives here give each row its kernel's gradient, and the kernel's
curvature times the number of its rows: all rows of a kernel move at once, and without that factor a
step would overshoot by it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
import xgboost
from numpy.typing import NDArray

from costmodels.kernel import FloatArray, IndexArray, KernelBatch
from costmodels.metrics import task_groups

Gradients: TypeAlias = tuple[FloatArray, FloatArray]
Objective: TypeAlias = Callable[[FloatArray], Gradients]
"""prediction [kernels] -> (gradient, curvature), each [kernels]."""

PARTNERS = 16
"""Kernels of the same task that each kernel is compared with by the pairwise objective."""
ONE_THREAD_ROWS = 20_000
"""Up to so many rows one thread is faster: a tree takes milliseconds, and threads must meet at each
of its levels."""
MAX_GAP = 1.0
"""Gap in log speed from which a pair counts fully in the pairwise objective."""
SMALLEST_GAP = 0.02
"""Gap in log speed under which the order of a pair is noise."""


@dataclass(frozen=True, slots=True)
class TreeParameters:
    """Shape of the trees, in xgboost's terms.

    Parameters
    ----------
    max_depth : int
        Levels of a tree.
    eta : float
        Learning rate.
    min_child_weight, reg_lambda : float
        Least curvature of a leaf; L2 penalty of a leaf's value.
    subsample, colsample_bytree : float
        Share of rows and of columns that a tree sees.
    max_bin : int
        Bins of a column's histogram.
    """

    max_depth: int = 4
    eta: float = 0.15
    min_child_weight: float = 1.0
    reg_lambda: float = 1.0
    subsample: float = 0.7
    colsample_bytree: float = 0.5
    max_bin: int = 32


@dataclass(frozen=True)
class Labels:
    """What the trees learn of some kernels.

    Parameters
    ----------
    log_speed : numpy.ndarray
        float64 [kernels]; higher is faster, its origin arbitrary for each task. For a failed kernel
        the speed of the slowest measured one of its task.
    failed : numpy.ndarray
        bool [kernels]; of these only is known that they are no better than `log_speed`.
    task_index : numpy.ndarray
        int64 [kernels].
    """

    log_speed: FloatArray
    failed: NDArray[np.bool_]
    task_index: IndexArray

    def take(self, kernels: NDArray[np.integer]) -> "Labels":
        """Labels of some of the kernels."""
        return Labels(self.log_speed[kernels], self.failed[kernels], self.task_index[kernels])


def squared_error(labels: Labels) -> Objective:
    """Half the squared error on log speed; one-sided for kernels that failed."""

    def objective(prediction: FloatArray) -> Gradients:
        residual = prediction - labels.log_speed
        residual[labels.failed] = np.maximum(residual[labels.failed], 0.0)
        return residual, np.ones_like(residual)

    return objective


def pairwise(labels: Labels, *, rng: np.random.Generator) -> Objective:
    """Logistic loss on pairs of one task (RankNet, Burges et al., ICML 2005), weighted by the gap.

    Each kernel is compared with up to 16 others of its task, drawn once. A failed kernel loses
    against every measured one.
    """
    first, second = _pairs(labels, rng)
    value = np.where(labels.failed, labels.log_speed - MAX_GAP, labels.log_speed)
    gap = value[first] - value[second]
    keep = gap > SMALLEST_GAP
    first, second = first[keep], second[keep]
    weight = np.minimum(gap[keep], MAX_GAP) / PARTNERS
    kernels = len(value)

    def objective(prediction: FloatArray) -> Gradients:
        wrong = 1.0 / (1.0 + np.exp(prediction[first] - prediction[second]))
        pull = weight * wrong
        curvature = pull * (1.0 - wrong)
        gradient: FloatArray = np.zeros(kernels)
        np.add.at(gradient, second, pull)
        np.subtract.at(gradient, first, pull)
        total: FloatArray = np.full(kernels, 1e-3)
        np.add.at(total, second, curvature)
        np.add.at(total, first, curvature)
        return gradient, total

    return objective


def _pairs(labels: Labels, rng: np.random.Generator) -> tuple[IndexArray, IndexArray]:
    """Pairs of kernels of one task, the faster first."""
    value = np.where(labels.failed, labels.log_speed - MAX_GAP, labels.log_speed)
    ones, others = [], []
    for group in task_groups(labels.task_index):
        ones.append(np.repeat(group, PARTNERS))
        others.append(rng.choice(group, len(group) * PARTNERS))
    one, other = np.concatenate(ones), np.concatenate(others)
    swap = value[one] < value[other]
    return np.where(swap, other, one), np.where(swap, one, other)


def ranking_error(prediction: FloatArray, labels: Labels) -> float:
    """Mean squared error on log speed after removing each task's own mean error.

    What validation watches: a constant per task changes no order. Failed kernels do not count.
    """
    ran = ~labels.failed
    residual = (prediction - labels.log_speed)[ran]
    if not len(residual):
        return float("nan")
    task = labels.task_index[ran]
    mean = np.bincount(task, residual) / np.maximum(np.bincount(task), 1)
    return float(np.mean((residual - mean[task]) ** 2))


def predict_sum(booster: xgboost.Booster, batch: KernelBatch) -> FloatArray:
    """Sum of the trees' outputs over the rows of each kernel.

    Returns
    -------
    numpy.ndarray
        float64 [kernels]; 0 for a kernel without rows.
    """
    if not len(batch.rows):
        return np.zeros(len(batch))
    return batch.sum_rows(booster.inplace_predict(batch.rows_with_device, predict_type="margin"))


class TreeTrainer:
    """Trains boosters on one set of kernels; the binned rows are made once and used again.

    Parameters
    ----------
    batch : KernelBatch
        Kernels to learn from.
    parameters : TreeParameters
        Shape of the trees.
    seed : int
        For the sampling of rows and columns.
    """

    def __init__(self, batch: KernelBatch, parameters: TreeParameters, seed: int) -> None:
        self._batch = batch
        self._matrix = xgboost.QuantileDMatrix(batch.rows_with_device, max_bin=parameters.max_bin)
        self._parameters = {
            **asdict(parameters),
            "tree_method": "hist",
            "base_score": 0.0,
            "disable_default_eval_metric": True,
            "seed": seed,
            "verbosity": 0,
            "nthread": 1 if len(batch.rows) <= ONE_THREAD_ROWS else 0,
        }

    def grow(
        self,
        objective: Objective,
        rounds: int,
        *,
        start: xgboost.Booster | None = None,
        eta: float | None = None,
    ) -> xgboost.Booster:
        """Add trees.

        Parameters
        ----------
        objective : Objective
            Over the kernels of the batch.
        rounds : int
            Trees to add.
        start : xgboost.Booster, optional
            To continue from; left as it is.
        eta : float, optional
            Another learning rate than that of the parameters.
        """
        parameters = self._parameters if eta is None else {**self._parameters, "eta": eta}
        return xgboost.train(
            parameters, self._matrix, rounds, obj=self._by_row(objective), xgb_model=start
        )

    def best_rounds(
        self,
        objective: Objective,
        most: int,
        *,
        start: xgboost.Booster | None,
        validation: tuple[KernelBatch, Labels],
        patience: int,
    ) -> int:
        """How many trees to add so that kernels held out are ranked best.

        Parameters
        ----------
        objective : Objective
            Over the kernels of the batch.
        most : int
            Trees to try.
        start : xgboost.Booster, optional
            To continue from.
        validation : tuple
            Kernels held out, and their labels.
        patience : int
            Trees without improvement after which to stop.

        Returns
        -------
        int
            At least 1.
        """
        held_out, labels = validation
        matrix = xgboost.QuantileDMatrix(
            held_out.rows_with_device, ref=self._matrix, max_bin=self._parameters["max_bin"]
        )

        def error(margins: NDArray[np.floating], _: xgboost.DMatrix) -> tuple[str, float]:
            return "ranking_error", ranking_error(held_out.sum_rows(margins), labels)

        booster = xgboost.train(
            self._parameters,
            self._matrix,
            most,
            obj=self._by_row(objective),
            xgb_model=start,
            evals=[(matrix, "held_out")],
            custom_metric=error,
            early_stopping_rounds=patience,
            verbose_eval=False,
        )
        already = 0 if start is None else start.num_boosted_rounds()
        return max(1, booster.best_iteration + 1 - already)

    def _by_row(
        self, objective: Objective
    ) -> Callable[[NDArray[np.floating], xgboost.DMatrix], Gradients]:
        row_kernel, rows_each = self._batch.row_kernel, self._batch.row_counts.astype(np.float64)

        def by_row(margins: NDArray[np.floating], _: xgboost.DMatrix) -> Gradients:
            gradient, curvature = objective(self._batch.sum_rows(margins))
            return gradient[row_kernel], (curvature * rows_each)[row_kernel]

        return by_row
