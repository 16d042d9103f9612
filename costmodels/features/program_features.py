"""Hundreds of features of a whole program, by name: what sparse regression selects a few of."""

import numpy as np

from costmodels.features.schema import DEVICE, FLAG, PER_STORE
from costmodels.kernel import FloatArray, KernelBatch

MAX_LOG2 = 70.0
"""No count of a real program is larger than two to this power."""
FEATURES = (*(f"sum.{name}" for name in PER_STORE.names), "stages", *DEVICE.names)
"""Names of the columns of `program_features`."""


def program_features(batch: KernelBatch) -> FloatArray:
    """Describe each program by one row.

    Parameters
    ----------
    batch : KernelBatch
        Of the schema `costmodels.features.schema.PER_STORE`.

    Returns
    -------
    numpy.ndarray
        float64 [kernels, features]; log2(x + 1) of counts, sizes and flags summed over the stages.
    """
    rows = np.nan_to_num(batch.rows.astype(np.float64), posinf=MAX_LOG2, neginf=0.0)
    flags = np.array([column.scale == FLAG for column in batch.schema.columns])
    values = np.where(flags, rows, np.exp2(np.clip(rows, 0.0, MAX_LOG2)) - 1.0)
    summed = np.zeros((len(batch), values.shape[1]))
    np.add.at(summed, batch.row_kernel, values)
    counts = np.hstack([summed, batch.row_counts[:, None].astype(np.float64)])
    devices = np.array([task.device.features() for task in batch.tasks], np.float64)
    devices = devices.reshape(len(batch.tasks), len(DEVICE.columns))
    return np.hstack([np.log2(np.maximum(counts, 0.0) + 1.0), devices[batch.task_index]])
