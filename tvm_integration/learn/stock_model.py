"""TVM's XGBModel, trained offline as a baseline for evaluations."""

from typing import ClassVar, Self

import numpy as np

from costmodels.features.schema import PER_STORE, TVM_PER_STORE_COLUMNS, FeatureSchema
from costmodels.kernel import KernelBatch, KernelDataset, KernelPrediction, RowArray
from costmodels.metrics import task_groups
from tvm_integration.compat import meta_schedule

FAILED_S = 1e10
"""What TVM takes a failure for."""


class StockModel:
    """What TVM's model would have learned from the same measurements; it only ranks.

    It gets all its 164 columns: those that our schema leaves out follow from the others or are
    always 0. Buffers that TVM orders by name are in the order of our rows.
    """

    name: ClassVar[str] = "stock"
    paper: ClassVar[str] = "Chen et al., Learning to Optimize Tensor Programs, NeurIPS 2018"
    schema: ClassVar[FeatureSchema] = PER_STORE

    def __init__(self) -> None:
        self._model = meta_schedule.cost_model.XGBModel(verbose_eval=0)

    def fit(self, dataset: KernelDataset, *, rng: np.random.Generator) -> Self:
        """Train once on all measurements, labelled as TVM labels them.

        Parameters
        ----------
        dataset : KernelDataset
            Kernels without rows are left out, as TVM does.
        rng : numpy.random.Generator
            Draws xgboost's seed.
        """
        self._model.config = self._model.config._replace(seed=int(rng.integers(2**31)))
        batch = dataset.batch
        latency_s = np.where(dataset.measured, np.exp(dataset.log_latency), FAILED_S)
        speed = np.empty(len(batch), np.float32)
        for group in task_groups(batch.task_index):
            speed[group] = latency_s[group].min() / latency_s[group]
        with_rows = np.flatnonzero(batch.row_counts)
        rows = _as_tvm_has_them(batch)
        self._model._train(xs=[rows[kernel] for kernel in with_rows], ys=speed[with_rows])
        return self

    def predict(self, batch: KernelBatch) -> KernelPrediction:
        """Utilities: TVM's scores; those of kernels without rows are 0."""
        with_rows = np.flatnonzero(batch.row_counts)
        rows = _as_tvm_has_them(batch)
        utility = np.zeros(len(batch))
        if len(with_rows):
            utility[with_rows] = self._model._predict(xs=[rows[kernel] for kernel in with_rows])
        return KernelPrediction(utility)


def _as_tvm_has_them(batch: KernelBatch) -> list[RowArray]:
    """Rows of each kernel with TVM's columns."""
    columns = []
    for column in TVM_PER_STORE_COLUMNS:
        kind, _, quantity = column.name.partition(".")
        if column.name in batch.schema.index:
            columns.append(batch.column(column.name))
        elif quantity in ("pos_none", "pos_mixed"):
            has_loops = batch.column(f"{kind}.loops") > 0
            columns.append((has_loops == (quantity == "pos_mixed")).astype(np.float32))
        else:
            columns.append(np.zeros(len(batch.rows), np.float32))
    return np.split(np.column_stack(columns), batch.row_offsets[1:-1])
